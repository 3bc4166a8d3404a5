//! Mints of Token-2022 with the real program: each extension through a service's whole life, what a mint's
//! authorities change after it was accepted, and accounts that cannot take or give.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use anchor_lang::prelude::AccountInfo;
use proptest::{collection::vec, prelude::*};
use sluice::token::{MintRef, can_be_pulled, can_move, mint_decimals};
use sluice_intent::Skip;
use sluice_sdk::{
    Address, instructions,
    token::{self, TOKEN_2022_PROGRAM, TOKEN_PROGRAM},
};
use sluice_tests::{
    Failure, Market,
    MintExtension::{self, *},
    Outcome, Payer, Shape, Tlv, bits,
};
use solana_keypair::Keypair;
use solana_signer::Signer;
use spl_token_2022_interface::{
    extension::{
        BaseStateWithExtensions, ExtensionType, StateWithExtensions,
        confidential_transfer::ConfidentialTransferAccount, cpi_guard::CpiGuard,
        memo_transfer::MemoTransfer,
    },
    instruction::{self, AuthorityType},
    native_mint,
    state::{Account as TokenAccount, Mint},
};

/// A payment: 50 units to the treasury, 100 to the facilitator, 5 910 and 3 940 to the recipients.
const AMOUNT: u64 = 10_000;
/// Numbers that Sluice does not know; two of them look like known ones in a set of 64.
const UNKNOWN: [u16; 9] = [28, 29, 62, 63, 64, 64 + 7, 64 + 18, 999, u16::MAX];

#[track_caller]
fn refused(result: Result<Outcome, Failure>, code: u32) {
    let failure = result.expect_err("it must be refused");
    assert_eq!(failure.custom(), Some(code), "{failure:?}");
}

/// Refuses one payment and a batch, and checks that neither moved a unit or used a nonce.
#[track_caller]
fn settles_nothing(market: &mut Market, payers: &[&Payer], code: u32) {
    let (before, vault) = (market.money(payers), market.balance(&market.vault()));
    let sources: Vec<u64> = payers.iter().map(|p| market.balance(&p.source)).collect();
    let nonces: Vec<_> = payers
        .iter()
        .map(|payer| market.data(&payer.nonce_account))
        .collect();
    refused(market.settle(&payers[..1], AMOUNT, 99), code);
    refused(market.settle(payers, AMOUNT, 99), code);
    assert_eq!(market.money(payers), before);
    assert_eq!(market.balance(&market.vault()), vault);
    for ((payer, source), nonce) in payers.iter().zip(sources).zip(nonces) {
        assert_eq!(market.balance(&payer.source), source);
        assert_eq!(market.data(&payer.nonce_account), nonce, "no nonce is used");
    }
}

/// A service that holds 3 940 units for its second recipient, whose account is frozen.
fn holding(market: &mut Market) -> (Payer, Payer) {
    let (one, two) = (market.payer(100 * AMOUNT), market.payer(100 * AMOUNT));
    let second = market.legs()[1];
    market.freeze(&second);
    let outcome = market.settle(&[&one], AMOUNT, 0).unwrap();
    assert_eq!(outcome.event().held, 1 << 1);
    assert_eq!(market.held(&[]), 3_940);
    assert_eq!(market.balance(&market.vault()), 3_940);
    (one, two)
}

fn balances(market: &Market) -> Vec<u64> {
    market
        .legs()
        .iter()
        .map(|key| market.balance(key))
        .collect()
}

/// Everything that a service goes through.
fn whole_life(mut market: Market) {
    let payers: Vec<Payer> = (0..3).map(|_| market.payer(100 * AMOUNT)).collect();
    let all: Vec<&Payer> = payers.iter().collect();
    let mut money = market.money(&all);

    // One payment, straight from the payer.
    assert_eq!(market.skips(&all[..1], AMOUNT, 0), [None]);
    assert_eq!(balances(&market), [5_910, 3_940, 50, 100]);
    // A batch, through the vault.
    assert_eq!(market.skips(&all, AMOUNT, 1), [None; 3]);
    assert_eq!(balances(&market), [4 * 5_910, 4 * 3_940, 200, 400]);
    assert_eq!(market.balance(&market.vault()), 0);
    assert_eq!(market.money(&all), money);

    // A leg that is held, and paid when it can be.
    let second = market.legs()[1];
    market.freeze(&second);
    let outcome = market.settle(&all, AMOUNT, 2).unwrap();
    assert_eq!(
        (outcome.event().held, market.held(&[])),
        (1 << 1, 3 * 3_940)
    );
    assert_eq!(market.balance(&market.vault()), 3 * 3_940);
    refused(market.distribute(), 6_114);
    market.thaw(&second);
    market.distribute().unwrap();
    assert_eq!(market.balance(&second), 7 * 3_940);
    assert_eq!((market.held(&[]), market.balance(&market.vault())), (0, 0));
    assert_eq!(market.money(&all), money);

    // What arrives without an intent is divided.
    let vault = market.vault();
    market.mint_to(&vault, AMOUNT);
    money += AMOUNT;
    market.distribute().unwrap();
    assert_eq!(market.balance(&second), 8 * 3_940);
    assert_eq!((market.balance(&vault), market.money(&all)), (0, money));

    // What is held for a recipient who leaves is theirs to take later.
    market.freeze(&second);
    market.settle(&all, AMOUNT, 3).unwrap();
    let leaver = market.world.recipients[1];
    let newcomer = Keypair::new().pubkey();
    market.open(newcomer);
    let recipients = [market.world.recipients[0], newcomer];
    market.update(&recipients, &[5_000, 5_000]).unwrap();
    assert_eq!(market.owed(&leaver), 3 * 3_940);
    assert_eq!(market.held(&[leaver]), 3 * 3_940);
    refused(market.release(&leaver), 6_143);
    market.thaw(&second);
    market.release(&leaver).unwrap();
    assert_eq!(market.owed(&leaver), 0);
    assert_eq!(market.balance(&second), 11 * 3_940);
    assert_eq!((market.held(&[leaver]), market.balance(&vault)), (0, 0));

    // The new terms hold, and then the service ends.
    assert_eq!(market.skips(&all, AMOUNT, 4), [None; 3]);
    assert_eq!(market.balance(&market.token_of(&newcomer)), 3 * 4_925);
    market.mint_to(&vault, AMOUNT);
    market.close().unwrap();
    assert_eq!(market.balance(&market.token_of(&newcomer)), 4 * 4_925);
    refused(market.settle(&all, AMOUNT, 5), 6_103);
    market.mint_to(&vault, AMOUNT);
    market.distribute().unwrap();
    assert_eq!(market.balance(&market.token_of(&newcomer)), 5 * 4_925);
    assert_eq!((market.held(&[leaver]), market.balance(&vault)), (0, 0));
}

