//! Money that waits in a vault: legs that could not be paid, what arrived without an intent, and how both leave.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use sluice::SluiceError;
use sluice_sdk::{
    Address, PROGRAM_ID, address,
    instructions::{self, FacilitatorArgs},
    token::{TOKEN_2022_PROGRAM, TOKEN_PROGRAM},
};
use sluice_tests::{TokenState, World, WorldOptions, row};
use solana_account::Account;
use solana_signer::Signer;
use support::refused;

const TREASURY: usize = 8;
const FACILITATOR: usize = 9;
const LEGS: [usize; 4] = [0, 1, TREASURY, FACILITATOR];

/// Two recipients, 60 and 40 percent of what the fees leave.
fn world() -> World {
    World::with_recipients(&[6_000, 4_000])
}

/// The wallet that a leg belongs to.
fn owner(world: &World, leg: usize) -> Address {
    match leg {
        TREASURY => world.treasury,
        FACILITATOR => world.fee_wallet,
        _ => world.recipients[leg],
    }
}

/// The token account that a leg goes to.
fn account(world: &World, leg: usize) -> Address {
    world.token_of(&owner(world, leg))
}

/// What is held for a leg.
fn held(world: &World, leg: usize) -> u64 {
    let service = world.current();
    match leg {
        TREASURY => service.held_treasury,
        FACILITATOR => service.held_facilitator,
        _ => service.recipients[leg].held,
    }
}

/// Every leg's share of a sum that is made of `payments` payments.
fn shares(world: &World, sum: u64, payments: u64) -> [u64; 10] {
    let split = world.current().split(sum, payments).unwrap();
    let mut all = [0; 10];
    all[..8].copy_from_slice(&split.recipients);
    (all[TREASURY], all[FACILITATOR]) = (split.treasury, split.facilitator);
    all
}

type Change = fn(&mut World, Address);

/// Ways in which an account cannot take money.
const UNUSABLE: [(&str, Change); 8] = [
    ("missing", |world, key| world.remove(key)),
    ("frozen", |world, key| world.freeze(&key)),
    ("of another mint", |world, key| {
        world.change_token(key, |state| state.mint = Address::new_unique());
    }),
    ("of another owner", |world, key| {
        world.change_token(key, |state| state.owner = Address::new_unique());
    }),
    ("of the other token program", |world, key| {
        let account = world.svm.get_account(&key).unwrap();
        let owner = TOKEN_2022_PROGRAM;
        world
            .svm
            .set_account(key, Account { owner, ..account })
            .unwrap();
    }),
    ("never initialised", |world, key| {
        world.put(key, vec![0; 165], TOKEN_PROGRAM);
    }),
    ("cut short", |world, key| {
        let mut data = world.svm.get_account(&key).unwrap().data;
        data.truncate(164);
        world.put(key, data, TOKEN_PROGRAM);
    }),
    ("a wallet", |world, key| {
        world.put(key, Vec::new(), Address::default());
    }),
];

#[test]
fn whatever_keeps_a_leg_from_being_paid_it_is_held_and_later_paid_to_the_unit() {
    for leg in LEGS {
        for (how, spoil) in UNUSABLE {
            for payments in [1, 3] {
                let mut world = world();
                let payers: Vec<_> = (0..payments).map(|_| world.payer(1_000_003)).collect();
                let all: Vec<_> = payers.iter().collect();
                let before = world.money(&all);
                let key = account(&world, leg);
                let whole = world.svm.get_account(&key).unwrap();
                spoil(&mut world, key);

                let items: Vec<_> = all
                    .iter()
                    .map(|payer| world.item(payer, 1_000_003, 0))
                    .collect();
                let outcome = world.settle(&items, false).unwrap();
                let at = format!("leg {leg} {how}, {payments} payments");
                assert_eq!(outcome.codes, vec![0; items.len()], "{at}");
                let due = shares(&world, 1_000_003 * payments, payments);
                assert!(LEGS.iter().all(|leg| due[*leg] > 0));
                assert_eq!(outcome.event().held, 1 << leg, "{at}");
                assert_eq!(held(&world, leg), due[leg], "{at}");
                assert_eq!(world.current().held_total, due[leg], "{at}");
                assert_eq!(world.balance(&world.vault()), due[leg], "{at}");
                for other in LEGS.into_iter().filter(|other| *other != leg) {
                    assert_eq!(world.balance(&account(&world, other)), due[other], "{at}");
                }
                // While it cannot be paid, there is nothing for anyone in the vault.
                refused(world.distribute(&[]), SluiceError::NothingToDistribute);

                world.svm.set_account(key, whole).unwrap();
                let outcome = world.distribute(&[]).unwrap();
                let paid = outcome.paid().unwrap();
                assert_eq!(
                    (paid.divided, paid.legs),
                    (0, vec![(key, due[leg])]),
                    "{at}"
                );
                assert_eq!(world.balance(&key), due[leg], "{at}");
                assert_eq!(
                    (held(&world, leg), world.current().held_total),
                    (0, 0),
                    "{at}"
                );
                assert_eq!(world.balance(&world.vault()), 0, "{at}");
                assert_eq!(
                    world.money(&all),
                    before,
                    "{at}: no unit is created or lost"
                );
            }
        }
    }
}

