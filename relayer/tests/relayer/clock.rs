//! Bad day: this machine's clock is wrong, by years and either way. Payments are judged by the chain's.

use sluice_relayer::{chain::CLOCK, proof::Proof};

use crate::{
    fake::{Fate, LIFE},
    http::{QUICK, World, invalid, reason},
    postgres::{Store, on_both},
    scene::{Scene, clock},
};

on_both! {
    a_machine_that_is_years_behind
    a_machine_that_is_years_ahead
}

async fn a_machine_that_is_years_behind(store: Store) {
    judged_by_the_chain(store, 4_000_000_000).await;
}

async fn a_machine_that_is_years_ahead(store: Store) {
    judged_by_the_chain(store, 1_200_000_000).await;
}

async fn judged_by_the_chain(store: Store, now: i64) {
    let mut scene = Scene {
        now,
        ..Scene::default()
    };
    if let Some(nonce) = &mut scene.nonce {
        nonce.lanes[1].period_start = now;
    }
    let world = World::on(store, scene, QUICK).await;
    let expiring = |nonce: u64, after: i64| {
        let mut intent = world.scene.intent(nonce);
        intent.expires_at = u32::try_from(now + after).unwrap();
        world.scene.body(intent)
    };
    // Alive, too short, over, and further ahead than the program allows: by the chain.
    assert!(world.verify(&expiring(1, 60)).await.is_valid);
    for (after, word) in [
        (4, "invalid_sluice_split_expired"),
        (-1, "invalid_sluice_split_expired"),
        (601, "invalid_sluice_split_expiry_too_far"),
    ] {
        let body = expiring(1, after);
        assert_eq!(invalid(&world.verify(&body).await), word);
        assert_eq!(reason(&world.settle(&body).await), word);
    }
    assert!(world.settle(&world.body(1)).await.success);
    // Lost, and its transaction dead: it is signed again as long as the chain's clock says that it lives.
    world.chain.state().fate = Fate::Lost;
    assert_eq!(
        reason(&world.settle(&world.body(2)).await),
        "settlement_pending"
    );
    world.chain.state().height += LIFE + 1;
    world.until(2, |view| view.attempts.len() == 2).await;
    // Whatever a start makes of the time: what was settled is known, and what is open is followed.
    let world = world.restart().await;
    assert_eq!(
        reason(&world.settle(&world.body(1)).await),
        "duplicate_settlement"
    );
    let view = world.intent(2).await;
    assert!(
        matches!(view.proof, Some(Proof::Pending { .. })),
        "{view:?}"
    );
    {
        let mut state = world.chain.state();
        state.height += LIFE + 1;
        state.accounts.insert(CLOCK, clock(now + 61));
    }
    let view = world.until_state(2, "expired").await;
    let Some(Proof::Impossible { chain_time, .. }) = view.proof else {
        panic!("{view:?}")
    };
    assert_eq!(chain_time, now + 61);
    assert_eq!(world.chain.state().paid(), 1);
    // What was paid and never told is still redeemed when all of it has expired by every clock.
    world.chain.state().fate = Fate::Confirmed;
    assert_eq!(
        reason(&world.settle(&world.body(1)).await),
        "duplicate_settlement"
    );
}
