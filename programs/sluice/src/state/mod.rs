//! The accounts. Fixed size, zero-copy, a file each; every one has a version, its bump and a reserved tail.

mod accepted_mint;
mod config;
mod create;
mod facilitator;
mod held_balance;
mod load;
mod nonce_account;
mod service;

pub use accepted_mint::*;
pub use config::*;
pub use create::{close, create};
pub use facilitator::*;
pub use held_balance::*;
pub use load::{Layout, is, read, write};
pub use nonce_account::*;
pub use service::*;

/// The layout version that this program writes and reads.
pub const VERSION: u8 = 1;
/// Bytes at the end of every account that are zero until a later version gives them a meaning.
pub const RESERVED: usize = 64;

/// Seeds of the program's addresses.
pub mod seeds {
    /// `["config"]`.
    pub const CONFIG: &[u8] = b"config";
    /// `["mint", mint]`.
    pub const MINT: &[u8] = b"mint";
    /// `["facilitator", creator]`.
    pub const FACILITATOR: &[u8] = b"facilitator";
    /// `["service", creator, id u64]`.
    pub const SERVICE: &[u8] = b"service";
    /// `["held", service, owner]`.
    pub const HELD: &[u8] = b"held";
    /// `["nonce", payer, mint]`.
    pub const NONCE: &[u8] = b"nonce";
}

macro_rules! layouts {
    ($($name:ident),*) => {$(
        impl Layout for $name {
            const VERSION_AT: usize = core::mem::offset_of!($name, version);
        }
    )*};
}
layouts!(
    Config,
    AcceptedMint,
    Facilitator,
    Service,
    HeldBalance,
    NonceAccount
);
