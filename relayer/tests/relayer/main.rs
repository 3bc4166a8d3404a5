//! The relayer on a chain that the tests make up, and on ledgers that are real.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod config;
mod exact;
mod fake;
mod http;
mod judge;
mod ledger;
mod load;
mod postgres;
mod replicas;
mod scene;
mod secrets;
mod trouble;
