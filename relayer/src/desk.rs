//! What is on the desk: every payment that is being settled, and every one that was while its intent still lives.
//!
//! In memory, because `/verify` and `/settle` ask it thousands of times a second; the ledger is behind it, and decides
//! where several relayers share one. A start fills it from the ledger.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sluice_intent::Digest;
use sluice_sdk::Address;
use solana_signature::Signature;
use tokio::sync::oneshot;

use crate::{
    engine::Unavailable,
    guard::Limit,
    ledger::{Attempt, NewPayment, NonceKey, PaymentRow, State, unix_millis},
    reason::{Reason, Rejection},
    verify::{InFlight, nonce_conflict},
};

/// What the one caller that waits for a payment is told.
#[derive(Debug)]
pub enum Answer {
    /// It was paid, and this is the one answer that says so.
    Paid(Box<Paid>),
    /// It was not, and will not be by this transaction.
    Refused {
        /// Why.
        rejection: Rejection,
        /// The transaction, if there is one.
        transaction: Option<Signature>,
    },
    /// Its `payment-identifier` is bound to another payload; nothing was sent.
    Bound,
    /// Nobody decided anything; nothing was sent.
    Unavailable(Unavailable),
}

/// A payment that was paid, for the answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Paid {
    /// The payment.
    pub payment: Arc<NewPayment>,
    /// The transaction.
    pub attempt: Attempt,
}

/// A payment as a caller sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Seat {
    /// Where it stands.
    pub state: State,
    /// The signature of the intent that was taken on; a transfer's identity holds what its payer signed.
    pub signature: Option<[u8; 64]>,
    /// Who pays.
    pub payer: Address,
    /// Why it failed or expired.
    pub verdict: Option<Rejection>,
    /// The transaction.
    pub transaction: Option<Signature>,
    /// Whether the one success was told.
    pub answered: bool,
}

/// How a payment was taken on.
#[derive(Debug)]
pub enum Taken {
    /// It is the caller's; this tells how it ends.
    New(oneshot::Receiver<Answer>),
    /// It is known already.
    Known(Seat),
    /// It does not hold beside what is in flight.
    Refused(Rejection),
    /// Too many payments are open.
    Full,
    /// Too many of the same payer or service are.
    Crowded(Limit),
}

/// How a later call for a known payment fares.
#[derive(Debug)]
pub enum Joined {
    /// Nobody else waits: this tells how it ends.
    Waiting(oneshot::Receiver<Answer>),
    /// Somebody else waits.
    Busy,
    /// It has ended.
    Ended(Seat),
    /// It is not on the desk.
    Unknown,
}

struct Place {
    seat: Seat,
    /// Kept while it is live.
    payment: Option<Arc<NewPayment>>,
    nonce: Option<NonceKey>,
    source: Address,
    service: Address,
    amount: u64,
    expires_at: i64,
    /// When it landed, by this machine's clock: an account that was asked for earlier does not show it.
    landed_ms: Option<i64>,
    waiter: Option<oneshot::Sender<Answer>>,
}

#[derive(Default)]
struct Places {
    by_digest: HashMap<Digest, Place>,
    /// Live payments by their nonce.
    by_nonce: HashMap<NonceKey, Digest>,
    /// Payments that count against a nonce account or a token account: live ones, and those that landed a moment ago.
    by_account: HashMap<Address, HashSet<Digest>>,
    live: usize,
    /// Live payments of each payer, and to each service.
    live_of: [HashMap<Address, usize>; 2],
}

/// The payments at work.
pub struct Desk {
    places: Mutex<Places>,
    most: Most,
}

/// How many payments may be live at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Most {
    /// In all.
    pub all: usize,
    /// Of one payer; 0 for any number.
    pub payer: usize,
    /// To one service; 0 for any number.
    pub service: usize,
}

/// How long a landed payment counts against its account, if nobody asks the chain meanwhile.
const SHADOW_MS: i64 = 60_000;

