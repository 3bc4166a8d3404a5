//! Why a payment is not valid or did not settle, in the words of x402 and of the program.

use std::{borrow::Cow, fmt};

use sluice_intent::Skip;
use sluice_sdk::program_error;

use crate::chain::{Failure, TransactionError};

/// The prefix of reasons that belong to the split scheme.
const SCHEME_PREFIX: &str = "invalid_sluice_split_";
/// The prefix of those of `exact` on Solana.
const EXACT_PREFIX: &str = "invalid_exact_svm_";

/// A machine-readable reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// `invalid_x402_version`
    X402Version,
    /// `unsupported_scheme`
    UnsupportedScheme,
    /// `invalid_scheme`: payment and requirement name different schemes.
    Scheme,
    /// `invalid_network`
    Network,
    /// `invalid_payload`
    Payload,
    /// `invalid_payment_requirements`
    Requirements,
    /// `insufficient_funds`
    InsufficientFunds,
    /// `duplicate_settlement`
    Duplicate,
    /// `settlement_pending`
    Pending,
    /// `unexpected_settle_error`
    UnexpectedSettle,
    /// The program's reason for skipping an entry.
    Skip(Skip),
    /// Another payment that is being settled has the nonce.
    NonceConflict,
    /// Settlement is paused by the admin.
    Paused,
    /// The facilitator is suspended.
    FacilitatorSuspended,
    /// The relayer's key is not registered for the facilitator.
    RelayerNotRegistered,
    /// Settlement in the mint is switched off.
    MintDisabled,
    /// The mint's authorities have changed it so that nothing is pulled in it.
    MintUnusable,
    /// The facilitator's share does not pay for the settlement.
    Uneconomic,
    /// Whether it does is not known, because a price is not.
    PriceUnknown,
    /// A rule of the scheme `exact`.
    Exact(ExactReason),
    /// Nothing is settled for payer or service.
    Screened,
    /// Too many payments of the payer failed on chain.
    PayerCoolingDown,
    /// Too many payments to the service did.
    ServiceCoolingDown,
}

/// Why a payment of the scheme `exact` is not valid or did not settle, in the published vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExactReason {
    /// The requirement names no fee payer.
    MissingFeePayer,
    /// It names a stranger's.
    FeePayerNotManaged,
    /// The transaction has another fee payer.
    FeePayerMismatch,
    /// The transaction cannot be read, or is of a kind that is not signed.
    NotDecoded,
    /// A signature is missing or wrong.
    SignatureInvalid,
    /// More keys than payer and fee payer sign.
    ExcessiveSigners,
    /// Too few or too many instructions.
    InstructionCount,
    /// The compute unit limit is not set where it must be.
    ComputeLimit,
    /// It is too high.
    ComputeLimitTooHigh,
    /// The compute unit price is not set where it must be.
    ComputePrice,
    /// It, or what the transaction would cost, is too high.
    ComputePriceTooHigh,
    /// The third instruction is no transfer.
    NoTransfer,
    /// The fourth instruction is not one of those that may follow.
    UnknownFourth,
    /// The fifth.
    UnknownFifth,
    /// The sixth.
    UnknownSixth,
    /// The seventh.
    UnknownSeventh,
    /// The money is the facilitator's own.
    FeePayerTransfers,
    /// The fee payer stands in an instruction.
    FeePayerIncluded,
    /// Another mint.
    MintMismatch,
    /// Another recipient.
    RecipientMismatch,
    /// Another amount.
    AmountMismatch,
    /// No memo, or several, where one must be.
    MemoCount,
    /// Another memo.
    MemoMismatch,
    /// It would fail.
    SimulationFailed,
    /// It landed and failed, or can no longer land.
    TransactionFailed,
}

impl ExactReason {
    /// Every one.
    pub const ALL: [Self; 25] = [
        Self::MissingFeePayer,
        Self::FeePayerNotManaged,
        Self::FeePayerMismatch,
        Self::NotDecoded,
        Self::SignatureInvalid,
        Self::ExcessiveSigners,
        Self::InstructionCount,
        Self::ComputeLimit,
        Self::ComputeLimitTooHigh,
        Self::ComputePrice,
        Self::ComputePriceTooHigh,
        Self::NoTransfer,
        Self::UnknownFourth,
        Self::UnknownFifth,
        Self::UnknownSixth,
        Self::UnknownSeventh,
        Self::FeePayerTransfers,
        Self::FeePayerIncluded,
        Self::MintMismatch,
        Self::RecipientMismatch,
        Self::AmountMismatch,
        Self::MemoCount,
        Self::MemoMismatch,
        Self::SimulationFailed,
        Self::TransactionFailed,
    ];

