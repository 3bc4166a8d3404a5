//! Terms that change, services that end, authorities that change hands: nobody's money and no signed intent is bent
//! by it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use sluice::SluiceError;
use sluice_intent::Skip;
use sluice_sdk::{
    Address, SYSTEM_PROGRAM,
    accounts::{FEE_DELAY_SECS, Facilitator, HeldBalance, SERVICE_CLOSED, SluiceAccount},
    address,
    instructions::{self, ConfigUpdate, FacilitatorArgs, RecipientArg, TermsArgs},
    token::TOKEN_PROGRAM,
    transaction::Version,
};
use sluice_tests::{NOW, World, WorldOptions, row};
use solana_account::Account;
use solana_signer::Signer;
use support::refused;

const HOLDS: u64 = 1_000_000;

/// Two recipients, 60 and 40 percent of what the fees leave.
fn world() -> World {
    World::with_recipients(&[6_000, 4_000])
}

fn token_balance(world: &World, owner: &Address) -> u64 {
    world.balance(&world.token_of(owner))
}

/// A wallet with an open token account.
fn newcomer(world: &mut World) -> Address {
    let owner = Address::new_unique();
    world.open_token(owner, 0);
    owner
}

/// Settles one payment and gives its event.
fn settle_one(world: &mut World, amount: u64) -> sluice_tests::Settled {
    let payer = world.payer(amount);
    let item = world.item(&payer, amount, 0);
    world.settle(&[item], true).unwrap().event()
}

type Change = fn(&mut World);

/// Checks that the terms hash on chain is the one that a client recomputes from the account, and the program's counter.
#[track_caller]
fn sealed(world: &World, version: u32) {
    let service = world.current();
    let hash = service.compute_terms_hash(&world.service).unwrap();
    assert_eq!(hash, service.terms_hash);
    assert_eq!(service.terms_version, version);
}

#[test]
fn new_terms_are_what_was_asked_for_and_are_sealed() {
    let mut world = world();
    sealed(&world, 1);
    let before = world.current();
    let terms = TermsArgs {
        facilitator_bps: 250,
        facilitator_fixed: 30,
        min_payment: 77,
        recipients: vec![
            row(&Address::new_unique(), 1),
            row(&world.recipients[0], 9_998),
            row(&Address::new_unique(), 1),
        ],
    };
    world.update(&terms).unwrap();
    sealed(&world, 2);
    assert_eq!(world.terms(), terms);
    let service = world.current();
    assert_ne!(service.terms_hash, before.terms_hash);
    for share in service.shares() {
        let owner = Address::new_from_array(share.owner);
        assert_eq!(share.token_account, world.token_of(&owner).to_bytes());
    }
    assert!(
        service.recipients[3..]
            .iter()
            .all(|row| *row == bytemuck::Zeroable::zeroed())
    );
    // Nothing else of the service changed.
    let mut expected = before;
    expected.recipients = service.recipients;
    expected.recipient_count = 3;
    expected.terms_hash = service.terms_hash;
    expected.terms_version = 2;
    expected.facilitator_bps = 250;
    expected.facilitator_fixed = 30;
    expected.min_payment = 77;
    assert_eq!(service, expected);
}

#[test]
fn the_minimum_alone_changes_nothing_that_was_signed() {
    let mut world = world();
    let payer = world.payer(HOLDS);
    let item = world.item(&payer, 1_000, 0);
    let mut terms = world.terms();
    terms.min_payment = 500;
    world.update(&terms).unwrap();
    // Counted all the same: for people it is a change.
    sealed(&world, 2);
    assert_eq!(world.settle(&[item], true).unwrap().codes, [0]);
}

#[test]
fn money_in_the_vault_goes_under_the_terms_it_was_paid_under() {
    let mut world = world();
    let (old, new) = (world.recipients.clone(), newcomer(&mut world));
    let split = world.current().split(100_003, 0).unwrap();
    world.pay_in(100_003);
    let terms = TermsArgs {
        facilitator_bps: 5_000,
        facilitator_fixed: 1,
        min_payment: 1,
        recipients: vec![row(&new, 10_000)],
    };
    let outcome = world.update(&terms).unwrap();
    assert_eq!(outcome.paid().unwrap().divided, 100_003);
    assert_eq!(token_balance(&world, &old[0]), split.recipients[0]);
    assert_eq!(token_balance(&world, &old[1]), split.recipients[1]);
    assert_eq!(token_balance(&world, &world.fee_wallet), split.facilitator);
    assert_eq!(token_balance(&world, &world.treasury), split.treasury);
    assert_eq!(token_balance(&world, &new), 0);
    assert_eq!(world.balance(&world.vault()), 0);
    // What comes afterwards goes under the new ones.
    world.pay_in(10_000);
    world.distribute(&[]).unwrap();
    assert_eq!(token_balance(&world, &new), 10_000 - 50 - 5_000);
}

