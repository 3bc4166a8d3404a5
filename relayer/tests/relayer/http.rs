//! The relayer through its HTTP, on a fake chain and a real ledger.

use std::{sync::Arc, time::Duration};

use reqwest::StatusCode;
use serde_json::{Value, json};
use sluice_relayer::{
    Config, Relayer, RunningRelayer, StartError,
    http::{IntentView, PayerView, PaymentsView, ReadyView, ServiceView},
    keys::FeePayer,
};
use sluice_sdk::{
    DEVNET_USDC, PROGRAM_ID, UnsignedIntent, address,
    token::TOKEN_2022_PROGRAM,
    x402::{SettleExtra, SettleResponse, SplitExtra, VerifyResponse},
};

use crate::{
    fake::{FakeChain, Fate, LIFE, custom},
    postgres::{Store, on_both},
    scene::{
        AMOUNT, GENESIS, NOW, Scene, clock, facilitator, key, keypair, mint, nonce_account, payer,
        raw, relayer, second, service,
    },
};

pub struct World {
    pub chain: Arc<FakeChain>,
    pub relayer: RunningRelayer,
    pub client: reqwest::Client,
    pub store: Arc<Store>,
    pub scene: Scene,
}

pub fn config(url: &str, extra: &str) -> Config {
    // A test that changes the chain does not want to wait until the relayer notices.
    let chain = if extra.contains("chain =") {
        ""
    } else {
        "chain = { poll_ms = 10, rebroadcast_ms = 100, cache_ms = 1, blockhash_ms = 50 }"
    };
    Config::from_toml(&format!(
        r#"
        listen = "127.0.0.1:0"
        network = "solana-devnet"
        rpc_url = "http://127.0.0.1:9"
        database_url = "{url}"
        facilitator = "{}"
        fee_payer = {{ keypair = "unused" }}
        {chain}
        {extra}
        "#,
        facilitator()
    ))
    .unwrap()
}

/// Callers wait for a second.
pub const QUICK: &str =
    "limits = { confirm_timeout_secs = 1, request_timeout_secs = 5, drain_secs = 5 }";
/// Callers wait until all is said.
pub const PATIENT: &str =
    "limits = { confirm_timeout_secs = 60, request_timeout_secs = 60, drain_secs = 30 }";

impl World {
    pub async fn new() -> Self {
        Self::with(Scene::default(), QUICK).await
    }

    pub async fn with(scene: Scene, extra: &str) -> Self {
        Self::on(Store::sqlite(), scene, extra).await
    }

    pub async fn on(store: Store, scene: Scene, extra: &str) -> Self {
        let chain = Arc::new(FakeChain::new(&scene));
        chain.state().ledger = Some(store.url().to_owned());
        Self::of(Arc::new(store), chain, scene, extra).await
    }

    /// A relayer on a ledger and a chain that others may use as well.
    pub async fn of(store: Arc<Store>, chain: Arc<FakeChain>, scene: Scene, extra: &str) -> Self {
        let relayer = start(&store, &chain, &scene, extra).await.unwrap();
        Self {
            chain,
            relayer,
            client: reqwest::Client::new(),
            store,
            scene,
        }
    }

    pub async fn restart(self) -> Self {
        self.restart_with(QUICK).await
    }

    pub async fn restart_with(self, extra: &str) -> Self {
        self.relayer.stop().await;
        let relayer = start(&self.store, &self.chain, &self.scene, extra).await;
        Self {
            relayer: relayer.unwrap(),
            ..self
        }
    }

    pub async fn stop(self) {
        self.relayer.stop().await;
    }

    pub async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> reqwest::Response {
        self.client
            .post(format!("{}{path}", self.relayer.url()))
            .body(body)
            .send()
            .await
            .unwrap()
    }

    pub async fn get(&self, path: &str) -> reqwest::Response {
        let url = format!("{}{path}", self.relayer.url());
        self.client.get(url).send().await.unwrap()
    }

    pub async fn verify(&self, body: &Value) -> VerifyResponse {
        let response = self.post("/verify", body.to_string()).await;
        assert_eq!(response.status(), StatusCode::OK);
        response.json().await.unwrap()
    }

