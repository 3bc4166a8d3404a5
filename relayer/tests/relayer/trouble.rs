//! Everything that goes wrong around a relayer: ledger, chain, money, and its own end.

use std::{sync::Arc, time::Duration};

use reqwest::StatusCode;
use serde_json::{Value, json};
use sluice_intent::Skip;
use sluice_sdk::x402::SettleResponse;

use crate::{
    fake::{Fate, LIFE},
    http::{PATIENT, QUICK, World, reason},
    load::{crowd, settle_all},
    postgres::{Store, on_both},
    scene::{Scene, key, lamports_of, relayer},
};

on_both! {
    a_ledger_that_refuses_stops_everything_before_it_is_sent
    a_commit_that_does_not_come_back_is_asked_for
    what_lands_after_it_was_thought_dead_is_paid
    what_lands_late_in_a_batch_is_paid_and_the_rest_refused
    a_dead_blockhash_is_signed_again_for_the_same_payment
    a_stop_under_load_loses_nothing
    a_fee_payer_that_is_empty_loses_nothing
}

async fn a_ledger_that_refuses_stops_everything_before_it_is_sent(store: Store) {
    let world = World::on(store, Scene::default(), QUICK).await;
    assert!(world.settle(&world.body(1)).await.success);
    world.store.refuse_changes("transactions").await;
    for _ in 0..2 {
        let word = world.unavailable("/settle", &world.body(2)).await;
        assert_eq!(word, "ledger_unavailable");
    }
    assert_eq!(world.chain.state().transactions().len(), 1);
    // Nothing stays behind that could be in the way.
    world.store.allow_changes("transactions").await;
    assert!(world.settle(&world.body(2)).await.success);
    assert_eq!(world.chain.state().paid(), 2);

    if world.store.is_postgres() {
        world.store.cut().await;
        let word = world.unavailable("/settle", &world.body(3)).await;
        assert_eq!(word, "ledger_unavailable");
        let ready = world.get("/ready").await;
        assert_eq!(ready.status(), StatusCode::SERVICE_UNAVAILABLE);
        world.store.mend().await;
        assert!(world.settle(&world.body(3)).await.success);
        assert_eq!(world.get("/ready").await.status(), StatusCode::OK);
    }
    world.written_ahead();
}

/// Nobody knows then whether the transaction is in the ledger, and nobody says that it is not until the ledger has.
async fn a_commit_that_does_not_come_back_is_asked_for(store: Store) {
    if !store.is_postgres() {
        return;
    }
    let world = World::on(store, Scene::default(), PATIENT).await;
    // Refused by the very word that commits.
    world
        .store
        .execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$; \
             CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON transactions DEFERRABLE INITIALLY DEFERRED \
             FOR EACH ROW EXECUTE FUNCTION refuse()",
        )
        .await;
    let word = world.unavailable("/settle", &world.body(1)).await;
    assert_eq!(word, "ledger_unavailable");
    assert!(world.chain.state().sent.is_empty());
    world
        .store
        .execute("DROP TRIGGER refuse ON transactions")
        .await;
    assert!(world.settle(&world.body(1)).await.success);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sqlite_file_that_somebody_else_locks_is_waited_for_and_then_refused() {
    use sqlx::Connection;
    let world = World::with(Scene::default(), PATIENT).await;
    let mut other = crate::postgres::connect(world.store.url()).await;
    sqlx::query("BEGIN EXCLUSIVE")
        .execute(&mut other)
        .await
        .unwrap();
    let word = world.unavailable("/settle", &world.body(1)).await;
    assert_eq!(word, "ledger_unavailable");
    assert!(world.chain.state().sent.is_empty());
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    other.close().await.unwrap();
    assert!(world.settle(&world.body(1)).await.success);
}