#[test]
fn less_than_the_minimum_is_divided_when_the_terms_change() {
    let mut world = World::with(&WorldOptions {
        min_payment: 1_000_000,
        ..WorldOptions::default()
    });
    let old = world.recipients[0];
    world.pay_in(999);
    let mut terms = world.terms();
    terms.recipients = vec![row(&Address::new_unique(), 10_000)];
    world.update(&terms).unwrap();
    assert_eq!(token_balance(&world, &old), 999 - 4 - 9);
    assert_eq!(world.balance(&world.vault()), 0);
}

#[test]
fn a_strangers_single_unit_cannot_block_a_change() {
    for frozen in [false, true] {
        let mut world = world();
        let old = world.recipients[0];
        if frozen {
            let key = world.token_of(&old);
            world.freeze(&key);
        }
        let mut terms = world.terms();
        terms.recipients[0] = row(&Address::new_unique(), 6_000);
        // Built before the unit arrives, as the merchant's wallet would.
        let instruction = world.update_instruction(&world.facilitator(), &terms);
        world.pay_in(1);
        let merchant = world.merchant.insecure_clone();
        world.send(&[instruction], &[&merchant]).unwrap();
        assert_eq!(world.terms(), terms);
        if frozen {
            assert_eq!(world.held_balance(&old).amount, 1);
        } else {
            assert_eq!(token_balance(&world, &old), 1);
        }
    }
}

#[test]
fn what_is_held_stays_with_its_owner_wherever_it_stands() {
    let mut world = world();
    let (a, b) = (world.recipients[0], world.recipients[1]);
    let key = world.token_of(&b);
    world.freeze(&key);
    let event = settle_one(&mut world, 10_000);
    let due = event.recipients[1];
    world.set_time(NOW + 100);
    let third = Address::new_unique();
    let mut terms = world.terms();
    terms.recipients = vec![row(&third, 1_000), row(&b, 500), row(&a, 8_500)];
    world.update(&terms).unwrap();
    let service = world.current();
    let held: Vec<_> = service.shares().iter().map(|row| row.held).collect();
    assert_eq!(held, [0, due, 0]);
    assert_eq!(service.recipients[1].held_since, NOW);
    terms.recipients = vec![row(&b, 500), row(&a, 9_500)];
    world.update(&terms).unwrap();
    assert_eq!(world.current().recipients[0].held, due);
    assert_eq!(world.current().held_total, due);
    assert!(!world.has_held_balance(&b));
    world.thaw(&key);
    world.distribute(&[]).unwrap();
    assert_eq!(world.balance(&key), due);
}

#[test]
fn a_recipient_that_is_replaced_keeps_what_it_is_owed() {
    let mut world = world();
    let gone = world.recipients[1];
    let key = world.token_of(&gone);
    world.freeze(&key);
    let due = settle_one(&mut world, 10_000).recipients[1];
    let mut terms = world.terms();
    terms.recipients[1] = row(&Address::new_unique(), 4_000);
    world.set_time(NOW + 50);
    world.update(&terms).unwrap();

    let held = world.held_balance(&gone);
    assert_eq!((held.amount, held.owner), (due, gone.to_bytes()));
    assert_eq!(held.held_since, NOW, "since it was first held");
    assert_eq!(held.service, world.service.to_bytes());
    assert_eq!(held.mint, world.mint.to_bytes());
    assert_eq!(held.rent_payer, world.merchant.pubkey().to_bytes());
    assert_eq!(held.bump, address::held_balance(&world.service, &gone).1);
    let service = world.current();
    assert!(service.shares().iter().all(|row| row.held == 0));
    assert_eq!(service.held_total, due, "it is still in the vault");
    assert_eq!(world.balance(&world.vault()), due);
    // Nobody divides it.
    refused(world.distribute(&[]), SluiceError::NothingToDistribute);
    world.thaw(&key);
    world.release(&gone, &key).unwrap();
    assert_eq!(world.balance(&key), due);
    assert_eq!(world.current().held_total, 0);
}

