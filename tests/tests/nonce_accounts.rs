//! A payer's nonce account: what it may pull from, who may close it and when, and what its session key can spend.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use sluice::{SluiceError, close_nonce::IDLE_SECS};
use sluice_intent::{LaneTerms, Scope, Skip, UNLIMITED, window::MAX_JUMP};
use sluice_sdk::{
    Address, address, instructions,
    token::{self, TOKEN_2022_PROGRAM, TOKEN_PROGRAM},
};
use sluice_tests::{Failure, NOW, Outcome, Payer, TokenState, World, WorldOptions, lane_terms};
use solana_account::Account;
use solana_keypair::Keypair;
use solana_signer::Signer;
use spl_token_interface::instruction as spl;
use support::refused;

const HOLDS: u64 = 1_000_000;

/// A payer's state that a program cannot change without a trace.
fn bytes(world: &World, payer: &Payer) -> Option<Account> {
    world.svm.get_account(&payer.nonce_account)
}

fn set_source(world: &mut World, payer: &Payer, source: &Address) -> Result<Outcome, Failure> {
    let relayer = world.relayer.insecure_clone();
    let instruction = instructions::set_source(&payer.key(), &world.mint, source);
    world.send(&[instruction], &[&relayer, &payer.wallet])
}

/// Closes a payer's nonce account as `authority`, with the rent to `rent_payer`.
fn close(
    world: &mut World,
    payer: &Payer,
    authority: &Keypair,
    rent_payer: &Address,
) -> Result<Outcome, Failure> {
    let relayer = world.relayer.insecure_clone();
    let instruction =
        instructions::close_nonce(&authority.pubkey(), &payer.key(), &world.mint, rent_payer);
    let mut signers = vec![&relayer];
    if authority.pubkey() != relayer.pubkey() {
        signers.push(authority);
    }
    world.send(&[instruction], &signers)
}

/// Opens a payer's nonce account again, with the lanes it had, and gives the payer as it is now.
fn reopen(world: &mut World, payer: &Payer) -> Payer {
    let relayer = world.relayer.insecure_clone();
    let key = payer.key();
    let setup = [
        instructions::open_nonce(&relayer.pubkey(), &key, &world.mint, &payer.source),
        instructions::set_lane(&key, &world.mint, 0, &lane_terms(key)),
        instructions::set_lane(&key, &world.mint, 1, &lane_terms(payer.session.pubkey())),
    ];
    world.send(&setup, &[&relayer, &payer.wallet]).unwrap();
    Payer {
        wallet: payer.wallet.insecure_clone(),
        session: payer.session.insecure_clone(),
        source: payer.source,
        nonce_account: payer.nonce_account,
        opened_slot: world.nonce_account(&payer.nonce_account).opened_slot,
    }
}

#[test]
fn another_token_account_of_the_payer_can_become_the_source() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    let old = world.item(&payer, 1_000, 0);
    let other = world.open_other_token(payer.key());
    world.change_token(other, |state| state.amount = HOLDS);
    set_source(&mut world, &payer, &other).unwrap();
    assert_eq!(
        world.nonce_account(&payer.nonce_account).source,
        other.to_bytes()
    );
    // The old one is no longer pulled from, and the new one only after an approval of its own.
    let failure = world.settle(&[old], true).unwrap_err();
    assert_eq!(failure.skip(), Some(Skip::SourceMismatch));
    let mut item = old;
    item.source = other;
    let failure = world.settle(&[item], true).unwrap_err();
    assert_eq!(failure.skip(), Some(Skip::DelegateGone));
    let approve = spl::approve_checked(
        &TOKEN_PROGRAM,
        &other,
        &world.mint,
        &payer.nonce_account,
        &payer.key(),
        &[],
        1_000,
        6,
    )
    .unwrap();
    let relayer = world.relayer.insecure_clone();
    world.send(&[approve], &[&relayer, &payer.wallet]).unwrap();
    // An intent that was signed before pulls from it: the source is not part of what is signed.
    world.settle(&[item], true).unwrap();
    assert_eq!(world.balance(&other), HOLDS - 1_000);
    assert_eq!(world.balance(&payer.source), HOLDS);
}

#[test]
fn setting_the_source_touches_no_lane() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    let item = world.item(&payer, 1_000, 3);
    world.settle(&[item], true).unwrap();
    let before = world.nonce_account(&payer.nonce_account);
    let other = world.open_other_token(payer.key());
    set_source(&mut world, &payer, &other).unwrap();
    let mut after = world.nonce_account(&payer.nonce_account);
    after.source = before.source;
    assert_eq!(after, before);
}