    pub async fn settle(&self, body: &Value) -> SettleResponse {
        let response = self.post("/settle", body.to_string()).await;
        let status = response.status();
        let text = response.text().await.unwrap();
        assert_eq!(status, StatusCode::OK, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// An answer that is no verdict: its word.
    pub async fn unavailable(&self, path: &str, body: &Value) -> String {
        let response = self.post(path, body.to_string()).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(response.headers().contains_key("retry-after"));
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["retriable"], true, "{body}");
        body["error"].as_str().unwrap().to_owned()
    }

    pub async fn intent(&self, nonce: u64) -> IntentView {
        self.intent_by(&self.scene.intent(nonce)).await
    }

    pub async fn intent_by(&self, intent: &UnsignedIntent) -> IntentView {
        let digest = hex::encode(intent.digest());
        let response = self.get(&format!("/v1/intents/{digest}")).await;
        assert_eq!(response.status(), StatusCode::OK);
        response.json().await.unwrap()
    }

    /// Waits until the view of a payment is as it should be.
    pub async fn until(&self, nonce: u64, good: impl Fn(&IntentView) -> bool) -> IntentView {
        for _ in 0..1_000 {
            let view = self.intent(nonce).await;
            if good(&view) {
                return view;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it never came: {:?}", self.intent(nonce).await);
    }

    pub async fn until_state(&self, nonce: u64, state: &str) -> IntentView {
        self.until(nonce, |view| view.state == state).await
    }

    pub fn body(&self, nonce: u64) -> Value {
        self.scene.body(self.scene.intent(nonce))
    }

    #[track_caller]
    pub fn written_ahead(&self) {
        assert_eq!(self.chain.state().not_written_ahead, []);
    }
}

pub async fn start(
    store: &Store,
    chain: &Arc<FakeChain>,
    scene: &Scene,
    extra: &str,
) -> Result<RunningRelayer, StartError> {
    let mut keys = vec![FeePayer::new(keypair(1))];
    if scene.second_lamports.is_some() {
        keys.push(FeePayer::new(second()));
    }
    Relayer::start_with(config(store.url(), extra), Arc::clone(chain) as _, keys).await
}

on_both! {
    a_payment_settles_once
    twenty_calls_one_success
    one_nonce_two_intents
    a_payment_that_fails_on_chain_is_no_success
    a_timeout_is_pending_and_can_be_redeemed_once
    what_was_paid_can_be_redeemed_after_its_intent_expired
    another_signature_over_a_settled_digest_redeems_nothing
    what_is_lost_is_sent_again_and_signed_again_until_it_expires
    a_restart_takes_up_what_was_open
    what_a_failed_batch_left_survives_a_restart
    a_caller_who_hangs_up_can_ask_again
    what_is_settling_or_settled_is_not_valid
    payments_are_listed_page_by_page
}

#[track_caller]
pub fn reason(answer: &SettleResponse) -> &str {
    assert!(!answer.success, "{answer:?}");
    answer.error_reason.as_deref().unwrap()
}

#[track_caller]
pub fn invalid(answer: &VerifyResponse) -> &str {
    assert!(!answer.is_valid, "{answer:?}");
    assert!(answer.invalid_message.is_some());
    answer.invalid_reason.as_deref().unwrap()
}

async fn payments_are_listed_page_by_page(store: Store) {
    let world = World::on(store, Scene::default(), QUICK).await;
    for nonce in 0..5 {
        assert!(world.settle(&world.body(nonce)).await.success);
    }
    let page = async |query: &str| -> PaymentsView {
        let answer = world.get(&format!("/v1/payments{query}")).await;
        assert_eq!(answer.status(), StatusCode::OK);
        answer.json().await.unwrap()
    };
    let mut seen = Vec::new();
    let mut query = "?limit=2".to_owned();
    loop {
        let view = page(&query).await;
        assert!(view.payments.len() <= 2);
        seen.extend(
            view.payments
                .into_iter()
                .map(|payment| payment.nonce.unwrap()),
        );
        let Some(next) = view.next else { break };
        query = format!("?limit=2&cursor={next}");
    }
    assert_eq!(
        seen,
        ["4", "3", "2", "1", "0"],
        "the newest first, each once"
    );
    let ours = page(&format!("?service={}", service())).await;
    assert_eq!((ours.payments.len(), ours.next), (5, None));
    assert!(
        page(&format!("?service={}", payer()))
            .await
            .payments
            .is_empty()
    );
    for bad in ["?cursor=x", "?service=x"] {
        let answer = world.get(&format!("/v1/payments{bad}")).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    }
    world.stop().await;
}

async fn a_payment_settles_once(store: Store) {
    let world = World::on(store, Scene::default(), QUICK).await;
    let body = world.body(1);
    let verdict = world.verify(&body).await;
    assert!(verdict.is_valid, "{verdict:?}");
    assert_eq!(verdict.payer, Some(payer().to_string()));
    // Verifying signs and sends nothing.
    assert!(world.chain.state().sent.is_empty());

    let answer = world.settle(&body).await;
    assert!(answer.success, "{answer:?}");
    assert_eq!(answer.payer, Some(payer().to_string()));
    assert_eq!(answer.amount, Some(AMOUNT.to_string()));
    assert_eq!(answer.network, "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1");
    let sent = world.chain.state().transactions();
    assert_eq!(sent.len(), 1);
    assert_eq!(answer.transaction, sent[0].to_string());
    let extra: SettleExtra = serde_json::from_value(answer.extra.unwrap()).unwrap();
    assert_eq!(extra.digest, hex::encode(world.scene.intent(1).digest()));
    assert_eq!((extra.index, extra.batch.size), (0, 1));
    assert_eq!(extra.batch.lamports_per_payment, 5_000);
    assert_eq!(extra.split.treasury, "100");
    assert_eq!(extra.split.facilitator, "200");
    assert_eq!(extra.split.recipients, ["9700"]);
    world.written_ahead();

    // The second call, in either form, is told the truth without a success.
    let again = world.settle(&body).await;
    assert_eq!(reason(&again), "duplicate_settlement");
    assert_eq!(again.transaction, answer.transaction);
    let other_form = world
        .settle(&world.scene.body_v1(world.scene.intent(1)))
        .await;
    assert_eq!(reason(&other_form), "duplicate_settlement");
    assert_eq!(other_form.network, "solana-devnet");
    assert_eq!(invalid(&world.verify(&body).await), "duplicate_settlement");
    assert_eq!(world.chain.state().transactions().len(), 1);

    let view = world.intent(1).await;
    assert_eq!(
        (view.state.as_str(), view.answered, view.is_final),
        ("confirmed", true, false)
    );
    assert_eq!(view.transaction, Some(answer.transaction));
    assert_eq!((view.slot, view.lamports), (Some(99), Some(5_000)));
    world.chain.state().finalized = true;
    assert!(world.until_state(1, "finalized").await.is_final);
    let again = world.settle(&body).await;
    assert_eq!(reason(&again), "duplicate_settlement");
    world.stop().await;
}

async fn twenty_calls_one_success(store: Store) {
    let world = Arc::new(World::on(store, Scene::default(), QUICK).await);
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let world = Arc::clone(&world);
            tokio::spawn(async move { world.settle(&world.body(1)).await })
        })
        .collect();
    let mut successes = 0;
    for call in calls {
        let answer = call.await.unwrap();
        if answer.success {
            successes += 1;
        } else {
            let reason = answer.error_reason.unwrap();
            assert!(
                ["duplicate_settlement", "settlement_pending"].contains(&reason.as_str()),
                "{reason}"
            );
        }
    }
    assert_eq!(successes, 1);
    assert_eq!(world.chain.state().transactions().len(), 1);
}

async fn one_nonce_two_intents(store: Store) {
    let world = World::on(store, Scene::default(), QUICK).await;
    world.chain.state().fate = Fate::Processed;
    let answer = world.settle(&world.body(1)).await;
    assert_eq!(reason(&answer), "settlement_pending");
    let mut other = world.scene.intent(1);
    other.resource = [9; 16];
    let body = world.scene.body(other);
    assert_eq!(
        reason(&world.settle(&body).await),
        "invalid_sluice_split_nonce_conflict"
    );
    assert_eq!(
        invalid(&world.verify(&body).await),
        "invalid_sluice_split_nonce_conflict"
    );
}

async fn a_payment_that_fails_on_chain_is_no_success(store: Store) {
    let world = World::on(store, Scene::default(), QUICK).await;
    world.chain.state().fate = Fate::Failed(custom(25));
    let answer = world.settle(&world.body(1)).await;
    assert_eq!(reason(&answer), "invalid_sluice_split_delegated_short");
    assert!(!answer.transaction.is_empty());
    // It stays so, whatever the chain says later.
    world.chain.state().fate = Fate::Confirmed;
    let again = world.settle(&world.body(1)).await;
    assert_eq!(reason(&again), "invalid_sluice_split_delegated_short");
    assert_eq!(world.intent(1).await.state, "failed");
    assert_eq!(world.chain.state().transactions().len(), 1);
}

#[tokio::test]
async fn a_fee_payer_that_cannot_pay_is_not_the_payers_fault() {
    let low = Scene {
        relayer_lamports: 9_999_999,
        ..Scene::default()
    };
    let world = World::with(low, QUICK).await;
    for path in ["/verify", "/settle"] {
        let word = world.unavailable(path, &world.body(1)).await;
        assert_eq!(word, "fee_payer_low");
    }
    assert!(world.chain.state().sent.is_empty());
    // Somebody funds it.
    let funded = crate::scene::lamports_of(20_000_000);
    world.chain.state().accounts.insert(relayer(), funded);
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert!(world.settle(&world.body(1)).await.success);
}

async fn a_timeout_is_pending_and_can_be_redeemed_once(store: Store) {
    let world = World::on(store, Scene::default(), QUICK).await;
    world.chain.state().fate = Fate::Processed;
    let answer = world.settle(&world.body(1)).await;
    assert_eq!(reason(&answer), "settlement_pending");
    let signature = world.chain.state().sent[0].to_string();
    assert_eq!(answer.transaction, signature);
    assert_eq!(
        invalid(&world.verify(&world.body(1)).await),
        "duplicate_settlement"
    );

    world.chain.state().fate = Fate::Confirmed;
    world.until_state(1, "confirmed").await;
    // Even while the RPC is down: the requirement shows the terms, so the ledger alone knows.
    world.chain.state().down = true;
    let redeemed = world.settle(&world.body(1)).await;
    assert!(redeemed.success, "{redeemed:?}");
    assert_eq!(redeemed.transaction, signature);
    assert_eq!(
        reason(&world.settle(&world.body(1)).await),
        "duplicate_settlement"
    );
    assert_eq!(world.chain.state().paid(), 1);
}

/// Whoever was told `settlement_pending` comes back when it suits them.
async fn what_was_paid_can_be_redeemed_after_its_intent_expired(store: Store) {
    let world = World::on(store, Scene::default(), QUICK).await;
    world.chain.state().fate = Fate::Processed;
    for nonce in [1, 2] {
        assert_eq!(
            reason(&world.settle(&world.body(nonce)).await),
            "settlement_pending"
        );
    }
    world.chain.state().fate = Fate::Confirmed;
    world.until_state(1, "confirmed").await;
    world.until_state(2, "confirmed").await;
    let later = clock(NOW + 3_600);
    let mut accounts = world.chain.state().accounts.clone();
    accounts.insert(sluice_relayer::chain::CLOCK, later);
    world.chain.state().accounts = accounts;
    // Some chores later.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let world = {
        let redeemed = world.settle(&world.body(1)).await;
        assert!(redeemed.success, "{redeemed:?}");
        assert_eq!(
            invalid(&world.verify(&world.body(1)).await),
            "duplicate_settlement"
        );
        world.restart().await
    };
    let redeemed = world.settle(&world.body(2)).await;
    assert!(redeemed.success, "{redeemed:?}");
    for nonce in [1, 2] {
        assert_eq!(
            reason(&world.settle(&world.body(nonce)).await),
            "duplicate_settlement"
        );
    }
    // One that was never seen is just late.
    assert_eq!(
        reason(&world.settle(&world.body(3)).await),
        "invalid_sluice_split_expired"
    );
}