#[test]
fn whoever_is_replaced_twice_is_owed_the_sum_at_the_rent_of_the_first_who_paid() {
    let mut world = world();
    let (stays, gone) = (world.recipients[0], world.recipients[1]);
    let key = world.token_of(&gone);
    world.freeze(&key);
    let with = world.terms();
    let mut without = with.clone();
    without.recipients = vec![row(&stays, 10_000)];

    let first = settle_one(&mut world, 10_000).recipients[1];
    world.update(&without).unwrap();
    world.update(&with).unwrap();
    assert_eq!(world.current().recipients[1].held, 0, "it is owed apart");
    let second = settle_one(&mut world, 7_777).recipients[1];
    // Another authority makes the second change, and pays for no account.
    let old = world.merchant.insecure_clone();
    let new = world.funded();
    let propose = instructions::propose_authority(&old.pubkey(), &world.service, &new.pubkey());
    world.send(&[propose], &[&old]).unwrap();
    let accept = instructions::accept_authority(&new.pubkey(), &world.service);
    world.send(&[accept], &[&new]).unwrap();
    world.merchant = new;
    world.update(&without).unwrap();
    let held = world.held_balance(&gone);
    assert_eq!(held.amount, first + second);
    assert_eq!(held.rent_payer, old.pubkey().to_bytes());
    let rent = world
        .svm
        .get_balance(&address::held_balance(&world.service, &gone).0);
    let before = world.svm.get_balance(&old.pubkey()).unwrap();
    world.thaw(&key);
    world.release(&gone, &key).unwrap();
    assert_eq!(world.balance(&key), first + second);
    assert_eq!(
        world.svm.get_balance(&old.pubkey()).unwrap(),
        before + rent.unwrap()
    );
    // The address can be used again.
    world.freeze(&key);
    world.update(&with).unwrap();
    let third = settle_one(&mut world, 10_000).recipients[1];
    world.update(&without).unwrap();
    assert_eq!(world.held_balance(&gone).amount, third);
}

#[test]
fn lamports_at_the_address_of_a_held_balance_do_not_block_a_change() {
    for lamports in [1, 1_000_000, 1_000_000_000] {
        let mut world = world();
        let gone = world.recipients[1];
        let key = world.token_of(&gone);
        world.freeze(&key);
        let due = settle_one(&mut world, 10_000).recipients[1];
        let gift = Account {
            lamports,
            ..Account::default()
        };
        let held = address::held_balance(&world.service, &gone).0;
        world.svm.set_account(held, gift).unwrap();
        let mut terms = world.terms();
        terms.recipients = vec![row(&world.recipients[0], 10_000)];
        let merchant = world.merchant.pubkey();
        let before = world.svm.get_balance(&merchant).unwrap();
        let outcome = world.update(&terms).unwrap();
        assert_eq!(world.held_balance(&gone).amount, due);
        // The gift counts towards the rent.
        let rent = world
            .svm
            .minimum_balance_for_rent_exemption(HeldBalance::size());
        assert_eq!(
            before - world.svm.get_balance(&merchant).unwrap(),
            outcome.fee + rent.saturating_sub(lamports)
        );
    }
}

#[test]
fn a_change_that_owes_nobody_anything_opens_no_account() {
    let mut world = world();
    let gone = world.recipients[1];
    let merchant = world.merchant.pubkey();
    let before = world.svm.get_balance(&merchant).unwrap();
    let mut terms = world.terms();
    terms.recipients = vec![row(&Address::new_unique(), 10_000)];
    world.update(&terms).unwrap();
    assert!(!world.has_held_balance(&gone));
    assert_eq!(world.svm.get_balance(&merchant).unwrap(), before - 5_000);
}

#[test]
fn a_former_facilitator_keeps_what_it_is_owed() {
    let mut world = world();
    let new = world.register(0, 0);
    let (old_wallet, key) = (world.fee_wallet, world.token_of(&world.fee_wallet));
    world.freeze(&key);
    let due = settle_one(&mut world, 10_000).facilitator;
    let terms = world.terms();
    world.update_with(&new.facilitator, &terms).unwrap();
    sealed(&world, 2);
    let service = world.current();
    assert_eq!(service.facilitator, new.facilitator.to_bytes());
    assert_eq!((service.held_facilitator, service.held_total), (0, due));
    assert_eq!(world.held_balance(&old_wallet).amount, due);
    // The old relayer is out, the new one is in, and the legs go to the new wallet.
    let payer = world.payer(HOLDS);
    let item = world.item(&payer, 10_000, 0);
    refused(
        world.settle(&[item], true),
        SluiceError::RelayerNotRegistered,
    );
    let on = world.on();
    let settle = instructions::settle(&new.relayer.pubkey(), &on, &[item], true);
    let event = world.send(&[settle], &[&new.relayer]).unwrap().event();
    assert_eq!(event.held, 0);
    assert_eq!(token_balance(&world, &new.wallet), event.facilitator);
    // And the old wallet gets what is its own.
    world.thaw(&key);
    world.release(&old_wallet, &key).unwrap();
    assert_eq!(world.balance(&key), due);
    assert_eq!(world.current().held_total, 0);
}

