//! Errors as a person or a script meets them: a cause, a next step, and an exit code that can be relied on.

use std::{fmt, process::ExitCode};

use serde_json::json;
use sluice_migrations::{ChainError, FileError};

/// Kinds of failure, one exit code each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Something went wrong, and nothing is left open.
    Error,
    /// The command line is wrong.
    Usage,
    /// Nobody confirmed it.
    Refused,
    /// Something was sent, and its outcome is not known.
    Unknown,
    /// The RPC or the server could not be reached.
    Unreachable,
}

impl Code {
    /// The exit code.
    pub fn number(self) -> u8 {
        match self {
            Self::Error => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::Unknown => 4,
            Self::Unreachable => 5,
        }
    }

    /// The word for it in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Usage => "usage",
            Self::Refused => "not_confirmed",
            Self::Unknown => "unknown_outcome",
            Self::Unreachable => "unreachable",
        }
    }
}

/// Why a command did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CliError {
    /// Its kind.
    pub code: Code,
    /// The cause.
    pub message: String,
    /// The next step.
    pub mend: String,
}

impl CliError {
    /// An error of any kind.
    pub fn new(code: Code, message: impl ToString, mend: impl ToString) -> Self {
        Self {
            code,
            message: message.to_string(),
            mend: mend.to_string(),
        }
    }

    /// Something went wrong.
    pub fn error(message: impl ToString, mend: impl ToString) -> Self {
        Self::new(Code::Error, message, mend)
    }

    /// The command line is wrong.
    pub fn usage(message: impl ToString, mend: impl ToString) -> Self {
        Self::new(Code::Usage, message, mend)
    }

    /// The exit code.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code.number())
    }

    /// The error for scripts.
    pub fn to_json(&self) -> serde_json::Value {
        json!({"error": {"code": self.code.name(), "message": self.message, "mend": self.mend}})
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        if !self.mend.is_empty() {
            write!(f, "\n  try: {}", self.mend)?;
        }
        Ok(())
    }
}

impl From<ChainError> for CliError {
    fn from(error: ChainError) -> Self {
        let code = code_of(&error);
        Self::new(code, &error, error.mend())
    }
}

impl From<sluice_migrations::Error> for CliError {
    fn from(error: sluice_migrations::Error) -> Self {
        let code = match &error {
            sluice_migrations::Error::Chain(error)
            | sluice_migrations::Error::Send { error, .. } => code_of(error),
            _ => Code::Error,
        };
        Self::new(code, &error, error.mend())
    }
}

impl From<FileError> for CliError {
    fn from(error: FileError) -> Self {
        Self::error(&error, error.mend())
    }
}

impl From<sluice_sdk::DecodeError> for CliError {
    fn from(error: sluice_sdk::DecodeError) -> Self {
        Self::error(error, "check the address, and the cluster (--url)")
    }
}

fn code_of(error: &ChainError) -> Code {
    match error {
        ChainError::Unreachable { .. } => Code::Unreachable,
        ChainError::Unknown { .. } => Code::Unknown,
        _ => Code::Error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_outcome_is_never_called_a_failure() {
        let error: CliError = ChainError::Unknown {
            signature: Default::default(),
            cause: "the cluster did not say in time".to_owned(),
        }
        .into();
        assert_eq!(error.code.number(), 4);
        assert!(!error.to_string().contains("fail"));
        assert!(error.mend.contains("solana confirm"));
    }

    #[test]
    fn json_names_code_cause_and_next_step() {
        let error = CliError::new(Code::Unreachable, "no answer", "check --url");
        assert_eq!(
            error.to_json().to_string(),
            r#"{"error":{"code":"unreachable","mend":"check --url","message":"no answer"}}"#
        );
    }
}
