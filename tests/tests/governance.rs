//! Who may change what, within which limits, and what the log says about it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use sluice::SluiceError;
use sluice_sdk::{
    Address, DEVNET_USDC, PROGRAM_ID,
    accounts::{AcceptedMint, FEE_DELAY_SECS, Facilitator},
    address,
    instructions::{
        self, ConfigUpdate, FacilitatorArgs, MintArgs, RecipientArg, ServiceArgs, TermsArgs,
    },
    token::{self, TOKEN_PROGRAM},
};
use sluice_tests::{
    Failure, NOW, Outcome, TokenState, World, WorldOptions, decode, idl, lane_terms, mint_data,
    program_path, row,
};
use solana_instruction::Instruction;
use solana_keypair::Keypair;
use solana_signer::Signer;
use support::refused;

const HOLDS: u64 = 1_000_000;

/// Something that stops pulls, on or off.
type Switch = fn(&mut World, bool);

fn one(world: &mut World, instruction: Instruction, by: &Keypair) -> Result<Outcome, Failure> {
    world.send(&[instruction], &[by])
}

fn update_config(
    world: &mut World,
    by: &Keypair,
    update: ConfigUpdate,
) -> Result<Outcome, Failure> {
    one(
        world,
        instructions::update_config(&by.pubkey(), &update),
        by,
    )
}

fn propose(world: &mut World, by: &Keypair, next: &Address) -> Result<Outcome, Failure> {
    one(world, instructions::propose_admin(&by.pubkey(), next), by)
}

fn accept(world: &mut World, by: &Keypair) -> Result<Outcome, Failure> {
    one(world, instructions::accept_admin(&by.pubkey()), by)
}

fn args(operator_wallet: &Address, relayers: &[Address]) -> FacilitatorArgs {
    FacilitatorArgs {
        wallet: operator_wallet.to_bytes(),
        min_fee_bps: 0,
        min_fee_fixed: 0,
        relayers: relayers.iter().map(|key| key.to_bytes()).collect(),
    }
}

#[test]
fn the_admin_changes_in_two_steps() {
    let mut world = World::new();
    let (old, new, stranger) = (world.admin.insecure_clone(), world.funded(), world.funded());
    refused(
        propose(&mut world, &stranger, &stranger.pubkey()),
        SluiceError::NotAdmin,
    );
    refused(accept(&mut world, &new), SluiceError::NotPending);
    propose(&mut world, &old, &new.pubkey()).unwrap();
    assert_eq!(world.config().admin, old.pubkey().to_bytes());
    refused(accept(&mut world, &stranger), SluiceError::NotPending);
    refused(accept(&mut world, &old), SluiceError::NotPending);
    // The proposed key is nobody until it accepts.
    refused(
        update_config(&mut world, &new, ConfigUpdate::default()),
        SluiceError::NotAdmin,
    );
    accept(&mut world, &new).unwrap();
    let config = world.config();
    assert_eq!(config.admin, new.pubkey().to_bytes());
    assert_eq!(config.pending_admin, [0; 32]);
    // Once: the proposal is used up, and the old admin is nobody.
    refused(accept(&mut world, &new), SluiceError::NotPending);
    refused(
        propose(&mut world, &old, &old.pubkey()),
        SluiceError::NotAdmin,
    );
    refused(
        update_config(&mut world, &old, ConfigUpdate::default()),
        SluiceError::NotAdmin,
    );
    update_config(&mut world, &new, ConfigUpdate::default()).unwrap();
}

#[test]
fn a_proposed_admin_can_be_taken_back_and_overwritten() {
    let mut world = World::new();
    let (admin, first, second) = (world.admin.insecure_clone(), world.funded(), world.funded());
    propose(&mut world, &admin, &first.pubkey()).unwrap();
    propose(&mut world, &admin, &Address::default()).unwrap();
    refused(accept(&mut world, &first), SluiceError::NotPending);
    propose(&mut world, &admin, &first.pubkey()).unwrap();
    propose(&mut world, &admin, &second.pubkey()).unwrap();
    refused(accept(&mut world, &first), SluiceError::NotPending);
    accept(&mut world, &second).unwrap();
    assert_eq!(world.config().admin, second.pubkey().to_bytes());
}

#[test]
fn a_proposed_key_must_sign_to_accept() {
    let mut world = World::new();
    let (admin, new) = (world.admin.insecure_clone(), world.funded());
    propose(&mut world, &admin, &new.pubkey()).unwrap();
    let mut accept = instructions::accept_admin(&new.pubkey());
    accept.accounts[0].is_signer = false;
    let stranger = world.funded();
    let failure = one(&mut world, accept, &stranger).unwrap_err();
    assert_eq!(failure.custom(), Some(3_010));
    assert_eq!(world.config().admin, admin.pubkey().to_bytes());
}

/// Every instruction that the admin alone may send, sent by `key`.
fn admins_instructions(world: &World, key: &Address) -> Vec<(&'static str, Instruction)> {
    let treasury = world.token_of(&world.treasury);
    let mint = MintArgs {
        settle: false,
        min_amount: 0,
        max_amount: 1,
        allowed_extensions: 0,
    };
    vec![
        (
            "update_config",
            instructions::update_config(key, &ConfigUpdate::default()),
        ),
        ("propose_admin", instructions::propose_admin(key, key)),
        ("set_treasury", instructions::set_treasury(key, key, &[])),
        (
            "set_mint",
            instructions::set_mint(key, &world.mint, &treasury, &mint),
        ),
        (
            "suspend_facilitator",
            instructions::suspend_facilitator(key, &world.facilitator(), true),
        ),
    ]
}

