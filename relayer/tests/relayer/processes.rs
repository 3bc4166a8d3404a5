//! Two relayer processes on one Postgres: one dies, or only sleeps.

use std::{collections::HashMap, sync::Arc, time::Duration};

use serde_json::Value;
use sluice_relayer::proof::Proof;
use sluice_sdk::x402::SettleResponse;

use crate::{
    fake::{FakeChain, Fate},
    halt::{Change, Halt},
    http::reason,
    kill::{Dice, LIMITS, from_env, harmless},
    load::crowd,
    postgres::Store,
    process::{Process, Site, until},
    scene::Scene,
};

/// A node for each, on the same chain: so it is known who sends what.
async fn two(scene: Scene, extra: &str) -> Option<[(Site, Process); 2]> {
    let store = Arc::new(Store::postgres().await?);
    let chain = Arc::new(FakeChain::new(&scene));
    chain.state().ledger = Some(store.url().to_owned());
    let extra = format!("{LIMITS}\n{extra}");
    let url = store.url().to_owned();
    let (a, b) = (Arc::clone(&store), Arc::clone(&chain));
    let one = Site::with(a, url.clone(), b, scene.clone(), &extra).await;
    let two = Site::with(store, url, chain, scene, &extra).await;
    let (first, second) = (one.start("one").await, two.start("two").await);
    Some([(one, first), (two, second)])
}

const OWNER: &str = "SELECT count(*) FROM transactions WHERE outcome = 'open' AND replica LIKE";

async fn owns(store: &Store, name: &str) -> i64 {
    store.count(&format!("{OWNER} '{name}-%'")).await
}

/// Hundreds of payments, each to both of them at once; one is killed among them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_is_killed_under_load_and_the_other_finishes() {
    let seed = from_env("SLUICE_KILL_SEED", rand::random::<u32>().into());
    println!("seed {seed}");
    let mut dice = Dice::new(seed);
    let Some([(site, one), (other, two)]) = two(crowd(), "").await else {
        return;
    };
    site.node.chain.state().send_takes = Duration::from_millis(5);
    site.node.lose_one_in(5);
    const ROUNDS: u64 = 24;
    let payments: Vec<(u8, u64)> = (0..ROUNDS)
        .flat_map(|nonce| (0..16).map(move |payer| (payer, nonce)))
        .collect();
    let mut calls = Vec::new();
    let before = 100 + usize::try_from(dice.below(200)).unwrap();
    let landed = "SELECT count(*) FROM payments WHERE state = 'confirmed'";
    let mut one = Some(one);
    let mut open_at_death = 0;
    for (i, (payer, nonce)) in payments.iter().enumerate() {
        let body = site.body(*payer, *nonce);
        if let Some(one) = &one {
            calls.push((i, one.settling(&body)));
        }
        calls.push((i, two.settling(&body)));
        if i == before {
            // In the middle: some have landed, and some are only signed.
            until("the first landings", || async {
                site.store.count(landed).await > 20
            })
            .await;
            one.take().unwrap().kill();
            open_at_death = owns(&site.store, "one").await;
        }
        tokio::time::sleep(Duration::from_millis(dice.below(4))).await;
    }
    println!("{open_at_death} transactions were open when it died, after {before} payments");
    let mut successes = vec![0u32; payments.len()];
    for (i, call) in calls {
        let Some((status, answer)) = call.await.unwrap() else {
            continue;
        };
        if status == 200 && answer["success"] == true {
            successes[i] += 1;
        } else {
            harmless(status, &answer);
        }
    }
    // The survivor takes over all that is open.
    until("everything landed", || async {
        let open = "SELECT count(*) FROM transactions WHERE outcome = 'open'";
        site.store.count(open).await == 0
    })
    .await;
    let mut silent = 0;
    for (i, (payer, nonce)) in payments.iter().enumerate() {
        let digest = site.digest(*payer, *nonce);
        let given = two.intent(&digest).await.is_some_and(|view| view.answered);
        let answer = two.settle(&site.body(*payer, *nonce)).await;
        if answer.success {
            successes[i] += 1;
            assert!(!given);
        } else {
            assert_eq!(reason(&answer), "duplicate_settlement");
        }
        let view = two.intent(&digest).await.unwrap();
        assert!(matches!(view.proof, Some(Proof::Landed { .. })), "{view:?}");
        assert!(view.answered && successes[i] <= 1, "{digest}");
        // Given to a caller of the dead one, whose connection broke before it was said.
        silent += u32::from(successes[i] == 0);
    }
    println!(
        "{silent} of {} successes died with the process",
        payments.len()
    );
    // They share a commit with the landing: no more than was being answered at that moment.
    assert!(silent <= 64, "{silent}");
    assert_eq!(site.node.chain.state().paid(), payments.len());
    site.signed_once(payments.len());
    site.written_ahead();
    drop(other);
}