#[test]
fn a_classic_mint() {
    whole_life(Market::classic());
}

#[test]
fn a_mint_without_extensions() {
    whole_life(Market::new(&[]));
}

#[test]
fn each_extension_that_moves_nothing() {
    for extensions in [
        &[CloseAuthority][..],
        &[ConfidentialTransfer],
        &[DefaultState(false)],
        &[Interest],
        &[PermanentDelegate],
        &[MetadataPointer, Metadata],
        &[GroupPointer, Group],
        &[MemberPointer, Member],
        &[ScaledAmount],
        &[Hook(None)],
        &[TransferFee(0)],
        &[TransferFee(0), ConfidentialTransfer, ConfidentialFee],
        &[Pausable],
    ] {
        whole_life(Market::new(extensions));
    }
}

#[test]
fn everything_at_once() {
    whole_life(Market::new(&[
        TransferFee(0),
        CloseAuthority,
        ConfidentialTransfer,
        ConfidentialFee,
        DefaultState(false),
        PermanentDelegate,
        Hook(None),
        MetadataPointer,
        Metadata,
        GroupPointer,
        Group,
        MemberPointer,
        Member,
        ScaledAmount,
        Pausable,
    ]));
}

#[test]
fn an_extension_is_accepted_when_it_is_allowed_and_not_otherwise() {
    for extension in [
        TransferFee(0),
        CloseAuthority,
        ConfidentialTransfer,
        DefaultState(false),
        DefaultState(true),
        Interest,
        PermanentDelegate,
        Hook(None),
        MetadataPointer,
        GroupPointer,
        MemberPointer,
        ScaledAmount,
        Pausable,
    ] {
        let mut market = Market::unaccepted(&[extension]);
        refused(market.accept(0), 6_113);
        refused(
            market.accept(token::ALLOWABLE_EXTENSIONS & !bits(&[extension])),
            6_113,
        );
        // Switched off it may stand in the list of mints: nothing is pulled in it.
        market.set_mint(false, 0).unwrap();
        refused(market.accept(0), 6_113);
        market.accept(bits(&[extension])).unwrap();
        market.accept(token::ALLOWABLE_EXTENSIONS).unwrap();
    }
    // Nothing can be minted in the open here, but nothing speaks against the mint either.
    let burning = [ConfidentialTransfer, ConfidentialMintBurn];
    Market::unaccepted(&burning).accept(bits(&burning)).unwrap();
}

#[test]
fn what_can_never_be_allowed() {
    let mut classic = Market::classic_unaccepted();
    for extension in [TransferFee(0), PermanentDelegate, NonTransferable] {
        refused(classic.accept(bits(&[extension])), 6_145);
    }
    classic.accept(0).unwrap();

    let mut market = Market::unaccepted(&[]);
    for bit in 0..64 {
        let asked = 1u64 << bit;
        if token::ALLOWABLE_EXTENSIONS & asked == 0 {
            refused(market.accept(asked), 6_145);
            refused(market.set_mint(false, asked), 6_145);
        } else {
            market.accept(asked).unwrap();
        }
    }
}

#[test]
fn tokens_that_cannot_move() {
    let mut market = Market::unaccepted(&[NonTransferable]);
    refused(market.accept(0), 6_113);
    refused(market.accept(bits(&[NonTransferable])), 6_145);
    refused(market.accept(token::ALLOWABLE_EXTENSIONS), 6_113);
    let mut market = Market::unaccepted(&[PermissionedBurn]);
    refused(market.accept(token::ALLOWABLE_EXTENSIONS), 6_113);
    refused(market.accept(bits(&[PermissionedBurn])), 6_145);
}

#[test]
fn wrapped_sol() {
    let mut market = Market::unaccepted(&[]);
    let admin = market.admin().pubkey();
    let create = instruction::create_native_mint(&TOKEN_2022_PROGRAM, &admin).unwrap();
    market.as_admin(create).unwrap();
    market.world.mint = native_mint::id();
    market.open(market.world.treasury);
    refused(market.accept(0), 6_141);
    refused(market.set_mint(false, 0), 6_141);
}

/// Not every version of the program takes several transfers in one call, so none is asked to.
#[test]
fn every_transfer_is_a_call_of_its_own() {
    let mut market = Market::new(&[]);
    let payers: Vec<Payer> = (0..3).map(|_| market.payer(2 * AMOUNT)).collect();
    let all: Vec<&Payer> = payers.iter().collect();
    let one = market.settle(&all[..1], AMOUNT, 0).unwrap();
    assert_eq!(one.transfers(), [1; 4]);
    let three = market.settle(&all, AMOUNT, 1).unwrap();
    assert_eq!(three.transfers(), [1; 7]);
    let vault = market.vault();
    market.mint_to(&vault, AMOUNT);
    assert_eq!(market.distribute().unwrap().transfers(), [1; 4]);
}

#[test]
fn a_fee_at_acceptance() {
    for bps in [1, 500, 10_000] {
        let mut market = Market::unaccepted(&[TransferFee(bps)]);
        refused(market.accept(bits(&[TransferFee(0)])), 6_113);
    }
    // Announced and not in force yet is a fee as well.
    let mut market = Market::unaccepted(&[TransferFee(0)]);
    market.set_fee(1);
    refused(market.accept(bits(&[TransferFee(0)])), 6_113);
    market.set_mint(false, bits(&[TransferFee(0)])).unwrap();
}

#[test]
fn a_fee_that_is_announced_and_comes_into_force() {
    let mut market = Market::new(&[TransferFee(0)]);
    let (one, two) = holding(&mut market);
    let payers = [&one, &two];
    market.set_fee(500);
    settles_nothing(&mut market, &payers, 6_113);
    market.pass_epochs(1);
    settles_nothing(&mut market, &payers, 6_113);
    market.pass_epochs(1);
    settles_nothing(&mut market, &payers, 6_113);
    refused(market.accept(bits(&[TransferFee(0)])), 6_113);

    // In force by now: what leaves the vault is what was owed, and what arrives is 5% less.
    let (vault, second) = (market.vault(), market.legs()[1]);
    market.mint_to(&vault, AMOUNT);
    market.thaw(&second);
    let before = balances(&market);
    market.distribute().unwrap();
    let arrived: Vec<u64> = balances(&market)
        .iter()
        .zip(&before)
        .map(|(after, before)| after - before)
        .collect();
    // 5 910 − 296, 2 × 3 940 − 394, 50 − 3, 100 − 5: the fee is rounded up.
    assert_eq!(arrived, [5_614, 7_486, 47, 95]);
    assert_eq!(market.withheld(&second), 394);
    assert_eq!((market.held(&[]), market.balance(&vault)), (0, 0));

    // The same for who leaves, and at the end.
    market.freeze(&second);
    market.mint_to(&vault, AMOUNT);
    let (leaver, stays) = (market.world.recipients[1], market.world.recipients[0]);
    market.update(&[stays], &[10_000]).unwrap();
    assert_eq!(
        (market.held(&[leaver]), market.balance(&vault)),
        (3_940, 3_940)
    );
    market.thaw(&second);
    let before = market.balance(&second);
    market.release(&leaver).unwrap();
    assert_eq!(market.balance(&second) - before, 3_940 - 197);
    market.mint_to(&vault, AMOUNT);
    market.close().unwrap();
    assert_eq!((market.held(&[leaver]), market.balance(&vault)), (0, 0));
}