#[test]
fn sources_that_are_not_set() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    let stranger = world.open_token(Address::new_unique(), HOLDS);
    let frozen = world.open_other_token(payer.key());
    world.freeze(&frozen);
    let of_another_mint = world.open_other_token(payer.key());
    world.change_token(of_another_mint, |state| state.mint = Address::new_unique());
    let empty = Address::new_unique();
    let cut = world.open_other_token(payer.key());
    let mut data = world.svm.get_account(&cut).unwrap().data;
    data.truncate(164);
    world.put(cut, data, TOKEN_PROGRAM);
    let uninitialised = Address::new_unique();
    world.put(uninitialised, vec![0; 165], TOKEN_PROGRAM);
    // The bytes of a fine token account, owned by somebody else's program.
    let data = world.svm.get_account(&payer.source).unwrap().data;
    let fake = Address::new_unique();
    world.put(fake, data, Address::new_unique());
    let before = bytes(&world, &payer);
    let wrong = [
        stranger,
        frozen,
        of_another_mint,
        empty,
        cut,
        uninitialised,
        fake,
        payer.nonce_account,
        world.service,
        world.vault(),
    ];
    for source in wrong {
        refused(
            set_source(&mut world, &payer, &source),
            SluiceError::InvalidTokenAccount,
        );
        assert_eq!(bytes(&world, &payer), before);
    }
}

#[test]
fn a_source_under_the_wrong_token_program_can_be_pinned_and_is_never_pulled() {
    // Nothing of Token-2022's can be of a classic mint; a fake one stands in for the impossible.
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    let account = world.svm.get_account(&payer.source).unwrap();
    let fake = Address::new_unique();
    world
        .svm
        .set_account(
            fake,
            Account {
                owner: TOKEN_2022_PROGRAM,
                ..account
            },
        )
        .unwrap();
    set_source(&mut world, &payer, &fake).unwrap();
    let mut item = world.item(&payer, 1_000, 0);
    item.source = fake;
    let failure = world.settle(&[item], true).unwrap_err();
    assert_eq!(failure.skip(), Some(Skip::SourceUnusable));
}

#[test]
fn only_the_payer_sets_the_source() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    let before = bytes(&world, &payer);
    for stranger in [
        world.funded(),
        world.relayer.insecure_clone(),
        world.admin.insecure_clone(),
        payer.session.insecure_clone(),
    ] {
        let own = world.open_token(stranger.pubkey(), HOLDS);
        let mut instruction = instructions::set_source(&stranger.pubkey(), &world.mint, &own);
        instruction.accounts[1].pubkey = payer.nonce_account;
        let relayer = world.relayer.insecure_clone();
        let result = if stranger.pubkey() == relayer.pubkey() {
            world.send(&[instruction], &[&relayer])
        } else {
            world.send(&[instruction], &[&relayer, &stranger])
        };
        refused(result, SluiceError::NotPayer);
    }
    let other = world.open_other_token(payer.key());
    let mut unsigned = instructions::set_source(&payer.key(), &world.mint, &other);
    unsigned.accounts[0].is_signer = false;
    let relayer = world.relayer.insecure_clone();
    let failure = world.send(&[unsigned], &[&relayer]).unwrap_err();
    assert_eq!(failure.custom(), Some(3_010));
    assert_eq!(bytes(&world, &payer), before);
}

#[test]
fn a_nonce_account_is_closed_by_its_payer_in_a_later_slot_with_the_rent_back_to_who_paid() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    let rent_payer = world.relayer.pubkey();
    let wallet = payer.wallet.insecure_clone();
    refused(
        close(&mut world, &payer, &wallet, &rent_payer),
        SluiceError::SameSlot,
    );
    world.pass_slots(1);
    let rent = world.svm.get_balance(&payer.nonce_account).unwrap();
    let before = world.svm.get_balance(&rent_payer).unwrap();
    let outcome = close(&mut world, &payer, &wallet, &rent_payer).unwrap();
    assert_eq!(
        world.svm.get_balance(&rent_payer).unwrap(),
        before + rent - outcome.fee
    );
    assert_eq!(world.svm.get_balance(&payer.key()).unwrap_or(0), 0);
    assert!(!world.exists(&payer.nonce_account));
    assert_eq!(outcome.changed(), [(payer.nonce_account, vec![])]);
}