async fn what_is_settling_or_settled_is_not_valid(store: Store) {
    let world = World::on(store, Scene::default(), QUICK).await;
    world.chain.state().fate = Fate::Processed;
    let body = world.body(1);
    assert!(world.verify(&body).await.is_valid);
    assert_eq!(reason(&world.settle(&body).await), "settlement_pending");
    assert_eq!(invalid(&world.verify(&body).await), "duplicate_settlement");
    world.chain.state().fate = Fate::Confirmed;
    world.until_state(1, "confirmed").await;
    // Paid, and nobody was told yet: all the same.
    assert_eq!(invalid(&world.verify(&body).await), "duplicate_settlement");
    assert!(world.settle(&body).await.success);
    assert_eq!(invalid(&world.verify(&body).await), "duplicate_settlement");
    let world = world.restart().await;
    assert_eq!(invalid(&world.verify(&body).await), "duplicate_settlement");
    // In version 1 without extra the terms come from the chain.
    let v1 = world.scene.body_v1(world.scene.intent(1));
    assert_eq!(invalid(&world.verify(&v1).await), "duplicate_settlement");
}

/// Its payments were in no transaction that lives when the relayer died.
async fn what_a_failed_batch_left_survives_a_restart(store: Store) {
    let world = World::on(store, Scene::default(), QUICK).await;
    world.chain.state().fate = Fate::Processed;
    assert_eq!(
        reason(&world.settle(&world.body(1)).await),
        "settlement_pending"
    );
    let signature = world.chain.state().transactions()[0];
    let store = Arc::clone(&world.store);
    let (chain, scene) = (Arc::clone(&world.chain), world.scene.clone());
    world.stop().await;
    // As the relayer writes it, and then dies before it signs again.
    store
        .execute(&format!(
            "UPDATE transactions SET outcome = 'failed', slot = 9 WHERE signature = '{signature}'; \
             UPDATE attempts SET live = 0 WHERE signature = '{signature}'"
        ))
        .await;
    chain.state().fate = Fate::Confirmed;
    chain.state().fates.insert(signature, Fate::Lost);
    let world = World::of(store, chain, scene, QUICK).await;
    world.until_state(1, "confirmed").await;
    assert!(world.settle(&world.body(1)).await.success);
}