fn success(answer: &Option<(u16, Value)>) -> bool {
    let (status, answer) = answer.as_ref().expect("an answer");
    if *status == 200 {
        let answer: SettleResponse = serde_json::from_value(answer.clone()).unwrap();
        if answer.success {
            return true;
        }
    }
    harmless(*status, answer);
    false
}

/// Fencing: it sleeps with open transactions, loses them, wakes up, and neither sends nor answers what is another's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_slept_leaves_alone_what_was_taken_over() {
    // Seldom enough that it does not sleep in the middle of a send.
    let seldom = "chain = { rpc_timeout_secs = 60, poll_ms = 10, rebroadcast_ms = 1000 }";
    let Some([(site, one), (other, two)]) = two(crowd(), seldom).await else {
        return;
    };
    let chain = Arc::clone(&site.node.chain);
    chain.state().fate = Fate::Lost;
    let calls: HashMap<u8, _> = (0..16)
        .map(|payer| (payer, one.settling(&site.body(payer, 1))))
        .collect();
    until("everything sent", || async {
        let state = chain.state();
        let carried = state.wires.values().map(|wire| wire.payments.len());
        carried.sum::<usize>() == 16
    })
    .await;
    let open = owns(&site.store, "one").await;
    assert!(open > 0);
    // All of them again, in one go; the next time is far off.
    let _ = site.node.take_sends();
    let mut again = Vec::new();
    until("a repeated send of each", || {
        again.extend(site.node.take_sends());
        let seen: std::collections::HashSet<_> = again.iter().collect();
        let all = i64::try_from(seen.len()).unwrap() == open;
        async move { all }
    })
    .await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    one.sleep().await;
    // Somebody asks the other one meanwhile.
    let second: HashMap<u8, _> = (0..16)
        .map(|payer| (payer, two.settling(&site.body(payer, 1))))
        .collect();
    until("the takeover", || async {
        owns(&site.store, "two").await == open
    })
    .await;
    let _ = site.node.take_sends();
    one.wake();
    // It is heard of again, and has had the time to do what it does.
    let alive = "SELECT count(*) FROM replicas WHERE id LIKE 'one-%' AND \
         alive_until > CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)";
    until("the sleeper", || async {
        site.store.count(alive).await == 1
    })
    .await;
    let sends = || async { other.node.take_sends().len() };
    for _ in 0..3 {
        // As long as the other repeats its sends this one could have.
        until("a repeated send", || async { sends().await > 0 }).await;
    }
    assert_eq!(site.node.take_sends(), [], "it sent what is another's");
    assert_eq!(owns(&site.store, "two").await, open);
    chain.state().fate = Fate::Confirmed;
    let mut successes = HashMap::new();
    for (payer, call) in calls.into_iter().chain(second) {
        *successes.entry(payer).or_insert(0) += u32::from(success(&call.await.unwrap()));
    }
    for payer in 0..16 {
        let told = &successes[&payer];
        assert!(*told <= 1);
        for relayer in [&one, &two] {
            let answer = relayer.settle(&site.body(payer, 1)).await;
            assert_eq!(reason(&answer), "duplicate_settlement");
        }
        assert_eq!(*told, 1, "nobody was told of {payer}");
    }
    assert_eq!(chain.state().paid(), 16);
    site.signed_once(16);
    // And it is as good as any other from here on.
    assert!(one.settle(&site.body(3, 2)).await.success);
    site.written_ahead();
}

/// The same between the commit and the first byte.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_slept_before_it_sent_does_not_send() {
    let Some([(site, one), (_other, two)]) = two(Scene::default(), "").await else {
        return;
    };
    let halt = Halt::in_commit(&site.store, Change::Signing).await;
    let call = one.settling(&site.body(0, 1));
    halt.reached().await;
    one.sleep().await;
    halt.release().await;
    let digest = site.digest(0, 1);
    let landed = |proof: &Option<Proof>| matches!(proof, Some(Proof::Landed { .. }));
    two.until(&digest, |view| landed(&view.proof)).await;
    assert_eq!(site.node.take_sends(), []);
    one.wake();
    assert!(success(&call.await.unwrap()), "its caller is the only one");
    assert_eq!(site.node.take_sends(), []);
    for relayer in [&one, &two] {
        let answer = relayer.settle(&site.body(0, 1)).await;
        assert_eq!(reason(&answer), "duplicate_settlement");
    }
    assert_eq!(site.node.chain.state().paid(), 1);
    site.signed_once(1);
}
