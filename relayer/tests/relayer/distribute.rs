//! Distribution of vaults: when, how many at once, at what cost, and what happens when a relayer dies over it.

use std::sync::Arc;

use sluice_relayer::{
    chores::distribute::{Due, Vault, due},
    ledger::{
        Ledger,
        chores::{Claim, End, Kind, NewChore},
    },
};
use sluice_sdk::{
    Address, DEVNET_USDC,
    accounts::SERVICE_CLOSED,
    token::{self, TOKEN_PROGRAM, TokenAccount},
};

use solana_signature::Signature;

use crate::{
    chores::{
        ChoreChain, World, add_service, relayer_lamports, token_account, tokens_of, vault_of,
    },
    fake::{Fate, LIFE, custom},
    http::{PATIENT, World as Payments},
    postgres::{Store, on_both},
    scene::{Scene, key, service},
};

/// Nothing is too young, and nothing is divided that has not reached its threshold.
const AT_ONCE: &str = "reclaim = { enabled = false }\n\
     distribute = { threshold = 1000, least = 1, age_ms = 3600000, soon_ms = 3600000, scan_ms = 20 }";

on_both! {
    a_vault_over_its_threshold_is_divided_at_once
    less_waits_for_its_age_across_a_restart
    what_was_just_paid_is_divided_soon
    vaults_share_a_transaction
    one_that_fails_takes_no_other_with_it
    a_pause_a_suspension_and_a_closed_service_stop_nothing
    what_nobody_can_be_paid_is_left_alone
    a_day_costs_no_more_than_its_cap
    a_distribution_must_earn_its_cost
    a_relayer_that_is_killed_repeats_nothing_that_may_land
    a_relayer_that_is_killed_before_it_sends_sends_what_it_wrote
    what_can_no_longer_land_is_done_anew
    an_rpc_that_is_down_costs_nothing
    services_are_learned_from_payments
    one_relayer_of_many_gets_a_vault
    what_was_read_before_the_last_one_landed_is_refused
    what_a_silent_replica_left_open_is_taken_over_once
}

async fn a_vault_over_its_threshold_is_divided_at_once(store: Store) {
    let world = World::new(store, Scene::default(), AT_ONCE).await;
    world.state().pay(service(), 999);
    world.until_looked().await;
    assert_eq!(world.state().sent, []);
    world.state().pay(service(), 1);
    let paid = || async { world.state().units(&tokens_of(&key(5))) == 1_000 };
    world.until("the recipient's money", paid).await;
    world.until_quiet().await;
    assert_eq!(world.chores("landed").await, 1);
    assert_eq!(relayer_lamports(&world), 1_000_000_000 - 5_000);
    // Nothing is left to do, and nothing is done.
    world.until_looked().await;
    assert_eq!(world.state().transactions().len(), 1);
    let pending = "SELECT count(*) FROM chore_targets WHERE since IS NOT NULL";
    assert_eq!(world.store.count(pending).await, 0);
    world.stop().await;
}

async fn less_waits_for_its_age_across_a_restart(store: Store) {
    let world = World::new(store, Scene::default(), AT_ONCE).await;
    world.state().pay(service(), 500);
    let pending = "SELECT count(*) FROM chore_targets WHERE since IS NOT NULL";
    let noted = || async { world.store.count(pending).await == 1 };
    world.until("the note of since when", noted).await;
    world.until_looked().await;
    assert_eq!(world.state().sent, []);
    // Eight hours pass, in which nobody runs.
    world
        .store
        .execute("UPDATE chore_targets SET since = since - 28800000")
        .await;
    let world = world.reborn(AT_ONCE).await;
    let paid = || async { world.state().units(&tokens_of(&key(5))) == 500 };
    world.until("the recipient's money", paid).await;
    world.until_quiet().await;
    world.stop().await;
}