#[test]
fn the_guardian_pauses_and_does_nothing_else() {
    let mut world = World::new();
    let guardian = world.guardian.insecure_clone();
    let key = guardian.pubkey();
    for (name, instruction) in admins_instructions(&world, &key) {
        let failure = one(&mut world, instruction, &guardian).unwrap_err();
        assert_eq!(
            failure.custom(),
            Some(SluiceError::NotAdmin.into()),
            "{name}"
        );
    }
    one(&mut world, instructions::set_paused(&key, true), &guardian).unwrap();
    assert_eq!(world.config().paused, 1);
    refused(
        one(&mut world, instructions::set_paused(&key, false), &guardian),
        SluiceError::NotGuardian,
    );
    // Pausing what is paused is no way round.
    one(&mut world, instructions::set_paused(&key, true), &guardian).unwrap();
    assert_eq!(world.config().paused, 1);
    world.set_paused(false);
    assert_eq!(world.config().paused, 0);
    // A guardian that was dismissed is nobody.
    let admin = world.admin.insecure_clone();
    let dismiss = ConfigUpdate {
        guardian: Some([0; 32]),
        ..ConfigUpdate::default()
    };
    update_config(&mut world, &admin, dismiss).unwrap();
    refused(
        one(&mut world, instructions::set_paused(&key, true), &guardian),
        SluiceError::NotGuardian,
    );
}

#[test]
fn nobody_but_the_admin_governs() {
    let mut world = World::new();
    let strangers = [
        world.operator.insecure_clone(),
        world.merchant.insecure_clone(),
        world.relayer.insecure_clone(),
        world.funded(),
    ];
    for stranger in strangers {
        for (name, instruction) in admins_instructions(&world, &stranger.pubkey()) {
            let failure = one(&mut world, instruction, &stranger).unwrap_err();
            assert_eq!(
                failure.custom(),
                Some(SluiceError::NotAdmin.into()),
                "{name}"
            );
        }
        let pause = instructions::set_paused(&stranger.pubkey(), true);
        refused(one(&mut world, pause, &stranger), SluiceError::NotGuardian);
    }
    let admin = world.admin.insecure_clone();
    for (name, instruction) in admins_instructions(&world, &admin.pubkey()) {
        let mut unsigned = instruction;
        unsigned.accounts[0].is_signer = false;
        let stranger = world.funded();
        let failure = one(&mut world, unsigned, &stranger).unwrap_err();
        assert_eq!(failure.custom(), Some(3_010), "{name}");
    }
}

#[test]
fn a_copy_of_the_config_is_no_config() {
    let mut world = World::new();
    let stranger = world.funded();
    let mut data = world.svm.get_account(&address::config().0).unwrap().data;
    // 8 discriminator, 8 time, then the admin.
    data[16..48].copy_from_slice(stranger.pubkey().as_ref());
    let fake = Address::new_unique();
    world.put(fake, data, Address::new_unique());
    for (name, mut instruction) in admins_instructions(&world, &stranger.pubkey()) {
        instruction.accounts[1].pubkey = fake;
        let failure = one(&mut world, instruction, &stranger).unwrap_err();
        assert_eq!(
            failure.custom(),
            Some(SluiceError::WrongAccount.into()),
            "{name}"
        );
    }
}

#[test]
fn a_treasury_share_holds_from_its_second_and_not_before() {
    let mut world = World::new();
    let due = NOW + FEE_DELAY_SECS;
    world.announce_treasury_share(900).unwrap();
    let config = world.config();
    assert_eq!((config.fees_effective_at, config.treasury_bps), (due, 50));
    for (id, now, expected) in [
        (2, NOW, 50),
        (3, due - 1, 50),
        (4, due, 900),
        (5, due + 1, 900),
    ] {
        world.set_time(now);
        let service = world.create_service(id, &WorldOptions::default());
        assert_eq!(
            world.service_account(&service).treasury_bps,
            expected,
            "at {now}"
        );
        assert_eq!(
            world.config().treasury_bps_at(now),
            expected,
            "the SDK's reading"
        );
    }
}

#[test]
fn a_new_announcement_waits_its_whole_time_again() {
    let mut world = World::new();
    world.announce_treasury_share(900).unwrap();
    world.set_time(NOW + FEE_DELAY_SECS - 1);
    world.announce_treasury_share(800).unwrap();
    let due = NOW + FEE_DELAY_SECS - 1 + FEE_DELAY_SECS;
    assert_eq!(world.config().fees_effective_at, due);
    for (id, now, expected) in [(2, due - 1, 50), (3, due, 800)] {
        world.set_time(now);
        let service = world.create_service(id, &WorldOptions::default());
        assert_eq!(world.service_account(&service).treasury_bps, expected);
    }
}

#[test]
fn an_announcement_is_withdrawn_by_announcing_the_share_in_force() {
    let mut world = World::new();
    world.announce_treasury_share(900).unwrap();
    world.announce_treasury_share(50).unwrap();
    world.set_time(NOW + 2 * FEE_DELAY_SECS);
    let service = world.create_service(2, &WorldOptions::default());
    assert_eq!(world.service_account(&service).treasury_bps, 50);
}

#[test]
fn another_update_of_the_config_neither_hastens_nor_drops_an_announcement() {
    let mut world = World::new();
    let admin = world.admin.insecure_clone();
    world.announce_treasury_share(900).unwrap();
    let ttl = ConfigUpdate {
        max_intent_ttl: Some(300),
        ..ConfigUpdate::default()
    };
    update_config(&mut world, &admin, ttl).unwrap();
    let config = world.config();
    assert_eq!(
        (
            config.treasury_bps,
            config.pending_treasury_bps,
            config.fees_effective_at
        ),
        (50, 900, NOW + FEE_DELAY_SECS)
    );
    world.set_time(NOW + FEE_DELAY_SECS);
    update_config(&mut world, &admin, ttl).unwrap();
    let config = world.config();
    assert_eq!(
        (
            config.treasury_bps,
            config.pending_treasury_bps,
            config.fees_effective_at
        ),
        (900, 0, 0)
    );
}

