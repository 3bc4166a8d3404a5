//! A Sluice deployment inside LiteSVM, made by the program's own instructions, for the suites and the
//! benchmark.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot set the scene must stop"
)]

mod events;
mod outcome;
mod payer;
mod service;
mod token;
mod token_2022;
mod world;

pub use events::{Paid, decode, idl};
pub use outcome::{Failure, Outcome, Settled};
pub use payer::{Payer, lane_terms};
pub use service::{Operator, row};
pub use token::{TokenState, mint_data};
pub use token_2022::{Market, MintExtension, Shape, Tlv, bits};
pub use world::{NOW, World, WorldOptions, program_path};
