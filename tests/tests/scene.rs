//! The accounts around the entries: who may settle, where money may go, which programs may move it. A wrong
//! one is the relayer's fault, so it fails the whole transaction and spends nothing but the fee.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use sluice_sdk::{
    Address, PROGRAM_ID, address, instructions,
    token::{TOKEN_2022_PROGRAM, TOKEN_PROGRAM},
};
use sluice_tests::{Payer, World};
use solana_keypair::Keypair;
use solana_signer::Signer;

const CONFIG: usize = 1;
const ACCEPTED_MINT: usize = 2;
const FACILITATOR: usize = 3;
const SERVICE: usize = 4;
const MINT: usize = 5;
const VAULT: usize = 6;
const TREASURY: usize = 7;
const TOKEN: usize = 9;
const RECIPIENT: usize = 10;

fn scene() -> (World, Payer) {
    let mut world = World::with_recipients(&[5_000, 5_000]);
    let payer = world.payer(1_000_000);
    (world, payer)
}

/// Settles with one account replaced, and gives the program's error number.
fn with_account(world: &mut World, payer: &Payer, index: usize, key: Address) -> Option<u32> {
    let item = world.item(payer, 1_000, 0);
    let mut instruction = world.settle_instruction(&[item], true);
    instruction.accounts[index].pubkey = key;
    let before = world.balance(&payer.source);
    let failure = world.send_as_relayer(&[instruction]).unwrap_err();
    assert_eq!(world.balance(&payer.source), before);
    failure.custom()
}

/// A copy of an account at another address, owned by `owner`.
fn copy(world: &mut World, from: Address, owner: Address) -> Address {
    let key = Address::new_unique();
    let data = world.svm.get_account(&from).unwrap().data;
    world.put(key, data, owner);
    key
}

#[test]
fn unregistered_relayer() {
    let (mut world, payer) = scene();
    world.relayer = Keypair::new();
    world
        .svm
        .airdrop(&world.relayer.pubkey(), 1_000_000_000)
        .unwrap();
    let item = world.item(&payer, 1_000, 0);
    assert_eq!(
        world.settle(&[item], true).unwrap_err().custom(),
        Some(6_104)
    );
}

#[test]
fn the_payer_cannot_settle_around_the_facilitator() {
    let (mut world, payer) = scene();
    let item = world.item(&payer, 1_000, 0);
    world.svm.airdrop(&payer.key(), 1_000_000_000).unwrap();
    let accounts = world.settle_accounts(&world.service);
    let instruction = instructions::settle(&payer.key(), &accounts, &[item], true);
    assert_eq!(
        world
            .send(&[instruction], &[&payer.wallet])
            .unwrap_err()
            .custom(),
        Some(6_104)
    );
}

#[test]
fn the_relayer_must_sign() {
    let (mut world, payer) = scene();
    let item = world.item(&payer, 1_000, 0);
    let mut instruction = world.settle_instruction(&[item], true);
    instruction.accounts[0].is_signer = false;
    let stranger = Keypair::new();
    world
        .svm
        .airdrop(&stranger.pubkey(), 1_000_000_000)
        .unwrap();
    // 3010: Anchor's "the given account did not sign".
    assert_eq!(
        world
            .send(&[instruction], &[&stranger])
            .unwrap_err()
            .custom(),
        Some(3_010)
    );
}

#[test]
fn another_facilitators_relayer() {
    let (mut world, payer) = scene();
    let (operator, relayer) = (Keypair::new(), Keypair::new());
    for key in [&operator, &relayer] {
        world.svm.airdrop(&key.pubkey(), 1_000_000_000).unwrap();
    }
    let args = instructions::FacilitatorArgs {
        wallet: operator.pubkey().to_bytes(),
        min_fee_bps: 0,
        min_fee_fixed: 0,
        relayers: vec![relayer.pubkey().to_bytes()],
    };
    let register = instructions::register_facilitator(&operator.pubkey(), &args);
    world.send(&[register], &[&operator]).unwrap();
    let own = address::facilitator(&operator.pubkey()).0;
    world.relayer = relayer;
    // With its own facilitator it is not the service's; with the service's it is not registered.
    assert_eq!(
        with_account(&mut world, &payer, FACILITATOR, own),
        Some(6_105)
    );
    let item = world.item(&payer, 1_000, 0);
    let mut accounts = world.settle_accounts(&world.service);
    accounts.facilitator = address::facilitator(&world.operator.pubkey()).0;
    let instruction = instructions::settle(&world.relayer.pubkey(), &accounts, &[item], true);
    assert_eq!(
        world.send_as_relayer(&[instruction]).unwrap_err().custom(),
        Some(6_104)
    );
}

