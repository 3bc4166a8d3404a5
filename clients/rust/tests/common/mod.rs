//! A facilitator that keeps to the protocol, and a shop that sells through it, both on loopback.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    dead_code
)]

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Extension, Json, Router,
    extract::{Path, Query, State},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::StatusCode;
use serde_json::{Value, json};
use sluice_client::{
    Address, Facilitator,
    pay::{Client, FacilitatorNonces, Payer, Policy},
    paywall::{Paid, Paywall},
    x402::{
        FacilitatorRequest, Network, RecipientTerms, SettleExtra, SplitExtra, SplitPayload,
        SplitShares,
    },
};
use sluice_sdk::{DEVNET_USDC, PROGRAM_ID, SignedIntent, address, token::TOKEN_PROGRAM};
use solana_keypair::Keypair;
use solana_signer::Signer;

pub const GENESIS: [u8; 32] = [7; 32];
pub const PRICE: u64 = 10_000;
pub const GOODS: &str = "the goods";
pub const OPENED_SLOT: u64 = 1 << 60;

/// How a fake facilitator behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Honest,
    VerifyDown,
    SettleDown,
    SettleGarbage,
    Duplicate,
    PendingOnce,
    PendingAlways,
    OtherDigest,
    NoDigest,
    NotOpened,
    SlowSettle,
}

pub struct Fake {
    pub url: String,
    task: tokio::task::AbortHandle,
    client: std::sync::OnceLock<Client>,
    pub state: Arc<Inner>,
}

pub struct Inner {
    pub mood: Mutex<Mood>,
    pub terms: Mutex<SplitExtra>,
    pub payer: Arc<Keypair>,
    pub verifies: AtomicUsize,
    pub settles: AtomicUsize,
    pub settle_bodies: Mutex<Vec<Value>>,
    settled: Mutex<HashSet<[u8; 32]>>,
}

pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

pub fn service() -> Address {
    address::service(&DEVNET_USDC, 1).0
}

pub fn terms() -> SplitExtra {
    let recipient = |seed: u8, bps| {
        let owner = Address::new_from_array([seed; 32]);
        let token_account = address::token_account(&owner, &DEVNET_USDC, &TOKEN_PROGRAM);
        RecipientTerms {
            owner: owner.to_string(),
            token_account: token_account.to_string(),
            bps,
        }
    };
    let mut extra = SplitExtra {
        program: PROGRAM_ID.to_string(),
        service: service().to_string(),
        facilitator: address::facilitator(&PROGRAM_ID).0.to_string(),
        facilitator_bps: 100,
        facilitator_fixed: "20".into(),
        treasury_bps: 50,
        recipients: vec![recipient(11, 7_000), recipient(12, 3_000)],
        terms_hash: String::new(),
        genesis_hash: Address::new_from_array(GENESIS).to_string(),
    };
    extra.terms_hash = hex::encode(extra.compute_terms_hash(&DEVNET_USDC).unwrap());
    extra
}

/// Serves an app on loopback and gives its base URL.
pub async fn serve(app: Router) -> String {
    serve_until(app).await.0
}

async fn serve_until(app: Router) -> (String, tokio::task::AbortHandle) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (url, task.abort_handle())
}

/// A client that ignores proxies, follows no redirect and keeps no connection: a server that is gone is gone.
pub fn http() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .pool_max_idle_per_host(0)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap()
}

impl Fake {
    pub async fn start() -> Self {
        let state = Arc::new(Inner {
            mood: Mutex::new(Mood::Honest),
            terms: Mutex::new(terms()),
            payer: Arc::new(Keypair::new()),
            verifies: AtomicUsize::new(0),
            settles: AtomicUsize::new(0),
            settle_bodies: Mutex::new(Vec::new()),
            settled: Mutex::new(HashSet::new()),
        });
        let app = Router::new()
            .route("/verify", post(verify))
            .route("/settle", post(settle))
            .route("/v1/services/{pda}", get(show_service))
            .route("/v1/payers/{payer}", get(show_payer))
            .with_state(state.clone());
        let (url, task) = serve_until(app).await;
        Self {
            url,
            task,
            client: Default::default(),
            state,
        }
    }

    pub fn mood(&self, mood: Mood) {
        *self.state.mood.lock().unwrap() = mood;
    }

    /// Nobody listens at its address any more.
    pub async fn stop(&self) {
        self.task.abort();
        while !self.task.is_finished() {
            tokio::task::yield_now().await;
        }
    }

    pub fn verifies(&self) -> usize {
        self.state.verifies.load(SeqCst)
    }

    /// Payments that have landed.
    pub fn settled(&self) -> usize {
        self.state.settled.lock().unwrap().len()
    }

    pub fn settles(&self) -> usize {
        self.state.settles.load(SeqCst)
    }

