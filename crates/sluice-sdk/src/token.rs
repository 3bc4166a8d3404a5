//! SPL tokens as Sluice uses them, of the classic program and of Token-2022: reading mints and accounts with the
//! program's own judgement, opening accounts, approving a budget.
//!
//! What extensions mean is decided in `sluice_intent::extension`, for the program and for this; a test holds the rest of
//! the judgement against `programs/sluice/src/token.rs`.

use sluice_intent::extension::{self, Holder};
use solana_instruction::{AccountMeta, Instruction};

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

/// Extensions of a Token-2022 mint that the admin may allow, a bit for each number.
pub use sluice_intent::extension::ALLOWABLE as ALLOWABLE_EXTENSIONS;

/// Instructions of the token programs.
const REVOKE: u8 = 5;
const APPROVE_CHECKED: u8 = 13;

/// Whether a key is one of the two token programs.
pub fn is_token_program(key: &Address) -> bool {
    *key == TOKEN_PROGRAM || *key == TOKEN_2022_PROGRAM
}

/// The name of a Token-2022 mint extension, if this version knows it.
pub fn extension_name(kind: u16) -> Option<&'static str> {
    Some(match kind {
        1 => "transfer fee",
        3 => "mint close authority",
        4 => "confidential transfer",
        6 => "default account state",
        9 => "non-transferable",
        10 => "interest",
        12 => "permanent delegate",
        14 => "transfer hook",
        16 => "confidential transfer fee",
        18 => "metadata pointer",
        19 => "metadata",
        20 => "group pointer",
        21 => "group",
        22 => "group member pointer",
        23 => "group member",
        24 => "confidential mint and burn",
        25 => "scaled amounts",
        26 => "pausable",
        28 => "permissioned burn",
        _ => return None,
    })
}

/// [`extension::list`] of data that `program` owns; `None` if that is no token program.
fn list<'a>(data: &'a [u8], holder: Holder, program: &Address) -> Option<&'a [u8]> {
    extension::list(data, holder, *program == TOKEN_2022_PROGRAM)
        .filter(|_| is_token_program(program))
}

fn key_at(data: &[u8], at: usize) -> Option<Address> {
    let bytes = data.get(at..)?.first_chunk::<32>()?;
    Some(Address::new_from_array(*bytes))
}

fn number_at(data: &[u8], at: usize) -> Option<u64> {
    let bytes = data.get(at..)?.first_chunk::<8>()?;
    Some(u64::from_le_bytes(*bytes))
}

/// A mint, as far as payments go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mint {
    /// The program that owns the mint and its accounts.
    pub token_program: Address,
    /// Decimals of an amount.
    pub decimals: u8,
    /// Numbers of the extensions that it carries; a classic mint has none.
    pub extensions: Vec<u16>,
    /// It takes a fee of transfers now, or will by what is announced.
    pub fee: bool,
    /// It has every transfer call another program.
    pub hook: bool,
    /// Its authority has stopped every transfer.
    pub paused: bool,
    /// Its extensions could be read to the last.
    pub readable: bool,
}

/// Why the program pulls nothing from payers in a mint, and accepts it not to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MintObstacle {
    /// Its extensions cannot be read.
    #[error("its extensions cannot be read")]
    Unreadable,
    /// It carries an extension that is not allowed.
    #[error("it carries extension {0} ({name}), which is not allowed", name = extension_name(*.0).unwrap_or("unknown"))]
    Extension(u16),
    /// It takes a fee of transfers, or will.
    #[error("it takes a fee of transfers, or will by what is announced")]
    Fee,
    /// It has every transfer call another program.
    #[error("every transfer calls another program")]
    Hook,
    /// It is paused.
    #[error("its authority has paused it")]
    Paused,
}

impl Mint {
    /// What keeps payers' money from moving in the mint as it is now, if only the extensions in `allowed` may be
    /// there ([`crate::accounts::AcceptedMint::allowed_extensions`]). `None` when nothing does.
    pub fn obstacle(&self, allowed: u64) -> Option<MintObstacle> {
        if !self.readable {
            return Some(MintObstacle::Unreadable);
        }
        let strange = self
            .extensions
            .iter()
            .find(|kind| !extension::within(**kind, allowed));
        match strange {
            Some(kind) => Some(MintObstacle::Extension(*kind)),
            None if self.fee => Some(MintObstacle::Fee),
            None if self.hook => Some(MintObstacle::Hook),
            None if self.paused => Some(MintObstacle::Paused),
            None => None,
        }
    }

