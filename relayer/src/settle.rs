//! Settling a payment: reserve, put in line, wait; and one success for one landing.

use std::sync::Arc;

use tokio::{
    sync::oneshot,
    time::{Duration, timeout},
};

use crate::{
    batch::{Item, new_payment},
    desk::{Answer, Joined, Paid, Seat, Taken},
    economics::Terms,
    engine::{Engine, Examined, Known, Refusal, Unavailable},
    guard::{Caller, Limited, Purpose},
    ledger::{Candidate, Deal, PaymentRow},
    reason::{Reason, Rejection},
    request::Payment,
};

/// The answer to `/settle`.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It landed, and this is the one answer that says so.
    Success(Box<Paid>),
    /// Not now, or not again.
    Refused(Refusal),
    /// Its `payment-identifier` is bound to another payload: nothing was done.
    Bound,
}

impl Engine {
    /// Settles a payment, or tells how an earlier call for it stands.
    pub async fn settle(
        self: &Arc<Self>,
        payment: &Payment,
        caller: &Caller,
    ) -> Result<Outcome, Unavailable> {
        let (admission, asked) = match self.examine(payment).await? {
            Examined::Good(admission, asked) => (admission, asked),
            Examined::Refused(refusal) => return Ok(Outcome::Refused(refusal)),
            Examined::Known(known) => return self.join(*known).await,
        };
        if self.draining.is_cancelled() {
            return Err(Unavailable::Interrupted);
        }
        let (digest, payer) = (admission.digest, admission.payer);
        let admitted = self.guard.admit(caller, Purpose::Settle, &*admission);
        if let Err(refusal) = admitted.await? {
            return Ok(Outcome::Refused(refusal));
        }
        // Said now, while nothing is reserved, if nobody can pay for a transaction.
        self.signers.check(admission.registered())?;
        let worth = self.economics.worth(&admission);
        let deal = Deal {
            share: admission.shares.facilitator,
            worth,
            binding: payment.identifier.clone(),
            charge: None,
        };
        let api_key = self.guard.key_name(caller);
        let new = Arc::new(new_payment(&admission, payment.version, deal, api_key));
        let mut terms = Terms {
            worth,
            ..Terms::default()
        };
        let case = self.case(&admission, worth);
        let taken = self.desk.take(Arc::clone(&new), asked, |in_flight| {
            admission.reserve(in_flight)?;
            if let Some(case) = &case {
                terms = self.economics.admit(case)?;
            }
            Ok(())
        });
        let waiting = match taken {
            Taken::New(waiting) => waiting,
            Taken::Known(seat) => {
                return Ok(Outcome::Refused(Refusal::of_seat(seat.rejection(), &seat)));
            }
            Taken::Refused(rejection) => {
                return Ok(Outcome::Refused(Refusal::new(rejection, Some(payer))));
            }
            Taken::Full => return Err(Unavailable::Overloaded),
            Taken::Crowded(limit) => {
                return Err(Limited::new(limit, Duration::from_secs(1)).into());
            }
        };
        let item = Item {
            candidate: Candidate::New(Box::new((*new).clone())),
            accounts: Arc::new(admission.accounts.clone()),
            settle: admission.item,
            failures: 0,
            terms,
        };
        if let Err(error) = self.enqueue(item) {
            self.desk
                .release(&digest, Answer::Unavailable(error.clone()));
            return Err(error);
        }
        self.await_landing(&digest, waiting).await
    }

    /// A call for a payment that is known.
    pub(crate) async fn join(self: &Arc<Self>, known: Known) -> Result<Outcome, Unavailable> {
        // Another signature over the same digest buys nothing: it could be anybody's, unchecked.
        if !known.same_entry {
            return Ok(Outcome::Refused(known.verdict()));
        }
        match self.desk.join(&known.digest) {
            Joined::Waiting(waiting) => self.await_landing(&known.digest, waiting).await,
            Joined::Busy => Ok(Outcome::Refused(known.verdict())),
            Joined::Ended(seat) => self.redeem(&known.digest, &seat).await,
            // Another relayer has it.
            Joined::Unknown => self.redeem_elsewhere(&known).await,
        }
    }

