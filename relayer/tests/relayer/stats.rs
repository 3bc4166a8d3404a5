//! What was earned and what it cost, as the ledger adds it up.

use std::{sync::Arc, time::Duration};

use reqwest::StatusCode;
use sluice_intent::Skip;
use sluice_relayer::ledger::{
    Deal, Ledger,
    record::Landing,
    totals::{ServiceSums, Sums, Window},
    unix_millis,
};
use sluice_sdk::DEVNET_USDC;

use crate::{
    economics::stats,
    fake::{Fate, custom},
    http::{PATIENT, World, reason},
    ledger::{new, no, nonce, open, paid, signature, transaction},
    load::{crowd, settle_all},
    postgres::{Store, on_both},
    scene::{Scene, payer, service},
};

on_both! {
    figures_are_what_the_chain_saw
    a_window_leaves_out_what_was_before_it
    landings_are_counted_once_before_and_after_they_are_added_up
    sums_pass_64_bits
    many_that_add_up_at_once_add_up_once
}

/// A share of 200 units is worth 1,000 lamports, and all is settled.
fn priced() -> String {
    format!(
        "{PATIENT}\neconomics = {{ sol_usd = \"200000\", token_usd = {{ \"{DEVNET_USDC}\" = \"1000\" }} }}"
    )
}

async fn figures_are_what_the_chain_saw(store: Store) {
    let world = World::on(store, crowd(), &priced()).await;
    world.chain.state().send_takes = Duration::from_millis(50);
    // One of them is refused, in its batch or alone: alone its transaction fails.
    world
        .chain
        .state()
        .codes
        .insert(5, Skip::SourceFrozen.code());
    let world = Arc::new(world);
    let refused = settle_all(&world, 2).await;
    let refused = refused.iter().filter(|(_, answer)| !answer.success).count();
    assert_eq!(refused, 1);
    // And one whose transaction fails for no reason of its own.
    world.chain.state().fate = Fate::Failed(custom(999));
    let failed = world.settle(&world.body(100)).await;
    assert_eq!(reason(&failed), "unexpected_settle_error");
    world.chain.state().fate = Fate::Confirmed;

    let (transactions, sizes) = {
        let state = world.chain.state();
        let mut sizes = std::collections::BTreeMap::new();
        for wire in state.wires.values() {
            *sizes.entry(wire.payments.len() as u32).or_insert(0u64) += 1;
        }
        (state.wires.len() as u64, sizes)
    };
    let check = async |world: &World| {
        let view = stats(world, "").await;
        let total = &view.total;
        assert_eq!((total.payments, total.refused), (31, 2));
        assert_eq!(total.transactions, transactions);
        assert!((1..=2).contains(&total.failed_transactions), "{total:?}");
        assert_eq!(total.cost_lamports, 5_000 * transactions);
        assert_eq!(total.earned.as_deref(), Some("6200"));
        assert_eq!(total.volume.as_deref(), Some("310000"));
        assert_eq!(
            (total.earned_lamports, total.unpriced_payments),
            (31_000, 0)
        );
        let margin = 31_000 - 5_000 * transactions as i64;
        assert_eq!(total.margin_lamports, margin);
        let each = total.per_payment.as_ref().unwrap();
        assert_eq!(each.cost_lamports, (5_000 * transactions).div_ceil(31));
        assert_eq!(
            (each.earned.as_deref(), each.earned_lamports),
            (Some("200"), 1_000)
        );
        assert_eq!(each.margin_lamports, margin.div_euclid(31));
        assert_eq!(view.batches.sizes, sizes);
        let mean = (33.0 / transactions as f64 * 100.0).round() / 100.0;
        assert_eq!(view.batches.mean, Some(mean));
        assert_eq!((view.in_flight, view.since), (0, 0));
        assert_eq!(view.services.len(), 1);
        assert_eq!(view.services[0].service, service().to_string());
        assert_eq!(view.services[0].mint, DEVNET_USDC.to_string());
        assert_eq!(&view.services[0].figures, total);
        assert_eq!(
            view.mints.keys().collect::<Vec<_>>(),
            [&DEVNET_USDC.to_string()]
        );
        // The same for this service, this mint, and from an hour ago; nothing for others.
        let hour_ago = unix_millis() / 1_000 - 3_600;
        for query in [
            format!("?service={}", service()),
            format!("?mint={DEVNET_USDC}"),
            format!("?since={hour_ago}"),
            format!("?since={}", hour_ago - 40 * 86_400),
        ] {
            let view = stats(world, &query).await;
            assert_eq!(&view.total, total, "{query}");
            assert_eq!(view.batches.sizes, sizes, "{query}");
        }
        let none = stats(world, &format!("?service={}", payer())).await;
        assert_eq!((none.total.payments, none.batches.mean), (0, None));
        assert!(none.total.per_payment.is_none() && none.services.is_empty());
    };
    check(&world).await;
    let world = Arc::into_inner(world)
        .unwrap()
        .restart_with(&priced())
        .await;
    check(&world).await;
    for bad in ["?service=x", "?mint=x", "?since=x"] {
        let answer = world.get(&format!("/v1/stats{bad}")).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{bad}");
        let error: serde_json::Value = answer.json().await.unwrap();
        assert!(
            error["error"].as_str().unwrap().starts_with("invalid_"),
            "{error}"
        );
    }
    // Without prices the units are counted, and said to have none.
    let world = world.restart_with(PATIENT).await;
    assert!(world.settle(&world.body(101)).await.success);
    let total = stats(&world, "").await.total;
    assert_eq!((total.payments, total.unpriced_payments), (32, 1));
    assert_eq!(
        (total.earned.as_deref(), total.earned_lamports),
        (Some("6400"), 31_000)
    );
    world.stop().await;
}