#[test]
fn all_legs_can_be_held_at_once_and_add_up() {
    let mut world = world();
    let payer = world.payer(2_000_006);
    for leg in LEGS {
        let key = account(&world, leg);
        world.freeze(&key);
    }
    for nonce in 0..2 {
        let item = world.item(&payer, 1_000_003, nonce);
        let outcome = world.settle(&[item], true).unwrap();
        assert_eq!(
            outcome.event().held,
            0b11 | 1 << TREASURY | 1 << FACILITATOR
        );
    }
    let due = shares(&world, 1_000_003, 1);
    for leg in LEGS {
        assert_eq!(held(&world, leg), 2 * due[leg], "leg {leg}");
    }
    assert_eq!(world.current().held_total, 2_000_006);
    assert_eq!(world.balance(&world.vault()), 2_000_006);
    // One that thaws is paid both; the others wait on.
    let key = account(&world, 1);
    world.thaw(&key);
    world.distribute(&[]).unwrap();
    assert_eq!(world.balance(&key), 2 * due[1]);
    assert_eq!(world.current().held_total, 2_000_006 - 2 * due[1]);
}

#[test]
fn held_since_is_the_first_time_and_ends_with_the_payment() {
    let mut world = world();
    let payer = world.payer(30_000);
    let key = account(&world, 1);
    world.freeze(&key);
    let start = world.time();
    let settle = |world: &mut World, nonce| {
        let item = world.item(&payer, 10_000, nonce);
        world.settle(&[item], true).unwrap();
        world.current().recipients[1].held_since
    };
    assert_eq!(settle(&mut world, 0), start);
    world.set_time(start + 500);
    assert_eq!(settle(&mut world, 1), start);
    world.thaw(&key);
    world.distribute(&[]).unwrap();
    assert_eq!(world.current().recipients[1].held_since, 0);
    world.freeze(&key);
    assert_eq!(settle(&mut world, 2), start + 500);
}

#[test]
fn what_stock_clients_pay_is_divided_under_the_terms_by_anyone() {
    let mut world = world();
    world.pay_in(1_000_003);
    world.pay_in(999_998);
    let sum = 2_000_001;
    let due = shares(&world, sum, 0);
    let outcome = world.distribute(&[]).unwrap();
    for leg in LEGS {
        assert_eq!(world.balance(&account(&world, leg)), due[leg], "leg {leg}");
    }
    assert_eq!(due.iter().sum::<u64>(), sum);
    assert_eq!(world.balance(&world.vault()), 0);
    let paid = outcome.paid().unwrap();
    assert_eq!((paid.service, paid.divided), (world.service, sum));
    let expected: Vec<_> = LEGS
        .iter()
        .map(|leg| (account(&world, *leg), due[*leg]))
        .collect();
    assert_eq!(paid.legs, expected);
    let service = world.current();
    assert_eq!(
        (service.settled_total, service.payments),
        (0, 0),
        "no intent was settled"
    );
}

#[test]
fn the_facilitators_fixed_share_is_not_taken_of_stock_payments() {
    let mut world = World::with(&WorldOptions {
        facilitator_fixed: 700,
        ..WorldOptions::default()
    });
    world.pay_in(10_000);
    world.distribute(&[]).unwrap();
    assert_eq!(world.balance(&account(&world, FACILITATOR)), 100);
}

#[test]
fn every_sum_is_divided_to_the_unit_with_the_remainder_to_the_first_recipient() {
    for bps in [
        &[10_000][..],
        &[3_333, 3_333, 3_334],
        &[1, 9_999],
        &[1_250; 8],
    ] {
        for sum in [1, 2, 3, 7, 99, 10_001, 999_999, 123_456_789_013] {
            let mut world = World::with_recipients(bps);
            world.pay_in(sum);
            let due = shares(&world, sum, 0);
            world.distribute(&[]).unwrap();
            let mut got = 0;
            for (i, owner) in world.recipients.iter().enumerate() {
                let amount = world.balance(&world.token_of(owner));
                assert_eq!(amount, due[i], "{sum} over {bps:?}");
                got += amount;
            }
            let fees = [TREASURY, FACILITATOR].map(|leg| world.balance(&account(&world, leg)));
            assert_eq!(fees, [sum * 50 / 10_000, sum / 100]);
            assert_eq!(got + fees[0] + fees[1], sum, "{sum} over {bps:?}");
            let net = sum - fees[0] - fees[1];
            let floors: u64 = bps.iter().map(|bps| net * u64::from(*bps) / 10_000).sum();
            assert_eq!(due[0], net * u64::from(bps[0]) / 10_000 + net - floors);
        }
    }
}

