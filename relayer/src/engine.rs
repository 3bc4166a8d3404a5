//! What every request shares: chain, ledger, keys and settings; and the answers to `/verify`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sluice_sdk::{Address, SignedIntent, accounts::Facilitator, x402::Network};
use solana_signature::Signature;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    batch::Batches,
    chain::{CLOCK, Chain, ChainError, blockhash::Blockhashes, cache::Accounts, prices::Prices},
    chores::{
        Chores,
        settings::{DistributeSettings, OnboardSettings, ReclaimSettings},
    },
    config::{BatchSettings, ChainSettings, ExactSettings, Fees, IdentifierSettings, Limits},
    desk::{Desk, Most, Seat},
    economics::{Economics, EconomicsSettings},
    follow::Handover,
    guard::{Caller, Guard, Limited, Purpose, failures::Failure},
    identifier::Bindings,
    lease::Lease,
    ledger::{Backend, Ledger, LedgerError, PaymentRow, unix_millis},
    reason::Rejection,
    request::{Home, Payment},
    signers::{SignError, Signer, Signers, alert::Alerts},
    snapshot::{Lookup, Snapshot, SnapshotError, Snapshots, Subject, exists, lookup, time},
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
    /// How payments share transactions.
    pub batch: BatchSettings,
    /// The scheme `exact`.
    pub exact: ExactSettings,
    /// How vaults are distributed.
    pub distribute: DistributeSettings,
    /// How sponsored accounts are reclaimed.
    pub reclaim: ReclaimSettings,
    /// How accounts are sponsored.
    pub onboard: OnboardSettings,
    /// What payments must bring in.
    pub economics: EconomicsSettings,
    /// How payments are known by an id of their payer's.
    pub identifier: IdentifierSettings,
    /// How long this relayer keeps its transactions in a shared ledger without being heard of.
    pub lease: std::time::Duration,
}

/// The relayer without its HTTP.
pub struct Engine {
    pub(crate) settings: Settings,
    pub(crate) chain: Arc<dyn Chain>,
    pub(crate) accounts: Accounts,
    pub(crate) blockhashes: Blockhashes,
    pub(crate) ledger: Ledger,
    pub(crate) lease: Lease,
    pub(crate) signers: Signers,
    pub(crate) snapshots: Snapshots,
    pub(crate) desk: Desk,
    pub(crate) guard: Guard,
    pub(crate) batches: Batches,
    pub(crate) follower: Handover,
    pub(crate) chores: Chores,
    pub(crate) economics: Economics,
    pub(crate) bindings: Bindings,
    prices: Prices,
    settler: Settler,
    v1: AtomicBool,
    /// Whether the RPC has said at last that it serves another cluster than this relayer's.
    strange: AtomicBool,
    /// Work that finishes even if its caller hangs up.
    pub(crate) tasks: TaskTracker,
    /// Cancelled when no more requests come in: what waits for more goes on without.
    pub(crate) draining: CancellationToken,
    /// Cancelled when nobody may wait any longer.
    pub(crate) closing: CancellationToken,
}

/// Why a request got no verdict. Nothing was decided and nothing was spent: the caller may try again.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unavailable {
    /// The RPC did not answer.
    #[error("{0}")]
    Rpc(#[from] ChainError),
    /// The deployment or the facilitator is not set up.
    #[error("the relayer is not ready: {0}")]
    NotReady(String),
    /// Every fee payer's balance is below the low-water mark.
    #[error(
        "the fee payer holds {} lamports, below its low-water mark of {least}: its operator must fund it",
        .lamports.map_or("an unknown number of".to_owned(), |lamports| lamports.to_string())
    )]
    FeePayer {
        /// What the richest of them holds.
        lamports: Option<u64>,
        /// The low-water mark.
        least: u64,
    },
    /// No key signs now.
    #[error("no fee payer's key signs now")]
    Signer(SignError),
    /// Too much is being worked on.
    #[error("too many payments are being settled: try again shortly")]
    Overloaded,
    /// The caller, the payer or the service is over a limit of its own.
    #[error(transparent)]
    Limited(#[from] Limited),
    /// The screening hook did not answer, and nothing is taken on without it.
    #[error("the payment could not be screened: try again shortly")]
    Screening,
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
    /// Seconds after which the same payment may be taken on, where that is known.
    pub retry_after: Option<u64>,
}