#[test]
fn a_wallet_that_leaves_as_recipient_and_as_facilitator_is_owed_both() {
    let mut world = world();
    let wallet = world.fee_wallet;
    let mut terms = world.terms();
    terms.recipients[1] = row(&wallet, 4_000);
    world.update(&terms).unwrap();
    let key = world.token_of(&wallet);
    world.freeze(&key);
    let event = settle_one(&mut world, 10_000);
    assert_eq!(event.held, 0b10 | 1 << 9);
    let new = world.register(0, 0);
    terms.recipients = vec![row(&world.recipients[0], 10_000)];
    world.update_with(&new.facilitator, &terms).unwrap();
    let due = event.recipients[1] + event.facilitator;
    assert_eq!(world.held_balance(&wallet).amount, due);
    assert_eq!(world.current().held_total, due);
    world.thaw(&key);
    world.release(&wallet, &key).unwrap();
    assert_eq!(world.balance(&key), due);
}

#[test]
fn all_eight_recipients_and_the_facilitator_can_be_replaced_at_once_with_something_held_for_each() {
    let mut world = World::with_recipients(&[1_250; 8]);
    world.pay_in(1_000);
    let old = world.recipients.clone();
    for owner in old.iter().chain([&world.fee_wallet.clone()]) {
        let key = world.token_of(owner);
        world.freeze(&key);
    }
    let event = settle_one(&mut world, 100_000);
    assert_eq!(event.held, 0b10_1111_1111);
    let new = world.register(0, 0);
    let mut terms = world.terms();
    terms.recipients = (0..8).map(|_| row(&Address::new_unique(), 1_250)).collect();
    // `paid` and `changed` fail on a log that was cut off: nothing of this change may be lost to those who follow it.
    let outcome = world.update_with(&new.facilitator, &terms).unwrap();
    assert_eq!(outcome.changed().len(), 10);
    let split = world.current().split(1_000, 0).unwrap();
    let mut sum = 0;
    for (owner, (a, b)) in old
        .iter()
        .zip(event.recipients.iter().zip(split.recipients))
    {
        let held = world.held_balance(owner).amount;
        assert_eq!(held, a + b);
        sum += held;
    }
    let held = world.held_balance(&world.fee_wallet).amount;
    assert_eq!(held, event.facilitator + split.facilitator);
    assert_eq!(world.current().held_total, sum + held);
    assert_eq!(world.balance(&world.vault()), sum + held);
}

#[test]
fn replacing_all_eight_recipients_is_written_to_the_log_in_full_however_many_are_owed() {
    for owed in 0..=8 {
        let mut world = World::with_recipients(&[1_250; 8]);
        for owner in world.recipients.clone().iter().take(owed) {
            let key = world.token_of(owner);
            world.freeze(&key);
        }
        world.pay_in(1_000_000);
        let mut terms = world.terms();
        terms.recipients = (0..8).map(|_| row(&Address::new_unique(), 1_250)).collect();
        let outcome = world.update(&terms).unwrap();
        assert_eq!(outcome.paid().unwrap().legs.len(), 10 - owed);
        assert_eq!(outcome.changed().len(), 1 + owed);
    }
}

#[test]
fn five_recipients_and_the_facilitator_are_replaced_in_one_version_0_transaction() {
    let mut world = World::with_recipients(&[2_000; 5]);
    let new = world.register(0, 0);
    let mut terms = world.terms();
    for recipient in &mut terms.recipients {
        recipient.owner = Address::new_unique().to_bytes();
    }
    let instruction = world.update_instruction(&new.facilitator, &terms);
    let merchant = world.merchant.insecure_clone();
    world
        .send_version(Version::V0, &[instruction], &[&merchant])
        .unwrap();
    assert_eq!(world.terms(), terms);
}

#[test]
fn only_the_authority_changes_or_closes_a_service() {
    let mut world = world();
    let terms = world.terms();
    let strangers = [
        world.funded(),
        world.admin.insecure_clone(),
        world.operator.insecure_clone(),
        world.relayer.insecure_clone(),
    ];
    for stranger in strangers {
        let usual = world.merchant.insecure_clone();
        world.merchant = stranger;
        refused(world.update(&terms), SluiceError::NotAuthority);
        refused(world.close(), SluiceError::NotAuthority);
        world.merchant = usual;
    }
    // The authority's address without its signature is nothing.
    let mut unsigned = world.update_instruction(&world.facilitator(), &terms);
    unsigned.accounts[0].is_signer = false;
    let stranger = world.funded();
    let failure = world.send(&[unsigned], &[&stranger]).unwrap_err();
    assert_eq!(failure.custom(), Some(3_010));
    sealed(&world, 1);
}