#[test]
fn the_caps_in_code_hold_against_the_admin() {
    let mut world = World::new();
    let admin = world.admin.insecure_clone();
    let none = ConfigUpdate::default();
    for (update, reason) in [
        (
            ConfigUpdate {
                treasury_bps: Some(1_001),
                ..none
            },
            SluiceError::OverCap,
        ),
        (
            ConfigUpdate {
                treasury_bps: Some(u16::MAX),
                ..none
            },
            SluiceError::OverCap,
        ),
        (
            ConfigUpdate {
                max_facilitator_bps: Some(5_001),
                ..none
            },
            SluiceError::OverCap,
        ),
        (
            ConfigUpdate {
                max_intent_ttl: Some(3_601),
                ..none
            },
            SluiceError::OverCap,
        ),
        (
            ConfigUpdate {
                max_intent_ttl: Some(0),
                ..none
            },
            SluiceError::ZeroTtl,
        ),
    ] {
        let before = world.config();
        refused(update_config(&mut world, &admin, update), reason);
        assert_eq!(world.config(), before);
    }
    let most = ConfigUpdate {
        treasury_bps: Some(1_000),
        max_facilitator_bps: Some(5_000),
        max_intent_ttl: Some(3_600),
        guardian: None,
    };
    update_config(&mut world, &admin, most).unwrap();
    let config = world.config();
    assert_eq!(
        (
            config.pending_treasury_bps,
            config.max_facilitator_bps,
            config.max_intent_ttl
        ),
        (1_000, 5_000, 3_600)
    );
    assert_eq!(config.guardian, world.guardian.pubkey().to_bytes());
}

#[test]
fn a_shorter_intent_life_holds_at_once() {
    let mut world = World::new();
    let admin = world.admin.insecure_clone();
    let payer = world.payer(HOLDS);
    let item = world.item(&payer, 1_000, 0);
    let shorter = ConfigUpdate {
        max_intent_ttl: Some(59),
        ..ConfigUpdate::default()
    };
    update_config(&mut world, &admin, shorter).unwrap();
    let failure = world.settle(&[item], true).unwrap_err();
    assert_eq!(failure.skip(), Some(sluice_intent::Skip::ExpiryTooFar));
    // A second later it fits.
    world.set_time(NOW + 1);
    assert_eq!(world.settle(&[item], true).unwrap().codes, [0]);
}

#[test]
fn a_suspended_facilitator_settles_nothing_and_keeps_what_it_earned() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    let facilitator = world.facilitator();
    let key = world.token_of(&world.fee_wallet);
    world.freeze(&key);
    let item = world.item(&payer, 10_000, 0);
    world.settle(&[item], true).unwrap();
    world.set_suspended(&facilitator, true);
    let item = world.item(&payer, 10_000, 1);
    refused(
        world.settle(&[item], true),
        SluiceError::FacilitatorSuspended,
    );
    // It cannot lift its suspension by changing itself, nor by a new authority.
    let operator = world.operator.insecure_clone();
    let same = args(&world.fee_wallet, &[world.relayer.pubkey()]);
    let update = instructions::update_facilitator(&operator.pubkey(), &facilitator, &same);
    one(&mut world, update, &operator).unwrap();
    let state: Facilitator = world.decode(&facilitator);
    assert_eq!(state.suspended, 1);
    // No new service may name it.
    let merchant = world.merchant.insecure_clone();
    let create = world.service_instruction(2, &WorldOptions::default());
    refused(
        one(&mut world, create, &merchant),
        SluiceError::FacilitatorSuspended,
    );
    world.thaw(&key);
    world.distribute(&[]).unwrap();
    assert_eq!(world.balance(&key), 100);
    world.set_suspended(&facilitator, false);
    assert_eq!(world.settle(&[item], true).unwrap().codes, [0]);
}

#[test]
fn only_a_facilitator_is_suspended() {
    let mut world = World::new();
    let admin = world.admin.insecure_clone();
    for account in [world.service, address::config().0, Address::new_unique()] {
        let suspend = instructions::suspend_facilitator(&admin.pubkey(), &account, true);
        refused(one(&mut world, suspend, &admin), SluiceError::WrongAccount);
    }
}

