//! A payment through the real parts: local validator, migrations, relayer, paywall, client, over HTTP. One
//! validator serves every test here; each test has payers of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{Router, routing::get};
use reqwest::{Method, StatusCode, header::HeaderMap};
use serde_json::{Value, json};
use sluice_client::{
    Facilitator,
    pay::{self, Client, FacilitatorNonces, Payer, Policy},
    paywall::Paywall,
    request_tag,
};
use sluice_localnet::Localnet;
use sluice_migrations::{
    File, apply,
    chain::{Chain, RpcChain},
    plan,
};
use sluice_relayer::{Relayer, RunningRelayer};
use sluice_sdk::{
    Address, DEVNET_USDC, UnsignedIntent,
    accounts::{NonceAccount, Service, SluiceAccount},
    address, instructions,
    token::{self, TOKEN_PROGRAM},
    x402::{ExactTransfer, Network, SplitExtra, SplitPayload},
};
use sluice_tests::{lane_terms, program_path};
use solana_commitment_config::CommitmentConfig;
use solana_keypair::Keypair;
use solana_signer::Signer;

const PRICE: u64 = 50_000;
const SERVICE_ID: u64 = 1;

/// A validator that is set up by migrations.
struct Cluster {
    localnet: Localnet,
    chain: RpcChain,
    service: Address,
    folder: tempfile::TempDir,
}

fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        // Calls that block, beside a test's own runtime.
        std::thread::spawn(Cluster::start).join().unwrap()
    })
}

impl Cluster {
    fn start() -> Self {
        let localnet = Localnet::builder()
            .program(program_path())
            .rpc_port(0)
            .ws_port(0)
            .slot_time(Duration::from_millis(100))
            .start()
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        for (role, keypair) in localnet.keys().iter() {
            let path = folder.path().join(format!("{role}.json"));
            std::fs::write(path, json!(keypair.to_bytes().to_vec()).to_string()).unwrap();
        }
        let keys = localnet.keys();
        let text = format!(
            r#"
[config]
admin = "{admin}"
keypair = "admin.json"
treasury = "{treasury}"
treasury_bps = 50
max_facilitator_bps = 1000
max_intent_ttl = 300
[[mint]]
address = "{DEVNET_USDC}"
[[facilitator]]
name = "test"
authority = "{facilitator}"
keypair = "facilitator.json"
wallet = "{wallet}"
relayers = ["{relayer}"]
[[service]]
id = {SERVICE_ID}
creator = "{merchant}"
keypair = "merchant.json"
mint = "{DEVNET_USDC}"
facilitator = "test"
facilitator_bps = 100
recipients = [{{ owner = "{merchant}", bps = 7000 }}, {{ owner = "{partner}", bps = 3000 }}]
"#,
            admin = keys.admin.pubkey(),
            treasury = keys.treasury.pubkey(),
            facilitator = keys.facilitator.pubkey(),
            wallet = keys.facilitator_wallet.pubkey(),
            relayer = keys.relayer.pubkey(),
            merchant = keys.merchant.pubkey(),
            partner = keys.partner.pubkey(),
        );
        let path = folder.path().join("migrations.toml");
        std::fs::write(&path, text).unwrap();
        let file = File::load(&path).unwrap();
        let chain = RpcChain::new(localnet.rpc_url(), CommitmentConfig::confirmed());
        let signers = file.load_signers().unwrap();
        let signers: Vec<&dyn Signer> = signers.iter().map(|key| key as &dyn Signer).collect();
        apply(
            &chain,
            &file,
            &plan(&chain, &file).unwrap(),
            &signers,
            |_| {},
        )
        .unwrap();
        assert!(
            plan(&chain, &file).unwrap().is_empty(),
            "a second plan finds nothing to do"
        );
        let service = address::service(&keys.merchant.pubkey(), SERVICE_ID).0;
        Self {
            localnet,
            chain,
            service,
            folder,
        }
    }

    fn service_account(&self) -> Service {
        let account = self.account(&self.service).unwrap();
        Service::decode(&account.0, &account.1).unwrap()
    }