#[test]
fn a_fee_that_is_taken_back() {
    let mut market = Market::new(&[TransferFee(0)]);
    let (one, two) = (market.payer(AMOUNT), market.payer(AMOUNT));
    market.set_fee(500);
    // Taken back before it was in force: the older fee is what it was.
    market.set_fee(0);
    assert_eq!(market.skips(&[&one], AMOUNT, 0), [None]);
    market.set_fee(500);
    market.pass_epochs(2);
    market.set_fee(0);
    settles_nothing(&mut market, &[&two, &two], 6_113);
    market.pass_epochs(2);
    // The fee that was stands in the older place until the next one is set.
    settles_nothing(&mut market, &[&two, &two], 6_113);
    market.set_fee(0);
    assert_eq!(market.skips(&[&two], AMOUNT, 0), [None]);
}

#[test]
fn a_hook_that_is_set_later() {
    let mut refusing = Market::unaccepted(&[Hook(Some(Address::new_unique()))]);
    refused(refusing.accept(bits(&[Hook(None)])), 6_113);

    let mut market = Market::new(&[Hook(None)]);
    let (one, two) = holding(&mut market);
    let payers = [&one, &two];
    let money = market.money(&payers);
    let (vault, second) = (market.vault(), market.legs()[1]);
    market.thaw(&second);
    market.set_hook(Some(Address::new_unique()));
    settles_nothing(&mut market, &payers, 6_113);
    refused(market.accept(bits(&[Hook(None)])), 6_113);

    // Nothing can leave. What is free is divided all the same, and held; when nothing is, it says so.
    refused(market.distribute(), 6_114);
    market.mint_to(&vault, AMOUNT);
    let before = balances(&market);
    market.distribute().unwrap();
    assert_eq!(balances(&market), before);
    assert_eq!(market.held(&[]), 3_940 + AMOUNT);
    refused(market.distribute(), 6_114);
    let (leaver, stays) = (market.world.recipients[1], market.world.recipients[0]);
    market.update(&[stays], &[10_000]).unwrap();
    assert_eq!(market.owed(&leaver), 2 * 3_940);
    refused(market.release(&leaver), 6_112);
    market.close().unwrap();
    assert_eq!(market.held(&[leaver]), 3_940 + AMOUNT);
    assert_eq!(market.money(&payers), money + AMOUNT);

    // Without the hook everybody is paid, though the service is closed.
    market.set_hook(None);
    market.distribute().unwrap();
    market.release(&leaver).unwrap();
    assert_eq!((market.held(&[leaver]), market.balance(&vault)), (0, 0));
    assert_eq!(balances(&market), [2 * 5_910, 2 * 3_940, 100, 200]);
}

#[test]
fn a_mint_that_is_paused() {
    let mut fresh = Market::unaccepted(&[Pausable]);
    fresh.set_paused(true);
    refused(fresh.accept(bits(&[Pausable])), 6_113);
    fresh.set_paused(false);
    fresh.accept(bits(&[Pausable])).unwrap();

    let mut market = Market::new(&[Pausable]);
    let (one, two) = holding(&mut market);
    let payers = [&one, &two];
    let (vault, second) = (market.vault(), market.legs()[1]);
    market.mint_to(&vault, AMOUNT);
    let money = market.money(&payers);
    market.thaw(&second);
    market.set_paused(true);
    settles_nothing(&mut market, &payers, 6_113);
    market.distribute().unwrap();
    assert_eq!(market.held(&[]), 3_940 + AMOUNT);
    refused(market.distribute(), 6_114);
    let (leaver, stays) = (market.world.recipients[1], market.world.recipients[0]);
    market.update(&[stays], &[10_000]).unwrap();
    refused(market.release(&leaver), 6_112);
    assert_eq!(market.held(&[leaver]), 3_940 + AMOUNT);

    market.set_paused(false);
    market.distribute().unwrap();
    market.release(&leaver).unwrap();
    assert_eq!(market.money(&payers), money);
    assert_eq!(balances(&market), [2 * 5_910, 2 * 3_940, 100, 200]);
    assert_eq!(market.skips(&payers, AMOUNT, 1), [None; 2]);
}

#[test]
fn a_mint_that_changes_between_verify_and_settle() {
    let mut market = Market::new(&[TransferFee(0), Hook(None), Pausable]);
    let payer = market.payer(10 * AMOUNT);
    // Approved and signed; then the mint's authority acts. The intent outlives it.
    let item = market.world.item(&payer, AMOUNT, 0);
    for strict in [false, true] {
        market.set_fee(1);
        refused(market.world.settle(&[item], strict), 6_113);
        market.set_fee(0);
        market.set_hook(Some(Address::new_unique()));
        refused(market.world.settle(&[item], strict), 6_113);
        market.set_hook(None);
        market.set_paused(true);
        refused(market.world.settle(&[item], strict), 6_113);
        market.set_paused(false);
    }
    assert_eq!(market.balance(&payer.source), 10 * AMOUNT);
    assert_eq!(market.world.settle(&[item], true).unwrap().codes, [0]);
    assert_eq!(balances(&market), [5_910, 3_940, 50, 100]);
}

