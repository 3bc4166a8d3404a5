//! Verifying and settling a transfer.

use std::{sync::Arc, time::Duration};

use sluice_sdk::{
    Address, PROGRAM_ID,
    accounts::SluiceAccount,
    token::{decode_account, decode_mint},
    transaction::wire,
};
use solana_transaction::versioned::VersionedTransaction;

use super::{
    judge::{Admission, Scene, Settler, judge},
    payment::Transfer,
};
use crate::{
    chain::CLOCK,
    desk::{Answer, Taken},
    economics::Terms,
    engine::{Engine, Known, Refusal, Unavailable},
    follow::{Carried, Otherwise},
    guard::{Caller, Limited, Purpose},
    ledger::{Backend, Candidate, Claim, LedgerError, NewPayment, Transaction},
    reason::{ExactReason, Reason, Rejection},
    request::Asked,
    settle::Outcome,
    snapshot::{Lookup, SnapshotError, config_address, exists, lookup, time},
};

/// How often a transfer is written down that other relayers are in the way of.
const SEAL_TRIES: u32 = 4;

/// How far a look at desk and chain came.
enum Examined {
    Known(Known),
    Refused(Refusal),
    Good(Box<Admission>, i64),
}

impl Engine {
    /// Reads a transfer and holds it against the rules.
    pub fn read_transfer(&self, asked: &Asked) -> Result<Transfer, Rejection> {
        let most = self.settings.fees.max_lamports_per_transaction;
        Transfer::parse(asked, &self.signers.addresses(), most)
    }

    /// Judges a transfer. Signs nothing, sends nothing, reserves nothing.
    ///
    /// The inner result gives the payer of a valid payment.
    pub async fn verify_transfer(
        &self,
        transfer: &Transfer,
        caller: &Caller,
    ) -> Result<Result<Address, Refusal>, Unavailable> {
        let (admission, asked) = match self.examine_transfer(transfer).await? {
            Examined::Good(admission, asked) => (admission, asked),
            Examined::Refused(refusal) => return Ok(Err(refusal)),
            Examined::Known(known) => return Ok(Err(known.verdict())),
        };
        let admitted = self.guard.admit(caller, Purpose::Verify, &*admission);
        if let Err(refusal) = admitted.await? {
            return Ok(Err(refusal));
        }
        let in_flight = self.desk.in_flight(&[transfer.order.source], asked);
        if let Err(rejection) = admission.reserve(&in_flight) {
            return Ok(Err(Refusal::new(rejection, Some(transfer.order.payer))));
        }
        if let Some(case) = self.transfer_case(transfer, &admission)
            && let Err(rejection) = self.economics.judge(&case)
        {
            return Ok(Err(Refusal::new(rejection, Some(transfer.order.payer))));
        }
        self.signers.check_one(&transfer.order.fee_payer)?;
        Ok(Ok(transfer.order.payer))
    }

    /// Settles a transfer, or tells how an earlier call for it stands.
    pub async fn settle_transfer(
        self: &Arc<Self>,
        transfer: &Transfer,
        caller: &Caller,
    ) -> Result<Outcome, Unavailable> {
        let (admission, asked) = match self.examine_transfer(transfer).await? {
            Examined::Good(admission, asked) => (admission, asked),
            Examined::Refused(refusal) => return Ok(Outcome::Refused(refusal)),
            Examined::Known(known) => return self.join(known).await,
        };
        if self.draining.is_cancelled() {
            return Err(Unavailable::Interrupted);
        }
        self.signers.check_one(&transfer.order.fee_payer)?;
        let admitted = self.guard.admit(caller, Purpose::Settle, &*admission);
        if let Err(refusal) = admitted.await? {
            return Ok(Outcome::Refused(refusal));
        }
        let case = self.transfer_case(transfer, &admission);
        let mut payment = admission.payment.clone();
        payment.deal.worth = self.transfer_worth(&admission);
        payment.api_key = self.guard.key_name(caller);
        let payment = Arc::new(payment);
        let mut terms = Terms::default();
        let taken = self.desk.take(Arc::clone(&payment), asked, |in_flight| {
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
                return Ok(Outcome::Refused(Refusal::new(
                    rejection,
                    Some(payment.payer),
                )));
            }
            Taken::Full => return Err(Unavailable::Overloaded),
            Taken::Crowded(limit) => {
                return Err(Limited::new(limit, Duration::from_secs(1)).into());
            }
        };
        let digest = payment.digest;
        // Goes on if the caller hangs up: what was begun is brought to its end.
        let engine = Arc::clone(self);
        let transaction = transfer.transaction.clone();
        let fee = (transfer.order.fee_payer, transfer.order.fee_lamports);
        self.tasks.spawn(async move {
            if engine.desk.begin(&payment.digest) {
                engine
                    .commit_transfer(payment, transaction, fee, terms)
                    .await;
            }
        });
        self.await_landing(&digest, waiting).await
    }