#[test]
fn less_than_a_payments_minimum_stays_until_there_is_enough() {
    let mut world = World::with(&WorldOptions {
        min_payment: 1_000,
        ..WorldOptions::default()
    });
    refused(world.distribute(&[]), SluiceError::NothingToDistribute);
    world.pay_in(999);
    refused(world.distribute(&[]), SluiceError::NothingToDistribute);
    assert_eq!(world.balance(&world.vault()), 999);
    world.pay_in(1);
    world.distribute(&[]).unwrap();
    assert_eq!(world.balance(&world.vault()), 0);
    refused(world.distribute(&[]), SluiceError::NothingToDistribute);
}

#[test]
fn the_mints_minimum_counts_as_well() {
    let mut world = world();
    let admin = world.admin.insecure_clone();
    let args = instructions::MintArgs {
        settle: true,
        min_amount: 500,
        max_amount: 1_000,
        allowed_extensions: 0,
    };
    let treasury = world.token_of(&world.treasury);
    let set = instructions::set_mint(&admin.pubkey(), &world.mint, &treasury, &args);
    world.send(&[set], &[&admin]).unwrap();
    world.pay_in(499);
    refused(world.distribute(&[]), SluiceError::NothingToDistribute);
    // More than the most that a payment may be is no reason to keep it.
    world.pay_in(5_000);
    world.distribute(&[]).unwrap();
    assert_eq!(world.balance(&world.vault()), 0);
}

#[test]
fn a_service_without_a_minimum_divides_a_single_unit() {
    let mut world = World::with(&WorldOptions {
        min_payment: 0,
        ..WorldOptions::default()
    });
    refused(world.distribute(&[]), SluiceError::NothingToDistribute);
    world.pay_in(1);
    world.distribute(&[]).unwrap();
    assert_eq!(world.balance(&account(&world, 0)), 1);
}

/// A world in which this leg is owed some thousands of units and its recorded account is frozen.
fn owed(leg: usize) -> World {
    let mut world = World::with(&WorldOptions {
        recipients: vec![6_000, 4_000],
        treasury_bps: 500,
        facilitator_bps: 500,
        ..WorldOptions::default()
    });
    let key = account(&world, leg);
    world.freeze(&key);
    let payer = world.payer(100_000);
    let item = world.item(&payer, 100_000, 0);
    world.settle(&[item], true).unwrap();
    assert_eq!(held(&world, leg), shares(&world, 100_000, 1)[leg]);
    world
}

#[test]
fn what_is_held_is_paid_even_when_too_little_was_paid_in_to_divide() {
    let mut world = World::with(&WorldOptions {
        min_payment: 1_000,
        ..WorldOptions::default()
    });
    let key = account(&world, 0);
    world.freeze(&key);
    let payer = world.payer(10_000);
    let item = world.item(&payer, 10_000, 0);
    world.settle(&[item], true).unwrap();
    world.pay_in(999);
    refused(world.distribute(&[]), SluiceError::NothingToDistribute);
    world.thaw(&key);
    let paid = world.distribute(&[]).unwrap().paid().unwrap();
    assert_eq!((paid.divided, paid.legs), (0, vec![(key, 9_850)]));
    assert_eq!(world.balance(&world.vault()), 999);
}

#[test]
fn what_is_held_is_never_divided_again() {
    let mut world = owed(1);
    let due = held(&world, 1);
    let before = world.balance(&account(&world, 0));
    world.pay_in(1_000);
    let share = shares(&world, 1_000, 0);
    let paid = world.distribute(&[]).unwrap().paid().unwrap();
    assert_eq!(paid.divided, 1_000);
    assert_eq!(world.balance(&account(&world, 0)), before + share[0]);
    assert_eq!(held(&world, 1), due + share[1]);
    assert_eq!(world.balance(&world.vault()), due + share[1]);
}

