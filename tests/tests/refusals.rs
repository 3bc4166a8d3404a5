//! What does not settle. Each entry is refused alone (`strict`: the transaction fails, with the reason as its
//! error) and skipped in a batch (the code comes back), and in both cases nothing changes and the good
//! entries around it are paid.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use sluice_intent::{LaneTerms, Scope, Skip, UNLIMITED};
use sluice_sdk::{
    Address, UnsignedIntent, address,
    instructions::{self, MintArgs, SettleItem},
    token::{TOKEN_2022_PROGRAM, TOKEN_PROGRAM},
};
use sluice_tests::{NOW, TokenState, World, WorldOptions, lane_terms};
use solana_account::Account;
use solana_signer::Signer;

const HOLDS: u64 = 1_000_000;

/// Settles `item` alone and between two good ones, and checks that it is refused for `reason` with nothing
/// changed.
fn refused(world: &mut World, item: SettleItem, reason: Skip) {
    let before = world
        .svm
        .get_account(&item.nonce_account)
        .filter(|account| account.lamports > 0);
    let source = world.svm.get_account(&item.source);
    let service = world.service_account(&world.service);

    let failure = world.settle(&[item], true).unwrap_err();
    assert_eq!(
        failure.skip(),
        Some(reason),
        "strict: {:?} {:#?}",
        failure.error,
        failure.logs
    );
    assert_eq!(world.service_account(&world.service), service);

    let (left, right) = (world.payer(HOLDS), world.payer(HOLDS));
    let items = [
        world.item(&left, 70_000, 0),
        item,
        world.item(&right, 30_000, 0),
    ];
    let outcome = world.settle(&items, false).unwrap();
    assert_eq!(outcome.skips(), [None, Some(reason), None]);
    assert_eq!(outcome.event().total, 100_000);
    assert_eq!(outcome.event().codes, outcome.codes);
    let after = world
        .svm
        .get_account(&item.nonce_account)
        .filter(|account| account.lamports > 0);
    assert_eq!(after, before, "the nonce account changed");
    assert_eq!(
        world.svm.get_account(&item.source),
        source,
        "the source changed"
    );
}

/// A payer whose intent is bent before it is signed.
fn refused_intent(world: &mut World, reason: Skip, bend: impl FnOnce(&mut UnsignedIntent)) {
    let payer = world.payer(HOLDS);
    let mut intent = world.intent(&payer, 1_000, 0);
    bend(&mut intent);
    let item = payer.item(&payer.sign(intent));
    refused(world, item, reason);
}

/// A payer whose entry is bent after it was signed.
fn refused_entry(world: &mut World, reason: Skip, bend: impl FnOnce(&mut SettleItem)) {
    let payer = world.payer(HOLDS);
    let mut item = world.item(&payer, 1_000, 0);
    bend(&mut item);
    refused(world, item, reason);
}

/// A payer whose token account is bent after the intent was signed.
fn refused_source(world: &mut World, reason: Skip, bend: impl FnOnce(&mut TokenState)) {
    let payer = world.payer(HOLDS);
    let item = world.item(&payer, 1_000, 0);
    world.change_token(payer.source, bend);
    refused(world, item, reason);
}

/// A payer whose session lane is bent before the intent is signed.
fn refused_lane(world: &mut World, reason: Skip, bend: impl FnOnce(&mut LaneTerms)) {
    let payer = world.payer(HOLDS);
    let mut terms = lane_terms(payer.session.pubkey());
    bend(&mut terms);
    world.set_lane(&payer, 1, &terms).unwrap();
    let item = world.item(&payer, 1_000, 0);
    refused(world, item, reason);
}

#[test]
fn bad_signature() {
    let mut world = World::new();
    for byte in [0, 31, 32, 63] {
        refused_entry(&mut world, Skip::BadSignature, |item| {
            item.entry.signature[byte] ^= 1
        });
    }
}

#[test]
fn the_other_lanes_key_is_a_bad_signature() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    let intent = world.intent(&payer, 1_000, 0);
    let item = payer.item(&intent.sign(&payer.wallet).unwrap());
    refused(&mut world, item, Skip::BadSignature);
}

#[test]
fn changed_amount() {
    refused_entry(&mut World::new(), Skip::BadSignature, |item| {
        item.entry.amount += 1
    });
}

