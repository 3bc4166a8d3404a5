//! What the chain undoes, and what it does not tell: blocks that are dropped, batches without results, nodes that find
//! later what they did not find.

use std::{sync::Arc, time::Duration};

use sluice_intent::Skip;
use sluice_relayer::http::IntentView;

use crate::{
    fake::{Fate, LIFE, SLOT},
    http::{PATIENT, QUICK, World, reason},
    load::{crowd, settle_all},
    postgres::{Store, on_both},
    scene::{NOW, Scene, clock, nonce_account_of, raw},
};

on_both! {
    a_confirmed_payment_whose_block_is_dropped_lands_again
    a_confirmed_payment_whose_transaction_is_gone_is_signed_again
    a_payment_that_lands_again_in_another_block_is_told_of_there
    a_batch_that_lands_again_may_do_something_else
    what_is_gone_and_never_lands_again_expires
    what_only_a_short_history_does_not_find_is_not_undone
    a_batch_without_results_is_tried_again_where_its_nonces_are_free
    what_the_chain_does_not_tell_stays_open
    a_nonce_that_an_earlier_transaction_used_unseen_is_no_failure
}

/// Waits until the chain was asked so many more times.
async fn until_asked(world: &World, method: &str, more: u64) {
    let least = world.chain.state().calls(method) + more;
    while world.chain.state().calls(method) < least {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn a_confirmed_payment_whose_block_is_dropped_lands_again(store: Store) {
    let world = World::on(store, Scene::default(), QUICK).await;
    let answer = world.settle(&world.body(1)).await;
    assert!(answer.success, "{answer:?}");
    let signature = world.chain.state().transactions()[0];
    world.chain.state().drop_block(&signature);
    // The truth, and the same bytes once more: their blockhash lives.
    world.until_state(1, "sent").await;
    let sends = world.chain.state().sent.len();
    while world.chain.state().sent.len() < sends + 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(world.chain.state().transactions(), [signature]);
    // Whoever was told of the success is not told again, while it is open and after.
    assert_eq!(
        reason(&world.settle(&world.body(1)).await),
        "settlement_pending"
    );
    {
        let mut state = world.chain.state();
        state.fates.remove(&signature);
        state.finalized = true;
    }
    let view = world.until_state(1, "finalized").await;
    assert_eq!(view.transaction, Some(signature.to_string()));
    assert!(view.answered);
    assert_eq!(
        reason(&world.settle(&world.body(1)).await),
        "duplicate_settlement"
    );
    assert_eq!(world.chain.state().paid(), 1);
    world.written_ahead();
    world.stop().await;
}

async fn a_confirmed_payment_whose_transaction_is_gone_is_signed_again(store: Store) {
    let world = World::on(store, Scene::default(), QUICK).await;
    assert!(world.settle(&world.body(1)).await.success);
    let first = world.chain.state().transactions()[0];
    {
        let mut state = world.chain.state();
        state.drop_block(&first);
        state.height += LIFE + 1;
    }
    let view = world.until(1, |view| view.attempts.len() == 2).await;
    assert!(view.answered, "what was told stays told");
    world.chain.state().finalized = true;
    let view = world.until_state(1, "finalized").await;
    let second = world.chain.state().transactions()[1];
    assert_eq!(view.transaction, Some(second.to_string()));
    assert_eq!(
        reason(&world.settle(&world.body(1)).await),
        "duplicate_settlement"
    );
    assert_eq!(world.chain.state().paid(), 1);
    world.written_ahead();
    // And a restart finds nothing to do.
    let world = world.restart().await;
    assert_eq!(world.intent(1).await.state, "finalized");
    world.stop().await;
}

async fn a_payment_that_lands_again_in_another_block_is_told_of_there(store: Store) {
    let world = World::on(store, Scene::default(), QUICK).await;
    assert!(world.settle(&world.body(1)).await.success);
    assert_eq!(world.intent(1).await.slot, Some(SLOT));
    let signature = world.chain.state().transactions()[0];
    world.chain.state().slots.insert(signature, SLOT + 7);
    let view = world
        .until(1, |view| {
            view.slot == Some(SLOT + 7) && view.state == "confirmed"
        })
        .await;
    assert_eq!(view.attempts.len(), 1);
    world.chain.state().finalized = true;
    world.until_state(1, "finalized").await;
    assert_eq!(
        reason(&world.settle(&world.body(1)).await),
        "duplicate_settlement"
    );
    world.stop().await;
}

async fn a_batch_that_lands_again_may_do_something_else(store: Store) {
    let world = Arc::new(World::on(store, crowd(), PATIENT).await);
    world.chain.state().send_takes = Duration::from_millis(50);
    for (_, answer) in settle_all(&world, 1).await {
        assert!(answer.success, "{answer:?}");
    }
    let batch = {
        let mut state = world.chain.state();
        let large =
            |signature: &solana_signature::Signature| state.wires[signature].payments.len() > 2;
        let batch = state.transactions().into_iter().find(large).unwrap();
        // In the other block one of its payers has no money.
        let unlucky = state.wires[&batch].nonces()[1];
        state.drop_block(&batch);
        state.fates.remove(&batch);
        state.codes.insert(unlucky, Skip::BalanceShort.code());
        state.slots.insert(batch, SLOT + 3);
        (batch, unlucky)
    };
    let (signature, unlucky) = batch;
    let nonces = world.chain.state().wires[&signature].nonces();
    for nonce in nonces {
        let payer = u8::try_from(nonce % 16).unwrap();
        let intent = world.scene.intent_of(payer, nonce);
        let good = |view: &IntentView| {
            if nonce == unlucky {
                view.state == "failed"
            } else {
                view.state == "confirmed" && view.slot == Some(SLOT + 3)
            }
        };
        let mut view = world.intent_by(&intent).await;
        for _ in 0..1_000 {
            if good(&view) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
            view = world.intent_by(&intent).await;
        }
        assert!(good(&view), "{view:?}");
    }
}

async fn what_is_gone_and_never_lands_again_expires(store: Store) {
    let world = World::on(store, Scene::default(), QUICK).await;
    assert!(world.settle(&world.body(1)).await.success);
    let first = world.chain.state().transactions()[0];
    {
        let mut state = world.chain.state();
        state.drop_block(&first);
        state.fate = Fate::Lost;
        state.height += LIFE + 1;
        state
            .accounts
            .insert(sluice_relayer::chain::CLOCK, clock(NOW + 61));
    }
    let view = world.until_state(1, "expired").await;
    assert!(view.answered, "what was told stays told");
    assert_eq!(world.chain.state().paid(), 0);
    world.stop().await;
}

async fn what_only_a_short_history_does_not_find_is_not_undone(store: Store) {
    let world = World::on(store, Scene::default(), QUICK).await;
    assert!(world.settle(&world.body(1)).await.success);
    {
        let mut state = world.chain.state();
        let first = state.transactions()[0];
        // Landed long ago, and no longer kept.
        state.fates.insert(first, Fate::Lost);
        state.first_slot = 5_000;
        state.height += LIFE + 1;
    }
    until_asked(&world, "getFirstAvailableBlock", 3).await;
    let view = world.intent(1).await;
    assert_eq!((view.state.as_str(), view.attempts.len()), ("confirmed", 1));
    world.stop().await;
}

/// Marks the nonces as used, on chain, of the payers' accounts; in a state of this slot.
fn show(world: &World, used: &[(u8, u64)], slot: u64) {
    let mut state = world.chain.state();
    for payer in 0..16u8 {
        let mut nonce = world.scene.nonce.unwrap();
        nonce.payer = crate::scene::payer_of(payer).to_bytes();
        let source = sluice_sdk::address::token_account(
            &crate::scene::payer_of(payer),
            &sluice_sdk::DEVNET_USDC,
            &sluice_sdk::token::TOKEN_PROGRAM,
        );
        nonce.source = source.to_bytes();
        for (_, taken) in used.iter().filter(|(of, _)| *of == payer) {
            let window = nonce.lanes[1].window().take(*taken).unwrap();
            nonce.lanes[1].top = window.top;
            nonce.lanes[1].window = window.bits;
        }
        state.accounts.insert(nonce_account_of(payer), raw(&nonce));
    }
    let mut account = clock(NOW);
    account.data[..8].copy_from_slice(&slot.to_le_bytes());
    state.accounts.insert(sluice_relayer::chain::CLOCK, account);
}

async fn a_batch_without_results_is_tried_again_where_its_nonces_are_free(store: Store) {
    let world = Arc::new(World::on(store, crowd(), PATIENT).await);
    {
        let mut state = world.chain.state();
        state.send_takes = Duration::from_millis(50);
        state.no_results = true;
        // Every payment of a batch is skipped, and nobody tells.
        for nonce in 0..16 {
            state.codes.insert(nonce, Skip::BalanceShort.code());
        }
    }
    show(&world, &[], SLOT - 1);
    let caller = Arc::clone(&world);
    let waiting = tokio::spawn(async move { settle_all(&caller, 1).await });
    // While the batch is not final, and while the state that is read is older than it, nothing is concluded.
    while world.chain.state().calls("getTransaction") < 12 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    world.chain.state().finalized = true;
    let open = "SELECT count(*) FROM attempts WHERE live = 1";
    until_asked(&world, "getMultipleAccounts", 200).await;
    assert!(world.store.count(open).await > 0);
    show(&world, &[], SLOT);
    // Each is tried alone, and its own transaction tells.
    for (nonce, answer) in waiting.await.unwrap() {
        assert_eq!(reason(&answer), "insufficient_funds", "{nonce}");
    }
    let state = world.chain.state();
    assert_eq!(state.paid(), 0);
    let alone = state.wires.values().filter(|wire| wire.payments.len() == 1);
    assert_eq!(alone.count(), 16);
    drop(state);
    world.written_ahead();
}

async fn what_the_chain_does_not_tell_stays_open(store: Store) {
    let world = Arc::new(World::on(store, crowd(), PATIENT).await);
    // The odd ones are paid, and the even ones are not.
    let paid = |nonce: &u64| nonce % 2 == 1;
    {
        let mut state = world.chain.state();
        state.send_takes = Duration::from_millis(50);
        state.no_results = true;
        state.finalized = true;
        for nonce in (0..16).filter(|nonce| !paid(nonce)) {
            state.codes.insert(nonce, Skip::BalanceShort.code());
        }
    }
    let used: Vec<(u8, u64)> = (0..16u64)
        .filter(paid)
        .map(|nonce| (u8::try_from(nonce).unwrap(), nonce))
        .collect();
    let caller = Arc::clone(&world);
    let waiting = tokio::spawn(async move { settle_all(&caller, 1).await });
    while world.chain.state().calls("getTransaction") < 12 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    show(&world, &used, SLOT);
    // Those that were not made are let go, tried again, and told of.
    let (free, taken) = {
        // Both of a batch: one that travelled alone is told of by its own status.
        let state = world.chain.state();
        let mixed = |nonces: &Vec<u64>| nonces.iter().any(paid) && !nonces.iter().all(paid);
        let mut batches = state.wires.values().map(crate::fake::Wire::nonces);
        let batch = batches.find(mixed).unwrap();
        let of = |is_paid: bool| {
            let nonce = *batch.iter().find(|nonce| paid(nonce) == is_paid).unwrap();
            let payer = u8::try_from(nonce).unwrap();
            world.scene.intent_of(payer, nonce)
        };
        (of(false), of(true))
    };
    while world.intent_by(&free).await.state != "failed" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Of the others nobody can say whether it was this transaction that used the nonce.
    assert!(["signed", "sent"].contains(&world.intent_by(&taken).await.state.as_str()));
    // Until somebody does.
    world.chain.state().no_results = false;
    for (nonce, answer) in waiting.await.unwrap() {
        if paid(&nonce) {
            assert!(answer.success, "{nonce}: {answer:?}");
        } else {
            assert_eq!(reason(&answer), "insufficient_funds");
        }
    }
    assert_eq!(world.chain.state().paid(), 8);
    world.written_ahead();
}

/// A node does not find a transaction that landed, and then it does.
async fn a_nonce_that_an_earlier_transaction_used_unseen_is_no_failure(store: Store) {
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
        // It landed, and nobody says so.
        state.land(&first);
        state.fates.insert(first, Fate::Lost);
        state.fate = Fate::Confirmed;
        state.height += LIFE + 1;
    }
    world.until(1, |view| view.attempts.len() == 2).await;
    // The second finds the nonce used. That alone is no verdict.
    while world.chain.state().transactions().len() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    until_asked(&world, "getSignatureStatuses", 6).await;
    assert!(!waiting.is_finished());
    world.chain.state().fates.insert(first, Fate::Confirmed);
    let answer = waiting.await.unwrap();
    assert!(answer.success, "{answer:?}");
    assert_eq!(answer.transaction, first.to_string());
    assert_eq!(world.chain.state().paid(), 1);
}