#[test]
fn a_facilitators_keys_wallet_and_minimums_are_replaced() {
    let mut world = World::new();
    let operator = world.operator.insecure_clone();
    let facilitator = world.facilitator();
    let (old, new) = (world.relayer.insecure_clone(), world.funded());
    let wallet = Address::new_unique();
    world.open_token(wallet, 0);
    let before: Facilitator = world.decode(&facilitator);
    let changed = FacilitatorArgs {
        wallet: wallet.to_bytes(),
        min_fee_bps: 5_000,
        min_fee_fixed: u64::MAX,
        relayers: vec![new.pubkey().to_bytes(), [9; 32]],
    };
    let update = instructions::update_facilitator(&operator.pubkey(), &facilitator, &changed);
    one(&mut world, update, &operator).unwrap();
    let after: Facilitator = world.decode(&facilitator);
    let mut expected = before;
    expected.wallet = wallet.to_bytes();
    (expected.min_fee_bps, expected.min_fee_fixed) = (5_000, u64::MAX);
    expected.relayers[..2].copy_from_slice(&[new.pubkey().to_bytes(), [9; 32]]);
    expected.relayer_count = 2;
    assert_eq!(after, expected);
    let payer = world.payer(HOLDS);
    let item = world.item(&payer, 10_000, 0);
    refused(
        world.settle(&[item], true),
        SluiceError::RelayerNotRegistered,
    );
    let settle = instructions::settle(&new.pubkey(), &world.on(), &[item], true);
    one(&mut world, settle, &new).unwrap();
    assert_eq!(world.balance(&world.token_of(&wallet)), 100);
    // Fewer keys: those that are gone are gone, also from the account's bytes.
    let fewer = args(&wallet, &[old.pubkey()]);
    let update = instructions::update_facilitator(&operator.pubkey(), &facilitator, &fewer);
    one(&mut world, update, &operator).unwrap();
    let state: Facilitator = world.decode(&facilitator);
    assert_eq!(state.relayer_keys(), [old.pubkey().to_bytes()]);
    assert_eq!(state.relayers[1..], [[0; 32]; 7]);
    let item = world.item(&payer, 10_000, 1);
    let settle = instructions::settle(&new.pubkey(), &world.on(), &[item], true);
    refused(
        one(&mut world, settle, &new),
        SluiceError::RelayerNotRegistered,
    );
}

#[test]
fn facilitators_that_are_not_updated() {
    let mut world = World::new();
    let operator = world.operator.insecure_clone();
    let (facilitator, wallet) = (world.facilitator(), world.fee_wallet);
    let relayer = world.relayer.pubkey();
    let good = args(&wallet, &[relayer]);
    let with = |relayers: Vec<[u8; 32]>| FacilitatorArgs {
        relayers,
        ..good.clone()
    };
    let before: Facilitator = world.decode(&facilitator);
    for (bad, reason) in [
        (with(vec![]), SluiceError::InvalidRelayers),
        (
            with((1..=9).map(|n| [n; 32]).collect()),
            SluiceError::InvalidRelayers,
        ),
        (
            with(vec![[1; 32], [2; 32], [1; 32]]),
            SluiceError::InvalidRelayers,
        ),
        (with(vec![[1; 32], [0; 32]]), SluiceError::InvalidRelayers),
        (
            with(vec![[1; 32], operator.pubkey().to_bytes()]),
            SluiceError::InvalidRelayers,
        ),
        (
            FacilitatorArgs {
                wallet: [0; 32],
                ..good.clone()
            },
            SluiceError::ZeroAddress,
        ),
        (
            FacilitatorArgs {
                min_fee_bps: 5_001,
                ..good.clone()
            },
            SluiceError::OverCap,
        ),
    ] {
        let update = instructions::update_facilitator(&operator.pubkey(), &facilitator, &bad);
        refused(one(&mut world, update, &operator), reason);
        assert_eq!(world.decode::<Facilitator>(&facilitator), before);
    }
    for stranger in [
        world.relayer.insecure_clone(),
        world.admin.insecure_clone(),
        world.merchant.insecure_clone(),
    ] {
        let update = instructions::update_facilitator(&stranger.pubkey(), &facilitator, &good);
        refused(
            one(&mut world, update, &stranger),
            SluiceError::NotAuthority,
        );
    }
    let update = instructions::update_facilitator(&operator.pubkey(), &world.service, &good);
    refused(
        one(&mut world, update, &operator),
        SluiceError::WrongAccount,
    );
}

#[test]
fn a_relayer_key_never_becomes_the_authority() {
    let mut world = World::new();
    let operator = world.operator.insecure_clone();
    let (facilitator, wallet) = (world.facilitator(), world.fee_wallet);
    let relayer = world.relayer.insecure_clone();
    let propose =
        |next: &Address| instructions::propose_authority(&operator.pubkey(), &facilitator, next);
    one(&mut world, propose(&relayer.pubkey()), &operator).unwrap();
    let accept = instructions::accept_authority(&relayer.pubkey(), &facilitator);
    refused(
        one(&mut world, accept.clone(), &relayer),
        SluiceError::InvalidRelayers,
    );
    // Neither by being proposed first and made a relayer afterwards.
    let other = world.funded();
    one(&mut world, propose(&other.pubkey()), &operator).unwrap();
    let both = args(&wallet, &[relayer.pubkey(), other.pubkey()]);
    let update = instructions::update_facilitator(&operator.pubkey(), &facilitator, &both);
    one(&mut world, update, &operator).unwrap();
    let accept_other = instructions::accept_authority(&other.pubkey(), &facilitator);
    refused(
        one(&mut world, accept_other, &other),
        SluiceError::InvalidRelayers,
    );
    // Once it is no relayer any more, it may.
    one(&mut world, propose(&relayer.pubkey()), &operator).unwrap();
    let without = args(&wallet, &[other.pubkey()]);
    let update = instructions::update_facilitator(&operator.pubkey(), &facilitator, &without);
    one(&mut world, update, &operator).unwrap();
    one(&mut world, accept, &relayer).unwrap();
    let state: Facilitator = world.decode(&facilitator);
    assert_eq!(state.authority, relayer.pubkey().to_bytes());
    // And the new authority cannot name itself a relayer.
    let again = args(&wallet, &[relayer.pubkey()]);
    let update = instructions::update_facilitator(&relayer.pubkey(), &facilitator, &again);
    refused(
        one(&mut world, update, &relayer),
        SluiceError::InvalidRelayers,
    );
}