async fn a_window_leaves_out_what_was_before_it(store: Store) {
    let world = World::on(store, Scene::default(), PATIENT).await;
    assert!(world.settle(&world.body(1)).await.success);
    let now = unix_millis() / 1_000;
    let ahead = stats(&world, &format!("?since={}", now + 7_200)).await;
    assert_eq!(ahead.total.payments, 0);
    let ever = stats(&world, "?since=0").await;
    assert_eq!((ever.total.payments, ever.since), (1, 0));
    // Three days and a bit ago.
    let ledger = Ledger::open(world.store.url(), "other").await.unwrap();
    ledger.fold_totals().await.unwrap();
    assert_eq!(world.store.count("SELECT count(*) FROM landings").await, 0);
    for table in ["totals", "batch_sizes"] {
        let sql = format!(
            "UPDATE {table} SET began = began - 259200 - 3600 * (1 - span / 86400) WHERE span > 0"
        );
        world.store.execute(&sql).await;
    }
    assert!(world.settle(&world.body(2)).await.success);
    for (since, payments) in [
        (now - 3_600, 1),
        (now - 5 * 86_400, 2),
        (now - 60 * 86_400, 2),
        (0, 2),
    ] {
        let view = stats(&world, &format!("?since={since}")).await;
        assert_eq!(view.total.payments, payments, "{since}");
        assert_eq!(view.batches.sizes[&1], payments, "{since}");
        assert!(view.since <= since);
    }
    world.stop().await;
}

async fn sums(ledger: &Ledger) -> Sums {
    let all = ledger.sums(Window::EVER, None, None).await.unwrap();
    match &all[..] {
        [] => Sums::default(),
        [
            ServiceSums {
                service: of, sums, ..
            },
        ] => {
            assert_eq!(*of, service());
            *sums
        }
        more => panic!("{more:?}"),
    }
}

