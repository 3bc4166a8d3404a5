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
use sluice_intent::{
    Skip,
    extension::{self, ACCOUNT_LEN, Holder},
};

use crate::{
    SluiceError,
    error::{ensure, fail},
};

/// The classic SPL token program.
pub const TOKEN_PROGRAM: Pubkey = pubkey!("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA");
/// The Token-2022 program.
pub const TOKEN_2022_PROGRAM: Pubkey = pubkey!("TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb");
/// The associated token account program.
pub const ASSOCIATED_TOKEN_PROGRAM: Pubkey =
    pubkey!("ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL");
/// The mint of wrapped SOL.
pub const NATIVE_MINT: Pubkey = pubkey!("So11111111111111111111111111111111111111112");

/// The Token-2022 program's mint of wrapped SOL.
pub const NATIVE_MINT_2022: Pubkey = pubkey!("9pan9bMn5HatX4EJdBwg9VgCa7Uz5HL8N1m5D3NdXejP");

const STATE_INITIALIZED: u8 = 1;
const STATE_FROZEN: u8 = 2;
const TRANSFER_CHECKED: u8 = 12;

/// [`extension::list`] of data that `token_program` owns.
fn extensions<'a>(data: &'a [u8], holder: Holder, token_program: &Pubkey) -> Option<&'a [u8]> {
    extension::list(data, holder, *token_program == TOKEN_2022_PROGRAM)
}

/// The decimals of an initialised mint of a token program, wrapped SOL excepted.
pub fn mint_decimals(mint: &AccountInfo<'_>) -> Result<u8> {
    let known = *mint.owner == TOKEN_PROGRAM || *mint.owner == TOKEN_2022_PROGRAM;
    ensure(known, SluiceError::InvalidMint)?;
    let native = *mint.key == NATIVE_MINT || *mint.key == NATIVE_MINT_2022;
    ensure(!native, SluiceError::NativeMint)?;
    let data = mint.try_borrow_data()?;
    // 36..44 supply, 44 decimals, 45 is_initialized.
    let is_mint = extensions(&data, Holder::Mint, mint.owner).is_some() && data[45] == 1;
    ensure(is_mint, SluiceError::InvalidMint)?;
    Ok(data[44])
}

/// The decimals of a mint that a service is in.
pub fn decimals(mint: &AccountInfo<'_>) -> Result<u8> {
    let data = mint.try_borrow_data()?;
    let decimals = data.get(44).copied();
    decimals.ok_or_else(|| fail(SluiceError::InvalidMint))
}

/// Fails if `allowed` has an extension that no mint may be accepted with. A classic mint has none.
pub fn require_allowable(allowed: u64, token_program: &Pubkey) -> Result<()> {
    let most = if *token_program == TOKEN_2022_PROGRAM {
        extension::ALLOWABLE
    } else {
        0
    };
    ensure(allowed & !most == 0, SluiceError::InvalidExtensions)
}

/// Whether payers' money may move in this mint as it is now: nothing outside `allowed`, no fee now or announced,
/// no hook, no pause. Read before every pull, because the mint's authorities can change it at any time.
pub fn can_be_pulled(mint: &AccountInfo<'_>, allowed: u64) -> bool {
    all_mint_extensions(mint, |kind, value| {
        extension::takes_no_fee(kind, value)
            && extension::within(kind, allowed)
            && lets_move(kind, value)
    })
}

/// Whether the token program would move this mint's tokens at all. All that an exit asks: a fee that the mint's
/// authority has set since takes its part, but locks nothing in.
pub fn can_move(mint: &AccountInfo<'_>) -> bool {
    all_mint_extensions(mint, lets_move)
}

fn lets_move(kind: u16, value: &[u8]) -> bool {
    extension::calls_no_hook(kind, value) && extension::pauses_nothing(kind, value)
}

fn all_mint_extensions(mint: &AccountInfo<'_>, each: impl FnMut(u16, &[u8]) -> bool) -> bool {
    let Ok(data) = mint.try_borrow_data() else {
        return false;
    };
    // 45 is_initialized: a mint that was closed can be made anew.
    extensions(&data, Holder::Mint, mint.owner)
        .is_some_and(|list| data[45] == 1 && extension::all(list, each))
}