#[test]
fn terms_that_are_not_taken() {
    let mut world = world();
    let own = world.service;
    let good = world.terms();
    let bad = |change: fn(&mut TermsArgs)| {
        let mut terms = good.clone();
        change(&mut terms);
        terms
    };
    let with = |recipients: Vec<RecipientArg>| TermsArgs {
        recipients,
        ..good.clone()
    };
    let many = |n: u8| {
        (1..=n)
            .map(|n| row(&Address::new_from_array([n; 32]), 1_111))
            .collect()
    };
    let (a, b) = (Address::new_unique(), Address::new_unique());
    world.pay_in(5_000);
    let before = world.current();
    for (terms, reason) in [
        (with(vec![]), SluiceError::RecipientCount),
        (with(many(9)), SluiceError::RecipientCount),
        (with(vec![row(&a, 9_999)]), SluiceError::RecipientShares),
        (
            with(vec![row(&a, 10_000), row(&b, 1)]),
            SluiceError::RecipientShares,
        ),
        (
            with(vec![row(&a, 10_000), row(&b, 0)]),
            SluiceError::RecipientShares,
        ),
        (
            with(vec![row(&a, 5_000), row(&a, 5_000)]),
            SluiceError::DuplicateRecipient,
        ),
        (
            with(vec![row(&own, 10_000)]),
            SluiceError::RecipientIsService,
        ),
        (
            with(vec![row(&Address::default(), 10_000)]),
            SluiceError::ZeroAddress,
        ),
        (
            bad(|terms| terms.facilitator_bps = 5_001),
            SluiceError::FacilitatorShare,
        ),
    ] {
        refused(world.update(&terms), reason);
        // A refused change has not even divided what lay there.
        assert_eq!(world.current(), before);
        assert_eq!(world.balance(&world.vault()), 5_000);
    }
}

#[test]
fn the_configs_cap_on_the_facilitators_share_holds_for_changes() {
    let mut world = world();
    let admin = world.admin.insecure_clone();
    let update = ConfigUpdate {
        max_facilitator_bps: Some(99),
        ..ConfigUpdate::default()
    };
    let update = instructions::update_config(&admin.pubkey(), &update);
    world.send(&[update], &[&admin]).unwrap();
    // The service has 100 bps since before: it keeps them and settles on, and cannot seal them again.
    settle_one(&mut world, 10_000);
    let mut terms = world.terms();
    refused(world.update(&terms), SluiceError::FacilitatorShare);
    terms.facilitator_bps = 99;
    world.update(&terms).unwrap();
}

#[test]
fn a_change_must_grant_the_facilitators_minimum() {
    let mut world = world();
    let new = world.register(200, 10);
    let mut terms = world.terms();
    for (bps, fixed) in [(100, 10), (199, 10), (200, 9), (0, 0)] {
        (terms.facilitator_bps, terms.facilitator_fixed) = (bps, fixed);
        refused(
            world.update_with(&new.facilitator, &terms),
            SluiceError::BelowFacilitatorMinimum,
        );
    }
    (terms.facilitator_bps, terms.facilitator_fixed) = (200, 10);
    world.update_with(&new.facilitator, &terms).unwrap();
    // Minimums that rise later bind the next change, not the terms in force.
    let args = FacilitatorArgs {
        wallet: new.wallet.to_bytes(),
        min_fee_bps: 300,
        min_fee_fixed: 10,
        relayers: vec![new.relayer.pubkey().to_bytes()],
    };
    let raise = instructions::update_facilitator(&new.authority.pubkey(), &new.facilitator, &args);
    world.send(&[raise], &[&new.authority]).unwrap();
    sealed(&world, 2);
    world.relayer = new.relayer.insecure_clone();
    world.fee_wallet = new.wallet;
    settle_one(&mut world, 10_000);
    refused(world.update(&terms), SluiceError::BelowFacilitatorMinimum);
}

#[test]
fn a_service_can_leave_a_suspended_facilitator_but_not_go_to_one() {
    let mut world = world();
    let (old, new) = (world.facilitator(), world.register(0, 0));
    let terms = world.terms();
    world.set_suspended(&new.facilitator, true);
    refused(
        world.update_with(&new.facilitator, &terms),
        SluiceError::FacilitatorSuspended,
    );
    world.set_suspended(&new.facilitator, false);
    world.set_suspended(&old, true);
    // It can still change who is paid, and it can leave.
    world.update(&terms).unwrap();
    world.update_with(&new.facilitator, &terms).unwrap();
    refused(
        world.update_with(&old, &terms),
        SluiceError::FacilitatorSuspended,
    );
}

