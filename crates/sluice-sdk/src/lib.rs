//! Everything off-chain code needs to talk to the Sluice program: addresses, account decoding, instructions,
//! transactions, intent signing, and the x402 wire types of the split scheme.
//!
//! This crate is the only place off-chain that knows account layouts. It makes no connections: callers bring
//! their own RPC client.

pub mod accounts;
pub mod address;
pub mod instructions;
pub mod intent;
pub mod program_error;
pub mod token;
pub mod transaction;
pub mod x402;

pub use sluice_intent as core;
pub use solana_address::Address;

pub use accounts::DecodeError;
pub use intent::{IntentSigner, SignedIntent, UnsignedIntent};

/// The Sluice program.
pub const PROGRAM_ID: Address =
    Address::from_str_const("HRDPxHoikcwxEKixTK5uV9X9VcnpRwNZUsC6ZmHdLimi");
/// The mint address of USDC on devnet; the local validator puts its test mint there.
pub const DEVNET_USDC: Address =
    Address::from_str_const("4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU");
/// The upgradeable loader, which owns the program and its data account.
pub const LOADER_V3: Address =
    Address::from_str_const("BPFLoaderUpgradeab1e11111111111111111111111");
/// The system program.
pub const SYSTEM_PROGRAM: Address = Address::new_from_array([0; 32]);
