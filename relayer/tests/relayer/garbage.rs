//! 10,000 requests of garbage: each is told what is wrong with it, and the relayer is none the worse.

use std::{fmt::Write, process::Command, sync::Arc};

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    http::{QUICK, World},
    scene::{Scene, key},
};

const REQUESTS: usize = 10_000;
/// Requests at once.
const CALLERS: usize = 32;
/// What may be held after the first half that is not after the second, in bytes.
const MOST_GROWTH: usize = 48 * 1024 * 1024;

/// Memory is the process's, and the other tests share this one: it runs in a process of its own.
#[test]
fn a27_ten_thousand_garbage_requests() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "garbage::in_a_process_of_its_own",
            "--exact",
            "--ignored",
            "--nocapture",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[ignore = "started by a27_ten_thousand_garbage_requests"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_process_of_its_own() {
    let world = Arc::new(World::with(Scene::default(), QUICK).await);
    assert!(world.settle(&world.body(1)).await.success);
    pour(&world, 0).await;
    let half = resident();
    pour(&world, 1).await;
    let whole = resident();
    assert!(
        whole < half + MOST_GROWTH,
        "{half} bytes after half of it, {whole} after all of it"
    );
    assert_eq!(world.get("/ready").await.status(), StatusCode::OK);
    assert!(world.verify(&world.body(2)).await.is_valid);
    assert!(world.settle(&world.body(2)).await.success);
    assert_eq!(world.chain.state().paid(), 2);
    assert_eq!(world.chain.state().transactions().len(), 2);
}

/// Half of it.
async fn pour(world: &Arc<World>, half: usize) {
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let world = Arc::clone(world);
            tokio::spawn(async move {
                let mut random = StdRng::seed_from_u64((half * CALLERS + caller) as u64);
                for _ in 0..REQUESTS / 2 / CALLERS + 1 {
                    one(&world, &mut random).await;
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
}

/// One of it, and that it was told what is wrong.
async fn one(world: &World, random: &mut StdRng) {
    let (method, path, body) = garbage(world, random);
    let url = format!("{}{path}", world.relayer.url());
    let shown = String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned();
    let answer = world.client.request(method, url).body(body);
    let answer = answer.send().await.unwrap();
    let status = answer.status();
    let answer: Value = answer.json().await.unwrap();
    if status == StatusCode::OK {
        // Well-formed, and still nobody's payment.
        let field = ["isValid", "success"]
            .iter()
            .find(|field| answer[**field] == false);
        assert!(field.is_some(), "{path} {shown}: {answer}");
        let reason = answer["invalidReason"]
            .as_str()
            .or(answer["errorReason"].as_str());
        assert!(reason.is_some(), "{answer}");
    } else {
        assert!(
            status.is_client_error(),
            "{path} {shown}: {status} {answer}"
        );
        assert!(
            answer["error"].is_string() && answer["message"].is_string(),
            "{answer}"
        );
    }
}

fn garbage(world: &World, random: &mut StdRng) -> (Method, String, Vec<u8>) {
    let route = *["/verify", "/settle"].choose(random).unwrap();
    let good = || world.body(99);
    let body = match random.random_range(0..10) {
        0 => {
            let mut bytes = vec![0; random.random_range(0..2_000)];
            random.fill(&mut bytes[..]);
            bytes
        }
        // Bad UTF-8 in the middle of something good.
        1 => {
            let mut bytes = good().to_string().into_bytes();
            let at = random.random_range(0..bytes.len());
            bytes.splice(at..at, [0xC3, 0x28, 0xFF]);
            bytes
        }
        2 => {
            let depth = random.random_range(200..30_000);
            let open = *["[", "{\"a\":"].choose(random).unwrap();
            let mut bytes = open.repeat(depth).into_bytes();
            bytes.truncate(60_000);
            bytes
        }
        3 => {
            let text = good().to_string();
            text.as_bytes()[..random.random_range(0..text.len())].to_vec()
        }
        4 => vec![b' '; random.random_range(65_537..70_000)],
        5 => {
            let mut text = String::from("{\"x402Version\":2");
            for field in 0..random.random_range(0..2_000) {
                write!(text, ",\"f{field}\":1e{}", random.random_range(0..999)).unwrap();
            }
            text.push('}');
            text.into_bytes()
        }
        6 => {
            let paths = [
                "/v1/intents/%ff",
                "/v1/intents/0",
                "/v1/payments?cursor=%00",
                "/v1/payments?limit=-1",
                "/v1/payers/x?mint=x",
                "/v1/services/..%2f..%2fetc%2fpasswd",
                "/%2e%2e/%00",
                "/verify",
            ];
            let path = (*paths.choose(random).unwrap()).to_owned();
            return (Method::GET, path, Vec::new());
        }
        7 => {
            let method = [Method::PUT, Method::DELETE, Method::PATCH];
            let method = method.choose(random).unwrap().clone();
            return (method, route.to_owned(), good().to_string().into_bytes());
        }
        // Good, but for one value somewhere.
        8 => {
            let mut body = good();
            spoil(&mut body, random);
            body.to_string().into_bytes()
        }
        // Signed well enough, for accounts that there are none of.
        _ => {
            let mut body = good();
            let account = key(random.random());
            body["paymentPayload"]["payload"]["nonceAccount"] = json!(account.to_string());
            body.to_string().into_bytes()
        }
    };
    (Method::POST, route.to_owned(), body)
}

/// Puts something else in the place of a value that matters.
fn spoil(body: &mut Value, random: &mut StdRng) {
    let places = [
        "/x402Version",
        "/paymentPayload",
        "/paymentRequirements",
        "/paymentPayload/payload",
        "/paymentPayload/accepted",
        "/paymentPayload/payload/nonce",
        "/paymentPayload/payload/signature",
        "/paymentPayload/payload/expiresAt",
        "/paymentPayload/payload/lane",
        "/paymentPayload/payload/resource",
        "/paymentPayload/payload/openedSlot",
        "/paymentRequirements/amount",
        "/paymentRequirements/extra",
        "/paymentRequirements/payTo",
    ];
    let values = [
        json!(null),
        json!(-1),
        json!(1e300),
        json!(u64::MAX),
        json!(""),
        json!("\u{0}\u{202e}\u{1F4A9}"),
        json!("9".repeat(1_000)),
        json!([[[[]]]]),
        json!({"a": {"b": {}}}),
        json!(true),
    ];
    let place = places.choose(random).unwrap();
    *body.pointer_mut(place).unwrap() = values.choose(random).unwrap().clone();
}

/// Bytes that this process holds.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4_096
}
