//! Screening: the list, the hook, and what happens without them.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode, header::LOCATION},
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::{Value, json};
use sluice_sdk::{
    Address, DEVNET_USDC, address,
    token::TOKEN_PROGRAM,
    x402::{SettleResponse, VerifyResponse},
};
use solana_signer::Signer;
use tempfile::TempDir;

use crate::{
    http::{QUICK, World, invalid, reason},
    load::crowd,
    scene::{AMOUNT, Scene, agent, key, payer, service, source},
};

async fn world(guard: &str) -> World {
    World::with(crowd(), &format!("{QUICK}\n{guard}")).await
}

fn agent_key() -> Address {
    Address::new_from_array(agent().pubkey().to_bytes())
}

#[tokio::test]
async fn whoever_is_on_the_list_is_not_settled_for() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("deny.txt");
    std::fs::write(&path, "# nobody yet\n").unwrap();
    let guard = format!(
        "guard = {{ screening = {{ deny_list = \"{}\" }} }}",
        path.display()
    );
    let world = world(&guard).await;
    let recipient = address::token_account(&key(5), &DEVNET_USDC, &TOKEN_PROGRAM);
    // The payer, its session key and token account, the service, its authority (who is its recipient too), and that
    // one's token account.
    let parties = [payer(), agent_key(), source(), service(), key(5), recipient];
    for (nonce, party) in (0u64..).zip(parties) {
        std::fs::write(&path, format!("{}\n{party} # since today\n", key(99))).unwrap();
        let body = world.body(nonce);
        while world.verify(&body).await.is_valid {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(invalid(&world.verify(&body).await), "screening_refused");
        let answer = world.settle(&body).await;
        assert_eq!(reason(&answer), "screening_refused");
        // Who is on the list is nobody's business.
        assert!(!answer.error_message.unwrap().contains("since"));
        assert!(world.chain.state().sent.is_empty());

        // A list that cannot be read leaves the last one in force.
        std::fs::write(&path, "what\n").unwrap();
        tokio::time::sleep(Duration::from_millis(250)).await;
        assert_eq!(invalid(&world.verify(&body).await), "screening_refused");
        std::fs::write(&path, "").unwrap();
        while !world.verify(&body).await.is_valid {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    // Another payer to the same service.
    std::fs::write(&path, format!("{}\n", payer())).unwrap();
    while world.verify(&world.body(9)).await.is_valid {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let other = world.scene.body(world.scene.intent_of(1, 9));
    assert!(world.settle(&other).await.success);
}

#[tokio::test]
async fn a_list_that_is_not_there_stops_the_start() {
    use crate::{fake::FakeChain, http::start, postgres::Store};
    let scene = Scene::default();
    let chain = Arc::new(FakeChain::new(&scene));
    let guard = "guard = { screening = { deny_list = \"/nowhere/deny.txt\" } }";
    let Err(error) = start(&Store::sqlite(), &chain, &scene, guard).await else {
        panic!("started");
    };
    let error = error.to_string();
    assert!(error.contains("guard.screening.deny_list"), "{error}");
    assert!(error.contains("/nowhere/deny.txt"), "{error}");
}

/// How a hook answers.
#[derive(Clone, Debug)]
enum Mood {
    Says(Value),
    Text(String),
    Fails(StatusCode),
    Redirects(String),
    Sleeps,
}

#[derive(Clone)]
struct HookServer {
    address: SocketAddr,
    mood: Arc<Mutex<Mood>>,
    calls: Arc<Mutex<Vec<(HeaderMap, Value)>>>,
    /// Calls at the place that redirects lead to.
    led_astray: Arc<Mutex<usize>>,
}

impl HookServer {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            mood: Arc::new(Mutex::new(Mood::Says(json!({"allow": true})))),
            calls: Arc::default(),
            led_astray: Arc::default(),
        };
        let app = Router::new()
            .route("/check", post(answer))
            .route("/elsewhere", post(astray).get(astray))
            .with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        server
    }

    fn is(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn calls(&self) -> usize {
        self.calls.lock().unwrap().len()
    }

    fn guard(&self, more: &str) -> String {
        format!(
            "guard = {{ screening = {{ hook = {{ url = \"http://{}/check\", allow_private = true, {more} }} }} }}",
            self.address
        )
    }
}

async fn answer(
    State(server): State<HookServer>,
    headers: HeaderMap,
    Json(question): Json<Value>,
) -> Response {
    server.calls.lock().unwrap().push((headers, question));
    let mood = server.mood.lock().unwrap().clone();
    match mood {
        Mood::Says(value) => Json(value).into_response(),
        Mood::Text(text) => text.into_response(),
        Mood::Fails(status) => status.into_response(),
        Mood::Redirects(to) => (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, to)]).into_response(),
        Mood::Sleeps => std::future::pending().await,
    }
}

