//! A JSON-RPC node on loopback: it answers from a made-up chain, and in each method as badly as a test says.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use sluice_relayer::{
    chain::{Chain, ChainError, Depth, RpcChain, Status},
    config::SecretUrl,
};
use sluice_sdk::{Address, PROGRAM_ID};
use solana_signature::Signature;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use crate::fake::FakeChain;

/// How a method is answered otherwise than from the chain.
#[derive(Clone, Debug)]
pub enum Mood {
    /// With this result.
    Says(Value),
    /// With an error of JSON-RPC.
    Error(i64, &'static str),
    /// Not at all.
    Silent,
    /// With what is not JSON.
    Garbage,
    /// With a status of HTTP.
    Status(u16),
}

pub struct Behaviour {
    moods: HashMap<String, Mood>,
    /// What a node that lags adds to each slot and height that it tells, downwards.
    pub lag: u64,
}

pub struct Node {
    pub url: String,
    chain: Arc<FakeChain>,
    behaviour: Arc<Mutex<Behaviour>>,
    calls: watch::Sender<HashMap<String, u64>>,
    server: JoinHandle<()>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[derive(Clone)]
struct Shared {
    chain: Arc<FakeChain>,
    behaviour: Arc<Mutex<Behaviour>>,
    calls: watch::Sender<HashMap<String, u64>>,
}

impl Node {
    pub async fn of(chain: Arc<FakeChain>) -> Self {
        Self::on(chain, TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    fn on(chain: Arc<FakeChain>, listener: TcpListener) -> Self {
        let url = format!("http://{}", listener.local_addr().unwrap());
        let behaviour = Arc::new(Mutex::new(Behaviour {
            moods: HashMap::new(),
            lag: 0,
        }));
        let calls = watch::Sender::new(HashMap::new());
        let shared = Shared {
            chain: Arc::clone(&chain),
            behaviour: Arc::clone(&behaviour),
            calls: calls.clone(),
        };
        let router = Router::new().route("/", post(serve)).with_state(shared);
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            url,
            chain,
            behaviour,
            calls,
            server,
        }
    }

    pub fn behaviour(&self) -> MutexGuard<'_, Behaviour> {
        self.behaviour.lock().unwrap()
    }

    /// Has a method answered in another way; `*` for all.
    pub fn mood(&self, method: &str, mood: Mood) {
        self.behaviour().moods.insert(method.to_owned(), mood);
    }

    /// Answers well again.
    pub fn well(&self) {
        let mut behaviour = self.behaviour();
        behaviour.moods.clear();
        behaviour.lag = 0;
    }

    pub fn calls(&self, method: &str) -> u64 {
        self.calls.borrow().get(method).copied().unwrap_or(0)
    }

    /// Waits until a method was called so often.
    pub async fn until(&self, method: &str, count: u64) {
        let mut calls = self.calls.subscribe();
        let enough =
            |calls: &HashMap<String, u64>| calls.get(method).copied().unwrap_or(0) >= count;
        calls.wait_for(enough).await.unwrap();
    }

    /// Waits for so many more calls of a method.
    pub async fn until_more(&self, method: &str, more: u64) {
        self.until(method, self.calls(method) + more).await;
    }

    /// The node as a chain.
    pub fn chain(&self, timeout: Duration) -> Arc<dyn Chain> {
        Arc::new(RpcChain::new(&SecretUrl::from(self.url.as_str()), timeout))
    }

