use http::HeaderMap;
use sluice_sdk::{Address, x402::WireError};
use solana_signer::SignerError;

use super::{NonceError, Receipt, Sent};

/// A server's answer to a request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

/// Why a call was not paid, or not answered.
///
/// Up to [`Error::Signer`] nothing was signed and nothing can be charged. From [`Error::Rejected`] on a signed
/// payment has left: [`Error::sent`] gives it, for [`Client::retry`](super::Client::retry), which cannot pay
/// twice. Signing a new one instead can.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The request cannot be made.
    #[error("the request cannot be made: {problem}")]
    BadRequest {
        /// Why.
        problem: String,
    },
    /// The server could not be asked for its price.
    #[error("{url} could not be asked for its price: {problem}")]
    Unreachable {
        /// What was asked.
        url: String,
        /// What happened.
        problem: String,
    },
    /// The server answered without asking for payment. The answer is inside.
    #[error("the server asks for no payment: it answered {}", .0.status)]
    NotAsked(Box<Answer>),
    /// The server asks for payment, in no way that this client knows.
    #[error("the server does not offer the scheme sluice-split; it offers: {}", list(.schemes))]
    NoSplitOffer {
        /// The schemes that it offers.
        schemes: Vec<String>,
    },
    /// The terms shown are not those of the hash that would be signed.
    #[error("the terms are not to be trusted: {0}")]
    TermsMismatch(WireError),
    /// The server wants to be paid on another cluster.
    #[error("the server is paid on {field} {asked}, and this payer pays on {expected}")]
    WrongCluster {
        /// What differs: `network` or `genesis hash`.
        field: &'static str,
        /// What the server asks.
        asked: String,
        /// What the payer is set to.
        expected: String,
    },
    /// The server asks for more than the policy allows.
    #[error("the server asks for {amount} units of {mint}; the policy allows {limit} for one call")]
    OverPolicy {
        /// The mint.
        mint: Address,
        /// What is asked, in atomic units.
        amount: u64,
        /// What is allowed.
        limit: u64,
    },
    /// The payer has no nonce account in the mint.
    #[error(
        "{payer} has opened no account for payments in {mint}: open it with `sluice payer open`"
    )]
    NotOpened {
        /// The payer.
        payer: Address,
        /// The mint.
        mint: Address,
    },
    /// There is no nonce, for another reason.
    #[error("no nonce for the payment: {0}")]
    Nonce(NonceError),
    /// The clock shows no time that an intent could expire at.
    #[error("the clock shows {now}, which is no time to sign a payment at: set it")]
    Clock {
        /// What it shows, in unix seconds.
        now: i64,
    },
    /// What the server sent before anything was signed is not what the protocol defines.
    #[error("the server's answer cannot be used: {problem}")]
    BadServer {
        /// What is wrong with it.
        problem: String,
    },
    /// The key did not sign.
    #[error("the key did not sign: {0}")]
    Signer(SignerError),
    /// The server refuses the payment and says why.
    ///
    /// The signed payment could still be settled until [`Sent::expires_at`] by a server that is not honest; a
    /// caller that cannot bear that waits so long before it signs another.
    #[error("the server refused the payment: {reason}: {message}")]
    Rejected {
        /// In the field's words.
        reason: String,
        /// For people.
        message: String,
        /// What was sent.
        sent: Box<Sent>,
    },
    /// The same payment has settled before; it buys nothing more.
    #[error(
        "payment {} has settled before and buys nothing more: look it up with GET /v1/intents/{}",
        .sent.digest(), .sent.digest()
    )]
    AlreadySettled {
        /// What was sent.
        sent: Box<Sent>,
    },
    /// The payment was sent and nobody here knows what became of it.
    #[error(
        "unknown: payment {} was sent and {problem}; ask GET /v1/intents/{}, or send the same one again",
        .sent.digest(), .sent.digest()
    )]
    Unknown {
        /// Why nothing is known.
        problem: String,
        /// What was sent.
        sent: Box<Sent>,
        /// What the server answered, if it did.
        answer: Option<Box<Answer>>,
    },
    /// The payment settled, and the answer it bought broke off.
    #[error("payment {} has settled, and the answer broke off: {problem}", .receipt.digest)]
    AnswerLost {
        /// What happened.
        problem: String,
        /// Proof of the payment, without a body.
        receipt: Box<Receipt>,
        /// What was sent.
        sent: Box<Sent>,
    },
}

impl Error {
    /// The payment that was sent, if one was.
    pub fn sent(&self) -> Option<&Sent> {
        match self {
            Self::Rejected { sent, .. }
            | Self::AlreadySettled { sent }
            | Self::Unknown { sent, .. }
            | Self::AnswerLost { sent, .. } => Some(sent),
            _ => None,
        }
    }

    /// Hex of the digest of the payment that was sent, if one was.
    pub fn digest(&self) -> Option<&str> {
        self.sent().map(Sent::digest)
    }
}

fn list(schemes: &[String]) -> String {
    if schemes.is_empty() {
        "nothing".to_owned()
    } else {
        schemes.join(", ")
    }
}