#[test]
fn a_permanent_delegate_that_takes_what_is_held() {
    let mut market = Market::new(&[PermanentDelegate]);
    let (one, two) = (market.payer(10 * AMOUNT), market.payer(10 * AMOUNT));
    let vault = market.vault();
    let (first, second) = (market.legs()[0], market.legs()[1]);
    market.freeze(&first);
    market.freeze(&second);
    market.settle(&[&one], AMOUNT, 0).unwrap();
    assert_eq!(market.held(&[]), 9_850);
    let loot = market.open(Address::new_unique());
    market.seize(&vault, &loot, 9_000);

    // A batch neither fills the hole nor widens it.
    market.settle(&[&one, &two], AMOUNT, 1).unwrap();
    assert_eq!(
        (market.held(&[]), market.balance(&vault)),
        (3 * 9_850, 850 + 2 * 9_850)
    );
    market.seize(&vault, &loot, 2 * 9_850);
    market.thaw(&first);
    market.thaw(&second);
    market.distribute().unwrap();
    assert_eq!(balances(&market), [850, 0, 150, 300]);
    assert_eq!(
        (market.held(&[]), market.balance(&vault)),
        (3 * 9_850 - 850, 0)
    );
    refused(market.distribute(), 6_114);

    // Who leaves is paid in parts, as money comes back.
    let (leaver, stays) = (market.world.recipients[1], market.world.recipients[0]);
    market.update(&[stays], &[10_000]).unwrap();
    refused(market.release(&leaver), 6_114);
    market.seize(&loot, &vault, 1_000);
    market.release(&leaver).unwrap();
    assert_eq!(market.owed(&leaver), 3 * 3_940 - 1_000);
    assert_eq!(market.held(&[leaver]), 3 * 9_850 - 1_850);
    refused(market.release(&leaver), 6_114);
    market.seize(&loot, &vault, 9_000 + 2 * 9_850 - 1_000);
    market.release(&leaver).unwrap();
    market.distribute().unwrap();
    assert_eq!((market.held(&[leaver]), market.owed(&leaver)), (0, 0));
    assert_eq!(market.balance(&vault), 0);
    assert_eq!(balances(&market)[0], 3 * 5_910);
    assert_eq!(market.balance(&second), 3 * 3_940);
}

/// The token program takes the mint's delegate for itself before the account's own: then no approval is used up, and
/// lanes alone bound what is pulled. A mint's authority who can do this can take the money anyway.
#[test]
fn a_permanent_delegate_that_is_a_nonce_account() {
    let mut market = Market::new(&[PermanentDelegate]);
    let payer = market.payer(3 * AMOUNT);
    let (mint, admin) = (market.world.mint, market.admin().pubkey());
    let hand_on = instruction::set_authority(
        &TOKEN_2022_PROGRAM,
        &mint,
        Some(&payer.nonce_account),
        AuthorityType::PermanentDelegate,
        &admin,
        &[],
    );
    market.as_admin(hand_on.unwrap()).unwrap();
    let approve = market.approve(&payer.key(), AMOUNT);
    let relayer = market.world.relayer.insecure_clone();
    market
        .world
        .send(&[approve], &[&relayer, &payer.wallet])
        .unwrap();
    for nonce in 0..3 {
        assert_eq!(market.skips(&[&payer], AMOUNT, nonce), [None]);
    }
    assert_eq!(market.token(&payer.source).delegated_amount, AMOUNT);
    assert_eq!(
        market.skips(&[&payer], AMOUNT, 3),
        [Some(Skip::BalanceShort)]
    );
}

#[test]
fn accounts_that_begin_frozen() {
    let allowed = bits(&[DefaultState(true)]);
    let mut market = Market::unaccepted(&[DefaultState(true)]);
    let treasury = market.token_of(&market.world.treasury);
    market.freeze(&treasury);
    refused(market.accept(allowed), 6_143);
    market.thaw(&treasury);
    market.accept(allowed).unwrap();
    market.open_service(&[6_000, 4_000]);
    let (one, two) = (market.payer(10 * AMOUNT), market.payer(10 * AMOUNT));
    let payers = [&one, &two];
    let vault = market.vault();

    // The vault is frozen as well. A payment that needs no vault goes past it; others wait.
    assert_eq!(market.skips(&payers[..1], AMOUNT, 0), [None]);
    refused(market.settle(&payers, AMOUNT, 1), 6_112);
    let second = market.legs()[1];
    market.freeze(&second);
    refused(market.settle(&payers[..1], AMOUNT, 1), 6_112);
    refused(market.distribute(), 6_114);

    market.thaw(&vault);
    market.freeze(&two.source);
    let outcome = market.settle(&payers, AMOUNT, 1).unwrap();
    assert_eq!(outcome.skips(), [None, Some(Skip::SourceFrozen)]);
    assert_eq!(market.held(&[]), 3_940);

    // Frozen again, with something in it: held, whoever asks.
    market.freeze(&vault);
    market.thaw(&second);
    refused(market.distribute(), 6_114);
    let (leaver, stays) = (market.world.recipients[1], market.world.recipients[0]);
    market.update(&[stays], &[10_000]).unwrap();
    refused(market.release(&leaver), 6_112);
    market.thaw(&vault);
    market.release(&leaver).unwrap();
    market.thaw(&two.source);
    assert_eq!(market.skips(&payers, AMOUNT, 2), [None; 2]);
    assert_eq!((market.held(&[leaver]), market.balance(&vault)), (0, 0));

    // A payer whose account is still frozen cannot begin.
    let wallet = Keypair::new();
    let source = market.open_as_born(wallet.pubkey());
    let relayer = market.world.relayer.insecure_clone();
    let mint = market.world.mint;
    let open = instructions::open_nonce(&relayer.pubkey(), &wallet.pubkey(), &mint, &source);
    refused(market.world.send(&[open], &[&relayer, &wallet]), 6_143);
}

#[test]
fn an_account_that_takes_confidential_credits_only() {
    let mut market = Market::new(&[ConfidentialTransfer]);
    let payer = market.payer(10 * AMOUNT);
    let wallet = market.wallet(&market.world.recipients[0]);
    let first = market.legs()[0];
    market.append(first, 2, &Tlv::Confidential(true).bytes());
    assert_eq!(market.settle(&[&payer], AMOUNT, 0).unwrap().event().held, 0);
    market.set_open_credits(&wallet, false);
    let outcome = market.settle(&[&payer], AMOUNT, 1).unwrap();
    assert_eq!((outcome.event().held, market.held(&[])), (1, 5_910));
    refused(market.distribute(), 6_114);
    market.set_open_credits(&wallet, true);
    market.distribute().unwrap();
    assert_eq!((market.balance(&first), market.held(&[])), (2 * 5_910, 0));

    // Money that is in the open leaves such an account like any other.
    for open in [true, false] {
        let source = market.payer(AMOUNT);
        market.append(source.source, 2, &Tlv::Confidential(open).bytes());
        assert_eq!(market.skips(&[&source], AMOUNT, 0), [None]);
    }
}