#[test]
fn a_change_takes_exactly_the_accounts_that_it_needs() {
    let mut world = world();
    let new = world.register(0, 0);
    let gone = world.recipients[1];
    let key = world.token_of(&gone);
    world.freeze(&key);
    settle_one(&mut world, 10_000);
    let mut terms = world.terms();
    terms.recipients = vec![row(&world.recipients[0], 10_000)];
    let merchant = world.merchant.insecure_clone();
    let usual = world.update_instruction(&new.facilitator, &terms);
    let n = usual.accounts.len();
    assert_eq!(n, 10 + 2 + 2 + 2);
    // Any account too few or too many.
    for keep in 10..n {
        let mut instruction = usual.clone();
        instruction.accounts.truncate(keep);
        refused(
            world.send(&[instruction], &[&merchant]),
            SluiceError::EntryAccounts,
        );
    }
    let mut instruction = usual.clone();
    instruction.accounts.push(usual.accounts[n - 1].clone());
    refused(
        world.send(&[instruction], &[&merchant]),
        SluiceError::EntryAccounts,
    );
    // The held balance's address is the recipient's own.
    let foreign = address::held_balance(&world.service, &merchant.pubkey()).0;
    for wrong in [foreign, Address::new_unique(), world.service] {
        let mut instruction = usual.clone();
        instruction.accounts[n - 2].pubkey = wrong;
        refused(
            world.send(&[instruction], &[&merchant]),
            SluiceError::WrongAccount,
        );
    }
    let mut swapped = usual.clone();
    swapped.accounts.swap(n - 1, n - 2);
    refused(
        world.send(&[swapped], &[&merchant]),
        SluiceError::WrongAccount,
    );
    // The facilitator from now on must be one.
    for wrong in [world.service, Address::new_unique(), address::config().0] {
        let mut instruction = usual.clone();
        instruction.accounts[12].pubkey = wrong;
        refused(
            world.send(&[instruction], &[&merchant]),
            SluiceError::WrongAccount,
        );
    }
    // A program in the system program's place cannot create the account.
    let mut instruction = usual.clone();
    instruction.accounts[13].pubkey = TOKEN_PROGRAM;
    assert!(world.send(&[instruction], &[&merchant]).is_err());
    assert_eq!(usual.accounts[13].pubkey, SYSTEM_PROGRAM);
    // Recipients of another order, and another's vault or treasury.
    let stranger = world.open_token(merchant.pubkey(), 0);
    for (at, reason) in [
        (6, SluiceError::WrongVault),
        (7, SluiceError::WrongTreasury),
        (10, SluiceError::WrongDestination),
        (11, SluiceError::WrongDestination),
    ] {
        let mut instruction = usual.clone();
        instruction.accounts[at].pubkey = stranger;
        refused(world.send(&[instruction], &[&merchant]), reason);
    }
    sealed(&world, 1);
    world.send(&[usual], &[&merchant]).unwrap();
    sealed(&world, 2);
}

#[test]
fn a_closed_service_divides_to_the_last_unit_and_settles_nothing_more() {
    let mut world = World::with(&WorldOptions {
        recipients: vec![6_000, 4_000],
        min_payment: 1_000,
        ..WorldOptions::default()
    });
    let payer = world.payer(HOLDS);
    let item = world.item(&payer, 10_000, 0);
    // Dust below every minimum: one unit goes to the first recipient.
    world.pay_in(1);
    let outcome = world.close().unwrap();
    assert_eq!(outcome.paid().unwrap().divided, 1);
    assert_eq!(token_balance(&world, &world.recipients[0]), 1);
    assert_eq!(world.balance(&world.vault()), 0);
    assert_eq!(world.current().status, SERVICE_CLOSED);
    refused(world.settle(&[item], true), SluiceError::ServiceInactive);
    assert_eq!(world.balance(&payer.source), HOLDS);
    // For good: not changed, not synced, not closed again, its address never used again.
    let terms = world.terms();
    refused(world.update(&terms), SluiceError::ServiceInactive);
    refused(world.sync(), SluiceError::ServiceInactive);
    refused(world.close(), SluiceError::ServiceInactive);
    let again = world.service_instruction(1, &WorldOptions::default());
    let merchant = world.merchant.insecure_clone();
    refused(
        world.send(&[again], &[&merchant]),
        SluiceError::AlreadyExists,
    );
}

#[test]
fn closing_pays_nothing_twice_and_keeps_what_cannot_be_paid() {
    let mut world = world();
    let key = world.token_of(&world.recipients[1]);
    world.freeze(&key);
    let due = settle_one(&mut world, 10_000).recipients[1];
    world.pay_in(5_000);
    let share = world.current().split(5_000, 0).unwrap().recipients[1];
    world.close().unwrap();
    assert_eq!(world.current().recipients[1].held, due + share);
    assert_eq!(world.balance(&world.vault()), due + share);
    world.thaw(&key);
    world.distribute(&[]).unwrap();
    assert_eq!(world.balance(&key), due + share);
}

