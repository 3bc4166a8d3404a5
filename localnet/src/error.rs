//! What can go wrong, each with its cause and what to do about it.

use std::{path::PathBuf, time::Duration};

use solana_address::Address;

/// Why the local validator did not start, or did not stop.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no program file at the path.
    #[error("there is no program at {path}: run `make program`, or name another file", path = .0.display())]
    ProgramMissing(PathBuf),

    /// The program file is there and cannot be read.
    #[error("the program at {path} cannot be read: {source}", path = .path.display())]
    ProgramUnreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },

    /// The program file is not one the validator can run.
    #[error("the program at {path} cannot be loaded ({cause}): run `make program` again", path = .path.display())]
    ProgramInvalid {
        /// The file.
        path: PathBuf,
        /// What the validator says.
        cause: String,
    },

    /// Something else listens on the port.
    #[error(
        "the {server} port {port} is in use: stop what listens there, or choose another (0 picks a free one)"
    )]
    PortInUse {
        /// "RPC" or "websocket".
        server: &'static str,
        /// The port.
        port: u16,
    },

    /// The port cannot be listened on for another reason.
    #[error(
        "the {server} port {port} on 127.0.0.1 cannot be used: {source}; choose another (0 picks a free one)"
    )]
    Port {
        /// "RPC" or "websocket".
        server: &'static str,
        /// The port.
        port: u16,
        /// What the system says.
        source: std::io::Error,
    },

    /// The slot time is zero or absurd.
    #[error("a slot of {0:?} is out of range: choose 10 ms to 10 s")]
    SlotTime(Duration),

    /// The balances asked for add up to more than an account can hold.
    #[error(
        "the balances asked for {0} add up to more than a token or a SOL balance can hold: ask for less"
    )]
    BalanceOverflow(Address),

    /// The validator refused one of the accounts it should start with.
    #[error("the validator refused the account {address}: {cause}")]
    Account {
        /// The account.
        address: Address,
        /// What the validator says.
        cause: String,
    },

    /// A thread or a runtime could not be created.
    #[error("the validator's threads could not be created: {0}; close some programs and try again")]
    Threads(std::io::Error),

    /// The validator ended before it was ready, or on its own.
    #[error("the validator ended: {0}")]
    Ended(String),

    /// The RPC did not answer in time.
    #[error(
        "the validator did not answer within {within:?} ({cause}): the machine may be overloaded, try again or allow more time"
    )]
    NotReady {
        /// How long it was given.
        within: Duration,
        /// What the last attempt said.
        cause: String,
    },

    /// The validator did not stop in time; its thread may still be running.
    #[error("the validator did not stop within {0:?}: end the process to free its ports")]
    NotStopped(Duration),
}
