//! Token accounts as Sluice needs them: read in place, judged before money moves, moved by `TransferChecked`.
//!
//! What these functions accept, the token program must accept too: settle relies on it to skip one bad
//! entry instead of failing the whole transaction.

use anchor_lang::{
    prelude::*,
    solana_program::{
        instruction::{AccountMeta, Instruction},
        program::invoke_signed_unchecked,
    },
};
use sluice_intent::Skip;

use crate::SluiceError;

/// The classic SPL token program.
pub const TOKEN_PROGRAM: Pubkey = pubkey!("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA");
/// The Token-2022 program.
pub const TOKEN_2022_PROGRAM: Pubkey = pubkey!("TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb");
/// The associated token account program.
pub const ASSOCIATED_TOKEN_PROGRAM: Pubkey =
    pubkey!("ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL");
/// The mint of wrapped SOL.
pub const NATIVE_MINT: Pubkey = pubkey!("So11111111111111111111111111111111111111112");

const MINT_LEN: usize = 82;
const ACCOUNT_LEN: usize = 165;
const STATE_INITIALIZED: u8 = 1;
const STATE_FROZEN: u8 = 2;
const TRANSFER_CHECKED: u8 = 12;

/// The decimals of an initialised classic mint.
pub fn mint_decimals(mint: &AccountInfo<'_>) -> Result<u8> {
    require_keys_neq!(
        *mint.owner,
        TOKEN_2022_PROGRAM,
        SluiceError::Token2022NotAccepted
    );
    require_keys_eq!(*mint.owner, TOKEN_PROGRAM, SluiceError::InvalidMint);
    require_keys_neq!(*mint.key, NATIVE_MINT, SluiceError::NativeMint);
    let data = mint.try_borrow_data()?;
    // 36..44 supply, 44 decimals, 45 is_initialized.
    require!(
        data.len() == MINT_LEN && data[45] == 1,
        SluiceError::InvalidMint
    );
    Ok(data[44])
}

/// A token account's fields at their fixed places.
struct Fields<'a>(&'a [u8; ACCOUNT_LEN]);

impl Fields<'_> {
    fn is_mint(&self, mint: &Pubkey) -> bool {
        self.0[..32] == *mint.as_array()
    }
    fn is_owner(&self, owner: &Pubkey) -> bool {
        self.0[32..64] == *owner.as_array()
    }
    fn amount(&self) -> u64 {
        self.u64_at(64)
    }
    fn is_delegate(&self, delegate: &Pubkey) -> bool {
        self.0[72..76] == [1, 0, 0, 0] && self.0[76..108] == *delegate.as_array()
    }
    fn state(&self) -> u8 {
        self.0[108]
    }
    fn delegated_amount(&self) -> u64 {
        self.u64_at(121)
    }
    fn u64_at(&self, at: usize) -> u64 {
        let mut bytes = [0u8; 8];
        bytes.copy_from_slice(&self.0[at..at + 8]);
        u64::from_le_bytes(bytes)
    }
}

/// The mint and the token program that owns its accounts.
#[derive(Clone, Copy)]
pub struct MintRef<'a> {
    pub mint: &'a Pubkey,
    pub token_program: &'a Pubkey,
}

impl MintRef<'_> {
    /// Whether `account` is an initialised account of the mint that belongs to `owner` and can take money.
    pub fn can_receive(&self, account: &AccountInfo<'_>, owner: &Pubkey) -> bool {
        if account.owner != self.token_program || !account.is_writable {
            return false;
        }
        let Ok(data) = account.try_borrow_data() else {
            return false;
        };
        let Ok(bytes) = <&[u8; ACCOUNT_LEN]>::try_from(&data[..]) else {
            return false;
        };
        let fields = Fields(bytes);
        fields.state() == STATE_INITIALIZED && fields.is_mint(self.mint) && fields.is_owner(owner)
    }

    /// Whether `delegate` can pull `amount` from `source`, which must still belong to `payer`.
    pub fn can_pull(
        &self,
        source: &AccountInfo<'_>,
        payer: &Pubkey,
        delegate: &Pubkey,
        amount: u64,
    ) -> core::result::Result<(), Skip> {
        if source.owner != self.token_program || !source.is_writable {
            return Err(Skip::SourceUnusable);
        }
        let data = source.try_borrow_data().map_err(|_| Skip::SourceUnusable)?;
        let bytes = <&[u8; ACCOUNT_LEN]>::try_from(&data[..]).map_err(|_| Skip::SourceUnusable)?;
        let fields = Fields(bytes);
        if !fields.is_mint(self.mint) {
            return Err(Skip::SourceUnusable);
        }
        match fields.state() {
            STATE_INITIALIZED => {}
            STATE_FROZEN => return Err(Skip::SourceFrozen),
            _ => return Err(Skip::SourceUnusable),
        }
        if !fields.is_owner(payer) {
            return Err(Skip::OwnerChanged);
        }
        if !fields.is_delegate(delegate) {
            return Err(Skip::DelegateGone);
        }
        if fields.delegated_amount() < amount {
            return Err(Skip::DelegatedShort);
        }
        if fields.amount() < amount {
            return Err(Skip::BalanceShort);
        }
        Ok(())
    }
}

/// `TransferChecked` again and again through one instruction and one array of accounts: every move of a
/// settle differs in three keys and an amount only. The fee payer is never among the accounts.
pub struct Transfers<'info> {
    instruction: Instruction,
    accounts: [AccountInfo<'info>; 4],
}

impl<'info> Transfers<'info> {
    /// Transfers of `mint`, which `token_program` owns.
    pub fn new(token_program: Pubkey, mint: &AccountInfo<'info>, decimals: u8) -> Self {
        let mut data = vec![0; 10];
        data[0] = TRANSFER_CHECKED;
        data[9] = decimals;
        Self {
            instruction: Instruction {
                program_id: token_program,
                accounts: vec![
                    AccountMeta::new(*mint.key, false),
                    AccountMeta::new_readonly(*mint.key, false),
                    AccountMeta::new(*mint.key, false),
                    AccountMeta::new_readonly(*mint.key, true),
                ],
                data,
            },
            accounts: [mint.clone(), mint.clone(), mint.clone(), mint.clone()],
        }
    }

    /// Sets who signs for the next moves, and from which account.
    pub fn set_source(&mut self, source: &AccountInfo<'info>, authority: &AccountInfo<'info>) {
        self.instruction.accounts[0].pubkey = *source.key;
        self.instruction.accounts[3].pubkey = *authority.key;
        self.accounts[0] = source.clone();
        self.accounts[3] = authority.clone();
    }

    /// Moves `amount` to `to`. `seeds` are the authority's.
    pub fn send(&mut self, to: &AccountInfo<'info>, amount: u64, seeds: &[&[u8]]) -> Result<()> {
        self.instruction.accounts[2].pubkey = *to.key;
        self.instruction.data[1..9].copy_from_slice(&amount.to_le_bytes());
        self.accounts[2] = to.clone();
        // Unchecked: no account of these is borrowed, and the runtime checks the rest.
        invoke_signed_unchecked(&self.instruction, &self.accounts, &[seeds])?;
        Ok(())
    }
}

/// The associated token account of an owner: where its money of a mint goes, and its bump.
pub fn associated_token_account(owner: &Pubkey, mint: MintRef<'_>) -> (Pubkey, u8) {
    Pubkey::find_program_address(
        &[
            owner.as_ref(),
            mint.token_program.as_ref(),
            mint.mint.as_ref(),
        ],
        &ASSOCIATED_TOKEN_PROGRAM,
    )
}
