//! The pool of fee payers: who pays, who rests, and what the operator is told.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use axum::{Json, Router, http::StatusCode, routing::post};
use serde_json::Value;
use sluice_relayer::{
    Config,
    chain::cache::Accounts,
    config::Fees,
    http::{ReadyView, SignersView},
    ledger::{Candidate, Deal, IntentMeans, Ledger, Means, NewPayment, NonceKey, Transaction},
    signers::{
        FeePayer, SignError, Signer, Signers, Standing,
        alert::{AlertBody, Alerts, Event, Severity},
    },
};
use sluice_sdk::Address;
use solana_signature::Signature;
use tokio::{net::TcpListener, sync::mpsc};

use crate::{
    fake::FakeChain,
    http::{PATIENT, QUICK, World, reason},
    load::crowd,
    postgres::{Store, on_both},
    scene::{Scene, key, keypair, lamports_of, payer_of, relayer, second, service},
};

const SOL: u64 = 1_000_000_000;

fn fees() -> Fees {
    Fees {
        min_balance_lamports: 10_000_000,
        resume_balance_lamports: 20_000_000,
        ..Fees::default()
    }
}

/// A pool of three keys, and the chain that their balances are on.
struct Pool {
    chain: Arc<FakeChain>,
    accounts: Accounts,
    signers: Signers,
    registered: Vec<[u8; 32]>,
}

fn three() -> [Address; 3] {
    [key(1), key(10), key(11)]
}

impl Pool {
    async fn new(lamports: [u64; 3]) -> Self {
        let chain = Arc::new(FakeChain::new(&Scene::default()));
        let keys = [1, 10, 11].map(|seed| FeePayer::new(keypair(seed)).into());
        let this = Self {
            accounts: Accounts::new(Arc::clone(&chain) as _),
            signers: Signers::new(
                keys.to_vec(),
                fees(),
                Alerts::default(),
                Duration::from_secs(60),
            ),
            registered: three().map(|key| key.to_bytes()).to_vec(),
            chain,
        };
        for (key, lamports) in three().into_iter().zip(lamports) {
            this.hold(key, lamports);
        }
        this.look().await;
        this
    }

    fn hold(&self, key: Address, lamports: u64) {
        let mut state = self.chain.state();
        state.accounts.insert(key, lamports_of(lamports));
    }

    async fn look(&self) {
        self.accounts.forget(&three());
        self.signers.look(&self.accounts).await;
    }

    /// Who pays for so many transactions.
    fn turns(&self, count: usize) -> HashMap<Address, usize> {
        let mut turns = HashMap::new();
        for _ in 0..count {
            let next = self.signers.pick(&self.registered, 0).unwrap();
            *turns.entry(next.address()).or_default() += 1;
        }
        turns
    }
}

#[tokio::test]
async fn keys_that_hold_plenty_take_turns_and_one_near_its_mark_is_spared() {
    let [one, two, three] = three();
    let pool = Pool::new([SOL, 50 * SOL, 25_000_000]).await;
    assert_eq!(
        pool.turns(30),
        HashMap::from([(one, 10), (two, 10), (three, 10)])
    );
    // A tenth of the way from the low mark to the high one: a tenth of a turn.
    pool.hold(three, 11_000_000);
    pool.look().await;
    let turns = pool.turns(21);
    assert_eq!((turns[&one], turns[&two], turns[&three]), (10, 10, 1));
    // Only those that are registered.
    let registered = vec![two.to_bytes()];
    let next = pool.signers.pick(&registered, 0).unwrap();
    assert_eq!(next.address(), two);
    assert!(pool.signers.pick(&[[9; 32]], 0).is_err());
}

#[tokio::test]
async fn what_a_key_is_to_pay_counts_before_its_balance_is_read_again() {
    let pool = Pool::new([10_012_000, 10_012_000, 0]).await;
    // Three times 5,000 lamports from each of the two, and they are below the mark as far as is known.
    for _ in 0..6 {
        pool.signers.pick(&pool.registered, 5_000).unwrap();
    }
    let error = pool.signers.pick(&pool.registered, 5_000).unwrap_err();
    assert!(error.to_string().contains("9997000"), "{error}");
    // Read again, it is what it is.
    pool.look().await;
    assert_eq!(pool.turns(2).len(), 2);
}

