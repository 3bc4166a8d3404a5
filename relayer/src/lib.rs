//! The Sluice relayer: an x402 facilitator that verifies and settles signed intents on Solana.
//!
//! Reading order: [`request`] (what comes in), [`snapshot`] (what the chain says about it), [`verify`] (the
//! judgement), [`exact`] (the stock scheme), [`economics`] (whether it pays), [`desk`] (what is at work), [`settle`] (how
//! a call is answered), [`identifier`] (how the same call is answered again), [`batch`] (how payments share a
//! transaction), [`ledger`] (what is on disk before anything is sent), [`follow`] (how it ends), [`proof`] (how that is
//! shown), [`http`] (how it is asked), [`guard`] (by whom, and how often). [`chores`] and [`onboard`] are what is done
//! beside payments. [`engine`] holds them together and [`Relayer`] runs them.

pub mod batch;
pub mod budget;
pub mod chain;
pub mod chores;
pub mod config;
pub mod desk;
pub mod economics;
pub mod engine;
pub mod exact;
pub mod follow;
pub mod guard;
pub mod http;
pub mod identifier;
pub mod lease;
pub mod ledger;
pub mod onboard;
pub mod outbound;
pub mod proof;
pub mod reason;
pub mod request;
mod run;
pub mod settle;
pub mod signers;
pub mod snapshot;
pub mod verify;
mod watch;

pub use config::Config;
pub use run::{Relayer, RunningRelayer, StartError};
/// The keys of this process.
pub use signers::local as keys;