impl Refusal {
    /// A refusal of a payment whose payer may be known from the chain.
    pub(crate) fn new(rejection: Rejection, payer: Option<Address>) -> Self {
        Self {
            rejection,
            payer,
            transaction: None,
            retry_after: None,
        }
    }

    /// A refusal of a payment that is known.
    pub(crate) fn of_seat(rejection: Rejection, seat: &Seat) -> Self {
        Self {
            rejection,
            payer: Some(seat.payer),
            transaction: seat.transaction,
            retry_after: None,
        }
    }

    /// A refusal with a payment of the ledger.
    pub(crate) fn of_row(rejection: Rejection, row: &PaymentRow) -> Self {
        Self {
            rejection,
            payer: Some(row.payment.payer),
            transaction: row.attempt.as_ref().map(|attempt| attempt.signature),
            retry_after: None,
        }
    }
}

/// A payment that is known, as a request sees it.
pub(crate) struct Known {
    pub(crate) digest: sluice_intent::Digest,
    pub(crate) seat: Seat,
    /// Whether the request carries the very signature that was taken on.
    pub(crate) same_entry: bool,
}

/// How far a look at desk and chain came.
pub(crate) enum Examined {
    Known(Box<Known>),
    Refused(Refusal),
    /// Good by the chain. The time is when the accounts were asked for, unix milliseconds of this machine.
    Good(Box<Admission>, i64),
}

/// The parts that an engine is made of.
pub(crate) struct Parts {
    pub(crate) settings: Settings,
    pub(crate) chain: Arc<dyn Chain>,
    pub(crate) ledger: Ledger,
    pub(crate) guard: Guard,
    pub(crate) keys: Vec<Arc<dyn Signer>>,
    pub(crate) alerts: Alerts,
    /// A balance that was not read for so long is worth an alert.
    pub(crate) stale_balance: Duration,
    pub(crate) stop_following: CancellationToken,
}

