//! What every request shares: chain, ledger, key and settings; and the answers to `/verify`.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

use sluice_intent::Digest;
use sluice_sdk::{Address, x402::Network};
use solana_signature::Signature;
use tokio::sync::{Notify, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    chain::{Chain, ChainError},
    config::{ChainSettings, Fees, Limits},
    keys::FeePayer,
    ledger::{Ledger, LedgerError, PaymentRow, State, unix_millis},
    reason::{Reason, Rejection},
    request::{Home, Payment},
    snapshot::{Snapshot, SnapshotError, Snapshots, Subject},
    verify::{Admission, Settler, judge},
};

/// What the relayer is told, and what it learned at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The network.
    pub network: Network,
    /// The cluster's genesis hash.
    pub genesis_hash: [u8; 32],
    /// The facilitator that is settled for.
    pub facilitator: Address,
    /// Bounds on requests.
    pub limits: Limits,
    /// Bounds on costs.
    pub fees: Fees,
    /// How the chain is asked.
    pub chain: ChainSettings,
}

/// The relayer without its HTTP.
pub struct Engine {
    pub(crate) settings: Settings,
    pub(crate) chain: Arc<dyn Chain>,
    pub(crate) ledger: Ledger,
    pub(crate) key: FeePayer,
    pub(crate) snapshots: Snapshots,
    /// Counts changes of payments' states; those who wait for one read the ledger again.
    pub(crate) progress: watch::Sender<u64>,
    /// Wakes the task that follows open payments.
    pub(crate) nudge: Notify,
    /// Settlements at work: they finish even if their caller hangs up.
    pub(crate) tasks: TaskTracker,
    /// Cancelled when nobody may wait any longer.
    pub(crate) closing: CancellationToken,
    waiting: Mutex<HashSet<Digest>>,
}

/// Why a request got no verdict. Nothing was decided and nothing was spent: the caller may try again.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// The RPC did not answer.
    #[error("{0}")]
    Rpc(#[from] ChainError),
    /// The deployment or the facilitator is not set up.
    #[error("the relayer is not ready: {0}")]
    NotReady(String),
    /// The fee payer's balance is below the low-water mark.
    #[error(
        "the fee payer holds {lamports} lamports, below its low-water mark of {least}: its operator must fund it"
    )]
    FeePayer {
        /// What it holds.
        lamports: u64,
        /// The low-water mark.
        least: u64,
    },
    /// Too much is being worked on.
    #[error("too many payments are being settled: try again shortly")]
    Overloaded,
    /// The ledger did not answer, so nothing may be sent.
    #[error("{0}")]
    Ledger(#[from] LedgerError),
    /// The settlement was interrupted before anything was signed.
    #[error("the settlement was interrupted before anything was signed: try again")]
    Interrupted,
}

impl From<SnapshotError> for Unavailable {
    fn from(error: SnapshotError) -> Self {
        match error {
            SnapshotError::Chain(error) => Self::Rpc(error),
            SnapshotError::Setup(problem) => Self::NotReady(problem),
        }
    }
}

/// A verdict on a payment that was not settled now.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// The reason and its message.
    pub rejection: Rejection,
    /// The payer, if it is known.
    pub payer: Option<Address>,
    /// The transaction, if there is one.
    pub transaction: Option<Signature>,
}

impl Refusal {
    /// A refusal of a payment whose payer may be known from the chain.
    pub(crate) fn new(rejection: Rejection, payer: Option<Address>) -> Self {
        Self {
            rejection,
            payer,
            transaction: None,
        }
    }

    /// A refusal with a payment of the ledger.
    pub(crate) fn of_row(rejection: Rejection, row: &PaymentRow) -> Self {
        Self {
            rejection,
            payer: Some(row.payer),
            transaction: row.signature,
        }
    }
}

/// A payment that is known to the ledger, as a request sees it.
pub(crate) struct Known {
    pub(crate) row: PaymentRow,
    /// Whether the request carries the very signature that was taken on.
    pub(crate) same_entry: bool,
}

/// How far a look at ledger and chain came.
pub(crate) enum Examined {
    Known(Box<Known>),
    Refused(Refusal),
    /// Good by the chain. The time is when the snapshot was asked for, unix milliseconds of this machine.
    Good(Box<Admission>, i64),
}

/// Held by the one caller that waits for a payment.
pub(crate) struct Waiting<'a> {
    engine: &'a Engine,
    digest: Digest,
}

impl Waiting<'_> {
    /// The payment that is waited for.
    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Ok(mut waiting) = self.engine.waiting.lock() {
            waiting.remove(&self.digest);
        }
    }
}

impl Engine {
    /// An engine that nothing drives yet.
    pub fn new(
        settings: Settings,
        chain: Arc<dyn Chain>,
        ledger: Ledger,
        key: FeePayer,
        closing: CancellationToken,
    ) -> Self {
        Self {
            settings,
            chain,
            ledger,
            key,
            snapshots: Snapshots::default(),
            progress: watch::Sender::new(0),
            nudge: Notify::new(),
            tasks: TaskTracker::new(),
            closing,
            waiting: Mutex::default(),
        }
    }