#[test]
fn the_payer_cannot_take_the_rent_that_somebody_else_paid() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    world.pass_slots(1);
    let wallet = payer.wallet.insecure_clone();
    for thief in [payer.key(), Address::new_unique(), payer.nonce_account] {
        refused(
            close(&mut world, &payer, &wallet, &thief),
            SluiceError::WrongAccount,
        );
    }
    assert!(world.exists(&payer.nonce_account));
}

#[test]
fn the_rent_payer_may_close_after_thirty_idle_days_to_the_second() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    let relayer = world.relayer.insecure_clone();
    let key = relayer.pubkey();
    world.pass_slots(1);
    let try_at = |world: &mut World, now: i64| {
        world.set_time(now);
        close(world, &payer, &relayer, &key)
    };
    assert_eq!(IDLE_SECS, 2_592_000);
    refused(try_at(&mut world, NOW), SluiceError::NotIdle);
    refused(try_at(&mut world, NOW + IDLE_SECS), SluiceError::NotIdle);
    // A settlement in the last second starts the thirty days again.
    let item = world.item(&payer, 1_000, 0);
    world.settle(&[item], true).unwrap();
    refused(
        try_at(&mut world, NOW + IDLE_SECS + 1),
        SluiceError::NotIdle,
    );
    refused(
        try_at(&mut world, NOW + 2 * IDLE_SECS),
        SluiceError::NotIdle,
    );
    try_at(&mut world, NOW + 2 * IDLE_SECS + 1).unwrap();
    assert!(!world.exists(&payer.nonce_account));
}

#[test]
fn an_entry_that_was_skipped_is_no_activity() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    let relayer = world.relayer.insecure_clone();
    world.pass_slots(1);
    world.set_time(NOW + IDLE_SECS + 1);
    let item = world.item(&payer, HOLDS + 1, 0);
    let codes = world.settle(&[item], false).unwrap().skips();
    assert_eq!(codes, [Some(Skip::DelegatedShort)]);
    close(&mut world, &payer, &relayer, &relayer.pubkey()).unwrap();
}

#[test]
fn a_stranger_never_closes_a_nonce_account() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    let rent_payer = world.relayer.pubkey();
    world.pass_slots(1_000_000);
    world.set_time(NOW + 400 * IDLE_SECS);
    for stranger in [
        world.funded(),
        world.admin.insecure_clone(),
        payer.session.insecure_clone(),
        world.merchant.insecure_clone(),
    ] {
        refused(
            close(&mut world, &payer, &stranger, &rent_payer),
            SluiceError::NotIdle,
        );
    }
    let mut unsigned =
        instructions::close_nonce(&payer.key(), &payer.key(), &world.mint, &rent_payer);
    unsigned.accounts[0].is_signer = false;
    assert_eq!(
        world.send_as_relayer(&[unsigned]).unwrap_err().custom(),
        Some(3_010)
    );
    assert!(world.exists(&payer.nonce_account));
}

#[test]
fn only_nonce_accounts_are_closed() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    world.pass_slots(1);
    let wallet = payer.wallet.insecure_clone();
    let relayer = world.relayer.insecure_clone();
    let data = bytes(&world, &payer).unwrap().data;
    let fake = Address::new_unique();
    world.put(fake, data, TOKEN_PROGRAM);
    for account in [world.service, address::config().0, payer.source, fake] {
        let mut instruction =
            instructions::close_nonce(&payer.key(), &payer.key(), &world.mint, &relayer.pubkey());
        instruction.accounts[1].pubkey = account;
        refused(
            world.send(&[instruction], &[&relayer, &wallet]),
            SluiceError::WrongAccount,
        );
    }
}

#[test]
fn a_closed_nonce_account_settles_nothing() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    let item = world.item(&payer, 1_000, 0);
    world.pass_slots(1);
    let wallet = payer.wallet.insecure_clone();
    let relayer = world.relayer.pubkey();
    close(&mut world, &payer, &wallet, &relayer).unwrap();
    let failure = world.settle(&[item], true).unwrap_err();
    assert_eq!(failure.skip(), Some(Skip::AccountMissing));
    // A gift of lamports does not bring it back.
    let gift = Account {
        lamports: 10_000_000,
        ..Account::default()
    };
    world.svm.set_account(payer.nonce_account, gift).unwrap();
    let failure = world.settle(&[item], true).unwrap_err();
    assert_eq!(failure.skip(), Some(Skip::AccountMissing));
    assert_eq!(world.balance(&payer.source), HOLDS);
}