impl Engine {
    /// An engine that nothing drives yet.
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts {
            settings,
            chain,
            ledger,
            keys,
            guard,
            alerts,
            stale_balance,
            stop_following,
        } = parts;
        let signers = Signers::new(keys, settings.fees, alerts, stale_balance);
        Self {
            settler: Settler {
                relayers: signers.addresses(),
                facilitator: settings.facilitator,
                margin_secs: settings.chain.expiry_margin_secs,
            },
            accounts: Accounts::new(Arc::clone(&chain)),
            blockhashes: Blockhashes::start(
                Arc::clone(&chain),
                settings.chain.blockhash(),
                stop_following,
            ),
            desk: Desk::new(Most {
                all: settings.limits.max_in_flight as usize,
                payer: settings.limits.payer_in_flight as usize,
                service: settings.limits.service_in_flight as usize,
            }),
            guard,
            batches: Batches::default(),
            follower: Handover::default(),
            chores: Chores::default(),
            economics: Economics::new(settings.economics.clone()),
            bindings: Bindings::default(),
            prices: Prices::default(),
            snapshots: Snapshots::default(),
            v1: AtomicBool::new(false),
            strange: AtomicBool::new(false),
            tasks: TaskTracker::new(),
            draining: CancellationToken::new(),
            closing: CancellationToken::new(),
            lease: Lease::new(settings.lease, ledger.backend() == Backend::Postgres),
            settings,
            chain,
            ledger,
            signers,
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

    /// Whether batches travel in transactions of version 1.
    pub(crate) fn takes_v1(&self) -> bool {
        self.v1.load(Ordering::Relaxed)
    }

    pub(crate) fn set_takes_v1(&self, takes: bool) {
        self.v1.store(takes, Ordering::Relaxed);
    }

    /// Notes which cluster the RPC serves now.
    pub(crate) fn note_cluster(&self, genesis_hash: &[u8; 32]) {
        let strange = *genesis_hash != self.settings.genesis_hash;
        if self.strange.swap(strange, Ordering::Relaxed) == strange {
            return;
        }
        if strange {
            tracing::error!(
                event = "cluster_changed",
                genesis_hash = %Address::new_from_array(*genesis_hash),
                "the RPC serves another cluster than at the start: nothing is taken on until it serves this one"
            );
        } else {
            tracing::info!(
                event = "cluster_back",
                "the RPC serves the relayer's cluster again"
            );
        }
    }

    /// Whether the RPC serves the relayer's cluster, as far as is known.
    pub(crate) fn check_cluster(&self) -> Result<(), Unavailable> {
        if self.strange.load(Ordering::Relaxed) {
            return Err(Unavailable::NotReady(
                "the RPC serves another cluster than the relayer's: correct rpc_url and more_rpc_urls".to_owned(),
            ));
        }
        Ok(())
    }

    /// Judges a payment. Signs nothing, sends nothing, reserves nothing.
    ///
    /// The inner result gives the payer of a valid payment.
    pub async fn verify(
        &self,
        payment: &Payment,
        caller: &Caller,
    ) -> Result<Result<Address, Refusal>, Unavailable> {
        let (admission, asked) = match self.examine(payment).await? {
            Examined::Good(admission, asked) => (admission, asked),
            Examined::Refused(refusal) => return Ok(Err(refusal)),
            Examined::Known(known) => return Ok(Err(known.verdict())),
        };
        let admitted = self.guard.admit(caller, Purpose::Verify, &*admission);
        if let Err(refusal) = admitted.await? {
            return Ok(Err(refusal));
        }
        let accounts = [payment.nonce_account, admission.item.source];
        let in_flight = self.desk.in_flight(&accounts, asked);
        if let Err(rejection) = admission.reserve(&in_flight) {
            return Ok(Err(Refusal::new(rejection, Some(admission.payer))));
        }
        let worth = self.economics.worth(&admission);
        if let Some(case) = self.case(&admission, worth)
            && let Err(rejection) = self.economics.judge(&case)
        {
            return Ok(Err(Refusal::new(rejection, Some(admission.payer))));
        }
        self.signers.check(admission.registered())?;
        Ok(Ok(admission.payer))
    }

    /// Looks a payment up, and judges it by the chain if it is new.
    pub(crate) async fn examine(&self, payment: &Payment) -> Result<Examined, Unavailable> {
        // With the terms in the requirement the digest is known without the chain, and so is the fate of a
        // payment that was settled before, even while the RPC is down.
        if let Some(terms) = payment.shown_terms
            && let Some(known) = self.known(payment, terms).await?
        {
            return Ok(Examined::Known(Box::new(known)));
        }
        self.check_cluster()?;
        let (snapshot, asked) = self.snapshot(payment).await?;
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
        let rejection = match judge(&snapshot, payment, &self.settler) {
            Ok(admission) => return Ok(Examined::Good(Box::new(admission), asked)),
            Err(rejection) => rejection,
        };
        // The desk forgets a payment once its intent has expired, and the ledger does not: whoever was told
        // `settlement_pending` may come back late, and what was paid is not called expired.
        let service = snapshot.service.found();
        if let Some(terms) = payment.shown_terms.or(service.map(|s| s.terms_hash))
            && let Some(known) = self.recorded(payment, terms).await?
        {
            return Ok(Examined::Known(Box::new(known)));
        }
        Ok(Examined::Refused(Refusal::new(rejection, payer)))
    }

    async fn snapshot(&self, payment: &Payment) -> Result<(Snapshot, i64), SnapshotError> {
        let subject = Subject {
            facilitator: self.settings.facilitator,
            genesis_hash: self.settings.genesis_hash,
            service: payment.service,
            mint: payment.mint,
            nonce_account: payment.nonce_account,
        };
        let max_age = self.settings.chain.cache();
        self.snapshots.take(&self.accounts, &subject, max_age).await
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
        match self.desk.seat(&signed.intent.digest()) {
            Some(seat) => Ok(Some(Known::new(&signed, seat))),
            // The desk has everything of this relayer's whose intent lives. Others may share the ledger.
            None if self.ledger.backend() == Backend::Postgres => {
                self.recorded(payment, terms_hash).await
            }
            None => Ok(None),
        }
    }

    /// A payment that the ledger knows, whoever took it on and whenever.
    async fn recorded(
        &self,
        payment: &Payment,
        terms_hash: [u8; 32],
    ) -> Result<Option<Known>, Unavailable> {
        let Ok(signed) = payment.intent(terms_hash) else {
            return Ok(None);
        };
        let row = self.ledger.payment(&signed.intent.digest()).await?;
        Ok(row.map(|row| Known::new(&signed, Seat::of(&row))))
    }

    /// Counts a payment that failed on chain against whoever asked for it. Called while it is still on the desk.
    pub(crate) fn blame(&self, digest: &sluice_intent::Digest, rejection: &Rejection) {
        if let Some((payment, _)) = self.desk.payment(digest) {
            self.guard.failed(&Failure {
                digest: *digest,
                payer: payment.payer,
                service: payment.service,
                api_key: payment.api_key.clone(),
                reason: rejection.reason,
                at: unix_millis(),
            });
        }
    }

    /// The facilitator's account.
    pub(crate) async fn facilitator(&self) -> Result<Facilitator, Unavailable> {
        let key = self.settings.facilitator;
        let view = self
            .accounts
            .get(&[key], self.settings.chain.cache())
            .await?;
        let account = view.accounts.first().and_then(|account| account.as_deref());
        match lookup(account.filter(|account| exists(account))) {
            Lookup::Found(facilitator) => Ok(facilitator),
            Lookup::Missing => Err(Unavailable::NotReady(format!(
                "the facilitator account {key} does not exist: register it"
            ))),
            Lookup::Wrong(error) => Err(Unavailable::NotReady(format!(
                "the facilitator account {key}: {error}"
            ))),
        }
    }

    /// The chain's clock, unix seconds.
    pub(crate) async fn chain_time(&self) -> Result<i64, Unavailable> {
        let view = self
            .accounts
            .get(&[CLOCK], self.settings.chain.cache())
            .await?;
        Ok(time(
            view.accounts.first().and_then(|clock| clock.as_deref()),
        )?)
    }

    /// What a transaction may cost by what priority cost lately, without asking for it.
    pub(crate) fn fees_known(&self) -> Fees {
        let fees = self.settings.fees;
        Fees {
            unit_price_micro_lamports: self.prices.known(&fees),
            ..fees
        }
    }

    /// What a transaction of a service may cost now.
    pub(crate) async fn fees_now(&self, service: Address, vault: Address) -> Fees {
        let fees = self.settings.fees;
        let locked = [service, vault];
        let price = self.prices.now(self.chain.as_ref(), &locked, &fees).await;
        Fees {
            unit_price_micro_lamports: price,
            ..fees
        }
    }
}

impl Known {
    fn new(signed: &SignedIntent, seat: Seat) -> Self {
        Self {
            digest: signed.intent.digest(),
            same_entry: seat.signature == Some(signed.entry().signature),
            seat,
        }
    }

    /// A payment whose identity holds what its payer signed.
    pub(crate) fn of(digest: sluice_intent::Digest, seat: Seat) -> Self {
        Self {
            digest,
            same_entry: true,
            seat,
        }
    }

    /// One of the ledger.
    pub(crate) fn of_row(digest: sluice_intent::Digest, row: &PaymentRow) -> Self {
        Self::of(digest, Seat::of(row))
    }

    /// What is to be said about it without a success.
    pub(crate) fn verdict(&self) -> Refusal {
        Refusal::of_seat(self.seat.rejection(), &self.seat)
    }
}