/// ATTACKS.md, row 25.
#[tokio::test]
async fn attack_25_a_failed_read_is_not_a_balance_of_zero() {
    let pool = Pool::new([SOL, SOL, SOL]).await;
    pool.chain.state().down = true;
    for _ in 0..3 {
        pool.look().await;
    }
    for health in pool.signers.health() {
        assert_eq!(health.lamports, Some(SOL));
        assert!(health.age.is_some());
        assert_eq!((health.failed_reads, health.read_errors), (3, 3));
        assert_eq!(health.standing, Standing::Active);
    }
    assert_eq!(pool.turns(3).len(), 3);
    pool.chain.state().down = false;
    pool.hold(key(1), 5);
    pool.look().await;
    let health = pool.signers.health();
    assert_eq!((health[0].lamports, health[0].failed_reads), (Some(5), 0));
    assert_eq!(health[0].read_errors, 3, "what failed is not forgotten");
    assert_eq!(health[0].standing, Standing::Low);
    assert_eq!(health[1].standing, Standing::Active);

    // Never read at all: not known, and not zero.
    let chain = Arc::new(FakeChain::new(&Scene::default()));
    chain.state().down = true;
    let keys = vec![FeePayer::new(keypair(1)).into()];
    let signers = Signers::new(keys, fees(), Alerts::default(), Duration::from_secs(60));
    signers.look(&Accounts::new(chain as _)).await;
    let health = &signers.health()[0];
    assert_eq!(
        (health.lamports, health.age, health.read_errors),
        (None, None, 1)
    );
    assert!(signers.check(&[relayer().to_bytes()]).is_ok());
}

/// What is posted to a webhook.
struct Hook {
    url: String,
    bodies: mpsc::UnboundedReceiver<AlertBody>,
    refuse: Arc<AtomicU32>,
}

async fn hook() -> Hook {
    let (sender, bodies) = mpsc::unbounded_channel();
    let refuse = Arc::new(AtomicU32::new(0));
    let refused = Arc::clone(&refuse);
    let router = Router::new().route(
        "/alerts/hush",
        post(move |Json(body): Json<AlertBody>| {
            let (sender, refused) = (sender.clone(), Arc::clone(&refused));
            async move {
                let left = refused.load(Ordering::Relaxed);
                if left > 0 {
                    refused.store(left - 1, Ordering::Relaxed);
                    return StatusCode::INTERNAL_SERVER_ERROR;
                }
                sender.send(body).unwrap();
                StatusCode::NO_CONTENT
            }
        }),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/alerts/hush", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    Hook {
        url,
        bodies,
        refuse,
    }
}

impl Hook {
    fn settings(&self) -> String {
        format!(
            "alerts = {{ webhook_url = \"{}\", webhook_private = true, pause_secs = 1, stale_balance_secs = 1 }}",
            self.url
        )
    }

    /// Alerts until one of this kind has come, that one included.
    async fn until(&mut self, event: Event) -> Vec<sluice_relayer::signers::alert::Alert> {
        let mut all = Vec::new();
        while !all
            .iter()
            .any(|alert: &sluice_relayer::signers::alert::Alert| alert.event == event)
        {
            let body = self.bodies.recv().await.unwrap();
            assert_eq!((body.relayer.as_str(), body.dropped), ("relayer", 0));
            all.extend(body.alerts);
        }
        all
    }
}

