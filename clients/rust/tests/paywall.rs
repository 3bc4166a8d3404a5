//! The paywall, against clients that cheat and facilitators that do not answer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use common::{Fake, GOODS, Mood, PRICE, Shop, http, service};
use http::{HeaderMap, Method};
use serde_json::{Value, json};
use sluice_client::{
    paywall::{Paywall, PaywallError, RESOURCE_MISMATCH},
    x402::{
        PaymentRequiredV1, PaymentRequiredV2, SettleResponse, SplitPayload, Version, from_header,
        to_header,
    },
};
use sluice_sdk::DEVNET_USDC;

/// A payment for `GET url`, as a header's value, made by the real client's signature.
async fn payment(fake: &Fake, shop: &Shop, path: &str) -> (String, String) {
    let client = fake.client();
    let plan = client
        .plan(Method::GET, &shop.at(path), HeaderMap::new(), "")
        .await
        .unwrap();
    let sent = client.sign(plan).await.unwrap();
    let response = http().get(shop.at(path)).send().await.unwrap();
    let required: Value =
        from_header(response.headers()["payment-required"].to_str().unwrap()).unwrap();
    let payload = json!({
        "x402Version": 2,
        "resource": required["resource"],
        "accepted": required["accepts"][0],
        "payload": SplitPayload::of_intent(sent.intent()),
    });
    (to_header(&payload).unwrap(), sent.digest().to_owned())
}

struct Got {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Got {
    /// The reason in the 402's header, which must be that of its body too.
    fn reason(&self) -> String {
        assert_eq!(self.status, 402, "{}", self.body);
        let header = self.headers["payment-required"].to_str().unwrap();
        let v2: PaymentRequiredV2 = from_header(header).unwrap();
        let v1: PaymentRequiredV1 = serde_json::from_str(&self.body).unwrap();
        assert_eq!(v2.error.as_ref(), Some(&v1.error));
        v1.error
    }