#[test]
fn paused() {
    let (mut world, payer) = scene();
    let item = world.item(&payer, 1_000, 0);
    let (guardian, admin) = (
        world.guardian.insecure_clone(),
        world.admin.insecure_clone(),
    );
    world
        .send(
            &[instructions::set_paused(&guardian.pubkey(), true)],
            &[&guardian],
        )
        .unwrap();
    assert_eq!(
        world.settle(&[item], true).unwrap_err().custom(),
        Some(6_100)
    );
    let resume = instructions::set_paused(&guardian.pubkey(), false);
    assert_eq!(
        world.send(&[resume], &[&guardian]).unwrap_err().custom(),
        Some(6_122)
    );
    world
        .send(
            &[instructions::set_paused(&admin.pubkey(), false)],
            &[&admin],
        )
        .unwrap();
    assert_eq!(world.settle(&[item], true).unwrap().codes, [0]);
}

#[test]
fn suspended_facilitator() {
    let (mut world, payer) = scene();
    let key = world.facilitator();
    let mut account = world.svm.get_account(&key).unwrap();
    // 8 discriminator, 16 numbers, 128 keys, 256 relayers, u16 bps, u8 count, then `suspended`.
    account.data[8 + 16 + 128 + 256 + 3] = 1;
    world.svm.set_account(key, account).unwrap();
    let item = world.item(&payer, 1_000, 0);
    assert_eq!(
        world.settle(&[item], true).unwrap_err().custom(),
        Some(6_101)
    );
}

#[test]
fn fake_config() {
    let (mut world, payer) = scene();
    let fake = copy(&mut world, address::config().0, TOKEN_PROGRAM);
    // Another account of the program is no config either.
    assert_eq!(with_account(&mut world, &payer, CONFIG, fake), Some(6_134));
    let service = world.service;
    assert_eq!(
        with_account(&mut world, &payer, CONFIG, service),
        Some(6_134)
    );
}

#[test]
fn fake_service() {
    let (mut world, payer) = scene();
    let service = world.service;
    let fake = copy(&mut world, service, TOKEN_PROGRAM);
    assert_eq!(with_account(&mut world, &payer, SERVICE, fake), Some(6_134));
}

#[test]
fn wrong_facilitator() {
    let (mut world, payer) = scene();
    let facilitator = world.facilitator();
    let fake = copy(&mut world, facilitator, TOKEN_PROGRAM);
    assert_eq!(
        with_account(&mut world, &payer, FACILITATOR, fake),
        Some(6_134)
    );
}

#[test]
fn wrong_mint() {
    let (mut world, payer) = scene();
    let mint = world.mint;
    let other = copy(&mut world, mint, TOKEN_PROGRAM);
    assert_eq!(with_account(&mut world, &payer, MINT, other), Some(6_106));
    let accepted = address::accepted_mint(&mint).0;
    let fake = copy(&mut world, accepted, TOKEN_PROGRAM);
    assert_eq!(
        with_account(&mut world, &payer, ACCEPTED_MINT, fake),
        Some(6_134)
    );
}

#[test]
fn another_accepted_mint() {
    let (mut world, payer) = scene();
    let usual = world.mint;
    let other = copy(&mut world, usual, TOKEN_PROGRAM);
    world.mint = other;
    world.open_token(world.treasury, 0);
    world.set_mint(true);
    world.mint = usual;
    let accepted = address::accepted_mint(&other).0;
    assert_eq!(
        with_account(&mut world, &payer, ACCEPTED_MINT, accepted),
        Some(6_106)
    );
}

#[test]
fn wrong_vault() {
    let (mut world, payer) = scene();
    let other = world.open_token(world.relayer.pubkey(), 0);
    assert_eq!(with_account(&mut world, &payer, VAULT, other), Some(6_107));
}

#[test]
fn wrong_treasury() {
    let (mut world, payer) = scene();
    let own = world.open_token(world.relayer.pubkey(), 0);
    assert_eq!(with_account(&mut world, &payer, TREASURY, own), Some(6_109));
}