/// The relayer believes a transaction dead, signs another, and the first lands after all.
async fn what_lands_after_it_was_thought_dead_is_paid(store: Store) {
    let world = Arc::new(World::on(store, Scene::default(), PATIENT).await);
    world.chain.state().fate = Fate::Lost;
    let caller = Arc::clone(&world);
    let waiting = tokio::spawn(async move { caller.settle(&caller.body(1)).await });
    while world.chain.state().sent.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let first = world.chain.state().transactions()[0];
    world.chain.state().height += LIFE + 1;
    let view = world.until(1, |view| view.attempts.len() == 2).await;
    assert_eq!(view.digest, hex::encode(world.scene.intent(1).digest()));
    while world.chain.state().transactions().len() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The first lands; the second finds its nonce used.
    {
        let mut state = world.chain.state();
        state.fates.insert(first, Fate::Confirmed);
        state.land(&first);
        state.fate = Fate::Confirmed;
    }
    let answer = waiting.await.unwrap();
    assert!(answer.success, "{answer:?}");
    assert_eq!(answer.transaction, first.to_string());
    let view = world.until_state(1, "confirmed").await;
    assert_eq!(view.transaction, Some(first.to_string()));
    assert_eq!(view.reason, None);
    assert!(view.answered);
    assert_eq!(
        reason(&world.settle(&world.body(1)).await),
        "duplicate_settlement"
    );
    assert_eq!(world.chain.state().paid(), 1);
}

/// The same with batches: one of them was paid by the first transaction, and another's nonce is somebody else's.
async fn what_lands_late_in_a_batch_is_paid_and_the_rest_refused(store: Store) {
    let world = Arc::new(World::on(store, crowd(), PATIENT).await);
    world.chain.state().send_takes = Duration::from_millis(50);
    world.chain.state().fate = Fate::Lost;
    world.chain.state().codes.insert(4, Skip::NonceUsed.code());
    let caller = Arc::clone(&world);
    let waiting = tokio::spawn(async move { settle_all(&caller, 1).await });
    let carried = || -> usize {
        let state = world.chain.state();
        state.wires.values().map(|wire| wire.payments.len()).sum()
    };
    while carried() < 16 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let first = world.chain.state().transactions();
    world.chain.state().height += LIFE + 1;
    while carried() < 32 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    {
        let mut state = world.chain.state();
        for signature in &first {
            state.fates.insert(*signature, Fate::Confirmed);
            state.land(signature);
        }
        state.fate = Fate::Confirmed;
    }
    for (nonce, answer) in waiting.await.unwrap() {
        if nonce == 4 {
            assert_eq!(reason(&answer), "invalid_sluice_split_nonce_used");
        } else {
            assert!(answer.success, "{nonce}: {answer:?}");
            assert!(first.contains(&answer.transaction.parse().unwrap()));
        }
    }
    assert_eq!(world.chain.state().paid(), 15);
}

async fn a_dead_blockhash_is_signed_again_for_the_same_payment(store: Store) {
    let world = Arc::new(World::on(store, Scene::default(), PATIENT).await);
    world.chain.state().fate = Fate::Lost;
    let caller = Arc::clone(&world);
    let waiting = tokio::spawn(async move { caller.settle(&caller.body(1)).await });
    while world.chain.state().sent.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let first = world.chain.state().transactions()[0];
    {
        let mut state = world.chain.state();
        state.height += LIFE + 1;
        state.fates.insert(first, Fate::Lost);
        state.fate = Fate::Confirmed;
    }
    let answer = waiting.await.unwrap();
    assert!(answer.success, "{answer:?}");
    {
        let state = world.chain.state();
        let transactions = state.transactions();
        assert_eq!(transactions.len(), 2);
        assert_eq!(answer.transaction, transactions[1].to_string());
        let [one, two] = [
            &state.wires[&transactions[0]],
            &state.wires[&transactions[1]],
        ];
        assert_eq!(one.payments, two.payments);
        assert_ne!(one.blockhash, two.blockhash);
        assert_eq!(state.paid(), 1);
    }
    let view = world.intent(1).await;
    assert_eq!(view.attempts.len(), 2);
    world.written_ahead();
}