    /// The word on the wire, without its prefix.
    fn name(self) -> &'static str {
        match self {
            Self::MissingFeePayer => "payload_missing_fee_payer",
            Self::FeePayerNotManaged => "fee_payer_not_managed_by_facilitator",
            Self::FeePayerMismatch => "fee_payer_mismatch",
            Self::NotDecoded => "payload_transaction_could_not_be_decoded",
            Self::SignatureInvalid => "payload_signature_invalid",
            Self::ExcessiveSigners => "payload_excessive_signers",
            Self::InstructionCount => "payload_transaction_instructions_length",
            Self::ComputeLimit => "payload_transaction_instructions_compute_limit_instruction",
            Self::ComputeLimitTooHigh => {
                "payload_transaction_instructions_compute_limit_instruction_too_high"
            }
            Self::ComputePrice => "payload_transaction_instructions_compute_price_instruction",
            Self::ComputePriceTooHigh => {
                "payload_transaction_instructions_compute_price_instruction_too_high"
            }
            Self::NoTransfer => "payload_no_transfer_instruction",
            Self::UnknownFourth => "payload_unknown_fourth_instruction",
            Self::UnknownFifth => "payload_unknown_fifth_instruction",
            Self::UnknownSixth => "payload_unknown_sixth_instruction",
            Self::UnknownSeventh => "payload_unknown_seventh_instruction",
            Self::FeePayerTransfers => "payload_transaction_fee_payer_transferring_funds",
            Self::FeePayerIncluded => {
                "payload_transaction_fee_payer_included_in_instruction_accounts"
            }
            Self::MintMismatch => "payload_mint_mismatch",
            Self::RecipientMismatch => "payload_recipient_mismatch",
            Self::AmountMismatch => "payload_amount_mismatch",
            Self::MemoCount => "payload_memo_count",
            Self::MemoMismatch => "payload_memo_mismatch",
            Self::SimulationFailed => "transaction_simulation_failed",
            Self::TransactionFailed => "transaction_failed",
        }
    }
}

impl Reason {
    /// Every reason but the program's skips and those of `exact`, which [`Skip::ALL`] and [`ExactReason::ALL`] list.
    pub const ALL: [Self; 21] = [
        Self::X402Version,
        Self::UnsupportedScheme,
        Self::Scheme,
        Self::Network,
        Self::Payload,
        Self::Requirements,
        Self::InsufficientFunds,
        Self::Duplicate,
        Self::Pending,
        Self::UnexpectedSettle,
        Self::NonceConflict,
        Self::Paused,
        Self::FacilitatorSuspended,
        Self::RelayerNotRegistered,
        Self::MintDisabled,
        Self::MintUnusable,
        Self::Uneconomic,
        Self::PriceUnknown,
        Self::Screened,
        Self::PayerCoolingDown,
        Self::ServiceCoolingDown,
    ];

    /// The word on the wire.
    pub fn as_str(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::X402Version => "invalid_x402_version",
            Self::UnsupportedScheme => "unsupported_scheme",
            Self::Scheme => "invalid_scheme",
            Self::Network => "invalid_network",
            Self::Payload => "invalid_payload",
            Self::Requirements => "invalid_payment_requirements",
            // The field has a word for this one; clients know it.
            Self::InsufficientFunds | Self::Skip(Skip::BalanceShort) => "insufficient_funds",
            Self::Duplicate => "duplicate_settlement",
            Self::Pending => "settlement_pending",
            Self::UnexpectedSettle => "unexpected_settle_error",
            Self::Skip(skip) => return Cow::Owned(format!("{SCHEME_PREFIX}{}", skip.name())),
            Self::Exact(rule) => return Cow::Owned(format!("{EXACT_PREFIX}{}", rule.name())),
            Self::NonceConflict => "invalid_sluice_split_nonce_conflict",
            Self::Paused => "invalid_sluice_split_paused",
            Self::FacilitatorSuspended => "invalid_sluice_split_facilitator_suspended",
            Self::RelayerNotRegistered => "invalid_sluice_split_relayer_not_registered",
            Self::MintDisabled => "invalid_sluice_split_mint_disabled",
            Self::MintUnusable => "invalid_sluice_split_mint_unusable",
            Self::Uneconomic => "invalid_sluice_split_uneconomic",
            Self::PriceUnknown => "invalid_sluice_split_price_unknown",
            Self::Screened => "screening_refused",
            Self::PayerCoolingDown => "payer_cooling_down",
            Self::ServiceCoolingDown => "service_cooling_down",
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.as_str())
    }
}