    fn account(&self, key: &Address) -> Option<(Address, Vec<u8>)> {
        let rpc = self.chain.rpc();
        let answer = rpc
            .get_account_with_commitment(key, CommitmentConfig::confirmed())
            .unwrap();
        answer.value.map(|account| (account.owner, account.data))
    }

    fn tokens(&self, owner: &Address) -> u64 {
        let key = address::token_account(owner, &DEVNET_USDC, &TOKEN_PROGRAM);
        self.account(&key)
            .and_then(|(program, data)| token::decode_account(&program, &data))
            .map_or(0, |account| account.amount)
    }

    /// A payer with money, an open nonce account and a session key without limits.
    fn payer(&self, units: u64) -> TestPayer {
        self.payer_approving(units, units)
    }

    /// The same, with another approval than what there is.
    fn payer_approving(&self, units: u64, approved: u64) -> TestPayer {
        let keys = self.localnet.keys();
        let (wallet, agent) = (Keypair::new(), Keypair::new());
        let (admin, key) = (keys.admin.insecure_clone(), wallet.pubkey());
        let source = address::token_account(&key, &DEVNET_USDC, &TOKEN_PROGRAM);
        let mint_to = spl_token_interface::instruction::mint_to(
            &TOKEN_PROGRAM,
            &DEVNET_USDC,
            &source,
            &admin.pubkey(),
            &[],
            units,
        )
        .unwrap();
        let all = [
            token::create_account(&admin.pubkey(), &key, &DEVNET_USDC, &TOKEN_PROGRAM),
            mint_to,
            instructions::open_nonce(&admin.pubkey(), &key, &DEVNET_USDC, &source),
            instructions::set_lane(&key, &DEVNET_USDC, 1, &lane_terms(agent.pubkey())),
            token::approve(&key, &DEVNET_USDC, &TOKEN_PROGRAM, approved, 6),
        ];
        self.chain
            .send(&admin.pubkey(), &all, &[&admin as &dyn Signer, &wallet])
            .unwrap();
        TestPayer { wallet, agent }
    }

    /// A relayer with a ledger of its own, on any RPC.
    async fn relayer(&self, rpc_url: &str) -> RunningRelayer {
        let text = self.relayer_config(rpc_url);
        let config = sluice_relayer::Config::from_toml(&text).unwrap();
        Relayer::start(config).await.unwrap()
    }

    fn relayer_config(&self, rpc_url: &str) -> String {
        let ledger = self
            .folder
            .path()
            .join(format!("{}.db", Keypair::new().pubkey()));
        let authority = self.localnet.keys().facilitator.pubkey();
        format!(
            r#"
listen = "127.0.0.1:0"
network = "solana-devnet"
rpc_url = "{rpc_url}"
database_url = "sqlite://{ledger}"
facilitator = "{facilitator}"
[fee_payer]
keypair = "{keypair}"
[limits]
confirm_timeout_secs = 30
[chain]
rpc_timeout_secs = 5
poll_ms = 50
"#,
            ledger = ledger.display(),
            facilitator = address::facilitator(&authority).0,
            keypair = self.folder.path().join("relayer.json").display(),
        )
    }
}

struct TestPayer {
    wallet: Keypair,
    agent: Keypair,
}

impl TestPayer {
    fn client(&self, cluster: &Cluster, relayer: &str) -> Client {
        let genesis = cluster.chain.rpc().get_genesis_hash().unwrap();
        let payer = Payer {
            address: self.wallet.pubkey(),
            network: Network::Devnet,
            genesis_hash: genesis.to_bytes(),
            policy: Policy::none().allow(DEVNET_USDC, 1_000_000),
        };
        let nonces = FacilitatorNonces::new(Facilitator::new(relayer).unwrap());
        let signer = Arc::new(self.agent.insecure_clone());
        Client::new(pay::http_client().unwrap(), payer, Arc::new(nonces), signer)
    }