#[test]
fn wrong_destinations() {
    let (mut world, payer) = scene();
    let own = world.open_token(world.relayer.pubkey(), 0);
    assert_eq!(
        with_account(&mut world, &payer, RECIPIENT, own),
        Some(6_108)
    );
    assert_eq!(
        with_account(&mut world, &payer, RECIPIENT + 1, own),
        Some(6_108)
    );
    // Swapped recipients, too.
    let item = world.item(&payer, 1_000, 0);
    let mut instruction = world.settle_instruction(&[item], true);
    instruction.accounts.swap(RECIPIENT, RECIPIENT + 1);
    assert_eq!(
        world.send_as_relayer(&[instruction]).unwrap_err().custom(),
        Some(6_108)
    );
}

#[test]
fn a_facilitator_account_of_somebody_else_gets_nothing() {
    let (mut world, payer) = scene();
    let stranger = world.open_token(Address::new_unique(), 0);
    let item = world.item(&payer, 10_000, 0);
    let mut accounts = world.settle_accounts(&world.service);
    accounts.facilitator_token = stranger;
    let instruction = instructions::settle(&world.relayer.pubkey(), &accounts, &[item], true);
    let event = world.send_as_relayer(&[instruction]).unwrap().event();
    assert_eq!(
        event.held,
        1 << 9,
        "the facilitator's leg is held for the facilitator"
    );
    assert_eq!(world.balance(&stranger), 0);
    assert_eq!(
        world.service_account(&world.service).held_facilitator,
        event.facilitator
    );
}

#[test]
fn fake_token_program() {
    let (mut world, payer) = scene();
    assert_eq!(
        with_account(&mut world, &payer, TOKEN, PROGRAM_ID),
        Some(6_110)
    );
    assert_eq!(
        with_account(&mut world, &payer, TOKEN, TOKEN_2022_PROGRAM),
        Some(6_110)
    );
}

#[test]
fn missing_and_extra_accounts() {
    let (mut world, payer) = scene();
    let item = world.item(&payer, 1_000, 0);
    for change in [-1i32, 1] {
        let mut instruction = world.settle_instruction(&[item], true);
        if change < 0 {
            instruction.accounts.pop();
        } else {
            instruction
                .accounts
                .push(instruction.accounts[TOKEN].clone());
        }
        assert_eq!(
            world.send_as_relayer(&[instruction]).unwrap_err().custom(),
            Some(6_111)
        );
    }
    let empty = world.settle_instruction(&[], false);
    assert_eq!(
        world.send_as_relayer(&[empty]).unwrap_err().custom(),
        Some(6_111)
    );
}

#[test]
fn truncated_and_trailing_data_is_refused_or_harmless() {
    let (mut world, payer) = scene();
    let item = world.item(&payer, 1_000, 0);
    let full = world.settle_instruction(&[item], true);
    for len in [0, 7, 8, 9, 12, 13, full.data.len() - 1] {
        let mut instruction = full.clone();
        instruction.data.truncate(len);
        assert!(
            world.send_as_relayer(&[instruction]).is_err(),
            "{len} bytes"
        );
    }
    let mut instruction = full.clone();
    instruction.data[9..13].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(
        world.send_as_relayer(&[instruction]).is_err(),
        "a count beyond the data"
    );
}

#[test]
fn a_closed_service() {
    let (mut world, payer) = scene();
    let key = world.service;
    let mut account = world.svm.get_account(&key).unwrap();
    // 8 discriminator, 72 counters, 224 keys, 704 recipients, u32 + 2 × u16, u8 count, then `status`.
    account.data[8 + 72 + 224 + 704 + 9] = 2;
    world.svm.set_account(key, account).unwrap();
    let item = world.item(&payer, 1_000, 0);
    assert_eq!(
        world.settle(&[item], true).unwrap_err().custom(),
        Some(6_103)
    );
}

#[test]
fn the_fee_payer_is_in_no_inner_instruction() {
    // The only programs that settle calls are the token program's, with source, mint, destination and
    // authority: none of them is the relayer.
    let (mut world, payer) = scene();
    let before = world.svm.get_balance(&world.relayer.pubkey()).unwrap();
    let item = world.item(&payer, 1_000, 0);
    let outcome = world.settle(&[item], true).unwrap();
    let called: std::collections::BTreeSet<_> = outcome
        .logs
        .iter()
        .filter_map(|line| line.strip_prefix("Program ")?.split_once(" invoke [2]"))
        .map(|(program, _)| program.to_owned())
        .collect();
    assert_eq!(
        called.into_iter().collect::<Vec<_>>(),
        [TOKEN_PROGRAM.to_string()]
    );
    assert_eq!(
        before - world.svm.get_balance(&world.relayer.pubkey()).unwrap(),
        5_000
    );
}
