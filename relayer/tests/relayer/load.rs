//! Many payments at once: group commit, and what becomes of the bad one in the batch.

use std::{collections::HashSet, sync::Arc, time::Duration};

use sluice_intent::Skip;
use sluice_sdk::x402::{SettleExtra, SettleResponse};

use crate::{
    fake::{Fate, custom},
    http::{PATIENT, World, reason},
    postgres::{Store, on_both},
    scene::Scene,
};

/// Payers besides the first.
const OTHERS: u8 = 15;

/// Payments of each of several payers. A nonce tells the payer: it is what is left of it over 16.
pub async fn settle_all(world: &Arc<World>, rounds: u64) -> Vec<(u64, SettleResponse)> {
    let calls: Vec<_> = (0..rounds)
        .flat_map(|round| (0..=OTHERS).map(move |payer| (round, payer)))
        .map(|(round, payer)| {
            let world = Arc::clone(world);
            let nonce = round * 16 + u64::from(payer);
            let body = world.scene.body(world.scene.intent_of(payer, nonce));
            tokio::spawn(async move { (nonce, world.settle(&body).await) })
        })
        .collect();
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.unwrap());
    }
    answers
}

pub fn crowd() -> Scene {
    Scene {
        others: OTHERS,
        ..Scene::default()
    }
}

fn extra(answer: &SettleResponse) -> SettleExtra {
    serde_json::from_value(answer.extra.clone().unwrap()).unwrap()
}

async fn world(store: Store, extra: &str) -> Arc<World> {
    let world = World::on(store, crowd(), &format!("{PATIENT}\n{extra}")).await;
    // While a send is under way the next batch gathers.
    world.chain.state().send_takes = Duration::from_millis(50);
    Arc::new(world)
}

on_both! {
    payments_that_come_together_share_transactions
    a_bad_payment_in_a_batch_is_refused_alone
    a_batch_that_fails_as_a_whole_is_tried_one_by_one
}

async fn payments_that_come_together_share_transactions(store: Store) {
    let world = world(store, "").await;
    let answers = settle_all(&world, 4).await;
    {
        let state = world.chain.state();
        let transactions = state.transactions();
        assert_eq!(answers.len(), 64);
        assert_eq!(state.paid(), 64);
        assert!(
            transactions.len() * 2 <= answers.len(),
            "{} transactions for {} payments",
            transactions.len(),
            answers.len()
        );
        let mut places = HashSet::new();
        for (nonce, answer) in &answers {
            assert!(answer.success, "{answer:?}");
            let extra = extra(answer);
            let payer = u8::try_from(nonce % 16).unwrap();
            let digest = world.scene.intent_of(payer, *nonce).digest();
            assert_eq!(extra.digest, hex::encode(digest));
            // The place in the answer is the place on chain.
            let wire = &state.wires[&answer.transaction.parse().unwrap()];
            assert_eq!(wire.nonces()[extra.index as usize], *nonce);
            assert_eq!(wire.payments.len(), extra.batch.size as usize);
            assert_eq!(wire.strict, extra.batch.size == 1);
            let share = 5_000u64.div_ceil(u64::from(extra.batch.size));
            assert_eq!(extra.batch.lamports_per_payment, share);
            assert_eq!(extra.split.recipients, ["9700"]);
            assert!(places.insert((answer.transaction.clone(), extra.index)));
            assert!(wire.len <= 4_096);
        }
    }
    world.written_ahead();
    let view = world.intent_by(&world.scene.intent_of(3, 3)).await;
    assert!(view.answered);
    assert_eq!(view.attempts.len(), 1);
}

async fn a_bad_payment_in_a_batch_is_refused_alone(store: Store) {
    let world = world(store, "").await;
    let bad = [
        (5, Skip::BalanceShort, "insufficient_funds"),
        (7, Skip::SourceFrozen, "invalid_sluice_split_source_frozen"),
        (35, Skip::NonceUsed, "invalid_sluice_split_nonce_used"),
    ];
    for (nonce, skip, _) in bad {
        world.chain.state().codes.insert(nonce, skip.code());
    }
    // A code of a later version of the program.
    world.chain.state().codes.insert(9, 200);
    for (nonce, answer) in settle_all(&world, 4).await {
        let word = bad.iter().find(|bad| bad.0 == nonce).map(|bad| bad.2);
        match word {
            Some(word) => {
                assert_eq!(reason(&answer), word);
                assert!(!answer.transaction.is_empty());
            }
            // Alone in its transaction it is an error of the program's that is not known either.
            None if nonce == 9 => assert_eq!(reason(&answer), "unexpected_settle_error"),
            None => assert!(answer.success, "{answer:?}"),
        }
    }
    assert_eq!(world.chain.state().paid(), 60);
    let view = world.intent_by(&world.scene.intent_of(5, 5)).await;
    assert_eq!((view.state.as_str(), view.is_final), ("failed", true));
    assert!(view.message.is_some());
}