impl Desk {
    /// A desk for at most so many live payments.
    pub fn new(most: Most) -> Self {
        Self {
            places: Mutex::default(),
            most,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many payments are live.
    pub fn live(&self) -> usize {
        self.lock().live
    }

    /// A payment.
    pub fn seat(&self, digest: &Digest) -> Option<Seat> {
        let places = self.lock();
        places.by_digest.get(digest).map(|place| place.seat.clone())
    }

    /// A payment that is live, with everything that is known of it.
    pub fn payment(&self, digest: &Digest) -> Option<(Arc<NewPayment>, State)> {
        let places = self.lock();
        let place = places.by_digest.get(digest)?;
        Some((place.payment.clone()?, place.seat.state))
    }

    /// What counts against any of these nonce accounts and token accounts, which were asked for at `asked_ms`.
    pub fn in_flight(&self, accounts: &[Address], asked_ms: i64) -> Vec<InFlight> {
        self.lock().in_flight(accounts, asked_ms)
    }

    /// Takes a payment on, if it holds beside what is in flight: `reserve` judges that.
    pub fn take(
        &self,
        payment: Arc<NewPayment>,
        asked_ms: i64,
        reserve: impl FnOnce(&[InFlight]) -> Result<(), Rejection>,
    ) -> Taken {
        let mut places = self.lock();
        if let Some(place) = places.by_digest.get(&payment.digest) {
            return Taken::Known(place.seat.clone());
        }
        if places.live >= self.most.all {
            return Taken::Full;
        }
        if let Some(limit) = places.crowd(&payment.payer, &payment.service, &self.most) {
            return Taken::Crowded(limit);
        }
        let accounts: Vec<Address> = touched(payment.intent().map(|i| &i.nonce), &payment.source);
        let in_flight = places.in_flight(&accounts, asked_ms);
        if let Err(rejection) = reserve(&in_flight) {
            return Taken::Refused(rejection);
        }
        if payment
            .intent()
            .is_some_and(|intent| places.by_nonce.contains_key(&intent.nonce))
        {
            return Taken::Refused(nonce_conflict());
        }
        let (waiter, waiting) = oneshot::channel();
        places.insert_live(payment, State::Admitted, Some(waiter), None, false);
        Taken::New(waiting)
    }

    /// Puts a payment of the ledger on the desk.
    pub fn restore(&self, row: &PaymentRow) {
        let mut places = self.lock();
        let digest = row.payment.digest;
        if places.by_digest.contains_key(&digest) {
            return;
        }
        let transaction = row.attempt.as_ref().map(|attempt| attempt.signature);
        let payment = Arc::new(row.payment.clone());
        if row.state.is_live() {
            places.insert_live(payment, row.state, None, transaction, row.answered);
            return;
        }
        let place = Place {
            seat: Seat::of(row),
            payment: None,
            nonce: payment.intent().map(|intent| intent.nonce),
            source: payment.source,
            service: payment.service,
            amount: payment.amount,
            expires_at: payment.expires_at,
            landed_ms: row.state.is_paid().then_some(row.updated_at),
            waiter: None,
        };
        if row.state.is_paid() {
            places.list(&digest, &place);
        }
        places.by_digest.insert(digest, place);
    }

    /// Puts a payment on the desk that the ledger says is open, even if it had ended here: the chain may have undone that.
    pub fn reopen(&self, row: &PaymentRow) {
        if row.state.is_live() {
            let mut places = self.lock();
            let ended = |place: &Place| !place.seat.state.is_live();
            if places.by_digest.get(&row.payment.digest).is_some_and(ended)
                && let Some(place) = places.by_digest.remove(&row.payment.digest)
            {
                places.unlist(&row.payment.digest, &place);
            }
        }
        self.restore(row);
    }

    /// The live payments that a transaction was signed for.
    pub fn signed(&self) -> Vec<Digest> {
        let places = self.lock();
        let signed = |place: &Place| matches!(place.seat.state, State::Signed | State::Sent);
        places
            .by_digest
            .iter()
            .filter(|(_, place)| signed(place))
            .map(|(digest, _)| *digest)
            .collect()
    }

    /// Takes a payment off the desk that nobody has begun to sign for. False if somebody has.
    pub fn withdraw(&self, digest: &Digest) -> bool {
        let mut places = self.lock();
        let admitted = |place: &Place| place.seat.state == State::Admitted;
        if !places.by_digest.get(digest).is_some_and(admitted) {
            return false;
        }
        if let Some(place) = places.by_digest.remove(digest) {
            places.unlist(digest, &place);
        }
        true
    }

    /// Begins to sign for a payment. False if it was withdrawn.
    pub fn begin(&self, digest: &Digest) -> bool {
        let mut places = self.lock();
        match places.by_digest.get_mut(digest) {
            Some(place) if place.seat.state.is_live() => {
                place.seat.state = State::Batched;
                true
            }
            _ => false,
        }
    }

    /// Waits for a payment that is known already.
    pub fn join(&self, digest: &Digest) -> Joined {
        let mut places = self.lock();
        let Some(place) = places.by_digest.get_mut(digest) else {
            return Joined::Unknown;
        };
        if !place.seat.state.is_live() {
            return Joined::Ended(place.seat.clone());
        }
        // A caller that hung up waits no more.
        if place
            .waiter
            .as_ref()
            .is_some_and(|waiter| !waiter.is_closed())
        {
            return Joined::Busy;
        }
        let (waiter, waiting) = oneshot::channel();
        place.waiter = Some(waiter);
        Joined::Waiting(waiting)
    }

    /// Marks a payment as moved on.
    pub fn advance(&self, digest: &Digest, state: State, transaction: Option<Signature>) {
        if let Some(place) = self.lock().by_digest.get_mut(digest)
            && place.seat.state.is_live()
        {
            place.seat.state = state;
            if transaction.is_some() {
                place.seat.transaction = transaction;
            }
        }
    }

    /// Takes a payment off the desk that nothing was signed for. Its caller is told.
    pub fn release(&self, digest: &Digest, answer: Answer) {
        let mut places = self.lock();
        if let Some(mut place) = places.by_digest.remove(digest) {
            places.unlist(digest, &place);
            if let Some(waiter) = place.waiter.take() {
                let _ = waiter.send(answer);
            }
        }
    }

    /// Whether somebody waits for a payment.
    pub fn is_awaited(&self, digest: &Digest) -> bool {
        let places = self.lock();
        places
            .by_digest
            .get(digest)
            // The one success is told once, even if the chain has undone what it was told for.
            .filter(|place| !place.seat.answered)
            .and_then(|place| place.waiter.as_ref())
            .is_some_and(|waiter| !waiter.is_closed())
    }

    /// Ends a payment that was paid. `answered` says whether the ledger gave its one success to the caller that waits.
    pub fn paid(&self, digest: &Digest, attempt: &Attempt, answered: bool) {
        let mut places = self.lock();
        let Some(place) = places.by_digest.get_mut(digest) else {
            return;
        };
        let payment = place.payment.take();
        let waiter = place.waiter.take();
        let was_live = place.seat.state.is_live();
        place.seat.state = State::Confirmed;
        place.seat.transaction = Some(attempt.signature);
        place.seat.answered |= answered;
        place.landed_ms = Some(unix_millis());
        let (nonce, payer, service) = (place.nonce, place.seat.payer, place.service);
        if was_live {
            places.leave(nonce.as_ref(), &payer, &service);
        }
        if let (Some(waiter), Some(payment), true) = (waiter, payment, answered) {
            let _ = waiter.send(Answer::Paid(Box::new(Paid {
                payment,
                attempt: attempt.clone(),
            })));
        }
    }

    /// Ends a payment that was not paid and will not be.
    pub fn ended(
        &self,
        digest: &Digest,
        state: State,
        rejection: &Rejection,
        transaction: Option<Signature>,
    ) {
        let mut places = self.lock();
        let Some(place) = places.by_digest.get_mut(digest) else {
            return;
        };
        place.payment = None;
        let waiter = place.waiter.take();
        let was_live = place.seat.state.is_live();
        place.seat.state = state;
        place.seat.verdict = Some(rejection.clone());
        place.seat.transaction = transaction.or(place.seat.transaction);
        let (nonce, source) = (place.nonce, place.source);
        let (payer, service) = (place.seat.payer, place.service);
        if was_live {
            places.leave(nonce.as_ref(), &payer, &service);
            for account in touched(nonce.as_ref(), &source) {
                places.count_no_more(&account, digest);
            }
        }
        if let Some(waiter) = waiter {
            let _ = waiter.send(Answer::Refused {
                rejection: rejection.clone(),
                transaction,
            });
        }
    }

    /// Notes that the one success was told.
    pub fn answered(&self, digest: &Digest) {
        if let Some(place) = self.lock().by_digest.get_mut(digest) {
            place.seat.answered = true;
        }
    }

    /// Forgets what has ended and whose intent has expired by the chain's clock: nobody can ask for it to be settled.
    pub fn sweep(&self, chain_now: i64) {
        let now = unix_millis();
        let mut places = self.lock();
        let Places {
            by_digest,
            by_account,
            ..
        } = &mut *places;
        by_digest.retain(|_, place| place.seat.state.is_live() || place.expires_at >= chain_now);
        by_account.retain(|_, digests| {
            digests.retain(|digest| {
                by_digest.get(digest).is_some_and(|place| {
                    place.seat.state.is_live()
                        || place
                            .landed_ms
                            .is_some_and(|landed| landed + SHADOW_MS > now)
                })
            });
            !digests.is_empty()
        });
    }
}

impl Places {
    fn insert_live(
        &mut self,
        payment: Arc<NewPayment>,
        state: State,
        waiter: Option<oneshot::Sender<Answer>>,
        transaction: Option<Signature>,
        answered: bool,
    ) {
        let intent = payment.intent();
        let nonce = intent.map(|intent| intent.nonce);
        let digest = payment.digest;
        let place = Place {
            seat: Seat {
                state,
                signature: intent.map(|intent| intent.entry.signature),
                payer: payment.payer,
                verdict: None,
                transaction,
                answered,
            },
            nonce,
            source: payment.source,
            service: payment.service,
            amount: payment.amount,
            expires_at: payment.expires_at,
            landed_ms: None,
            waiter,
            payment: Some(payment),
        };
        let [payers, services] = &mut self.live_of;
        let place_of = [(payers, place.seat.payer), (services, place.service)];
        for (counts, key) in place_of {
            *counts.entry(key).or_default() += 1;
        }
        if let Some(nonce) = nonce {
            self.by_nonce.insert(nonce, digest);
        }
        self.list(&digest, &place);
        self.by_digest.insert(digest, place);
        self.live += 1;
    }

    fn list(&mut self, digest: &Digest, place: &Place) {
        for account in touched(place.nonce.as_ref(), &place.source) {
            self.by_account.entry(account).or_default().insert(*digest);
        }
    }

    fn unlist(&mut self, digest: &Digest, place: &Place) {
        if place.seat.state.is_live() {
            self.leave(place.nonce.as_ref(), &place.seat.payer, &place.service);
        }
        for account in touched(place.nonce.as_ref(), &place.source) {
            self.count_no_more(&account, digest);
        }
    }

    fn count_no_more(&mut self, account: &Address, digest: &Digest) {
        if let Some(digests) = self.by_account.get_mut(account) {
            digests.remove(digest);
            if digests.is_empty() {
                self.by_account.remove(account);
            }
        }
    }

    /// A live payment is live no more.
    fn leave(&mut self, nonce: Option<&NonceKey>, payer: &Address, service: &Address) {
        self.live -= 1;
        if let Some(nonce) = nonce {
            self.by_nonce.remove(nonce);
        }
        for (counts, key) in self.live_of.iter_mut().zip([payer, service]) {
            if let Some(count) = counts.get_mut(key) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(key);
                }
            }
        }
    }