/// A token account's fields at their fixed places.
struct Fields<'a> {
    base: &'a [u8; ACCOUNT_LEN],
    extensions: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Reads the data of an account that `token_program` owns.
    fn parse(data: &'a [u8], token_program: &Pubkey) -> Option<Self> {
        Some(Self {
            base: data.first_chunk()?,
            extensions: extensions(data, Holder::Account, token_program)?,
        })
    }
    fn is_mint(&self, mint: &Pubkey) -> bool {
        self.base[..32] == *mint.as_array()
    }
    fn is_owner(&self, owner: &Pubkey) -> bool {
        self.base[32..64] == *owner.as_array()
    }
    fn amount(&self) -> u64 {
        self.u64_at(64)
    }
    fn is_delegate(&self, delegate: &Pubkey) -> bool {
        self.base[72..76] == [1, 0, 0, 0] && self.base[76..108] == *delegate.as_array()
    }
    fn state(&self) -> u8 {
        self.base[108]
    }
    fn delegated_amount(&self) -> u64 {
        self.u64_at(121)
    }
    fn u64_at(&self, at: usize) -> u64 {
        let mut bytes = [0u8; 8];
        bytes.copy_from_slice(&self.base[at..at + 8]);
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
    /// Whether the token program is one that Sluice knows: then nobody else writes its accounts.
    pub fn is_token_program(&self) -> bool {
        *self.token_program == TOKEN_PROGRAM || *self.token_program == TOKEN_2022_PROGRAM
    }

    /// Whether `account` is an initialised account of the mint that belongs to `owner` and can take money.
    pub fn can_receive(&self, account: &AccountInfo<'_>, owner: &Pubkey) -> bool {
        account.is_writable && self.is_usable(account, owner)
    }

    /// The same for an account that this instruction only notes down.
    pub fn is_usable(&self, account: &AccountInfo<'_>, owner: &Pubkey) -> bool {
        self.is_open(account, owner, extension::lets_in)
    }

    /// Whether `account` is an initialised account of the mint that belongs to `owner` and that money can leave. What it
    /// asks of money that comes in does not matter.
    pub fn is_source(&self, account: &AccountInfo<'_>, owner: &Pubkey) -> bool {
        self.is_open(account, owner, extension::lets_out)
    }

    fn is_open(
        &self,
        account: &AccountInfo<'_>,
        owner: &Pubkey,
        lets: impl FnMut(u16, &[u8]) -> bool,
    ) -> bool {
        if account.owner != self.token_program {
            return false;
        }
        let Ok(data) = account.try_borrow_data() else {
            return false;
        };
        Fields::parse(&data, self.token_program).is_some_and(|fields| {
            fields.state() == STATE_INITIALIZED
                && fields.is_mint(self.mint)
                && fields.is_owner(owner)
                && extension::all(fields.extensions, lets)
        })
    }

    /// Atomic units in an account of the mint; `None` for anything else.
    pub fn balance(&self, account: &AccountInfo<'_>) -> Option<u64> {
        if account.owner != self.token_program {
            return None;
        }
        let data = account.try_borrow_data().ok()?;
        Fields::parse(&data, self.token_program)
            .filter(|fields| fields.is_mint(self.mint))
            .map(|fields| fields.amount())
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
        let fields = Fields::parse(&data, self.token_program).ok_or(Skip::SourceUnusable)?;
        if !fields.is_mint(self.mint) || !extension::all(fields.extensions, extension::lets_out) {
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

/// Most transfers that wait for one call, which takes at most 16 signers.
pub const MOST_WAITING: usize = 16;
/// The classic program's instruction that runs several of its instructions in one call.
const BATCH: u8 = 255;
/// Accounts of a transfer: source, mint, destination, authority.
const TRANSFER_ACCOUNTS: u8 = 4;
/// Bytes of a transfer: instruction, amount, decimals.
const TRANSFER_LEN: u8 = 10;

/// Moves of one mint, by `TransferChecked`. They wait in line and leave together: the classic token program takes
/// many in one call, which saves the cost of a call, about 1,000 compute units, for each but the first. The fee payer
/// is never among the accounts.
pub struct Transfers<'info> {
    instruction: Instruction,
    accounts: Vec<AccountInfo<'info>>,
    mint: AccountInfo<'info>,
    decimals: u8,
    most: usize,
    /// The accounts of the transfer last put in line.
    last: Option<[&'info Pubkey; 3]>,
}

impl<'info> Transfers<'info> {
    /// Transfers of `mint`, which `token_program` owns.
    pub fn new(token_program: &Pubkey, mint: &AccountInfo<'info>, decimals: u8) -> Self {
        Self {
            instruction: Instruction {
                program_id: *token_program,
                accounts: Vec::with_capacity(MOST_WAITING * usize::from(TRANSFER_ACCOUNTS)),
                data: vec![BATCH],
            },
            accounts: Vec::with_capacity(MOST_WAITING * usize::from(TRANSFER_ACCOUNTS)),
            mint: mint.clone(),
            decimals,
            // Not every deployed Token-2022 has such an instruction.
            most: if *token_program == TOKEN_PROGRAM {
                MOST_WAITING
            } else {
                1
            },
            last: None,
        }
    }

    /// Whether the next transfer needs a [`Transfers::send`] first.
    pub fn is_full(&self) -> bool {
        self.instruction.accounts.len() >= self.most * usize::from(TRANSFER_ACCOUNTS)
    }

    /// Puts a transfer in line.
    pub fn push(
        &mut self,
        source: &AccountInfo<'info>,
        to: &AccountInfo<'info>,
        authority: &AccountInfo<'info>,
        amount: u64,
    ) {
        self.instruction.accounts.extend([
            AccountMeta::new(*source.key, false),
            AccountMeta::new_readonly(*self.mint.key, false),
            AccountMeta::new(*to.key, false),
            AccountMeta::new_readonly(*authority.key, true),
        ]);
        // A call needs each account once, and neighbours share most of theirs.
        let before = self.last.replace([source.key, to.key, authority.key]);
        if before.is_none() {
            self.accounts.push(self.mint.clone());
        }
        for (i, account) in [source, to, authority].into_iter().enumerate() {
            if before.is_none_or(|keys| !core::ptr::eq(keys[i], account.key)) {
                self.accounts.push(account.clone());
            }
        }
        let data = &mut self.instruction.data;
        data.extend([TRANSFER_ACCOUNTS, TRANSFER_LEN, TRANSFER_CHECKED]);
        data.extend(amount.to_le_bytes());
        data.push(self.decimals);
    }

    /// Makes the transfers in line. `signers` are their authorities' seeds.
    pub fn send(&mut self, signers: &[&[&[u8]]]) -> Result<()> {
        match self.instruction.accounts.len() / usize::from(TRANSFER_ACCOUNTS) {
            0 => return Ok(()),
            // A call of its own is a little cheaper, and all that every Token-2022 knows.
            1 => {
                self.instruction.data.drain(..3);
            }
            _ => {}
        }
        // Unchecked: no account of these is borrowed, and the runtime checks the rest.
        invoke_signed_unchecked(&self.instruction, &self.accounts, signers)?;
        self.instruction.accounts.clear();
        self.accounts.clear();
        self.last = None;
        self.instruction.data.clear();
        self.instruction.data.push(BATCH);
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
