use std::{
    collections::HashMap,
    future::Future,
    str::FromStr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use sluice_sdk::Address;

use crate::facilitator::{Facilitator, FacilitatorError, LaneState};

/// Nonces ahead of the chain that a window takes.
const WINDOW_AHEAD: u64 = 128;
/// How long a nonce that was given out is kept from the next caller: longer than an intent of this client
/// lives. Giving it out again after that is safe, because of two intents with one nonce at most one lands.
const HOLD: Duration = Duration::from_secs(330);

/// The relayer's word for a payer who has no nonce account.
const NOT_FOUND: &str = "nonce_account_not_found";

/// For whom a nonce is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NonceRequest {
    /// The wallet whose nonce account is charged.
    pub payer: Address,
    /// The mint that is spent.
    pub mint: Address,
    /// The key that will sign; the lane must be its own.
    pub key: Address,
}

/// Where the next intent of a payer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NonceGrant {
    /// The payer's nonce account in the mint.
    pub nonce_account: Address,
    /// Slot in which it was opened.
    pub opened_slot: u64,
    /// The lane whose key signs.
    pub lane: u8,
    /// A nonce of that lane that is free.
    pub nonce: u64,
}

/// Why there is no nonce.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NonceError {
    /// The payer has no nonce account in the mint.
    #[error("the payer has opened no nonce account in this mint")]
    NotOpened,
    /// The key may not sign for the payer.
    #[error("no open lane of the payer has the key {key}: open one with `sluice payer lane`")]
    NoLane {
        /// The key that was to sign.
        key: Address,
    },
    /// As many payments as the window holds are under way.
    #[error(
        "{WINDOW_AHEAD} payments of this lane are under way: wait until some have landed or expired"
    )]
    TooManyInFlight,
    /// The source names an account that is not the payer's.
    #[error("the nonce account {given} is not the payer's, which is {expected}")]
    ForeignAccount {
        /// What the source says.
        given: String,
        /// What follows from payer and mint.
        expected: Address,
    },
    /// The facilitator could not be asked.
    #[error(transparent)]
    Facilitator(#[from] FacilitatorError),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// Gives out nonces. Two calls at once must not be given the same one, or only one of the two payments lands.
#[async_trait]
pub trait NonceSource: Send + Sync {
    /// A nonce that is free.
    async fn next(&self, request: &NonceRequest) -> Result<NonceGrant, NonceError>;
}

/// Asks a facilitator, which counts what it has in flight, and keeps apart the callers in this process.
///
/// Several processes that share one key should have a lane each, or one source between them.
#[derive(Debug)]
pub struct FacilitatorNonces {
    facilitator: Facilitator,
    held: Mutex<HashMap<Place, Instant>>,
}

/// Nonce account, opened slot, lane, nonce.
type Place = (Address, u64, u8, u64);

impl FacilitatorNonces {
    /// Asks this facilitator.
    pub fn new(facilitator: Facilitator) -> Self {
        Self {
            facilitator,
            held: Mutex::new(HashMap::new()),
        }
    }

    /// Takes the first nonce from `first` on that nobody here was given lately.
    fn take(
        &self,
        nonce_account: Address,
        opened_slot: u64,
        lane: u8,
        first: u64,
    ) -> Result<NonceGrant, NonceError> {
        let now = Instant::now();
        // Nothing is left half done under this lock, so a poisoned one is as good as any.
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|_, since| now.duration_since(*since) < HOLD);
        let nonce = (first..first.saturating_add(WINDOW_AHEAD))
            .find(|nonce| !held.contains_key(&(nonce_account, opened_slot, lane, *nonce)))
            .ok_or(NonceError::TooManyInFlight)?;
        held.insert((nonce_account, opened_slot, lane, nonce), now);
        Ok(NonceGrant {
            nonce_account,
            opened_slot,
            lane,
            nonce,
        })
    }
}

#[async_trait]
impl NonceSource for FacilitatorNonces {
    async fn next(&self, request: &NonceRequest) -> Result<NonceGrant, NonceError> {
        let state = match self.facilitator.payer(&request.payer, &request.mint).await {
            Err(FacilitatorError::Refused { reason, .. })
                if reason.as_deref() == Some(NOT_FOUND) =>
            {
                return Err(NonceError::NotOpened);
            }
            other => other?,
        };
        let Some(opened_slot) = state.opened_slot.filter(|_| state.opened) else {
            return Err(NonceError::NotOpened);
        };
        let expected = sluice_sdk::address::nonce_account(&request.payer, &request.mint).0;
        if Address::from_str(&state.nonce_account) != Ok(expected) {
            return Err(NonceError::ForeignAccount {
                given: state.nonce_account,
                expected,
            });
        }
        let is_ours = |lane: &&LaneState| {
            let key = lane.key.as_deref().map(Address::from_str);
            lane.open && key == Some(Ok(request.key))
        };
        let lane = state
            .lanes
            .iter()
            .find(is_ours)
            .ok_or(NonceError::NoLane { key: request.key })?;
        // None is left when those above what has landed are all in flight.
        let first = lane.next_nonce.ok_or(NonceError::TooManyInFlight)?;
        self.take(expected, opened_slot, lane.lane, first)
    }
}

/// A nonce source made of a closure, for callers that read the chain or keep count themselves.
///
/// ```
/// use sluice_client::pay::{FnNonces, NonceGrant, NonceRequest};
///
/// let nonces = FnNonces::new(|request: NonceRequest| async move {
///     let (nonce_account, _) = sluice_sdk::address::nonce_account(&request.payer, &request.mint);
///     Ok(NonceGrant { nonce_account, opened_slot: 1, lane: 0, nonce: 0 })
/// });
/// # fn takes(_: impl sluice_client::pay::NonceSource) {}
/// # takes(nonces);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct FnNonces<F>(F);

impl<F, Fut> FnNonces<F>
where
    F: Fn(NonceRequest) -> Fut + Send + Sync,
    Fut: Future<Output = Result<NonceGrant, NonceError>> + Send,
{
    /// A source that calls `next`.
    pub fn new(next: F) -> Self {
        Self(next)
    }
}

#[async_trait]
impl<F, Fut> NonceSource for FnNonces<F>
where
    F: Fn(NonceRequest) -> Fut + Send + Sync,
    Fut: Future<Output = Result<NonceGrant, NonceError>> + Send,
{
    async fn next(&self, request: &NonceRequest) -> Result<NonceGrant, NonceError> {
        (self.0)(*request).await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn source() -> FacilitatorNonces {
        FacilitatorNonces::new(Facilitator::new("http://127.0.0.1:1").unwrap())
    }

    #[test]
    fn callers_at_once_are_given_different_nonces() {
        let source = source();
        let account = sluice_sdk::PROGRAM_ID;
        let next = |first| source.take(account, 9, 0, first).unwrap().nonce;
        assert_eq!([next(5), next(5), next(6), next(5)], [5, 6, 7, 8]);
        assert_eq!(
            source.take(account, 9, 1, 5).unwrap().nonce,
            5,
            "another lane"
        );
        assert_eq!(
            source.take(account, 10, 0, 5).unwrap().nonce,
            5,
            "reopened since"
        );
    }

    #[test]
    fn no_more_than_a_window_is_given_out() {
        let source = source();
        let account = sluice_sdk::PROGRAM_ID;
        for _ in 0..WINDOW_AHEAD {
            source.take(account, 9, 0, 0).unwrap();
        }
        assert_eq!(
            source.take(account, 9, 0, 0),
            Err(NonceError::TooManyInFlight)
        );
    }
}