#[tokio::test]
async fn each_change_is_told_once_to_the_webhook() {
    let mut hook = hook().await;
    // The first calls fail: what is told is told all the same.
    hook.refuse.store(1, Ordering::Relaxed);
    let mut scene = Scene {
        second_lamports: Some(SOL),
        ..Scene::default()
    };
    scene.facilitator.relayers[1] = key(10).to_bytes();
    scene.facilitator.relayer_count = 2;
    let world = World::with(scene, &format!("{QUICK}\n{}", hook.settings())).await;
    let hold = |key: Address, lamports| {
        let mut state = world.chain.state();
        state.accounts.insert(key, lamports_of(lamports));
    };
    hold(relayer(), 9_999_999);
    let alerts = hook.until(Event::FeePayerLow).await;
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    assert_eq!(alerts[0].severity, Severity::Error);
    assert_eq!(alerts[0].fee_payer, Some(relayer().to_string()));
    assert!(alerts[0].message.contains("9999999"), "{alerts:?}");

    // The second as well: nobody pays.
    hold(key(10), 0);
    let alerts = hook.until(Event::NoFeePayer).await;
    let of = |event| alerts.iter().filter(|alert| alert.event == event).count();
    assert_eq!((of(Event::FeePayerLow), of(Event::NoFeePayer)), (1, 1));
    let word = world.unavailable("/settle", &world.body(1)).await;
    assert_eq!(word, "fee_payer_low");

    hold(key(10), SOL);
    let alerts = hook.until(Event::FeePayerBack).await;
    assert_eq!(alerts.len(), 2, "{alerts:?}");
    assert!(world.settle(&world.body(1)).await.success);

    world.chain.state().down = true;
    let alerts = hook.until(Event::BalanceStale).await;
    assert!(alerts[0].message.contains("lamports then"), "{alerts:?}");
    assert_eq!(alerts[0].severity, Severity::Warning);
    world.chain.state().down = false;
    hook.until(Event::BalanceRead).await;
    world.stop().await;
}

#[test]
fn alerts_are_configured_with_care() {
    let with = |alerts: &str| {
        Config::from_toml(&format!(
            "network = \"solana\"\nrpc_url = \"http://127.0.0.1:9\"\n\
             facilitator = \"11111111111111111111111111111112\"\nfee_payer = {{ env = \"K\" }}\n[alerts]\n{alerts}"
        ))
    };
    assert!(with("webhook_url = \"https://hooks.example.com/hush\"").is_ok());
    for alerts in [
        "webhook_url = \"http://hooks.example.com/hush\"",
        "webhook_url = \"https://127.0.0.1/hush\"",
        "webhook_url = \"https://169.254.169.254/hush\"",
        "webhook_url = \"https://[fd00::1]/hush\"",
        "webhook_url = \"hush\"",
        "pause_secs = 0",
        "stale_balance_secs = 0",
        "webhook = \"x\"",
    ] {
        let problem = with(alerts).unwrap_err().to_string();
        assert!(problem.contains("alerts."), "{problem}");
        assert!(!problem.contains("hush"), "{problem}");
    }
    let private = "webhook_private = true\nwebhook_url = \"http://127.0.0.1:8080/hush\"";
    let config = with(private).unwrap();
    assert!(!format!("{config:?}").contains("hush"));
}

/// A key at the other end of something, that does what a test says before it signs.
struct Slow<F> {
    key: FeePayer,
    before: F,
    fails: AtomicBool,
    signed: Mutex<Vec<Signature>>,
}

impl<F> std::fmt::Debug for Slow<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Slow")
    }
}

#[async_trait]
impl<F: AsyncHook> Signer for Slow<F> {
    fn address(&self) -> Address {
        self.key.address()
    }
    fn kind(&self) -> &'static str {
        "slow"
    }
    fn is_remote(&self) -> bool {
        true
    }
    async fn sign(&self, message: &[u8]) -> Result<Signature, SignError> {
        if self.fails.load(Ordering::Relaxed) {
            return Err(SignError::Unreachable("gone".to_owned()));
        }
        self.before.run().await;
        let signature = self.key.sign(message).await?;
        self.signed.lock().unwrap().push(signature);
        Ok(signature)
    }
    async fn probe(&self) -> Result<(), SignError> {
        if self.fails.load(Ordering::Relaxed) {
            return Err(SignError::Unreachable("gone".to_owned()));
        }
        Ok(())
    }
}

#[async_trait]
trait AsyncHook: Send + Sync + 'static {
    async fn run(&self);
}

/// Somebody else who shares the ledger takes a nonce, once.
struct Rival {
    ledger: Ledger,
    payment: Mutex<Option<NewPayment>>,
}

