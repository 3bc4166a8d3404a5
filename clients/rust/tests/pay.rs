//! The client, against the real paywall and against servers that cheat.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use axum::{Router, routing::get};
use common::{Fake, GENESIS, GOODS, Mood, OPENED_SLOT, PRICE, Shop, http, serve, service, terms};
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Value, json};
use sluice_client::{
    Address,
    pay::{Client, Error, FnNonces, NonceError, NonceGrant, NonceRequest, Plan, Policy, Role},
    x402::{Network, SplitPayload, Version, from_header, to_header},
};
use sluice_sdk::{DEVNET_USDC, address};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

async fn plan(client: &Client, url: &str) -> Result<Plan, Error> {
    client.plan(Method::GET, url, HeaderMap::new(), "").await
}

/// A client whose nonces come from a closure that counts its calls. Nothing is signed without one.
fn counting(fake: &Fake) -> (Client, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = calls.clone();
    let nonces = FnNonces::new(move |request: NonceRequest| {
        let nonce = count.fetch_add(1, SeqCst) as u64;
        async move {
            let (nonce_account, _) = address::nonce_account(&request.payer, &request.mint);
            Ok(NonceGrant {
                nonce_account,
                opened_slot: OPENED_SLOT,
                lane: 1,
                nonce,
            })
        }
    });
    let client = Client::new(
        http(),
        fake.payer(),
        Arc::new(nonces),
        fake.state.payer.clone(),
    );
    (client, calls)
}

fn requirement() -> Value {
    json!({
        "scheme": "sluice-split",
        "network": Network::Devnet.caip2(),
        "amount": PRICE.to_string(),
        "asset": DEVNET_USDC.to_string(),
        "payTo": service().to_string(),
        "maxTimeoutSeconds": 60,
        "extra": terms(),
    })
}

/// A server that answers everything with a 402 for these offers.
async fn asking(accepts: Value) -> String {
    let required = json!({ "x402Version": 2, "resource": { "url": "u" }, "accepts": accepts });
    let header = to_header(&required).unwrap();
    let app = Router::new().route(
        "/",
        get(async move || {
            (
                StatusCode::PAYMENT_REQUIRED,
                [("payment-required", header)],
                "",
            )
        }),
    );
    serve(app).await
}

/// What the client says to one offer; it must say it before it asks for a nonce.
async fn refusal(requirement: Value) -> Error {
    let fake = Fake::start().await;
    let (client, calls) = counting(&fake);
    let url = asking(json!([requirement])).await;
    let error = plan(&client, &url).await.unwrap_err();
    assert_eq!(calls.load(SeqCst), 0);
    assert!(error.sent().is_none());
    error
}

async fn pays(shop: &Shop, fake: &Fake, version: Version) {
    let client = fake.client();
    let planned = plan(&client, &shop.at("/a?x=1&y=%20#part")).await.unwrap();
    assert_eq!(planned.version(), version);
    assert_eq!(planned.amount(), PRICE);
    assert_eq!(planned.service(), service());
    assert_eq!(planned.url(), shop.at("/a?x=1&y=%20"));
    assert_eq!(shop.served(), 0);

    let receipt = client.pay(planned).await.unwrap();
    assert_eq!(receipt.status, 200);
    assert_eq!(receipt.body, GOODS.as_bytes());
    assert!(receipt.content_type.unwrap().starts_with("text/plain"));
    assert_eq!(receipt.transaction, common::transaction());
    assert_eq!(receipt.index, Some(2));
    assert_eq!(receipt.batch_size, Some(4));
    assert_eq!(receipt.lamports_per_payment, Some(1_250));
    assert_eq!(receipt.amount, PRICE);
    assert_eq!(receipt.network, Network::Devnet);
    assert_eq!(receipt.service, service().to_string());
    assert!(receipt.split_reported);
    let legs: Vec<(Role, u64)> = receipt
        .split
        .iter()
        .map(|leg| (leg.role, leg.amount))
        .collect();
    // 50 bps; 100 bps and 20; 70 % and 30 % of the rest.
    let expected = [
        (Role::Treasury, 50),
        (Role::Facilitator, 120),
        (Role::Recipient, 6_881),
        (Role::Recipient, 2_949),
    ];
    assert_eq!(legs, expected);
    assert_eq!(
        receipt.split[2].owner.as_deref(),
        Some(&*terms().recipients[0].owner)
    );
    assert_eq!((fake.verifies(), fake.settles(), shop.served()), (1, 1, 1));
}