async fn a_batch_that_fails_as_a_whole_is_tried_one_by_one(store: Store) {
    let world = world(store, "").await;
    world.chain.state().large = Some((2, Fate::Failed(custom(999))));
    world
        .chain
        .state()
        .codes
        .insert(5, Skip::SourceFrozen.code());
    for (nonce, answer) in settle_all(&world, 2).await {
        if nonce == 5 {
            assert_eq!(reason(&answer), "invalid_sluice_split_source_frozen");
        } else {
            assert!(answer.success, "{answer:?}");
            assert_eq!(extra(&answer).batch.size, 1);
        }
    }
    let state = world.chain.state();
    assert_eq!(state.paid(), 31);
    let batches = state.wires.values().filter(|wire| wire.payments.len() > 1);
    assert!(batches.count() > 0, "nothing was ever in a batch");
    drop(state);
    world.written_ahead();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_costs_no_more_than_a_transaction_may() {
    // 15,000 lamports of priority: about 7 payments at this price.
    let fees = "fees = { unit_price_micro_lamports = 80000, max_lamports_per_transaction = 20000 }";
    let world = world(Store::sqlite(), fees).await;
    for (_, answer) in settle_all(&world, 2).await {
        assert!(answer.success, "{answer:?}");
    }
    let state = world.chain.state();
    let largest = state.wires.values().map(|wire| wire.payments.len()).max();
    assert!(largest > Some(1) && largest < Some(10), "{largest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_are_as_large_as_told_and_as_fit() {
    let few = world(Store::sqlite(), "batch = { max_payments = 3 }").await;
    let small = world(Store::sqlite(), "batch = { format = \"v0\" }").await;
    for world in [&few, &small] {
        for (_, answer) in settle_all(world, 2).await {
            assert!(answer.success, "{answer:?}");
        }
    }
    let state = few.chain.state();
    assert!(state.wires.values().all(|wire| wire.payments.len() <= 3));
    let state = small.chain.state();
    assert!(state.wires.values().all(|wire| wire.len <= 1_232));
    assert!(state.wires.values().any(|wire| wire.payments.len() > 1));
}

#[tokio::test]
async fn a_cluster_without_large_transactions_gets_small_ones() {
    let chain = Arc::new(crate::fake::FakeChain::new(&crowd()));
    chain.knows_no_v1();
    chain.state().send_takes = Duration::from_millis(50);
    let store = Arc::new(Store::sqlite());
    let world = World::of(store, chain, crowd(), PATIENT).await;
    let world = Arc::new(world);
    for (_, answer) in settle_all(&world, 2).await {
        assert!(answer.success, "{answer:?}");
    }
    let state = world.chain.state();
    assert!(state.wires.values().all(|wire| wire.len <= 1_232));
}

#[tokio::test]
async fn a_payment_that_comes_alone_is_not_kept_waiting() {
    let world = World::with(
        Scene::default(),
        &format!("{PATIENT}\nbatch = {{ linger_ms = 1000 }}"),
    )
    .await;
    assert!(world.settle(&world.body(1)).await.success);
    let begun = std::time::Instant::now();
    assert!(world.settle(&world.body(2)).await.success);
    assert!(
        begun.elapsed() < Duration::from_millis(700),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn results_that_are_not_there_yet_are_waited_for() {
    let world = world(Store::sqlite(), "").await;
    world.chain.state().no_results = true;
    let chain = Arc::clone(&world.chain);
    let later = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(500)).await;
        chain.state().no_results = false;
    });
    for (_, answer) in settle_all(&world, 1).await {
        assert!(answer.success, "{answer:?}");
    }
    later.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parallel_intents_cannot_pass_on_one_balance() {
    let world = Arc::new(World::with(Scene::default(), PATIENT).await);
    world.chain.state().fate = Fate::Processed;
    // 500,000 are approved: 50 payments of 10,000.
    let calls: Vec<_> = (0..60)
        .map(|nonce| {
            let world = Arc::clone(&world);
            tokio::spawn(async move { world.settle(&world.body(nonce)).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    world.chain.state().fate = Fate::Confirmed;
    let (mut paid, mut refused) = (0, 0);
    for call in calls {
        let answer = call.await.unwrap();
        if answer.success {
            paid += 1;
        } else {
            assert_eq!(reason(&answer), "invalid_sluice_split_delegated_short");
            refused += 1;
        }
    }
    assert_eq!((paid, refused), (50, 10));
}
