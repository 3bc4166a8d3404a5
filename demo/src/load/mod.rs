//! Load: hundreds of payers against one relayer, over HTTP, as fast as they get answers.

pub mod drive;
pub mod payers;
pub mod plot;
pub mod report;
