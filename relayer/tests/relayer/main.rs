//! The relayer on a chain that the tests make up, and on ledgers that are real.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod chores;
mod clock;
mod config;
mod disk;
mod distribute;
mod drain;
mod economics;
mod exact;
mod fake;
mod garbage;
mod guard;
mod halt;
mod http;
mod identifier;
mod judge;
mod kill;
mod ledger;
mod load;
mod node;
mod onboard;
mod postgres;
mod process;
mod processes;
mod proof;
mod reclaim;
mod replicas;
mod scene;
mod screening;
mod secrets;
mod server;
mod stats;
mod trouble;
