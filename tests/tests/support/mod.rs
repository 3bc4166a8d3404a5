//! What the suites share on their side of the crate.
// Each suite is its own binary and uses its part of this file.
#![allow(dead_code)]

use sluice::SluiceError;
use sluice_tests::{Failure, Outcome};

/// Checks that the program refused a transaction for this reason.
#[track_caller]
pub fn refused(result: Result<Outcome, Failure>, reason: SluiceError) {
    let failure = match result {
        Ok(_) => panic!("it went through and should have been refused: {reason:?}"),
        Err(failure) => failure,
    };
    assert_eq!(
        failure.custom(),
        Some(u32::from(reason)),
        "{reason:?} was expected: {:?} {:#?}",
        failure.error,
        failure.logs
    );
}