async fn another_signature_over_a_settled_digest_redeems_nothing(store: Store) {
    let world = World::on(store, Scene::default(), QUICK).await;
    world.chain.state().fate = Fate::Processed;
    assert_eq!(
        reason(&world.settle(&world.body(1)).await),
        "settlement_pending"
    );
    world.chain.state().fate = Fate::Confirmed;
    world.until_state(1, "confirmed").await;
    let mut forged = world.body(1);
    forged["paymentPayload"]["payload"]["signature"] = json!(bs58::encode([7; 64]).into_string());
    assert_eq!(reason(&world.settle(&forged).await), "duplicate_settlement");
    assert!(world.settle(&world.body(1)).await.success);
}

#[tokio::test]
async fn a_send_without_an_answer_is_unknown_not_failed() {
    let world = World::new().await;
    world.chain.state().send_fails = true;
    // The transaction left all the same, and lands.
    let answer = world.settle(&world.body(1)).await;
    assert!(answer.success, "{answer:?}");
    world.written_ahead();
}

#[tokio::test]
async fn an_rpc_that_is_down_decides_nothing() {
    let world = World::new().await;
    world.chain.state().down = true;
    // What is known may be a millisecond old here.
    tokio::time::sleep(Duration::from_millis(20)).await;
    for path in ["/verify", "/settle"] {
        let word = world.unavailable(path, &world.body(1)).await;
        assert_eq!(word, "rpc_unavailable");
    }
    let ready = world.get("/ready").await;
    assert_eq!(ready.status(), StatusCode::SERVICE_UNAVAILABLE);
    let view: ReadyView = ready.json().await.unwrap();
    let failing: Vec<&str> = view
        .checks
        .iter()
        .filter(|check| !check.ok)
        .map(|check| check.name.as_str())
        .collect();
    assert_eq!(failing, ["rpc"]);
    assert_eq!(world.get("/health").await.status(), StatusCode::OK);
    world.chain.state().down = false;
    assert!(world.settle(&world.body(1)).await.success);
    assert_eq!(world.get("/ready").await.status(), StatusCode::OK);
}