    /// Whose payments are too many already.
    fn crowd(&self, payer: &Address, service: &Address, most: &Most) -> Option<Limit> {
        let [payers, services] = &self.live_of;
        let full = |counts: &HashMap<Address, usize>, key, most| {
            most > 0 && counts.get(key).is_some_and(|count| *count >= most)
        };
        if full(payers, payer, most.payer) {
            Some(Limit::PayerInFlight)
        } else if full(services, service, most.service) {
            Some(Limit::ServiceInFlight)
        } else {
            None
        }
    }

    fn in_flight(&self, accounts: &[Address], asked_ms: i64) -> Vec<InFlight> {
        // An intent is listed under its nonce account and under its token account, and counts once.
        let digests: HashSet<&Digest> = accounts
            .iter()
            .filter_map(|account| self.by_account.get(account))
            .flatten()
            .collect();
        let counts = |place: &&Place| {
            place.seat.state.is_live() || place.landed_ms.is_some_and(|landed| landed >= asked_ms)
        };
        digests
            .into_iter()
            .filter_map(|digest| Some((digest, self.by_digest.get(digest)?)))
            .filter(|(_, place)| counts(place))
            .map(|(digest, place)| InFlight {
                digest: *digest,
                amount: place.amount,
                nonce: place.nonce,
            })
            .collect()
    }
}

