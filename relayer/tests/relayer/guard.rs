//! Limits, keys, budgets and connections: what abusive callers get, and that the others do not notice.

use std::{sync::Arc, time::Duration};

use reqwest::{RequestBuilder, Response, StatusCode, header::HeaderMap};
use serde_json::{Value, json};
use sluice_intent::Skip;
use sluice_sdk::{DEVNET_USDC, x402::SettleResponse};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    exact::stock_body,
    fake::Fate,
    http::{PATIENT, QUICK, World, invalid, reason},
    load::crowd,
    postgres::{Store, on_both},
    scene::{Scene, merchant, payer},
};

on_both! {
    a18_a_payer_who_revokes_after_verify_is_left_alone_for_a_while
    what_failed_counts_after_a_restart
    failures_with_a_key_are_the_keys_and_survive_a_restart
    transfers_are_guarded_as_well
}

/// An answer that is no verdict: status, word, and the seconds to wait.
async fn refused(response: Response) -> (u16, String, Option<u64>) {
    let status = response.status().as_u16();
    let wait = response.headers().get("retry-after").cloned();
    let wait = wait.map(|wait| wait.to_str().unwrap().parse().unwrap());
    let body: Value = response.json().await.unwrap();
    assert!(body["message"].is_string(), "{body}");
    assert_eq!(body["retriable"], wait.is_some(), "{body}");
    (status, body["error"].as_str().unwrap().to_owned(), wait)
}

/// That it is a 429 with this word and a time to wait.
async fn limited(response: Response, word: &str) -> u64 {
    let (status, said, wait) = refused(response).await;
    assert_eq!((status, said.as_str()), (429, word));
    wait.filter(|wait| *wait >= 1).unwrap()
}

impl World {
    fn request(&self, path: &str, body: &Value) -> RequestBuilder {
        let url = format!("{}{path}", self.relayer.url());
        self.client.post(url).body(body.to_string())
    }

    async fn raw(&self) -> TcpStream {
        TcpStream::connect(self.relayer.address()).await.unwrap()
    }

    /// The head of a request for `/verify` with so many bytes to come.
    fn head(&self, length: usize) -> String {
        format!(
            "POST /verify HTTP/1.1\r\nhost: {}\r\ncontent-length: {length}\r\n\r\n",
            self.relayer.address()
        )
    }
}

/// Everything until the other side is done.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset is an end as well.
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn a28_an_address_is_limited_whatever_else_a_caller_changes() {
    let guard = "guard = { rates = { ip = { per_minute = 1, burst = 5 } } }";
    let world = World::with(Scene::default(), &format!("{QUICK}\n{guard}")).await;
    for nonce in 0..5 {
        // Another payment, another key, another address that it claims to have: another caller only by its own word.
        let answer = world
            .request("/verify", &world.body(nonce))
            .header("x-forwarded-for", format!("9.9.9.{nonce}"))
            .header("x-api-key", format!("made-up-key-number-{nonce}"))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
    }
    let answer = world
        .request("/verify", &world.body(6))
        .header("x-forwarded-for", "9.9.9.6")
        .send()
        .await
        .unwrap();
    let wait = limited(answer, "ip_rate_limited").await;
    assert!(wait <= 60, "{wait}");
    for path in ["/supported", "/ready", "/nowhere"] {
        limited(world.get(path).await, "ip_rate_limited").await;
    }
    assert_eq!(world.get("/health").await.status(), StatusCode::OK);
    assert!(world.chain.state().sent.is_empty());
}

#[tokio::test]
async fn a28_behind_a_trusted_proxy_every_client_is_its_own() {
    let guard = "guard = { trusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"], \
                 rates = { ip = { per_minute = 1, burst = 2 } } }";
    let world = World::with(Scene::default(), &format!("{QUICK}\n{guard}")).await;
    let ask = async |forwarded: String| {
        world
            .request("/verify", &world.body(1))
            .header("x-forwarded-for", forwarded)
            .send()
            .await
            .unwrap()
    };
    for client in 0..4 {
        for lie in 0..2 {
            let answer = ask(format!("6.6.6.{lie}, 9.9.9.{client}, 10.0.0.1")).await;
            assert_eq!(answer.status(), StatusCode::OK);
        }
        let answer = ask(format!("6.6.6.6, 9.9.9.{client}, 10.0.0.1")).await;
        limited(answer, "ip_rate_limited").await;
    }
    // An owner of a /64 has as many addresses as they like.
    for host in 0..2 {
        let answer = ask(format!("2a00:1:2:3::{host}")).await;
        assert_eq!(answer.status(), StatusCode::OK);
    }
    limited(ask("2a00:1:2:3::7".to_owned()).await, "ip_rate_limited").await;
    let answer = ask("2a00:1:2:4::7".to_owned()).await;
    assert_eq!(answer.status(), StatusCode::OK);
}