    /// A body of the stock scheme, with a transaction as stock clients build it.
    fn transfer(&self, cluster: &Cluster, pay_to: &Address, amount: u64, memo: &str) -> Value {
        let fee_payer = cluster.localnet.keys().relayer.pubkey();
        let transfer = ExactTransfer {
            fee_payer,
            pay_to: *pay_to,
            mint: DEVNET_USDC,
            token_program: TOKEN_PROGRAM,
            decimals: 6,
            amount,
            memo: memo.to_owned(),
            blockhash: cluster.chain.rpc().get_latest_blockhash().unwrap(),
        };
        let payload = transfer.sign(&self.wallet).unwrap();
        let requirements = json!({
            "scheme": "exact",
            "network": Network::Devnet.caip2(),
            "amount": amount.to_string(),
            "asset": DEVNET_USDC.to_string(),
            "payTo": pay_to.to_string(),
            "maxTimeoutSeconds": 60,
            "extra": { "feePayer": fee_payer.to_string() },
        });
        json!({
            "x402Version": 2,
            "paymentPayload": { "x402Version": 2, "accepted": requirements, "payload": payload },
            "paymentRequirements": requirements,
        })
    }

    /// A body for `/verify` and `/settle`, signed by hand.
    fn request(&self, cluster: &Cluster, amount: u64, nonce: u64) -> Value {
        let service = cluster.service_account();
        let nonce_account = address::nonce_account(&self.wallet.pubkey(), &DEVNET_USDC).0;
        let (owner, data) = cluster.account(&nonce_account).unwrap();
        let state = NonceAccount::decode(&owner, &data).unwrap();
        let genesis = cluster.chain.rpc().get_genesis_hash().unwrap().to_bytes();
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        let intent = UnsignedIntent {
            genesis_hash: genesis,
            nonce_account,
            opened_slot: state.opened_slot,
            lane: 1,
            service: cluster.service,
            terms_hash: service.terms_hash,
            amount,
            nonce,
            expires_at: u32::try_from(now.as_secs()).unwrap() + 50,
            resource: request_tag("GET", "http://example.test/", b""),
        };
        let payload = SplitPayload::of_intent(&intent.sign(&self.agent).unwrap());
        let requirements = json!({
            "scheme": "sluice-split",
            "network": Network::Devnet.caip2(),
            "amount": amount.to_string(),
            "asset": DEVNET_USDC.to_string(),
            "payTo": cluster.service.to_string(),
            "maxTimeoutSeconds": 60,
            "extra": SplitExtra::of_service(&cluster.service, &service, &genesis),
        });
        json!({
            "x402Version": 2,
            "paymentPayload": { "x402Version": 2, "accepted": requirements, "payload": payload },
            "paymentRequirements": requirements,
        })
    }
}

/// The same request in version 1.
fn version_1(request: &Value) -> Value {
    let new = &request["paymentRequirements"];
    let requirements = json!({
        "scheme": new["scheme"],
        "network": "solana-devnet",
        "maxAmountRequired": new["amount"],
        "resource": "http://example.test/",
        "description": "",
        "mimeType": "",
        "payTo": new["payTo"],
        "maxTimeoutSeconds": new["maxTimeoutSeconds"],
        "asset": new["asset"],
        "extra": new["extra"],
    });
    json!({
        "x402Version": 1,
        "paymentPayload": {
            "x402Version": 1,
            "scheme": new["scheme"],
            "network": "solana-devnet",
            "payload": request["paymentPayload"]["payload"],
        },
        "paymentRequirements": requirements,
    })
}

/// A client that gives up: an answer that never comes must fail a test, not stop it.
fn http() -> reqwest::Client {
    reqwest::Client::builder()
        .timeout(Duration::from_secs(90))
        .build()
        .unwrap()
}

async fn post(relayer: &str, path: &str, body: &Value) -> (StatusCode, Value) {
    let answer = http()
        .post(format!("{relayer}{path}"))
        .json(body)
        .send()
        .await
        .unwrap();
    let status = answer.status();
    (status, answer.json().await.unwrap())
}

