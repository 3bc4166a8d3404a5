//! The instructions, a file each: accounts, arguments, handler.

pub mod create_service;
pub mod initialize_config;
pub mod open_nonce;
pub mod register_facilitator;
pub mod set_lane;
pub mod set_mint;
pub mod set_paused;
pub mod set_treasury;
pub mod settle;
pub mod update_config;

pub use create_service::*;
pub use initialize_config::*;
pub use open_nonce::*;
pub use register_facilitator::*;
pub use set_lane::*;
pub use set_mint::*;
pub use set_paused::*;
pub use set_treasury::*;
pub use settle::*;
pub use update_config::*;