    async fn examine_transfer(&self, transfer: &Transfer) -> Result<Examined, Unavailable> {
        if let Some(seat) = self.desk.seat(&transfer.digest) {
            return Ok(Examined::Known(Known::of(transfer.digest, seat)));
        }
        // The desk has everything of this relayer's that can still land. Others may share the ledger.
        if self.ledger.backend() == Backend::Postgres
            && let Some(row) = self.ledger.payment(&transfer.digest).await?
        {
            return Ok(Examined::Known(Known::of_row(transfer.digest, &row)));
        }
        let (scene, asked) = self.scene(transfer).await?;
        let settler = Settler {
            fee_payers: self.signers.addresses(),
            facilitator: self.settings.facilitator,
        };
        let rejection = match judge(&scene, transfer, &settler) {
            Ok(admission) => match self.rehearse(transfer).await? {
                Ok(()) => return Ok(Examined::Good(Box::new(admission), asked)),
                Err(rejection) => rejection,
            },
            Err(rejection) => rejection,
        };
        // What was paid long ago fails now, and is not called invalid for that.
        if let Some(row) = self.ledger.payment(&transfer.digest).await? {
            return Ok(Examined::Known(Known::of_row(transfer.digest, &row)));
        }
        let payer = Some(transfer.order.payer);
        Ok(Examined::Refused(Refusal::new(rejection, payer)))
    }

    /// What the chain says, from what was asked a moment ago where that will do.
    async fn scene(&self, transfer: &Transfer) -> Result<(Scene, i64), Unavailable> {
        let order = &transfer.order;
        let keys = [
            CLOCK,
            config_address(),
            transfer.mint,
            transfer.pay_to,
            order.source,
            order.destination,
        ];
        let age = self.settings.chain.cache();
        let view = self
            .accounts
            .get(&keys, age)
            .await
            .map_err(SnapshotError::Chain)?;
        let account = |i: usize| {
            let account = view.accounts.get(i).and_then(Option::as_deref);
            account.filter(|account| exists(account))
        };
        let token = |i: usize| account(i).and_then(|a| decode_account(&a.owner, &a.data));
        let pay_to = account(3).filter(|account| account.owner == PROGRAM_ID);
        let scene = Scene {
            now: time(account(0)).map_err(SnapshotError::Chain)?,
            config: account(1)
                .and_then(|a| sluice_sdk::accounts::Config::decode(&a.owner, &a.data).ok()),
            mint: account(2).and_then(|a| decode_mint(&a.owner, &a.data)),
            service: match pay_to {
                Some(account) => lookup(Some(account)),
                None => Lookup::Missing,
            },
            source: token(4),
            destination: token(5),
            expected: self.snapshots.token_account(
                &transfer.pay_to,
                &transfer.mint,
                &order.token_program,
            ),
            blocks_left: self.blockhashes.blocks_left(&order.blockhash).await?,
        };
        Ok((scene, view.asked_ms))
    }