/// The relayer's own program, on the validator and a ledger file that outlives it. Killed when it is dropped.
struct Process {
    child: Child,
    url: String,
}

impl Process {
    /// Starts it and waits until it listens.
    fn start(config: &Path) -> Self {
        // Beside this test's folder, where cargo puts the workspace's programs.
        let own = std::env::current_exe().unwrap();
        let program = own.parent().unwrap().with_file_name("sluice-relayer");
        assert!(
            program.exists(),
            "{} is missing: cargo build",
            program.display()
        );
        let mut child = Command::new(program)
            .arg("run")
            .arg("--config")
            .arg(config)
            .env("RUST_LOG", "error")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let output = child.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut line).unwrap();
        let url = line.trim().rsplit(' ').next().unwrap().to_owned();
        assert!(url.starts_with("http://"), "it did not start: {line:?}");
        Self { child, url }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs calls that block away from the runtime.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

async fn payer(units: u64) -> TestPayer {
    blocking(move || cluster().payer(units)).await
}

async fn request(payer: &TestPayer, amount: u64, nonce: u64) -> Value {
    let payer = TestPayer {
        wallet: payer.wallet.insecure_clone(),
        agent: payer.agent.insecure_clone(),
    };
    blocking(move || payer.request(cluster(), amount, nonce)).await
}

async fn relayer() -> RunningRelayer {
    let cluster = blocking(cluster).await;
    cluster.relayer(cluster.localnet.rpc_url()).await
}

/// Units that a payer's wallet holds.
async fn holds(payer: &TestPayer) -> u64 {
    let key = payer.wallet.pubkey();
    blocking(move || cluster().tokens(&key)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_pays_a_server_and_every_leg_arrives() {
    let relayer = relayer().await;
    let cluster = cluster();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let paywall = Paywall::connect(&relayer.url(), cluster.service, &base)
        .await
        .unwrap();
    let app = Router::new().route(
        "/report",
        get(async || "paid for").route_layer(paywall.price(PRICE)),
    );
    let server = tokio::spawn(async move { axum::serve(listener, app).await });

    let payer = payer(1_000_000).await;
    let url = relayer.url();
    let agent = TestPayer {
        wallet: payer.wallet.insecure_clone(),
        agent: payer.agent.insecure_clone(),
    };
    let client = blocking(move || agent.client(cluster, &url)).await;
    for _ in 0..3 {
        let plan = client
            .plan(Method::GET, &format!("{base}/report"), HeaderMap::new(), "")
            .await
            .unwrap();
        assert_eq!(plan.amount(), PRICE);
        let receipt = client.pay(plan).await.unwrap();
        assert_eq!(receipt.status, StatusCode::OK);
        assert_eq!(receipt.body, b"paid for");
        let legs: u64 = receipt.split.iter().map(|leg| leg.amount).sum();
        assert_eq!(legs, PRICE);
        assert_eq!(receipt.lamports_per_payment, Some(5_000));
        let signature = receipt.transaction.parse().unwrap();
        let landed = blocking(move || cluster.chain.rpc().get_signature_status(&signature)).await;
        assert_eq!(
            landed.unwrap(),
            Some(Ok(())),
            "the receipt's transaction is on chain"
        );
    }
    assert_eq!(holds(&payer).await, 1_000_000 - 3 * PRICE);
    let key = payer.wallet.pubkey();
    assert_eq!(
        blocking(move || cluster.chain.rpc().get_balance(&key))
            .await
            .unwrap(),
        0
    );
    server.abort();
    relayer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_1_and_2_settle_on_the_same_routes() {
    let relayer = relayer().await;
    let payer = payer(1_000_000).await;
    for (nonce, version) in [(0, 1), (1, 2)] {
        let mut body = request(&payer, 10_000, nonce).await;
        if version == 1 {
            body = version_1(&body);
        }
        let (status, answer) = post(&relayer.url(), "/verify", &body).await;
        assert_eq!(
            (status, &answer["isValid"]),
            (StatusCode::OK, &json!(true)),
            "{answer}"
        );
        assert_eq!(answer["payer"], payer.wallet.pubkey().to_string());
        let (status, answer) = post(&relayer.url(), "/settle", &body).await;
        assert_eq!(
            (status, &answer["success"]),
            (StatusCode::OK, &json!(true)),
            "{answer}"
        );
        let network = if version == 1 {
            "solana-devnet"
        } else {
            Network::Devnet.caip2()
        };
        assert_eq!(answer["network"], network);
        assert_eq!(answer["amount"], "10000");
    }
    relayer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_payment_in_twenty_parallel_requests_is_one_success() {
    let relayer = relayer().await;
    let payer = payer(1_000_000).await;
    let body = Arc::new(request(&payer, 10_000, 0).await);
    let url: Arc<str> = relayer.url().into();
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let (body, url) = (Arc::clone(&body), Arc::clone(&url));
            tokio::spawn(async move { post(&url, "/settle", &body).await })
        })
        .collect();
    let mut successes = 0;
    for call in calls {
        let (status, answer) = call.await.unwrap();
        assert_eq!(status, StatusCode::OK, "{answer}");
        if answer["success"] == true {
            successes += 1;
        } else {
            let reason = answer["errorReason"].as_str().unwrap();
            assert!(
                ["duplicate_settlement", "settlement_pending"].contains(&reason),
                "{answer}"
            );
        }
    }
    assert_eq!(successes, 1);
    assert_eq!(holds(&payer).await, 990_000);
    let (_, later) = post(&relayer.url(), "/settle", &body).await;
    assert_eq!(
        (&later["success"], &later["errorReason"]),
        (&json!(false), &json!("duplicate_settlement"))
    );
    let (_, verdict) = post(&relayer.url(), "/verify", &body).await;
    assert_eq!(verdict["isValid"], false);
    relayer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_answered_with_its_reason_and_spends_nothing() {
    let relayer = relayer().await;
    let payer = payer(100_000).await;
    let good = request(&payer, 10_000, 0).await;

    let bend = |path: &[&str], value: Value| {
        let mut body = good.clone();
        for root in ["/paymentRequirements", "/paymentPayload/accepted"] {
            let place = body
                .pointer_mut(&format!("{root}/{}", path.join("/")))
                .unwrap();
            *place = value.clone();
        }
        body
    };
    let payload = |field: &str, value: Value| {
        let mut body = good.clone();
        body["paymentPayload"]["payload"][field] = value;
        body
    };
    let signature = good["paymentPayload"]["payload"]["signature"]
        .as_str()
        .unwrap();
    let mut forged = signature.to_owned();
    let last = if forged.pop() == Some('a') { 'b' } else { 'a' };
    forged.push(last);
    let cases = [
        (
            bend(&["network"], json!("solana:unknown")),
            "invalid_network",
        ),
        (
            bend(&["network"], json!(Network::Mainnet.caip2())),
            "invalid_network",
        ),
        (bend(&["scheme"], json!("upto")), "unsupported_scheme"),
        (
            bend(&["asset"], json!(Address::new_unique().to_string())),
            "invalid_payment_requirements",
        ),
        (
            bend(&["payTo"], json!(Address::new_unique().to_string())),
            "invalid_payment_requirements",
        ),
        (
            bend(&["amount"], json!("ten")),
            "invalid_payment_requirements",
        ),
        (
            bend(&["amount"], json!("10001")),
            "invalid_sluice_split_bad_signature",
        ),
        (
            payload("signature", json!(forged)),
            "invalid_sluice_split_bad_signature",
        ),
        (
            payload("signature", json!("not base58 0OIl")),
            "invalid_payload",
        ),
        (payload("resource", json!("zz")), "invalid_payload"),
        (payload("nonce", json!("-1")), "invalid_payload"),
        (
            payload("nonce", json!("500")),
            "invalid_sluice_split_nonce_too_far",
        ),
        (
            payload("lane", json!(0)),
            "invalid_sluice_split_lane_closed",
        ),
        (
            payload("lane", json!(7)),
            "invalid_sluice_split_unknown_flag",
        ),
        (
            payload("expiresAt", json!(1)),
            "invalid_sluice_split_expired",
        ),
        (
            payload("nonceAccount", json!(Address::new_unique().to_string())),
            "invalid_sluice_split_account_missing",
        ),
    ];
    for (body, reason) in cases {
        let (status, verdict) = post(&relayer.url(), "/verify", &body).await;
        assert_eq!(status, StatusCode::OK, "{reason}: {verdict}");
        assert_eq!(verdict["isValid"], false, "{reason}");
        assert_eq!(verdict["invalidReason"], reason, "{verdict}");
        assert!(
            verdict["invalidMessage"]
                .as_str()
                .is_some_and(|text| !text.is_empty())
        );
        let (status, answer) = post(&relayer.url(), "/settle", &body).await;
        assert_eq!(status, StatusCode::OK, "{reason}: {answer}");
        assert_eq!(
            (&answer["success"], &answer["errorReason"]),
            (&json!(false), &json!(reason)),
            "{answer}"
        );
        assert_eq!(answer["transaction"], "");
    }
    let mut version = good.clone();
    version["x402Version"] = json!(3);
    let (_, verdict) = post(&relayer.url(), "/verify", &version).await;
    assert_eq!(verdict["invalidReason"], "invalid_x402_version");
    let poor = blocking(|| cluster().payer_approving(100_000, 200_000)).await;
    let poor = request(&poor, 100_001, 0).await;
    let (_, verdict) = post(&relayer.url(), "/verify", &poor).await;
    assert_eq!(verdict["invalidReason"], "insufficient_funds", "{verdict}");

    let http = http();
    for path in ["/verify", "/settle"] {
        let url = format!("{}{path}", relayer.url());
        let answer = http
            .post(&url)
            .header("content-type", "application/json")
            .body("{not json")
            .send()
            .await;
        assert_eq!(answer.unwrap().status(), StatusCode::BAD_REQUEST);
        let huge = format!("{{\"x402Version\":2,\"a\":\"{}\"}}", "x".repeat(200_000));
        let answer = http
            .post(&url)
            .header("content-type", "application/json")
            .body(huge)
            .send()
            .await;
        assert_eq!(answer.unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE);
    }
    assert_eq!(holds(&payer).await, 100_000);
    // The good one still settles, and its nonce is used after that.
    let (_, answer) = post(&relayer.url(), "/settle", &good).await;
    assert_eq!(answer["success"], true, "{answer}");
    let second = request(&payer, 20_000, 0).await;
    let (_, verdict) = post(&relayer.url(), "/verify", &second).await;
    assert_eq!(
        verdict["invalidReason"], "invalid_sluice_split_nonce_used",
        "{verdict}"
    );
    relayer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_rpc_is_unavailable_and_never_a_failure() {
    let cluster = blocking(cluster).await;
    // A way to the RPC that can be cut.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = format!("http://{}", listener.local_addr().unwrap());
    let target = cluster
        .localnet
        .rpc_url()
        .strip_prefix("http://")
        .unwrap()
        .to_owned();
    let pipes = tokio::spawn(async move {
        let mut open = tokio::task::JoinSet::new();
        while let Ok((mut near, _)) = listener.accept().await {
            let target = target.clone();
            open.spawn(async move {
                if let Ok(mut far) = tokio::net::TcpStream::connect(target).await {
                    tokio::io::copy_bidirectional(&mut near, &mut far)
                        .await
                        .ok();
                }
            });
        }
    });
    let relayer = cluster.relayer(&proxy).await;
    let payer = payer(100_000).await;
    let body = request(&payer, 10_000, 0).await;
    let (_, verdict) = post(&relayer.url(), "/verify", &body).await;
    assert_eq!(verdict["isValid"], true, "{verdict}");

    pipes.abort();
    pipes.await.ok();
    // What is known of the chain is believed for `chain.cache_ms`, 400 by default: a relayer does not notice at once that
    // nobody answers any more.
    tokio::time::sleep(Duration::from_secs(1)).await;
    for path in ["/verify", "/settle"] {
        let url = format!("{}{path}", relayer.url());
        let answer = http().post(url).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert!(answer.headers().contains_key("retry-after"), "{path}");
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(answer["retriable"], true, "{path}: {answer}");
        assert_ne!(
            answer["success"],
            json!(false),
            "{path}: never called a failure"
        );
    }
    let ready = reqwest::get(format!("{}/ready", relayer.url()))
        .await
        .unwrap();
    assert_eq!(ready.status(), StatusCode::SERVICE_UNAVAILABLE);
    let health = reqwest::get(format!("{}/health", relayer.url()))
        .await
        .unwrap();
    assert_eq!(health.status(), StatusCode::OK);
    assert_eq!(holds(&payer).await, 100_000);
    relayer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn supported_names_the_scheme_in_both_versions() {
    let relayer = relayer().await;
    let answer: Value = reqwest::get(format!("{}/supported", relayer.url()))
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let kinds = answer["kinds"].as_array().unwrap();
    for (version, network) in [(1, "solana-devnet"), (2, Network::Devnet.caip2())] {
        assert!(
            kinds.iter().any(|kind| kind["x402Version"] == version
                && kind["scheme"] == "sluice-split"
                && kind["network"] == network),
            "{answer}"
        );
    }
    let signer = cluster().localnet.keys().relayer.pubkey().to_string();
    assert_eq!(answer["signers"]["solana:*"], json!([signer]));
    relayer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_transfers_are_settled_in_both_versions() {
    let cluster = blocking(cluster).await;
    let relayer = cluster.relayer(cluster.localnet.rpc_url()).await;
    let url = relayer.url();
    let payer = Arc::new(payer(1_000_000).await);
    // An account of its own: other tests pay the merchant at the same time.
    let shop = blocking(move || {
        let keys = cluster.localnet.keys();
        let shop = Keypair::new().pubkey();
        let admin = keys.admin.insecure_clone();
        let open = token::create_account(&admin.pubkey(), &shop, &DEVNET_USDC, &TOKEN_PROGRAM);
        let signers = [&admin as &dyn Signer];
        cluster
            .chain
            .send(&admin.pubkey(), &[open], &signers)
            .unwrap();
        shop
    })
    .await;
    let body = |memo: &'static str| {
        let payer = Arc::clone(&payer);
        blocking(move || payer.transfer(cluster, &shop, PRICE, memo))
    };
    let first = body("0123456789abcdef0123456789abcdef").await;
    let (status, verdict) = post(&url, "/verify", &first).await;
    assert_eq!(
        (status, &verdict["isValid"]),
        (StatusCode::OK, &json!(true)),
        "{verdict}"
    );
    let (_, answer) = post(&url, "/settle", &first).await;
    assert_eq!(answer["success"], true, "{answer}");
    assert_eq!(answer["extra"]["batch"]["lamportsPerPayment"], 10_001);
    let second = version_1(&body("another").await);
    let (_, answer) = post(&url, "/settle", &second).await;
    assert_eq!(answer["success"], true, "{answer}");
    assert_eq!(answer["network"], "solana-devnet");
    for again in [&first, &second] {
        let (_, answer) = post(&url, "/settle", again).await;
        assert_eq!(answer["errorReason"], "duplicate_settlement");
    }
    assert_eq!(blocking(move || cluster.tokens(&shop)).await, 2 * PRICE);

    // More than there is.
    let payer_too = Arc::clone(&payer);
    let dear = blocking(move || payer_too.transfer(cluster, &shop, 900_001, "dear")).await;
    let (_, answer) = post(&url, "/settle", &dear).await;
    assert_eq!(answer["errorReason"], "insufficient_funds");
    relayer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stock_transfer_to_a_service_goes_to_its_vault() {
    let cluster = blocking(cluster).await;
    let relayer = cluster.relayer(cluster.localnet.rpc_url()).await;
    let payer = payer(1_000_000).await;
    let body = blocking(move || payer.transfer(cluster, &cluster.service, PRICE, "vault")).await;
    let (_, answer) = post(&relayer.url(), "/settle", &body).await;
    assert_eq!(answer["success"], true, "{answer}");
    assert!(answer["extra"]["distribution"].is_string());
    let signature = answer["transaction"].as_str().unwrap().parse().unwrap();
    let landed = blocking(move || cluster.chain.rpc().get_signature_status(&signature)).await;
    assert_eq!(landed.unwrap(), Some(Ok(())));
    relayer.stop().await;
}

/// Attack 30 on the real program: `kill -9` at random moments under load, again and again, on one ledger. Money moves
/// once for each payment, and no payment has two successes. SLUICE_KILL_SEED repeats a run.
#[tokio::test(flavor = "multi_thread")]
async fn a_relayer_that_is_killed_at_any_moment_pays_each_once() {
    const PAYERS: usize = 4;
    const ROUNDS: u64 = 4;
    const EACH: u64 = 10;
    let cluster = blocking(cluster).await;
    let config = cluster.folder.path().join("killed.toml");
    let text = cluster.relayer_config(cluster.localnet.rpc_url());
    std::fs::write(&config, text).unwrap();
    let seed = std::env::var("SLUICE_KILL_SEED").map_or_else(
        |_| Keypair::new().to_bytes()[0].into(),
        |text| text.parse().unwrap(),
    );
    println!("seed {seed}");
    let mut dice: u64 = seed;
    let mut below = move |most: u64| {
        dice = dice
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) % most
    };
    let mut payers = Vec::new();
    for _ in 0..PAYERS {
        payers.push(payer(1_000_000).await);
    }
    let start = || {
        let config = config.clone();
        blocking(move || Process::start(&config))
    };
    let mut bodies: Vec<Value> = Vec::new();
    let mut successes: Vec<u32> = Vec::new();
    for round in 0..ROUNDS {
        let first = bodies.len();
        for payer in &payers {
            for nonce in 0..EACH {
                bodies.push(request(payer, PRICE / 5, round * EACH + nonce).await);
                successes.push(0);
            }
        }
        let relayer = start().await;
        let calls: Vec<_> = (first..bodies.len())
            .map(|i| {
                let (url, body) = (format!("{}/settle", relayer.url), bodies[i].clone());
                let call = async move {
                    let answer = http().post(url).json(&body).send().await.ok()?;
                    answer.json::<Value>().await.ok()
                };
                (i, tokio::spawn(call))
            })
            .collect();
        // All of it takes about as long.
        tokio::time::sleep(Duration::from_millis(below(250))).await;
        drop(relayer);
        for (i, call) in calls {
            if let Some(answer) = call.await.unwrap() {
                if answer["success"] == true {
                    successes[i] += 1;
                } else {
                    // Nobody is told that one failed which may have landed.
                    let word = answer["errorReason"].as_str().or(answer["error"].as_str());
                    let honest = ["settlement_pending", "duplicate_settlement", "interrupted"];
                    assert!(honest.contains(&word.unwrap()), "{answer}");
                }
            }
        }
    }
    let relayer = start().await;
    let before: u32 = successes.iter().sum();
    for (body, successes) in bodies.iter().zip(&mut successes) {
        let (status, answer) = post(&relayer.url, "/settle", body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        if answer["success"] == true {
            *successes += 1;
        } else {
            assert_eq!(answer["errorReason"], "duplicate_settlement", "{answer}");
        }
        assert!(*successes <= 1);
        let signature = answer["transaction"].as_str().unwrap().parse().unwrap();
        let landed = blocking(move || cluster.chain.rpc().get_signature_status(&signature)).await;
        assert_eq!(landed.unwrap(), Some(Ok(())));
    }
    println!(
        "{before} of {} were told before the last start",
        bodies.len()
    );
    for payer in &payers {
        let spent = ROUNDS * EACH * (PRICE / 5);
        assert_eq!(holds(payer).await, 1_000_000 - spent);
    }
}