#[test]
fn a_reopened_nonce_account_revives_nothing() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    // One that was settled, one that was not.
    let (settled, waiting) = (world.item(&payer, 1_000, 0), world.item(&payer, 1_000, 1));
    world.settle(&[settled], true).unwrap();
    let wallet = payer.wallet.insecure_clone();
    let relayer = world.relayer.pubkey();
    let mut slots = vec![payer.opened_slot];
    for _ in 0..3 {
        world.pass_slots(1);
        close(&mut world, &payer, &wallet, &relayer).unwrap();
        // In the same slot as the closing, which is as soon as it can be.
        let again = reopen(&mut world, &payer);
        assert!(!slots.contains(&again.opened_slot));
        slots.push(again.opened_slot);
        refused(
            close(&mut world, &payer, &wallet, &relayer),
            SluiceError::SameSlot,
        );
        for old in [settled, waiting] {
            let before = bytes(&world, &payer);
            let failure = world.settle(&[old], true).unwrap_err();
            assert_eq!(failure.skip(), Some(Skip::BadSignature));
            assert_eq!(
                world.settle(&[old], false).unwrap().skips(),
                [Some(Skip::BadSignature)]
            );
            assert_eq!(bytes(&world, &payer), before);
        }
        let state = world.nonce_account(&again.nonce_account);
        assert_eq!((state.spent_total, state.lanes[1].top), (0, 0));
        // A new intent with the nonce of the old one is another payment.
        let new = world.item(&again, 1_000, 0);
        assert_eq!(world.settle(&[new], true).unwrap().codes, [0]);
    }
    assert_eq!(world.balance(&payer.source), HOLDS - 4 * 1_000);
}

#[test]
fn closed_and_opened_in_one_transaction_it_is_another_nonce_account() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    let old = world.item(&payer, 1_000, 0);
    world.pass_slots(1);
    let relayer = world.relayer.insecure_clone();
    let key = payer.key();
    let both = [
        instructions::close_nonce(&key, &key, &world.mint, &relayer.pubkey()),
        instructions::open_nonce(&relayer.pubkey(), &key, &world.mint, &payer.source),
        instructions::set_lane(&key, &world.mint, 1, &lane_terms(payer.session.pubkey())),
    ];
    world.send(&both, &[&relayer, &payer.wallet]).unwrap();
    let failure = world.settle(&[old], true).unwrap_err();
    assert_eq!(failure.skip(), Some(Skip::BadSignature));
    let state = world.nonce_account(&payer.nonce_account);
    assert_eq!(state.opened_slot, payer.opened_slot + 1);
    assert!(!state.lanes[0].is_open());
}

#[test]
fn somebody_else_may_pay_the_rent_of_a_reopened_account_and_is_the_one_who_gets_it() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    let wallet = payer.wallet.insecure_clone();
    let first = world.relayer.pubkey();
    world.pass_slots(1);
    close(&mut world, &payer, &wallet, &first).unwrap();
    let usual = world.relayer.insecure_clone();
    world.relayer = world.funded();
    let second = world.relayer.pubkey();
    reopen(&mut world, &payer);
    world.pass_slots(1);
    refused(
        close(&mut world, &payer, &wallet, &first),
        SluiceError::WrongAccount,
    );
    world.set_time(NOW + 2 * IDLE_SECS);
    refused(
        close(&mut world, &payer, &usual, &second),
        SluiceError::NotIdle,
    );
    world.relayer = usual;
    close(&mut world, &payer, &wallet, &second).unwrap();
}

/// Settles one intent of the payer's session key, or says why not.
fn spend(world: &mut World, payer: &Payer, amount: u64, nonce: u64) -> Result<(), Skip> {
    let item = world.item(payer, amount, nonce);
    match world.settle(&[item], true) {
        Ok(_) => Ok(()),
        Err(failure) => Err(failure.skip().expect("a skip")),
    }
}

fn set_session(world: &mut World, payer: &Payer, change: impl FnOnce(&mut LaneTerms)) {
    let mut terms = lane_terms(payer.session.pubkey());
    change(&mut terms);
    world.set_lane(payer, 1, &terms).unwrap();
}

