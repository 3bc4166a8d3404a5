//! The stock `exact` scheme: a transfer in a transaction that the payer has signed and this relayer completes.
//!
//! Signing somebody else's transaction is dangerous: whatever it does is done with the fee payer's signature. So
//! [`rules`] goes through every instruction before anything else is looked at, and nothing is signed at `/verify`.
//! [`judge`] holds what is left against the chain. From there a transfer takes the way of every payment: written down,
//! sent, followed to its end, answered with success once; but there is that one transaction of it and no other.

pub mod judge;
pub mod payment;
pub mod rules;
mod settle;

pub use payment::Transfer;