/// A verdict against a payment: the reason, and a sentence with the cause and what mends it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct Rejection {
    /// The machine-readable reason.
    pub reason: Reason,
    /// The cause and the mend.
    pub message: String,
}

impl Rejection {
    /// A rejection.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }

    /// The program's reason, with its usual message.
    pub fn skip(skip: Skip) -> Self {
        Self::new(Reason::Skip(skip), advice(skip))
    }

    /// The program's reason, with the numbers of the case before the usual message.
    pub fn skip_because(skip: Skip, detail: impl fmt::Display) -> Self {
        Self::new(Reason::Skip(skip), format!("{detail}; {}", advice(skip)))
    }

    /// A rejection as the ledger holds it. A word of a later version becomes an unexpected error.
    pub fn recorded(reason: &str, message: &str) -> Self {
        let known = Reason::ALL
            .iter()
            .copied()
            .chain(Skip::ALL.iter().copied().map(Reason::Skip))
            .chain(ExactReason::ALL.iter().copied().map(Reason::Exact))
            .find(|known| known.as_str() == reason);
        Self::new(known.unwrap_or(Reason::UnexpectedSettle), message)
    }

    /// Whether the program says that the nonce was used before.
    pub fn is_used_nonce(&self) -> bool {
        matches!(
            self.reason,
            Reason::Skip(Skip::NonceUsed | Skip::NonceTooOld)
        )
    }

    /// What a failed transaction means to the payer. `None` when the payer has nothing to do with it, and
    /// the same payment may well settle later.
    pub fn of_failure(error: &TransactionError) -> Option<Self> {
        match error.failure() {
            Failure::Skipped(skip) => Some(Self::skip(skip)),
            Failure::Program(code) => Some(program_error(code)),
            Failure::FeePayer | Failure::Blockhash => None,
            Failure::Other => Some(Self::new(
                Reason::UnexpectedSettle,
                format!("the transaction failed: {error}"),
            )),
        }
    }
}

/// Errors of the program that stop a whole instruction, by their number in `programs/sluice/src/error.rs`.
fn program_error(code: u32) -> Rejection {
    let (reason, message) = match code {
        100 => (
            Reason::Paused,
            "settlement is paused by the program's admin: try again later",
        ),
        101 => (
            Reason::FacilitatorSuspended,
            "the facilitator is suspended: use another one",
        ),
        102 => (
            Reason::MintDisabled,
            "settlement in this mint is switched off",
        ),
        103 => (
            Reason::Requirements,
            "payTo: the service is closed: ask the server for new requirements",
        ),
        104 => (
            Reason::RelayerNotRegistered,
            "the relayer's key is not registered for the facilitator: its operator must register it",
        ),
        105 => (
            Reason::Requirements,
            "payTo: the service is of another facilitator",
        ),
        106 => (
            Reason::Requirements,
            "asset: not the mint that the service is paid in",
        ),
        113 => (
            Reason::MintUnusable,
            "asset: the mint has an extension, a fee, a hook or a pause that the program's admin has not accepted",
        ),
        _ => {
            return Rejection::new(
                Reason::UnexpectedSettle,
                format!(
                    "the program refused the settlement: {}",
                    program_error::message(program_error::OFFSET + code)
                        .unwrap_or("for a reason that this version does not know")
                ),
            );
        }
    };
    Rejection::new(reason, message)
}