#[test]
fn changed_nonce() {
    refused_entry(&mut World::new(), Skip::BadSignature, |item| {
        item.entry.nonce += 1
    });
}

#[test]
fn changed_expiry() {
    refused_entry(&mut World::new(), Skip::BadSignature, |item| {
        item.entry.expires_at += 1
    });
}

#[test]
fn cross_resource_substitution() {
    refused_entry(&mut World::new(), Skip::BadSignature, |item| {
        item.entry.resource[0] ^= 1
    });
}

#[test]
fn changed_lane() {
    refused_entry(&mut World::new(), Skip::BadSignature, |item| {
        item.entry.flags = 0
    });
}

#[test]
fn unknown_flags() {
    let mut world = World::new();
    for flags in [2, 3, 4, 8, 16, 128, 255] {
        refused_entry(&mut world, Skip::UnknownFlag, |item| {
            item.entry.flags = flags
        });
    }
}

#[test]
fn wrong_terms_hash() {
    refused_intent(&mut World::new(), Skip::BadSignature, |intent| {
        intent.terms_hash[0] ^= 1
    });
}

#[test]
fn wrong_cluster() {
    refused_intent(&mut World::new(), Skip::BadSignature, |intent| {
        intent.genesis_hash[0] ^= 1
    });
}

#[test]
fn intent_of_another_opening() {
    refused_intent(&mut World::new(), Skip::BadSignature, |intent| {
        intent.opened_slot -= 1
    });
}

#[test]
fn intent_for_another_service() {
    let mut world = World::new();
    let other = world.create_service(2, &WorldOptions::default());
    refused_intent(&mut world, Skip::BadSignature, |intent| {
        intent.service = other
    });
}

#[test]
fn replay() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    let item = world.item(&payer, 1_000, 0);
    world.settle(&[item], true).unwrap();
    refused(&mut world, item, Skip::NonceUsed);
}

#[test]
fn the_same_entry_twice_in_a_batch_settles_once() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    let item = world.item(&payer, 1_000, 0);
    let outcome = world.settle(&[item, item], false).unwrap();
    assert_eq!(outcome.skips(), [None, Some(Skip::NonceUsed)]);
    assert_eq!(world.balance(&payer.source), HOLDS - 1_000);
}

#[test]
fn two_intents_with_one_nonce_settle_once() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    let items = [world.item(&payer, 1_000, 4), world.item(&payer, 2_000, 4)];
    let outcome = world.settle(&items, false).unwrap();
    assert_eq!(outcome.skips(), [None, Some(Skip::NonceUsed)]);
}

#[test]
fn below_the_window() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    for nonce in [128, 256] {
        let item = world.item(&payer, 10, nonce);
        world.settle(&[item], true).unwrap();
    }
    let item = world.item(&payer, 10, 0);
    refused(&mut world, item, Skip::NonceTooOld);
    let item = world.item(&payer, 10, 1);
    assert_eq!(
        world.settle(&[item], true).unwrap().codes,
        [0],
        "the window's last nonce is free"
    );
}

#[test]
fn too_far_ahead() {
    refused_intent(&mut World::new(), Skip::NonceTooFar, |intent| {
        intent.nonce = 129
    });
    refused_intent(&mut World::new(), Skip::NonceTooFar, |intent| {
        intent.nonce = u64::MAX
    });
}

#[test]
fn expired() {
    let mut world = World::new();
    refused_intent(&mut world, Skip::Expired, |intent| {
        intent.expires_at = (NOW - 1) as u32
    });
    let payer = world.payer(HOLDS);
    let mut intent = world.intent(&payer, 1_000, 0);
    intent.expires_at = NOW as u32;
    let item = payer.item(&payer.sign(intent));
    assert_eq!(
        world.settle(&[item], true).unwrap().codes,
        [0],
        "its last second counts"
    );
}

#[test]
fn expiry_too_far() {
    let mut world = World::new();
    refused_intent(&mut world, Skip::ExpiryTooFar, |intent| {
        intent.expires_at = (NOW + 601) as u32
    });
    refused_intent(&mut world, Skip::ExpiryTooFar, |intent| {
        intent.expires_at = u32::MAX
    });
    let payer = world.payer(HOLDS);
    let mut intent = world.intent(&payer, 1_000, 0);
    intent.expires_at = (NOW + 600) as u32;
    let item = payer.item(&payer.sign(intent));
    assert_eq!(world.settle(&[item], true).unwrap().codes, [0]);
}