#[test]
fn an_owner_whose_account_cannot_take_it_is_paid_to_another_of_its_own() {
    for leg in LEGS {
        let mut world = owed(leg);
        let due = held(&world, leg);
        let owner = owner(&world, leg);
        let other = world.open_other_token(owner);
        let paid = world.distribute(&[other]).unwrap().paid().unwrap();
        assert_eq!(paid.legs, [(other, due)], "leg {leg}");
        assert_eq!(world.balance(&other), due);
        assert_eq!((held(&world, leg), world.current().held_total), (0, 0));
    }
}

#[test]
fn an_owner_whose_account_can_take_it_is_paid_there_and_nowhere_else() {
    for leg in LEGS {
        let mut world = owed(leg);
        let due = held(&world, leg);
        let (own, owner) = (account(&world, leg), owner(&world, leg));
        world.thaw(&own);
        let other = world.open_other_token(owner);
        let before = world.balance(&own);
        world.distribute(&[other]).unwrap();
        assert_eq!(world.balance(&own), before + due, "leg {leg}");
        assert_eq!(world.balance(&other), 0, "leg {leg}");
    }
}

#[test]
fn nobody_is_paid_to_an_account_that_is_not_its_own_or_cannot_take_it() {
    for leg in LEGS {
        let mut world = owed(leg);
        let due = held(&world, leg);
        let owner = owner(&world, leg);
        let stranger = world.open_token(Address::new_unique(), 0);
        let vault = world.vault();
        let mut others = vec![stranger, vault, world.service, address::config().0];
        for (_, spoil) in UNUSABLE {
            let key = world.open_other_token(owner);
            spoil(&mut world, key);
            others.push(key);
        }
        // What others are owed lies in their accounts, not in this one's.
        let wrong = LEGS.into_iter().filter(|other| *other != leg);
        others.extend(wrong.map(|other| account(&world, other)));
        refused(world.distribute(&others), SluiceError::NothingToDistribute);
        assert_eq!((held(&world, leg), world.balance(&vault)), (due, due));
        assert_eq!(world.balance(&stranger), 0);
        // The first that fits is taken, wherever it stands.
        let first = world.open_other_token(owner);
        let second = world.open_other_token(owner);
        others.extend([first, second]);
        world.distribute(&others).unwrap();
        assert_eq!((world.balance(&first), world.balance(&second)), (due, 0));
    }
}

#[test]
fn an_alternate_account_that_is_not_writable_is_passed_over() {
    let mut world = owed(1);
    let other = world.open_other_token(world.recipients[1]);
    let stranger = world.funded();
    let mut instruction = instructions::distribute(&stranger.pubkey(), &world.on(), &[other]);
    instruction.accounts.last_mut().unwrap().is_writable = false;
    refused(
        world.send(&[instruction], &[&stranger]),
        SluiceError::NothingToDistribute,
    );
}

#[test]
fn two_owners_are_paid_to_their_own_alternates_in_any_order() {
    let mut world = world();
    let payer = world.payer(10_000);
    let (a, b) = (world.recipients[0], world.recipients[1]);
    for owner in [a, b] {
        let key = world.token_of(&owner);
        world.remove(key);
    }
    let item = world.item(&payer, 10_000, 0);
    world.settle(&[item], true).unwrap();
    let due = (held(&world, 0), held(&world, 1));
    let (for_a, for_b) = (world.open_other_token(a), world.open_other_token(b));
    world.distribute(&[for_b, for_a]).unwrap();
    assert_eq!((world.balance(&for_a), world.balance(&for_b)), due);
}

#[test]
fn the_vault_is_no_legs_account_even_where_the_service_is_the_legs_wallet() {
    // Recipients cannot be the service, but nothing keeps a facilitator or the treasury from naming it: money sent from
    // the vault to itself would be counted and not moved, and then divided again.
    let name_the_service: [(usize, Change); 2] = [
        (FACILITATOR, |world, vault| {
            let wallet = world.token(&vault).owner;
            name_wallet(world, &wallet);
            assert_eq!(world.on().facilitator_token, vault);
        }),
        (TREASURY, |world, vault| {
            let (admin, wallet) = (world.admin.insecure_clone(), world.token(&vault).owner);
            let mints = [(world.mint, vault)];
            let set = instructions::set_treasury(&admin.pubkey(), &wallet, &mints);
            world.send(&[set], &[&admin]).unwrap();
            assert_eq!(world.on().treasury_token, vault);
        }),
    ];
    for (leg, name) in name_the_service {
        let mut world = world();
        let vault = world.vault();
        name(&mut world, vault);
        let payers = [world.payer(20_000), world.payer(20_000)];
        let settle = |world: &mut World, nonce, payers: &[_]| {
            let items: Vec<_> = payers
                .iter()
                .map(|payer| world.item(payer, 10_000, nonce))
                .collect();
            let on = world.on();
            let relayer = world.relayer.pubkey();
            let settle = instructions::settle(&relayer, &on, &items, false);
            let event = world.send_as_relayer(&[settle]).unwrap().event();
            assert_eq!(event.held, 1 << leg);
        };
        settle(&mut world, 0, &payers[..1]);
        settle(&mut world, 1, &payers);
        world.pay_in(10_000);
        world.distribute(&[vault]).unwrap();
        let due = shares(&world, 40_000, 0)[leg];
        assert_eq!((held(&world, leg), world.balance(&vault)), (due, due));
        assert_eq!(world.current().held_total, due);
        refused(world.distribute(&[vault]), SluiceError::NothingToDistribute);
        let recipients = [0, 1].map(|leg| world.balance(&account(&world, leg)));
        assert_eq!(recipients, [0, 1].map(|leg| shares(&world, 40_000, 0)[leg]));
    }
}