#[test]
fn an_account_that_demands_a_memo() {
    let mut market = Market::new(&[]);
    let payer = market.payer(100 * AMOUNT);
    let (first, treasury, facilitator) = (
        market.world.recipients[0],
        market.world.treasury,
        market.world.fee_wallet,
    );
    for (nonce, (owner, bit, due)) in [(first, 0, 5_910), (treasury, 8, 50), (facilitator, 9, 100)]
        .into_iter()
        .enumerate()
    {
        let (wallet, account) = (market.wallet(&owner), market.token_of(&owner));
        let before = market.balance(&account);
        market.require_memo(&wallet, true);
        let outcome = market.settle(&[&payer], AMOUNT, nonce as u64).unwrap();
        assert_eq!(outcome.event().held, 1 << bit);
        assert_eq!((market.balance(&account), market.held(&[])), (before, due));
        refused(market.distribute(), 6_114);
        market.require_memo(&wallet, false);
        market.distribute().unwrap();
        assert_eq!(
            (market.balance(&account), market.held(&[])),
            (before + due, 0)
        );
    }
    // A payer's own account may demand one: nothing comes in.
    let guarded = market.payer(AMOUNT);
    market.require_memo(&guarded.wallet, true);
    assert_eq!(market.skips(&[&guarded], AMOUNT, 0), [None]);
}

#[test]
fn a_source_with_a_cpi_guard() {
    let mut market = Market::new(&[]);
    let payer = market.payer(AMOUNT);
    market.guard(&payer.wallet);
    assert_eq!(market.skips(&[&payer], AMOUNT, 0), [None]);
    assert_eq!(market.balance(&payer.source), 0);
    // The approval is an instruction of the token program's, at the top: a guarded account takes no other.
    market.mint_to(&payer.source, AMOUNT);
    let mint = market.world.mint;
    let approve = token::approve(&payer.key(), &mint, &TOKEN_2022_PROGRAM, AMOUNT, 6);
    market.world.send(&[approve], &[&payer.wallet]).unwrap();
    let other = market.payer(AMOUNT);
    assert_eq!(market.skips(&[&payer, &other], AMOUNT, 1), [None; 2]);
    // What the vault pays out is moved by its owner, in a program: a guard on a recipient's account is no matter.
    let wallet = market.wallet(&market.world.recipients[0]);
    market.guard(&wallet);
    let vault = market.vault();
    market.mint_to(&vault, AMOUNT);
    market.distribute().unwrap();
    assert_eq!(market.balance(&market.legs()[0]), 4 * 5_910);
}

#[test]
fn the_sdks_instructions_are_the_token_programs() {
    for mut market in [Market::classic(), Market::new(&[])] {
        let (program, mint) = (market.program, market.world.mint);
        let payer = market.payer(AMOUNT);
        let key = payer.key();
        let approve = token::approve(&key, &mint, &program, 77, 6);
        assert_eq!(approve, market.approve(&key, 77));
        let revoke = token::revoke(&key, &mint, &program);
        let theirs = instruction::revoke(&program, &payer.source, &key, &[]).unwrap();
        assert_eq!(revoke, theirs);
        let relayer = market.world.relayer.insecure_clone();
        let signers = [&relayer, &payer.wallet];
        let delegate = |market: &Market| {
            let account = market.world.svm.get_account(&payer.source).unwrap();
            let read = token::decode_account(&account.owner, &account.data).unwrap();
            assert_eq!(read.other_delegate(&payer.nonce_account), None);
            assert_eq!(read.other_delegate(&key), read.delegate);
            read.delegate
        };
        market.world.send(&[approve], &signers).unwrap();
        assert_eq!(delegate(&market), Some((payer.nonce_account, 77)));
        market.world.send(&[revoke], &signers).unwrap();
        assert_eq!(delegate(&market), None);
    }
}

#[test]
fn a_mint_with_an_unknown_extension() {
    for kind in UNKNOWN {
        let unknown = Tlv::Unknown(kind, 4).bytes();
        let mut market = Market::unaccepted(&[]);
        let mint = market.world.mint;
        market.append(mint, 1, &unknown);
        refused(market.accept(0), 6_113);
        refused(market.accept(token::ALLOWABLE_EXTENSIONS), 6_113);
        if kind < 64 {
            refused(market.accept(1 << kind), 6_145);
        }

        // It appears later: nothing is pulled, and what is in the vault goes out.
        let mut market = Market::new(&[MetadataPointer]);
        let (one, two) = holding(&mut market);
        let (mint, second) = (market.world.mint, market.legs()[1]);
        market.append(mint, 1, &unknown);
        settles_nothing(&mut market, &[&one, &two], 6_113);
        market.thaw(&second);
        market.distribute().unwrap();
        assert_eq!((market.held(&[]), market.balance(&second)), (0, 3_940));
    }
}

#[test]
fn a_mint_whose_extensions_cannot_be_read() {
    for broken in [Tlv::PastTheEnd, Tlv::Truncated] {
        for extensions in [&[][..], &[MetadataPointer]] {
            let mut market = Market::unaccepted(extensions);
            let mint = market.world.mint;
            market.append(mint, 1, &broken.bytes());
            refused(market.accept(bits(extensions)), 6_113);
            refused(market.accept(token::ALLOWABLE_EXTENSIONS), 6_113);
        }
    }
    // Too short for what the program reads in it: a fee, a hook and a pause that nobody can see.
    for kind in [1, 14, 26] {
        let mut market = Market::unaccepted(&[]);
        let mint = market.world.mint;
        market.append(mint, 1, &Tlv::Unknown(kind, 8).bytes());
        refused(market.accept(token::ALLOWABLE_EXTENSIONS), 6_113);
    }
    // A multisig's length, an account's tag, and lengths between a mint and its extensions.
    let mut market = Market::unaccepted(&[]);
    let mint = market.world.mint;
    let base = market.data(&mint);
    let wrong: Vec<Vec<u8>> = vec![
        [&base[..], &[0; 83], &[1], &[0; 189]].concat(),
        [&base[..], &[0; 83], &[2], &[0; 40]].concat(),
        [&base[..], &[0; 83], &[0], &[0; 40]].concat(),
        [&base[..], &[0; 83]].concat(),
        [&base[..], &[0; 82]].concat(),
        base[..81].to_vec(),
    ];
    for data in wrong {
        let len = data.len();
        market.set_data(mint, data);
        let result = market.accept(token::ALLOWABLE_EXTENSIONS);
        assert_eq!(result.unwrap_err().custom(), Some(6_142), "{len} bytes");
        let result = market.set_mint(false, 0);
        assert_eq!(result.unwrap_err().custom(), Some(6_142), "{len} bytes");
    }
    market.set_data(mint, base);
    market.accept(0).unwrap();
}