async fn what_is_lost_is_sent_again_and_signed_again_until_it_expires(store: Store) {
    let world = World::on(store, Scene::default(), QUICK).await;
    world.chain.state().fate = Fate::Lost;
    assert_eq!(
        reason(&world.settle(&world.body(1)).await),
        "settlement_pending"
    );
    {
        let state = world.chain.state();
        assert!(state.sent.len() > 1, "never sent again");
        assert_eq!(state.transactions().len(), 1);
    }
    // The blockhash dies: a new transaction carries the same intent.
    world.chain.state().height += LIFE + 1;
    let view = world.until(1, |view| view.attempts.len() == 2).await;
    assert_eq!(view.digest, hex::encode(world.scene.intent(1).digest()));
    world.written_ahead();
    // The intent dies as well.
    {
        let mut state = world.chain.state();
        state.height += LIFE + 1;
        state
            .accounts
            .insert(sluice_relayer::chain::CLOCK, clock(NOW + 61));
    }
    let view = world.until_state(1, "expired").await;
    assert_eq!(view.reason.as_deref(), Some("invalid_sluice_split_expired"));
    assert_eq!(
        reason(&world.settle(&world.body(1)).await),
        "invalid_sluice_split_expired"
    );
}

async fn a_restart_takes_up_what_was_open(store: Store) {
    let world = World::on(store, Scene::default(), QUICK).await;
    world.chain.state().fate = Fate::Lost;
    assert_eq!(
        reason(&world.settle(&world.body(1)).await),
        "settlement_pending"
    );
    let world = world.restart().await;
    world.chain.state().fate = Fate::Confirmed;
    world.until_state(1, "confirmed").await;
    let redeemed = world.settle(&world.body(1)).await;
    assert!(redeemed.success, "{redeemed:?}");
    assert_eq!(world.intent(1).await.attempts.len(), 1);
}