    pub(crate) async fn await_landing(
        self: &Arc<Self>,
        digest: &sluice_intent::Digest,
        waiting: oneshot::Receiver<Answer>,
    ) -> Result<Outcome, Unavailable> {
        let limit = self.settings.limits.confirm_timeout();
        let answer = tokio::select! {
            answer = timeout(limit, waiting) => answer,
            () = self.closing.cancelled() => return self.pending(digest),
        };
        match answer {
            Ok(Ok(Answer::Paid(paid))) => Ok(self.success(*paid)),
            Ok(Ok(Answer::Refused {
                rejection,
                transaction,
            })) => {
                let seat = self.desk.seat(digest);
                Ok(Outcome::Refused(Refusal {
                    rejection,
                    payer: seat.map(|seat| seat.payer),
                    transaction,
                    retry_after: None,
                }))
            }
            Ok(Ok(Answer::Bound)) => Ok(Outcome::Bound),
            Ok(Ok(Answer::Unavailable(error))) => Err(error),
            // Paid, and the success was another's; or nobody will say.
            Ok(Err(_)) => match self.desk.seat(digest) {
                Some(seat) if !seat.state.is_live() => self.redeem(digest, &seat).await,
                _ => self.pending(digest),
            },
            Err(_) => self.pending(digest),
        }
    }

    pub(crate) fn success(&self, paid: Paid) -> Outcome {
        tracing::info!(
            digest = %hex::encode(paid.payment.digest),
            transaction = %paid.attempt.signature,
            amount = paid.payment.amount,
            batch = paid.attempt.payments,
            "payment settled"
        );
        Outcome::Success(Box::new(paid))
    }

    /// The answer for a payment that has ended, to a caller that was told of no end yet.
    async fn redeem(
        &self,
        digest: &sluice_intent::Digest,
        seat: &Seat,
    ) -> Result<Outcome, Unavailable> {
        let refused = || Ok(Outcome::Refused(Refusal::of_seat(seat.rejection(), seat)));
        if !seat.state.is_paid() || seat.answered {
            return refused();
        }
        if !self.ledger.take_success(*digest).await? {
            self.desk.answered(digest);
            return refused();
        }
        self.desk.answered(digest);
        match self.ledger.payment(digest).await?.and_then(paid_row) {
            Some(paid) => Ok(self.success(paid)),
            None => Err(Unavailable::Interrupted),
        }
    }

    /// A payment that another relayer has taken on.
    async fn redeem_elsewhere(&self, known: &Known) -> Result<Outcome, Unavailable> {
        let deadline = tokio::time::Instant::now() + self.settings.limits.confirm_timeout();
        loop {
            let Some(row) = self.ledger.payment(&known.digest).await? else {
                return Err(Unavailable::Interrupted);
            };
            if !row.state.is_live() {
                return self.redeem(&known.digest, &Seat::of(&row)).await;
            }
            if tokio::time::Instant::now() >= deadline || self.closing.is_cancelled() {
                return Ok(Outcome::Refused(Refusal::of_row(pending(), &row)));
            }
            tokio::time::sleep(self.settings.chain.poll().max(Duration::from_millis(50))).await;
        }
    }

    /// The answer while nobody knows yet.
    fn pending(&self, digest: &sluice_intent::Digest) -> Result<Outcome, Unavailable> {
        // What was not begun is not begun any more: the caller may rely on that.
        if self.desk.withdraw(digest) {
            return Err(Unavailable::Interrupted);
        }
        match self.desk.seat(digest) {
            Some(seat) if seat.transaction.is_some() => {
                Ok(Outcome::Refused(Refusal::of_seat(pending(), &seat)))
            }
            _ => Err(Unavailable::Interrupted),
        }
    }
}

pub(crate) fn pending() -> Rejection {
    Rejection::new(
        Reason::Pending,
        "the transaction was sent and its fate is not known yet: repeat the same call, or ask GET \
         /v1/intents/{digest}",
    )
}

/// A paid payment of the ledger, for the answer.
pub(crate) fn paid_row(row: PaymentRow) -> Option<Paid> {
    let attempt = row.attempt.clone()?;
    Some(Paid {
        payment: Arc::new(row.payment),
        attempt,
    })
}
