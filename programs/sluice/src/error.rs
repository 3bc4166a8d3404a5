//! Errors. 6001 to 6027 are `sluice_intent::Skip` codes under `strict`; 6100 and up are whole instructions
//! that cannot run.
//!
//! Handlers fail through [`fail`] and [`ensure`], never through Anchor's own conversion: that builds a
//! structure of strings at every place that can fail, a tenth of the program's bytes
//! (`docs/decisions/006-one-way-to-fail.md`).

use anchor_lang::{error::ERROR_CODE_OFFSET, prelude::*, solana_program::log::sol_log};
use sluice_intent::{Skip, TermsError};

macro_rules! errors {
    ($($name:ident = $code:tt, $text:tt;)*) => {
        #[error_code]
        pub enum SluiceError {
            $(#[msg($text)] $name = $code,)*
        }

        const TEXTS: &[(u8, &str)] = &[$(($code, $text)),*];
    };
}

errors! {
    AccountMissing = 1, "the nonce account does not exist: open it first";
    AccountForeign = 2, "not a writable nonce account of this program";
    AccountVersion = 3, "the nonce account's layout is of another version";
    MintMismatch = 4, "the nonce account is for another mint than the service";
    UnknownFlag = 5, "a flag of the entry is unknown";
    LaneClosed = 6, "the lane has no key: set it first";
    LaneExpired = 7, "the lane's key has expired";
    Scope = 8, "the lane's scope does not cover this service";
    Expired = 9, "the intent has expired";
    ExpiryTooFar = 10, "the intent expires further ahead than the config allows";
    NonceUsed = 11, "the nonce is used";
    NonceTooOld = 12, "the nonce is below the window";
    NonceTooFar = 13, "the nonce is too far above the window";
    OverMax = 14, "over the lane's limit a payment";
    OverPeriod = 15, "over the lane's limit a period";
    OverTotal = 16, "over the lane's limit in all";
    BelowMinimum = 17, "below the minimum of the service or the mint";
    AboveMaximum = 18, "above the maximum of the mint";
    BadSignature = 19, "the signature is not the lane key's over this intent";
    SourceMismatch = 20, "not the token account that the nonce account may pull from";
    SourceUnusable = 21, "the source is closed or not a token account of the mint";
    OwnerChanged = 22, "the source no longer belongs to the payer";
    SourceFrozen = 23, "the source is frozen";
    DelegateGone = 24, "the source's delegate is not the nonce account: approve it";
    DelegatedShort = 25, "the approved amount is used up: approve more";
    BalanceShort = 26, "the source holds too little";
    SelfPayment = 27, "the source is the vault or a leg of the split";

    Paused = 100, "settlement is paused";
    FacilitatorSuspended = 101, "the facilitator is suspended";
    MintDisabled = 102, "settlement in this mint is switched off";
    ServiceInactive = 103, "the service is closed";
    RelayerNotRegistered = 104, "the fee payer is not a relayer key of the service's facilitator";
    WrongFacilitator = 105, "the facilitator is not the service's";
    WrongMint = 106, "the mint is not the service's, or not the accepted one";
    WrongVault = 107, "the vault is not the service's";
    WrongDestination = 108, "a destination is not the one in the terms";
    WrongTreasury = 109, "the treasury's token account is not the accepted mint's";
    WrongTokenProgram = 110, "the token program is not the mint's";
    EntryAccounts = 111, "the accounts after the fixed ones do not fit the instruction";
    VaultUnusable = 112, "nothing can enter or leave the vault now: it is frozen, or its mint paused or hooked";
    MintUnusable = 113, "the mint has an extension, a fee, a hook or a pause that was not accepted";
    NothingToDistribute = 114, "nothing to distribute: the vault holds too little, or nobody can be paid";

    NotUpgradeAuthority = 120, "only the program's upgrade authority may do this";
    NotAdmin = 121, "only the admin may do this";
    NotGuardian = 122, "only the admin or, to pause, the guardian may do this";
    NotPayer = 123, "only the payer may do this";
    NotAuthority = 124, "only the account's authority may do this";
    NotPending = 125, "only the key that was proposed may accept";
    NotIdle = 126, "only the payer may close this now; its rent payer after 30 idle days";

    OverCap = 130, "over the cap in code: treasury 1000 bps, facilitator 5000 bps, intent life 3600 s";
    ZeroTtl = 131, "the intent life must be above 0 s";
    ZeroAddress = 132, "the zero address is not allowed here";
    WrongVersion = 133, "the account's layout is of another version";
    WrongAccount = 134, "not the account of this program that belongs here";

    NativeMint = 141, "the native mint cannot be accepted: wrapped SOL can change without a transfer";
    InvalidMint = 142, "not an initialised mint of a known token program";
    InvalidTokenAccount = 143, "not a usable token account of this mint and owner";
    InvalidAmounts = 144, "the minimum is above the maximum";
    InvalidExtensions = 145, "an extension that no mint may be accepted with, or a classic mint with any";

    InvalidRelayers = 150, "1 to 8 distinct relayer keys, none of them zero or an authority";
    RecipientCount = 160, "a service needs 1 to 8 recipients";
    RecipientShares = 161, "the recipients' shares must each be above 0 and add up to 10000 bps";
    DuplicateRecipient = 162, "the same recipient stands twice";
    RecipientIsService = 163, "the service itself cannot be a recipient";
    BelowFacilitatorMinimum = 164, "below the facilitator's minimum share";
    FacilitatorShare = 165, "the facilitator's share is over its cap";
    UpToDate = 166, "the service has the current treasury share already";
    InvalidLane = 170, "lane 0 or 1; lane 0 takes the payer's own key or none; the scope is unknown";
    SameSlot = 171, "a nonce account cannot be closed in the slot in which it was opened: try again";
    Overflow = 180, "arithmetic overflow";
    AlreadyExists = 181, "the account exists already";
}

/// The error of a handler: the number for programs, the message in the log for people.
#[cold]
#[inline(never)]
pub fn fail(error: SluiceError) -> Error {
    numbered(error as u8)
}

/// Fails with `error` unless `holds`.
#[inline(always)]
pub fn ensure(holds: bool, error: SluiceError) -> Result<()> {
    if holds { Ok(()) } else { Err(fail(error)) }
}

/// The error of a skip code, for `strict`. The numbers agree by construction, and a test compares the names.
pub fn strict(skip: Skip) -> Error {
    numbered(skip.code())
}

#[cold]
#[inline(never)]
fn numbered(code: u8) -> Error {
    if let Some((_, text)) = TEXTS.iter().find(|(number, _)| *number == code) {
        sol_log(text);
    }
    ProgramError::Custom(ERROR_CODE_OFFSET + u32::from(code)).into()
}

impl From<TermsError> for SluiceError {
    fn from(error: TermsError) -> Self {
        match error {
            TermsError::RecipientCount => Self::RecipientCount,
            TermsError::RecipientShares => Self::RecipientShares,
            TermsError::DuplicateRecipient => Self::DuplicateRecipient,
            TermsError::TreasuryShare => Self::OverCap,
            TermsError::FacilitatorShare => Self::FacilitatorShare,
        }
    }
}