#[async_trait]
impl AsyncHook for Rival {
    async fn run(&self) {
        let Some(payment) = self.payment.lock().unwrap().take() else {
            return;
        };
        let transaction = Transaction {
            signature: Signature::from([9; 64]),
            wire: vec![1],
            last_valid_block_height: 1_000_000,
            signed_slot: 0,
            fee_payer: key(20),
            fee_lamports: 5_000,
            service: service(),
        };
        let candidate = Candidate::New(Box::new(payment));
        let sealed = self
            .ledger
            .seal(vec![candidate], move |_| Ok::<_, ()>(transaction))
            .await
            .unwrap();
        assert!(sealed.transaction.unwrap().is_some());
    }
}

/// A payment as another relayer would write it down.
fn rival(scene: &Scene, payer_index: u8, nonce: u64) -> NewPayment {
    let intent = scene.intent_of(payer_index, nonce);
    // The same nonce for another amount: another digest.
    let other = sluice_sdk::UnsignedIntent {
        amount: intent.amount + 1,
        ..intent
    };
    let signed = other.sign(&crate::scene::agent()).unwrap();
    NewPayment {
        digest: signed.intent.digest(),
        version: sluice_sdk::x402::Version::V2,
        payer: payer_of(payer_index),
        service: service(),
        mint: sluice_sdk::DEVNET_USDC,
        amount: other.amount,
        source: crate::scene::source(),
        expires_at: i64::from(other.expires_at),
        means: Means::Intent(Box::new(IntentMeans {
            nonce: NonceKey {
                account: other.nonce_account,
                opened_slot: other.opened_slot,
                lane: other.lane,
                nonce: other.nonce,
            },
            entry: signed.entry(),
            split: sluice_sdk::x402::SplitShares {
                treasury: "0".to_owned(),
                facilitator: "0".to_owned(),
                recipients: vec!["0".to_owned()],
            },
        })),
        deal: Deal::default(),
        api_key: None,
    }
}

on_both! {
    a_signature_for_more_than_are_left_never_leaves
}

async fn a_signature_for_more_than_are_left_never_leaves(store: Store) {
    let scene = crowd();
    let chain = Arc::new(FakeChain::new(&scene));
    chain.state().ledger = Some(store.url().to_owned());
    chain.state().send_takes = Duration::from_millis(50);
    let ledger = Ledger::open(store.url(), "rival").await.unwrap();
    // Payer 5's payment of the batch finds its nonce taken between the signature and the commit.
    let signer = Arc::new(Slow {
        key: FeePayer::new(keypair(1)),
        before: Rival {
            ledger: ledger.clone(),
            payment: Mutex::new(None),
        },
        fails: AtomicBool::new(false),
        signed: Mutex::default(),
    });
    let config = crate::http::config(store.url(), PATIENT);
    let keys = vec![Arc::clone(&signer) as Arc<dyn Signer>];
    let running = sluice_relayer::Relayer::start_with(config, Arc::clone(&chain) as _, keys)
        .await
        .unwrap();
    let world = Arc::new(World {
        chain,
        relayer: running,
        client: reqwest::Client::new(),
        store: Arc::new(store),
        scene,
    });
    // Alone: the first payment's send lets the others gather.
    let first = {
        let world = Arc::clone(&world);
        tokio::spawn(async move { world.settle(&world.body(100)).await })
    };
    while world.chain.state().calls("sendTransaction") == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    *signer.before.payment.lock().unwrap() = Some(rival(&world.scene, 5, 5));
    let answers = crate::load::settle_all(&world, 1).await;
    assert!(first.await.unwrap().success);
    for (nonce, answer) in answers {
        if nonce == 5 {
            assert_eq!(reason(&answer), "invalid_sluice_split_nonce_conflict");
        } else {
            assert!(answer.success, "{nonce}: {answer:?}");
        }
    }
    let dropped: Vec<Signature> = {
        let state = world.chain.state();
        let sent = state.transactions();
        assert_eq!(state.paid(), 16);
        let signed = signer.signed.lock().unwrap();
        let unsent = signed.iter().filter(|signature| !sent.contains(signature));
        unsent.copied().collect()
    };
    assert!(!dropped.is_empty(), "nothing was signed in vain");
    // Nor is it in the ledger, where the chores would find it.
    for signature in dropped {
        let sql = format!("SELECT count(*) FROM transactions WHERE signature = '{signature}'");
        assert_eq!(world.store.count(&sql).await, 0);
    }
    world.written_ahead();
}