/// Has the world's facilitator name another wallet.
fn name_wallet(world: &mut World, wallet: &Address) {
    let operator = world.operator.insecure_clone();
    let args = FacilitatorArgs {
        wallet: wallet.to_bytes(),
        min_fee_bps: 0,
        min_fee_fixed: 0,
        relayers: vec![world.relayer.pubkey().to_bytes()],
    };
    let facilitator = world.facilitator();
    let update = instructions::update_facilitator(&operator.pubkey(), &facilitator, &args);
    world.send(&[update], &[&operator]).unwrap();
}

#[test]
fn a_held_balance_of_the_service_itself_is_not_paid_into_its_own_vault() {
    let mut world = world();
    let (service, vault) = (world.service, world.vault());
    name_wallet(&mut world, &service);
    world.pay_in(10_000);
    world.distribute(&[]).unwrap();
    let other = world.register(0, 0);
    let terms = world.terms();
    world.update_with(&other.facilitator, &terms).unwrap();
    assert_eq!(world.held_balance(&service).amount, 100);
    refused(
        world.release(&service, &vault),
        SluiceError::InvalidTokenAccount,
    );
    assert_eq!(
        (world.current().held_total, world.balance(&vault)),
        (100, 100)
    );
}

#[test]
fn a_vault_that_holds_less_than_it_owes_pays_what_there_is_and_owes_the_rest() {
    let mut world = world();
    let payer = world.payer(10_000);
    for leg in LEGS {
        let key = account(&world, leg);
        world.freeze(&key);
    }
    let item = world.item(&payer, 10_000, 0);
    world.settle(&[item], true).unwrap();
    let due = shares(&world, 10_000, 1);
    // As a permanent delegate would.
    let vault = world.vault();
    let left = due[0] + 10;
    world.change_token(vault, |state| state.amount = left);
    for leg in LEGS {
        let key = account(&world, leg);
        world.thaw(&key);
    }
    let paid = world.distribute(&[]).unwrap().paid().unwrap();
    assert_eq!(
        paid.legs,
        [(account(&world, 0), due[0]), (account(&world, 1), 10)]
    );
    assert_eq!(world.balance(&vault), 0);
    assert_eq!(held(&world, 1), due[1] - 10);
    let owed = 10_000 - left;
    assert_eq!(world.current().held_total, owed);
    refused(world.distribute(&[]), SluiceError::NothingToDistribute);
    // What comes in next fills the hole first, and only the rest is divided.
    world.pay_in(owed + 1_000);
    let share = shares(&world, 1_000, 0);
    let paid = world.distribute(&[]).unwrap().paid().unwrap();
    assert_eq!(paid.divided, 1_000);
    assert_eq!(world.balance(&account(&world, 1)), due[1] + share[1]);
    assert_eq!(
        world.balance(&account(&world, TREASURY)),
        due[TREASURY] + share[TREASURY]
    );
    assert_eq!((world.current().held_total, world.balance(&vault)), (0, 0));
}

#[test]
fn a_frozen_vault_keeps_everybodys_share_until_it_thaws() {
    let mut world = world();
    world.pay_in(10_000);
    let vault = world.vault();
    world.freeze(&vault);
    let due = shares(&world, 10_000, 0);
    let paid = world.distribute(&[]).unwrap().paid().unwrap();
    assert_eq!((paid.divided, paid.legs), (10_000, vec![]));
    for leg in LEGS {
        assert_eq!(held(&world, leg), due[leg], "leg {leg}");
    }
    assert_eq!(world.current().held_total, 10_000);
    refused(world.distribute(&[]), SluiceError::NothingToDistribute);
    world.thaw(&vault);
    world.distribute(&[]).unwrap();
    for leg in LEGS {
        assert_eq!(world.balance(&account(&world, leg)), due[leg], "leg {leg}");
    }
    assert_eq!((world.current().held_total, world.balance(&vault)), (0, 0));
}