    /// Whether money that is in a vault can leave it.
    pub fn can_move(&self) -> bool {
        self.readable && !self.hook && !self.paused
    }

    /// The extensions as a set, to be allowed; `None` if one of them never can be.
    pub fn extension_set(&self) -> Option<u64> {
        let allowable = |kind: &u16| extension::within(*kind, ALLOWABLE_EXTENSIONS);
        (self.readable && self.extensions.iter().all(allowable))
            .then(|| self.extensions.iter().fold(0, |set, kind| set | 1 << kind))
    }
}

/// Reads a mint of either program; `None` if it is not an initialised one.
pub fn decode_mint(owner: &Address, data: &[u8]) -> Option<Mint> {
    let list = list(data, Holder::Mint, owner)?;
    if *data.get(45)? != 1 {
        return None;
    }
    let mut mint = Mint {
        token_program: *owner,
        decimals: *data.get(44)?,
        extensions: Vec::new(),
        fee: false,
        hook: false,
        paused: false,
        readable: false,
    };
    mint.readable = extension::all(list, |kind, value| {
        mint.extensions.push(kind);
        mint.fee |= !extension::takes_no_fee(kind, value);
        mint.hook |= !extension::calls_no_hook(kind, value);
        mint.paused |= !extension::pauses_nothing(kind, value);
        true
    });
    Some(mint)
}

/// A token account, as far as payments go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenAccount {
    /// The program that owns it.
    pub token_program: Address,
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
    /// Its extensions let money out: the program knows all of them.
    pub lets_out: bool,
    /// They let money in, too: without a memo, and in the open.
    pub lets_in: bool,
}

impl TokenAccount {
    /// Whether a payment can be pulled from it, by everything but its delegate and what it holds.
    pub fn can_send(&self) -> bool {
        self.lets_out && !self.frozen
    }

    /// Whether a leg can be paid to it; what it cannot take is held for its owner.
    pub fn can_receive(&self) -> bool {
        self.lets_in && !self.frozen
    }

    /// Who would lose an approval, and of how much, by approving `nonce_account`: an account has one delegate.
    pub fn other_delegate(&self, nonce_account: &Address) -> Option<(Address, u64)> {
        self.delegate
            .filter(|(delegate, amount)| delegate != nonce_account && *amount > 0)
    }
}

/// Reads a token account of either program; `None` if it is not an initialised one.
pub fn decode_account(owner: &Address, data: &[u8]) -> Option<TokenAccount> {
    let list = list(data, Holder::Account, owner)?;
    let frozen = match data.get(108)? {
        1 => false,
        2 => true,
        _ => return None,
    };
    let approved = data.get(72..76)? == [1, 0, 0, 0];
    Some(TokenAccount {
        token_program: *owner,
        mint: key_at(data, 0)?,
        owner: key_at(data, 32)?,
        amount: number_at(data, 64)?,
        delegate: if approved {
            Some((key_at(data, 76)?, number_at(data, 121)?))
        } else {
            None
        },
        frozen,
        lets_out: extension::all(list, extension::lets_out),
        lets_in: extension::all(list, extension::lets_in),
    })
}

/// Opens the associated token account of `owner`, if it is not open yet, at `funder`'s cost.
pub fn create_account(
    funder: &Address,
    owner: &Address,
    mint: &Address,
    token_program: &Address,
) -> Instruction {
    spl_associated_token_account_interface::instruction::create_associated_token_account_idempotent(
        funder,
        owner,
        mint,
        token_program,
    )
}

/// Lets the nonce account of (`payer`, `mint`) pull up to `amount` in all. Replaces any other approval of
/// the token account, so ask first when there is one ([`TokenAccount::other_delegate`]). Must be a top-level
/// instruction: an account with a CPI guard takes no approval from a program.
pub fn approve(
    payer: &Address,
    mint: &Address,
    token_program: &Address,
    amount: u64,
    decimals: u8,
) -> Instruction {
    let mut data = vec![APPROVE_CHECKED];
    data.extend(amount.to_le_bytes());
    data.push(decimals);
    Instruction {
        program_id: *token_program,
        accounts: vec![
            AccountMeta::new(token_account(payer, mint, token_program), false),
            AccountMeta::new_readonly(*mint, false),
            AccountMeta::new_readonly(crate::address::nonce_account(payer, mint).0, false),
            AccountMeta::new_readonly(*payer, true),
        ],
        data,
    }
}

