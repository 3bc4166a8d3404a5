//! Payments that pay for their settlement, and payments that do not.
//!
//! The facilitator's share of a payment of the scene is 200 units. With SOL at 200,000 USD it is worth as many lamports
//! as a whole token is worth USD, and a transaction costs 5,000.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    http::{StatusCode, header::LOCATION},
    response::IntoResponse,
    routing::get,
};
use serde_json::{Value, json};
use sluice_relayer::{
    economics::{price::SOL, subsidy::day_of},
    http::StatsView,
    ledger::{Charge, Claim, Deal, Ledger},
};
use sluice_sdk::{
    DEVNET_USDC,
    x402::{SettleExtra, SettleResponse},
};

use crate::{
    exact::body_to,
    http::{PATIENT, World, invalid, reason},
    ledger::{new, nonce, open, signature, transaction},
    load::{crowd, settle_all},
    postgres::{Store, on_both},
    replicas::two,
    scene::{NOW, Scene, clock, merchant, service},
};

const UNECONOMIC: &str = "invalid_sluice_split_uneconomic";
const UNKNOWN: &str = "invalid_sluice_split_price_unknown";
/// Longer than any test.
const LONG: u64 = 30_000;

/// A facilitator's share that is worth so many lamports, and what else is wanted.
fn worth(lamports: u64, more: &str) -> String {
    let comma = if more.is_empty() { "" } else { "," };
    format!(
        "{PATIENT}\neconomics = {{ enforce = true, sol_usd = \"200000\", token_usd = {{ \"{DEVNET_USDC}\" = \
         \"{lamports}\" }}{comma} {more} }}"
    )
}

pub async fn stats(world: &World, query: &str) -> StatsView {
    let answer = world.get(&format!("/v1/stats{query}")).await;
    assert_eq!(answer.status(), StatusCode::OK);
    answer.json().await.unwrap()
}