#[tokio::test]
async fn pays_a_version_2_server() {
    let fake = Fake::start().await;
    pays(&Shop::start(&fake).await, &fake, Version::V2).await;
}

#[tokio::test]
async fn pays_a_version_1_server() {
    let fake = Fake::start().await;
    pays(&Shop::start_v1(&fake).await, &fake, Version::V1).await;
}

#[tokio::test]
async fn pays_for_a_body_and_in_a_nested_router() {
    let fake = Fake::start().await;
    let shop = Shop::start(&fake).await;
    let client = fake.client();
    let post = client
        .plan(Method::POST, &shop.at("/a"), HeaderMap::new(), " and more")
        .await;
    let receipt = client.pay(post.unwrap()).await.unwrap();
    assert_eq!(receipt.body, format!("{GOODS} and more").as_bytes());
    let nested = plan(&client, &shop.at("/nested/deep?q")).await.unwrap();
    assert_eq!(client.pay(nested).await.unwrap().body, GOODS.as_bytes());
}

#[tokio::test]
async fn payments_at_once_have_different_nonces_and_all_land() {
    let fake = Fake::start().await;
    let shop = Shop::start(&fake).await;
    let client = fake.client();
    let url = shop.at("/a");
    let one = async || {
        client
            .pay(plan(&client, &url).await.unwrap())
            .await
            .unwrap()
    };
    let (a, b, c) = tokio::join!(one(), one(), one());
    assert!(a.digest != b.digest && b.digest != c.digest && a.digest != c.digest);
}

#[tokio::test]
async fn an_answer_without_a_price_is_handed_over() {
    let fake = Fake::start().await;
    let shop = Shop::start(&fake).await;
    let error = plan(&fake.client(), &shop.at("/free")).await.unwrap_err();
    let Error::NotAsked(answer) = error else {
        panic!("{error}")
    };
    assert_eq!((answer.status, answer.body), (200, b"free".to_vec()));
}

#[tokio::test]
async fn terms_that_are_not_those_of_the_hash_are_refused_before_signing() {
    let mut asked = requirement();
    asked["extra"]["recipients"][0]["owner"] = Address::new_from_array([99; 32]).to_string().into();
    let error = refusal(asked).await;
    assert!(matches!(error, Error::TermsMismatch(_)), "{error}");

    let mut asked = requirement();
    asked["extra"]["treasuryBps"] = 51.into();
    let error = refusal(asked).await;
    assert!(matches!(error, Error::TermsMismatch(_)), "{error}");
}

#[tokio::test]
async fn a_service_that_is_not_pay_to_is_refused() {
    let mut asked = requirement();
    asked["payTo"] = Address::new_from_array([99; 32]).to_string().into();
    let error = refusal(asked).await;
    assert!(matches!(error, Error::TermsMismatch(_)), "{error}");
    let mut asked = requirement();
    asked["extra"]["program"] = Address::new_from_array([99; 32]).to_string().into();
    let error = refusal(asked).await;
    assert!(matches!(error, Error::TermsMismatch(_)), "{error}");
}

#[tokio::test]
async fn an_amount_over_the_policy_is_refused() {
    let mut asked = requirement();
    asked["amount"] = "50001".into();
    let error = refusal(asked).await;
    let Error::OverPolicy { amount, limit, .. } = error else {
        panic!("{error}")
    };
    assert_eq!((amount, limit), (50_001, 50_000));
}

