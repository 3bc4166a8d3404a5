//! What the demo and the load test share: the real programs, started as an operator would start them on a local
//! validator, and what a person reads meanwhile.

pub mod api;
pub mod balances;
pub mod load;
pub mod processes;
pub mod setting;
pub mod show;