    /// The made-up chain behind it.
    pub fn behind(&self) -> &Arc<FakeChain> {
        &self.chain
    }
}

async fn serve(State(shared): State<Shared>, body: Bytes) -> Response {
    let request: Value = serde_json::from_slice(&body).unwrap();
    let method = request["method"].as_str().unwrap().to_owned();
    let (mood, lag) = {
        let behaviour = shared.behaviour.lock().unwrap();
        let mood = behaviour
            .moods
            .get(&method)
            .or_else(|| behaviour.moods.get("*"));
        (mood.cloned(), behaviour.lag)
    };
    shared
        .calls
        .send_modify(|calls| *calls.entry(method.clone()).or_default() += 1);
    let reply = |result: Value| {
        Json(json!({"jsonrpc": "2.0", "id": request["id"], "result": result})).into_response()
    };
    let error = |code: i64, message: &str| {
        let error = json!({"code": code, "message": message});
        Json(json!({"jsonrpc": "2.0", "id": request["id"], "error": error})).into_response()
    };
    match mood {
        None => {}
        Some(Mood::Says(result)) => return reply(result),
        Some(Mood::Error(code, message)) => return error(code, message),
        Some(Mood::Silent) => std::future::pending().await,
        Some(Mood::Garbage) => return "{\"jsonrpc\": ".into_response(),
        Some(Mood::Status(code)) => {
            return (StatusCode::from_u16(code).unwrap(), "no").into_response();
        }
    }
    match answer(shared.chain.as_ref(), &method, &request["params"], lag).await {
        Ok(result) => reply(result),
        Err(problem) => error(-32_000, &problem.problem),
    }
}

/// The slot that the chain is in, by its height.
fn context(chain: &FakeChain, lag: u64) -> Value {
    json!({"slot": chain.state().height.saturating_sub(lag)})
}

async fn answer(
    chain: &FakeChain,
    method: &str,
    params: &Value,
    lag: u64,
) -> Result<Value, ChainError> {
    let wire = || STANDARD.decode(params[0].as_str().unwrap()).unwrap();
    let strings = |value: &Value| -> Vec<String> { serde_json::from_value(value.clone()).unwrap() };
    Ok(match method {
        "getGenesisHash" => json!(chain.genesis_hash().await?.to_string()),
        "getMultipleAccounts" => {
            let keys: Vec<Address> = strings(&params[0])
                .iter()
                .map(|key| key.parse().unwrap())
                .collect();
            let accounts = chain.accounts(&keys, Depth::Confirmed).await?;
            let account = |account: &sluice_relayer::chain::RawAccount| {
                json!({
                    "owner": account.owner.to_string(),
                    "lamports": account.lamports,
                    "data": [STANDARD.encode(&account.data), "base64"],
                    "executable": false,
                    "rentEpoch": u64::MAX,
                    "space": account.data.len(),
                })
            };
            let value: Vec<Option<Value>> = accounts
                .iter()
                .map(|found| found.as_ref().map(account))
                .collect();
            json!({"context": context(chain, lag), "value": value})
        }
        "getLatestBlockhash" => {
            let blockhash = chain.latest_blockhash().await?;
            json!({"context": context(chain, lag), "value": {
                "blockhash": blockhash.hash.to_string(),
                "lastValidBlockHeight": blockhash.last_valid_block_height,
            }})
        }
        "getEpochInfo" => {
            let height = chain.finalized_block_height().await?.saturating_sub(lag);
            json!({
                "absoluteSlot": height, "blockHeight": height, "epoch": 1, "slotIndex": 1, "slotsInEpoch": 432_000,
                "transactionCount": 1,
            })
        }
        "getFirstAvailableBlock" => json!(chain.first_slot().await?),
        "sendTransaction" => {
            let wire = wire();
            chain.send(&wire).await?;
            let transaction = sluice_sdk::transaction::from_wire(&wire).unwrap();
            json!(transaction.signatures[0].to_string())
        }
        "getSignatureStatuses" => {
            let signatures: Vec<Signature> = strings(&params[0])
                .iter()
                .map(|signature| signature.parse().unwrap())
                .collect();
            let history = params[1]["searchTransactionHistory"] == true;
            let statuses = chain.statuses(&signatures, history).await?;
            let status = |status: &Status| {
                let word = match (status.finalized, status.confirmed) {
                    (true, _) => "finalized",
                    (_, true) => "confirmed",
                    _ => "processed",
                };
                json!({
                    "slot": status.slot,
                    "confirmations": if status.finalized { Value::Null } else { json!(5) },
                    "err": status.error.as_ref().map(|error| error.json.clone()),
                    "status": {"Ok": null},
                    "confirmationStatus": word,
                })
            };
            let value: Vec<Option<Value>> = statuses
                .iter()
                .map(|found| found.as_ref().map(status))
                .collect();
            json!({"context": context(chain, lag), "value": value})
        }
        "getTransaction" => {
            let signature: Signature = params[0].as_str().unwrap().parse().unwrap();
            match chain.results(&signature).await? {
                None => Value::Null,
                Some(codes) => json!({"slot": 99, "blockTime": null, "meta": {
                    "err": null,
                    "logMessages": [],
                    "returnData": {
                        "programId": PROGRAM_ID.to_string(),
                        "data": [STANDARD.encode(codes), "base64"],
                    },
                }}),
            }
        }
        "isBlockhashValid" => {
            let hash = params[0].as_str().unwrap().parse().unwrap();
            let valid = chain.is_blockhash_valid(&hash).await?;
            json!({"context": context(chain, lag), "value": valid})
        }
        "simulateTransaction" if params[1]["replaceRecentBlockhash"] == false => {
            let error = chain.simulate(&wire()).await?;
            json!({"context": context(chain, lag), "value": {"err": error.map(|error| error.json)}})
        }
        "simulateTransaction" => {
            if !chain.takes(&wire()).await {
                return Err(ChainError {
                    method: "simulateTransaction",
                    problem: "unknown version".to_owned(),
                });
            }
            json!({"context": context(chain, lag), "value": {"err": null, "logs": []}})
        }
        "getRecentPrioritizationFees" => json!([]),
        other => panic!("{other} is not known here"),
    })
}
