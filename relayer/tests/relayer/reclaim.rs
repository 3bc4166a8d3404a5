//! Reclaim: whose accounts are closed, when, and where the rent goes.

use sluice_relayer::chores::reclaim::is_idle;
use sluice_sdk::{Address, DEVNET_USDC, accounts::NONCE_IDLE_SECS, address};

use crate::{
    chores::{RENT, World, nonce_account, relayer_lamports, seconds_ago, tokens_of},
    fake::Fate,
    postgres::{Store, on_both},
    scene::{NOW, Scene, key, relayer},
};

const MONTH: i64 = NONCE_IDLE_SECS;
const EAGER: &str =
    "distribute = { enabled = false }\nreclaim = { idle_secs = 2592000, scan_ms = 20 }";

on_both! {
    what_is_idle_is_closed_and_its_rent_comes_back
    what_is_in_use_or_somebody_elses_stays
    the_configured_patience_is_kept
    many_share_a_transaction
    a_relayer_that_is_killed_closes_nothing_twice
}

/// Puts an account of a payer on the chain.
fn account(world: &World, seed: u8, sponsor: Address, idle: i64) -> Address {
    let payer = key(seed);
    let key = address::nonce_account(&payer, &DEVNET_USDC).0;
    let account = nonce_account(payer, tokens_of(&payer), sponsor, 50, seconds_ago(idle));
    world.state().accounts.insert(key, account);
    key
}

async fn closed(world: &World, accounts: &[Address]) {
    let gone = || async {
        let state = world.state();
        accounts.iter().all(|key| !state.accounts.contains_key(key))
    };
    world.until("closed accounts", gone).await;
    world.until_quiet().await;
}

async fn what_is_idle_is_closed_and_its_rent_comes_back(store: Store) {
    let world = World::new(store, Scene::default(), EAGER).await;
    let idle = account(&world, 50, relayer(), MONTH + 1);
    closed(&world, &[idle]).await;
    assert_eq!(relayer_lamports(&world), 1_000_000_000 + RENT - 5_000);
    world.until_looked().await;
    assert_eq!(world.state().transactions().len(), 1);
    world.stop().await;
}

async fn what_is_in_use_or_somebody_elses_stays(store: Store) {
    let world = World::new(store, Scene::default(), EAGER).await;
    let stay = [
        account(&world, 50, relayer(), MONTH),
        account(&world, 51, relayer(), 0),
        account(&world, 52, key(40), 10 * MONTH),
        // Paid for by the payer itself.
        account(&world, 53, key(53), 10 * MONTH),
    ];
    let goes = account(&world, 54, relayer(), 2 * MONTH);
    closed(&world, &[goes]).await;
    world.until_looked().await;
    assert!(stay.iter().all(|key| world.state().nonce(key).is_some()));
    assert_eq!(world.state().transactions().len(), 1);
    world.stop().await;
}

async fn the_configured_patience_is_kept(store: Store) {
    let patient =
        "distribute = { enabled = false }\nreclaim = { idle_secs = 7776000, scan_ms = 20 }";
    let world = World::new(store, Scene::default(), patient).await;
    let stays = account(&world, 50, relayer(), 3 * MONTH - 1);
    let goes = account(&world, 51, relayer(), 3 * MONTH + 1);
    closed(&world, &[goes]).await;
    assert!(world.state().nonce(&stays).is_some());
    world.stop().await;
}

async fn many_share_a_transaction(store: Store) {
    let mut world = World::new(store, Scene::default(), EAGER).await;
    world.die();
    let idle: Vec<Address> = (0..40)
        .map(|i| account(&world, 60 + i, relayer(), 2 * MONTH))
        .collect();
    let world = world.reborn_after_death(EAGER).await;
    closed(&world, &idle).await;
    let sent = world.state().transactions();
    assert!(sent.len() <= 4, "{} transactions", sent.len());
    let fees = 5_000 * sent.len() as u64;
    assert_eq!(relayer_lamports(&world), 1_000_000_000 + 40 * RENT - fees);
    world.stop().await;
}

async fn a_relayer_that_is_killed_closes_nothing_twice(store: Store) {
    let world = World::new(store, Scene::default(), EAGER).await;
    world.state().fate = Fate::Lost;
    let idle = account(&world, 50, relayer(), 2 * MONTH);
    let sent = || async { !world.state().sent.is_empty() };
    world.until("a transaction", sent).await;
    let world = world.reborn(EAGER).await;
    world.until_looked().await;
    world.state().fate = Fate::Confirmed;
    closed(&world, &[idle]).await;
    assert_eq!(world.state().transactions().len(), 1);
    world.stop().await;
}

#[test]
fn the_program_is_asked_for_nothing_that_it_would_refuse() {
    let scene = Scene::default();
    let account = |idle: i64, opened: u64| {
        let mut nonce = scene.nonce.unwrap();
        nonce.last_active = NOW - idle;
        nonce.opened_slot = opened;
        nonce
    };
    assert!(is_idle(&account(MONTH + 1, 99), MONTH, NOW, 100));
    assert!(!is_idle(&account(MONTH, 99), MONTH, NOW, 100));
    assert!(
        !is_idle(&account(MONTH + 1, 100), MONTH, NOW, 100),
        "opened in this slot"
    );
    // However impatient the operator is.
    assert!(!is_idle(&account(MONTH, 99), 1, NOW, 100));
    assert!(!is_idle(&account(MONTH + 1, 99), 2 * MONTH, NOW, 100));
}