#[test]
fn keys_that_come_and_go_never_free_a_nonce() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    let other = Keypair::new();
    let used = [0, 5, 100, 200, 150];
    for nonce in used {
        spend(&mut world, &payer, 10, nonce).unwrap();
    }
    let window = world.nonce_account(&payer.nonce_account).lanes[1].window();
    // A, B, A; closed, A; B, closed, A.
    let a = payer.session.pubkey();
    for key in [
        other.pubkey(),
        a,
        Address::default(),
        a,
        other.pubkey(),
        Address::default(),
        a,
    ] {
        world.set_lane(&payer, 1, &lane_terms(key)).unwrap();
        let lane = world.nonce_account(&payer.nonce_account).lanes[1];
        assert_eq!(lane.window(), window);
        assert_eq!(lane.total_spent, 0, "another key begins anew");
    }
    for nonce in used {
        assert_eq!(spend(&mut world, &payer, 10, nonce), Err(Skip::NonceUsed));
    }
    assert_eq!(
        spend(&mut world, &payer, 10, 200 + MAX_JUMP + 1),
        Err(Skip::NonceTooFar)
    );
    spend(&mut world, &payer, 10, 1).unwrap();
}

#[test]
fn a_nonce_that_one_key_used_is_used_for_the_next() {
    let mut world = World::new();
    let mut payer = world.payer(HOLDS);
    spend(&mut world, &payer, 10, 4).unwrap();
    payer.session = Keypair::new();
    set_session(&mut world, &payer, |_| {});
    assert_eq!(spend(&mut world, &payer, 10, 4), Err(Skip::NonceUsed));
    spend(&mut world, &payer, 10, 5).unwrap();
}

#[test]
fn a_session_key_signs_for_its_lane_only() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    let mut intent = world.intent(&payer, 1_000, 0);
    intent.lane = 0;
    let by_session = payer.item(&intent.sign(&payer.session).unwrap());
    let failure = world.settle(&[by_session], true).unwrap_err();
    assert_eq!(failure.skip(), Some(Skip::BadSignature));
    // With lane 0 closed, the wallet's own key signs nothing, and the session key goes on.
    world
        .set_lane(&payer, 0, &lane_terms(Address::default()))
        .unwrap();
    let by_wallet = payer.item(&intent.sign(&payer.wallet).unwrap());
    let failure = world.settle(&[by_wallet], true).unwrap_err();
    assert_eq!(failure.skip(), Some(Skip::LaneClosed));
    spend(&mut world, &payer, 1_000, 0).unwrap();
}

#[test]
fn a_session_key_spends_up_to_the_second_in_which_it_expires() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    set_session(&mut world, &payer, |terms| terms.expires_at = NOW + 100);
    world.set_time(NOW + 100);
    spend(&mut world, &payer, 10, 0).unwrap();
    // Tested when it lands: an intent signed in time is late.
    let item = world.item(&payer, 10, 1);
    world.set_time(NOW + 101);
    let failure = world.settle(&[item], true).unwrap_err();
    assert_eq!(failure.skip(), Some(Skip::LaneExpired));
    // Prolonged, it goes on with what it has spent.
    set_session(&mut world, &payer, |terms| terms.expires_at = NOW + 200);
    world.settle(&[item], true).unwrap();
    let lane = world.nonce_account(&payer.nonce_account).lanes[1];
    assert_eq!(lane.total_spent, 20);
}

#[test]
fn a_session_keys_limits_hold_to_the_unit() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    set_session(&mut world, &payer, |terms| {
        terms.max_per_payment = 400;
        (terms.period_limit, terms.period_secs) = (1_000, 60);
        terms.total_limit = 1_500;
    });
    assert_eq!(spend(&mut world, &payer, 401, 0), Err(Skip::OverMax));
    for nonce in [0, 1] {
        spend(&mut world, &payer, 400, nonce).unwrap();
    }
    assert_eq!(spend(&mut world, &payer, 201, 2), Err(Skip::OverPeriod));
    spend(&mut world, &payer, 200, 2).unwrap();
    assert_eq!(spend(&mut world, &payer, 1, 3), Err(Skip::OverPeriod));
    world.set_time(NOW + 60);
    assert_eq!(spend(&mut world, &payer, 501, 3), Err(Skip::OverMax));
    spend(&mut world, &payer, 400, 3).unwrap();
    assert_eq!(spend(&mut world, &payer, 101, 4), Err(Skip::OverTotal));
    spend(&mut world, &payer, 100, 4).unwrap();
    world.set_time(NOW + 6_000);
    assert_eq!(spend(&mut world, &payer, 1, 5), Err(Skip::OverTotal));
    assert_eq!(world.balance(&payer.source), HOLDS - 1_500);
}