#[test]
fn a_facilitators_authority_changes_hands_in_two_steps() {
    let mut world = World::new();
    let (old, new, stranger) = (
        world.operator.insecure_clone(),
        world.funded(),
        world.funded(),
    );
    let facilitator = world.facilitator();
    let propose = |by: &Keypair, next: &Address| {
        instructions::propose_authority(&by.pubkey(), &facilitator, next)
    };
    let accept = |by: &Keypair| instructions::accept_authority(&by.pubkey(), &facilitator);
    refused(
        one(
            &mut world,
            propose(&stranger, &stranger.pubkey()),
            &stranger,
        ),
        SluiceError::NotAuthority,
    );
    one(&mut world, propose(&old, &new.pubkey()), &old).unwrap();
    refused(
        one(&mut world, accept(&stranger), &stranger),
        SluiceError::NotPending,
    );
    one(&mut world, propose(&old, &Address::default()), &old).unwrap();
    refused(one(&mut world, accept(&new), &new), SluiceError::NotPending);
    one(&mut world, propose(&old, &new.pubkey()), &old).unwrap();
    one(&mut world, accept(&new), &new).unwrap();
    refused(one(&mut world, accept(&new), &new), SluiceError::NotPending);
    let same = args(&world.fee_wallet, &[world.relayer.pubkey()]);
    let by_old = instructions::update_facilitator(&old.pubkey(), &facilitator, &same);
    refused(one(&mut world, by_old, &old), SluiceError::NotAuthority);
    let by_new = instructions::update_facilitator(&new.pubkey(), &facilitator, &same);
    one(&mut world, by_new, &new).unwrap();
    let state: Facilitator = world.decode(&facilitator);
    assert_eq!(
        state.creator,
        old.pubkey().to_bytes(),
        "part of the address"
    );
}

/// Opens a second accepted mint, and gives it.
fn second_mint(world: &mut World) -> Address {
    let (usual, mint) = (world.mint, Address::new_unique());
    let data = mint_data(world.admin.pubkey());
    world.put(mint, data, TOKEN_PROGRAM);
    world.mint = mint;
    world.open_token(world.treasury, 0);
    world.set_mint(true);
    world.mint = usual;
    mint
}

/// A token account of `mint`, opened for `owner`.
fn open(world: &mut World, mint: Address, owner: Address) -> Address {
    let state = TokenState {
        mint,
        owner,
        amount: 0,
        delegate: None,
        frozen: false,
    };
    let key = address::token_account(&owner, &mint, &TOKEN_PROGRAM);
    world
        .svm
        .set_account(key, state.account(TOKEN_PROGRAM))
        .unwrap();
    key
}

#[test]
fn a_new_treasury_takes_its_accounts_of_many_mints_with_it() {
    let mut world = World::new();
    let admin = world.admin.insecure_clone();
    let (first, second) = (world.mint, second_mint(&mut world));
    let new = Address::new_unique();
    let (a, b) = (open(&mut world, first, new), open(&mut world, second, new));
    let mints = [(first, a), (second, b)];
    let set = instructions::set_treasury(&admin.pubkey(), &new, &mints);
    let outcome = one(&mut world, set, &admin).unwrap();
    assert_eq!(outcome.changed().len(), 3);
    assert_eq!(world.config().treasury, new.to_bytes());
    for (mint, account) in mints {
        let accepted: AcceptedMint = world.decode(&address::accepted_mint(&mint).0);
        assert_eq!(accepted.treasury_token, account.to_bytes());
    }
}

#[test]
fn treasuries_that_are_not_set() {
    let mut world = World::new();
    let admin = world.admin.insecure_clone();
    let (first, second) = (world.mint, second_mint(&mut world));
    let new = Address::new_unique();
    let (a, b) = (open(&mut world, first, new), open(&mut world, second, new));
    let old = world.token_of(&world.treasury);
    let frozen = world.open_other_token(new);
    world.freeze(&frozen);
    let set =
        |mints: &[(Address, Address)]| instructions::set_treasury(&admin.pubkey(), &new, mints);
    let before = world.config();
    for wrong in [
        vec![(first, b)],
        vec![(first, old)],
        vec![(first, frozen)],
        vec![(first, Address::new_unique())],
        vec![(first, a), (second, a)],
    ] {
        refused(
            one(&mut world, set(&wrong), &admin),
            SluiceError::InvalidTokenAccount,
        );
        // All or nothing: a mistake in the last pair leaves the wallet as it was, too.
        assert_eq!(world.config(), before);
    }
    let mut odd = set(&[(first, a), (second, b)]);
    odd.accounts.pop();
    refused(one(&mut world, odd, &admin), SluiceError::EntryAccounts);
    let mut foreign = set(&[(first, a)]);
    foreign.accounts[2].pubkey = world.service;
    refused(one(&mut world, foreign, &admin), SluiceError::WrongAccount);
    let mut readonly = set(&[(first, a)]);
    readonly.accounts[2].is_writable = false;
    assert!(one(&mut world, readonly, &admin).is_err());
    let zero = instructions::set_treasury(&admin.pubkey(), &Address::default(), &[]);
    refused(one(&mut world, zero, &admin), SluiceError::ZeroAddress);
    assert_eq!(world.config(), before);
}