#[test]
fn a_frozen_vault_stops_what_must_pass_through_it_and_nothing_else() {
    let mut world = world();
    let payers = [world.payer(10_000), world.payer(10_000)];
    let vault = world.vault();
    world.freeze(&vault);
    let batch = payers.each_ref().map(|payer| world.item(payer, 1_000, 0));
    refused(world.settle(&batch, false), SluiceError::VaultUnusable);
    // One payment whose legs can all be paid goes past the vault.
    assert_eq!(world.settle(&batch[..1], true).unwrap().codes, [0]);
    let key = account(&world, 1);
    world.freeze(&key);
    refused(world.settle(&batch[1..], true), SluiceError::VaultUnusable);
}

/// Everything that stops pulls from payers, at once.
fn stop_everything(world: &mut World) {
    world.set_paused(true);
    let facilitator = world.on().facilitator;
    world.set_suspended(&facilitator, true);
    world.set_mint(false);
}

#[test]
fn money_leaves_the_vault_whatever_is_paused_suspended_disabled_or_closed() {
    let mut world = owed(1);
    let key = account(&world, 1);
    world.close().unwrap();
    stop_everything(&mut world);
    world.thaw(&key);
    let due = held(&world, 1);
    world.distribute(&[]).unwrap();
    assert_eq!(world.balance(&key), due);
    // A closed service's address can still be paid, and what comes is still divided.
    world.pay_in(10_000);
    let before = world.balance(&key);
    let share = shares(&world, 10_000, 0);
    world.distribute(&[]).unwrap();
    assert_eq!(world.balance(&key), before + share[1]);
}

#[test]
fn one_wallet_may_be_treasury_facilitator_and_recipient_at_once() {
    let mut world = World::with_recipients(&[6_000, 4_000]);
    let wallet = world.fee_wallet;
    let token = world.token_of(&wallet);
    let admin = world.admin.insecure_clone();
    let mints = [(world.mint, token)];
    let set = instructions::set_treasury(&admin.pubkey(), &wallet, &mints);
    world.send(&[set], &[&admin]).unwrap();
    let mut terms = world.terms();
    terms.recipients[0] = row(&wallet, 6_000);
    world.update(&terms).unwrap();
    let payer = world.payer(20_000);
    let item = world.item(&payer, 10_000, 0);
    world.settle(&[item], true).unwrap();
    world.pay_in(10_000);
    world.distribute(&[]).unwrap();
    let other = world.balance(&world.token_of(&world.recipients[1]));
    assert_eq!(other, 2 * 3_940);
    assert_eq!(world.balance(&token), 20_000 - other);
    // Held for each role apart, and paid to one account.
    world.freeze(&token);
    let item = world.item(&payer, 10_000, 1);
    world.settle(&[item], true).unwrap();
    assert_eq!(world.current().held_total, 10_000 - 3_940);
    let alternate = world.open_other_token(wallet);
    let paid = world.distribute(&[alternate]).unwrap().paid().unwrap();
    assert_eq!(paid.legs.len(), 3);
    assert_eq!(world.balance(&alternate), 10_000 - 3_940);
}

#[test]
fn another_facilitator_token_account_only_holds_back_the_facilitators_own_leg() {
    let mut world = world();
    let stranger = world.funded();
    let theirs = world.open_token(stranger.pubkey(), 0);
    world.pay_in(10_000);
    let mut on = world.on();
    on.facilitator_token = theirs;
    let instruction = instructions::distribute(&stranger.pubkey(), &on, &[]);
    world.send(&[instruction], &[&stranger]).unwrap();
    assert_eq!(world.balance(&theirs), 0);
    assert_eq!(held(&world, FACILITATOR), 100);
    world.distribute(&[]).unwrap();
    assert_eq!(world.balance(&account(&world, FACILITATOR)), 100);
}