#[test]
fn a_mint_that_is_closed_and_made_anew() {
    let mut market = Market::new(&[CloseAuthority]);
    let payer = market.payer(0);
    let mint = market.world.mint;
    let admin = market.admin().pubkey();
    let close = instruction::close_account(&TOKEN_2022_PROGRAM, &mint, &admin, &admin, &[]);
    market.as_admin(close.unwrap()).unwrap();
    refused(market.settle(&[&payer], AMOUNT, 0), 6_113);
    refused(market.distribute(), 6_114);
    // Made but not initialised, the way everybody makes a mint.
    market.world.put(mint, vec![0; 82], TOKEN_2022_PROGRAM);
    refused(market.settle(&[&payer], AMOUNT, 0), 6_113);
    // Again a mint, and no longer one that was accepted: a fee can come in this way, and is seen.
    let len = ExtensionType::try_calculate_account_len::<Mint>(&[ExtensionType::TransferFeeConfig]);
    market
        .world
        .put(mint, vec![0; len.unwrap()], TOKEN_2022_PROGRAM);
    let fee = spl_token_2022_interface::extension::transfer_fee::instruction::initialize_transfer_fee_config(
        &TOKEN_2022_PROGRAM,
        &mint,
        Some(&admin),
        Some(&admin),
        0,
        0,
    );
    market.as_admin(fee.unwrap()).unwrap();
    refused(market.settle(&[&payer], AMOUNT, 0), 6_113);
    let init = instruction::initialize_mint2(&TOKEN_2022_PROGRAM, &mint, &admin, Some(&admin), 6);
    market.as_admin(init.unwrap()).unwrap();
    refused(market.settle(&[&payer], AMOUNT, 0), 6_113);
    market
        .set_mint(true, bits(&[CloseAuthority, TransferFee(0)]))
        .unwrap();
    // Its accounts are as they were, without room for fees, and serve while there is none.
    market.mint_to(&payer.source, AMOUNT);
    let approve = market.approve(&payer.key(), AMOUNT);
    let relayer = market.world.relayer.insecure_clone();
    market
        .world
        .send(&[approve], &[&relayer, &payer.wallet])
        .unwrap();
    assert_eq!(market.skips(&[&payer], AMOUNT, 0), [None]);
}

#[test]
fn a_source_that_cannot_be_read_is_skipped_and_a_leg_is_held() {
    let mut broken = vec![Tlv::PastTheEnd, Tlv::Truncated, Tlv::NonTransferable];
    broken.extend(UNKNOWN.map(|kind| Tlv::Unknown(kind, 3)));
    // Extensions of mints, which no account carries.
    broken.extend([1, 6, 14, 26].map(|kind| Tlv::Unknown(kind, 110)));
    for tlv in broken {
        let mut market = Market::new(&[]);
        let (good, bad) = (market.payer(10 * AMOUNT), market.payer(10 * AMOUNT));
        market.append(bad.source, 2, &tlv.bytes());
        let nonce = market.data(&bad.nonce_account);
        let skips = market.skips(&[&bad, &good], AMOUNT, 0);
        assert_eq!(skips, [Some(Skip::SourceUnusable), None], "{tlv:?}");
        assert_eq!(market.data(&bad.nonce_account), nonce);

        let first = market.legs()[0];
        let whole = market.data(&first);
        market.append(first, 2, &tlv.bytes());
        let outcome = market.settle(&[&good], AMOUNT, 1).unwrap();
        assert_eq!(
            (outcome.event().held, market.held(&[])),
            (1, 5_910),
            "{tlv:?}"
        );
        refused(market.distribute(), 6_114);
        market.set_data(first, whole);
        market.distribute().unwrap();
        assert_eq!(market.balance(&first), 2 * 5_910);
    }
    // A multisig's length.
    let mut market = Market::new(&[]);
    let payer = market.payer(10 * AMOUNT);
    let first = market.legs()[0];
    for key in [payer.source, first] {
        let mut data = market.data(&key);
        data.resize(355, 0);
        market.set_data(key, data);
    }
    assert_eq!(
        market.skips(&[&payer], AMOUNT, 0),
        [Some(Skip::SourceUnusable)]
    );
    let good = market.payer(AMOUNT);
    assert_eq!(market.settle(&[&good], AMOUNT, 0).unwrap().event().held, 1);
}

/// What [`Tlv`] writes, the program would have written.
#[test]
fn the_bytes_are_the_programs() {
    let mut market = Market::new(&[TransferFee(0), Hook(None), Pausable]);
    let payer = market.payer(AMOUNT);
    let list = |market: &Market| market.data(&payer.source)[166..].to_vec();
    let born = [
        Tlv::ImmutableOwner,
        Tlv::FeeAmount,
        Tlv::Hook,
        Tlv::Pausable,
    ];
    let mut expected: Vec<u8> = born.iter().flat_map(|one| one.bytes()).collect();
    let same_set = |a: &[u8], b: &[u8]| {
        let set = |list: &[u8]| {
            let mut rest = list;
            let mut all = Vec::new();
            while rest.len() >= 4 {
                let len = 4 + usize::from(u16::from_le_bytes([rest[2], rest[3]]));
                all.push(rest[..len].to_vec());
                rest = &rest[len..];
            }
            all.sort();
            all
        };
        assert_eq!(set(a), set(b));
    };
    same_set(&list(&market), &expected);
    market.require_memo(&payer.wallet, true);
    market.guard(&payer.wallet);
    expected.extend(Tlv::Memo(true).bytes());
    expected.extend(Tlv::CpiGuard(true).bytes());
    same_set(&list(&market), &expected);

    market.append(payer.source, 2, &Tlv::Confidential(false).bytes());
    let data = market.data(&payer.source);
    let state = StateWithExtensions::<TokenAccount>::unpack(&data).unwrap();
    let confidential = state
        .get_extension::<ConfidentialTransferAccount>()
        .unwrap();
    assert!(bool::from(confidential.approved));
    assert!(bool::from(confidential.allow_confidential_credits));
    assert!(!bool::from(confidential.allow_non_confidential_credits));
    let memo = state.get_extension::<MemoTransfer>().unwrap();
    assert!(bool::from(memo.require_incoming_transfer_memos));
    assert!(bool::from(
        state.get_extension::<CpiGuard>().unwrap().lock_cpi
    ));
}

fn tlv() -> impl Strategy<Value = Tlv> {
    prop_oneof![
        3 => Just(Tlv::ImmutableOwner),
        2 => Just(Tlv::FeeAmount),
        2 => Just(Tlv::Hook),
        2 => Just(Tlv::Pausable),
        1 => Just(Tlv::ConfidentialFee),
        4 => any::<bool>().prop_map(Tlv::Memo),
        2 => any::<bool>().prop_map(Tlv::CpiGuard),
        4 => any::<bool>().prop_map(Tlv::Confidential),
        1 => Just(Tlv::NonTransferable),
        1 => (28u16.., 0u8..8).prop_map(|(kind, len)| Tlv::Unknown(kind, len)),
    ]
}

