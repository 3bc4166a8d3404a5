//! x402 on the wire: the types of versions 1 and 2, the stock scheme `exact`, and the split scheme that Sluice adds.
//!
//! Field names and headers follow the published packages and the x402 specification; where the two versions
//! differ only in spelling, [`Requirements`] is what the rest of the code works with.

mod exact;
mod network;
mod split;
mod wire;

pub use exact::{
    EXACT, ExactPayload, ExactTransfer, LIGHTHOUSE_PROGRAM, MEMO_PROGRAM, STOCK_UNIT_PRICE,
    STOCK_UNITS, message_digest, partly_signed,
};
pub use network::{Network, UnknownNetwork};
pub use split::{
    Batch, RecipientTerms, SCHEME, SettleExtra, SplitExtra, SplitPayload, SplitShares, WireError,
};
pub use wire::*;
