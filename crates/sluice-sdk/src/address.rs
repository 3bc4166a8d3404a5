//! The program's derived addresses. Each function gives the address and its bump.

use crate::{Address, LOADER_V3, PROGRAM_ID};

/// The config, at `["config"]`.
pub fn config() -> (Address, u8) {
    Address::find_program_address(&[b"config"], &PROGRAM_ID)
}

/// The acceptance of a mint, at `["mint", mint]`.
pub fn accepted_mint(mint: &Address) -> (Address, u8) {
    Address::find_program_address(&[b"mint", mint.as_ref()], &PROGRAM_ID)
}

/// A facilitator, at `["facilitator", creator]`.
pub fn facilitator(creator: &Address) -> (Address, u8) {
    Address::find_program_address(&[b"facilitator", creator.as_ref()], &PROGRAM_ID)
}

/// A service, at `["service", creator, id]`.
pub fn service(creator: &Address, id: u64) -> (Address, u8) {
    let seeds: [&[u8]; 3] = [b"service", creator.as_ref(), &id.to_le_bytes()];
    Address::find_program_address(&seeds, &PROGRAM_ID)
}

/// A payer's nonce account in one mint, at `["nonce", payer, mint]`.
pub fn nonce_account(payer: &Address, mint: &Address) -> (Address, u8) {
    Address::find_program_address(&[b"nonce", payer.as_ref(), mint.as_ref()], &PROGRAM_ID)
}

/// What a replaced recipient is still owed, at `["held", service, owner]`.
pub fn held_balance(service: &Address, owner: &Address) -> (Address, u8) {
    Address::find_program_address(&[b"held", service.as_ref(), owner.as_ref()], &PROGRAM_ID)
}

/// The loader's data account of the program, which names the upgrade authority.
pub fn program_data() -> (Address, u8) {
    Address::find_program_address(&[PROGRAM_ID.as_ref()], &LOADER_V3)
}

/// The associated token account of an owner for a mint of `token_program`.
pub fn token_account(owner: &Address, mint: &Address, token_program: &Address) -> Address {
    spl_associated_token_account_interface::address::get_associated_token_address_with_program_id(
        owner,
        mint,
        token_program,
    )
}