const SHOP: &str = "shop-key-0123456789";
const CAFE: &str = "cafe-key-0123456789";

/// Keys of a shop, a cafe that may ask twice a minute, and one from the environment.
fn keys(dir: &TempDir) -> String {
    let path = |name: &str, key: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, format!("{key}\n")).unwrap();
        path.display().to_string()
    };
    format!(
        "{{ name = \"shop\", file = \"{}\" }}, \
         {{ name = \"cafe\", file = \"{}\", rate = {{ per_minute = 1, burst = 2 }} }}, \
         {{ name = \"cargo\", env = \"CARGO_MANIFEST_DIR\" }}",
        path("shop", SHOP),
        path("cafe", CAFE)
    )
}

#[tokio::test]
async fn where_there_are_keys_a_caller_needs_one() {
    let dir = TempDir::new().unwrap();
    let guard = format!("guard = {{ api_keys = [{}] }}", keys(&dir));
    let world = World::with(Scene::default(), &format!("{QUICK}\n{guard}")).await;
    let body = world.body(1);
    for path in ["/health", "/ready", "/supported"] {
        assert_eq!(world.get(path).await.status(), StatusCode::OK, "{path}");
    }
    for path in ["/verify", "/settle"] {
        let response = world.request(path, &body).send().await.unwrap();
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
        let (status, word, _) = refused(response).await;
        assert_eq!((status, word.as_str()), (401, "api_key_missing"));
    }
    let payers = format!("/v1/payers/{}?mint={DEVNET_USDC}", payer());
    for path in [&payers, "/v1/payments", "/v1/intents/00", "/v1/services/x"] {
        let (status, _, _) = refused(world.get(path).await).await;
        assert_eq!(status, 401, "{path}");
    }
    let near = SHOP.replace('9', "8");
    for wrong in ["", "x", &near, &SHOP[1..], &format!("{SHOP}x"), "é"] {
        let header = reqwest::header::HeaderValue::from_bytes(wrong.as_bytes()).unwrap();
        let request = world.request("/settle", &body).header("x-api-key", header);
        let (status, word, _) = refused(request.send().await.unwrap()).await;
        assert_eq!(status, 401, "{wrong:?}");
        assert!(word.starts_with("api_key_"), "{word}");
    }
    assert!(world.chain.state().sent.is_empty());

    let bearer = world.request("/verify", &body).bearer_auth(SHOP);
    assert_eq!(bearer.send().await.unwrap().status(), StatusCode::OK);
    let header = world.request("/verify", &body).header("X-API-Key", SHOP);
    assert_eq!(header.send().await.unwrap().status(), StatusCode::OK);
    let from_env = world
        .request("/settle", &body)
        .bearer_auth(std::env::var("CARGO_MANIFEST_DIR").unwrap());
    let paid: SettleResponse = from_env.send().await.unwrap().json().await.unwrap();
    assert!(paid.success, "{paid:?}");

    // The cafe has its own limit, and the shop none.
    for _ in 0..2 {
        let request = world.request("/verify", &body).bearer_auth(CAFE);
        assert_eq!(request.send().await.unwrap().status(), StatusCode::OK);
    }
    let request = world.request("/verify", &body).bearer_auth(CAFE);
    limited(request.send().await.unwrap(), "api_key_rate_limited").await;
    for _ in 0..5 {
        let request = world.request("/verify", &body).bearer_auth(SHOP);
        assert_eq!(request.send().await.unwrap().status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn a_key_that_cannot_be_used_stops_the_start_and_is_not_repeated() {
    use crate::{fake::FakeChain, http::start};
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("key");
    let start = async |keys: &str| {
        let scene = Scene::default();
        let chain = Arc::new(FakeChain::new(&scene));
        let guard = format!("guard = {{ api_keys = [{keys}] }}");
        match start(&Store::sqlite(), &chain, &scene, &guard).await {
            Ok(_) => panic!("started"),
            Err(error) => format!("{error} {error:?}"),
        }
    };
    let file = format!("file = \"{}\"", path.display());
    let error = start(&format!("{{ name = \"a\", {file} }}")).await;
    assert!(
        error.contains("\\\"a\\\"") && error.contains("cannot be read"),
        "{error}"
    );
    std::fs::write(&path, "hush").unwrap();
    let error = start(&format!("{{ name = \"a\", {file} }}")).await;
    assert!(error.contains("16 characters"), "{error}");
    assert!(!error.contains("hush"), "{error}");
    std::fs::write(&path, "hush-hush-hush-hush").unwrap();
    let error = start(&format!(
        "{{ name = \"a\", {file} }}, {{ name = \"b\", {file} }}"
    ))
    .await;
    assert!(error.contains("same key"), "{error}");
    assert!(!error.contains("hush"), "{error}");
    let error = start("{ name = \"a\", env = \"SLUICE_TEST_NO_SUCH_VARIABLE\" }").await;
    assert!(error.contains("SLUICE_TEST_NO_SUCH_VARIABLE"), "{error}");
}

#[tokio::test]
async fn a_payer_s_rate_is_used_up_by_nobody_but_the_payer() {
    let guard = "guard = { rates = { payer = { per_minute = 1, burst = 3 } } }";
    let world = World::with(crowd(), &format!("{QUICK}\n{guard}")).await;
    // Anybody can name a nonce account.
    for nonce in 0..10 {
        let mut body = world.body(nonce);
        let signature = &mut body["paymentPayload"]["payload"]["signature"];
        let other = world.body(nonce + 50);
        *signature = other["paymentPayload"]["payload"]["signature"].clone();
        assert_eq!(
            invalid(&world.verify(&body).await),
            "invalid_sluice_split_bad_signature"
        );
    }
    for nonce in 0..3 {
        assert!(world.verify(&world.body(nonce)).await.is_valid);
    }
    let post = async |path: &str, payer, nonce| {
        let body = world.scene.body(world.scene.intent_of(payer, nonce));
        world.request(path, &body).send().await.unwrap()
    };
    limited(post("/verify", 0, 3).await, "payer_rate_limited").await;
    // What was good at /verify can be settled.
    for nonce in 0..3 {
        assert!(world.settle(&world.body(nonce)).await.success);
    }
    limited(post("/settle", 0, 3).await, "payer_rate_limited").await;
    // A repeated call for a payment that is known is no further payment.
    let again = world.settle(&world.body(1)).await;
    assert_eq!(reason(&again), "duplicate_settlement");
    // Others have their own.
    assert_eq!(post("/settle", 1, 3).await.status(), StatusCode::OK);
    assert_eq!(world.chain.state().paid(), 4);
}

#[tokio::test]
async fn a_service_s_rate_holds_for_all_its_payers() {
    let guard = "guard = { rates = { service = { per_minute = 1, burst = 3 } } }";
    let world = World::with(crowd(), &format!("{QUICK}\n{guard}")).await;
    for payer in 0..3 {
        let body = world.scene.body(world.scene.intent_of(payer, 1));
        assert!(world.settle(&body).await.success);
    }
    let body = world.scene.body(world.scene.intent_of(3, 1));
    let answer = world.request("/settle", &body).send().await.unwrap();
    limited(answer, "service_rate_limited").await;
    assert_eq!(world.chain.state().paid(), 3);
}

#[tokio::test]
async fn payments_in_flight_are_capped_for_a_payer_and_for_a_service() {
    let limits =
        "limits = { confirm_timeout_secs = 60, payer_in_flight = 2, service_in_flight = 3 }";
    let world = Arc::new(World::with(crowd(), limits).await);
    world.chain.state().fate = Fate::Processed;
    let settle = |payer: u8, nonce: u64| {
        let body = world.scene.body(world.scene.intent_of(payer, nonce));
        let request = world.request("/settle", &body);
        async move { request.send().await.unwrap() }
    };
    let mut waiting = Vec::new();
    let mut begin = async |payer, nonce| {
        let before = world.chain.state().sent.len();
        waiting.push(tokio::spawn(settle(payer, nonce)));
        while world.chain.state().sent.len() == before {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    begin(0, 1).await;
    begin(0, 2).await;
    limited(settle(0, 3).await, "payer_in_flight_limited").await;
    begin(1, 1).await;
    limited(settle(2, 1).await, "service_in_flight_limited").await;
    // What has ended makes room.
    world.chain.state().fate = Fate::Confirmed;
    for call in waiting {
        let answer: SettleResponse = call.await.unwrap().json().await.unwrap();
        assert!(answer.success, "{answer:?}");
    }
    assert_eq!(settle(0, 3).await.status(), StatusCode::OK);
    assert_eq!(settle(2, 1).await.status(), StatusCode::OK);
    assert_eq!(world.chain.state().paid(), 5);
}

const BUDGET: &str = "failures = { payer = 3, window_secs = 600, cool_down_secs = 600 }";

/// A payment that the payer has made impossible by the time it lands.
async fn revoked(world: &World, payer: u8, nonce: u64) {
    let intent = world.scene.intent_of(payer, nonce);
    let body = world.scene.body(intent);
    assert!(world.verify(&body).await.is_valid);
    world
        .chain
        .state()
        .codes
        .insert(nonce, Skip::DelegateGone.code());
    assert_eq!(
        reason(&world.settle(&body).await),
        "invalid_sluice_split_delegate_gone"
    );
}

/// That nothing is taken on of a payer, and when it may be again.
async fn cooling(world: &World, payer: u8, nonce: u64, word: &str) -> u64 {
    let body = world.scene.body(world.scene.intent_of(payer, nonce));
    let sent = world.chain.state().sent.len();
    let verdict = world.verify(&body).await;
    assert_eq!(invalid(&verdict), word);
    let answer = world.settle(&body).await;
    assert_eq!(reason(&answer), word);
    assert_eq!(world.chain.state().sent.len(), sent, "a fee was spent");
    let wait = |extra: Option<Value>| extra.unwrap()["retryAfterSeconds"].as_u64().unwrap();
    let (first, second) = (wait(verdict.extra), wait(answer.extra));
    assert!(first >= 1 && second >= 1 && second <= first);
    second
}

async fn a18_a_payer_who_revokes_after_verify_is_left_alone_for_a_while(store: Store) {
    let guard = "guard = { failures = { payer = 3, cool_down_secs = 2 } }";
    let world = World::on(store, crowd(), &format!("{QUICK}\n{guard}")).await;
    revoked(&world, 0, 1).await;
    revoked(&world, 0, 2).await;
    // What succeeds in between makes up for nothing.
    assert!(world.settle(&world.body(3)).await.success);
    assert!(world.settle(&world.body(4)).await.success);
    revoked(&world, 0, 5).await;
    let wait = cooling(&world, 0, 6, "payer_cooling_down").await;
    assert!(wait <= 2, "{wait}");
    // The status of what was settled before is told all the same, and so is its success.
    assert_eq!(world.intent(3).await.state, "confirmed");
    let again = world.settle(&world.body(3)).await;
    assert_eq!(reason(&again), "duplicate_settlement");
    // Others are not touched.
    let other = world.scene.body(world.scene.intent_of(1, 7));
    assert!(world.settle(&other).await.success);
    // It ends; and the next failure is one too many again.
    while !world.verify(&world.body(6)).await.is_valid {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    revoked(&world, 0, 6).await;
    cooling(&world, 0, 8, "payer_cooling_down").await;
    world.written_ahead();
}

async fn what_failed_counts_after_a_restart(store: Store) {
    let extra = format!("{QUICK}\nguard = {{ {BUDGET} }}");
    let world = World::on(store, crowd(), &extra).await;
    for nonce in 1..=2 {
        revoked(&world, 0, nonce).await;
    }
    let world = world.restart_with(&extra).await;
    assert!(world.verify(&world.body(9)).await.is_valid);
    revoked(&world, 0, 3).await;
    let before = cooling(&world, 0, 9, "payer_cooling_down").await;
    let world = world.restart_with(&extra).await;
    let after = cooling(&world, 0, 9, "payer_cooling_down").await;
    assert!(after <= before && after > before - 60, "{before} {after}");
    // Without a budget nobody is refused.
    let world = world
        .restart_with(&format!(
            "{QUICK}\nguard = {{ failures = {{ payer = 0 }} }}"
        ))
        .await;
    assert!(world.verify(&world.body(9)).await.is_valid);
}

async fn failures_with_a_key_are_the_keys_and_survive_a_restart(store: Store) {
    let dir = TempDir::new().unwrap();
    let extra = format!(
        "{QUICK}\nguard = {{ api_keys = [{}], failures = {{ payer = 0, api_key = 3 }} }}",
        keys(&dir)
    );
    let mut world = World::on(store, crowd(), &extra).await;
    let client = |key: &str| {
        let mut headers = HeaderMap::new();
        headers.insert("x-api-key", key.parse().unwrap());
        let builder = reqwest::Client::builder().default_headers(headers);
        builder.build().unwrap()
    };
    world.client = client(SHOP);
    for nonce in 1..=3 {
        revoked(&world, u8::try_from(nonce).unwrap(), nonce).await;
    }
    let refused = async |world: &World| {
        for path in ["/verify", "/settle"] {
            let answer = world.request(path, &world.body(9)).send().await.unwrap();
            let wait = limited(answer, "api_key_cooling_down").await;
            assert!(wait > 60, "{wait}");
        }
        assert_eq!(
            world.intent_by(&world.scene.intent_of(1, 1)).await.state,
            "failed"
        );
    };
    refused(&world).await;
    let mut world = world.restart_with(&extra).await;
    refused(&world).await;
    let key = world
        .store
        .count("SELECT count(*) FROM payments WHERE api_key = 'shop'")
        .await;
    assert_eq!(key, 3);
    // The payers are not to blame here, and neither are other callers.
    world.client = client(&std::env::var("CARGO_MANIFEST_DIR").unwrap());
    assert!(world.settle(&world.body(9)).await.success);
}

#[tokio::test]
async fn a_service_whose_payments_fail_is_left_alone() {
    let guard = "guard = { failures = { payer = 0, service = 4 } }";
    let world = World::with(crowd(), &format!("{QUICK}\n{guard}")).await;
    for nonce in 1..=4 {
        revoked(&world, u8::try_from(nonce).unwrap(), nonce).await;
    }
    cooling(&world, 9, 9, "service_cooling_down").await;
}

#[tokio::test]
async fn failures_that_are_nobody_s_count_against_nobody() {
    let guard = "guard = { failures = { payer = 1, service = 1 } }";
    let world = World::with(crowd(), &format!("{QUICK}\n{guard}")).await;
    for (nonce, code) in (1u64..).zip([100, 101, 104]) {
        world.chain.state().fate = Fate::Failed(crate::fake::custom(code));
        assert!(!world.settle(&world.body(nonce)).await.success);
    }
    world.chain.state().fate = Fate::Confirmed;
    assert!(world.settle(&world.body(9)).await.success);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_failed_with_one_relayer_counts_with_all() {
    let Some(store) = Store::postgres().await else {
        return;
    };
    let store = Arc::new(store);
    let scene = crowd();
    let chain = Arc::new(crate::fake::FakeChain::new(&scene));
    let extra = format!("{QUICK}\nguard = {{ {BUDGET} }}");
    let one = World::of(
        Arc::clone(&store),
        Arc::clone(&chain),
        scene.clone(),
        &extra,
    )
    .await;
    let two = World::of(store, chain, scene, &extra).await;
    for nonce in 1..=3 {
        revoked(&one, 0, nonce).await;
    }
    while two.verify(&two.body(9)).await.is_valid {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    cooling(&two, 0, 9, "payer_cooling_down").await;
}

#[tokio::test]
async fn more_requests_than_places_are_told_to_come_back() {
    let limits = "limits = { confirm_timeout_secs = 60, max_requests = 1 }";
    let world = World::with(Scene::default(), limits).await;
    world.chain.state().fate = Fate::Processed;
    let waiting = tokio::spawn(world.request("/settle", &world.body(1)).send());
    while world.chain.state().sent.is_empty() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    for path in ["/verify", "/settle"] {
        let answer = world.request(path, &world.body(2)).send().await.unwrap();
        let answer = refused(answer).await;
        assert_eq!(answer, (503, "overloaded".to_owned(), Some(1)));
    }
    for probe in ["/health", "/ready"] {
        assert_eq!(world.get(probe).await.status(), StatusCode::OK);
    }
    world.chain.state().fate = Fate::Confirmed;
    let paid: SettleResponse = waiting.await.unwrap().unwrap().json().await.unwrap();
    assert!(paid.success);
}

/// Slow-loris: hundreds of connections that send a part of something and no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a27_slow_clients_end_and_keep_nobody_waiting() {
    let limits = "limits = { confirm_timeout_secs = 5, max_requests = 4, head_timeout_secs = 2, \
                  body_timeout_secs = 2 }";
    let world = World::with(Scene::default(), limits).await;
    let body = world.body(1).to_string();
    let mut slow_heads = Vec::new();
    let mut slow_bodies = Vec::new();
    for _ in 0..300 {
        let mut stream = world.raw().await;
        stream
            .write_all(b"POST /settle HTTP/1.1\r\nhost: x\r\nx-")
            .await
            .unwrap();
        slow_heads.push(stream);
        let mut stream = world.raw().await;
        let begun = format!("{}{}", world.head(body.len()), &body[..body.len() / 2]);
        stream.write_all(begun.as_bytes()).await.unwrap();
        slow_bodies.push(stream);
    }
    // More of them than there are places, and the good are served at once.
    for nonce in 1..10 {
        let body = world.body(nonce);
        assert!(world.verify(&body).await.is_valid);
        assert!(world.settle(&body).await.success);
    }
    for mut stream in slow_bodies {
        let answer = rest(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(answer.contains("\"body_timeout\""), "{answer}");
        assert!(answer.contains("retry-after: 1"), "{answer}");
    }
    for mut stream in slow_heads {
        let answer = rest(&mut stream).await;
        assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
    }
    assert!(world.settle(&world.body(11)).await.success);
}

/// One byte now and then is no request either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a27_a_client_that_drips_is_cut_off() {
    let limits = "limits = { head_timeout_secs = 1, body_timeout_secs = 1 }";
    let world = World::with(Scene::default(), limits).await;
    for start in [
        "POST /verify HTTP/1.1\r\nhost: x\r\nx-long: ".to_owned(),
        world.head(60_000),
    ] {
        let mut stream = world.raw().await;
        stream.write_all(start.as_bytes()).await.unwrap();
        let (mut read, mut write) = stream.split();
        let drip = async {
            // Until the other side does not take it any more.
            while write.write_all(b"a").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let mut answer = [0; 64];
        tokio::select! {
            () = drip => {}
            // An answer or an end.
            _ = read.read(&mut answer) => {}
        }
        let answer = String::from_utf8_lossy(&answer);
        assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
    }
}

/// Asks and asks, and reads nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a27_a_client_that_reads_nothing_is_cut_off() {
    let limits = "limits = { body_timeout_secs = 1, max_connections = 1 }";
    let world = World::with(Scene::default(), limits).await;
    let mut stream = world.raw().await;
    let ask = "GET /supported HTTP/1.1\r\nhost: x\r\n\r\n".repeat(100);
    while stream.write_all(ask.as_bytes()).await.is_ok() {}
    // Its place is free again.
    while world
        .post("/verify", world.body(1).to_string())
        .await
        .status()
        != StatusCode::OK
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn more_connections_than_places_are_told_to_come_back() {
    let limits = "limits = { max_connections = 2 }";
    let world = World::with(Scene::default(), limits).await;
    let held = [world.raw().await, world.raw().await];
    // They have to be taken before they count.
    let mut answer = String::new();
    while answer.is_empty() {
        let mut third = world.raw().await;
        let ask = "GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        third.write_all(ask.as_bytes()).await.unwrap();
        answer = rest(&mut third).await;
        if answer.starts_with("HTTP/1.1 200") {
            answer.clear();
        }
    }
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("retry-after: 1\r\n"), "{answer}");
    let body: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(body["error"], "overloaded");
    drop(held);
    while world.get("/health").await.status() != StatusCode::OK {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn one_address_has_so_many_connections_and_a_proxy_any_number() {
    let limits = "limits = { max_connections_per_ip = 2 }";
    let world = World::with(Scene::default(), limits).await;
    let mut held = Vec::new();
    let mut refused = 0;
    for _ in 0..4 {
        let mut stream = world.raw().await;
        let ask = "GET /health HTTP/1.1\r\nhost: x\r\n\r\n";
        stream.write_all(ask.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        refused += usize::from(&answer == b"HTTP/1.1 503");
        held.push(stream);
    }
    assert_eq!(refused, 2);
    let guard = "guard = { trusted_proxies = [\"127.0.0.1\"] }";
    let world = World::with(Scene::default(), &format!("{limits}\n{guard}")).await;
    for _ in 0..10 {
        let mut stream = world.raw().await;
        let ask = "GET /health HTTP/1.1\r\nhost: x\r\n\r\n";
        stream.write_all(ask.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        held.push(stream);
    }
}

#[tokio::test]
async fn a_stop_does_not_wait_for_who_asks_nothing() {
    let limits = "limits = { drain_secs = 600, head_timeout_secs = 600, body_timeout_secs = 600, \
                  confirm_timeout_secs = 60 }";
    let world = World::with(Scene::default(), limits).await;
    let mut idle = world.raw().await;
    let mut head = world.raw().await;
    head.write_all(b"POST /settle HTT").await.unwrap();
    assert_eq!(world.get("/health").await.status(), StatusCode::OK);
    // One that is at work is waited for.
    world.chain.state().fate = Fate::Processed;
    let waiting = tokio::spawn(world.request("/settle", &world.body(1)).send());
    while world.chain.state().sent.is_empty() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let chain = Arc::clone(&world.chain);
    let stopping = tokio::spawn(world.stop());
    assert_eq!(rest(&mut idle).await, "");
    assert_eq!(rest(&mut head).await, "");
    chain.state().fate = Fate::Confirmed;
    let paid: SettleResponse = waiting.await.unwrap().unwrap().json().await.unwrap();
    assert!(paid.success, "{paid:?}");
    stopping.await.unwrap();
}

#[tokio::test]
async fn a27_a_head_is_as_long_as_it_may_be() {
    let world = World::new().await;
    let health = |request: RequestBuilder| async move { request.send().await.unwrap().status() };
    let get = || world.client.get(format!("{}/health", world.relayer.url()));
    assert_eq!(
        health(get().header("x-long", "a".repeat(8_000))).await,
        StatusCode::OK
    );
    assert_eq!(
        health(get().header("x-long", "a".repeat(100_000))).await,
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
    );
    let mut many = get();
    for number in 0..200 {
        many = many.header(format!("x-{number}"), "a");
    }
    assert_eq!(
        health(many).await,
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
    );
}

#[tokio::test]
async fn errors_of_the_framework_are_typed_as_well() {
    let world = World::new().await;
    for path in [
        "/v1/intents/%ff",
        "/v1/payments?limit=many",
        "/v1/services/%C3%28",
    ] {
        let (status, word, _) = refused(world.get(path).await).await;
        assert_eq!((status, word.as_str()), (400, "bad_request"), "{path}");
    }
}

#[tokio::test]
async fn web_pages_may_ask_where_they_are_named() {
    let closed = World::new().await;
    let asked = |world: &World, origin: &str| {
        let request = world
            .client
            .request(
                reqwest::Method::OPTIONS,
                format!("{}/verify", world.relayer.url()),
            )
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "content-type,x-api-key");
        async move { request.send().await.unwrap() }
    };
    const ALLOW: &str = "access-control-allow-origin";
    let answer = asked(&closed, "https://shop.example.com").await;
    assert!(!answer.headers().contains_key(ALLOW));

    let dir = TempDir::new().unwrap();
    let guard = format!(
        "guard = {{ cors = {{ origins = [\"https://shop.example.com\"] }}, api_keys = [{}] }}",
        keys(&dir)
    );
    let open = World::with(Scene::default(), &format!("{QUICK}\n{guard}")).await;
    let answer = asked(&open, "https://shop.example.com").await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()[ALLOW], "https://shop.example.com");
    let answer = asked(&open, "https://evil.example.com").await;
    assert!(!answer.headers().contains_key(ALLOW));
    // An error can be read by the page as well.
    let request = open.request("/verify", &json!({}));
    let answer = request
        .header("origin", "https://shop.example.com")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(answer.headers()[ALLOW], "https://shop.example.com");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_others_pay_while_one_is_limited() {
    let guard = "guard = { rates = { payer = { per_minute = 1, burst = 20 } } }";
    let world = Arc::new(World::with(crowd(), &format!("{PATIENT}\n{guard}")).await);
    let noise: Vec<_> = (0..100)
        .map(|nonce| {
            let request = world.request("/settle", &world.body(nonce));
            tokio::spawn(async move { request.send().await.unwrap().status() })
        })
        .collect();
    for payer in 1..=15 {
        let body = world.scene.body(world.scene.intent_of(payer, 1));
        assert!(world.settle(&body).await.success);
    }
    let mut over = 0;
    for call in noise {
        let status = call.await.unwrap();
        over += usize::from(status == StatusCode::TOO_MANY_REQUESTS);
    }
    assert_eq!(over, 80);
    assert_eq!(world.chain.state().paid(), 35);
}

async fn transfers_are_guarded_as_well(store: Store) {
    let dir = TempDir::new().unwrap();
    let list = dir.path().join("deny.txt");
    std::fs::write(&list, "").unwrap();
    let guard = format!(
        "guard = {{ api_keys = [{}], failures = {{ payer = 2 }}, screening = {{ deny_list = \"{}\" }} }}",
        keys(&dir),
        list.display()
    );
    let limits = "limits = { confirm_timeout_secs = 60, payer_in_flight = 1 }";
    let mut world = World::on(store, Scene::default(), &format!("{limits}\n{guard}")).await;
    let mut headers = HeaderMap::new();
    headers.insert("x-api-key", SHOP.parse().unwrap());
    world.client = reqwest::Client::builder()
        .default_headers(headers)
        .build()
        .unwrap();
    assert!(world.verify(&stock_body(1)).await.is_valid);

    // One at a time.
    world.chain.state().fate = Fate::Processed;
    let waiting = tokio::spawn(world.request("/settle", &stock_body(1)).send());
    while world.chain.state().sent.is_empty() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let answer = world.request("/settle", &stock_body(2)).send().await;
    limited(answer.unwrap(), "payer_in_flight_limited").await;
    world.chain.state().fate = Fate::Confirmed;
    let paid: SettleResponse = waiting.await.unwrap().unwrap().json().await.unwrap();
    assert!(paid.success, "{paid:?}");
    let of_the_shop = "SELECT count(*) FROM payments WHERE scheme = 'exact' AND api_key = 'shop'";
    assert_eq!(world.store.count(of_the_shop).await, 1);

    // Nobody for whom nothing is settled.
    std::fs::write(&list, merchant().to_string()).unwrap();
    while world.verify(&stock_body(3)).await.is_valid {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(
        reason(&world.settle(&stock_body(3)).await),
        "screening_refused"
    );
    // What was settled before is called so all the same.
    let again = world.settle(&stock_body(1)).await;
    assert_eq!(reason(&again), "duplicate_settlement");
    std::fs::write(&list, "").unwrap();
    while !world.verify(&stock_body(3)).await.is_valid {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    // Nobody whose money is gone by the time it is to move.
    world.chain.state().fate = Fate::Failed(json!({"InstructionError": [2, {"Custom": 1}]}));
    for number in 4..6 {
        let answer = world.settle(&stock_body(number)).await;
        assert_eq!(reason(&answer), "invalid_exact_svm_transaction_failed");
    }
    for _ in 0..2 {
        let answer = world.settle(&stock_body(6)).await;
        assert_eq!(reason(&answer), "payer_cooling_down");
    }
    assert_eq!(world.chain.state().transactions().len(), 3);
}