/// No step of the ledger waits for a key.
struct Wait;

#[async_trait]
impl AsyncHook for Wait {
    async fn run(&self) {
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ledger_is_written_while_a_key_takes_its_time() {
    let store = Store::sqlite();
    let scene = Scene::default();
    let chain = Arc::new(FakeChain::new(&scene));
    let signer = Arc::new(Slow {
        key: FeePayer::new(keypair(1)),
        before: Wait,
        fails: AtomicBool::new(false),
        signed: Mutex::default(),
    });
    let config = crate::http::config(store.url(), PATIENT);
    let keys = vec![Arc::clone(&signer) as Arc<dyn Signer>];
    let running = sluice_relayer::Relayer::start_with(config, Arc::clone(&chain) as _, keys)
        .await
        .unwrap();
    let world = Arc::new(World {
        chain,
        relayer: running,
        client: reqwest::Client::new(),
        store: Arc::new(store),
        scene,
    });
    let caller = Arc::clone(&world);
    let waiting = tokio::spawn(async move { caller.settle(&caller.body(1)).await });
    // While the key is at work another writer of the file gets its turn at once, again and again.
    let mut turns = 0;
    while signer.signed.lock().unwrap().is_empty() {
        world
            .store
            .execute("UPDATE replicas SET alive_until = alive_until")
            .await;
        turns += 1;
    }
    assert!(turns > 1, "{turns}");
    assert!(waiting.await.unwrap().success);
}

#[tokio::test]
async fn a_key_that_fails_hands_its_payment_to_the_next_and_is_seen() {
    let mut scene = Scene {
        second_lamports: Some(SOL),
        ..Scene::default()
    };
    scene.facilitator.relayers[1] = key(10).to_bytes();
    scene.facilitator.relayer_count = 2;
    let store = Store::sqlite();
    let chain = Arc::new(FakeChain::new(&scene));
    chain.state().ledger = Some(store.url().to_owned());
    let signer = Arc::new(Slow {
        key: FeePayer::new(keypair(1)),
        before: Wait,
        fails: AtomicBool::new(true),
        signed: Mutex::default(),
    });
    let keys: Vec<Arc<dyn Signer>> = vec![
        Arc::clone(&signer) as _,
        Arc::new(FeePayer::new(second())) as _,
    ];
    let config = crate::http::config(store.url(), QUICK);
    let running = sluice_relayer::Relayer::start_with(config, Arc::clone(&chain) as _, keys)
        .await
        .unwrap();
    let world = World {
        chain,
        relayer: running,
        client: reqwest::Client::new(),
        store: Arc::new(store),
        scene,
    };
    for nonce in 1..4 {
        assert!(world.settle(&world.body(nonce)).await.success);
    }
    let view: SignersView = world.get("/v1/signers").await.json().await.unwrap();
    let [first, other] = &view.signers[..] else {
        panic!("{view:?}");
    };
    assert_eq!((first.standing.as_str(), first.signed), ("failed", 0));
    assert_eq!(first.problem.as_deref(), Some("gone"));
    assert_eq!((other.standing.as_str(), other.signed), ("active", 3));
    assert_eq!(other.lamports.as_deref(), Some("1000000000"));
    assert!(other.balance_age_ms.is_some());
    assert_eq!(view.low_lamports, "10000000");
    // Addresses and numbers, and nothing else that is secret.
    let text = world.get("/v1/signers").await.text().await.unwrap();
    assert!(text.contains(&relayer().to_string()), "{text}");
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["signers"][0]["kind"], "slow");
    let ready: ReadyView = world.get("/ready").await.json().await.unwrap();
    assert!(ready.ready, "{ready:?}");
    signer.fails.store(false, Ordering::Relaxed);
    loop {
        let view: SignersView = world.get("/v1/signers").await.json().await.unwrap();
        if view.signers[0].standing == "active" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.stop().await;
}
