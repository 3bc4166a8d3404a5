//! Why an entry was not settled. The numbers are on the wire (return data, events), so they never change.

macro_rules! skips {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        /// The reason for which `settle` skipped an entry, or refused it under `strict`.
        ///
        /// The number is the entry's byte in the return data and the event, where 0 is "settled".
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Skip { $($(#[$doc])* $name = $code,)* }

        impl Skip {
            /// Every reason, by rising code.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The reason of a code; `None` for 0 (settled) and for codes of a later version.
            pub fn from_code(code: u8) -> Option<Self> {
                match code { $($code => Some(Self::$name),)* _ => None }
            }

            /// The name on the wire, in snake case.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

skips! {
    /// The nonce account does not exist (never opened, or closed).
    AccountMissing = 1, "account_missing";
    /// The account in the nonce account's place is not one of this program's nonce accounts, or not writable.
    AccountForeign = 2, "account_foreign";
    /// The nonce account has a layout version that this program does not read.
    AccountVersion = 3, "account_version";
    /// The nonce account is for another mint than the service.
    MintMismatch = 4, "mint_mismatch";
    /// A flag bit that this version does not know.
    UnknownFlag = 5, "unknown_flag";
    /// The lane has no key.
    LaneClosed = 6, "lane_closed";
    /// The lane's key has expired.
    LaneExpired = 7, "lane_expired";
    /// The lane's scope does not cover the service.
    Scope = 8, "scope";
    /// The intent has expired.
    Expired = 9, "expired";
    /// The intent expires further ahead than the config allows.
    ExpiryTooFar = 10, "expiry_too_far";
    /// The nonce is taken.
    NonceUsed = 11, "nonce_used";
    /// The nonce lies below the window.
    NonceTooOld = 12, "nonce_too_old";
    /// The nonce lies too far above the window.
    NonceTooFar = 13, "nonce_too_far";
    /// Over the lane's limit a payment.
    OverMax = 14, "over_max";
    /// Over the lane's limit a period.
    OverPeriod = 15, "over_period";
    /// Over the lane's limit in all.
    OverTotal = 16, "over_total";
    /// Below the service's or the mint's minimum.
    BelowMinimum = 17, "below_minimum";
    /// Above the mint's maximum.
    AboveMaximum = 18, "above_maximum";
    /// The signature is not the lane key's over this intent.
    BadSignature = 19, "bad_signature";
    /// The token account is not the one that the nonce account may pull from.
    SourceMismatch = 20, "source_mismatch";
    /// The source is closed, or not a token account of the mint.
    SourceUnusable = 21, "source_unusable";
    /// The source belongs to somebody else than the payer by now.
    OwnerChanged = 22, "owner_changed";
    /// The source is frozen.
    SourceFrozen = 23, "source_frozen";
    /// The source's delegate is not the nonce account (revoked, or replaced).
    DelegateGone = 24, "delegate_gone";
    /// What is left of the approved amount is too little.
    DelegatedShort = 25, "delegated_short";
    /// The source holds too little.
    BalanceShort = 26, "balance_short";
    /// The source is the vault or a leg of the split.
    SelfPayment = 27, "self_payment";
}

impl Skip {
    /// The number in return data and events.
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl core::fmt::Display for Skip {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

impl core::error::Error for Skip {}
