//! SPL tokens as Sluice uses them: reading accounts, opening them, approving a budget.

use solana_instruction::Instruction;
use solana_program_pack::Pack;
use spl_token_interface::{instruction, state};

use crate::{Address, address::token_account};

/// The classic SPL token program.
pub const TOKEN_PROGRAM: Address =
    Address::from_str_const("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA");
/// The Token-2022 program.
pub const TOKEN_2022_PROGRAM: Address =
    Address::from_str_const("TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb");
/// The associated token account program.
pub const ASSOCIATED_TOKEN_PROGRAM: Address =
    Address::from_str_const("ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL");

/// A token account, as far as payments go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenAccount {
    /// The mint.
    pub mint: Address,
    /// The owner.
    pub owner: Address,
    /// Atomic units.
    pub amount: u64,
    /// Who may move how many atomic units.
    pub delegate: Option<(Address, u64)>,
    /// Whether the mint's authority has frozen it.
    pub frozen: bool,
}

/// Reads a token account of the classic program; `None` if it is not an initialised one.
pub fn decode_account(owner: &Address, data: &[u8]) -> Option<TokenAccount> {
    if *owner != TOKEN_PROGRAM {
        return None;
    }
    let account = state::Account::unpack(data).ok()?;
    Some(TokenAccount {
        mint: account.mint,
        owner: account.owner,
        amount: account.amount,
        delegate: Option::from(account.delegate).map(|key| (key, account.delegated_amount)),
        frozen: account.state == state::AccountState::Frozen,
    })
}

/// The decimals of a classic mint; `None` if it is not an initialised one.
pub fn decode_mint_decimals(owner: &Address, data: &[u8]) -> Option<u8> {
    if *owner != TOKEN_PROGRAM {
        return None;
    }
    state::Mint::unpack(data).ok().map(|mint| mint.decimals)
}

/// Opens the associated token account of `owner`, if it is not open yet, at `funder`'s cost.
pub fn create_account(funder: &Address, owner: &Address, mint: &Address) -> Instruction {
    spl_associated_token_account_interface::instruction::create_associated_token_account_idempotent(
        funder,
        owner,
        mint,
        &TOKEN_PROGRAM,
    )
}

/// Lets the nonce account of (`payer`, `mint`) pull up to `amount` in all. Replaces any other approval of
/// the token account, so ask first when there is one. Must be a top-level instruction.
pub fn approve(
    payer: &Address,
    mint: &Address,
    amount: u64,
    decimals: u8,
) -> Result<Instruction, TokenError> {
    let source = token_account(payer, mint, &TOKEN_PROGRAM);
    let (delegate, _) = crate::address::nonce_account(payer, mint);
    instruction::approve_checked(
        &TOKEN_PROGRAM,
        &source,
        mint,
        &delegate,
        payer,
        &[],
        amount,
        decimals,
    )
    .map_err(|error| TokenError(error.to_string()))
}

/// Takes back whatever was approved from the payer's associated token account.
pub fn revoke(payer: &Address, mint: &Address) -> Result<Instruction, TokenError> {
    let source = token_account(payer, mint, &TOKEN_PROGRAM);
    instruction::revoke(&TOKEN_PROGRAM, &source, payer, &[])
        .map_err(|error| TokenError(error.to_string()))
}

/// An instruction of the token program could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the token instruction could not be built: {0}")]
pub struct TokenError(String);