#[test]
fn an_empty_service_closes_without_a_payment() {
    let mut world = world();
    assert!(world.close().unwrap().paid().is_none());
}

/// A world with a new treasury share announced, 900 bps after 50.
fn announced() -> World {
    let mut world = world();
    world.announce_treasury_share(900).unwrap();
    world
}

#[test]
fn a_service_is_synced_by_anyone_from_the_second_in_which_the_new_share_holds() {
    let mut world = announced();
    let due = NOW + FEE_DELAY_SECS;
    refused(world.sync(), SluiceError::UpToDate);
    world.set_time(due - 1);
    refused(world.sync(), SluiceError::UpToDate);
    world.set_time(due);
    world.sync().unwrap();
    assert_eq!(world.current().treasury_bps, 900);
    sealed(&world, 2);
    refused(world.sync(), SluiceError::UpToDate);
    // Also once the config has made the announcement its own.
    world.announce_treasury_share(10).unwrap();
    assert_eq!(world.config().treasury_bps, 900);
    refused(world.sync(), SluiceError::UpToDate);
    world.set_time(due + FEE_DELAY_SECS);
    world.sync().unwrap();
    assert_eq!(world.current().treasury_bps, 10);
    sealed(&world, 3);
}

#[test]
fn a_sync_divides_under_the_old_share_first() {
    let mut world = announced();
    world.set_time(NOW + FEE_DELAY_SECS);
    world.pay_in(10_000);
    world.sync().unwrap();
    assert_eq!(token_balance(&world, &world.treasury), 50);
    world.pay_in(10_000);
    world.distribute(&[]).unwrap();
    assert_eq!(token_balance(&world, &world.treasury), 50 + 900);
}

#[test]
fn a_change_copies_the_treasurys_share_in_force() {
    let mut world = announced();
    let terms = world.terms();
    world.update(&terms).unwrap();
    assert_eq!(world.current().treasury_bps, 50);
    world.set_time(NOW + FEE_DELAY_SECS);
    world.update(&terms).unwrap();
    assert_eq!(world.current().treasury_bps, 900);
    refused(world.sync(), SluiceError::UpToDate);
}

#[test]
fn a_service_that_is_not_synced_goes_on_under_its_own_terms() {
    let mut world = announced();
    let payer = world.payer(HOLDS);
    world.set_time(NOW + FEE_DELAY_SECS);
    let item = world.item(&payer, 10_000, 0);
    assert_eq!(world.settle(&[item], true).unwrap().event().treasury, 50);
}

#[test]
fn intents_in_flight_when_the_terms_change_no_longer_settle_and_cost_their_payers_nothing() {
    let due = NOW + FEE_DELAY_SECS;
    let changes: [(&str, Change); 3] = [
        ("sync", |world| {
            world.sync().unwrap();
        }),
        ("update", |world| {
            let mut terms = world.terms();
            terms.facilitator_bps = 101;
            world.update(&terms).unwrap();
        }),
        ("another facilitator", |world| {
            let new = world.register(0, 0);
            let terms = world.terms();
            world.update_with(&new.facilitator, &terms).unwrap();
            world.relayer = new.relayer;
            world.fee_wallet = new.wallet;
        }),
    ];
    for (name, change) in changes {
        let mut world = announced();
        world.set_time(due);
        let (before, after) = (world.payer(HOLDS), world.payer(HOLDS));
        let old = world.item(&before, 10_000, 0);
        change(&mut world);
        let new = world.item(&after, 10_000, 0);
        let kept = world.svm.get_account(&before.nonce_account);
        let source = world.svm.get_account(&before.source);
        let outcome = world.settle(&[old, new], false).unwrap();
        assert_eq!(outcome.skips(), [Some(Skip::BadSignature), None], "{name}");
        let failure = world.settle(&[old], true).unwrap_err();
        assert_eq!(failure.skip(), Some(Skip::BadSignature), "{name}");
        assert_eq!(world.svm.get_account(&before.nonce_account), kept, "{name}");
        assert_eq!(world.svm.get_account(&before.source), source, "{name}");
        // Signed again, the same nonce pays.
        let again = world.item(&before, 10_000, 0);
        assert_eq!(world.settle(&[again], true).unwrap().codes, [0], "{name}");
    }
}

