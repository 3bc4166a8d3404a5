//! Extensions of Token-2022: the list of them behind a mint's or a token account's base, and what each means to a payment.
//!
//! A list is type, length and value again and again, numbers little-endian. What these functions let pass, the token
//! program must let pass too: settle relies on it to skip one bad entry instead of failing the whole transaction.

/// Bytes of a mint without extensions.
pub const MINT_LEN: usize = 82;
/// Bytes of a token account without extensions, to which mints with some are padded.
pub const ACCOUNT_LEN: usize = 165;
/// A multisig of the token program: the one length that is never an account with extensions.
const MULTISIG_LEN: usize = 355;

const TRANSFER_FEE_CONFIG: u16 = 1;
const CONFIDENTIAL_TRANSFER_ACCOUNT: u16 = 5;
const MEMO_TRANSFER: u16 = 8;
const TRANSFER_HOOK: u16 = 14;
const PAUSABLE: u16 = 26;

/// What the admin may allow a mint to carry, a bit for each number: transfer fee, close authority, confidential transfer,
/// default state, interest, permanent delegate, hook, confidential fee, pointers and metadata, groups, confidential mint
/// and burn, scaled amounts, pausable. Fees, hooks and pauses are read again at every settle.
///
/// Not among them: what stops every transfer (non-transferable, 9), and what this version does not know.
pub const ALLOWABLE: u64 = bits(&[
    1, 3, 4, 6, 10, 12, 14, 16, 18, 19, 20, 21, 22, 23, 24, 25, 26,
]);
/// What a token account may carry: fee amounts, confidential balances, immutable owner, memo, CPI guard, hook, pausable.
/// The memo and confidential ones decide further whether it can receive.
const ACCOUNT: u64 = bits(&[2, 5, 7, 8, 11, 15, 17, 27]);

/// What the extensions belong to. The number is the byte before their list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Holder {
    /// A mint.
    Mint = 1,
    /// A token account.
    Account = 2,
}

impl Holder {
    fn base_len(self) -> usize {
        match self {
            Self::Mint => MINT_LEN,
            Self::Account => ACCOUNT_LEN,
        }
    }
}

/// The list behind the base of a mint or an account, empty for one without; `None` for data of any other shape. Only an
/// account of Token-2022 has a list.
pub fn list(data: &[u8], holder: Holder, token_2022: bool) -> Option<&[u8]> {
    if data.len() == holder.base_len() {
        return Some(&[]);
    }
    match data.get(ACCOUNT_LEN..)? {
        [tag, list @ ..] if *tag == holder as u8 && data.len() != MULTISIG_LEN && token_2022 => {
            Some(list)
        }
        _ => None,
    }
}

/// Whether a list can be read to its end, and `each` holds for every extension in it (number and value).
pub fn all(mut list: &[u8], mut each: impl FnMut(u16, &[u8]) -> bool) -> bool {
    while let Some(([k0, k1, l0, l1], rest)) = list.split_first_chunk::<4>() {
        let kind = u16::from_le_bytes([*k0, *k1]);
        if kind == 0 {
            break;
        }
        let len = usize::from(u16::from_le_bytes([*l0, *l1]));
        let Some((value, after)) = rest.split_at_checked(len) else {
            return false;
        };
        if !each(kind, value) {
            return false;
        }
        list = after;
    }
    // What is too short for an extension is padding, or the byte that a reallocation may leave.
    matches!(list, [] | [_] | [0, 0, ..])
}

/// Whether an extension is in a set; a number past the set's width never is.
pub fn within(kind: u16, set: u64) -> bool {
    1u64.checked_shl(u32::from(kind))
        .is_some_and(|bit| set & bit != 0)
}

/// Whether an extension of a mint takes no fee of transfers, now or by what is announced.
pub fn takes_no_fee(kind: u16, value: &[u8]) -> bool {
    // The older fee's basis points end at 90, the newer one's at 108.
    kind != TRANSFER_FEE_CONFIG
        || (value.get(88..90) == Some(&[0; 2]) && value.get(106..108) == Some(&[0; 2]))
}

/// Whether an extension of a mint has transfers call no other program.
pub fn calls_no_hook(kind: u16, value: &[u8]) -> bool {
    // The authority's key, then the hook's program: zero for none.
    kind != TRANSFER_HOOK || value.get(32..64) == Some(&[0; 32])
}

/// Whether an extension of a mint stops no transfer.
pub fn pauses_nothing(kind: u16, value: &[u8]) -> bool {
    // The authority's key, then the pause.
    kind != PAUSABLE || value.get(32) == Some(&0)
}

/// Whether money can leave an account with this extension: it is known.
pub fn lets_out(kind: u16, _value: &[u8]) -> bool {
    within(kind, ACCOUNT)
}

/// Whether money can come into an account with this extension without a memo and in the open.
pub fn lets_in(kind: u16, value: &[u8]) -> bool {
    match kind {
        MEMO_TRANSFER => value.first() == Some(&0),
        // Approval, key and three balances lie before the two switches; the second is for open credits.
        CONFIDENTIAL_TRANSFER_ACCOUNT => value.get(262) == Some(&1),
        _ => lets_out(kind, value),
    }
}

const fn bits(numbers: &[u32]) -> u64 {
    let mut set = 0u64;
    let mut i = 0;
    while i < numbers.len() {
        set |= 1 << numbers[i];
        i += 1;
    }
    set
}
