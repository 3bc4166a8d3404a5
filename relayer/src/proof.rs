//! What can be proved about a payment: that it landed, that it was refused, or that it can never land.
//!
//! A transaction is dead when the last block that may hold it is below the finalized height, and afterwards a node that
//! has seen that block, and whose memory goes back to before the transaction was signed, does not know it. A payment is
//! impossible when the chain's clock in a finalized block is past its expiry and every transaction ever signed for it is
//! dead; a transfer (scheme `exact`) as soon as its only transaction is. An error of a node proves neither; until then the
//! word is `pending`.
//!
//! The bit of its nonce is a second witness, because others could settle the intent as well: not set, it says that
//! nobody has. Set, it says that somebody used the nonce, for this payment or for another one, and then nothing is
//! called impossible. Once the window has moved past the nonce, or the account was opened anew, it says nothing.

use serde::{Deserialize, Serialize};
use sluice_intent::Skip;
use sluice_sdk::accounts::NonceAccount;
use solana_signature::Signature;

use crate::{
    ledger::{NonceKey, PaymentRow, State},
    snapshot::Lookup,
};

/// What is known for certain of a payment, as `GET /v1/intents/{digest}` tells it. Heights are of blocks, times are unix
/// seconds of the chain's clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "verdict",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum Proof {
    /// It was paid.
    Landed {
        /// The transaction that paid it.
        transaction: String,
        /// The slot of its block.
        slot: u64,
        /// Its place among that transaction's entries.
        index: u32,
        /// `confirmed` or `finalized`.
        commitment: String,
    },
    /// A transaction that landed did not pay it, and this relayer signs none for it any more.
    Refused {
        /// The transaction.
        transaction: String,
        /// The slot of its block.
        slot: u64,
        /// Its place among that transaction's entries.
        index: u32,
        /// `confirmed` or `finalized`.
        commitment: String,
    },
    /// It did not land and never will.
    Impossible {
        /// When the intent expired.
        expires_at: i64,
        /// The chain's clock in a finalized block at the judgement.
        chain_time: i64,
        /// Every transaction ever signed for it, each of them dead.
        transactions: Vec<Dead>,
        /// What the nonce account said in that block: `unused` or `silent`.
        nonce: NonceWitness,
    },
    /// The same, but its nonce is used: by another payment, or by this one through a relayer with another ledger. Who
    /// wants to know looks that transaction up.
    Unknown {
        /// When the intent expired.
        expires_at: i64,
        /// The chain's clock in a finalized block at the judgement.
        chain_time: i64,
        /// Every transaction that this ledger's relayers ever signed for it, each of them dead.
        transactions: Vec<Dead>,
        /// What the nonce account said in that block: `used`.
        nonce: NonceWitness,
    },
    /// Nobody knows yet.
    Pending {
        /// Every transaction signed for it so far.
        transactions: Vec<Open>,
    },
}

/// A transaction that did not pay it and never will.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Dead {
    /// Its signature.
    pub signature: String,
    /// The last block that could have held it.
    pub last_valid_block_height: u64,
    /// The finalized height after which no node knew it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finalized_block_height: Option<u64>,
    /// The slot of its block, for one that landed and failed as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_in_slot: Option<u64>,
}

/// A transaction that has not paid it yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Open {
    /// Its signature.
    pub signature: String,
    /// The last block that may hold it.
    pub last_valid_block_height: u64,
    /// `open`, `failed` (it landed and did nothing), `dead`, or `landed` where that was not told yet.
    pub outcome: String,
}

/// What a nonce account says of a nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NonceWitness {
    /// No payment with this nonce has landed.
    Unused,
    /// One has.
    Used,
    /// It can no longer tell: the nonce lies below the window, or the account was closed or opened anew.
    Silent,
}

impl NonceWitness {
    /// What an account says, as it is in a finalized block.
    pub fn ask(account: &Lookup<NonceAccount>, nonce: &NonceKey) -> Self {
        let lane = account
            .found()
            .filter(|account| account.opened_slot == nonce.opened_slot)
            .and_then(|account| account.lanes.get(usize::from(nonce.lane)));
        match lane.map(|lane| lane.window().take(nonce.nonce)) {
            Some(Ok(_) | Err(Skip::NonceTooFar)) => Self::Unused,
            Some(Err(Skip::NonceUsed)) => Self::Used,
            _ => Self::Silent,
        }
    }

