//! The commands, a file for each group.

pub mod config;
pub mod facilitator;
pub mod intent;
pub mod keygen;
pub mod migrate;
pub mod mint;
pub mod pay;
pub mod payer;
pub mod service;

use sluice_sdk::Address;

/// A key of an account as an address.
fn key(bytes: [u8; 32]) -> Address {
    Address::new_from_array(bytes)
}

/// A key of an account as text; "nobody" for zero.
fn somebody(bytes: [u8; 32]) -> String {
    if bytes == [0; 32] {
        "nobody".to_owned()
    } else {
        key(bytes).to_string()
    }
}