    pub fn facilitator(&self) -> Facilitator {
        Facilitator::with_http(http(), &self.url).unwrap()
    }

    pub fn payer(&self) -> Payer {
        Payer {
            address: self.state.payer.pubkey(),
            network: Network::Devnet,
            genesis_hash: GENESIS,
            policy: Policy::none().allow(DEVNET_USDC, 50_000),
        }
    }

    /// The one client of the payer: two would give out the same nonces.
    pub fn client(&self) -> Client {
        self.client
            .get_or_init(|| self.client_of(self.payer()))
            .clone()
    }

    pub fn client_of(&self, payer: Payer) -> Client {
        let nonces = Arc::new(FacilitatorNonces::new(self.facilitator()));
        Client::new(http(), payer, nonces, self.state.payer.clone())
    }
}

/// The signed intent in a request, and whether the payer's key signed it for these terms and this time.
fn judge(state: &Inner, request: &FacilitatorRequest) -> (SignedIntent, Result<(), &'static str>) {
    let asked = &request.payment_requirements;
    let amount = asked
        .get("amount")
        .or_else(|| asked.get("maxAmountRequired"))
        .unwrap();
    let amount: u64 = amount.as_str().unwrap().parse().unwrap();
    let payload: SplitPayload =
        serde_json::from_value(request.payment_payload["payload"].clone()).unwrap();
    let hash = state
        .terms
        .lock()
        .unwrap()
        .checked_terms_hash(&DEVNET_USDC)
        .unwrap();
    let signed = payload.to_intent(GENESIS, service(), hash, amount).unwrap();
    let life = i64::from(signed.intent.expires_at) - now();
    let max = i64::try_from(asked["maxTimeoutSeconds"].as_u64().unwrap()).unwrap();
    let verdict = if !signed.is_signed_by(state.payer.pubkey().as_array()) {
        Err("invalid_sluice_split_bad_signature")
    } else if signed.intent.opened_slot != OPENED_SLOT {
        Err("invalid_sluice_split_opened_slot")
    } else if life < 1 || life > max {
        Err("invalid_sluice_split_expired")
    } else if state
        .settled
        .lock()
        .unwrap()
        .contains(&signed.intent.digest())
    {
        Err("duplicate_settlement")
    } else {
        Ok(())
    };
    (signed, verdict)
}

fn down() -> Response {
    (
        StatusCode::SERVICE_UNAVAILABLE,
        [("retry-after", "7")],
        "the RPC is down",
    )
        .into_response()
}

async fn verify(
    State(state): State<Arc<Inner>>,
    Json(request): Json<FacilitatorRequest>,
) -> Response {
    state.verifies.fetch_add(1, SeqCst);
    if *state.mood.lock().unwrap() == Mood::VerifyDown {
        return down();
    }
    let payer = state.payer.pubkey().to_string();
    let answer = match judge(&state, &request).1 {
        Ok(()) => json!({ "isValid": true, "payer": payer }),
        Err(reason) => json!({ "isValid": false, "invalidReason": reason, "payer": payer }),
    };
    Json(answer).into_response()
}