async fn what_was_just_paid_is_divided_soon(store: Store) {
    let extra = "distribute = { threshold = 1000000, least = 1, age_ms = 3600000, soon_ms = 20, scan_ms = 3600000 }";
    let world = World::new(store, Scene::default(), extra).await;
    world.until_looked_once().await;
    world.state().pay(service(), 200);
    let engine = Arc::clone(world.relayer.as_ref().unwrap().engine());
    // Whatever else is said to have been paid is no service.
    engine.vault_paid(key(77));
    engine.vault_paid(service());
    let paid = || async { world.state().units(&tokens_of(&key(5))) == 200 };
    world.until("the recipient's money", paid).await;
    // Announced before it can be seen.
    engine.vault_paid(service());
    world.until_quiet().await;
    world.state().pay(service(), 300);
    let paid = || async { world.state().units(&tokens_of(&key(5))) == 500 };
    world.until("the rest", paid).await;
    world.until_quiet().await;
    let strangers = format!(
        "SELECT count(*) FROM chore_targets WHERE subject <> '{}'",
        service()
    );
    assert_eq!(world.store.count(&strangers).await, 0);
    drop(engine);
    world.stop().await;
}

async fn vaults_share_a_transaction(store: Store) {
    let mut world = World::new(store, Scene::default(), AT_ONCE).await;
    world.die();
    let services: Vec<Address> = (100..140)
        .map(|id| add_service(&world, id, |_| {}))
        .collect();
    for service in &services {
        world.state().pay(*service, 5_000);
    }
    let world = world.reborn_after_death(AT_ONCE).await;
    let empty = || async {
        let state = world.state();
        services.iter().all(|key| state.units(&vault_of(key)) == 0)
    };
    world.until("every vault's money", empty).await;
    world.until_quiet().await;
    {
        let state = world.state();
        assert_eq!(state.units(&tokens_of(&key(5))), 200_000);
        let sent = state.transactions();
        assert!(sent.len() <= 6, "{} transactions", sent.len());
        for signature in sent {
            let wire = &state.wires[&signature];
            assert!(wire.instructions.len() <= 16 && wire.len <= 4_096);
        }
    }
    assert_eq!(world.chores("failed").await, 0);
    world.stop().await;
}

async fn one_that_fails_takes_no_other_with_it(store: Store) {
    let world = World::new(store, Scene::default(), AT_ONCE).await;
    let (good, bad) = (
        add_service(&world, 100, |_| {}),
        add_service(&world, 101, |_| {}),
    );
    {
        let mut state = world.state();
        state.broken.push(bad);
        state.pay(good, 5_000);
        state.pay(bad, 5_000);
    }
    let engine = Arc::clone(world.relayer.as_ref().unwrap().engine());
    engine.vault_paid(good);
    engine.vault_paid(bad);
    drop(engine);
    let failed =
        format!("SELECT count(*) FROM chore_targets WHERE subject = '{bad}' AND failures >= 1");
    let seen = || async {
        world.state().units(&vault_of(&good)) == 0 && world.store.count(&failed).await == 1
    };
    // At the latest once both have rested after their common failure.
    world.until("the good one's money", seen).await;
    world.until_quiet().await;
    {
        let state = world.state();
        assert_eq!(state.units(&vault_of(&bad)), 5_000);
        // It rests for longer each time, so it cannot burn a fee a second.
        assert!(state.transactions().len() <= 6);
    }
    world.stop().await;
}

async fn a_pause_a_suspension_and_a_closed_service_stop_nothing(store: Store) {
    let mut scene = Scene::default();
    scene.config.paused = 1;
    scene.facilitator.suspended = 1;
    scene.service.status = SERVICE_CLOSED;
    scene.accepted.as_mut().unwrap().flags = 0;
    let world = World::new(store, scene, AT_ONCE).await;
    world.state().pay(service(), 1_000);
    let paid = || async { world.state().units(&tokens_of(&key(5))) == 1_000 };
    world.until("the recipient's money", paid).await;
    world.until_quiet().await;
    world.stop().await;
}

