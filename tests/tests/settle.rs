//! What settles: one to eight recipients, single payments and batches, to the unit.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use sluice_intent::Skip;
use sluice_sdk::transaction::Version;
use sluice_tests::{World, WorldOptions};

/// Shares that do not divide evenly, for `n` recipients.
fn shares(n: usize) -> Vec<u16> {
    let each = 10_000 / n as u16;
    let mut shares = vec![each; n];
    shares[0] += 10_000 - each * n as u16;
    shares
}

#[test]
fn one_to_eight_recipients_are_paid_to_the_unit() {
    for n in 1..=8 {
        let mut world = World::with_recipients(&shares(n));
        let payer = world.payer(10_000_019);
        let before = world.money(&[&payer]);
        let amount = 1_000_003;
        let item = world.item(&payer, amount, 0);
        let outcome = world.settle(&[item], true).unwrap();

        assert_eq!(outcome.codes, [0], "{n} recipients");
        assert_eq!(outcome.fee, 5_000, "one signature pays for everything");
        let service = world.service_account(&world.service);
        let split = service.split(amount, 1).unwrap();
        assert_eq!(split.treasury, 5_000);
        assert_eq!(split.facilitator, 10_000);
        assert_eq!(
            world.balance(&world.token_of(&world.treasury)),
            split.treasury
        );
        assert_eq!(
            world.balance(&world.token_of(&world.fee_wallet)),
            split.facilitator
        );
        for (owner, leg) in world.recipients.iter().zip(split.recipients) {
            assert_eq!(world.balance(&world.token_of(owner)), leg);
            assert!(leg > 0);
        }
        assert_eq!(world.balance(&payer.source), 10_000_019 - amount);
        assert_eq!(world.money(&[&payer]), before, "no unit is created or lost");
        assert_eq!(
            (service.settled_total, service.payments, service.held_total),
            (amount, 1, 0)
        );
        let event = outcome.event();
        assert_eq!(event.total, amount);
        assert_eq!(event.recipients, split.recipients[..n]);
        assert_eq!((event.held, event.codes), (0, vec![0]));
    }
}

#[test]
fn the_payer_needs_no_lamports_and_loses_none() {
    let mut world = World::new();
    let payer = world.payer(1_000_000);
    assert_eq!(world.svm.get_balance(&payer.key()).unwrap_or(0), 0);
    let relayer = solana_signer::Signer::pubkey(&world.relayer);
    let before = world.svm.get_balance(&relayer).unwrap();
    let item = world.item(&payer, 1_000_000, 0);
    world.settle(&[item], true).unwrap();
    assert_eq!(world.svm.get_balance(&payer.key()).unwrap_or(0), 0);
    assert_eq!(before - world.svm.get_balance(&relayer).unwrap(), 5_000);
}

#[test]
fn the_nonce_and_the_limits_remember_a_payment() {
    let mut world = World::new();
    let payer = world.payer(1_000_000);
    let item = world.item(&payer, 1_000, 5);
    world.settle(&[item], true).unwrap();
    let state = world.nonce_account(&payer.nonce_account);
    assert_eq!(state.lanes[1].top, 5);
    assert!(state.lanes[1].window().is_used(5) && !state.lanes[1].window().is_used(4));
    assert_eq!(state.lanes[1].total_spent, 1_000);
    assert_eq!(state.lanes[0].top, 0, "lanes do not share a window");
    assert_eq!(
        (state.spent_total, state.last_active),
        (1_000, world.time())
    );
}

#[test]
fn nonces_settle_in_any_order_within_the_window() {
    let mut world = World::new();
    let payer = world.payer(1_000_000);
    for nonce in [7, 3, 5, 0, 130, 6] {
        let item = world.item(&payer, 10, nonce);
        assert_eq!(
            world.settle(&[item], true).unwrap().codes,
            [0],
            "nonce {nonce}"
        );
    }
}

#[test]
fn both_lanes_settle() {
    let mut world = World::new();
    let payer = world.payer(1_000_000);
    for lane in [0, 1] {
        let mut intent = world.intent(&payer, 500, 0);
        intent.lane = lane;
        let item = payer.item(&payer.sign(intent));
        assert_eq!(world.settle(&[item], true).unwrap().codes, [0]);
    }
}

#[test]
fn a_batch_pays_the_same_legs_as_its_sum() {
    let mut world = World::with_recipients(&shares(3));
    let payers: Vec<_> = (0..5).map(|_| world.payer(5_000_000)).collect();
    let all: Vec<_> = payers.iter().collect();
    let before = world.money(&all);
    let items: Vec<_> = payers
        .iter()
        .enumerate()
        .map(|(i, payer)| world.item(payer, 999_983 + i as u64, 0))
        .collect();
    let outcome = world.settle(&items, false).unwrap();
    assert_eq!(outcome.codes, [0; 5]);
    let sum = items.iter().map(|item| item.entry.amount).sum();
    let split = world.service_account(&world.service).split(sum, 5).unwrap();
    let event = outcome.event();
    assert_eq!(
        (event.total, event.treasury, event.facilitator),
        (sum, split.treasury, split.facilitator)
    );
    assert_eq!(
        world.balance(&world.token_of(&world.recipients[0])),
        split.recipients[0]
    );
    assert_eq!(world.money(&all), before);
}

#[test]
fn one_payer_may_stand_in_a_batch_twice() {
    let mut world = World::new();
    let payer = world.payer(1_000);
    let items = [world.item(&payer, 600, 0), world.item(&payer, 400, 1)];
    assert_eq!(world.settle(&items, false).unwrap().codes, [0, 0]);
    assert_eq!(world.balance(&payer.source), 0);
}