async fn a_caller_who_hangs_up_can_ask_again(store: Store) {
    let world = World::on(store, Scene::default(), QUICK).await;
    world.chain.state().fate = Fate::Processed;
    let url = format!("{}/settle", world.relayer.url());
    let call = world
        .client
        .post(url)
        .body(world.body(1).to_string())
        .timeout(Duration::from_millis(300))
        .send()
        .await;
    assert!(call.unwrap_err().is_timeout());
    world.chain.state().fate = Fate::Confirmed;
    // The server needs a moment to notice that nobody listens; then the retry takes the waiting over.
    for _ in 0..100 {
        let answer = world.settle(&world.body(1)).await;
        if answer.success {
            assert_eq!(world.chain.state().transactions().len(), 1);
            return;
        }
        assert_eq!(reason(&answer), "duplicate_settlement");
        let view = world.intent(1).await;
        assert!(!view.answered, "the success went to nobody");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never redeemed");
}

#[tokio::test]
async fn bad_input_is_named() {
    let world = World::new().await;
    for text in ["", "{", "[]", "null", "{\"x402Version\":2}", "\u{0}"] {
        let response = world.post("/verify", text).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{text:?}");
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["error"], "invalid_json");
        assert!(body["message"].is_string());
    }
    let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    assert_eq!(
        world.post("/settle", deep).await.status(),
        StatusCode::BAD_REQUEST
    );
    let response = world.post("/settle", vec![b' '; 65_537]).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["error"], "body_too_large");

    let mut body = world.body(1);
    body["x402Version"] = json!(7);
    assert_eq!(invalid(&world.verify(&body).await), "invalid_x402_version");
    let answer = world.settle(&body).await;
    assert_eq!(reason(&answer), "invalid_x402_version");
    assert_eq!(answer.transaction, "");
    assert!(!answer.network.is_empty());
    for (field, value, word) in [
        ("scheme", "upto", "unsupported_scheme"),
        ("network", "eip155:8453", "invalid_network"),
        ("network", "solana-testnet", "invalid_network"),
        ("payTo", "x", "invalid_payment_requirements"),
    ] {
        let mut body = world.body(1);
        body["paymentRequirements"][field] = json!(value);
        body["paymentPayload"]["accepted"][field] = json!(value);
        assert_eq!(invalid(&world.verify(&body).await), word, "{field}");
        assert_eq!(reason(&world.settle(&body).await), word, "{field}");
    }
    // A mint that is not the service's.
    let mut body = world.body(1);
    for place in ["/paymentRequirements", "/paymentPayload/accepted"] {
        let requirement = body.pointer_mut(place).unwrap();
        requirement["asset"] = json!(key(50).to_string());
        requirement.as_object_mut().unwrap().remove("extra");
    }
    let verdict = world.verify(&body).await;
    assert_eq!(invalid(&verdict), "invalid_payment_requirements");
    assert!(verdict.invalid_message.unwrap().contains("asset"));

    let response = world.get("/nowhere").await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    assert_eq!(
        response.json::<Value>().await.unwrap()["error"],
        "no_such_route"
    );
    assert_eq!(
        world.get("/settle").await.status(),
        StatusCode::METHOD_NOT_ALLOWED
    );
    assert!(world.chain.state().sent.is_empty());
}

#[tokio::test]
async fn a_used_nonce_is_named_by_the_chain() {
    let mut scene = Scene::default();
    let lane = &mut scene.nonce.as_mut().unwrap().lanes[1];
    lane.top = 1;
    lane.window[0] = 1;
    let world = World::with(scene, QUICK).await;
    let answer = world.settle(&world.body(1)).await;
    assert_eq!(reason(&answer), "invalid_sluice_split_nonce_used");
    assert_eq!(answer.payer, Some(payer().to_string()));
    assert_eq!(
        invalid(&world.verify(&world.body(1)).await),
        "invalid_sluice_split_nonce_used"
    );
}