async fn what_nobody_can_be_paid_is_left_alone(store: Store) {
    let world = World::new(store, Scene::default(), AT_ONCE).await;
    {
        // Every leg's account is closed: the program could only note that all of it is held.
        let mut state = world.state();
        for owner in [key(5), key(6), key(9)] {
            state.accounts.remove(&tokens_of(&owner));
        }
        state.pay(service(), 5_000);
    }
    world.until_looked().await;
    assert_eq!(world.state().sent, []);
    world.state().put_units(tokens_of(&key(5)), key(5), 0);
    let paid = || async { world.state().units(&tokens_of(&key(5))) > 0 };
    world.until("the recipient's money", paid).await;
    world.until_quiet().await;
    world.stop().await;
}

async fn a_day_costs_no_more_than_its_cap(store: Store) {
    let capped = AT_ONCE.replace("threshold", "max_lamports_per_day = 14999, threshold");
    let world = World::new(store, Scene::default(), &capped).await;
    for round in 1..=2u64 {
        world.state().pay(service(), 5_000);
        let paid = || async { world.state().units(&tokens_of(&key(5))) == round * 5_000 };
        world.until("the recipient's money", paid).await;
        world.until_quiet().await;
    }
    // A third would make 15,000.
    world.state().pay(service(), 5_000);
    world.until_looked().await;
    assert_eq!(world.state().transactions().len(), 2);
    // The day passes.
    world
        .store
        .execute("UPDATE chores SET signed_at = signed_at - 86400001")
        .await;
    let paid = || async { world.state().units(&tokens_of(&key(5))) == 15_000 };
    world.until("the rest", paid).await;
    world.until_quiet().await;
    world.stop().await;
}

async fn a_distribution_must_earn_its_cost(store: Store) {
    // The facilitator's share is 2 %: of 10,000 units 200, worth 4,000 lamports at 2 USD and 100 USD for SOL.
    let priced = format!(
        "{AT_ONCE}\neconomics = {{ sol_usd = \"100\", token_usd = {{ \"{DEVNET_USDC}\" = \"2\" }} }}"
    );
    let world = World::new(store, Scene::default(), &priced).await;
    world.state().pay(service(), 10_000);
    world.until_looked().await;
    assert_eq!(world.state().sent, []);
    // 250 units are worth the 5,000 lamports that it costs.
    world.state().pay(service(), 2_500);
    let paid = || async { world.state().units(&tokens_of(&key(5))) == 12_500 };
    world.until("the recipient's money", paid).await;
    world.until_quiet().await;
    world.stop().await;
}

async fn a_relayer_that_is_killed_repeats_nothing_that_may_land(store: Store) {
    let world = World::new(store, Scene::default(), AT_ONCE).await;
    world.state().fate = Fate::Lost;
    world.state().pay(service(), 5_000);
    let sent = || async { !world.state().sent.is_empty() };
    world.until("a transaction", sent).await;
    let world = world.reborn(AT_ONCE).await;
    // It may still land, so it is sent again and nothing else is, for as long as anybody looks.
    world.until_looked().await;
    let again = world.state().sent.len();
    let repeated = || async { world.state().sent.len() > again + 2 };
    world.until("the same bytes again", repeated).await;
    assert_eq!(world.state().transactions().len(), 1);
    world.state().fate = Fate::Confirmed;
    let paid = || async { world.state().units(&tokens_of(&key(5))) == 5_000 };
    world.until("the recipient's money", paid).await;
    world.until_quiet().await;
    assert_eq!(world.state().transactions().len(), 1);
    assert_eq!(relayer_lamports(&world), 1_000_000_000 - 5_000);
    world.stop().await;
}

