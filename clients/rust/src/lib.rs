//! Pay for HTTP requests, and be paid for them, with x402 and the Sluice split scheme.
//!
//! The two halves are independent; each is a cargo feature, both on by default.
//!
//! - [`pay`]: a client. It asks, sees the 402, checks what is asked against what it is willing to pay, signs
//!   one payment intent, sends the request again, and gives a receipt.
//! - [`paywall`]: a layer for axum routers. It answers 402, has a facilitator check and settle what comes in,
//!   and releases the handler's answer only when the payment has landed.
//!
//! Both speak versions 1 and 2 of the protocol. [`Facilitator`] is the HTTP client of a facilitator that they
//! share.

mod body;
pub mod facilitator;
#[cfg(feature = "pay")]
pub mod pay;
#[cfg(feature = "paywall")]
pub mod paywall;
mod resource;

pub use facilitator::{Facilitator, FacilitatorError};
pub use resource::request_tag;
pub use sluice_sdk::{Address, x402};
