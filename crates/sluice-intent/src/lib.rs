//! The pure core of Sluice: what a payer signs, what the chain remembers of it, and how the money is divided.
//!
//! Program, relayer, SDK and CLI all call the functions here, so they cannot disagree about a byte of a
//! digest, a bit of a window or a unit of a split. Nothing here allocates, panics on input, or knows a
//! Solana account: keys are 32 bytes, time is unix seconds, money is atomic units of one mint.
//!
//! Reading order: [`terms`] (what a service charges), [`intent`] (what the payer signs), [`entry`] (how it
//! travels), [`window`] and [`lane`] (what is remembered), [`skip`] (why an entry is refused), [`split`], [`extension`]
//! (what Token-2022 adds).
#![no_std]

#[cfg(test)]
extern crate std;

pub mod entry;
pub mod extension;
pub mod intent;
pub mod lane;
pub mod resource;
mod sha512;
pub mod signature;
pub mod skip;
pub mod split;
pub mod terms;
pub mod window;

pub use entry::{ENTRY_LEN, Entry, Flags};
pub use intent::{Digest, Intent, MESSAGE_LEN, MESSAGE_TAG};
pub use lane::{LANES, Lane, LaneTerms, LaneUpdate, Scope, Spend, UNLIMITED};
pub use resource::{RESOURCE_LEN, Resource};
pub use skip::Skip;
pub use split::{Shares, SplitError};
pub use terms::{MAX_RECIPIENTS, Recipient, Terms, TermsError};
pub use window::Window;

/// A public key or an account address: 32 bytes, as on chain.
pub type Key = [u8; 32];

/// Basis points in a whole: shares are fractions of 10,000.
pub const BPS: u64 = 10_000;
/// The treasury's share can never pass this, whatever an admin does (10 %).
pub const MAX_TREASURY_BPS: u16 = 1_000;
/// The facilitator's whole leg (fixed and proportional) can never pass this part of a settlement (50 %).
pub const MAX_FACILITATOR_BPS: u16 = 5_000;
/// No config may let an intent be signed further ahead than this (one hour, in seconds).
pub const MAX_INTENT_TTL_SECS: u32 = 3_600;
/// Relayer keys a facilitator may register.
pub const MAX_RELAYERS: usize = 8;
