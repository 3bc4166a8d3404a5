//! The relayer on a chain that the tests make up.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod config;
mod fake;
mod http;
mod judge;
mod ledger;
mod scene;
mod secrets;