#[test]
fn terms_that_come_back_are_the_terms_that_were_signed() {
    // The hash names the terms and not their history, so what was agreed can be settled again when it holds again.
    let mut world = world();
    let payer = world.payer(HOLDS);
    let item = world.item(&payer, 10_000, 0);
    let (old, mut new) = (world.terms(), world.terms());
    new.facilitator_bps = 500;
    world.update(&new).unwrap();
    assert!(world.settle(&[item], true).is_err());
    world.update(&old).unwrap();
    let event = world.settle(&[item], true).unwrap().event();
    assert_eq!(event.facilitator, 100);
    sealed(&world, 3);
}

#[test]
fn a_services_authority_changes_hands_in_two_steps() {
    let mut world = world();
    let (old, new, stranger) = (
        world.merchant.insecure_clone(),
        world.funded(),
        world.funded(),
    );
    let service = world.service;
    let propose =
        |by: &Address, next: &Address| instructions::propose_authority(by, &service, next);
    let accept = |by: &Address| instructions::accept_authority(by, &service);

    refused(
        world.send(
            &[propose(&stranger.pubkey(), &stranger.pubkey())],
            &[&stranger],
        ),
        SluiceError::NotAuthority,
    );
    refused(
        world.send(&[accept(&new.pubkey())], &[&new]),
        SluiceError::NotPending,
    );
    world
        .send(&[propose(&old.pubkey(), &new.pubkey())], &[&old])
        .unwrap();
    // Until it is accepted, nothing has changed.
    assert_eq!(world.current().authority, old.pubkey().to_bytes());
    refused(
        world.send(&[accept(&stranger.pubkey())], &[&stranger]),
        SluiceError::NotPending,
    );
    refused(
        world.send(&[accept(&old.pubkey())], &[&old]),
        SluiceError::NotPending,
    );
    let terms = world.terms();
    world.update(&terms).unwrap();
    // Taken back.
    world
        .send(&[propose(&old.pubkey(), &Address::default())], &[&old])
        .unwrap();
    refused(
        world.send(&[accept(&new.pubkey())], &[&new]),
        SluiceError::NotPending,
    );
    // Overwritten: only the last one counts.
    for next in [stranger.pubkey(), new.pubkey()] {
        world
            .send(&[propose(&old.pubkey(), &next)], &[&old])
            .unwrap();
    }
    refused(
        world.send(&[accept(&stranger.pubkey())], &[&stranger]),
        SluiceError::NotPending,
    );
    world.send(&[accept(&new.pubkey())], &[&new]).unwrap();
    let state = world.current();
    assert_eq!(state.authority, new.pubkey().to_bytes());
    assert_eq!(state.pending_authority, [0; 32]);
    assert_eq!(
        state.creator,
        old.pubkey().to_bytes(),
        "part of the address"
    );
    // Accepted once, and the old key is out.
    refused(
        world.send(&[accept(&new.pubkey())], &[&new]),
        SluiceError::NotPending,
    );
    refused(world.update(&terms), SluiceError::NotAuthority);
    refused(
        world.send(&[propose(&old.pubkey(), &old.pubkey())], &[&old]),
        SluiceError::NotAuthority,
    );
    world.merchant = new;
    world.update(&terms).unwrap();
    world.close().unwrap();
}

#[test]
fn a_handover_takes_facilitators_and_services_only() {
    let mut world = world();
    let payer = world.payer(HOLDS);
    let merchant = world.merchant.insecure_clone();
    for account in [
        address::config().0,
        address::accepted_mint(&world.mint).0,
        payer.nonce_account,
        payer.source,
        Address::new_unique(),
    ] {
        let key = merchant.pubkey();
        let propose = instructions::propose_authority(&key, &account, &key);
        refused(
            world.send(&[propose], &[&merchant]),
            SluiceError::WrongAccount,
        );
        let accept = instructions::accept_authority(&key, &account);
        refused(
            world.send(&[accept], &[&merchant]),
            SluiceError::WrongAccount,
        );
    }
}

#[test]
fn a_facilitators_new_wallet_is_owed_what_the_old_one_was() {
    let mut world = world();
    let operator = world.operator.insecure_clone();
    let key = world.token_of(&world.fee_wallet);
    world.freeze(&key);
    let due = settle_one(&mut world, 10_000).facilitator;
    let wallet = newcomer(&mut world);
    let args = FacilitatorArgs {
        wallet: wallet.to_bytes(),
        min_fee_bps: 0,
        min_fee_fixed: 0,
        relayers: vec![world.relayer.pubkey().to_bytes()],
    };
    let facilitator = world.facilitator();
    let update = instructions::update_facilitator(&operator.pubkey(), &facilitator, &args);
    world.send(&[update], &[&operator]).unwrap();
    let state: Facilitator = world.decode(&facilitator);
    assert_eq!(state.wallet, wallet.to_bytes());
    world.distribute(&[]).unwrap();
    assert_eq!(token_balance(&world, &wallet), due);
}
