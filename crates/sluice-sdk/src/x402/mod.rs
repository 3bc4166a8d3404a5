//! x402 on the wire: the types of versions 1 and 2, and the split scheme that Sluice adds.
//!
//! Field names and headers follow the published packages and the x402 specification; where the two versions
//! differ only in spelling, [`Requirements`] is what the rest of the code works with.

mod network;
mod split;
mod wire;

pub use network::{Network, UnknownNetwork};
pub use split::{
    Batch, RecipientTerms, SCHEME, SettleExtra, SplitExtra, SplitPayload, SplitShares, WireError,
};
pub use wire::*;
