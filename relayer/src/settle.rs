//! Settling a payment: claim, simulate, sign, write down, send, wait; and one success for one landing.

use std::sync::Arc;

use sluice_intent::Digest;
use sluice_sdk::{
    instructions::{self, ServiceAccounts, SettleItem},
    transaction::{self, Version},
};
use tokio::time::{Instant, timeout_at};

use crate::{
    budget,
    chain::Failure,
    engine::{Engine, Examined, Known, Refusal, Unavailable, Waiting, duplicate},
    ledger::{Attempt, Claim, PaymentRow, State},
    reason::{Reason, Rejection},
    request::Payment,
    verify::{Admission, nonce_conflict},
};

/// The answer to `/settle`.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It landed, and this is the one answer that says so.
    Success(Box<PaymentRow>),
    /// Not now, or not again.
    Refused(Refusal),
}

/// Why a transaction was not made.
pub(crate) enum NotMade {
    /// The payment is at fault.
    Refused(Rejection),
    /// It is not.
    Unavailable(Unavailable),
}

impl<E: Into<Unavailable>> From<E> for NotMade {
    fn from(error: E) -> Self {
        Self::Unavailable(error.into())
    }
}

impl Engine {
    /// Settles a payment, or tells how an earlier call for it stands.
    pub async fn settle(self: &Arc<Self>, payment: &Payment) -> Result<Outcome, Unavailable> {
        let (admission, since) = match self.examine(payment).await? {
            Examined::Good(admission, since) => (admission, since),
            Examined::Refused(refusal) => return Ok(Outcome::Refused(refusal)),
            Examined::Known(known) => return self.join(*known).await,
        };
        let digest = admission.digest;
        let payer = Some(admission.payer);
        let refuse = |rejection| Ok(Outcome::Refused(Refusal::new(rejection, payer)));
        // The signature holds, so whoever comes first with this digest is entitled to wait for it.
        let Some(waiting) = self.wait_for(digest) else {
            return self.refuse_duplicate(&digest, payer).await;
        };
        let claim = self
            .ledger
            .claim(
                &admission,
                payment.version,
                since,
                self.settings.limits.max_in_flight,
            )
            .await?;
        match claim {
            Claim::New => {}
            Claim::Known(row) => return self.wait(&waiting, *row).await,
            Claim::NonceConflict => return refuse(nonce_conflict()),
            Claim::Refused(rejection) => return refuse(rejection),
            Claim::Full => return Err(Unavailable::Overloaded),
        }
        // In a task of its own: a caller that hangs up must not stop a settlement half way.
        let engine = Arc::clone(self);
        let task = self
            .tasks
            .spawn(async move { engine.submit(&admission).await });
        match task.await {
            Ok(Ok(())) => self.landing(&waiting).await,
            Ok(Err(NotMade::Refused(rejection))) => refuse(rejection),
            Ok(Err(NotMade::Unavailable(error))) => Err(error),
            Err(_) => Err(Unavailable::Interrupted),
        }
    }

    /// A call for a payment that the ledger knows.
    async fn join(&self, known: Known) -> Result<Outcome, Unavailable> {
        let Known { row, same_entry } = &known;
        // Another signature over the same digest buys nothing: it could be anybody's, unchecked.
        if !same_entry || matches!(row.state, State::Failed | State::Expired) {
            return Ok(Outcome::Refused(known.verdict()));
        }
        let Some(waiting) = self.wait_for(row.digest) else {
            return Ok(Outcome::Refused(duplicate(row)));
        };
        self.wait(&waiting, known.row).await
    }

    async fn wait(&self, waiting: &Waiting<'_>, row: PaymentRow) -> Result<Outcome, Unavailable> {
        if row.state.is_live() {
            self.landing(waiting).await
        } else {
            self.conclude(row).await
        }
    }

    /// Somebody else waits for this payment.
    async fn refuse_duplicate(
        &self,
        digest: &Digest,
        payer: Option<sluice_sdk::Address>,
    ) -> Result<Outcome, Unavailable> {
        let refusal = match self.ledger.payment(digest).await? {
            Some(row) => duplicate(&row),
            None => Refusal::new(
                Rejection::new(
                    Reason::Duplicate,
                    "this payment is being settled for another call; ask GET /v1/intents/{digest} for its state",
                ),
                payer,
            ),
        };
        Ok(Outcome::Refused(refusal))
    }

    /// Waits until a payment is final, at most the confirm timeout.
    async fn landing(&self, waiting: &Waiting<'_>) -> Result<Outcome, Unavailable> {
        let deadline = Instant::now() + self.settings.limits.confirm_timeout();
        let mut progress = self.progress.subscribe();
        loop {
            progress.mark_unchanged();
            let row = self
                .ledger
                .payment(&waiting.digest())
                .await?
                .ok_or(Unavailable::Interrupted)?;
            if !row.state.is_live() {
                return self.conclude(row).await;
            }
            let moved = tokio::select! {
                moved = timeout_at(deadline, progress.changed()) => matches!(moved, Ok(Ok(()))),
                () = self.closing.cancelled() => false,
            };
            if !moved {
                return pending(&row);
            }
        }
    }