    /// Where payments must belong to.
    pub fn home(&self) -> Home {
        Home {
            network: self.settings.network,
            genesis_hash: self.settings.genesis_hash,
            facilitator: self.settings.facilitator,
        }
    }

    /// Judges a payment. Signs nothing, sends nothing, reserves nothing.
    ///
    /// The inner result gives the payer of a valid payment.
    pub async fn verify(&self, payment: &Payment) -> Result<Result<Address, Refusal>, Unavailable> {
        let (admission, since) = match self.examine(payment).await? {
            Examined::Good(admission, since) => (admission, since),
            Examined::Refused(refusal) => return Ok(Err(refusal)),
            Examined::Known(known) => return Ok(Err(known.verdict())),
        };
        let in_flight = self.ledger.in_flight(&payment.nonce_account, since).await?;
        Ok(match admission.reserve(&in_flight) {
            Ok(()) => Ok(admission.payer),
            Err(rejection) => Err(Refusal::new(rejection, Some(admission.payer))),
        })
    }

    /// Looks a payment up in the ledger, and judges it by the chain if it is new.
    pub(crate) async fn examine(&self, payment: &Payment) -> Result<Examined, Unavailable> {
        // With the terms in the requirement the digest is known without the chain, and so is the fate of a
        // payment that was settled before, even while the RPC is down.
        if let Some(terms) = payment.shown_terms
            && let Some(known) = self.known(payment, terms).await?
        {
            return Ok(Examined::Known(Box::new(known)));
        }
        let since = unix_millis();
        let snapshot = self.snapshot(payment).await?;
        let payer = snapshot
            .nonce
            .found()
            .map(|nonce| Address::new_from_array(nonce.payer));
        if let Some(service) = snapshot.service.found()
            && payment.shown_terms.is_none()
            && let Some(known) = self.known(payment, service.terms_hash).await?
        {
            return Ok(Examined::Known(Box::new(known)));
        }
        let settler = Settler {
            relayer: self.key.address(),
            facilitator: self.settings.facilitator,
            margin_secs: self.settings.chain.expiry_margin_secs,
        };
        match judge(&snapshot, payment, &settler) {
            Err(rejection) => Ok(Examined::Refused(Refusal::new(rejection, payer))),
            Ok(admission) => {
                self.check_fee_payer(&snapshot)?;
                Ok(Examined::Good(Box::new(admission), since))
            }
        }
    }

    async fn snapshot(&self, payment: &Payment) -> Result<Snapshot, SnapshotError> {
        let subject = Subject {
            relayer: self.key.address(),
            facilitator: self.settings.facilitator,
            genesis_hash: self.settings.genesis_hash,
            service: payment.service,
            mint: payment.mint,
            nonce_account: payment.nonce_account,
        };
        self.snapshots.take(self.chain.as_ref(), &subject).await
    }

    async fn known(
        &self,
        payment: &Payment,
        terms_hash: [u8; 32],
    ) -> Result<Option<Known>, Unavailable> {
        // A payload that cannot be read is for the judge to name.
        let Ok(signed) = payment.intent(terms_hash) else {
            return Ok(None);
        };
        let row = self.ledger.payment(&signed.intent.digest()).await?;
        Ok(row
            .filter(|row| row.state != State::Rejected)
            .map(|row| Known {
                same_entry: row.entry == signed.entry(),
                row,
            }))
    }

    fn check_fee_payer(&self, snapshot: &Snapshot) -> Result<(), Unavailable> {
        let least = self.settings.fees.min_balance_lamports;
        let lamports = snapshot.fee_payer_lamports;
        if lamports < least {
            tracing::error!(lamports, least, "the fee payer is below its low-water mark");
            return Err(Unavailable::FeePayer { lamports, least });
        }
        Ok(())
    }

    /// Makes the caller the one that waits for a payment; `None` if somebody does already.
    pub(crate) fn wait_for(&self, digest: Digest) -> Option<Waiting<'_>> {
        let mut waiting = self.waiting.lock().ok()?;
        // Built only by the winner: a loser's guard would free the winner's place when dropped.
        waiting.insert(digest).then(|| Waiting {
            engine: self,
            digest,
        })
    }

    /// Tells everybody who waits that some payment has moved.
    pub(crate) fn moved(&self) {
        self.progress
            .send_modify(|count| *count = count.wrapping_add(1));
    }
}

impl Known {
    /// What is to be said about a payment that is settling, settled, or final otherwise, without a success.
    pub(crate) fn verdict(&self) -> Refusal {
        let row = &self.row;
        if let (State::Failed | State::Expired, Some((reason, message))) = (row.state, &row.verdict)
        {
            return Refusal::of_row(Rejection::recorded(reason, message), row);
        }
        duplicate(row)
    }
}

/// The answer to everybody but the one caller who is told of the success.
pub(crate) fn duplicate(row: &PaymentRow) -> Refusal {
    let message = match row.state {
        State::Confirmed => {
            "this payment has been settled, and its success was or will be told once; ask GET \
             /v1/intents/{digest} for its state"
        }
        _ => {
            "this payment is being settled for another call; ask GET /v1/intents/{digest} for its state"
        }
    };
    Refusal::of_row(Rejection::new(Reason::Duplicate, message), row)
}