/// What mends a skip reason, in one sentence.
pub fn advice(skip: Skip) -> &'static str {
    match skip {
        Skip::AccountMissing => {
            "the nonce account does not exist: the payer must open it for this mint first"
        }
        Skip::AccountForeign => "nonceAccount is not a nonce account of the Sluice program",
        Skip::AccountVersion => {
            "the nonce account has a layout that this version does not read: upgrade"
        }
        Skip::MintMismatch => {
            "the nonce account is for another mint than the service: use the payer's account for this mint"
        }
        Skip::UnknownFlag => "lane must be 0 or 1",
        Skip::LaneClosed => "the lane has no key: set it first, or sign with the other lane",
        Skip::LaneExpired => "the lane's key has expired: set the lane anew",
        Skip::Scope => {
            "the lane's key may not pay this service: widen its scope or use another lane"
        }
        Skip::Expired => "the intent has expired, or is about to: sign a new one",
        Skip::ExpiryTooFar => {
            "the intent expires further ahead than the program allows: sign one with an earlier expiry"
        }
        Skip::NonceUsed => {
            "the nonce is used: sign a new intent with the next free nonce (GET /v1/payers/{payer}?mint=)"
        }
        Skip::NonceTooOld => {
            "the nonce is below the window: sign a new intent with the next free nonce"
        }
        Skip::NonceTooFar => {
            "the nonce is more than 128 above the highest used one: sign with the next free nonce"
        }
        Skip::OverMax => "over the lane's limit for one payment: raise it or pay less",
        Skip::OverPeriod => {
            "over the lane's limit for this period: wait for the next one or raise it"
        }
        Skip::OverTotal => "over the lane's limit in all: raise it",
        Skip::BelowMinimum => "below the minimum of the service or the mint: ask for more",
        Skip::AboveMaximum => "above the maximum of the mint: ask for less",
        Skip::BadSignature => {
            "the signature is not the lane key's over this intent: check key, amount, terms hash, genesis hash \
             and opened slot, and sign again"
        }
        Skip::SourceMismatch => {
            "the token account is not the one that the nonce account may pull from"
        }
        Skip::SourceUnusable => {
            "the payer's token account is closed, not of this mint, or has an extension that the program does not \
             know: open one that is plain"
        }
        Skip::OwnerChanged => "the token account does not belong to the payer any more",
        Skip::SourceFrozen => "the payer's token account is frozen by the mint's authority",
        Skip::DelegateGone => {
            "the nonce account is not the token account's delegate: the payer must approve it"
        }
        Skip::DelegatedShort => {
            "what is left of the approved amount is too little: the payer must approve more"
        }
        Skip::BalanceShort => "the payer's token account holds too little: put money in",
        Skip::SelfPayment => {
            "the payer's token account is the vault or one that the split pays: pay from another one"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn skips_keep_the_programs_names() {
        for skip in Skip::ALL {
            let word = Reason::Skip(*skip).as_str();
            if *skip == Skip::BalanceShort {
                assert_eq!(word, "insufficient_funds");
            } else {
                assert_eq!(word, format!("invalid_sluice_split_{}", skip.name()));
            }
            assert!(!advice(*skip).is_empty());
        }
    }

    #[test]
    fn what_is_recorded_comes_back() {
        for reason in Reason::ALL
            .into_iter()
            .chain([Reason::Skip(Skip::NonceUsed)])
        {
            let back = Rejection::recorded(&reason.as_str(), "why");
            assert_eq!(back, Rejection::new(reason, "why"));
        }
        let later = Rejection::recorded("invalid_sluice_split_moon", "why");
        assert_eq!(later.reason, Reason::UnexpectedSettle);
    }

    #[test]
    fn failures_of_the_relayer_are_not_the_payers() {
        let error = |json| TransactionError { json };
        assert_eq!(
            Rejection::of_failure(&error(json!("InsufficientFundsForFee"))),
            None
        );
        assert_eq!(
            Rejection::of_failure(&error(json!("BlockhashNotFound"))),
            None
        );
        let used = error(json!({"InstructionError": [3, {"Custom": 6011}]}));
        assert_eq!(
            Rejection::of_failure(&used).map(|r| r.reason),
            Some(Reason::Skip(Skip::NonceUsed))
        );
        let odd = error(json!({"InstructionError": [3, "ComputationalBudgetExceeded"]}));
        assert_eq!(
            Rejection::of_failure(&odd).map(|r| r.reason),
            Some(Reason::UnexpectedSettle)
        );
    }
}