#[test]
fn a_distribution_takes_no_account_of_another_scene() {
    let mut world = world();
    let other_service = world.create_service(2, &WorldOptions::default());
    world.pay_in(10_000);
    let stranger = world.funded();
    let theirs = world.open_token(stranger.pubkey(), 0);
    let other_vault = Address::new_from_array(world.service_account(&other_service).vault);
    let usual = instructions::distribute(&stranger.pubkey(), &world.on(), &[]);
    let other_mint = Address::new_unique();
    for (at, key, reason) in [
        (1, world.service, SluiceError::WrongAccount),
        (2, world.service, SluiceError::WrongAccount),
        (3, other_service, SluiceError::WrongAccount),
        (4, other_service, SluiceError::WrongVault),
        (4, theirs, SluiceError::WrongAccount),
        (5, other_mint, SluiceError::WrongMint),
        (6, other_vault, SluiceError::WrongVault),
        (6, theirs, SluiceError::WrongVault),
        (7, theirs, SluiceError::WrongTreasury),
        (9, TOKEN_2022_PROGRAM, SluiceError::WrongTokenProgram),
        (9, PROGRAM_ID, SluiceError::WrongTokenProgram),
        (10, theirs, SluiceError::WrongDestination),
        (11, theirs, SluiceError::WrongDestination),
    ] {
        let mut instruction = usual.clone();
        instruction.accounts[at].pubkey = key;
        refused(world.send(&[instruction], &[&stranger]), reason);
    }
    let mut swapped = usual.clone();
    swapped.accounts.swap(10, 11);
    refused(
        world.send(&[swapped], &[&stranger]),
        SluiceError::WrongDestination,
    );
    let mut short = usual.clone();
    short.accounts.truncate(11);
    refused(
        world.send(&[short], &[&stranger]),
        SluiceError::EntryAccounts,
    );
    let register = world.register(0, 0);
    let mut instruction = usual.clone();
    instruction.accounts[3].pubkey = register.facilitator;
    refused(
        world.send(&[instruction], &[&stranger]),
        SluiceError::WrongFacilitator,
    );
    world.send(&[usual], &[&stranger]).unwrap();
    assert_eq!(world.balance(&theirs), 0);
}

#[test]
fn services_share_nothing() {
    let mut world = world();
    let first = world.service;
    let second = world.create_service(
        2,
        &WorldOptions {
            recipients: vec![5_000, 5_000],
            ..WorldOptions::default()
        },
    );
    world.pay_in(10_000);
    world.service = second;
    refused(world.distribute(&[]), SluiceError::NothingToDistribute);
    world.service = first;
    world.distribute(&[]).unwrap();
}

/// A world whose second recipient left with something held: its wallet, and how much.
fn released() -> (World, Address, u64) {
    let mut world = owed(1);
    let (owner, due) = (world.recipients[1], held(&world, 1));
    let mut terms = world.terms();
    terms.recipients[1] = row(&Address::new_unique(), 4_000);
    world.update(&terms).unwrap();
    assert_eq!(world.held_balance(&owner).amount, due);
    (world, owner, due)
}

#[test]
fn a_held_balance_is_paid_at_anyones_request_and_its_rent_goes_back() {
    let (mut world, owner, due) = released();
    let other = world.open_other_token(owner);
    let key = address::held_balance(&world.service, &owner).0;
    let rent = world.svm.get_balance(&key).unwrap();
    let merchant = world.merchant.pubkey();
    let before = world.svm.get_balance(&merchant).unwrap();
    let outcome = world.release(&owner, &other).unwrap();
    let paid = outcome.paid().unwrap();
    assert_eq!((paid.divided, paid.legs), (0, vec![(other, due)]));
    assert_eq!(world.balance(&other), due);
    assert!(!world.exists(&key));
    assert_eq!(world.svm.get_balance(&merchant).unwrap(), before + rent);
    assert_eq!(
        (world.current().held_total, world.balance(&world.vault())),
        (0, 0)
    );
}

#[test]
fn a_held_balance_is_paid_to_its_owner_only() {
    let (mut world, owner, due) = released();
    let stranger = world.open_token(Address::new_unique(), 0);
    let (vault, frozen) = (world.vault(), world.token_of(&owner));
    for destination in [
        stranger,
        vault,
        frozen,
        world.service,
        Address::new_unique(),
    ] {
        refused(
            world.release(&owner, &destination),
            SluiceError::InvalidTokenAccount,
        );
    }
    for (how, spoil) in UNUSABLE {
        let key = world.open_other_token(owner);
        spoil(&mut world, key);
        assert!(world.release(&owner, &key).is_err(), "{how}");
    }
    assert_eq!(world.held_balance(&owner).amount, due);
    world.thaw(&frozen);
    world.release(&owner, &frozen).unwrap();
    assert_eq!(world.balance(&frozen), due);
}