/// What a signal does: no more requests, those at work finish, and what nobody knows is left to the next start.
async fn a_stop_under_load_loses_nothing(store: Store) {
    let scene = Scene {
        others: 7,
        ..Scene::default()
    };
    let world = World::on(store, scene, PATIENT).await;
    world.chain.state().send_takes = Duration::from_millis(30);
    let (url, client) = (world.relayer.url(), world.client.clone());
    let bodies: Vec<(u8, u64, Value)> = (0..8u8)
        .flat_map(|payer| (0..20).map(move |nonce| (payer, nonce)))
        .map(|(payer, nonce)| {
            let intent = world.scene.intent_of(payer, nonce);
            (payer, nonce, world.scene.body(intent))
        })
        .collect();
    let calls: Vec<_> = bodies
        .iter()
        .enumerate()
        .map(|(i, (_, _, body))| {
            let request = client.post(format!("{url}/settle")).body(body.to_string());
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(i as u64 * 3)).await;
                let response = request.send().await.ok()?;
                let good = response.status() == StatusCode::OK;
                let answer: Value = response.json().await.ok()?;
                good.then(|| serde_json::from_value::<SettleResponse>(answer).unwrap())
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let (store, chain, scene) = (
        Arc::clone(&world.store),
        Arc::clone(&world.chain),
        world.scene.clone(),
    );
    let begun = std::time::Instant::now();
    world.stop().await;
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
    let mut told = Vec::new();
    for call in calls {
        told.push(call.await.unwrap());
    }
    let successes = |answers: &[Option<SettleResponse>]| {
        let good = |answer: &&Option<SettleResponse>| answer.as_ref().is_some_and(|a| a.success);
        answers.iter().filter(good).count()
    };
    let before = successes(&told);
    assert!(before > 0, "nothing was under way");
    assert!(before < bodies.len(), "all was done before the stop");
    // Nothing that was signed is open, because all of it landed in time.
    assert_eq!(
        store
            .count("SELECT count(*) FROM payments WHERE state IN ('signed', 'sent')")
            .await,
        0
    );
    assert_eq!(chain.state().paid(), before);

    // Whoever was not told comes back, and each is paid exactly once.
    let world = World::of(store, chain, scene, PATIENT).await;
    for ((_, _, body), told) in bodies.iter().zip(&told) {
        let answer = world.settle(body).await;
        if told.as_ref().is_some_and(|answer| answer.success) {
            assert_eq!(reason(&answer), "duplicate_settlement");
        } else {
            assert!(answer.success, "{answer:?}");
        }
    }
    assert_eq!(world.chain.state().paid(), bodies.len());
    world.written_ahead();
}

#[tokio::test]
async fn a_fee_payer_that_runs_low_rests_and_another_pays() {
    let mut scene = Scene {
        second_lamports: Some(1_000_000_000),
        ..Scene::default()
    };
    scene.facilitator.relayers[1] = key(10).to_bytes();
    scene.facilitator.relayer_count = 2;
    let world = World::with(scene, QUICK).await;
    let payers = || {
        let state = world.chain.state();
        let payer = |signature| state.wires[signature].fee_payer;
        state.transactions().iter().map(payer).collect::<Vec<_>>()
    };
    // They take turns.
    for nonce in 0..4 {
        assert!(world.settle(&world.body(nonce)).await.success);
    }
    for payer in [relayer(), key(10)] {
        assert_eq!(payers().iter().filter(|other| **other == payer).count(), 2);
    }
    let hold = |lamports| {
        let mut state = world.chain.state();
        state.accounts.insert(relayer(), lamports_of(lamports));
    };
    hold(9_999_999);
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    for nonce in 4..8 {
        assert!(world.settle(&world.body(nonce)).await.success);
    }
    assert!(payers()[4..].iter().all(|payer| *payer == key(10)));
    // A little above the mark is not enough to wake it.
    hold(10_000_001);
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    for nonce in 8..10 {
        assert!(world.settle(&world.body(nonce)).await.success);
    }
    assert!(payers()[8..].iter().all(|payer| *payer == key(10)));
    hold(20_000_000);
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    for nonce in 10..12 {
        assert!(world.settle(&world.body(nonce)).await.success);
    }
    assert!(payers()[10..].contains(&relayer()));
}

#[tokio::test]
async fn a_fee_payer_without_rent_is_not_the_payers_fault() {
    let world = World::with(Scene::default(), PATIENT).await;
    let rent = json!({"InsufficientFundsForRent": {"account_index": 0}});
    world.chain.state().fate = Fate::Failed(rent);
    let world = Arc::new(world);
    let caller = Arc::clone(&world);
    let waiting = tokio::spawn(async move { caller.settle(&caller.body(1)).await });
    while world.chain.state().transactions().len() < 2 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    world.chain.state().fate = Fate::Confirmed;
    // Tried again; but not for ever, for each failure costs a fee.
    let first = waiting.await.unwrap();
    let rent = json!({"InsufficientFundsForRent": {"account_index": 0}});
    world.chain.state().fate = Fate::Failed(rent);
    let second = world.settle(&world.body(2)).await;
    assert_eq!(reason(&second), "unexpected_settle_error");
    assert!(world.chain.state().transactions().len() <= 10);
    assert!(first.success || reason(&first) == "unexpected_settle_error");
}

#[tokio::test]
async fn a_dead_rpc_after_the_judgement_leaves_the_payment_pending() {
    // Long enough in the cache to be judged without a node.
    let chain =
        "chain = { poll_ms = 10, rebroadcast_ms = 100, cache_ms = 10000, blockhash_ms = 50 }";
    let world = World::with(Scene::default(), &format!("{QUICK}\n{chain}")).await;
    assert!(world.verify(&world.body(1)).await.is_valid);
    world.chain.state().down = true;
    let answer = world.settle(&world.body(1)).await;
    assert_eq!(reason(&answer), "settlement_pending");
    assert!(!answer.transaction.is_empty());
    world.chain.state().down = false;
    world.until_state(1, "confirmed").await;
    let redeemed = world.settle(&world.body(1)).await;
    assert!(redeemed.success, "{redeemed:?}");
    assert_eq!(redeemed.transaction, answer.transaction);
    world.written_ahead();
}

/// Under load: what is under way waits, what is new is told why, and all of it goes on once there is money again.
async fn a_fee_payer_that_is_empty_loses_nothing(store: Store) {
    let world = Arc::new(World::on(store, crowd(), PATIENT).await);
    let hold = |lamports| {
        let mut state = world.chain.state();
        state.accounts.insert(relayer(), lamports_of(lamports));
    };
    // Nothing that it pays for gets into a block.
    world.chain.state().fate = Fate::Lost;
    let caller = Arc::clone(&world);
    let waiting = tokio::spawn(async move { settle_all(&caller, 2).await });
    let carried = || -> usize {
        let state = world.chain.state();
        state.wires.values().map(|wire| wire.payments.len()).sum()
    };
    while carried() < 32 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    hold(0);
    world.chain.state().height += LIFE + 1;
    // It notices, and says what to do.
    let word = loop {
        let response = world.post("/verify", world.body(90).to_string()).await;
        let status = response.status();
        let body: Value = response.json().await.unwrap();
        if body["error"] == "fee_payer_low" {
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
            break body["message"].as_str().unwrap().to_owned();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(word.contains("fund it"), "{word}");
    // Nobody is told of a failure, and nothing is signed that nobody pays for.
    let view = world.intent_by(&world.scene.intent_of(3, 3)).await;
    assert!(!view.is_final, "{view:?}");
    world.chain.state().fate = Fate::Confirmed;
    let dead = world.chain.state().transactions();
    for signature in &dead {
        world.chain.state().fates.insert(*signature, Fate::Lost);
    }
    // Those that were signed again before it noticed die as well.
    world.chain.state().height += LIFE + 1;
    hold(1_000_000_000);
    for (nonce, answer) in waiting.await.unwrap() {
        assert!(answer.success, "{nonce}: {answer:?}");
        assert!(!dead.contains(&answer.transaction.parse().unwrap()));
    }
    assert_eq!(world.chain.state().paid(), 32);
    world.written_ahead();
}
