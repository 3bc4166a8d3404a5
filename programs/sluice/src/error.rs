//! Errors. 6001 to 6027 are `sluice_intent::Skip` codes under `strict`; 6100 and up are whole instructions
//! that cannot run.

use anchor_lang::{error::ERROR_CODE_OFFSET, prelude::*};
use sluice_intent::{Skip, TermsError};

#[error_code]
pub enum SluiceError {
    #[msg("the nonce account does not exist: open it first")]
    AccountMissing = 1,
    #[msg("not a writable nonce account of this program")]
    AccountForeign = 2,
    #[msg("the nonce account's layout is of another version")]
    AccountVersion = 3,
    #[msg("the nonce account is for another mint than the service")]
    MintMismatch = 4,
    #[msg("a flag of the entry is unknown")]
    UnknownFlag = 5,
    #[msg("the lane has no key: set it first")]
    LaneClosed = 6,
    #[msg("the lane's key has expired")]
    LaneExpired = 7,
    #[msg("the lane's scope does not cover this service")]
    Scope = 8,
    #[msg("the intent has expired")]
    Expired = 9,
    #[msg("the intent expires further ahead than the config allows")]
    ExpiryTooFar = 10,
    #[msg("the nonce is used")]
    NonceUsed = 11,
    #[msg("the nonce is below the window")]
    NonceTooOld = 12,
    #[msg("the nonce is too far above the window")]
    NonceTooFar = 13,
    #[msg("over the lane's limit a payment")]
    OverMax = 14,
    #[msg("over the lane's limit a period")]
    OverPeriod = 15,
    #[msg("over the lane's limit in all")]
    OverTotal = 16,
    #[msg("below the minimum of the service or the mint")]
    BelowMinimum = 17,
    #[msg("above the maximum of the mint")]
    AboveMaximum = 18,
    #[msg("the signature is not the lane key's over this intent")]
    BadSignature = 19,
    #[msg("not the token account that the nonce account may pull from")]
    SourceMismatch = 20,
    #[msg("the source is closed or not a token account of the mint")]
    SourceUnusable = 21,
    #[msg("the source no longer belongs to the payer")]
    OwnerChanged = 22,
    #[msg("the source is frozen")]
    SourceFrozen = 23,
    #[msg("the source's delegate is not the nonce account: approve it")]
    DelegateGone = 24,
    #[msg("the approved amount is used up: approve more")]
    DelegatedShort = 25,
    #[msg("the source holds too little")]
    BalanceShort = 26,
    #[msg("the source is the vault or a leg of the split")]
    SelfPayment = 27,

    #[msg("settlement is paused")]
    Paused = 100,
    #[msg("the facilitator is suspended")]
    FacilitatorSuspended = 101,
    #[msg("settlement in this mint is switched off")]
    MintDisabled = 102,
    #[msg("the service is closed")]
    ServiceInactive = 103,
    #[msg("the fee payer is not a relayer key of the service's facilitator")]
    RelayerNotRegistered = 104,
    #[msg("the facilitator is not the service's")]
    WrongFacilitator = 105,
    #[msg("the mint is not the service's, or not the accepted one")]
    WrongMint = 106,
    #[msg("the vault is not the service's")]
    WrongVault = 107,
    #[msg("a destination is not the one in the terms")]
    WrongDestination = 108,
    #[msg("the treasury's token account is not the accepted mint's")]
    WrongTreasury = 109,
    #[msg("the token program is not the mint's")]
    WrongTokenProgram = 110,
    #[msg("a settle needs at least one entry, and two accounts for each")]
    EntryAccounts = 111,

    #[msg("only the program's upgrade authority may do this")]
    NotUpgradeAuthority = 120,
    #[msg("only the admin may do this")]
    NotAdmin = 121,
    #[msg("only the admin or, to pause, the guardian may do this")]
    NotGuardian = 122,
    #[msg("only the payer may do this")]
    NotPayer = 123,

    #[msg("over the cap in code: treasury 1000 bps, facilitator 5000 bps, intent life 3600 s")]
    OverCap = 130,
    #[msg("the intent life must be above 0 s")]
    ZeroTtl = 131,
    #[msg("the zero address is not allowed here")]
    ZeroAddress = 132,
    #[msg("the account's layout is of another version")]
    WrongVersion = 133,

    #[msg("Token-2022 mints are not accepted by this version")]
    Token2022NotAccepted = 140,
    #[msg("the native mint cannot be accepted: wrapped SOL can change without a transfer")]
    NativeMint = 141,
    #[msg("not an initialised mint of a known token program")]
    InvalidMint = 142,
    #[msg("not an initialised token account of this mint and owner")]
    InvalidTokenAccount = 143,
    #[msg("the minimum is above the maximum")]
    InvalidAmounts = 144,
    #[msg("extensions can only be allowed for Token-2022 mints")]
    InvalidExtensions = 145,

    #[msg("1 to 8 distinct relayer keys, none of them zero or an authority")]
    InvalidRelayers = 150,
    #[msg("a service needs 1 to 8 recipients")]
    RecipientCount = 160,
    #[msg("the recipients' shares must each be above 0 and add up to 10000 bps")]
    RecipientShares = 161,
    #[msg("the same recipient stands twice")]
    DuplicateRecipient = 162,
    #[msg("the service itself cannot be a recipient")]
    RecipientIsService = 163,
    #[msg("below the facilitator's minimum share")]
    BelowFacilitatorMinimum = 164,
    #[msg("the facilitator's share is over its cap")]
    FacilitatorShare = 165,
    #[msg("lane 0 or 1; lane 0 takes the payer's own key or none; the scope is unknown")]
    InvalidLane = 170,
    #[msg("arithmetic overflow")]
    Overflow = 180,
    #[msg("the account exists already")]
    AlreadyExists = 181,
}

/// The error of a skip code, for `strict`. The numbers agree by construction, and a test compares the names.
pub fn strict(skip: Skip) -> Error {
    ProgramError::Custom(ERROR_CODE_OFFSET + u32::from(skip.code())).into()
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