#[test]
fn a_new_treasury_is_paid_what_it_is_owed_before_its_mints_are_set() {
    let mut world = World::new();
    let admin = world.admin.insecure_clone();
    let (old, new) = (world.token_of(&world.treasury), Address::new_unique());
    let key = open(&mut world, DEVNET_USDC, new);
    let set = instructions::set_treasury(&admin.pubkey(), &new, &[]);
    one(&mut world, set, &admin).unwrap();
    let payer = world.payer(HOLDS);
    let item = world.item(&payer, 10_000, 0);
    world.settle(&[item], true).unwrap();
    refused(world.distribute(&[old]), SluiceError::NothingToDistribute);
    world.distribute(&[key]).unwrap();
    assert_eq!((world.balance(&key), world.balance(&old)), (50, 0));
    // And afterwards at once.
    let set = instructions::set_treasury(&admin.pubkey(), &new, &[(DEVNET_USDC, key)]);
    one(&mut world, set, &admin).unwrap();
    let item = world.item(&payer, 10_000, 1);
    assert_eq!(world.settle(&[item], true).unwrap().event().held, 0);
    assert_eq!(world.balance(&key), 100);
}

/// Sends instructions one by one and compares what each changed with what its events say.
struct Recorder {
    world: World,
    ran: BTreeSet<String>,
}

impl Recorder {
    fn accounts(&self) -> BTreeMap<Address, Vec<u8>> {
        let all = self.world.svm.get_program_accounts(&PROGRAM_ID).into_iter();
        all.filter(|(_, account)| account.lamports > 0)
            .map(|(key, account)| (key, account.data))
            .collect()
    }

    #[track_caller]
    fn step(&mut self, instruction: Instruction, signers: &[&Keypair]) -> Outcome {
        let name = name_of(&instruction);
        let before = self.accounts();
        let outcome = self.world.send(&[instruction], signers).unwrap();
        let after = self.accounts();
        let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
        let mut told: BTreeMap<Address, Vec<u8>> = BTreeMap::new();
        for (key, data) in outcome.changed() {
            let again = told.insert(key, data);
            assert!(again.is_none(), "{name} announces {key} twice");
        }
        for key in keys {
            let now = after.get(key).cloned().unwrap_or_default();
            match told.remove(key) {
                Some(data) => {
                    assert_eq!(data, now, "{name}: {key} is not what the event says");
                    if !data.is_empty() {
                        decode("accounts", &data);
                    }
                }
                // The counters of a settle are in its own event.
                None if name == "settle" => {}
                None => assert_eq!(before.get(key), after.get(key), "{name}: {key} in silence"),
            }
        }
        assert!(
            told.is_empty(),
            "{name} announces accounts that are not there"
        );
        self.ran.insert(name);
        outcome
    }
}

/// The IDL's name of an instruction.
fn name_of(instruction: &Instruction) -> String {
    let all = idl()["instructions"].as_array().unwrap().iter();
    let mut named = all.filter(|row| row["discriminator"] == json!(instruction.data[..8].to_vec()));
    named.next().unwrap()["name"].as_str().unwrap().to_owned()
}