/// The accounts that a payment counts against.
fn touched(nonce: Option<&NonceKey>, source: &Address) -> Vec<Address> {
    nonce
        .map(|nonce| nonce.account)
        .into_iter()
        .chain([*source])
        .collect()
}

impl Seat {
    /// A payment of the ledger.
    pub fn of(row: &PaymentRow) -> Self {
        let verdict = row.verdict.as_ref();
        Self {
            state: row.state,
            signature: row.payment.intent().map(|intent| intent.entry.signature),
            payer: row.payment.payer,
            verdict: verdict.map(|(reason, message)| Rejection::recorded(reason, message)),
            transaction: row.attempt.as_ref().map(|attempt| attempt.signature),
            answered: row.answered,
        }
    }

    /// What is to be said about a payment that is settling, settled, or ended otherwise, without a success.
    pub fn rejection(&self) -> Rejection {
        if let Some(verdict) = &self.verdict
            && matches!(self.state, State::Failed | State::Expired)
        {
            return verdict.clone();
        }
        let message = if self.state.is_paid() {
            "this payment has been settled, and its success was or will be told once; ask GET \
             /v1/intents/{digest} for its state"
        } else {
            "this payment is being settled for another call; ask GET /v1/intents/{digest} for its state"
        };
        Rejection::new(Reason::Duplicate, message)
    }
}