#[tokio::test]
async fn a_mint_that_the_policy_does_not_name_is_refused() {
    let fake = Fake::start().await;
    let shop = Shop::start(&fake).await;
    let mut payer = fake.payer();
    payer.policy = Policy::none().allow(service(), u64::MAX);
    let error = plan(&fake.client_of(payer), &shop.at("/a"))
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::OverPolicy { limit: 0, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn another_cluster_is_refused() {
    for network in ["solana", Network::Testnet.caip2(), "eip155:1"] {
        let mut asked = requirement();
        asked["network"] = network.into();
        let error = refusal(asked).await;
        assert!(
            matches!(
                error,
                Error::WrongCluster {
                    field: "network",
                    ..
                }
            ),
            "{error}"
        );
    }
    let mut asked = requirement();
    asked["extra"]["genesisHash"] = Address::new_from_array([8; 32]).to_string().into();
    let error = refusal(asked).await;
    assert!(
        matches!(
            error,
            Error::WrongCluster {
                field: "genesis hash",
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn a_server_without_the_scheme_is_told_by_what_it_offers() {
    let fake = Fake::start().await;
    let url = asking(json!([{ "scheme": "exact" }, { "scheme": "upto", "odd": 1 }])).await;
    let error = plan(&fake.client(), &url).await.unwrap_err();
    let Error::NoSplitOffer { schemes } = error else {
        panic!("{error}")
    };
    assert_eq!(schemes, ["exact", "upto"]);
}

#[tokio::test]
async fn the_first_offer_that_passes_is_taken() {
    let fake = Fake::start().await;
    let mut mainnet = requirement();
    mainnet["network"] = Network::Mainnet.caip2().into();
    let url = asking(json!([{ "scheme": "exact" }, mainnet, requirement()])).await;
    assert_eq!(plan(&fake.client(), &url).await.unwrap().amount(), PRICE);
}

#[tokio::test]
async fn amounts_and_times_that_make_no_sense_are_refused() {
    for amount in ["", "0", "-1", "+1", "1.5", "1e3", "18446744073709551616"] {
        let mut asked = requirement();
        asked["amount"] = amount.into();
        let error = refusal(asked).await;
        assert!(
            matches!(error, Error::BadServer { .. }),
            "{amount}: {error}"
        );
    }
    let mut asked = requirement();
    asked["maxTimeoutSeconds"] = 0.into();
    assert!(matches!(refusal(asked).await, Error::BadServer { .. }));
    let mut asked = requirement();
    asked["extra"] = Value::Null;
    assert!(matches!(refusal(asked).await, Error::BadServer { .. }));
}

#[tokio::test]
async fn a_402_that_is_none_is_a_bad_server() {
    let fake = Fake::start().await;
    let app = Router::new()
        .route(
            "/text",
            get(async || (StatusCode::PAYMENT_REQUIRED, "pay!")),
        )
        .route(
            "/header",
            get(async || {
                (
                    StatusCode::PAYMENT_REQUIRED,
                    [("payment-required", "%%%")],
                    "{}",
                )
            }),
        )
        .route(
            "/version",
            get(async || {
                (
                    StatusCode::PAYMENT_REQUIRED,
                    r#"{"x402Version":3,"accepts":[]}"#,
                )
            }),
        )
        .route(
            "/moved",
            get(async || (StatusCode::FOUND, [("location", "/text")], "")),
        );
    let url = serve(app).await;
    for path in ["/text", "/header", "/version"] {
        let error = plan(&fake.client(), &format!("{url}{path}"))
            .await
            .unwrap_err();
        assert!(matches!(error, Error::BadServer { .. }), "{path}: {error}");
    }
    let moved = plan(&fake.client(), &format!("{url}/moved"))
        .await
        .unwrap_err();
    assert!(matches!(moved, Error::NotAsked(_)), "{moved}");
}

#[tokio::test]
async fn a_payer_who_has_opened_nothing_is_told_how() {
    let fake = Fake::start().await;
    let shop = Shop::start(&fake).await;
    fake.mood(Mood::NotOpened);
    let client = fake.client();
    let error = client
        .pay(plan(&client, &shop.at("/a")).await.unwrap())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::NotOpened { .. }), "{error}");
    assert!(error.to_string().contains("sluice payer open"));
    assert_eq!(fake.verifies(), 0);
}

#[tokio::test]
async fn a_key_without_a_lane_is_told_so() {
    let fake = Fake::start().await;
    let shop = Shop::start(&fake).await;
    let stranger = Arc::new(solana_keypair::Keypair::new());
    let nonces = sluice_client::pay::FacilitatorNonces::new(fake.facilitator());
    let client = Client::new(http(), fake.payer(), Arc::new(nonces), stranger);
    let error = client
        .pay(plan(&client, &shop.at("/a")).await.unwrap())
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::Nonce(NonceError::NoLane { .. })),
        "{error}"
    );
}

#[tokio::test]
async fn a_nonce_account_that_is_not_the_payers_is_refused() {
    let fake = Fake::start().await;
    let shop = Shop::start(&fake).await;
    let nonces = FnNonces::new(|_| async {
        let nonce_account = Address::new_from_array([9; 32]);
        Ok(NonceGrant {
            nonce_account,
            opened_slot: 1,
            lane: 0,
            nonce: 0,
        })
    });
    let client = Client::new(
        http(),
        fake.payer(),
        Arc::new(nonces),
        fake.state.payer.clone(),
    );
    let error = client
        .pay(plan(&client, &shop.at("/a")).await.unwrap())
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::Nonce(NonceError::ForeignAccount { .. })),
        "{error}"
    );
}