async fn a_relayer_that_is_killed_before_it_sends_sends_what_it_wrote(store: Store) {
    let world = World::new(store, Scene::default(), AT_ONCE).await;
    {
        let mut state = world.state();
        state.holds_sends = true;
        state.pay(service(), 5_000);
    }
    let written = || async { world.chores("signed").await == 1 };
    world.until("a transaction in the ledger", written).await;
    let world = world.reborn(AT_ONCE).await;
    assert_eq!(world.state().sent, []);
    world.state().holds_sends = false;
    let paid = || async { world.state().units(&tokens_of(&key(5))) == 5_000 };
    world.until("the recipient's money", paid).await;
    world.until_quiet().await;
    let all = "SELECT count(*) FROM chores";
    assert_eq!(world.store.count(all).await, 1);
    world.stop().await;
}

async fn what_can_no_longer_land_is_done_anew(store: Store) {
    let world = World::new(store, Scene::default(), AT_ONCE).await;
    world.state().fate = Fate::Lost;
    world.state().pay(service(), 5_000);
    let sent = || async { !world.state().sent.is_empty() };
    world.until("a transaction", sent).await;
    {
        let mut state = world.state();
        let first = state.sent[0];
        state.fates.insert(first, Fate::Lost);
        state.fate = Fate::Confirmed;
        state.height += LIFE + 100;
    }
    let paid = || async { world.state().units(&tokens_of(&key(5))) == 5_000 };
    world.until("the recipient's money", paid).await;
    world.until_quiet().await;
    assert_eq!(world.chores("dead").await, 1);
    assert_eq!(world.chores("landed").await, 1);
    world.stop().await;
}

async fn an_rpc_that_is_down_costs_nothing(store: Store) {
    let world = World::new(store, Scene::default(), AT_ONCE).await;
    world.until_looked().await;
    {
        let mut state = world.state();
        state.fate = Fate::Lost;
        state.pay(service(), 5_000);
    }
    let sent = || async { !world.state().sent.is_empty() };
    world.until("a transaction", sent).await;
    {
        let mut state = world.state();
        state.down = true;
        state.height += LIFE + 100;
    }
    // Whatever the node does not say proves nothing.
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(world.chores("signed").await, 1);
    {
        let mut state = world.state();
        state.down = false;
        state.fate = Fate::Confirmed;
    }
    let paid = || async { world.state().units(&tokens_of(&key(5))) == 5_000 };
    world.until("the recipient's money", paid).await;
    world.until_quiet().await;
    assert_eq!(world.state().transactions().len(), 1);
    world.stop().await;
}