fn mostly<T: Clone + std::fmt::Debug + 'static>(
    usual: T,
    other: impl Strategy<Value = T> + 'static,
) -> BoxedStrategy<T> {
    prop_oneof![8 => Just(usual), 1 => other].boxed()
}

fn shape() -> impl Strategy<Value = Shape> {
    let list = (vec(tlv(), 0..4), 0..12u8).prop_map(|(mut list, broken)| {
        // A list has each extension once, and ends where it breaks.
        let mut seen = Vec::new();
        list.retain(|one| {
            let kind = one.bytes()[..2].to_vec();
            let fresh = !seen.contains(&kind);
            seen.push(kind);
            fresh
        });
        match broken {
            0 => list.push(Tlv::PastTheEnd),
            1 => list.push(Tlv::Truncated),
            _ => {}
        }
        list
    });
    let delegate = prop_oneof![
        1 => Just(None),
        6 => (0..3 * AMOUNT).prop_map(|amount| Some((true, amount))),
        8 => Just(Some((true, 10 * AMOUNT))),
        1 => Just(Some((false, 10 * AMOUNT))),
    ];
    let flags = (
        mostly(true, Just(false)),
        mostly(true, Just(false)),
        mostly(false, Just(true)),
        mostly(true, Just(false)),
        mostly(true, Just(false)),
    );
    (
        flags,
        prop_oneof![1 => 0..3 * AMOUNT, 2 => Just(10 * AMOUNT)],
        delegate,
        mostly(1, prop_oneof![Just(0u8), Just(2), Just(3)]),
        prop_oneof![1 => Just(Vec::new()), 2 => list],
    )
        .prop_map(
            |((mint, owner, multisig, program, exists), amount, delegate, state, list)| Shape {
                mint,
                owner,
                amount,
                delegate,
                state,
                list,
                multisig,
                program,
                exists,
            },
        )
}