#[test]
fn lane_closed() {
    refused_lane(&mut World::new(), Skip::LaneClosed, |terms| {
        terms.key = [0; 32]
    });
}

#[test]
fn lane_expired() {
    refused_lane(&mut World::new(), Skip::LaneExpired, |terms| {
        terms.expires_at = NOW - 1
    });
}

#[test]
fn a_replaced_key_no_longer_signs() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    let item = world.item(&payer, 1_000, 0);
    world
        .set_lane(&payer, 1, &lane_terms(Address::new_unique()))
        .unwrap();
    refused(&mut world, item, Skip::BadSignature);
}

#[test]
fn a_key_that_comes_back_revives_no_nonce() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    let item = world.item(&payer, 1_000, 0);
    world.settle(&[item], true).unwrap();
    world
        .set_lane(&payer, 1, &lane_terms(Address::new_unique()))
        .unwrap();
    world
        .set_lane(&payer, 1, &lane_terms(payer.session.pubkey()))
        .unwrap();
    refused(&mut world, item, Skip::NonceUsed);
}

#[test]
fn over_the_limit_a_payment() {
    refused_lane(&mut World::new(), Skip::OverMax, |terms| {
        terms.max_per_payment = 999
    });
}

#[test]
fn over_the_limit_a_period() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    let mut terms = lane_terms(payer.session.pubkey());
    (terms.period_limit, terms.period_secs) = (1_500, 3_600);
    world.set_lane(&payer, 1, &terms).unwrap();
    let item = world.item(&payer, 1_000, 0);
    world.settle(&[item], true).unwrap();
    let item = world.item(&payer, 501, 1);
    refused(&mut world, item, Skip::OverPeriod);
    world.set_time(NOW + 3_599);
    let mut intent = world.intent(&payer, 501, 1);
    intent.expires_at = (NOW + 3_650) as u32;
    let item = payer.item(&payer.sign(intent));
    refused(&mut world, item, Skip::OverPeriod);
    world.set_time(NOW + 3_600);
    assert_eq!(
        world.settle(&[item], true).unwrap().codes,
        [0],
        "the next period begins"
    );
    assert_eq!(
        world.nonce_account(&payer.nonce_account).lanes[1].period_start,
        NOW + 3_600
    );
}

#[test]
fn over_the_limit_in_all() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    let mut terms = lane_terms(payer.session.pubkey());
    terms.total_limit = 1_500;
    world.set_lane(&payer, 1, &terms).unwrap();
    let item = world.item(&payer, 1_000, 0);
    world.settle(&[item], true).unwrap();
    // The same key set again keeps what it spent.
    world.set_lane(&payer, 1, &terms).unwrap();
    let item = world.item(&payer, 501, 1);
    refused(&mut world, item, Skip::OverTotal);
}

#[test]
fn wrong_scope() {
    let mut world = World::new();
    for scope in [
        Scope::Service(Address::new_unique().to_bytes()),
        Scope::Authority(Address::new_unique().to_bytes()),
        Scope::Facilitator(Address::new_unique().to_bytes()),
    ] {
        refused_lane(&mut world, Skip::Scope, |terms| terms.scope = scope);
    }
}

#[test]
fn every_scope_lets_its_own_through() {
    let mut world = World::new();
    for scope in [
        Scope::Any,
        Scope::Service(world.service.to_bytes()),
        Scope::Authority(world.merchant.pubkey().to_bytes()),
        Scope::Facilitator(world.facilitator().to_bytes()),
    ] {
        let payer = world.payer(HOLDS);
        let mut terms = lane_terms(payer.session.pubkey());
        terms.scope = scope;
        world.set_lane(&payer, 1, &terms).unwrap();
        let item = world.item(&payer, 1_000, 0);
        assert_eq!(world.settle(&[item], true).unwrap().codes, [0], "{scope:?}");
    }
}

#[test]
fn below_the_services_minimum() {
    let options = WorldOptions {
        min_payment: 1_001,
        ..WorldOptions::default()
    };
    refused_intent(&mut World::with(&options), Skip::BelowMinimum, |_| {});
}

#[test]
fn nothing_is_not_a_payment() {
    let options = WorldOptions {
        min_payment: 0,
        ..WorldOptions::default()
    };
    refused_intent(&mut World::with(&options), Skip::BelowMinimum, |intent| {
        intent.amount = 0
    });
}