#[tokio::test]
async fn the_callers_clock_sets_the_expiry() {
    let fake = Fake::start().await;
    let shop = Shop::start(&fake).await;
    let client = fake.client().with_clock(|| 1_000);
    let sent = client
        .sign(plan(&client, &shop.at("/a")).await.unwrap())
        .await
        .unwrap();
    assert_eq!(sent.expires_at(), 1_050);
    assert_eq!(sent.intent().intent.genesis_hash, GENESIS);
    let error = client.send(&sent).await.unwrap_err();
    let Error::Rejected { reason, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(reason, "invalid_sluice_split_expired");
    assert_eq!(error.digest(), Some(sent.digest()));
}

#[tokio::test]
async fn debug_shows_neither_signature_nor_headers() {
    let fake = Fake::start().await;
    let shop = Shop::start(&fake).await;
    let client = fake.client();
    let mut headers = HeaderMap::new();
    headers.insert("authorization", "Bearer hush".parse().unwrap());
    let planned = client
        .plan(Method::GET, &shop.at("/a"), headers, "secret")
        .await
        .unwrap();
    let sent = client.sign(planned).await.unwrap();
    let text = format!("{sent:?} {client:?}");
    let signature = SplitPayload::of_intent(sent.intent()).signature;
    for secret in ["hush", "secret", &signature] {
        assert!(!text.contains(secret), "{text}");
    }
}

/// A server that asks for payment, and cuts the first `cuts` connections that carry one. It keeps the
/// payments that it sees, and answers later ones with `then`.
async fn cutting(
    cuts: usize,
    then: impl Fn(&str) -> String + Send + 'static,
) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let payments = seen.clone();
    let required =
        json!({ "x402Version": 2, "resource": {"url": "u"}, "accepts": [requirement()] });
    let required = to_header(&required).unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut text = Vec::new();
            while !text.windows(4).any(|end| end == b"\r\n\r\n") {
                let mut part = [0u8; 4096];
                let n = stream.read(&mut part).await.unwrap();
                text.extend_from_slice(&part[..n]);
            }
            let text = String::from_utf8(text).unwrap();
            let payment = text
                .lines()
                .find_map(|line| line.strip_prefix("payment-signature: "));
            let answer = match payment {
                None => format!(
                    "HTTP/1.1 402 Payment Required\r\npayment-required: {required}\r\n\
                     content-length: 0\r\nconnection: close\r\n\r\n"
                ),
                Some(payment) => {
                    let mut seen = payments.lock().unwrap();
                    seen.push(payment.to_owned());
                    if seen.len() <= cuts {
                        continue;
                    }
                    then(payment)
                }
            };
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (url, seen)
}

/// The digest of a payment in a header, as a server finds it.
fn digest_of(payment: &str) -> String {
    let payment: Value = from_header(payment).unwrap();
    let payload: SplitPayload = serde_json::from_value(payment["payload"].clone()).unwrap();
    let hash = terms().checked_terms_hash(&DEVNET_USDC).unwrap();
    let signed = payload.to_intent(GENESIS, service(), hash, PRICE).unwrap();
    hex::encode(signed.intent.digest())
}

fn settled(digest: &str, more: &str) -> String {
    let header = to_header(&json!({
        "success": true,
        "transaction": common::transaction(),
        "network": Network::Devnet.caip2(),
        "extra": { "digest": digest },
    }))
    .unwrap();
    format!("HTTP/1.1 200 OK\r\npayment-response: {header}\r\nconnection: close\r\n{more}")
}

#[tokio::test]
async fn a_connection_that_is_cut_leaves_the_outcome_unknown_and_retry_sends_the_same() {
    let fake = Fake::start().await;
    let (client, calls) = counting(&fake);
    let then = "HTTP/1.1 500 Oops\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let (url, seen) = cutting(1, move |_| then.into()).await;
    let error = client
        .pay(plan(&client, &url).await.unwrap())
        .await
        .unwrap_err();
    let Error::Unknown { sent, answer, .. } = &error else {
        panic!("{error}")
    };
    assert!(answer.is_none());
    let digest = hex::encode(sent.intent().intent.digest());
    assert_eq!(error.digest(), Some(&*digest));
    let text = error.to_string();
    assert!(text.starts_with("unknown: "), "{text}");
    assert!(
        text.contains(&format!("GET /v1/intents/{digest}")),
        "{text}"
    );
    assert!(!text.contains("fail"), "{text}");

    // A 500 without a settlement says as little.
    let again = client.retry(sent).await.unwrap_err();
    assert!(
        matches!(
            again,
            Error::Unknown {
                answer: Some(_),
                ..
            }
        ),
        "{again}"
    );
    assert_eq!(again.digest(), Some(&*digest));
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0], seen[1], "the same bytes, not a new signature");
    assert_eq!(calls.load(SeqCst), 1, "one nonce for one call");
}