#[tokio::test]
async fn overload_is_said_before_anything_is_spent() {
    let limits = "limits = { confirm_timeout_secs = 1, max_in_flight = 1 }";
    let world = World::with(Scene::default(), limits).await;
    world.chain.state().fate = Fate::Processed;
    assert_eq!(
        reason(&world.settle(&world.body(1)).await),
        "settlement_pending"
    );
    let response = world.post("/settle", world.body(2).to_string()).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["retry-after"], "1");
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["error"], "overloaded");
    assert_eq!(world.chain.state().transactions().len(), 1);
}

#[tokio::test]
async fn supported_names_what_a_server_needs() {
    let world = World::new().await;
    let body: Value = world.get("/supported").await.json().await.unwrap();
    let kinds = body["kinds"].as_array().unwrap();
    assert_eq!(kinds.len(), 4);
    for (kind, version, network) in [
        (&kinds[0], 2, "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1"),
        (&kinds[1], 1, "solana-devnet"),
    ] {
        assert_eq!(kind["x402Version"], version);
        assert_eq!(kind["scheme"], "sluice-split");
        assert_eq!(kind["network"], network);
        assert_eq!(kind["extra"]["program"], PROGRAM_ID.to_string());
        assert_eq!(kind["extra"]["facilitator"], facilitator().to_string());
        assert_eq!(kind["extra"]["feePayer"], relayer().to_string());
    }
    assert_eq!(body["signers"]["solana:*"][0], relayer().to_string());
}

