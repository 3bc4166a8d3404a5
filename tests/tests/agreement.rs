//! Program, SDK, intent crate and IDL say the same: layouts, discriminators, accounts, errors, codec.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{mem::offset_of, path::PathBuf, process::Command};

use anchor_lang::{AnchorDeserialize, AnchorSerialize, Discriminator};
use serde_json::Value;
use sluice::{instructions::SettleEntry, state};
use sluice_intent::{Entry, Skip};
use sluice_sdk::{
    Address,
    accounts::{self, SluiceAccount},
    instructions::{self, ConfigUpdate},
};
use sluice_tests::{World, WorldOptions, lane_terms};
use solana_instruction::Instruction;
use solana_signer::Signer;

macro_rules! same_layout {
    ($name:ident: $($field:ident),* $(,)?) => {{
        type Program = state::$name;
        type Sdk = accounts::$name;
        assert_eq!(size_of::<Program>(), size_of::<Sdk>(), stringify!($name));
        $(assert_eq!(
            offset_of!(Program, $field),
            offset_of!(Sdk, $field),
            concat!(stringify!($name), ".", stringify!($field)),
        );)*
        // Every field is listed: a struct pattern without `..` does not compile otherwise.
        let Sdk { $($field: _),* } = bytemuck::Zeroable::zeroed();
        let Program { $($field: _),* } = bytemuck::Zeroable::zeroed();
    }};
}

#[test]
fn the_sdk_reads_the_layouts_that_the_program_writes() {
    same_layout!(Config:
        fees_effective_at, admin, pending_admin, guardian, treasury, genesis_hash, max_intent_ttl,
        treasury_bps, pending_treasury_bps, max_facilitator_bps, paused, version, bump, flags, padding,
        reserved);
    same_layout!(AcceptedMint:
        min_amount, max_amount, allowed_extensions, mint, token_program, treasury_token, decimals,
        version, bump, flags, padding, reserved);
    same_layout!(Facilitator:
        created_slot, min_fee_fixed, creator, authority, pending_authority, wallet, relayers, min_fee_bps,
        relayer_count, suspended, version, bump, flags, padding, reserved);
    same_layout!(RecipientShare: held, held_since, owner, token_account, bps, padding);
    same_layout!(Service:
        id, facilitator_fixed, min_payment, held_total, held_treasury, held_facilitator, settled_total,
        payments, created_slot, creator, authority, pending_authority, mint, facilitator, vault,
        terms_hash, recipients, terms_version, facilitator_bps, treasury_bps, recipient_count, status,
        vault_bump, version, bump, flags, padding, reserved);
    same_layout!(HeldBalance:
        amount, held_since, service, owner, mint, rent_payer, version, bump, flags, padding, reserved);
    same_layout!(NonceAccount:
        opened_slot, last_active, spent_total, payer, mint, source, rent_payer, version, bump, flags,
        padding, reserved, lanes);
}

#[test]
fn a_lane_is_the_intent_crates_lane() {
    type Program = state::Lane;
    type Core = sluice_intent::Lane;
    macro_rules! same {
        ($($field:ident),*) => {{
            $(assert_eq!(offset_of!(Program, $field), offset_of!(Core, $field), stringify!($field));)*
            let Core { $($field: _),* } = bytemuck::Zeroable::zeroed();
            let Program { $($field: _),* } = bytemuck::Zeroable::zeroed();
        }};
    }
    same!(
        top,
        window,
        expires_at,
        max_per_payment,
        period_limit,
        period_secs,
        period_start,
        period_spent,
        total_limit,
        total_spent,
        key,
        scope_key,
        scope_kind,
        reserved
    );
}

#[test]
fn sizes_on_chain_never_change() {
    let sizes = [
        ("Config", accounts::Config::size(), 256),
        ("AcceptedMint", accounts::AcceptedMint::size(), 200),
        ("Facilitator", accounts::Facilitator::size(), 480),
        ("Service", accounts::Service::size(), 1_088),
        ("HeldBalance", accounts::HeldBalance::size(), 224),
        ("NonceAccount", accounts::NonceAccount::size(), 616),
    ];
    for (name, size, expected) in sizes {
        assert_eq!(size, expected, "{name}");
    }
}

#[test]
fn discriminators_agree() {
    assert_eq!(
        state::Config::DISCRIMINATOR,
        accounts::Config::discriminator()
    );
    assert_eq!(
        state::AcceptedMint::DISCRIMINATOR,
        accounts::AcceptedMint::discriminator()
    );
    assert_eq!(
        state::Facilitator::DISCRIMINATOR,
        accounts::Facilitator::discriminator()
    );
    assert_eq!(
        state::Service::DISCRIMINATOR,
        accounts::Service::discriminator()
    );
    assert_eq!(
        state::HeldBalance::DISCRIMINATOR,
        accounts::HeldBalance::discriminator()
    );
    assert_eq!(
        state::NonceAccount::DISCRIMINATOR,
        accounts::NonceAccount::discriminator()
    );
    assert_eq!(
        sluice::events::Settled::DISCRIMINATOR,
        accounts::settled_event_discriminator()
    );
    assert_eq!(sluice::ID.to_bytes(), sluice_sdk::PROGRAM_ID.to_bytes());
    assert_eq!(state::FEE_DELAY_SECS, accounts::FEE_DELAY_SECS);
}