    fn settlement(&self) -> SettleResponse {
        from_header(self.headers["payment-response"].to_str().unwrap()).unwrap()
    }
}

async fn send(request: reqwest::RequestBuilder) -> Got {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    let body = response.text().await.unwrap();
    Got {
        status,
        headers,
        body,
    }
}

async fn pay_at(shop: &Shop, path: &str, header: &str) -> Got {
    send(
        http()
            .get(shop.at(path))
            .header("PAYMENT-SIGNATURE", header),
    )
    .await
}

#[tokio::test]
async fn without_payment_both_versions_are_asked_at_once() {
    let fake = Fake::start().await;
    let shop = Shop::start(&fake).await;
    let got = send(http().get(shop.at("/a?q=1"))).await;
    assert_eq!(got.reason(), "payment_required");
    assert_eq!(got.headers["cache-control"], "no-store");
    let v2: PaymentRequiredV2 =
        from_header(got.headers["payment-required"].to_str().unwrap()).unwrap();
    assert_eq!(v2.x402_version, Version::V2);
    assert_eq!(v2.resource.url, shop.at("/a?q=1"));
    assert_eq!(v2.resource.description.as_deref(), Some("goods"));
    assert_eq!(v2.accepts[0].amount, PRICE.to_string());
    assert_eq!(
        v2.accepts[0].max_timeout_seconds, 60,
        "no longer than the program allows"
    );
    assert_eq!(v2.accepts[0].pay_to, service().to_string());
    let v1: PaymentRequiredV1 = serde_json::from_str(&got.body).unwrap();
    assert_eq!(v1.x402_version, Version::V1);
    assert_eq!(v1.accepts[0].network, "solana-devnet");
    assert_eq!(v1.accepts[0].resource, shop.at("/a?q=1"));
    assert_eq!(v1.accepts[0].asset, DEVNET_USDC.to_string());
    assert_eq!((fake.verifies(), shop.served()), (0, 0));
}

#[tokio::test]
async fn a_payment_for_one_resource_buys_no_other() {
    let fake = Fake::start().await;
    let shop = Shop::start(&fake).await;
    let (header, _) = payment(&fake, &shop, "/a").await;
    let elsewhere = ["/b", "/a?x=1", "/a?", "/wild/../a"];
    for path in elsewhere {
        // The URL type of the HTTP client would resolve the dots, so the request is written by hand.
        let got = raw_get(&shop, path, &header).await;
        assert!(got.contains(" 402 "), "{path}: {got}");
        assert!(got.contains(RESOURCE_MISMATCH), "{path}: {got}");
    }
    let post = http()
        .post(shop.at("/a"))
        .header("PAYMENT-SIGNATURE", &header);
    assert_eq!(send(post).await.reason(), RESOURCE_MISMATCH);
    let body = http()
        .get(shop.at("/a"))
        .header("PAYMENT-SIGNATURE", &header)
        .body("b");
    assert_eq!(send(body).await.reason(), RESOURCE_MISMATCH);
    assert_eq!((fake.verifies(), fake.settles(), shop.served()), (0, 0, 0));
    // It is still good for what it was signed for, whatever Host the request names.
    let host = http().get(shop.at("/a")).header("host", "other.example");
    let got = send(host.header("PAYMENT-SIGNATURE", &header)).await;
    assert_eq!((got.status, &*got.body), (200, GOODS));
}

async fn raw_get(shop: &Shop, path: &str, header: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let host = shop.url.trim_start_matches("http://");
    let mut stream = tokio::net::TcpStream::connect(host).await.unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: {host}\r\npayment-signature: {header}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_facilitator_that_is_down_releases_nothing() {
    let fake = Fake::start().await;
    let shop = Shop::start(&fake).await;
    let (header, digest) = payment(&fake, &shop, "/a").await;

    fake.mood(Mood::VerifyDown);
    let got = pay_at(&shop, "/a", &header).await;
    assert_eq!(
        (got.status, &got.headers["retry-after"]),
        (503, &"7".parse().unwrap())
    );
    assert_eq!(shop.served(), 0);

    for mood in [
        Mood::SettleDown,
        Mood::SettleGarbage,
        Mood::OtherDigest,
        Mood::NoDigest,
    ] {
        let (header, digest) = payment(&fake, &shop, "/a").await;
        fake.mood(mood);
        let got = pay_at(&shop, "/a", &header).await;
        assert_eq!(got.status, 503, "{mood:?}");
        assert!(got.headers.contains_key("retry-after"));
        assert!(!got.body.contains(GOODS), "{mood:?}");
        assert!(got.body.contains(&digest), "{mood:?}: {}", got.body);
        fake.mood(Mood::Honest);
    }
    assert_eq!(
        shop.served(),
        4,
        "the handler ran, and its answers stayed inside"
    );

    // The first payment was never settled: sent again, it is served.
    let got = pay_at(&shop, "/a", &header).await;
    assert_eq!((got.status, &*got.body), (200, GOODS));
    assert_eq!(got.settlement().extra.unwrap()["digest"], digest);
    assert_eq!(got.headers["cache-control"], "private");
}

#[tokio::test]
async fn a_facilitator_that_is_gone_releases_nothing() {
    let fake = Fake::start().await;
    let shop = Shop::start(&fake).await;
    let (header, _) = payment(&fake, &shop, "/a").await;
    fake.stop().await;
    let got = pay_at(&shop, "/a", &header).await;
    assert_eq!(got.status, 503, "{}", got.body);
    assert!(got.headers.contains_key("retry-after"));
    assert_eq!(shop.served(), 0);
    // Who has not paid is still told the price.
    assert_eq!(
        send(http().get(shop.at("/a"))).await.reason(),
        "payment_required"
    );
    let wall = Paywall::builder(&fake.url, service(), &shop.url)
        .facilitator(fake.facilitator())
        .connect()
        .await;
    assert!(
        matches!(wall, Err(PaywallError::Facilitator(_))),
        "{wall:?}"
    );
}

#[tokio::test]
async fn a_duplicate_is_402_and_releases_nothing() {
    let fake = Fake::start().await;
    let shop = Shop::start(&fake).await;
    let (header, _) = payment(&fake, &shop, "/a").await;
    fake.mood(Mood::Duplicate);
    let got = pay_at(&shop, "/a", &header).await;
    assert_eq!(got.reason(), "duplicate_settlement");
    assert!(!got.body.contains(GOODS));
    let settlement = got.settlement();
    assert!(!settlement.success);
    assert_eq!(
        settlement.error_reason.as_deref(),
        Some("duplicate_settlement")
    );
    assert_eq!((fake.settles(), shop.served()), (1, 1));
}

#[tokio::test]
async fn one_payment_is_answered_once_however_often_it_is_sent() {
    let fake = Fake::start().await;
    let shop = Shop::start(&fake).await;
    let (header, _) = payment(&fake, &shop, "/a").await;
    let one = || pay_at(&shop, "/a", &header);
    let (a, b, c, d) = tokio::join!(one(), one(), one(), one());
    let sold = [a, b, c, d]
        .iter()
        .filter(|got| got.body.contains(GOODS))
        .count();
    assert_eq!(sold, 1);
}

#[tokio::test]
async fn pending_is_asked_once_more_with_the_same_body() {
    let fake = Fake::start().await;
    let shop = Shop::start(&fake).await;
    let (header, _) = payment(&fake, &shop, "/a").await;
    fake.mood(Mood::PendingOnce);
    let got = pay_at(&shop, "/a", &header).await;
    assert_eq!((got.status, &*got.body), (200, GOODS));
    assert_eq!(fake.settles(), 2);
    let bodies = fake.state.settle_bodies.lock().unwrap().clone();
    assert_eq!(bodies[0], bodies[1]);

    let (header, _) = payment(&fake, &shop, "/a").await;
    fake.mood(Mood::PendingAlways);
    let got = pay_at(&shop, "/a", &header).await;
    assert_eq!(got.reason(), "settlement_pending");
    assert_eq!(
        got.settlement().error_reason.as_deref(),
        Some("settlement_pending")
    );
    assert_eq!(fake.settles(), 4);
}

#[tokio::test]
async fn a_handler_that_fails_charges_nothing() {
    let fake = Fake::start().await;
    let shop = Shop::start(&fake).await;
    let (header, _) = payment(&fake, &shop, "/broken").await;
    let got = pay_at(&shop, "/broken", &header).await;
    assert_eq!((got.status, &*got.body), (502, "it broke"));
    assert!(!got.headers.contains_key("payment-response"));
    assert_eq!((fake.verifies(), fake.settles()), (1, 0));
}

#[tokio::test]
async fn payments_that_cannot_be_read_are_402_with_a_reason() {
    let fake = Fake::start().await;
    let shop = Shop::start(&fake).await;
    let json = |value: Value| STANDARD.encode(value.to_string());
    let split = json!({ "scheme": "sluice-split" });
    let cases = [
        (
            "PAYMENT-SIGNATURE",
            "not base64!".to_owned(),
            "invalid_payload",
        ),
        ("X-PAYMENT", "%%%".to_owned(), "invalid_payload"),
        ("PAYMENT-SIGNATURE", STANDARD.encode("{"), "invalid_payload"),
        (
            "PAYMENT-SIGNATURE",
            STANDARD.encode([0xff, 0xfe]),
            "invalid_payload",
        ),
        ("PAYMENT-SIGNATURE", json(json!([])), "invalid_x402_version"),
        (
            "PAYMENT-SIGNATURE",
            json(json!({ "x402Version": 1 })),
            "invalid_x402_version",
        ),
        (
            "X-PAYMENT",
            json(json!({ "x402Version": 2 })),
            "invalid_x402_version",
        ),
        (
            "X-PAYMENT",
            json(json!({ "x402Version": 1, "scheme": "exact" })),
            "unsupported_scheme",
        ),
        (
            "PAYMENT-SIGNATURE",
            json(json!({ "x402Version": 2, "accepted": split, "payload": { "nonce": 1 } })),
            "invalid_payload",
        ),
    ];
    for (name, value, reason) in cases {
        let got = send(http().get(shop.at("/a")).header(name, &value)).await;
        assert_eq!(got.reason(), reason, "{name}: {value}");
    }
    assert_eq!((fake.verifies(), shop.served()), (0, 0));
}

#[tokio::test]
async fn a_payment_for_other_requirements_is_refused() {
    let fake = Fake::start().await;
    let shop = Shop::start(&fake).await;
    let (header, _) = payment(&fake, &shop, "/a").await;
    let mut value: Value = from_header(&header).unwrap();
    value["accepted"]["amount"] = "1".into();
    let got = pay_at(&shop, "/a", &to_header(&value).unwrap()).await;
    assert_eq!(got.reason(), "invalid_payment_requirements");
    assert_eq!(fake.verifies(), 0);
}

#[tokio::test]
async fn a_forged_signature_is_refused_by_the_facilitator() {
    let fake = Fake::start().await;
    let shop = Shop::start(&fake).await;
    let (header, _) = payment(&fake, &shop, "/a").await;
    let mut value: Value = from_header(&header).unwrap();
    value["payload"]["nonce"] = "6".into();
    let got = pay_at(&shop, "/a", &to_header(&value).unwrap()).await;
    assert_eq!(got.reason(), "invalid_sluice_split_bad_signature");
    assert_eq!((fake.verifies(), fake.settles(), shop.served()), (1, 0, 0));
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_unpaid() {
    let fake = Fake::start().await;
    let shop = Shop::start(&fake).await;
    let (header, _) = payment(&fake, &shop, "/a").await;
    let request = http()
        .post(shop.at("/a"))
        .header("PAYMENT-SIGNATURE", &header);
    let got = send(request.body("x".repeat(1_001))).await;
    assert_eq!(got.status, 413);
    assert_eq!((fake.verifies(), shop.served()), (0, 0));
}

#[tokio::test]
async fn a_service_whose_terms_do_not_fit_is_not_sold_through() {
    let fake = Fake::start().await;
    fake.state.terms.lock().unwrap().treasury_bps = 51;
    let wall = Paywall::builder("http://unused.test", service(), "https://shop.test")
        .facilitator(fake.facilitator())
        .connect()
        .await;
    assert!(matches!(wall, Err(PaywallError::BadService(_))), "{wall:?}");
    let other = Paywall::builder(&fake.url, DEVNET_USDC, "https://shop.test")
        .facilitator(fake.facilitator())
        .connect()
        .await;
    assert!(
        matches!(other, Err(PaywallError::Facilitator(_))),
        "{other:?}"
    );
    let base = Paywall::connect(&fake.url, service(), "shop").await;
    assert!(
        matches!(base, Err(PaywallError::BadBase { .. })),
        "{base:?}"
    );
}

#[tokio::test]
async fn a_service_whose_terms_change_is_sold_under_the_new_ones() {
    let fake = Fake::start().await;
    let shop = Shop::start_fresh(&fake).await;
    let (header, _) = payment(&fake, &shop, "/a").await;
    {
        let mut terms = fake.state.terms.lock().unwrap();
        terms.treasury_bps = 60;
        terms.terms_hash = hex::encode(terms.compute_terms_hash(&DEVNET_USDC).unwrap());
    }
    // What was signed under the old terms is not charged under the new ones.
    let got = pay_at(&shop, "/a", &header).await;
    assert_eq!(got.reason(), "invalid_sluice_split_bad_signature");
    assert_eq!((fake.settles(), shop.served()), (0, 0));
    let (header, _) = payment(&fake, &shop, "/a").await;
    assert_eq!(pay_at(&shop, "/a", &header).await.body, GOODS);
}

#[tokio::test]
async fn a_client_that_hangs_up_does_not_stop_a_settlement() {
    let fake = Fake::start().await;
    let shop = Shop::start(&fake).await;
    let (header, _) = payment(&fake, &shop, "/a").await;
    fake.mood(Mood::SlowSettle);
    let request = http()
        .get(shop.at("/a"))
        .header("PAYMENT-SIGNATURE", &header);
    let hung_up = request
        .timeout(std::time::Duration::from_millis(300))
        .send()
        .await;
    assert!(hung_up.is_err());
    for _ in 0..100 {
        if fake.settled() == 1 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the settlement was dropped with the connection");
}