    /// The answer for a final payment.
    async fn conclude(&self, row: PaymentRow) -> Result<Outcome, Unavailable> {
        match (row.state, &row.verdict) {
            (State::Confirmed, _) => {
                if self.ledger.take_success(&row.digest).await? {
                    tracing::info!(
                        digest = %hex::encode(row.digest),
                        transaction = %row.signature.map(|s| s.to_string()).unwrap_or_default(),
                        amount = row.amount,
                        "payment settled"
                    );
                    Ok(Outcome::Success(Box::new(row)))
                } else {
                    Ok(Outcome::Refused(duplicate(&row)))
                }
            }
            (State::Failed | State::Expired | State::Rejected, Some((reason, message))) => {
                let rejection = Rejection::recorded(reason, message);
                // Recorded when the relayer, not the payment, was at fault before anything was signed.
                if row.state == State::Rejected && rejection.reason == Reason::UnexpectedSettle {
                    return Err(Unavailable::Interrupted);
                }
                Ok(Outcome::Refused(Refusal::of_row(rejection, &row)))
            }
            _ => pending(&row),
        }
    }

    /// Everything from a claimed payment to a sent transaction. Whatever fails before the signature is on
    /// disk frees the claim; whatever fails after it is for the follower.
    async fn submit(&self, admission: &Admission) -> Result<(), NotMade> {
        let digest = &admission.digest;
        let attempt = match self.make(&admission.accounts, &admission.item).await {
            Ok(attempt) => attempt,
            Err(not_made) => {
                let rejection = match &not_made {
                    NotMade::Refused(rejection) => rejection.clone(),
                    NotMade::Unavailable(error) => {
                        Rejection::new(Reason::UnexpectedSettle, error.to_string())
                    }
                };
                self.ledger.reject(digest, &rejection).await?;
                tracing::info!(digest = %hex::encode(digest), %rejection, "payment refused before sending");
                self.moved();
                return Err(not_made);
            }
        };
        self.ledger.admit(digest).await?;
        self.commit_and_send(digest, &attempt).await?;
        self.nudge.notify_one();
        Ok(())
    }

    /// Builds, signs and simulates a settlement of one payment. The simulation saves the fee of what would
    /// fail anyway; it guards nothing.
    pub(crate) async fn make(
        &self,
        accounts: &ServiceAccounts,
        item: &SettleItem,
    ) -> Result<Attempt, NotMade> {
        let fees = &self.settings.fees;
        let budget = budget::of_settlement(accounts.recipients.len(), fees);
        let fee_lamports = budget::cost(&budget);
        if fee_lamports > fees.max_lamports_per_transaction {
            return Err(NotMade::Unavailable(Unavailable::NotReady(format!(
                "a settlement would cost {fee_lamports} lamports, over the cap of {}",
                fees.max_lamports_per_transaction
            ))));
        }
        let blockhash = self.chain.latest_blockhash().await?;
        let relayer = self.key.address();
        let settle = instructions::settle(&relayer, accounts, &[*item], true);
        let broken = |error: transaction::BuildError| {
            NotMade::Refused(Rejection::new(Reason::UnexpectedSettle, error.to_string()))
        };
        let built = transaction::build(
            Version::V0,
            &relayer,
            &[settle],
            &budget,
            blockhash.hash,
            &[self.key.signer()],
        )
        .map_err(broken)?;
        let wire = transaction::wire(&built).map_err(broken)?;
        let signature = built.signatures.first().copied().ok_or_else(|| {
            NotMade::Refused(Rejection::new(
                Reason::UnexpectedSettle,
                "the transaction has no signature",
            ))
        })?;
        if let Err(error) = self.chain.simulate(&wire).await? {
            match (error.failure(), Rejection::of_failure(&error)) {
                // A node that lags behind the one that gave the blockhash: no news about the payment.
                (Failure::Blockhash, _) => {}
                (_, Some(rejection)) => return Err(NotMade::Refused(rejection)),
                (_, None) => {
                    return Err(NotMade::Unavailable(Unavailable::NotReady(format!(
                        "the fee payer {relayer} cannot pay for a transaction"
                    ))));
                }
            }
        }
        Ok(Attempt {
            signature,
            wire,
            last_valid_block_height: blockhash.last_valid_block_height,
            fee_lamports,
        })
    }

    /// Writes the transaction down, and only then sends it. A send that fails says nothing: the follower
    /// sends again.
    pub(crate) async fn commit_and_send(
        &self,
        digest: &Digest,
        attempt: &Attempt,
    ) -> Result<(), Unavailable> {
        self.ledger.sign(digest, attempt).await?;
        let signature = &attempt.signature;
        let digest_hex = hex::encode(digest);
        match self.chain.send(&attempt.wire).await {
            Ok(()) => {
                tracing::info!(digest = %digest_hex, transaction = %signature, "transaction sent");
                if let Err(error) = self.ledger.mark_sent(digest, signature).await {
                    tracing::warn!(digest = %digest_hex, %error, "sent, but not marked as sent");
                }
            }
            Err(error) => {
                tracing::warn!(
                    digest = %digest_hex, transaction = %signature, %error,
                    "no word about the send; it will be repeated"
                );
            }
        }
        self.moved();
        Ok(())
    }
}

/// The answer while nobody knows yet.
fn pending(row: &PaymentRow) -> Result<Outcome, Unavailable> {
    if row.signature.is_none() {
        return Err(Unavailable::Interrupted);
    }
    Ok(Outcome::Refused(Refusal::of_row(
        Rejection::new(
            Reason::Pending,
            "the transaction was sent and its fate is not known yet: repeat the same call, or ask GET \
             /v1/intents/{digest}",
        ),
        row,
    )))
}