#[test]
fn a_held_balance_takes_no_account_of_another_scene() {
    let (mut world, owner, due) = released();
    let stranger = world.funded();
    let destination = world.open_other_token(owner);
    let other_service = world.create_service(
        2,
        &WorldOptions {
            recipients: vec![5_000, 5_000],
            ..WorldOptions::default()
        },
    );
    let other_vault = Address::new_from_array(world.service_account(&other_service).vault);
    let merchant = world.merchant.pubkey();
    let usual = instructions::release_held(&world.on(), &owner, &merchant, &destination);
    let wrong = [
        (0, other_service, SluiceError::WrongAccount),
        (1, world.service, SluiceError::WrongAccount),
        (2, stranger.pubkey(), SluiceError::WrongAccount),
        (3, Address::new_unique(), SluiceError::WrongMint),
        (4, other_vault, SluiceError::WrongVault),
        (4, destination, SluiceError::WrongVault),
        (6, TOKEN_2022_PROGRAM, SluiceError::WrongTokenProgram),
        (6, PROGRAM_ID, SluiceError::WrongTokenProgram),
    ];
    for (at, key, reason) in wrong {
        let mut instruction = usual.clone();
        instruction.accounts[at].pubkey = key;
        refused(world.send(&[instruction], &[&stranger]), reason);
    }
    // A held balance that the caller made up is none of this program's.
    let data = world
        .svm
        .get_account(&usual.accounts[1].pubkey)
        .unwrap()
        .data;
    let fake = Address::new_unique();
    world.put(fake, data, TOKEN_PROGRAM);
    let mut instruction = usual.clone();
    instruction.accounts[1].pubkey = fake;
    refused(
        world.send(&[instruction], &[&stranger]),
        SluiceError::WrongAccount,
    );
    world.send(&[usual], &[&stranger]).unwrap();
    assert_eq!(world.balance(&destination), due);
}

#[test]
fn a_short_vault_pays_a_held_balance_in_parts_and_keeps_the_account_open() {
    let (mut world, owner, due) = released();
    let destination = world.open_other_token(owner);
    let vault = world.vault();
    world.change_token(vault, |state| state.amount = 1_000);
    world.release(&owner, &destination).unwrap();
    assert_eq!(world.balance(&destination), 1_000);
    assert_eq!(world.held_balance(&owner).amount, due - 1_000);
    assert_eq!(world.current().held_total, due - 1_000);
    refused(
        world.release(&owner, &destination),
        SluiceError::NothingToDistribute,
    );
    world.pay_in(due - 1_000);
    refused(world.distribute(&[]), SluiceError::NothingToDistribute);
    world.release(&owner, &destination).unwrap();
    assert_eq!(world.balance(&destination), due);
    assert!(!world.has_held_balance(&owner));
}

#[test]
fn a_held_balance_waits_while_the_vault_is_frozen() {
    let (mut world, owner, due) = released();
    let destination = world.open_other_token(owner);
    let vault = world.vault();
    world.freeze(&vault);
    refused(
        world.release(&owner, &destination),
        SluiceError::VaultUnusable,
    );
    world.thaw(&vault);
    world.release(&owner, &destination).unwrap();
    assert_eq!(world.balance(&destination), due);
}

#[test]
fn a_held_balance_is_paid_whatever_is_paused_suspended_disabled_or_closed() {
    let (mut world, owner, due) = released();
    let destination = world.open_other_token(owner);
    world.close().unwrap();
    stop_everything(&mut world);
    world.release(&owner, &destination).unwrap();
    assert_eq!(world.balance(&destination), due);
}

#[test]
fn a_held_balance_of_one_service_pays_nothing_out_of_another() {
    let (mut world, owner, _) = released();
    let first = world.service;
    let held = address::held_balance(&first, &owner).0;
    let second = world.create_service(
        2,
        &WorldOptions {
            recipients: vec![5_000, 5_000],
            ..WorldOptions::default()
        },
    );
    world.service = second;
    world.pay_in(50_000);
    let destination = world.open_other_token(owner);
    let merchant = world.merchant.pubkey();
    let mut instruction = instructions::release_held(&world.on(), &owner, &merchant, &destination);
    instruction.accounts[1].pubkey = held;
    let stranger = world.funded();
    refused(
        world.send(&[instruction], &[&stranger]),
        SluiceError::WrongAccount,
    );
    assert_eq!(world.balance(&world.vault()), 50_000);
}

#[test]
fn a_classic_account_with_extensions_behind_it_takes_no_money() {
    // The classic program's accounts have one length.
    let mut world = world();
    let key = account(&world, 1);
    let state = TokenState {
        mint: world.mint,
        owner: world.recipients[1],
        amount: 0,
        delegate: None,
        frozen: false,
    };
    let mut data = state.account(TOKEN_PROGRAM).data;
    data.extend([2, 7, 0, 0, 0]);
    world.put(key, data, TOKEN_PROGRAM);
    let payer = world.payer(10_000);
    let item = world.item(&payer, 10_000, 0);
    assert_eq!(world.settle(&[item], true).unwrap().event().held, 0b10);
}