    /// The word in the database and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unused => "unused",
            Self::Used => "used",
            Self::Silent => "silent",
        }
    }

    /// The other way round; what is not known says nothing.
    pub fn of_str(word: &str) -> Self {
        [Self::Unused, Self::Used]
            .into_iter()
            .find(|known| known.as_str() == word)
            .unwrap_or(Self::Silent)
    }
}

/// What was seen when a payment was found impossible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The chain's clock in a finalized block.
    pub chain_time: i64,
    /// What the nonce account said in the same block.
    pub nonce: NonceWitness,
}

/// A transaction of a payment, as far as a proof needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Its signature.
    pub signature: Signature,
    /// The payment's place among its entries.
    pub position: u32,
    /// `open`, `landed`, `failed` or `dead`.
    pub outcome: String,
    /// The slot it landed in.
    pub slot: Option<u64>,
    /// Whether that can no longer be undone.
    pub finalized: bool,
    /// The last block that may hold it.
    pub last_valid_block_height: u64,
    /// The finalized height at which it was found dead.
    pub dead_height: Option<u64>,
}

impl Proof {
    /// The proof that the ledger holds for a payment. Where one of its parts is missing it is `Pending`: a row of an
    /// earlier version does not say why.
    pub fn of(row: &PaymentRow, traces: &[Trace], judgement: Option<Judgement>) -> Self {
        let end = || {
            let signature = row.attempt.as_ref()?.signature;
            let trace = traces.iter().find(|trace| trace.signature == signature)?;
            let finalized = trace.finalized || row.state == State::Finalized;
            let commitment = if finalized { "finalized" } else { "confirmed" };
            Some((trace, trace.slot?, commitment.to_owned()))
        };
        let pending = || Self::Pending {
            transactions: traces.iter().map(open).collect(),
        };
        match row.state {
            State::Confirmed | State::Finalized => match end() {
                Some((trace, slot, commitment)) => Self::Landed {
                    transaction: trace.signature.to_string(),
                    slot,
                    index: trace.position,
                    commitment,
                },
                None => pending(),
            },
            State::Failed => match end() {
                Some((trace, slot, commitment)) => Self::Refused {
                    transaction: trace.signature.to_string(),
                    slot,
                    index: trace.position,
                    commitment,
                },
                None => pending(),
            },
            State::Expired => {
                let dead: Option<Vec<Dead>> = traces.iter().map(dead).collect();
                match (dead, judgement) {
                    (Some(transactions), Some(Judgement { chain_time, nonce })) => {
                        let expires_at = row.payment.expires_at;
                        if nonce == NonceWitness::Used {
                            Self::Unknown {
                                expires_at,
                                chain_time,
                                transactions,
                                nonce,
                            }
                        } else {
                            Self::Impossible {
                                expires_at,
                                chain_time,
                                transactions,
                                nonce,
                            }
                        }
                    }
                    _ => pending(),
                }
            }
            _ => pending(),
        }
    }

    /// A payment that no transaction was signed for yet.
    pub fn none_yet() -> Self {
        Self::Pending {
            transactions: Vec::new(),
        }
    }
}

/// `None` for one that the ledger does not prove dead.
fn dead(trace: &Trace) -> Option<Dead> {
    let failed_in_slot = trace.slot.filter(|_| trace.outcome == "failed");
    let finalized_block_height = trace.dead_height.filter(|_| trace.outcome == "dead");
    (failed_in_slot.is_some() || finalized_block_height.is_some()).then(|| Dead {
        signature: trace.signature.to_string(),
        last_valid_block_height: trace.last_valid_block_height,
        finalized_block_height,
        failed_in_slot,
    })
}

fn open(trace: &Trace) -> Open {
    Open {
        signature: trace.signature.to_string(),
        last_valid_block_height: trace.last_valid_block_height,
        outcome: trace.outcome.clone(),
    }
}