async fn astray(State(server): State<HookServer>) -> Json<Value> {
    *server.led_astray.lock().unwrap() += 1;
    Json(json!({"allow": true}))
}

#[tokio::test]
async fn the_hook_is_told_who_pays_whom_and_says_whether_they_may() {
    let hook = HookServer::start().await;
    let dir = TempDir::new().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "hush\n").unwrap();
    let token = format!("token = {{ file = \"{}\" }}", token.display());
    let world = world(&hook.guard(&token)).await;

    assert!(world.verify(&world.body(1)).await.is_valid);
    assert!(world.settle(&world.body(1)).await.success);
    {
        let calls = hook.calls.lock().unwrap();
        // Of /settle the same is asked, and the answer is known.
        assert_eq!(calls.len(), 1);
        let (headers, question) = &calls[0];
        assert_eq!(headers["authorization"], "Bearer hush");
        assert_eq!(
            *question,
            json!({
                "payer": payer().to_string(),
                "service": service().to_string(),
                "mint": DEVNET_USDC.to_string(),
                "amount": AMOUNT.to_string(),
                "resource": "05".repeat(16),
            })
        );
    }
    // Another payer is another question.
    hook.is(Mood::Says(json!({"allow": false, "reason": "sanctions"})));
    let other = world.scene.body(world.scene.intent_of(1, 1));
    let verdict = world.verify(&other).await;
    assert_eq!(invalid(&verdict), "screening_refused");
    assert!(!verdict.invalid_message.unwrap().contains("sanctions"));
    assert_eq!(reason(&world.settle(&other).await), "screening_refused");
    assert_eq!(hook.calls(), 2);
    // And so is another resource of the same.
    let mut intent = world.scene.intent(2);
    intent.resource = [6; 16];
    let body = world.scene.body(intent);
    assert_eq!(reason(&world.settle(&body).await), "screening_refused");
    assert_eq!(hook.calls(), 3);
    assert!(world.verify(&world.body(3)).await.is_valid);
    assert_eq!(world.chain.state().paid(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_the_same_at_once_shares_an_answer() {
    let hook = HookServer::start().await;
    let world = Arc::new(world(&hook.guard("cache_secs = 60")).await);
    let calls: Vec<_> = (0..20)
        .map(|nonce| {
            let world = Arc::clone(&world);
            tokio::spawn(async move { world.verify(&world.body(nonce)).await })
        })
        .collect();
    for call in calls {
        assert!(call.await.unwrap().is_valid);
    }
    assert_eq!(hook.calls(), 1);
}

/// What a hook does that is no answer.
fn no_answers(hook: &HookServer) -> Vec<Mood> {
    vec![
        Mood::Fails(StatusCode::INTERNAL_SERVER_ERROR),
        Mood::Fails(StatusCode::NOT_FOUND),
        Mood::Fails(StatusCode::NO_CONTENT),
        Mood::Text("yes".to_owned()),
        Mood::Text("a".repeat(20_000)),
        Mood::Says(json!({"allow": "true"})),
        Mood::Says(json!({})),
        Mood::Says(json!({"allow": true, "reason": "a".repeat(20_000)})),
        Mood::Redirects(format!("http://{}/elsewhere", hook.address)),
        Mood::Sleeps,
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a29_without_an_answer_a_closed_hook_takes_nothing_on() {
    let hook = HookServer::start().await;
    // Closed if nothing is said.
    let world = world(&hook.guard("timeout_ms = 200")).await;
    for mood in no_answers(&hook) {
        hook.is(mood.clone());
        let before = hook.calls();
        // After five failures it is left in peace for a second.
        while hook.calls() == before {
            for path in ["/verify", "/settle"] {
                let word = world.unavailable(path, &world.body(1)).await;
                assert_eq!(word, "screening_unavailable", "{mood:?}");
            }
        }
    }
    assert_eq!(
        *hook.led_astray.lock().unwrap(),
        0,
        "a redirect was followed"
    );
    assert!(world.chain.state().sent.is_empty());
    // It answers again.
    hook.is(Mood::Says(json!({"allow": true})));
    let url = format!("{}/verify", world.relayer.url());
    loop {
        let request = world.client.post(&url).body(world.body(1).to_string());
        let answer = request.send().await.unwrap();
        if answer.status() == StatusCode::OK {
            assert!(answer.json::<VerifyResponse>().await.unwrap().is_valid);
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(world.settle(&world.body(1)).await.success);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_answer_an_open_hook_takes_everything_on() {
    let hook = HookServer::start().await;
    let world = world(&hook.guard("timeout_ms = 200, fail_closed = false")).await;
    for (nonce, mood) in (1u64..).zip(no_answers(&hook)) {
        hook.is(mood.clone());
        let before = hook.calls();
        while hook.calls() == before {
            assert!(world.verify(&world.body(nonce)).await.is_valid, "{mood:?}");
        }
        let answer = world.settle(&world.body(nonce)).await;
        assert!(answer.success, "{mood:?}: {answer:?}");
    }
    assert_eq!(*hook.led_astray.lock().unwrap(), 0);
    // A word against a payment still counts, once somebody says it.
    hook.is(Mood::Says(json!({"allow": false})));
    while world.verify(&world.body(90)).await.is_valid {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(
        reason(&world.settle(&world.body(90)).await),
        "screening_refused"
    );
}

#[tokio::test]
async fn a_hook_that_is_down_is_no_answer() {
    // A port that was free a moment ago.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let hook = |more: &str| {
        format!(
            "guard = {{ screening = {{ hook = {{ url = \"http://{address}/\", allow_private = true, {more} }} }} }}"
        )
    };
    let closed = world(&hook("fail_closed = true")).await;
    assert_eq!(
        closed.unavailable("/settle", &closed.body(1)).await,
        "screening_unavailable"
    );
    assert!(closed.chain.state().sent.is_empty());
    let open = world(&hook("fail_closed = false")).await;
    assert!(open.settle(&open.body(1)).await.success);
}

/// The name is the operator's, and what it stands for is not: `localhost` is a name like any other.
#[tokio::test]
async fn a29_a_hook_on_a_private_network_is_not_asked_unless_it_is_meant() {
    let hook = HookServer::start().await;
    let guard = |more: &str| {
        format!(
            "guard = {{ screening = {{ hook = {{ url = \"http://localhost:{}/check\"{more} }} }} }}",
            hook.address.port()
        )
    };
    let refused = world(&guard("")).await;
    assert_eq!(
        refused.unavailable("/settle", &refused.body(1)).await,
        "screening_unavailable"
    );
    assert_eq!(hook.calls(), 0);
    let meant = world(&guard(", allow_private = true")).await;
    let answer: SettleResponse = meant.settle(&meant.body(1)).await;
    assert!(answer.success, "{answer:?}");
    assert_eq!(hook.calls(), 1);
}