#[test]
fn above_the_mints_maximum() {
    let over = 1_000_000_000_001;
    refused_intent(&mut World::new(), Skip::AboveMaximum, |intent| {
        intent.amount = over
    });
}

#[test]
fn another_token_account_of_the_payer() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    let mut item = world.item(&payer, 1_000, 0);
    let other = Address::new_unique();
    let state = TokenState {
        mint: world.mint,
        owner: payer.key(),
        amount: HOLDS,
        delegate: Some((payer.nonce_account, HOLDS)),
        frozen: false,
    };
    world
        .svm
        .set_account(other, state.account(TOKEN_PROGRAM))
        .unwrap();
    item.source = other;
    refused(&mut world, item, Skip::SourceMismatch);
}

#[test]
fn another_payers_token_account() {
    let mut world = World::new();
    let victim = world.payer(HOLDS);
    refused_entry(&mut world, Skip::SourceMismatch, |item| {
        item.source = victim.source
    });
}

#[test]
fn another_payers_nonce_account() {
    let mut world = World::new();
    let other = world.payer(HOLDS);
    refused_entry(&mut world, Skip::SourceMismatch, |item| {
        item.nonce_account = other.nonce_account
    });
}

#[test]
fn a_closed_source() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    let item = world.item(&payer, 1_000, 0);
    world.remove(payer.source);
    refused(&mut world, item, Skip::SourceUnusable);
}

#[test]
fn a_source_of_another_mint() {
    refused_source(&mut World::new(), Skip::SourceUnusable, |state| {
        state.mint = Address::new_unique()
    });
}

#[test]
fn a_source_of_another_token_program() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    let item = world.item(&payer, 1_000, 0);
    let account = world.svm.get_account(&payer.source).unwrap();
    world
        .svm
        .set_account(
            payer.source,
            Account {
                owner: TOKEN_2022_PROGRAM,
                ..account
            },
        )
        .unwrap();
    refused(&mut world, item, Skip::SourceUnusable);
}

#[test]
fn a_source_with_another_owner() {
    refused_source(&mut World::new(), Skip::OwnerChanged, |state| {
        state.owner = Address::new_unique()
    });
}

#[test]
fn a_frozen_source() {
    refused_source(&mut World::new(), Skip::SourceFrozen, |state| {
        state.frozen = true
    });
}

#[test]
fn a_revoked_delegate() {
    refused_source(&mut World::new(), Skip::DelegateGone, |state| {
        state.delegate = None
    });
}

#[test]
fn a_replaced_delegate() {
    refused_source(&mut World::new(), Skip::DelegateGone, |state| {
        state.delegate = Some((Address::new_unique(), HOLDS));
    });
}

#[test]
fn an_insufficient_delegated_amount() {
    refused_source(&mut World::new(), Skip::DelegatedShort, |state| {
        state.delegate = state.delegate.map(|(key, _)| (key, 999));
    });
}

#[test]
fn an_insufficient_balance() {
    refused_source(&mut World::new(), Skip::BalanceShort, |state| {
        state.amount = 999
    });
}

#[test]
fn a_nonce_account_that_was_never_opened() {
    refused_entry(&mut World::new(), Skip::AccountMissing, |item| {
        item.nonce_account = Address::new_unique();
    });
}

#[test]
fn a_fake_nonce_account() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    let mut item = world.item(&payer, 1_000, 0);
    let data = world.svm.get_account(&payer.nonce_account).unwrap().data;
    item.nonce_account = Address::new_unique();
    world.put(item.nonce_account, data, TOKEN_PROGRAM);
    refused(&mut world, item, Skip::AccountForeign);
}

#[test]
fn another_account_of_the_program_is_no_nonce_account() {
    let mut world = World::new();
    let (config, service) = (address::config().0, world.service);
    for key in [config, service] {
        refused_entry_keeping_service(&mut world, key);
    }
}

/// Like [`refused_entry`], for accounts that a settle changes anyway.
fn refused_entry_keeping_service(world: &mut World, key: Address) {
    let payer = world.payer(HOLDS);
    let mut item = world.item(&payer, 1_000, 0);
    item.nonce_account = key;
    let failure = world.settle(&[item], true).unwrap_err();
    assert_eq!(failure.skip(), Some(Skip::AccountForeign));
    let good = world.payer(HOLDS);
    let items = [world.item(&good, 10, 0), item];
    assert_eq!(
        world.settle(&items, false).unwrap().skips(),
        [None, Some(Skip::AccountForeign)]
    );
}