#[tokio::test]
async fn a_settlement_of_another_payment_proves_nothing() {
    let fake = Fake::start().await;
    let (client, _) = counting(&fake);
    let (url, _) = cutting(0, |_| {
        settled(&"0".repeat(64), "content-length: 2\r\n\r\nhi")
    })
    .await;
    let error = client
        .pay(plan(&client, &url).await.unwrap())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Unknown { .. }), "{error}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_after_settlement_is_not_unknown() {
    let fake = Fake::start().await;
    let (client, _) = counting(&fake);
    let (url, _) = cutting(0, |payment| {
        settled(&digest_of(payment), "content-length: 100\r\n\r\nhi")
    })
    .await;
    let error = client
        .pay(plan(&client, &url).await.unwrap())
        .await
        .unwrap_err();
    let Error::AnswerLost { receipt, sent, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(receipt.digest, sent.digest());
    assert_eq!(receipt.transaction, common::transaction());
}

#[tokio::test]
async fn a_receipt_without_a_split_takes_it_from_the_terms() {
    let fake = Fake::start().await;
    let (client, _) = counting(&fake);
    let (url, _) = cutting(0, |payment| {
        settled(&digest_of(payment), "content-length: 2\r\n\r\nhi")
    })
    .await;
    let receipt = client
        .pay(plan(&client, &url).await.unwrap())
        .await
        .unwrap();
    assert!(!receipt.split_reported);
    assert_eq!(receipt.batch_size, None);
    assert_eq!(
        receipt.split.iter().map(|leg| leg.amount).sum::<u64>(),
        PRICE
    );
    assert_eq!(receipt.split.len(), 4);
}

#[tokio::test]
async fn what_the_paywall_answers_becomes_a_typed_error() {
    let fake = Fake::start().await;
    let shop = Shop::start(&fake).await;
    let client = fake.client();
    let mut last = None;
    let cases = [
        (Mood::Duplicate, "settled before"),
        (Mood::PendingAlways, "still settling"),
        (Mood::SettleDown, "503"),
        (Mood::VerifyDown, "503"),
    ];
    for (mood, words) in cases {
        fake.mood(mood);
        let error = client
            .pay(plan(&client, &shop.at("/a")).await.unwrap())
            .await
            .unwrap_err();
        assert!(error.to_string().contains(words), "{mood:?}: {error}");
        let fits = match mood {
            Mood::Duplicate => matches!(error, Error::AlreadySettled { .. }),
            _ => matches!(error, Error::Unknown { .. }),
        };
        assert!(fits, "{mood:?}: {error:?}");
        last = error.sent().cloned();
    }
    // The facilitator is back: the same payment is served.
    fake.mood(Mood::Honest);
    let sent = last.unwrap();
    let receipt = client.retry(&sent).await.unwrap();
    assert_eq!(receipt.digest, sent.digest());
    // And buys nothing more.
    let error = client.retry(&sent).await.unwrap_err();
    assert!(matches!(error, Error::AlreadySettled { .. }), "{error}");
}

#[tokio::test]
async fn a_payment_header_of_the_callers_is_not_sent() {
    let fake = Fake::start().await;
    let shop = Shop::start(&fake).await;
    let client = fake.client();
    let mut headers = HeaderMap::new();
    headers.insert("payment-signature", "old".parse().unwrap());
    headers.insert("x-payment", "old".parse().unwrap());
    let planned = client
        .plan(Method::GET, &shop.at("/a"), headers, "")
        .await
        .unwrap();
    assert_eq!(client.pay(planned).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_receipt_is_written_with_amounts_as_text() {
    let fake = Fake::start().await;
    let shop = Shop::start(&fake).await;
    let client = fake.client();
    let receipt = client
        .pay(plan(&client, &shop.at("/a")).await.unwrap())
        .await
        .unwrap();
    let json = serde_json::to_value(&receipt).unwrap();
    assert_eq!(json["amount"], "10000");
    assert_eq!(json["split"][0]["amount"], "50");
    assert_eq!(json["split"][0]["role"], "treasury");
    assert_eq!(json["lamportsPerPayment"], 1_250);
    assert!(json.get("body").is_none());
    let _: Value = from_header(&to_header(&json).unwrap()).unwrap();
}
