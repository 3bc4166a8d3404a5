//! The accounts the validator starts with, byte for byte as the programs on chain would have written them.

use sluice_sdk::{LOADER_V3, SYSTEM_PROGRAM, address, token::TOKEN_PROGRAM};
use solana_account::Account;
use solana_address::Address;

use crate::{USDC_DECIMALS, USDC_MINT};

/// The address of an owner's token account for [`USDC_MINT`].
#[must_use]
pub fn associated_token_address(owner: &Address) -> Address {
    address::token_account(owner, &USDC_MINT, &TOKEN_PROGRAM)
}

/// The address of the account that holds an upgradeable program's code and its upgrade authority.
#[must_use]
pub fn program_data_address(program_id: &Address) -> Address {
    Address::find_program_address(&[program_id.as_ref()], &LOADER_V3).0
}

/// A wallet.
pub(crate) fn wallet(lamports: u64) -> Account {
    account(lamports, Vec::new(), SYSTEM_PROGRAM)
}

/// The mint: no freeze authority.
pub(crate) fn mint(authority: &Address, supply: u64, rent: impl Fn(usize) -> u64) -> Account {
    let mut data = Vec::with_capacity(82);
    data.extend(1u32.to_le_bytes());
    data.extend(authority.as_ref());
    data.extend(supply.to_le_bytes());
    data.push(USDC_DECIMALS);
    data.push(1); // initialised
    data.resize(82, 0); // no freeze authority: a zero tag and an unused address
    account(rent(data.len()), data, TOKEN_PROGRAM)
}

/// A token account without delegate or close authority.
pub(crate) fn token(owner: &Address, amount: u64, rent: impl Fn(usize) -> u64) -> Account {
    let mut data = Vec::with_capacity(165);
    data.extend(USDC_MINT.as_ref());
    data.extend(owner.as_ref());
    data.extend(amount.to_le_bytes());
    data.resize(108, 0); // no delegate
    data.push(1); // initialised
    data.resize(165, 0); // not wrapped SOL, nothing delegated, no close authority
    account(rent(data.len()), data, TOKEN_PROGRAM)
}

/// The code of an upgradeable program, deployed at slot 0.
pub(crate) fn program_data(
    authority: &Address,
    code: &[u8],
    rent: impl Fn(usize) -> u64,
) -> Account {
    let mut data = Vec::with_capacity(45 + code.len());
    data.extend(3u32.to_le_bytes());
    data.extend(0u64.to_le_bytes());
    data.push(1);
    data.extend(authority.as_ref());
    data.extend(code);
    account(rent(data.len()), data, LOADER_V3)
}

/// An upgradeable program.
pub(crate) fn program(program_id: &Address, rent: impl Fn(usize) -> u64) -> Account {
    let mut data = Vec::with_capacity(36);
    data.extend(2u32.to_le_bytes());
    data.extend(program_data_address(program_id).as_ref());
    Account {
        executable: true,
        ..account(rent(data.len()), data, LOADER_V3)
    }
}

fn account(lamports: u64, data: Vec<u8>, owner: Address) -> Account {
    Account {
        lamports,
        data,
        owner,
        executable: false,
        rent_epoch: u64::MAX,
    }
}