#[test]
fn a_period_rolls_over_by_whole_lengths_and_only_when_something_settles() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    set_session(&mut world, &payer, |terms| {
        (terms.period_limit, terms.period_secs) = (1_000, 60);
        terms.max_per_payment = 1_000;
    });
    let lane = |world: &World| world.nonce_account(&payer.nonce_account).lanes[1];
    let start = lane(&world).period_start;
    assert_eq!(start, NOW);
    spend(&mut world, &payer, 1_000, 0).unwrap();
    world.set_time(NOW + 59);
    assert_eq!(spend(&mut world, &payer, 1, 1), Err(Skip::OverPeriod));
    // In the middle of the fourth period, an entry that is skipped moves nothing.
    world.set_time(NOW + 200);
    let before = bytes(&world, &payer);
    assert_eq!(spend(&mut world, &payer, 1_001, 1), Err(Skip::OverMax));
    let item = world.item(&payer, 1_001, 1);
    world.settle(&[item], false).unwrap();
    assert_eq!(bytes(&world, &payer), before);
    assert_eq!(lane(&world).period_start, NOW);
    spend(&mut world, &payer, 600, 1).unwrap();
    assert_eq!(
        (lane(&world).period_start, lane(&world).period_spent),
        (NOW + 180, 600)
    );
    world.set_time(NOW + 239);
    assert_eq!(spend(&mut world, &payer, 401, 2), Err(Skip::OverPeriod));
    world.set_time(NOW + 240);
    spend(&mut world, &payer, 1_000, 2).unwrap();
    assert_eq!(
        (lane(&world).period_start, lane(&world).period_spent),
        (NOW + 240, 1_000)
    );
}

#[test]
fn setting_the_same_key_again_gives_no_new_allowance() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    let limits = |terms: &mut LaneTerms| {
        (terms.period_limit, terms.period_secs) = (1_000, 60);
        terms.total_limit = 1_500;
    };
    set_session(&mut world, &payer, limits);
    spend(&mut world, &payer, 1_000, 0).unwrap();
    world.set_time(NOW + 30);
    set_session(&mut world, &payer, limits);
    assert_eq!(spend(&mut world, &payer, 1, 1), Err(Skip::OverPeriod));
    world.set_time(NOW + 60);
    assert_eq!(spend(&mut world, &payer, 501, 1), Err(Skip::OverTotal));
}

#[test]
fn a_limit_of_nothing_allows_nothing_and_unlimited_everything() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    for (change, reason) in [
        (
            (|terms| terms.max_per_payment = 0) as fn(&mut LaneTerms),
            Skip::OverMax,
        ),
        (
            |terms| (terms.period_limit, terms.period_secs) = (0, 60),
            Skip::OverPeriod,
        ),
        (|terms| terms.total_limit = 0, Skip::OverTotal),
    ] {
        set_session(&mut world, &payer, change);
        assert_eq!(spend(&mut world, &payer, 1, 0), Err(reason));
    }
    set_session(&mut world, &payer, |terms| {
        (terms.period_limit, terms.period_secs) = (UNLIMITED, 1);
    });
    spend(&mut world, &payer, HOLDS, 0).unwrap();
}

#[test]
fn a_scope_follows_what_a_service_is_now() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    let service = world.service;
    let elsewhere = world.create_service(2, &WorldOptions::default());

    set_session(&mut world, &payer, |terms| {
        terms.scope = Scope::Service(elsewhere.to_bytes());
    });
    assert_eq!(spend(&mut world, &payer, 10, 0), Err(Skip::Scope));
    world.service = elsewhere;
    spend(&mut world, &payer, 10, 0).unwrap();
    world.service = service;

    // A service that leaves its authority leaves the scope of those who trusted that authority.
    let (old, new) = (world.merchant.insecure_clone(), world.funded());
    set_session(&mut world, &payer, |terms| {
        terms.scope = Scope::Authority(old.pubkey().to_bytes());
    });
    spend(&mut world, &payer, 10, 1).unwrap();
    let propose = instructions::propose_authority(&old.pubkey(), &service, &new.pubkey());
    world.send(&[propose], &[&old]).unwrap();
    spend(&mut world, &payer, 10, 2).unwrap();
    let accept = instructions::accept_authority(&new.pubkey(), &service);
    world.send(&[accept], &[&new]).unwrap();
    assert_eq!(spend(&mut world, &payer, 10, 3), Err(Skip::Scope));
    world.merchant = new;

    // The same with its facilitator.
    let facilitator = world.facilitator();
    set_session(&mut world, &payer, |terms| {
        terms.scope = Scope::Facilitator(facilitator.to_bytes());
    });
    spend(&mut world, &payer, 10, 3).unwrap();
    let other = world.register(0, 0);
    let terms = world.terms();
    world.update_with(&other.facilitator, &terms).unwrap();
    world.relayer = other.relayer.insecure_clone();
    world.fee_wallet = other.wallet;
    assert_eq!(spend(&mut world, &payer, 10, 4), Err(Skip::Scope));
}