#[tokio::test]
async fn payers_and_services_can_be_asked_for() {
    let world = World::new().await;
    world.chain.state().fate = Fate::Processed;
    let path = format!("/v1/payers/{}?mint={DEVNET_USDC}", payer());
    let view: PayerView = world.get(&path).await.json().await.unwrap();
    assert_eq!(view.nonce_account, nonce_account().to_string());
    assert_eq!(
        (view.balance.as_deref(), view.delegated.as_str()),
        (Some("1000000"), "500000")
    );
    assert_eq!(view.lanes.len(), 2);
    assert_eq!(view.lanes[0].key, None);
    assert_eq!(view.lanes[1].next_nonce.as_deref(), Some("0"));
    assert_eq!(view.lanes[1].headroom.as_deref(), Some("100000"));
    assert_eq!(view.lanes[1].total_limit, None);
    assert_eq!(view.lanes[1].scope, "any");
    assert_eq!(view.now, NOW);

    // What is in flight counts.
    assert_eq!(
        reason(&world.settle(&world.body(4)).await),
        "settlement_pending"
    );
    let view: PayerView = world.get(&path).await.json().await.unwrap();
    assert_eq!(view.lanes[1].next_nonce.as_deref(), Some("5"));
    assert_eq!(view.in_flight, AMOUNT.to_string());

    let stranger = world
        .get(&format!("/v1/payers/{}?mint={DEVNET_USDC}", key(60)))
        .await;
    assert_eq!(stranger.status(), StatusCode::NOT_FOUND);
    let body: Value = stranger.json().await.unwrap();
    assert_eq!(body["error"], "nonce_account_not_found");
    for path in [
        format!("/v1/payers/{}", payer()),
        format!("/v1/payers/me?mint={DEVNET_USDC}"),
        "/v1/intents/xyz".to_owned(),
        "/v1/services/xyz".to_owned(),
    ] {
        assert_eq!(
            world.get(&path).await.status(),
            StatusCode::BAD_REQUEST,
            "{path}"
        );
    }
    let unknown = world.get(&format!("/v1/intents/{}", "00".repeat(32))).await;
    assert_eq!(unknown.status(), StatusCode::NOT_FOUND);

    let path = format!("/v1/services/{}", service());
    let view: ServiceView = world.get(&path).await.json().await.unwrap();
    assert_eq!(view.pay_to, service().to_string());
    assert_eq!(view.asset, DEVNET_USDC.to_string());
    assert!(view.settles_here);
    assert_eq!(view.decimals, Some(6));
    assert_eq!(
        view.extra,
        SplitExtra::of_service(&service(), &world.scene.service, &GENESIS)
    );
    assert!(view.extra.checked_terms_hash(&DEVNET_USDC).is_ok());
    let nobody = world.get(&format!("/v1/services/{}", key(61))).await;
    assert_eq!(nobody.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_mint_that_changes_between_verify_and_settle() {
    let world = World::new().await;
    let path = format!("/v1/services/{}", service());
    let body = world.body(1);
    assert!(world.verify(&body).await.is_valid);
    let put = async |extensions: &[(u16, &[u8])]| {
        let account = mint(TOKEN_2022_PROGRAM, extensions);
        let mut accepted = world.scene.accepted.unwrap();
        accepted.token_program = TOKEN_2022_PROGRAM.to_bytes();
        accepted.allowed_extensions = 1 << 26;
        let mut source = world.scene.source.unwrap();
        source.token_program = TOKEN_2022_PROGRAM;
        let scene = Scene {
            mint: account,
            accepted: Some(accepted),
            source: Some(source),
            ..world.scene.clone()
        };
        world.chain.state().accounts.extend(scene.accounts());
        // What was asked a moment ago is believed for a moment.
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    // Its authority pauses it: the mint is looked at like every other account, so nothing is sent for nothing.
    put(&[(26, &[1; 33])]).await;
    let word = "invalid_sluice_split_mint_unusable";
    assert_eq!(reason(&world.settle(&body).await), word);
    assert_eq!(invalid(&world.verify(&world.body(2)).await), word);
    assert!(world.chain.state().sent.is_empty());
    let view: ServiceView = world.get(&path).await.json().await.unwrap();
    assert!(!view.settles_here);

    put(&[(26, &[0; 33])]).await;
    let view: ServiceView = world.get(&path).await.json().await.unwrap();
    assert!(view.settles_here);
    assert!(world.settle(&world.body(3)).await.success);
}

#[tokio::test]
async fn readiness_names_what_fails() {
    let mut scene = Scene::default();
    scene.facilitator.relayers[0] = [9; 32];
    scene.config.paused = 1;
    scene.relayer_lamports = 5;
    let world = World::with(scene, QUICK).await;
    let response = world.get("/ready").await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["retry-after"], "5");
    let view: ReadyView = response.json().await.unwrap();
    let failing: Vec<&str> = view
        .checks
        .iter()
        .filter(|check| !check.ok)
        .map(|check| check.name.as_str())
        .collect();
    assert_eq!(failing, ["signers", "config", "relayer_key", "balance"]);
}

#[tokio::test]
async fn the_wrong_cluster_stops_the_start() {
    let mut scene = Scene::default();
    scene.config.genesis_hash = [1; 32];
    let chain = Arc::new(FakeChain::new(&scene));
    let result = start(&Store::sqlite(), &chain, &scene, QUICK).await;
    let Err(StartError::Cluster(message)) = result else {
        panic!("started on the wrong cluster");
    };
    let text = |hash: [u8; 32]| sluice_sdk::Address::new_from_array(hash).to_string();
    assert!(
        message.contains(&text([1; 32])) && message.contains(&text(GENESIS)),
        "{message}"
    );
}

#[tokio::test]
async fn a_deployment_that_comes_later_is_waited_for() {
    let scene = Scene::default();
    let world = World::new().await;
    world.chain.state().accounts.clear();
    let world = world.restart().await;
    {
        let mut state = world.chain.state();
        state
            .accounts
            .insert(sluice_relayer::chain::CLOCK, clock(NOW));
    }
    let response = world.post("/settle", world.body(1).to_string()).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        response.json::<Value>().await.unwrap()["error"],
        "not_ready"
    );
    world.chain.state().accounts.extend(scene.accounts());
    // A fee payer's balance is looked at every other second.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert!(world.settle(&world.body(1)).await.success);
    // A cluster that turns out to be another one later is noticed as well.
    let mut other = scene.config;
    other.genesis_hash = [1; 32];
    world
        .chain
        .state()
        .accounts
        .insert(address::config().0, raw(&other));
    tokio::time::sleep(Duration::from_millis(20)).await;
    let response = world.post("/settle", world.body(2).to_string()).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn a_stop_answers_whoever_waits() {
    let limits = "limits = { confirm_timeout_secs = 60, drain_secs = 1 }";
    let world = World::with(Scene::default(), limits).await;
    world.chain.state().fate = Fate::Processed;
    let request = world
        .client
        .post(format!("{}/settle", world.relayer.url()))
        .body(world.body(1).to_string());
    let waiting = tokio::spawn(async move { request.send().await.unwrap().json().await.unwrap() });
    while world.chain.state().sent.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let begun = std::time::Instant::now();
    world.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(10));
    let answer: SettleResponse = waiting.await.unwrap();
    assert_eq!(reason(&answer), "settlement_pending");
}