async fn settle(
    State(state): State<Arc<Inner>>,
    Json(request): Json<FacilitatorRequest>,
) -> Response {
    let calls = state.settles.fetch_add(1, SeqCst);
    state
        .settle_bodies
        .lock()
        .unwrap()
        .push(serde_json::to_value(&request).unwrap());
    let (signed, verdict) = judge(&state, &request);
    let digest = signed.intent.digest();
    let payer = state.payer.pubkey().to_string();
    let network = request.payment_requirements["network"].clone();
    let no = |reason: &str| {
        let answer = json!({ "success": false, "errorReason": reason, "errorMessage": "see there",
            "payer": payer, "transaction": "", "network": network });
        Json(answer).into_response()
    };
    let mood = *state.mood.lock().unwrap();
    if mood == Mood::SlowSettle {
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    let named = match mood {
        Mood::SettleDown => return down(),
        Mood::SettleGarbage => return "<html>".into_response(),
        Mood::Duplicate => return no("duplicate_settlement"),
        Mood::PendingAlways => return no("settlement_pending"),
        Mood::PendingOnce if calls == 0 => return no("settlement_pending"),
        Mood::OtherDigest => [1; 32],
        _ => digest,
    };
    if let Err(reason) = verdict {
        return no(reason);
    }
    state.settled.lock().unwrap().insert(digest);
    let terms = state.terms.lock().unwrap();
    let shares = terms.shares(signed.intent.amount).unwrap();
    let extra = SettleExtra {
        digest: hex::encode(named),
        index: 2,
        split: SplitShares::of_shares(&shares, terms.recipients.len()),
        batch: serde_json::from_value(json!({ "size": 4, "lamportsPerPayment": 1250 })).unwrap(),
    };
    let mut extra = serde_json::to_value(extra).unwrap();
    if mood == Mood::NoDigest {
        extra.as_object_mut().unwrap().remove("digest");
    }
    Json(
        json!({ "success": true, "payer": payer, "transaction": transaction(), "network": network,
        "amount": signed.intent.amount.to_string(), "extra": extra }),
    )
    .into_response()
}

/// 64 bytes in base58, as a transaction's signature is written.
pub fn transaction() -> String {
    solana_keypair::Keypair::new_from_array([5; 32])
        .sign_message(b"a transaction")
        .to_string()
}

async fn show_service(State(state): State<Arc<Inner>>, Path(pda): Path<String>) -> Response {
    if pda != service().to_string() {
        return (StatusCode::NOT_FOUND, "no such service").into_response();
    }
    let extra = state.terms.lock().unwrap().clone();
    Json(
        json!({ "service": pda, "payTo": pda, "asset": DEVNET_USDC.to_string(),
        "network": Network::Devnet.caip2(), "extra": extra, "minPayment": "1",
        "status": "active", "maxIntentTtl": 60, "settlesHere": true }),
    )
    .into_response()
}

async fn show_payer(
    State(state): State<Arc<Inner>>,
    Path(payer): Path<String>,
    Query(query): Query<std::collections::HashMap<String, String>>,
) -> Response {
    let payer: Address = payer.parse().unwrap();
    let mint: Address = query["mint"].parse().unwrap();
    let nonce_account = address::nonce_account(&payer, &mint).0.to_string();
    if *state.mood.lock().unwrap() == Mood::NotOpened {
        let body =
            json!({ "error": "nonce_account_not_found", "message": "open it", "retriable": false });
        return (StatusCode::NOT_FOUND, Json(body)).into_response();
    }
    let key = state.payer.pubkey().to_string();
    let lanes = json!([
        { "lane": 0, "key": null, "nextNonce": "0", "periodSecs": "0", "scope": "any" },
        { "lane": 1, "key": key, "nextNonce": "5", "periodSecs": "0", "scope": "any" },
    ]);
    Json(
        json!({ "payer": payer.to_string(), "mint": mint.to_string(),
        "nonceAccount": nonce_account, "openedSlot": OPENED_SLOT.to_string(),
        "now": now(), "lanes": lanes }),
    )
    .into_response()
}

/// A shop with a paywall, and how often its handlers ran.
pub struct Shop {
    pub url: String,
    pub served: Arc<AtomicUsize>,
}

impl Shop {
    /// A shop that speaks both versions; the client takes the later one.
    pub async fn start(fake: &Fake) -> Self {
        Self::open(fake, &[], Duration::from_secs(60)).await
    }

    /// A shop as version 1 knows it.
    pub async fn start_v1(fake: &Fake) -> Self {
        Self::open(fake, &["payment-required"], Duration::from_secs(60)).await
    }

    /// A shop that loads its terms for every 402.
    pub async fn start_fresh(fake: &Fake) -> Self {
        Self::open(fake, &[], Duration::ZERO).await
    }

    async fn open(fake: &Fake, hidden: &'static [&'static str], terms_age: Duration) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let paywall = Paywall::builder(&fake.url, service(), &url)
            .facilitator(fake.facilitator())
            .max_timeout_seconds(600)
            .body_cap(1_000)
            .terms_age(terms_age)
            .connect()
            .await
            .unwrap();
        let served = Arc::new(AtomicUsize::new(0));
        let count = served.clone();
        let sell = move |Extension(paid): Extension<Paid>, body: String| {
            let count = count.clone();
            async move {
                count.fetch_add(1, SeqCst);
                assert_eq!(paid.amount, PRICE);
                assert!(paid.payer.is_some() && paid.digest.len() == 64);
                format!("{GOODS}{body}")
            }
        };
        let price = paywall
            .price(PRICE)
            .description("goods")
            .mime_type("text/plain");
        let nested = Router::new()
            .route("/deep", get(sell.clone()))
            .route_layer(price.clone());
        let hide = move |mut response: Response| async move {
            for name in hidden {
                response.headers_mut().remove(*name);
            }
            response
        };
        let app = Router::new()
            .route("/a", get(sell.clone()).post(sell.clone()))
            .route("/b", get(sell.clone()))
            .route("/wild/{*rest}", get(sell))
            .route(
                "/broken",
                get(async || (StatusCode::BAD_GATEWAY, "it broke")),
            )
            .route_layer(price)
            .nest("/nested", nested)
            .route("/free", get(async || "free"))
            .layer(axum::middleware::map_response(hide));
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, served }
    }

    pub fn served(&self) -> usize {
        self.served.load(SeqCst)
    }

    pub fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }
}