    /// Has a node run a transaction that accounts alone do not answer for. An optimisation, and no guard: what it says
    /// holds for that moment.
    async fn rehearse(&self, transfer: &Transfer) -> Result<Result<(), Rejection>, Unavailable> {
        if transfer.order.plain && !self.settings.exact.always_simulate {
            return Ok(Ok(()));
        }
        let Ok(bytes) = wire(&transfer.transaction) else {
            return Err(Unavailable::Interrupted);
        };
        Ok(match self.chain.simulate(&bytes).await? {
            None => Ok(()),
            Some(error) => Err(Rejection::new(
                Reason::Exact(ExactReason::SimulationFailed),
                format!("the transaction would fail: {error}"),
            )),
        })
    }

    /// Signs a transfer, writes it down, sends it, and hands it to the follower.
    async fn commit_transfer(
        self: &Arc<Self>,
        payment: Arc<NewPayment>,
        transaction: VersionedTransaction,
        (fee_payer, fee_lamports): (Address, u64),
        terms: Terms,
    ) {
        let digest = payment.digest;
        let charge = self.transfer_charge(&terms);
        let signed = self.sign_transfer(transaction, fee_payer, fee_lamports, payment.service);
        let signed = match signed.await {
            Ok(signed) => signed,
            Err(error) => return self.desk.release(&digest, Answer::Unavailable(error)),
        };
        let term = self.lease.term();
        let mut tries = 1;
        let sealed = loop {
            let candidate = Candidate::New(Box::new((*payment).clone())).charged(charge);
            let signed = signed.clone();
            match self
                .ledger
                .seal(vec![candidate], move |_| Ok::<_, Unavailable>(signed))
                .await
            {
                Ok(sealed) => break sealed,
                Err(LedgerError::Contended(problem)) if tries < SEAL_TRIES => {
                    tracing::debug!(%problem, tries, "another relayer was faster");
                    tries += 1;
                }
                Err(error @ LedgerError::Commit(_)) => return self.unsealed(digest, &error),
                Err(error) => {
                    let error = Unavailable::Ledger(error);
                    return self.desk.release(&digest, Answer::Unavailable(error));
                }
            }
        };
        match sealed.claims.into_iter().next() {
            Some(Claim::Sealed) => {
                if let Some(hold) = &terms.hold {
                    hold.spend(charge.map_or(0, |charge| charge.lamports));
                }
            }
            Some(Claim::Bound) => return self.desk.release(&digest, Answer::Bound),
            Some(Claim::SubsidySpent) => return self.subsidy_spent(&digest, charge.as_ref()),
            // Another relayer has it, or an earlier run.
            Some(Claim::Known(row)) => return self.elsewhere(&digest, &row),
            Some(Claim::NonceConflict) | None => {
                return self
                    .desk
                    .release(&digest, Answer::Unavailable(Unavailable::Interrupted));
            }
        }
        let carried = vec![Carried {
            digest,
            otherwise: Otherwise::Nothing,
        }];
        self.launch(signed, carried, term).await;
    }

    async fn sign_transfer(
        &self,
        mut transaction: VersionedTransaction,
        fee_payer: Address,
        fee_lamports: u64,
        service: Address,
    ) -> Result<Transaction, Unavailable> {
        // The payer has named it: no other key will do.
        let signer = self.signers.take(&fee_payer, fee_lamports)?;
        let message = transaction.message.serialize();
        let signed = self.sign_with(signer.as_ref(), &message).await;
        let signature = signed.map_err(Unavailable::Signer)?;
        match transaction.signatures.first_mut() {
            Some(place) => *place = signature,
            None => return Err(Unavailable::Interrupted),
        }
        Ok(Transaction {
            signature,
            wire: wire(&transaction).map_err(|error| Unavailable::NotReady(error.to_string()))?,
            last_valid_block_height: self
                .blockhashes
                .last_valid(transaction.message.recent_blockhash()),
            // Without this relayer's signature it could not have landed before now.
            signed_slot: self.blockhashes.newest_slot(),
            fee_payer,
            fee_lamports,
            service,
        })
    }
}