async fn services_are_learned_from_payments(store: Store) {
    let quiet = format!("{PATIENT}\ndistribute = {{ scan_ms = 20, discover_secs = 0 }}");
    let payments = Payments::on(store, Scene::default(), &quiet).await;
    let known = format!(
        "SELECT count(*) FROM chore_targets WHERE kind = 'distribute' AND subject = '{}'",
        service()
    );
    assert_eq!(payments.store.count(&known).await, 0);
    assert!(payments.settle(&payments.body(1)).await.success);
    for _ in 0..1_000 {
        if payments.store.count(&known).await == 1 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(payments.store.count(&known).await, 1);
    payments.stop().await;
}

fn chore(seed: u8, subjects: &[u8]) -> NewChore {
    NewChore {
        kind: Kind::Distribute,
        signature: Signature::from([seed; 64]),
        wire: vec![seed; 100],
        last_valid_block_height: 1_150,
        fee_payer: key(1),
        lamports: 5_000,
        subjects: subjects.iter().map(|seed| key(*seed)).collect(),
    }
}

async fn open(store: &Store, replica: &str) -> Ledger {
    let ledger = Ledger::open(store.url(), replica).await.unwrap();
    ledger.heartbeat(600_000).await.unwrap();
    ledger
}

async fn one_relayer_of_many_gets_a_vault(store: Store) {
    let mut ledgers = Vec::new();
    for replica in ["a", "b", "c", "d"] {
        ledgers.push(open(&store, replica).await);
    }
    // Every one overlaps with every other one in the vault 7, in whatever order.
    let claims = (0..40u8).map(|seed| {
        let ledger = &ledgers[usize::from(seed % 4)];
        let subjects = if seed % 2 == 0 {
            [7, 100 + seed]
        } else {
            [100 + seed, 7]
        };
        ledger.write_chore(chore(seed, &subjects), 50, None)
    });
    let claims = futures_util::future::join_all(claims).await;
    let written = claims
        .iter()
        .filter(|claim| matches!(claim, Ok(Claim::Written)))
        .count();
    assert_eq!(written, 1, "{claims:?}");
    // Who lost left nothing behind: the other vaults are free.
    assert_eq!(ledgers[0].busy(Kind::Distribute).await.unwrap().len(), 2);
    // Of a budget for three more, three are made.
    let claims = (50..80u8).map(|seed| {
        let ledger = &ledgers[usize::from(seed % 4)];
        ledger.write_chore(chore(seed, &[seed]), 50, Some(20_000))
    });
    let claims = futures_util::future::join_all(claims).await;
    let written = claims
        .iter()
        .filter(|claim| matches!(claim, Ok(Claim::Written)))
        .count();
    assert_eq!(written, 3, "{claims:?}");
    let spent = ledgers[0].spent_on(Kind::Distribute).await.unwrap();
    assert_eq!(spent, 20_000);
}

async fn what_was_read_before_the_last_one_landed_is_refused(store: Store) {
    let ledger = open(&store, "a").await;
    let write = async |seed: u8, slot: u64| {
        ledger
            .write_chore(chore(seed, &[7]), slot, None)
            .await
            .unwrap()
    };
    assert_eq!(write(1, 50).await, Claim::Written);
    assert_eq!(write(2, 50).await, Claim::Taken, "one is open");
    let landed = End::Landed { slot: 60 };
    let first = Signature::from([1; 64]);
    assert!(ledger.end_chore(first, landed.clone()).await.unwrap());
    assert!(!ledger.end_chore(first, landed).await.unwrap(), "once");
    assert_eq!(write(2, 59).await, Claim::Taken, "an old look at the chain");
    assert_eq!(write(1, 60).await, Claim::Taken, "the very same");
    assert_eq!(write(2, 60).await, Claim::Written);
    let second = Signature::from([2; 64]);
    ledger.end_chore(second, End::Dead).await.unwrap();
    assert_eq!(write(3, 60).await, Claim::Written);
    let failed = End::Failed {
        slot: 70,
        error: "no".to_owned(),
        outrun: false,
    };
    let third = Signature::from([3; 64]);
    ledger.end_chore(third, failed).await.unwrap();
    let targets = ledger.targets(Kind::Distribute).await.unwrap();
    assert_eq!((targets.len(), targets[0].failures), (1, 1));
    assert!(!targets[0].rest.is_zero());
}

async fn what_a_silent_replica_left_open_is_taken_over_once(store: Store) {
    let (one, two) = (open(&store, "a").await, open(&store, "b").await);
    let claim = one.write_chore(chore(1, &[7]), 50, None).await.unwrap();
    assert_eq!(claim, Claim::Written);
    assert_eq!(two.adopt_chores().await.unwrap(), 0, "it lives");
    assert_eq!(two.open_chores().await.unwrap(), []);
    one.leave().await.unwrap();
    assert_eq!(two.adopt_chores().await.unwrap(), 1);
    assert_eq!(two.adopt_chores().await.unwrap(), 0);
    let open = two.open_chores().await.unwrap();
    assert_eq!(open.len(), 1);
    assert_eq!(open[0].wire, vec![1; 100]);
    assert_eq!(one.open_chores().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_relayers_on_one_ledger_do_not_both_do_it() {
    let Some(store) = Store::postgres().await else {
        return;
    };
    let (store, scene) = (Arc::new(store), Scene::default());
    let chain = Arc::new(ChoreChain::new(&scene, store.url()));
    let one = World::of(
        Arc::clone(&store),
        Arc::clone(&chain),
        scene.clone(),
        AT_ONCE,
    )
    .await;
    let two = World::of(store, chain, scene, AT_ONCE).await;
    for round in 1..=10u64 {
        one.state().pay(service(), 5_000);
        let paid = || async { one.state().units(&tokens_of(&key(5))) == round * 5_000 };
        one.until("the recipient's money", paid).await;
        one.until_quiet().await;
    }
    one.until_looked().await;
    assert_eq!(one.state().transactions().len(), 10, "one was not needed");
    assert_eq!(one.chores("failed").await, 0);
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_else_being_faster_is_no_failure() {
    let world = World::new(Store::sqlite(), Scene::default(), AT_ONCE).await;
    {
        let mut state = world.state();
        state.fate = Fate::Failed(custom(114));
        state.pay(service(), 5_000);
    }
    let failed = || async { world.chores("failed").await > 0 };
    world.until("the failure", failed).await;
    world.state().put_units(vault_of(&service()), service(), 0);
    world.until_quiet().await;
    let blamed = "SELECT count(*) FROM chore_targets WHERE failures > 0";
    assert_eq!(world.store.count(blamed).await, 0);
    world.stop().await;
}

fn vault(units: u64, change: impl FnOnce(&mut Vault)) -> Due {
    let scene = Scene::default();
    let read = |owner: Address, units: u64| -> Option<TokenAccount> {
        let account = token_account(owner, units);
        token::decode_account(&account.owner, &account.data)
    };
    let mut vault = Vault {
        address: service(),
        service: scene.service,
        accepted: scene.accepted.unwrap(),
        mint: token::decode_mint(&TOKEN_PROGRAM, &scene.mint.data),
        vault: read(service(), units),
        treasury: key(9),
        facilitator: key(6),
        legs: vec![read(key(5), 0), read(key(9), 0), read(key(6), 0)],
    };
    change(&mut vault);
    due(&vault)
}

/// The judgement, case by case; `tests/tests/chores.rs` holds it against the program.
#[test]
fn what_a_distribution_would_do() {
    let of = |divided, paid, earned| Due {
        divided,
        paid,
        earned,
    };
    // 1 % to the treasury, 2 % to the facilitator, the rest to the recipient.
    assert_eq!(vault(10_000, |_| {}), of(10_000, 10_000, 200));
    assert_eq!(vault(99, |_| {}), of(0, 0, 0), "below the least payment");
    assert_eq!(vault(100, |_| {}), of(100, 100, 2));
    // A leg that cannot be paid is held, and the others are paid.
    assert_eq!(vault(10_000, |on| on.legs[0] = None), of(10_000, 300, 200));
    assert_eq!(vault(10_000, |on| on.legs[2] = None), of(10_000, 9_800, 0));
    let frozen = vault(10_000, |on| on.legs[1].as_mut().unwrap().frozen = true);
    assert_eq!(frozen, of(10_000, 9_900, 200));
    let stolen = vault(10_000, |on| on.legs[0].as_mut().unwrap().owner = key(8));
    assert_eq!(stolen, of(10_000, 300, 200));
    // What is held is nobody else's, and is paid where it can be.
    let held = |on: &mut Vault| {
        on.service.held_total = 1_000;
        on.service.held_facilitator = 1_000;
    };
    assert_eq!(vault(1_000, held), of(0, 1_000, 1_000));
    assert_eq!(vault(1_050, held), of(0, 1_000, 1_000));
    assert_eq!(vault(11_000, held), of(10_000, 11_000, 1_200));
    // A permanent delegate has taken some.
    assert_eq!(vault(400, held), of(0, 400, 400));
    // Nothing leaves a vault that is frozen, or somebody else's.
    let frozen = vault(10_000, |on| on.vault.as_mut().unwrap().frozen = true);
    assert_eq!(frozen, of(10_000, 0, 0));
    assert_eq!(vault(10_000, |on| on.vault = None), of(0, 0, 0));
    assert_eq!(vault(10_000, |on| on.mint = None), of(10_000, 0, 0));
}