#[test]
fn an_unknown_scope_or_lane_is_not_set() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    let relayer = world.relayer.insecure_clone();
    let before = bytes(&world, &payer);
    let usual = instructions::set_lane(
        &payer.key(),
        &world.mint,
        1,
        &lane_terms(payer.session.pubkey()),
    );
    for lane in [2, 3, 255] {
        let mut instruction = usual.clone();
        instruction.data[8] = lane;
        refused(
            world.send(&[instruction], &[&relayer, &payer.wallet]),
            SluiceError::InvalidLane,
        );
    }
    let kind = usual.data.len() - 33;
    for unknown in [4, 255] {
        let mut instruction = usual.clone();
        instruction.data[kind] = unknown;
        refused(
            world.send(&[instruction], &[&relayer, &payer.wallet]),
            SluiceError::InvalidLane,
        );
    }
    assert_eq!(bytes(&world, &payer), before);
}

#[test]
fn nonce_accounts_of_two_mints_are_apart() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    let (usual, other) = (world.mint, Address::new_unique());
    let data = world.svm.get_account(&usual).unwrap().data;
    world.put(other, data, TOKEN_PROGRAM);
    world.mint = other;
    world.open_token(world.treasury, 0);
    world.set_mint(true);
    let state = TokenState {
        mint: other,
        owner: payer.key(),
        amount: HOLDS,
        delegate: None,
        frozen: false,
    };
    let source = world.token_of(&payer.key());
    world
        .svm
        .set_account(source, state.account(TOKEN_PROGRAM))
        .unwrap();
    let relayer = world.relayer.insecure_clone();
    let open = instructions::open_nonce(&relayer.pubkey(), &payer.key(), &other, &source);
    world.send(&[open], &[&relayer, &payer.wallet]).unwrap();
    let second = address::nonce_account(&payer.key(), &other).0;
    assert_ne!(second, payer.nonce_account);
    // A source of the other mint is no source of this one.
    world.mint = usual;
    refused(
        set_source(&mut world, &payer, &source),
        SluiceError::InvalidTokenAccount,
    );
    let close = instructions::close_nonce(&payer.key(), &payer.key(), &other, &relayer.pubkey());
    world.pass_slots(1);
    world.send(&[close], &[&relayer, &payer.wallet]).unwrap();
    assert!(world.exists(&payer.nonce_account));
    spend(&mut world, &payer, 10, 0).unwrap();
}

#[test]
fn a_revoked_budget_is_the_end_of_it_whatever_was_signed() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    let item = world.item(&payer, 1_000, 0);
    let relayer = world.relayer.insecure_clone();
    let revoke = token::revoke(&payer.key(), &world.mint, &token::TOKEN_PROGRAM);
    world.send(&[revoke], &[&relayer, &payer.wallet]).unwrap();
    let failure = world.settle(&[item], true).unwrap_err();
    assert_eq!(failure.skip(), Some(Skip::DelegateGone));
    // Approving again sets the budget, and does not add to what was left.
    for budget in [5_000, 1_000] {
        let approve = token::approve(&payer.key(), &world.mint, &token::TOKEN_PROGRAM, budget, 6);
        world.send(&[approve], &[&relayer, &payer.wallet]).unwrap();
    }
    assert_eq!(
        spend(&mut world, &payer, 1_001, 0),
        Err(Skip::DelegatedShort)
    );
    world.settle(&[item], true).unwrap();
    assert_eq!(spend(&mut world, &payer, 1, 1), Err(Skip::DelegateGone));
}