#[test]
fn a_nonce_account_of_another_version() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    let item = world.item(&payer, 1_000, 0);
    let mut account = world.svm.get_account(&payer.nonce_account).unwrap();
    // 8 discriminator, 24 counters, 128 keys, then the version.
    account.data[160] = 2;
    world.svm.set_account(payer.nonce_account, account).unwrap();
    refused(&mut world, item, Skip::AccountVersion);
}

#[test]
fn a_nonce_account_of_another_mint() {
    let mut world = World::new();
    let usual = world.mint;
    let other = Address::new_unique();
    let data = world.svm.get_account(&usual).unwrap().data;
    world.put(other, data, TOKEN_PROGRAM);
    world.mint = other;
    world.open_token(world.treasury, 0);
    world.set_mint(true);
    let payer = world.payer(HOLDS);
    world.mint = usual;
    let item = world.item(&payer, 1_000, 0);
    refused(&mut world, item, Skip::MintMismatch);
}

#[test]
fn self_payment() {
    // The payer is a recipient, too: its money would come straight back, against a receipt.
    let mut world = World::with_recipients(&[10_000]);
    let payer = world.payer(HOLDS);
    world.recipients[0] = payer.key();
    world.service = world.create_service(2, &WorldOptions::default());
    let item = world.item(&payer, 1_000, 0);
    assert_eq!(
        world.settle(&[item], true).unwrap_err().skip(),
        Some(Skip::SelfPayment)
    );
    let other = world.payer(HOLDS);
    let items = [world.item(&other, 10_000, 0), item];
    let outcome = world.settle(&items, false).unwrap();
    assert_eq!(outcome.skips(), [None, Some(Skip::SelfPayment)]);
    assert_eq!(
        world.balance(&payer.source),
        HOLDS + outcome.event().recipients[0]
    );
    assert!(
        !world.nonce_account(&payer.nonce_account).lanes[1]
            .window()
            .is_used(0)
    );
}

#[test]
fn self_payment_of_the_facilitator() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    let item = world.item(&payer, 1_000, 0);
    // The relayer names the payer's own account as the facilitator's.
    let mut accounts = world.settle_accounts(&world.service);
    accounts.facilitator_token = payer.source;
    let instruction = instructions::settle(&world.relayer.pubkey(), &accounts, &[item], true);
    let failure = world.send_as_relayer(&[instruction]).unwrap_err();
    assert_eq!(failure.skip(), Some(Skip::SelfPayment));
}

#[test]
fn a_disabled_mint_stops_settlement() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    let item = world.item(&payer, 1_000, 0);
    world.set_mint(false);
    assert_eq!(
        world.settle(&[item], false).unwrap_err().custom(),
        Some(6_102)
    );
    world.set_mint(true);
    assert_eq!(world.settle(&[item], true).unwrap().codes, [0]);
}

#[test]
fn a_mint_with_a_new_maximum_applies_it_at_once() {
    let mut world = World::new();
    let admin = world.admin.insecure_clone();
    let args = MintArgs {
        settle: true,
        min_amount: 0,
        max_amount: 999,
        allowed_extensions: 0,
    };
    let treasury = world.token_of(&world.treasury);
    let instruction = instructions::set_mint(&admin.pubkey(), &world.mint, &treasury, &args);
    world.send(&[instruction], &[&admin]).unwrap();
    refused_intent_above(&mut world);
}

fn refused_intent_above(world: &mut World) {
    let payer = world.payer(HOLDS);
    let item = world.item(&payer, 1_000, 0);
    assert_eq!(
        world.settle(&[item], true).unwrap_err().skip(),
        Some(Skip::AboveMaximum)
    );
}

#[test]
fn unlimited_counts_do_not_overflow() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    let mut account = world.svm.get_account(&payer.nonce_account).unwrap();
    // spent_total, the third counter.
    account.data[24..32].copy_from_slice(&u64::MAX.to_le_bytes());
    world.svm.set_account(payer.nonce_account, account).unwrap();
    let item = world.item(&payer, 1_000, 0);
    assert_eq!(world.settle(&[item], true).unwrap().codes, [0]);
    assert_eq!(
        world.nonce_account(&payer.nonce_account).spent_total,
        UNLIMITED
    );
}
