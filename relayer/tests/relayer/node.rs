//! The fake chain behind a real node's wire: JSON-RPC over HTTP on loopback, for relayers that are processes.
//!
//! Every call can be held, before the node does what it asks for or after it and before the answer leaves: that is where
//! a test stops a relayer at a step of a payment's life, without a line in the relayer that is there for tests.

use std::sync::{Arc, Mutex};

use axum::{Json, Router, extract::State, routing::post};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use sluice_relayer::chain::{Chain, ChainError, Depth, RawAccount, Status};
use sluice_sdk::{Address, PROGRAM_ID, transaction};
use solana_signature::Signature;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use crate::fake::FakeChain;

/// Where a call is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The node has not done anything. If the caller dies meanwhile it never does.
    Before,
    /// The node has done it, and the answer is withheld.
    After,
}

pub struct Node {
    pub chain: Arc<FakeChain>,
    url: String,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

struct Shared {
    chain: Arc<FakeChain>,
    gates: Mutex<Vec<Arc<Barrier>>>,
    /// The first send of every so manieth transaction is lost on the way, though it is answered.
    lose_one_in: Mutex<Option<u8>>,
    /// Transactions whose first send was lost.
    lost: Mutex<Vec<Signature>>,
    /// Every send that came here, in order.
    sends: Mutex<Vec<Signature>>,
}

struct Barrier {
    method: &'static str,
    when: When,
    held: watch::Sender<Vec<Value>>,
    open: watch::Sender<bool>,
}

/// Holds every call of a method until it is lifted or dropped.
pub struct Gate {
    barrier: Arc<Barrier>,
    shared: Arc<Shared>,
}

impl Gate {
    /// Waits until so many calls are held.
    pub async fn held(&self, count: usize) {
        self.until(|calls| calls.len() >= count).await;
    }

    /// Waits until the held calls, by their parameters, are as they should be.
    pub async fn until(&self, good: impl FnMut(&Vec<Value>) -> bool) {
        let mut held = self.barrier.held.subscribe();
        held.wait_for(good).await.unwrap();
    }