/// Waits until so many payments are at work.
async fn in_flight(world: &World, count: u64) {
    for _ in 0..1_000 {
        if stats(world, "").await.in_flight == count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never {count} in flight");
}

/// A payment of another amount.
fn body_of(world: &World, payer: u8, nonce: u64, amount: u64) -> Value {
    let mut intent = world.scene.intent_of(payer, nonce);
    intent.amount = amount;
    let mut body = world.scene.body(intent);
    body["paymentRequirements"]["amount"] = json!(amount.to_string());
    body["paymentPayload"]["accepted"]["amount"] = json!(amount.to_string());
    body
}

fn begin(world: &Arc<World>, body: Value) -> tokio::task::JoinHandle<SettleResponse> {
    let world = Arc::clone(world);
    tokio::spawn(async move { world.settle(&body).await })
}

fn batch(answer: &SettleResponse) -> SettleExtra {
    assert!(answer.success, "{answer:?}");
    serde_json::from_value(answer.extra.clone().unwrap()).unwrap()
}

on_both! {
    what_does_not_pay_is_refused_by_both
    a_payment_is_expected_to_cost_what_those_before_it_did
    payments_wait_for_a_batch_that_pays
    who_pays_for_itself_waits_for_nobody_and_takes_the_others_along
    a_wait_that_brings_nobody_ends_in_a_refusal
    a_wait_that_brings_nobody_ends_in_the_subsidy
    the_subsidy_is_the_days_and_survives_a_restart
    a_payer_who_can_pay_with_others_uses_no_subsidy
    a_charge_is_taken_once_or_not_at_all
    a_transfer_costs_what_it_says_and_earns_what_a_vault_divides
}

async fn what_does_not_pay_is_refused_by_both(store: Store) {
    let mut world = World::on(store, Scene::default(), &worth(5_000, "")).await;
    assert!(world.verify(&world.body(1)).await.is_valid);
    assert!(world.settle(&world.body(1)).await.success);
    for (config, word) in [
        (worth(4_999, ""), UNECONOMIC),
        (worth(5_000, "margin_bps = 1"), UNECONOMIC),
        (worth(5_000, "margin_lamports = 1"), UNECONOMIC),
        (
            worth(4_999, "subsidy_lamports_per_day = 0, wait_ms = 0"),
            UNECONOMIC,
        ),
        // SOL's price alone says nothing.
        (
            format!(
                "{PATIENT}\neconomics = {{ enforce = true, sol_usd = \"200000\", token_usd = {{ \"{SOL}\" = \"1\" }} }}"
            ),
            UNKNOWN,
        ),
    ] {
        world = world.restart_with(&config).await;
        let body = world.body(2);
        assert_eq!(invalid(&world.verify(&body).await), word, "{config}");
        assert_eq!(reason(&world.settle(&body).await), word, "{config}");
    }
    assert_eq!(world.chain.state().transactions().len(), 1);
    // Nothing stays behind: the same payment is settled where it pays, or where nobody asks.
    let world = world
        .restart_with(&worth(5_001, "margin_lamports = 1"))
        .await;
    assert!(world.settle(&world.body(2)).await.success);
    let world = world.restart_with(PATIENT).await;
    assert!(world.settle(&world.body(3)).await.success);
    world.stop().await;
}

async fn a_payment_is_expected_to_cost_what_those_before_it_did(store: Store) {
    let world = World::on(store, crowd(), PATIENT).await;
    world.chain.state().send_takes = Duration::from_millis(50);
    let world = Arc::new(world);
    for (_, answer) in settle_all(&world, 4).await {
        assert!(answer.success, "{answer:?}");
    }
    let transactions = world.chain.state().transactions().len() as u64;
    let each = (5_000 * transactions).div_ceil(64);
    assert!(each < 5_000, "no batch was made");
    let world = Arc::into_inner(world).unwrap();
    // The ledger tells a relayer that starts anew.
    let world = world.restart_with(&worth(each - 1, "")).await;
    let body = world.body(64);
    assert_eq!(invalid(&world.verify(&body).await), UNECONOMIC);
    assert_eq!(reason(&world.settle(&body).await), UNECONOMIC);
    let world = world.restart_with(&worth(each, "")).await;
    assert!(world.verify(&body).await.is_valid);
    assert!(world.settle(&body).await.success);
    // That one went alone, so that the next is expected to cost more.
    let body = world.body(65);
    assert_eq!(invalid(&world.verify(&body).await), UNECONOMIC);
    assert_eq!(reason(&world.settle(&body).await), UNECONOMIC);
    world.stop().await;
}

async fn payments_wait_for_a_batch_that_pays(store: Store) {
    // Five together bring 5,000.
    let config = worth(1_000, &format!("wait_ms = {LONG}"));
    let world = Arc::new(World::on(store, crowd(), &config).await);
    assert!(world.verify(&body_of(&world, 0, 0, 10_000)).await.is_valid);
    let mut calls: Vec<_> = (0..4)
        .map(|payer| begin(&world, body_of(&world, payer, 0, 10_000)))
        .collect();
    in_flight(&world, 4).await;
    assert!(
        world.chain.state().sent.is_empty(),
        "four left, and do not pay"
    );
    calls.push(begin(&world, body_of(&world, 4, 0, 10_000)));
    for call in calls {
        assert_eq!(batch(&call.await.unwrap()).batch.size, 5);
    }
    assert_eq!(world.chain.state().transactions().len(), 1);
    // Larger batches than the operator waits for are not waited for.
    let world = Arc::into_inner(world).unwrap();
    let few = worth(
        1_000,
        &format!("cost_window_secs = 1, wait_ms = {LONG}, wait_batch = 4"),
    );
    world
        .store
        .execute("UPDATE transactions SET signed_at = 0")
        .await;
    let world = world.restart_with(&few).await;
    let body = body_of(&world, 0, 1, 10_000);
    assert_eq!(invalid(&world.verify(&body).await), UNECONOMIC);
    assert_eq!(reason(&world.settle(&body).await), UNECONOMIC);
    world.stop().await;
}

async fn who_pays_for_itself_waits_for_nobody_and_takes_the_others_along(store: Store) {
    let config = worth(1_000, &format!("wait_ms = {LONG}"));
    let world = Arc::new(World::on(store, crowd(), &config).await);
    let waits = begin(&world, body_of(&world, 1, 0, 10_000));
    in_flight(&world, 1).await;
    assert!(world.chain.state().sent.is_empty());
    // Five times the amount.
    let pays = world.settle(&body_of(&world, 0, 0, 50_000)).await;
    assert_eq!(batch(&pays).batch.size, 2);
    assert_eq!(batch(&waits.await.unwrap()).batch.size, 2);
    assert_eq!(world.chain.state().transactions().len(), 1);
    world.written_ahead();
}

async fn a_wait_that_brings_nobody_ends_in_a_refusal(store: Store) {
    let world = World::on(store, crowd(), &worth(1_000, "wait_ms = 50")).await;
    let body = world.body(1);
    for _ in 0..2 {
        let answer = world.settle(&body).await;
        assert_eq!(reason(&answer), UNECONOMIC);
        assert!(answer.error_message.unwrap().contains("waited"));
    }
    assert!(world.chain.state().sent.is_empty());
    // Its nonce is free again, and so is its money.
    let pays = world.settle(&body_of(&world, 0, 1, 50_000)).await;
    assert_eq!(batch(&pays).batch.size, 1);
    world.stop().await;
}

async fn a_wait_that_brings_nobody_ends_in_the_subsidy(store: Store) {
    let config = worth(1_000, "wait_ms = 50, subsidy_lamports_per_day = 4000");
    let world = World::on(store, Scene::default(), &config).await;
    assert_eq!(batch(&world.settle(&world.body(1)).await).batch.size, 1);
    let subsidy = stats(&world, "").await.subsidy;
    assert_eq!(
        (subsidy.used_lamports, subsidy.lamports_per_day),
        (4_000, 4_000)
    );
    assert_eq!(reason(&world.settle(&world.body(2)).await), UNECONOMIC);
    world.stop().await;
}

async fn the_subsidy_is_the_days_and_survives_a_restart(store: Store) {
    let config = worth(1_000, "subsidy_lamports_per_day = 10000");
    let world = World::on(store, Scene::default(), &config).await;
    for nonce in 1..=2 {
        assert!(world.verify(&world.body(nonce)).await.is_valid);
        assert!(world.settle(&world.body(nonce)).await.success);
    }
    let refused = async |world: &World| {
        let body = world.body(3);
        assert_eq!(invalid(&world.verify(&body).await), UNECONOMIC);
        assert_eq!(reason(&world.settle(&body).await), UNECONOMIC);
        let subsidy = stats(world, "").await.subsidy;
        assert_eq!((subsidy.used_lamports, subsidy.day), (8_000, day_of(NOW)));
    };
    refused(&world).await;
    let world = world.restart_with(&config).await;
    refused(&world).await;
    // The next day, by the chain's clock.
    let tomorrow = (day_of(NOW) + 1) * 86_400;
    let clock = clock(tomorrow);
    world
        .chain
        .state()
        .accounts
        .insert(sluice_relayer::chain::CLOCK, clock);
    let mut intent = world.scene.intent(3);
    intent.expires_at = u32::try_from(tomorrow + 60).unwrap();
    let body = world.scene.body(intent);
    // The clock is believed for a millisecond.
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert!(world.verify(&body).await.is_valid);
    assert!(world.settle(&body).await.success);
    let view = stats(&world, "").await;
    assert_eq!(view.subsidy.used_lamports, 4_000);
    assert_eq!(view.subsidy.day, day_of(NOW) + 1);
    assert_eq!(view.total.subsidy_lamports, 12_000);
    world.stop().await;
}

async fn a_payer_who_can_pay_with_others_uses_no_subsidy(store: Store) {
    let config = worth(
        1_000,
        "subsidy_lamports_per_day = 20000, margin_lamports = 0",
    );
    let world = Arc::new(World::on(store, crowd(), &config).await);
    // Set aside for one that goes alone; five that share a transaction bring in what it costs.
    world.chain.state().send_takes = Duration::from_millis(200);
    let first = begin(&world, body_of(&world, 0, 0, 10_000));
    while stats(&world, "").await.subsidy.used_lamports == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let rest: Vec<_> = (1..=3)
        .map(|payer| begin(&world, body_of(&world, payer, 0, 10_000)))
        .collect();
    let mut answers = vec![first.await.unwrap()];
    for call in rest {
        answers.push(call.await.unwrap());
    }
    // What every transaction was short by, and no more.
    let lost: u64 = world
        .chain
        .state()
        .wires
        .values()
        .map(|wire| 5_000u64.saturating_sub(1_000 * wire.payments.len() as u64))
        .sum();
    assert!(answers.iter().all(|answer| answer.success), "{answers:?}");
    assert_eq!(stats(&world, "").await.subsidy.used_lamports, lost);
    assert_eq!(stats(&world, "").await.total.subsidy_lamports, lost);
}

async fn a_charge_is_taken_once_or_not_at_all(store: Store) {
    let ledger = open(&store).await;
    let charged = |of: u64, lamports, per_day| {
        let mut payment = nonce(of);
        payment.deal = Deal {
            worth: Some(7),
            charge: Some(Charge {
                day: 20,
                lamports,
                per_day,
            }),
            ..Deal::default()
        };
        payment
    };
    let used = async |ledger: &Ledger| ledger.subsidy_used(20).await.unwrap();
    let seal = async |payments: &[_], seed| {
        let candidates = payments.iter().map(new).collect();
        let sealed = ledger.seal(candidates, move |_| Ok::<_, ()>(transaction(seed)));
        sealed.await.unwrap().claims
    };
    assert_eq!(used(&ledger).await, 0);
    let (first, second, third) = (
        charged(1, 60, 100),
        charged(2, 50, 100),
        charged(3, 40, 100),
    );
    let all = [first.clone(), second.clone(), third];
    assert_eq!(
        seal(&all, 1).await,
        [Claim::Sealed, Claim::SubsidySpent, Claim::Sealed]
    );
    assert_eq!(used(&ledger).await, 100);
    assert!(ledger.payment(&second.digest).await.unwrap().is_none());
    // Once more is not once more charged, and a batch that is not made is not charged at all.
    assert!(matches!(seal(&[first], 2).await[..], [Claim::Known(_)]));
    let more = charged(4, 10, 1_000);
    let made = ledger
        .seal(vec![new(&more)], |_| Err::<_, &str>("no"))
        .await
        .unwrap();
    assert_eq!(made.transaction, Err("no"));
    assert_eq!(used(&ledger).await, 100);
    assert_eq!(seal(&[charged(5, 11, 10)], 3).await, [Claim::SubsidySpent]);
    assert_eq!(used(&ledger).await, 100);
    assert_eq!(seal(&[second], 4).await, [Claim::SubsidySpent]);
    let _ = signature(1);
}

async fn a_transfer_costs_what_it_says_and_earns_what_a_vault_divides(store: Store) {
    // A wallet is paid all of it, and the transaction costs two signatures and a lamport of priority.
    let config = worth(10_001, "subsidy_lamports_per_day = 15000");
    let world = World::on(store, Scene::default(), &config).await;
    let of = |memo| body_to(merchant(), memo);
    assert!(world.verify(&of("1")).await.is_valid);
    assert!(world.settle(&of("1")).await.success);
    let view = stats(&world, "").await;
    assert_eq!(view.subsidy.used_lamports, 10_001);
    assert_eq!(view.total.cost_lamports, 10_001);
    assert_eq!(
        (view.total.earned_lamports, view.total.unpriced_payments),
        (0, 0)
    );
    assert_eq!(view.total.margin_lamports, -10_001);
    assert_eq!(invalid(&world.verify(&of("2")).await), UNECONOMIC);
    assert_eq!(reason(&world.settle(&of("2")).await), UNECONOMIC);
    // Of a service's payment the facilitator has its share.
    let to_service = |memo| body_to(service(), memo);
    assert!(world.verify(&to_service("3")).await.is_valid);
    assert!(world.settle(&to_service("3")).await.success);
    let view = stats(&world, &format!("?service={}", service())).await;
    assert_eq!(view.total.earned.as_deref(), Some("200"));
    assert_eq!(view.total.margin_lamports, 0);
    let world = world.restart_with(&worth(10_000, "")).await;
    assert_eq!(invalid(&world.verify(&to_service("4")).await), UNECONOMIC);
    assert_eq!(reason(&world.settle(&to_service("4")).await), UNECONOMIC);
    // What transfers cost tells nothing about intents.
    let world = world.restart_with(&worth(5_000, "")).await;
    assert!(world.verify(&world.body(1)).await.is_valid);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_relayers_share_the_days_subsidy() {
    let config = worth(1_000, "subsidy_lamports_per_day = 8000");
    let Some((one, two)) = two(crowd(), &config).await else {
        return;
    };
    let calls: Vec<_> = (0..8)
        .map(|payer| {
            let world = if payer % 2 == 0 { &one } else { &two };
            begin(world, body_of(world, payer, 0, 10_000))
        })
        .collect();
    let mut settled = 0;
    for call in calls {
        let answer = call.await.unwrap();
        if answer.success {
            settled += 1;
        } else {
            assert_eq!(reason(&answer), UNECONOMIC);
        }
    }
    let used = stats(&one, "").await.subsidy.used_lamports;
    assert!(used <= 8_000, "{used}");
    assert!(settled >= 2, "{settled}");
    assert_eq!(stats(&two, "").await.subsidy.used_lamports, used);
    let lost: u64 = one
        .chain
        .state()
        .wires
        .values()
        .map(|wire| 5_000u64.saturating_sub(1_000 * wire.payments.len() as u64))
        .sum();
    // What the ledger refused one of leaves a smaller batch, which may have cost a little more than was counted.
    assert!(used <= lost, "{used} of {lost}");
}

/// A feed on this machine, and how often each of its paths was asked.
struct Feed {
    url: String,
    asked: Arc<AtomicU32>,
    answers: Arc<std::sync::Mutex<String>>,
    redirected: Arc<AtomicU32>,
}

async fn feed() -> Feed {
    let answers = Arc::new(std::sync::Mutex::new(
        json!({SOL: {"usdPrice": 200000}, DEVNET_USDC.to_string(): {"usdPrice": 5000.0}})
            .to_string(),
    ));
    let (asked, redirected) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (told, count, followed) = (
        Arc::clone(&answers),
        Arc::clone(&asked),
        Arc::clone(&redirected),
    );
    let router = Router::new()
        .route(
            "/prices",
            get(move || async move {
                count.fetch_add(1, Ordering::SeqCst);
                let answer = told.lock().unwrap().clone();
                if answer.is_empty() {
                    StatusCode::INTERNAL_SERVER_ERROR.into_response()
                } else {
                    answer.into_response()
                }
            }),
        )
        .route(
            "/away",
            get(|| async { (StatusCode::FOUND, [(LOCATION, "/inside")]) }),
        )
        .route(
            "/inside",
            get(move || async move {
                followed.fetch_add(1, Ordering::SeqCst);
                json!({SOL: 200000, DEVNET_USDC.to_string(): 5000}).to_string()
            }),
        )
        .route("/large", get(|| async { " ".repeat(300 * 1024) + "{}" }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    Feed {
        url,
        asked,
        answers,
        redirected,
    }
}

fn fed(url: &str) -> String {
    format!(
        "{PATIENT}\neconomics = {{ enforce = true, price_url = \"{url}\", price_poll_secs = 1, price_max_age_secs = 2 }}"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prices_come_from_a_feed_until_they_are_too_old() {
    let feed = feed().await;
    let world = World::with(Scene::default(), &fed(&format!("{}/prices", feed.url))).await;
    // Asked before anybody is served.
    assert_eq!(feed.asked.load(Ordering::SeqCst), 1);
    assert!(world.verify(&world.body(1)).await.is_valid);
    assert!(world.settle(&world.body(1)).await.success);
    // It no longer answers: what it said is not known for long.
    feed.answers.lock().unwrap().clear();
    let mut verdict = world.verify(&world.body(2)).await;
    for _ in 0..1_000 {
        if !verdict.is_valid {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        verdict = world.verify(&world.body(2)).await;
    }
    assert_eq!(invalid(&verdict), UNKNOWN);
    assert_eq!(reason(&world.settle(&world.body(2)).await), UNKNOWN);
    assert!(feed.asked.load(Ordering::SeqCst) > 1);
}

/// Row 29: a configured address leads nowhere else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feed_leads_nowhere_else_and_is_cut() {
    let feed = feed().await;
    for path in ["/away", "/large", "/none"] {
        let world = World::with(Scene::default(), &fed(&format!("{}{path}", feed.url))).await;
        let verdict = world.verify(&world.body(1)).await;
        assert_eq!(invalid(&verdict), UNKNOWN, "{path}");
        world.stop().await;
    }
    assert_eq!(feed.redirected.load(Ordering::SeqCst), 0);
}

/// A stop does not hold up those who wait for others, and tells them that nothing was done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_the_waits() {
    let config = worth(1_000, &format!("wait_ms = {LONG}"));
    let world = World::with(crowd(), &config).await;
    let url = format!("{}/settle", world.relayer.url());
    let (client, body) = (world.client.clone(), world.body(1));
    let call = tokio::spawn(async move {
        let answer = client.post(url).body(body.to_string()).send().await;
        answer.unwrap().json::<Value>().await.unwrap()
    });
    in_flight(&world, 1).await;
    let chain = Arc::clone(&world.chain);
    world.stop().await;
    assert_eq!(call.await.unwrap()["error"], "interrupted");
    assert!(chain.state().sent.is_empty());
}