#[test]
fn every_instruction_announces_every_account_it_changes_as_it_is_afterwards() {
    let mut world = World::deployed();
    let [admin, operator, merchant, relayer] = [
        &world.admin,
        &world.operator,
        &world.merchant,
        &world.relayer,
    ]
    .map(Keypair::insecure_clone);
    let mint = DEVNET_USDC;
    let treasury = world.open_token(world.treasury, 0);
    world.open_token(world.fee_wallet, 0);
    let (a, b) = (Address::new_unique(), Address::new_unique());
    let a_token = world.open_token(a, 0);
    let b_token = world.open_token(b, 0);
    let payer = Keypair::new();
    let source = world.open_token(payer.pubkey(), HOLDS);
    let initialize = world.initialize_config(50);
    let facilitator = world.facilitator();
    let fee_wallet = world.fee_wallet;
    let mut on = Recorder {
        world,
        ran: BTreeSet::new(),
    };

    on.step(initialize, &[&admin]);
    let mint_args = MintArgs {
        settle: true,
        min_amount: 1,
        max_amount: 1_000_000,
        allowed_extensions: 0,
    };
    for _ in 0..2 {
        let set_mint = instructions::set_mint(&admin.pubkey(), &mint, &treasury, &mint_args);
        on.step(set_mint, &[&admin]);
    }
    let keys = args(&fee_wallet, &[relayer.pubkey()]);
    let register = instructions::register_facilitator(&operator.pubkey(), &keys);
    on.step(register, &[&operator]);
    let terms = TermsArgs {
        facilitator_bps: 100,
        facilitator_fixed: 0,
        min_payment: 1,
        recipients: vec![row(&a, 5_000), row(&b, 5_000)],
    };
    let service_args = ServiceArgs {
        id: 1,
        terms: terms.clone(),
    };
    let create = instructions::create_service(
        &merchant.pubkey(),
        &mint,
        &TOKEN_PROGRAM,
        &facilitator,
        &service_args,
    );
    on.step(create, &[&merchant]);
    on.world.service = address::service(&merchant.pubkey(), 1).0;
    on.world.recipients = vec![a, b];

    let key = payer.pubkey();
    on.step(
        instructions::open_nonce(&relayer.pubkey(), &key, &mint, &source),
        &[&relayer, &payer],
    );
    for lane in [0, 1] {
        let set_lane = instructions::set_lane(&key, &mint, lane, &lane_terms(key));
        on.step(set_lane, &[&relayer, &payer]);
    }
    on.step(
        instructions::set_source(&key, &mint, &source),
        &[&relayer, &payer],
    );
    let approve = token::approve(&key, &mint, &token::TOKEN_PROGRAM, HOLDS, 6);
    on.world.send(&[approve], &[&relayer, &payer]).unwrap();

    // Settle with a leg that is held, so that the service changes in more than its counters.
    on.world.freeze(&b_token);
    let nonce_account = address::nonce_account(&key, &mint).0;
    let player = sluice_tests::Payer {
        session: payer.insecure_clone(),
        opened_slot: on.world.nonce_account(&nonce_account).opened_slot,
        wallet: payer.insecure_clone(),
        source,
        nonce_account,
    };
    let item = on.world.item(&player, 10_000, 0);
    let settle = on.world.settle_instruction(&[item], true);
    let outcome = on.step(settle, &[&relayer]);
    assert_eq!(outcome.event().held, 0b10);

    let caller = relayer.pubkey();
    on.world.pay_in(5_000);
    let distribute = instructions::distribute(&caller, &on.world.on(), &[]);
    on.step(distribute, &[&relayer]);
    on.world.pay_in(5_000);
    let mut changed = terms.clone();
    changed.recipients = vec![RecipientArg {
        bps: 10_000,
        ..terms.recipients[0]
    }];
    let update = on.world.update_instruction(&facilitator, &changed);
    let outcome = on.step(update, &[&merchant]);
    assert_eq!(outcome.changed().len(), 2);
    // In two parts, the first of which leaves the account open.
    on.world.thaw(&b_token);
    let vault = on.world.vault();
    let whole = on.world.balance(&vault);
    for amount in [1_000, whole - 1_000] {
        on.world.change_token(vault, |state| state.amount = amount);
        let release = instructions::release_held(&on.world.on(), &b, &merchant.pubkey(), &b_token);
        on.step(release, &[&relayer]);
    }
    assert!(!on.world.has_held_balance(&b));

    let announce = ConfigUpdate {
        treasury_bps: Some(60),
        ..ConfigUpdate::default()
    };
    on.step(
        instructions::update_config(&admin.pubkey(), &announce),
        &[&admin],
    );
    on.world.set_time(NOW + FEE_DELAY_SECS);
    on.world.pay_in(5_000);
    let sync = instructions::sync_service(&caller, &on.world.on());
    on.step(sync, &[&relayer]);

    let heir = on.world.funded();
    for (authority, account) in [(&merchant, on.world.service), (&operator, facilitator)] {
        let (key, next) = (authority.pubkey(), heir.pubkey());
        on.step(
            instructions::propose_authority(&key, &account, &next),
            &[authority],
        );
        on.step(instructions::accept_authority(&next, &account), &[&heir]);
    }
    on.step(
        instructions::update_facilitator(&heir.pubkey(), &facilitator, &keys),
        &[&heir],
    );
    on.step(
        instructions::suspend_facilitator(&admin.pubkey(), &facilitator, true),
        &[&admin],
    );
    on.step(instructions::set_paused(&admin.pubkey(), true), &[&admin]);
    on.step(
        instructions::propose_admin(&admin.pubkey(), &heir.pubkey()),
        &[&admin],
    );
    on.step(instructions::accept_admin(&heir.pubkey()), &[&heir]);
    let mints = [(mint, a_token)];
    on.step(
        instructions::set_treasury(&heir.pubkey(), &a, &mints),
        &[&heir],
    );
    on.world.pass_slots(1);
    let outcome = on.step(
        instructions::close_nonce(&key, &key, &mint, &relayer.pubkey()),
        &[&relayer, &payer],
    );
    assert_eq!(outcome.changed(), [(nonce_account, vec![])]);
    on.world.pay_in(5_000);
    let close = instructions::close_service(&heir.pubkey(), &on.world.on());
    on.step(close, &[&heir]);

    let all = idl()["instructions"].as_array().unwrap().iter();
    let all: BTreeSet<_> = all
        .map(|row| row["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(on.ran, all, "an instruction that this test does not know");
}

#[test]
fn events_and_accounts_are_read_by_the_idl_alone() {
    let mut world = World::with_recipients(&[6_000, 4_000]);
    let payer = world.payer(HOLDS);
    let key = world.token_of(&world.recipients[1]);
    world.freeze(&key);
    let item = world.item(&payer, 10_000, 7);
    let outcome = world.settle(&[item], true).unwrap();
    let own = outcome.event();
    assert_eq!(
        outcome.events(),
        [(
            "Settled".to_owned(),
            json!({
                "service": world.service.to_string(),
                "total": 10_000,
                "treasury": own.treasury,
                "facilitator": own.facilitator,
                "held": 0b10,
                "recipients": own.recipients,
                "codes": [0],
            })
        )]
    );
    let data = world.svm.get_account(&payer.nonce_account).unwrap().data;
    let (name, nonce) = decode("accounts", &data);
    assert_eq!(name, "NonceAccount");
    assert_eq!(nonce["payer"], payer.key().to_string());
    assert_eq!(nonce["opened_slot"], payer.opened_slot);
    assert_eq!(nonce["spent_total"], 10_000);
    assert_eq!(nonce["lanes"][1]["top"], 7);
    assert_eq!(nonce["lanes"][1]["key"], payer.session.pubkey().to_string());
    assert_eq!(nonce["lanes"][1]["expires_at"], i64::MAX);

    world.pay_in(1_000);
    let outcome = world.distribute(&[]).unwrap();
    let events = outcome.events();
    let names: Vec<_> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["Paid", "Changed"]);
    assert_eq!(events[0].1["divided"], 1_000);
    assert_eq!(events[0].1["legs"].as_array().unwrap().len(), 3);
    assert_eq!(events[1].1["account"], world.service.to_string());
    let (name, service) = decode("accounts", &outcome.changed()[0].1);
    let state = world.current();
    assert_eq!(name, "Service");
    assert_eq!(service["held_total"], state.held_total);
    assert_eq!(service["recipients"][1]["held"], state.recipients[1].held);
    assert_eq!(
        service["recipients"][1]["owner"],
        world.recipients[1].to_string()
    );
    assert_eq!(
        service["terms_hash"],
        Address::new_from_array(state.terms_hash).to_string()
    );
    for (key, name) in [
        (address::config().0, "Config"),
        (address::accepted_mint(&world.mint).0, "AcceptedMint"),
        (world.facilitator(), "Facilitator"),
    ] {
        let data = world.svm.get_account(&key).unwrap().data;
        assert_eq!(decode("accounts", &data).0, name);
    }
}

#[test]
fn every_exit_works_while_everything_is_stopped() {
    let mut world = World::with_recipients(&[6_000, 4_000]);
    let payer = world.payer(HOLDS);
    let gone = world.recipients[1];
    let key = world.token_of(&gone);
    world.freeze(&key);
    let item = world.item(&payer, 100_000, 0);
    world.settle(&[item], true).unwrap();
    let in_flight = world.item(&payer, 100_000, 1);
    world.pay_in(10_000);
    world.announce_treasury_share(60).unwrap();
    world.set_time(NOW + FEE_DELAY_SECS);

    world.set_paused(true);
    let facilitator = world.facilitator();
    world.set_suspended(&facilitator, true);
    world.set_mint(false);
    world.pass_slots(1);

    refused(world.settle(&[in_flight], true), SluiceError::Paused);
    world.distribute(&[]).unwrap();
    world.pay_in(1);
    world.sync().unwrap();
    // Leaving the facilitator for another one, and a recipient that is owed.
    let other = world.register(0, 0);
    let mut terms = world.terms();
    terms.recipients = vec![row(&world.recipients[0], 10_000)];
    world.update_with(&other.facilitator, &terms).unwrap();
    world.thaw(&key);
    let due = world.held_balance(&gone).amount;
    world.release(&gone, &key).unwrap();
    assert_eq!(world.balance(&key), due);
    world.close().unwrap();
    assert_eq!(world.balance(&world.vault()), 0);

    // The payer's ways out: another source, a closed lane, no approval, no nonce account.
    let relayer = world.relayer.insecure_clone();
    let wallet = payer.wallet.insecure_clone();
    let second = world.open_other_token(payer.key());
    let mut closed = lane_terms(Address::default());
    closed.total_limit = 0;
    let exits = [
        instructions::set_source(&payer.key(), &world.mint, &second),
        instructions::set_lane(&payer.key(), &world.mint, 1, &closed),
        token::revoke(&payer.key(), &world.mint, &token::TOKEN_PROGRAM),
        instructions::close_nonce(&payer.key(), &payer.key(), &world.mint, &relayer.pubkey()),
    ];
    for exit in exits {
        world.send(&[exit], &[&relayer, &wallet]).unwrap();
    }
    assert_eq!(world.token(&payer.source).delegate, None);
    assert!(!world.exists(&payer.nonce_account));
}

#[test]
fn each_stop_alone_stops_pulls() {
    let stops: [(Switch, SluiceError); 3] = [
        (|world, on| world.set_paused(on), SluiceError::Paused),
        (
            |world, on| {
                let facilitator = world.facilitator();
                world.set_suspended(&facilitator, on);
            },
            SluiceError::FacilitatorSuspended,
        ),
        (|world, on| world.set_mint(!on), SluiceError::MintDisabled),
    ];
    for (set, reason) in stops {
        let mut world = World::new();
        let payer = world.payer(HOLDS);
        let item = world.item(&payer, 1_000, 0);
        set(&mut world, true);
        for strict in [true, false] {
            refused(world.settle(&[item], strict), reason);
        }
        assert_eq!(world.balance(&payer.source), HOLDS);
        set(&mut world, false);
        assert_eq!(world.settle(&[item], true).unwrap().codes, [0]);
    }
}

#[test]
fn a_disabled_mint_still_opens_services_and_nonce_accounts() {
    // Stopping pulls is all that the switch does.
    let mut world = World::new();
    world.set_mint(false);
    world.create_service(2, &WorldOptions::default());
    world.payer(HOLDS);
}

#[test]
fn the_binary_says_whom_to_tell_about_a_flaw() {
    const BEGIN: &[u8] = b"=======BEGIN SECURITY.TXT V1=======\0";
    const END: &[u8] = b"=======END SECURITY.TXT V1=======\0";
    let binary = std::fs::read(program_path()).unwrap();
    let places = |mark: &[u8]| -> Vec<usize> {
        let windows = binary.windows(mark.len()).enumerate();
        windows
            .filter(|(_, window)| *window == mark)
            .map(|(at, _)| at)
            .collect()
    };
    let (begin, end) = (places(BEGIN), places(END));
    assert_eq!((begin.len(), end.len()), (1, 1), "one block");
    let body = &binary[begin[0] + BEGIN.len()..end[0]];
    let text = std::str::from_utf8(body).unwrap();
    let parts: Vec<_> = text.strip_suffix('\0').unwrap().split('\0').collect();
    assert_eq!(parts.len() % 2, 0, "names and values");
    let fields: BTreeMap<_, _> = parts.chunks(2).map(|pair| (pair[0], pair[1])).collect();
    assert_eq!(fields.len() * 2, parts.len(), "no name twice");
    assert_eq!(fields["name"], "Sluice");
    // What the format asks for at least.
    for required in ["name", "project_url", "contacts", "policy"] {
        assert!(!fields[required].is_empty(), "{required}");
    }
    assert_eq!(fields["preferred_languages"], "en");
    for contact in fields["contacts"].split(',') {
        let (kind, value) = contact.split_once(':').expect("kind:value");
        let kinds = ["email", "link", "discord", "telegram", "twitter", "other"];
        assert!(kinds.contains(&kind) && !value.is_empty(), "{contact}");
    }
}
