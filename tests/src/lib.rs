//! A Sluice deployment inside LiteSVM, made by the program's own instructions, for the suites and the
//! benchmark.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot set the scene must stop"
)]

mod outcome;
mod payer;
mod token;
mod world;

pub use outcome::{Failure, Outcome, Settled};
pub use payer::{Payer, lane_terms};
pub use token::{TokenState, mint_data};
pub use world::{NOW, World, WorldOptions, program_path};