/// Takes back whatever was approved from the payer's associated token account.
pub fn revoke(payer: &Address, mint: &Address, token_program: &Address) -> Instruction {
    Instruction {
        program_id: *token_program,
        accounts: vec![
            AccountMeta::new(token_account(payer, mint, token_program), false),
            AccountMeta::new_readonly(*payer, true),
        ],
        data: vec![REVOKE],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_intent::extension::{ACCOUNT_LEN, within};

    const KIND_MINT: u8 = Holder::Mint as u8;
    const KIND_ACCOUNT: u8 = Holder::Account as u8;

    fn key(byte: u8) -> Address {
        Address::new_from_array([byte; 32])
    }

    fn entry(kind: u16, value: &[u8]) -> Vec<u8> {
        let len = value.len() as u16;
        [&kind.to_le_bytes()[..], &len.to_le_bytes(), value].concat()
    }

    fn mint(list: &[Vec<u8>]) -> Vec<u8> {
        let mut data = vec![0; 82];
        data[44] = 6;
        data[45] = 1;
        if !list.is_empty() {
            data.resize(ACCOUNT_LEN, 0);
            data.push(KIND_MINT);
            data.extend(list.concat());
        }
        data
    }

    fn account(list: &[Vec<u8>]) -> Vec<u8> {
        let mut data = vec![0; ACCOUNT_LEN];
        data[..32].fill(1);
        data[32..64].fill(2);
        data[64] = 50;
        data[72] = 1;
        data[76..108].fill(3);
        data[108] = 1;
        data[121] = 40;
        if !list.is_empty() {
            data.push(KIND_ACCOUNT);
            data.extend(list.concat());
        }
        data
    }

    fn read_mint(list: &[Vec<u8>]) -> Mint {
        decode_mint(&TOKEN_2022_PROGRAM, &mint(list)).unwrap_or_else(|| unreachable!())
    }

    #[test]
    fn mints_of_both_programs() {
        for program in [TOKEN_PROGRAM, TOKEN_2022_PROGRAM] {
            let read = decode_mint(&program, &mint(&[]));
            let read = read.filter(|mint| mint.decimals == 6 && mint.extensions.is_empty());
            assert!(read.is_some_and(|mint| mint.obstacle(0).is_none() && mint.can_move()));
        }
        let pointer = [entry(18, &[0; 64])];
        assert_eq!(decode_mint(&TOKEN_PROGRAM, &mint(&pointer)), None);
        assert_eq!(decode_mint(&key(7), &mint(&[])), None);
        assert_eq!(decode_mint(&TOKEN_PROGRAM, &[0; 82]), None);
        assert_eq!(decode_mint(&TOKEN_PROGRAM, &[]), None);
        assert_eq!(decode_mint(&TOKEN_2022_PROGRAM, &account(&[])), None);
    }

    #[test]
    fn what_stops_a_mint() {
        let fee = |older: u8, newer: u8| {
            let mut value = [0; 108];
            (value[88], value[106]) = (older, newer);
            read_mint(&[entry(1, &value)])
        };
        assert_eq!(fee(0, 0).obstacle(1 << 1), None);
        assert_eq!(fee(1, 0).obstacle(1 << 1), Some(MintObstacle::Fee));
        assert_eq!(fee(0, 1).obstacle(1 << 1), Some(MintObstacle::Fee));
        assert!(fee(1, 1).can_move());
        assert_eq!(fee(0, 0).obstacle(0), Some(MintObstacle::Extension(1)));

        let mut hook = [0; 64];
        hook[..32].fill(9);
        assert_eq!(read_mint(&[entry(14, &hook)]).obstacle(1 << 14), None);
        hook[63] = 1;
        let hooked = read_mint(&[entry(14, &hook)]);
        assert_eq!(hooked.obstacle(1 << 14), Some(MintObstacle::Hook));
        assert!(!hooked.can_move());

        let mut pause = [9; 33];
        pause[32] = 0;
        assert_eq!(read_mint(&[entry(26, &pause)]).obstacle(1 << 26), None);
        pause[32] = 1;
        let paused = read_mint(&[entry(26, &pause)]);
        assert_eq!(paused.obstacle(1 << 26), Some(MintObstacle::Paused));
        assert!(!paused.can_move());

        // Past the width of a set, where 82 looks like 18.
        let strange = read_mint(&[entry(82, &[])]);
        assert_eq!(
            strange.obstacle(u64::MAX),
            Some(MintObstacle::Extension(82))
        );
        assert_eq!(strange.extension_set(), None);
        let known = read_mint(&[entry(18, &[0; 64]), entry(3, &[0; 32])]);
        assert_eq!(known.extension_set(), Some(1 << 18 | 1 << 3));
        for broken in [vec![18, 0, 9, 0, 1], vec![18, 0, 1]] {
            let mint = read_mint(&[broken]);
            assert_eq!(mint.obstacle(u64::MAX), Some(MintObstacle::Unreadable));
            assert!(!mint.can_move() && mint.extension_set().is_none());
        }
    }

    #[test]
    fn an_obstacle_says_which_extension() {
        let text = MintObstacle::Extension(12).to_string();
        assert_eq!(
            text,
            "it carries extension 12 (permanent delegate), which is not allowed"
        );
        let text = MintObstacle::Extension(999).to_string();
        assert!(text.contains("999 (unknown)"), "{text}");
    }

    #[test]
    fn every_extension_that_can_be_allowed_has_a_name() {
        for kind in 0..64 {
            let allowable = within(kind, ALLOWABLE_EXTENSIONS);
            assert!(!allowable || extension_name(kind).is_some(), "{kind}");
        }
    }

    #[test]
    fn accounts_of_both_programs() {
        let expected = |token_program| TokenAccount {
            token_program,
            mint: key(1),
            owner: key(2),
            amount: 50,
            delegate: Some((key(3), 40)),
            frozen: false,
            lets_out: true,
            lets_in: true,
        };
        for program in [TOKEN_PROGRAM, TOKEN_2022_PROGRAM] {
            assert_eq!(
                decode_account(&program, &account(&[])),
                Some(expected(program))
            );
        }
        assert_eq!(decode_account(&key(7), &account(&[])), None);
        let owner = [entry(7, &[])];
        assert_eq!(decode_account(&TOKEN_PROGRAM, &account(&owner)), None);
        assert_eq!(
            decode_account(&TOKEN_2022_PROGRAM, &account(&owner)),
            Some(expected(TOKEN_2022_PROGRAM))
        );
        let mut frozen = account(&[]);
        frozen[108] = 2;
        let frozen = decode_account(&TOKEN_PROGRAM, &frozen);
        assert!(frozen.is_some_and(|a| a.frozen && !a.can_send() && !a.can_receive()));
        let mut unborn = account(&[]);
        unborn[108] = 0;
        assert_eq!(decode_account(&TOKEN_PROGRAM, &unborn), None);
    }

    #[test]
    fn what_an_accounts_extensions_let_through() {
        let lets = |list: &[Vec<u8>]| {
            let read = decode_account(&TOKEN_2022_PROGRAM, &account(list));
            read.map(|account| (account.can_send(), account.can_receive()))
        };
        let confidential = |open: u8| {
            let mut value = [0; 295];
            (value[261], value[262]) = (1, open);
            entry(5, &value)
        };
        assert_eq!(lets(&[entry(8, &[0]), confidential(1)]), Some((true, true)));
        assert_eq!(lets(&[entry(8, &[1])]), Some((true, false)));
        assert_eq!(lets(&[confidential(0)]), Some((true, false)));
        assert_eq!(lets(&[entry(11, &[1])]), Some((true, true)));
        for kind in [1, 13, 28, 71, 999] {
            assert_eq!(lets(&[entry(kind, &[])]), Some((false, false)), "{kind}");
        }
        assert_eq!(lets(&[vec![8, 0, 2, 0, 0]]), Some((false, false)));
        assert_eq!(lets(&[vec![0; 190 - 1]]), None, "a multisig's length");
    }

    #[test]
    fn another_protocols_approval_is_told() {
        let read = decode_account(&TOKEN_PROGRAM, &account(&[]));
        let other = |nonce| read.and_then(|account| account.other_delegate(&nonce));
        assert_eq!(other(key(9)), Some((key(3), 40)));
        assert_eq!(other(key(3)), None);
    }

    #[test]
    fn instructions_name_the_mints_program() {
        for program in [TOKEN_PROGRAM, TOKEN_2022_PROGRAM] {
            let source = token_account(&key(2), &key(1), &program);
            let approve = approve(&key(2), &key(1), &program, 7, 6);
            let revoke = revoke(&key(2), &key(1), &program);
            let open = create_account(&key(5), &key(2), &key(1), &program);
            assert_eq!((approve.program_id, revoke.program_id), (program, program));
            assert_eq!(approve.data, [13, 7, 0, 0, 0, 0, 0, 0, 0, 6]);
            assert_eq!(approve.accounts[0].pubkey, source);
            assert_eq!(revoke.accounts[0].pubkey, source);
            assert_eq!(open.accounts[1].pubkey, source);
            assert_eq!(open.accounts[5].pubkey, program);
        }
    }
}