#[test]
fn the_second_of_two_that_exceed_the_balance_is_skipped() {
    let mut world = World::new();
    let payer = world.payer(1_000);
    world.change_token(payer.source, |state| {
        state.delegate = state.delegate.map(|(key, _)| (key, 10_000));
    });
    let items = [
        world.item(&payer, 600, 0),
        world.item(&payer, 600, 1),
        world.item(&payer, 400, 2),
    ];
    let outcome = world.settle(&items, false).unwrap();
    assert_eq!(outcome.skips(), [None, Some(Skip::BalanceShort), None]);
    assert_eq!(world.balance(&payer.source), 0);
}

#[test]
fn twenty_payments_fit_in_a_version_1_transaction() {
    let mut world = World::with_recipients(&shares(4));
    let payers: Vec<_> = (0..20).map(|_| world.payer(1_000_000)).collect();
    let items: Vec<_> = payers
        .iter()
        .map(|payer| world.item(payer, 1_000, 0))
        .collect();
    let outcome = world.settle(&items, false).unwrap();
    assert_eq!(outcome.codes, [0; 20]);
    assert_eq!(outcome.fee, 5_000);
}

#[test]
fn nineteen_payments_with_eight_recipients_fit_in_a_version_1_transaction() {
    let mut world = World::with_recipients(&shares(8));
    let payers: Vec<_> = (0..19).map(|_| world.payer(1_000_000)).collect();
    let items: Vec<_> = payers
        .iter()
        .map(|payer| world.item(payer, 1_000, 0))
        .collect();
    assert_eq!(world.settle(&items, false).unwrap().codes, [0; 19]);
}

/// Each call costs about 1,000 compute units, and one takes at most sixteen signers.
#[test]
fn money_moves_in_as_few_calls_as_can_be() {
    let mut world = World::with_recipients(&[6_000, 4_000]);
    for (payments, calls) in [
        (1, vec![4]),
        (2, vec![2, 4]),
        (16, vec![16, 4]),
        (17, vec![16, 1, 4]),
    ] {
        let payers: Vec<_> = (0..payments).map(|_| world.payer(1_000)).collect();
        let items: Vec<_> = payers.iter().map(|p| world.item(p, 1_000, 0)).collect();
        let outcome = world.settle(&items, true).unwrap();
        assert_eq!(outcome.transfers(), calls, "{payments} payments");
    }
    let mut world = World::with(&WorldOptions {
        treasury_bps: 0,
        facilitator_bps: 0,
        ..WorldOptions::default()
    });
    let payer = world.payer(1_000);
    let item = world.item(&payer, 1_000, 0);
    assert_eq!(world.settle(&[item], true).unwrap().transfers(), [1]);
}

#[test]
fn three_payments_fit_in_a_version_0_transaction() {
    let mut world = World::with_recipients(&shares(4));
    let payers: Vec<_> = (0..3).map(|_| world.payer(1_000_000)).collect();
    let items: Vec<_> = payers
        .iter()
        .map(|payer| world.item(payer, 1_000, 0))
        .collect();
    let instruction = world.settle_instruction(&items, false);
    let relayer = world.relayer.insecure_clone();
    let outcome = world
        .send_version(Version::V0, &[instruction], &[&relayer])
        .unwrap();
    assert_eq!(outcome.codes, [0; 3]);
}

#[test]
fn the_facilitators_fixed_share_counts_once_a_payment_and_stops_at_half() {
    let options = WorldOptions {
        facilitator_bps: 0,
        facilitator_fixed: 400,
        ..WorldOptions::default()
    };
    let mut world = World::with(&options);
    let payers: Vec<_> = (0..3).map(|_| world.payer(1_000_000)).collect();
    let items: Vec<_> = payers
        .iter()
        .map(|payer| world.item(payer, 1_000, 0))
        .collect();
    let event = world.settle(&items, false).unwrap().event();
    assert_eq!(event.facilitator, 1_200);
    let item = world.item(&payers[0], 500, 1);
    assert_eq!(
        world.settle(&[item], true).unwrap().event().facilitator,
        250
    );
}

#[test]
fn a_leg_that_cannot_be_paid_is_held_and_stops_nobody() {
    let mut world = World::with_recipients(&[6_000, 4_000]);
    let payer = world.payer(10_000);
    let before = world.money(&[&payer]);
    let (first, second) = (
        world.token_of(&world.recipients[0]),
        world.token_of(&world.recipients[1]),
    );
    world.change_token(second, |state| state.frozen = true);
    let treasury = world.token_of(&world.treasury);
    world.remove(treasury);
    let item = world.item(&payer, 10_000, 0);
    let outcome = world.settle(&[item], true).unwrap();

    let event = outcome.event();
    assert_eq!(event.held, 1 << 1 | 1 << 8);
    let service = world.service_account(&world.service);
    assert_eq!(world.balance(&first), event.recipients[0]);
    assert_eq!(world.balance(&second), 0);
    assert_eq!(service.recipients[1].held, event.recipients[1]);
    assert_eq!(service.recipients[1].held_since, world.time());
    assert_eq!(service.recipients[0].held, 0);
    assert_eq!(service.held_treasury, event.treasury);
    assert_eq!(service.held_total, event.treasury + event.recipients[1]);
    let vault = sluice_sdk::Address::new_from_array(service.vault);
    assert_eq!(world.balance(&vault), service.held_total);
    assert_eq!(world.money(&[&payer]), before);
}