    /// Lets all of them go on.
    pub fn lift(self) {}
}

impl Drop for Gate {
    fn drop(&mut self) {
        let mut gates = self.shared.gates.lock().unwrap();
        gates.retain(|other| !Arc::ptr_eq(other, &self.barrier));
        self.barrier.open.send_replace(true);
    }
}

impl Node {
    pub async fn start(chain: Arc<FakeChain>) -> Self {
        let shared = Arc::new(Shared {
            chain: Arc::clone(&chain),
            gates: Mutex::default(),
            lose_one_in: Mutex::default(),
            lost: Mutex::default(),
            sends: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new()
            .route("/", post(answer))
            .with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            chain,
            url,
            shared,
            server,
        }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Holds every call of a method from now on.
    pub fn hold(&self, method: &'static str, when: When) -> Gate {
        let barrier = Arc::new(Barrier {
            method,
            when,
            held: watch::Sender::new(Vec::new()),
            open: watch::Sender::new(false),
        });
        let mut gates = self.shared.gates.lock().unwrap();
        gates.push(Arc::clone(&barrier));
        Gate {
            barrier,
            shared: Arc::clone(&self.shared),
        }
    }

    /// What was sent here since it was asked last.
    pub fn take_sends(&self) -> Vec<Signature> {
        std::mem::take(&mut self.shared.sends.lock().unwrap())
    }

    /// Loses the first send of about one transaction in so many.
    pub fn lose_one_in(&self, count: u8) {
        *self.shared.lose_one_in.lock().unwrap() = Some(count);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Shared {
    async fn stop(&self, method: &str, when: When, params: &Value) {
        let found = {
            let gates = self.gates.lock().unwrap();
            let mut fitting = gates
                .iter()
                .filter(|g| g.method == method && g.when == when);
            fitting.next().cloned()
        };
        if let Some(barrier) = found {
            barrier.held.send_modify(|held| held.push(params.clone()));
            let mut open = barrier.open.subscribe();
            open.wait_for(|open| *open).await.unwrap();
        }
    }

    /// Whether this send gets lost.
    fn loses(&self, signature: &Signature) -> bool {
        let one_in = *self.lose_one_in.lock().unwrap();
        let mut lost = self.lost.lock().unwrap();
        let chosen = one_in.is_some_and(|count| signature.as_ref()[7] % count == 0);
        if chosen && !lost.contains(signature) {
            lost.push(*signature);
            return true;
        }
        false
    }

    async fn serve(&self, method: &str, params: &Value) -> Result<Value, ChainError> {
        let chain = &self.chain;
        let (slot, result) = (chain.state().slot, Ok::<Value, ChainError>);
        let in_context = |value: Value| json!({"context": {"slot": slot}, "value": value});
        match method {
            "getGenesisHash" => result(json!(chain.genesis_hash().await?.to_string())),
            "getMultipleAccounts" => {
                let keys: Vec<Address> = texts(&params[0]);
                let accounts = chain.accounts(&keys, Depth::Confirmed).await?;
                let all: Vec<Value> = accounts.iter().map(account).collect();
                result(in_context(json!(all)))
            }
            "getLatestBlockhash" => {
                let blockhash = chain.latest_blockhash().await?;
                result(in_context(json!({
                    "blockhash": blockhash.hash.to_string(),
                    "lastValidBlockHeight": blockhash.last_valid_block_height,
                })))
            }
            "getEpochInfo" => {
                let height = chain.finalized_block_height().await?;
                result(json!({ "absoluteSlot": slot, "blockHeight": height }))
            }
            "getFirstAvailableBlock" => result(json!(chain.first_slot().await?)),
            "sendTransaction" => {
                let wire = bytes(&params[0]);
                let signature = transaction::from_wire(&wire).unwrap().signatures[0];
                self.sends.lock().unwrap().push(signature);
                if !self.loses(&signature) {
                    chain.send(&wire).await?;
                }
                result(json!(signature.to_string()))
            }
            "getSignatureStatuses" => {
                let signatures: Vec<Signature> = texts(&params[0]);
                let history = params[1]["searchTransactionHistory"] == true;
                let statuses = chain.statuses(&signatures, history).await?;
                let all: Vec<Value> = statuses.iter().map(status).collect();
                result(in_context(json!(all)))
            }
            "getTransaction" => {
                let signature: Signature = params[0].as_str().unwrap().parse().unwrap();
                let codes = chain.results(&signature).await?;
                result(codes.map_or(Value::Null, |codes| {
                    json!({"slot": slot, "blockTime": null, "transaction": ["", "base64"], "meta": {
                        "err": null,
                        "fee": 5_000,
                        "logMessages": [],
                        "returnData": {
                            "programId": PROGRAM_ID.to_string(),
                            "data": [STANDARD.encode(codes), "base64"],
                        },
                    }})
                }))
            }
            "simulateTransaction" => {
                if chain.takes(&bytes(&params[0])).await {
                    result(in_context(json!({"err": null, "logs": []})))
                } else {
                    Err(ChainError {
                        method: "simulateTransaction",
                        problem: "this version is not known".to_owned(),
                    })
                }
            }
            "getRecentPrioritizationFees" | "getProgramAccounts" => result(json!([])),
            _ => panic!("the fake node does not serve {method}"),
        }
    }
}

async fn answer(State(shared): State<Arc<Shared>>, Json(call): Json<Value>) -> Json<Value> {
    let method = call["method"].as_str().unwrap();
    let params = &call["params"];
    shared.stop(method, When::Before, params).await;
    let result = shared.serve(method, params).await;
    shared.stop(method, When::After, params).await;
    let (id, version) = (&call["id"], "2.0");
    Json(match result {
        Ok(result) => json!({"jsonrpc": version, "id": id, "result": result}),
        Err(error) => {
            let error = json!({"code": -32_005, "message": error.problem});
            json!({"jsonrpc": version, "id": id, "error": error})
        }
    })
}

fn texts<T: std::str::FromStr<Err: std::fmt::Debug>>(list: &Value) -> Vec<T> {
    let list = list.as_array().unwrap().iter();
    list.map(|text| text.as_str().unwrap().parse().unwrap())
        .collect()
}

/// The bytes of the transaction that a send, by its parameters, carries.
pub fn sent(params: &Value) -> Vec<u8> {
    bytes(&params[0])
}

/// The transactions that a question for statuses, by its parameters, is about.
pub fn asked(params: &Value) -> Vec<Signature> {
    texts(&params[0])
}

fn bytes(text: &Value) -> Vec<u8> {
    STANDARD.decode(text.as_str().unwrap()).unwrap()
}

fn account(account: &Option<RawAccount>) -> Value {
    account.as_ref().map_or(Value::Null, |account| {
        json!({
            "owner": account.owner.to_string(),
            "lamports": account.lamports,
            "data": [STANDARD.encode(&account.data), "base64"],
            "executable": false,
            "rentEpoch": 0,
            "space": account.data.len(),
        })
    })
}

fn status(status: &Option<Status>) -> Value {
    let Some(status) = status else {
        return Value::Null;
    };
    let error = status.error.as_ref().map(|error| &error.json);
    json!({
        "slot": status.slot,
        "confirmations": if status.finalized { None } else { Some(1) },
        "err": error,
        "status": error.map_or(json!({"Ok": null}), |error| json!({"Err": error})),
        "confirmationStatus": match (status.finalized, status.confirmed) {
            (true, _) => "finalized",
            (_, true) => "confirmed",
            _ => "processed",
        },
    })
}