fn mint_extensions() -> impl Strategy<Value = Option<Vec<MintExtension>>> {
    let some = proptest::sample::subsequence(
        vec![
            CloseAuthority,
            DefaultState(false),
            PermanentDelegate,
            Hook(None),
            MetadataPointer,
            Metadata,
            ScaledAmount,
            Pausable,
        ],
        0..=8,
    )
    .prop_map(|mut list| {
        list.retain({
            let pointed = list.contains(&MetadataPointer);
            move |one| *one != Metadata || pointed
        });
        list
    });
    let fees = prop_oneof![
        Just(vec![]),
        Just(vec![TransferFee(0)]),
        Just(vec![ConfidentialTransfer]),
        Just(vec![TransferFee(0), ConfidentialTransfer, ConfidentialFee]),
    ];
    prop_oneof![
        1 => Just(None),
        3 => (fees, some).prop_map(|(mut all, some)| {
            all.extend(some);
            Some(all)
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    /// What inspection lets pass, the token program lets pass: no source and no leg fails a settle, whatever it is.
    /// What is skipped has changed nothing, and what is not paid is held.
    #[test]
    fn no_source_and_no_leg_fails_a_settle(
        extensions in mint_extensions(),
        sources in vec((prop_oneof![1 => Just(Shape::good(10 * AMOUNT)), 2 => shape()], 1..2 * AMOUNT), 1..6),
        legs in vec(prop_oneof![1 => Just(Shape::good(0)), 1 => shape()], 4),
    ) {
        let mut market = match &extensions {
            None => Market::classic(),
            Some(list) => Market::new(list),
        };
        let (mint, program) = (market.world.mint, market.program);
        let payers: Vec<Payer> = sources.iter().map(|_| market.payer(0)).collect();
        for (payer, (shape, _)) in payers.iter().zip(&sources) {
            let account = shape.account(mint, payer.key(), payer.nonce_account, program);
            market.world.svm.set_account(payer.source, account).unwrap();
        }
        let mut owners = market.world.recipients.clone();
        owners.extend([market.world.treasury, market.world.fee_wallet]);
        for (owner, shape) in owners.iter().zip(&legs) {
            let account = shape.account(mint, *owner, Address::default(), program);
            market.world.svm.set_account(market.token_of(owner), account).unwrap();
        }
        let read = |market: &Market, key: &Address| market.world.svm.get_account(key);
        let amount = |account: Option<solana_account::Account>| {
            account.map_or(0, |account| account.data.get(64..72).map_or(0, |bytes| {
                u64::from_le_bytes(bytes.try_into().unwrap())
            }))
        };
        let before: Vec<_> = payers
            .iter()
            .map(|payer| (read(&market, &payer.source), market.data(&payer.nonce_account)))
            .collect();
        let accounts: Vec<_> = owners.iter().map(|owner| market.token_of(owner)).collect();
        let paid_before: Vec<_> = accounts.iter().map(|key| read(&market, key)).collect();

        let items: Vec<_> = payers
            .iter()
            .zip(&sources)
            .map(|(payer, (_, amount))| market.world.item(payer, *amount, 0))
            .collect();
        let outcome = market.world.settle(&items, false).unwrap();

        let skips: Vec<_> = sources
            .iter()
            .map(|(shape, amount)| shape.gives(&program, *amount))
            .collect();
        prop_assert_eq!(outcome.skips(), skips.clone());
        for (i, payer) in payers.iter().enumerate() {
            let (source, nonce) = &before[i];
            if skips[i].is_some() {
                prop_assert_eq!(&read(&market, &payer.source), source);
                prop_assert_eq!(&market.data(&payer.nonce_account), nonce);
            } else {
                let left = amount(read(&market, &payer.source));
                prop_assert_eq!(left, amount(source.clone()) - sources[i].1);
            }
        }
        let event = outcome.event();
        let dues = [event.recipients[0], event.recipients[1], event.treasury, event.facilitator];
        prop_assert_eq!(dues.iter().sum::<u64>(), event.total);
        let mut held = 0;
        for (i, bit) in [0, 1, 8, 9].into_iter().enumerate() {
            let now = read(&market, &accounts[i]);
            if dues[i] == 0 || !legs[i].takes(&program) {
                prop_assert_eq!(&now, &paid_before[i]);
                held += dues[i];
            } else {
                prop_assert_eq!(amount(now), amount(paid_before[i].clone()) + dues[i]);
            }
            prop_assert_eq!(event.held >> bit & 1 == 1, dues[i] > 0 && !legs[i].takes(&program));
        }
        prop_assert_eq!(market.held(&[]), held);
        prop_assert_eq!(market.balance(&market.vault()), held);
    }
}

/// Bytes that are a token account, or nearly, or not at all.
fn account_bytes() -> impl Strategy<Value = (Address, Vec<u8>)> {
    let shaped = (
        shape(),
        any::<bool>(),
        vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    )
        .prop_map(|(shape, new, flips)| {
            let program = if new {
                TOKEN_2022_PROGRAM
            } else {
                TOKEN_PROGRAM
            };
            let account = shape.account(key(1), key(2), key(3), program);
            let mut data = account.data;
            for (at, byte) in flips {
                if !data.is_empty() {
                    let at = at.index(data.len());
                    data[at] = byte;
                }
            }
            (account.owner, data)
        });
    let lens = prop_oneof![
        Just(165),
        Just(355),
        Just(82),
        Just(166),
        Just(170),
        0usize..400
    ];
    let random = (any::<bool>(), lens, any::<u64>()).prop_map(|(new, len, seed)| {
        let program = if new {
            TOKEN_2022_PROGRAM
        } else {
            TOKEN_PROGRAM
        };
        (program, noise(len, seed))
    });
    prop_oneof![4 => shaped, 1 => random]
}

fn noise(len: usize, mut seed: u64) -> Vec<u8> {
    (0..len)
        .map(|_| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) as u8
        })
        .collect()
}

fn key(byte: u8) -> Address {
    Address::new_from_array([byte; 32])
}

/// Bytes that are a mint, or nearly.
fn mint_bytes() -> impl Strategy<Value = (Address, Vec<u8>)> {
    let value = prop_oneof![
        // As long as the program's own, mostly zero where it says fee, hook or pause.
        (Just(1u16), mostly(108usize, 0usize..110)),
        (Just(14u16), mostly(64usize, 0usize..70)),
        (Just(26u16), mostly(33usize, 0usize..36)),
        (0u16..32, 0usize..40),
        (any::<u16>(), 0usize..8),
    ];
    let entry = (value, any::<u64>(), 0..4u8).prop_map(|((kind, len), seed, fill)| {
        let mut bytes = if fill == 0 {
            noise(len, seed)
        } else {
            vec![0; len]
        };
        if fill == 2 && len > 0 {
            bytes[seed as usize % len] = 1;
        }
        if fill == 1 && len > 32 {
            // The authorities' keys do not matter.
            bytes[..32].copy_from_slice(&noise(32, seed));
        }
        let mut tlv = kind.to_le_bytes().to_vec();
        tlv.extend(u16::try_from(len).unwrap().to_le_bytes());
        tlv.extend(bytes);
        tlv
    });
    let tail = prop_oneof![
        6 => Just(vec![]),
        1 => vec(any::<u8>(), 0..6),
        1 => Just(Tlv::PastTheEnd.bytes()),
        1 => Just(Tlv::Truncated.bytes()),
        1 => Just(vec![0, 0]),
    ];
    (
        any::<bool>(),
        mostly(1u8, any::<u8>()),
        mostly(1u8, any::<u8>()),
        vec(entry, 0..4),
        tail,
        mostly(None, (0usize..400).prop_map(Some)),
        any::<u64>(),
    )
        .prop_map(|(new, initialised, tag, list, tail, cut, seed)| {
            let mut data = noise(82, seed);
            data[45] = initialised;
            if !list.is_empty() || !tail.is_empty() {
                data.resize(165, 0);
                data.push(tag);
                data.extend(list.concat());
                data.extend(tail);
            }
            if let Some(len) = cut {
                data.resize(len, 0);
            }
            let program = if new {
                TOKEN_2022_PROGRAM
            } else {
                TOKEN_PROGRAM
            };
            (program, data)
        })
}

/// The SDK's reason why `amount` cannot be pulled, in the program's order.
fn sdk_skip(owner: &Address, data: &[u8], amount: u64) -> Option<Skip> {
    let Some(read) = token::decode_account(owner, data) else {
        return Some(Skip::SourceUnusable);
    };
    if read.token_program != TOKEN_2022_PROGRAM || read.mint != key(1) || !read.lets_out {
        return Some(Skip::SourceUnusable);
    }
    if read.frozen {
        return Some(Skip::SourceFrozen);
    }
    if read.owner != key(2) {
        return Some(Skip::OwnerChanged);
    }
    match read.delegate {
        Some((delegate, _)) if delegate != key(3) => Some(Skip::DelegateGone),
        None => Some(Skip::DelegateGone),
        Some((_, approved)) if approved < amount => Some(Skip::DelegatedShort),
        Some(_) => (read.amount < amount).then_some(Skip::BalanceShort),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn the_sdk_judges_an_account_as_the_program_does(
        (owner, data) in account_bytes(),
        amount in prop_oneof![Just(AMOUNT), any::<u64>()],
    ) {
        let (address, mint, payer, delegate) = (key(9), key(1), key(2), key(3));
        let (mut lamports, mut bytes) = (1, data.clone());
        let info = AccountInfo::new(&address, false, true, &mut lamports, &mut bytes, &owner, false);
        let theirs = token::decode_account(&owner, &data);
        for program in [TOKEN_2022_PROGRAM, TOKEN_PROGRAM] {
            let of = MintRef { mint: &mint, token_program: &program };
            let read = theirs.filter(|read| read.token_program == program && read.mint == mint);
            let takes = read.is_some_and(|read| read.owner == payer && read.can_receive());
            prop_assert_eq!(of.can_receive(&info, &payer), takes);
            prop_assert_eq!(of.is_usable(&info, &payer), takes);
            if let Some(read) = read {
                prop_assert_eq!(of.balance(&info), Some(read.amount));
            }
        }
        let of = MintRef { mint: &mint, token_program: &TOKEN_2022_PROGRAM };
        prop_assert_eq!(
            of.can_pull(&info, &payer, &delegate, amount).err(),
            sdk_skip(&owner, &data, amount)
        );
    }

    #[test]
    fn the_sdk_judges_a_mint_as_the_program_does(
        (owner, data) in mint_bytes(),
        allowed in prop_oneof![Just(token::ALLOWABLE_EXTENSIONS), Just(u64::MAX), any::<u64>()],
    ) {
        let address = key(1);
        let (mut lamports, mut bytes) = (1, data.clone());
        let info = AccountInfo::new(&address, false, false, &mut lamports, &mut bytes, &owner, false);
        let read = token::decode_mint(&owner, &data);
        let read = read.as_ref();
        prop_assert_eq!(mint_decimals(&info).ok(), read.map(|mint| mint.decimals));
        let pulled = read.is_some_and(|mint| mint.obstacle(allowed).is_none());
        prop_assert_eq!(can_be_pulled(&info, allowed), pulled);
        prop_assert_eq!(can_move(&info), read.is_some_and(|mint| mint.can_move()));
        if let Some(set) = read.and_then(|mint| mint.extension_set()) {
            let strange = |obstacle| matches!(obstacle, token::MintObstacle::Extension(_));
            prop_assert!(!read.and_then(|mint| mint.obstacle(set)).is_some_and(strange));
        }
    }
}