#[test]
fn the_programs_entry_is_the_codecs_entry() {
    let bytes: [u8; sluice_intent::ENTRY_LEN] = std::array::from_fn(|i| (i * 7 + 3) as u8);
    let core = Entry::decode(&bytes);
    let program = SettleEntry::try_from_slice(&bytes).unwrap();
    assert_eq!(program.signature, core.signature);
    assert_eq!(program.amount, core.amount);
    assert_eq!(program.nonce, core.nonce);
    assert_eq!(program.expires_at, core.expires_at);
    assert_eq!(program.resource, core.resource);
    assert_eq!(program.flags, core.flags);
    let mut back = Vec::new();
    program.serialize(&mut back).unwrap();
    assert_eq!(back, core.encode());
}

fn idl() -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../idl/sluice.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn the_idl_is_not_stale() {
    let output = Command::new(env!("CARGO_BIN_EXE_idl")).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let fresh: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(
        fresh == idl(),
        "idl/sluice.json is stale: run `make idl` and commit it"
    );
}

#[test]
fn a_strict_error_has_its_skip_codes_name_and_number() {
    let idl = idl();
    let errors = idl["errors"].as_array().unwrap();
    let snake = |name: &str| {
        let mut out = String::new();
        for (i, c) in name.chars().enumerate() {
            if c.is_uppercase() && i > 0 {
                out.push('_');
            }
            out.extend(c.to_lowercase());
        }
        out
    };
    for skip in Skip::ALL {
        let code = 6_000 + u64::from(skip.code());
        let error = errors
            .iter()
            .find(|error| error["code"] == code)
            .expect("an error for each code");
        assert_eq!(snake(error["name"].as_str().unwrap()), skip.name());
        assert!(
            error["msg"].as_str().is_some_and(|text| text.len() > 10),
            "{skip} has no message"
        );
    }
    let skips = errors
        .iter()
        .filter(|error| error["code"].as_u64() < Some(6_100))
        .count();
    assert_eq!(skips, Skip::ALL.len());
}

/// Compares an instruction of the SDK with the IDL: discriminator, accounts, flags.
fn matches_idl(name: &str, instruction: &Instruction, more: usize) {
    let idl = idl();
    let all = idl["instructions"].as_array().unwrap();
    let spec = all
        .iter()
        .find(|spec| spec["name"] == name)
        .expect("in the IDL");
    let discriminator: Vec<u8> = serde_json::from_value(spec["discriminator"].clone()).unwrap();
    assert_eq!(instruction.data[..8], discriminator, "{name}");
    let accounts = spec["accounts"].as_array().unwrap();
    assert_eq!(instruction.accounts.len(), accounts.len() + more, "{name}");
    for (meta, account) in instruction.accounts.iter().zip(accounts) {
        let flag = |key: &str| account[key].as_bool().unwrap_or(false);
        assert_eq!(
            meta.is_signer,
            flag("signer"),
            "{name}: {}",
            account["name"]
        );
        assert_eq!(
            meta.is_writable,
            flag("writable"),
            "{name}: {}",
            account["name"]
        );
        if let Some(address) = account["address"].as_str() {
            assert_eq!(
                meta.pubkey.to_string(),
                address,
                "{name}: {}",
                account["name"]
            );
        }
    }
}

#[test]
fn the_sdk_builds_the_instructions_of_the_idl() {
    let mut world = World::new();
    let payer = world.payer(1_000);
    let key = world.admin.pubkey();
    let mint = world.mint;
    matches_idl("initialize_config", &world.initialize_config(1), 0);
    matches_idl(
        "update_config",
        &instructions::update_config(&key, &ConfigUpdate::default()),
        0,
    );
    matches_idl("set_paused", &instructions::set_paused(&key, true), 0);
    matches_idl(
        "set_treasury",
        &instructions::set_treasury(&key, &key, &[(mint, key)]),
        2,
    );
    let args = instructions::MintArgs {
        settle: true,
        min_amount: 0,
        max_amount: 1,
        allowed_extensions: 0,
    };
    matches_idl(
        "set_mint",
        &instructions::set_mint(&key, &mint, &key, &args),
        0,
    );
    let args = instructions::FacilitatorArgs {
        wallet: [1; 32],
        min_fee_bps: 0,
        min_fee_fixed: 0,
        relayers: vec![[2; 32]],
    };
    matches_idl(
        "register_facilitator",
        &instructions::register_facilitator(&key, &args),
        0,
    );
    matches_idl(
        "create_service",
        &world.service_instruction(2, &WorldOptions::default()),
        0,
    );
    matches_idl(
        "open_nonce",
        &instructions::open_nonce(&key, &payer.key(), &mint, &payer.source),
        0,
    );
    matches_idl(
        "set_lane",
        &instructions::set_lane(&key, &mint, 1, &lane_terms(Address::default())),
        0,
    );
    let item = world.item(&payer, 1, 0);
    matches_idl("settle", &world.settle_instruction(&[item], true), 1 + 2);
}