async fn landings_are_counted_once_before_and_after_they_are_added_up(store: Store) {
    let ledger = open(&store).await;
    let priced = |of, worth| {
        let mut payment = nonce(of);
        payment.deal = Deal {
            share: 200,
            worth,
            ..Deal::default()
        };
        payment
    };
    let payments = [priced(1, Some(900)), priced(2, None), priced(3, Some(50))];
    let candidates = payments.iter().map(new).collect();
    let sealed = ledger
        .seal(candidates, |_| Ok::<_, ()>(transaction(1)))
        .await;
    assert!(sealed.unwrap().transaction.unwrap().is_some());
    assert_eq!(sums(&ledger).await, Sums::default());
    let [first, second, third] = payments.map(|payment| payment.digest);

    // Thought dead, which costs nothing; found on chain with one of its payments, and later with another.
    ledger.bury(signature(1), 2_000).await.unwrap();
    assert_eq!(sums(&ledger).await, Sums::default());
    let land = async |landings| ledger.land(signature(1), 9, false, landings).await.unwrap();
    land(vec![(first, paid(true)), (third, Landing::Refused(no()))]).await;
    let one = Sums {
        transactions: 1,
        carried: 3,
        paid: 1,
        refused: 1,
        cost: 5_000,
        volume: 10_000,
        earned: 200,
        worth: 900,
        ..Sums::default()
    };
    assert_eq!(sums(&ledger).await, one);
    ledger.fold_totals().await.unwrap();
    assert_eq!(sums(&ledger).await, one);
    land(vec![(first, paid(true)), (second, paid(true))]).await;
    let two = Sums {
        paid: 2,
        unpriced: 1,
        volume: 20_000,
        earned: 400,
        ..one
    };
    for _ in 0..3 {
        assert_eq!(sums(&ledger).await, two);
        let sizes = ledger.batch_sizes(Window::EVER, None, None).await.unwrap();
        assert_eq!(sizes.into_iter().collect::<Vec<_>>(), [(3, 1)]);
        ledger.fold_totals().await.unwrap();
    }
    land(vec![(second, paid(true))]).await;
    assert_eq!(sums(&ledger).await, two);

    // A transaction that failed as a whole cost as much.
    let alone = nonce(4);
    let sealed = ledger
        .seal(vec![new(&alone)], |_| Ok::<_, ()>(transaction(2)))
        .await;
    assert!(sealed.unwrap().transaction.unwrap().is_some());
    let landings = vec![(alone.digest, Landing::Untouched)];
    ledger.land(signature(2), 10, true, landings).await.unwrap();
    let three = Sums {
        transactions: 2,
        failed: 1,
        carried: 4,
        cost: 10_000,
        ..two
    };
    assert_eq!(sums(&ledger).await, three);
    ledger.fold_totals().await.unwrap();
    assert_eq!(sums(&ledger).await, three);
    // Hours are forgotten; what is asked for from further back is not.
    let later = unix_millis() / 1_000 + 9 * 86_400;
    ledger.prune_totals(later).await.unwrap();
    assert_eq!(sums(&ledger).await, three);
    assert_eq!(
        store
            .count("SELECT count(*) FROM totals WHERE span = 3600")
            .await,
        0
    );
    assert_eq!(
        store
            .count("SELECT count(*) FROM totals WHERE span = 86400")
            .await,
        1
    );

    let costs = ledger.recent_costs(0, 10).await.unwrap();
    let costs: Vec<_> = costs
        .iter()
        .map(|cost| (cost.lamports, cost.paid))
        .collect();
    assert_eq!(costs, [(5_000, 2)], "the failed one is nobody's measure");
}

async fn sums_pass_64_bits(store: Store) {
    let ledger = open(&store).await;
    for seed in 1..=3 {
        let mut payment = nonce(u64::from(seed));
        payment.amount = u64::MAX;
        payment.deal.share = u64::MAX;
        payment.deal.worth = Some(i64::MAX as u64);
        let digest = payment.digest;
        let sealed = ledger.seal(vec![new(&payment)], move |_| Ok::<_, ()>(transaction(seed)));
        assert!(sealed.await.unwrap().transaction.unwrap().is_some());
        ledger
            .land(signature(seed), 9, false, vec![(digest, paid(true))])
            .await
            .unwrap();
    }
    for _ in 0..2 {
        let sums = sums(&ledger).await;
        assert_eq!(sums.volume, 3 * u128::from(u64::MAX));
        assert_eq!(sums.earned, 3 * u128::from(u64::MAX));
        assert_eq!(sums.worth, 3 * i64::MAX as u128);
        ledger.fold_totals().await.unwrap();
    }
}

async fn many_that_add_up_at_once_add_up_once(store: Store) {
    let ledger = open(&store).await;
    for seed in 1..=40 {
        let mut payment = nonce(u64::from(seed));
        payment.deal.share = 200;
        let digest = payment.digest;
        let sealed = ledger.seal(vec![new(&payment)], move |_| Ok::<_, ()>(transaction(seed)));
        assert!(sealed.await.unwrap().transaction.unwrap().is_some());
        ledger
            .land(signature(seed), 9, false, vec![(digest, paid(true))])
            .await
            .unwrap();
    }
    let mut tasks = Vec::new();
    for _ in 0..4 {
        // On Postgres each is another relayer with connections of its own.
        let ledger = if store.is_postgres() {
            open(&store).await
        } else {
            ledger.clone()
        };
        tasks.push(tokio::spawn(
            async move { ledger.fold_totals().await.unwrap() },
        ));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(store.count("SELECT count(*) FROM landings").await, 0);
    let sums = sums(&ledger).await;
    assert_eq!((sums.paid, sums.cost, sums.earned), (40, 200_000, 8_000));
}
