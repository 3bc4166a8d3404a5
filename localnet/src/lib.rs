//! A local Solana validator inside the process, with Sluice deployed and everybody funded.
//!
//! ```no_run
//! let localnet = sluice_localnet::Localnet::builder().start()?;
//! println!("RPC at {}, merchant {}", localnet.rpc_url(), localnet.keys().address(sluice_localnet::Role::Merchant));
//! localnet.stop()?;
//! # Ok::<(), sluice_localnet::Error>(())
//! ```
//!
//! The validator is [surfpool](surfpool_core), offline: it makes no connection to the outside, and its RPC and
//! websocket listen on 127.0.0.1 only. It starts in a fraction of a second with
//! - the program, upgradeable, with [`Role::Admin`] as its upgrade authority;
//! - a classic SPL mint with 6 decimals at devnet USDC's address, [`USDC_MINT`], which [`Role::Admin`] can mint from;
//! - the [demo keys](DemoKeys), of which those that pay fees hold SOL, and the payer holds 100 USDC.
//!
//! **The demo keys are public.** They are derived from fixed labels, so everybody who reads this crate has them. Nothing
//! of value may ever be sent to their addresses on a public network.
//!
//! # Which network it claims to be
//!
//! x402 names a network by its CAIP-2 identifier, which for Solana is the start of the genesis hash, and its clients
//! know only mainnet, devnet and testnet. So this validator says it is devnet: it answers `getGenesisHash` with
//! [`GENESIS_HASH`], and whoever compares that with [`NETWORK`] finds them in agreement. Left alone, surfpool would
//! answer with the hash of a default genesis, another one at each start.
//!
//! # What differs from a real cluster
//!
//! - Blocks come by the clock, one per slot time. A transaction is seen as processed at once, its status shows as
//!   confirmed at the next block, and it is finalized 31 slots later.
//! - Blockhashes are derived from the slot's number, so they repeat from one start to the next: whoever keeps
//!   transactions must forget them when the validator restarts.
//! - `getRecentPrioritizationFees` is always empty.
//! - Nothing is kept: a restart begins anew.

mod accounts;
mod error;
mod keys;
mod validator;

use solana_address::Address;

pub use accounts::{associated_token_address, program_data_address};
pub use error::Error;
pub use keys::{DemoKeys, Role};
pub use validator::{Builder, Localnet, default_program_path};

/// The network this validator declares itself to be: devnet, in CAIP-2 form.
pub const NETWORK: &str = "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1";

/// What the validator answers to `getGenesisHash`: devnet's genesis hash.
pub const GENESIS_HASH: &str = "EtWTRABZaYq6iMfeYKouRu166VU2xqa1wcaWoxPkrZBG";

/// The address of USDC on devnet, where this validator has a mint of its own.
pub const USDC_MINT: Address = sluice_sdk::DEVNET_USDC;

/// The decimals of [`USDC_MINT`]: 1 USDC is 1,000,000 units.
pub const USDC_DECIMALS: u8 = 6;

/// What the payer's token account holds at the start: 100 USDC.
pub const PAYER_UNITS: u64 = 100_000_000;

/// Lamports in one SOL.
pub const LAMPORTS_PER_SOL: u64 = 1_000_000_000;
