//! The relayer on a chain that the tests make up, and on ledgers that are real.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod chores;
mod config;
mod distribute;
mod economics;
mod exact;
mod fake;
mod garbage;
mod guard;
mod http;
mod identifier;
mod judge;
mod ledger;
mod load;
mod onboard;
mod postgres;
mod reclaim;
mod replicas;
mod scene;
mod screening;
mod secrets;
mod stats;
mod trouble;
