//! Whether a payment pays for its settlement, and what happens to one that does not.
//!
//! The facilitator's share is worth something ([`price`]), a payment of its service costs something ([`cost`]), and the
//! operator wants a margin. A payment that brings it in is settled at once. One that would in a larger batch waits for
//! one, where waiting is allowed. What is still short is paid from the day's [`subsidy`] while that lasts, and refused
//! otherwise. `/verify` and `/settle` ask the same question, here.

mod books;
pub mod cost;
mod line;
pub mod price;
mod settings;
pub mod subsidy;

use std::{
    sync::{Arc, atomic::AtomicI64},
    time::Duration,
};

use sluice_intent::Digest;
use sluice_sdk::Address;
use tokio::time::Instant;

use crate::{
    budget,
    config::Fees,
    desk::Answer,
    engine::Engine,
    exact,
    ledger::Charge,
    reason::{Reason, Rejection},
    verify::Admission,
};

pub use settings::EconomicsSettings;

use cost::Costs;
use price::Prices;
use subsidy::{Hold, Purse, day_of};

/// The least that is to be earned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Margin {
    /// Basis points of the cost.
    pub bps: u32,
    /// Lamports a payment, on top.
    pub lamports: u64,
}

impl Margin {
    /// What `payments` must bring in together if settling them costs `cost`, in lamports, rounded up.
    pub fn required(&self, cost: u64, payments: usize) -> u64 {
        let part = u128::from(cost) * u128::from(self.bps);
        let part = u64::try_from(part.div_ceil(10_000)).unwrap_or(u64::MAX);
        let payments = u64::try_from(payments).unwrap_or(u64::MAX);
        cost.saturating_add(part)
            .saturating_add(self.lamports.saturating_mul(payments))
    }

    /// Each payment's part of that, rounded up.
    pub fn required_each(&self, cost: u64, payments: usize) -> u64 {
        let count = u64::try_from(payments.max(1)).unwrap_or(u64::MAX);
        self.required(cost, payments).div_ceil(count)
    }
}

/// How a payment stands to what its settlement costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It pays for itself.
    Pays,
    /// It does in a batch of so many, and in no smaller one.
    Waits {
        /// Payments.
        batch: usize,
    },
    /// It does not.
    Short {
        /// Lamports that are missing.
        by: u64,
    },
}

/// Decides on a share that is worth `worth` lamports where a payment is expected to cost `expected`. Batches up to
/// `largest` may be waited for, and `cost_of` is what a transaction of so many payments costs.
pub fn decide(
    worth: u64,
    expected: u64,
    margin: Margin,
    largest: usize,
    cost_of: impl Fn(usize) -> u64,
) -> Decision {
    let required = margin.required(expected, 1);
    let Some(by) = required.checked_sub(worth).filter(|by| *by > 0) else {
        return Decision::Pays;
    };
    let pays = |batch: &usize| worth >= margin.required_each(cost_of(*batch), *batch);
    match (2..=largest).find(pays) {
        Some(batch) => Decision::Waits { batch },
        None => Decision::Short { by },
    }
}

/// A payment as it is judged here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    service: Address,
    /// The facilitator's share, in atomic units.
    share: u64,
    /// The same in lamports, if prices are known.
    worth: Option<u64>,
    /// What its transaction costs, if that is known.
    cost: Option<u64>,
    recipients: usize,
    fees: Fees,
    /// The largest batch that it may wait for.
    largest: usize,
    /// How long it may wait.
    patience: Duration,
    /// The UTC day by the chain's clock.
    day: i64,
}

impl Case {
    fn cost_of(&self, payments: usize) -> u64 {
        cost_of(payments, self.recipients, &self.fees)
    }
}

fn cost_of(payments: usize, recipients: usize, fees: &Fees) -> u64 {
    budget::cost(&budget::of_settlement(payments, recipients, fees))
}

/// The terms on which a payment is settled.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// What the facilitator's share is worth, in lamports, at the prices of the judgement.
    pub worth: Option<u64>,
    /// Until when it waits for a batch in which it pays. `None` for one that does not wait.
    pub wait: Option<Instant>,
    /// The UTC day of the judgement.
    pub day: i64,
    /// What is set aside for it of that day's subsidy.
    pub hold: Option<Arc<Hold>>,
}

/// Prices, costs and the day's purse.
pub struct Economics {
    settings: EconomicsSettings,
    margin: Margin,
    prices: Prices,
    costs: Costs,
    purse: Purse,
    pruned: AtomicI64,
}

impl Economics {
    /// By these settings, with nothing known yet.
    pub fn new(settings: EconomicsSettings) -> Self {
        Self {
            margin: Margin {
                bps: settings.margin_bps,
                lamports: settings.margin_lamports,
            },
            prices: Prices::new(
                settings.sol_usd,
                settings.token_usd.clone(),
                settings.max_age(),
            ),
            costs: Costs::new(settings.cost_window()),
            purse: Purse::new(settings.subsidy_lamports_per_day),
            pruned: AtomicI64::new(0),
            settings,
        }
    }

    /// Lamports of subsidy a day.
    pub fn subsidy_per_day(&self) -> u64 {
        self.purse.per_day()
    }

    /// What a payment's share is worth now, in lamports.
    pub fn worth(&self, admission: &Admission) -> Option<u64> {
        let share = admission.shares.facilitator;
        self.prices
            .worth(&admission.mint, admission.decimals, share)
    }

    /// What atomic units of a mint are worth now, in lamports.
    pub fn worth_of(&self, mint: &Address, decimals: u8, units: u64) -> Option<u64> {
        self.prices.worth(mint, decimals, units)
    }

    /// Judges without setting anything aside.
    pub fn judge(&self, case: &Case) -> Result<(), Rejection> {
        match self.decide(case) {
            Decision::Short { by } if !self.purse.has(case.day, by) => Err(self.refusal(case)),
            _ => Ok(()),
        }
    }

    /// Judges, and sets aside what the payment is short by.
    pub fn admit(&self, case: &Case) -> Result<Terms, Rejection> {
        let mut terms = Terms {
            worth: case.worth,
            day: case.day,
            ..Terms::default()
        };
        match self.decide(case) {
            Decision::Pays => {}
            Decision::Waits { .. } => terms.wait = Some(Instant::now() + case.patience),
            Decision::Short { by } => {
                let hold = self.purse.hold(case.day, by);
                terms.hold = Some(Arc::new(hold.ok_or_else(|| self.refusal(case))?));
            }
        }
        Ok(terms)
    }

    fn decide(&self, case: &Case) -> Decision {
        // What nobody can value is worth nothing here.
        let worth = case.worth.unwrap_or(0);
        let cost_of = |payments| case.cost_of(payments);
        decide(
            worth,
            self.expected(case),
            self.margin,
            case.largest,
            cost_of,
        )
    }

    /// What a payment is expected to cost: what those before it did, and with none before it, a transaction.
    fn expected(&self, case: &Case) -> u64 {
        let lately = || self.costs.per_payment(&case.service);
        case.cost.or_else(lately).unwrap_or_else(|| case.cost_of(1))
    }

    fn refusal(&self, case: &Case) -> Rejection {
        let Some(worth) = case.worth else {
            return Rejection::new(
                Reason::PriceUnknown,
                "asset: what it is worth is not known to the facilitator now, so the payment's cost cannot be held \
                 against it: try again later, or pay in another mint",
            );
        };
        let expected = self.expected(case);
        Rejection::new(
            Reason::Uneconomic,
            format!(
                "the facilitator's share of {} units is worth {worth} lamports, and to settle it is expected to cost \
                 {expected}, so that at least {} are wanted: ask for more, give the facilitator a larger share, or \
                 try again when more payments share a transaction",
                case.share,
                self.margin.required(expected, 1)
            ),
        )
    }
}

impl Engine {
    /// A payment as it is judged here; `None` where nothing is.
    pub(crate) fn case(&self, admission: &Admission, worth: Option<u64>) -> Option<Case> {
        let settings = &self.economics.settings;
        if !settings.enforce {
            return None;
        }
        // What an intent must have left is not waited away.
        let margin = i64::from(self.settings.chain.expiry_margin_secs);
        let expires = i64::from(admission.signed.intent.expires_at);
        let slack = expires - admission.chain_time() - margin;
        let slack = Duration::from_secs(u64::try_from(slack).unwrap_or(0));
        let patience = Duration::from_millis(settings.wait_ms).min(slack);
        let largest = if patience.is_zero() || self.draining.is_cancelled() {
            0
        } else {
            let most = self.most(&admission.accounts);
            match settings.wait_batch {
                0 => most,
                told => told.min(most),
            }
        };
        Some(Case {
            service: admission.accounts.service,
            share: admission.shares.facilitator,
            worth,
            cost: None,
            recipients: admission.accounts.recipients.len(),
            fees: self.fees_known(),
            largest,
            patience,
            day: day_of(admission.chain_time()),
        })
    }

    /// Refuses a payment whose charge the ledger did not take: other relayers have used the day's subsidy up.
    pub(crate) fn subsidy_spent(&self, digest: &Digest, charge: Option<&Charge>) {
        if let Some(charge) = charge {
            self.economics.purse.note(charge.day, charge.per_day);
        }
        let rejection = Rejection::new(
            Reason::Uneconomic,
            "the payment does not pay for its settlement, and what the facilitator gives towards such payments is \
             spent for today: ask for more, or try again tomorrow (UTC)",
        );
        let transaction = None;
        self.desk.release(
            digest,
            Answer::Refused {
                rejection,
                transaction,
            },
        );
    }

    /// What a transfer's share is worth, in lamports. None of it is the facilitator's where a wallet is paid, and nothing
    /// is worth nothing at any price.
    pub(crate) fn transfer_worth(&self, admission: &exact::judge::Admission) -> Option<u64> {
        let (payment, prices) = (&admission.payment, &self.economics.prices);
        match payment.deal.share {
            0 => Some(0),
            share => prices.worth(&payment.mint, admission.decimals, share),
        }
    }

    /// A transfer as it is judged here. It has a transaction of its own, and what that costs is known.
    pub(crate) fn transfer_case(
        &self,
        transfer: &exact::Transfer,
        admission: &exact::judge::Admission,
    ) -> Option<Case> {
        self.economics.settings.enforce.then(|| Case {
            service: transfer.pay_to,
            share: admission.payment.deal.share,
            worth: self.transfer_worth(admission),
            cost: Some(transfer.order.fee_lamports),
            recipients: 0,
            fees: self.settings.fees,
            largest: 0,
            patience: Duration::ZERO,
            day: day_of(admission.now),
        })
    }

    /// What the ledger is to count against the day's subsidy for a transfer.
    pub(crate) fn transfer_charge(&self, terms: &Terms) -> Option<Charge> {
        let hold = terms.hold.as_ref()?;
        Some(Charge {
            day: hold.day(),
            lamports: hold.lamports(),
            per_day: self.economics.purse.per_day(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn flat(_: usize) -> u64 {
        5_000
    }

    #[test]
    fn a_share_is_held_against_cost_and_margin() {
        let none = Margin::default();
        assert_eq!(decide(5_000, 5_000, none, 0, flat), Decision::Pays);
        assert_eq!(
            decide(4_999, 5_000, none, 0, flat),
            Decision::Short { by: 1 }
        );
        assert_eq!(decide(250, 250, none, 0, flat), Decision::Pays);
        assert_eq!(
            decide(250, 5_000, none, 20, flat),
            Decision::Waits { batch: 20 }
        );
        assert_eq!(
            decide(250, 5_000, none, 19, flat),
            Decision::Short { by: 4_750 }
        );
        let margin = Margin {
            bps: 1_000,
            lamports: 7,
        };
        assert_eq!(margin.required(5_000, 1), 5_507);
        assert_eq!(decide(5_507, 5_000, margin, 0, flat), Decision::Pays);
        assert_eq!(
            decide(5_506, 5_000, margin, 0, flat),
            Decision::Short { by: 1 }
        );
        // 5,500 for two, and 7 each.
        assert_eq!(margin.required_each(5_000, 2), 2_757);
        assert_eq!(
            decide(2_757, 5_000, margin, 64, flat),
            Decision::Waits { batch: 2 }
        );
        assert_eq!(decide(0, 0, none, 64, |_| 0), Decision::Pays);
    }

    prop_compose! {
        fn margins()(bps in 0u32..=1_000_000, lamports in 0u64..=1_000_000_000) -> Margin {
            Margin { bps, lamports }
        }
    }

    fn numbers() -> impl Strategy<Value = u64> {
        prop_oneof![0u64..20_000, any::<u64>()]
    }

    proptest! {
        #[test]
        fn the_decision_is_what_the_sums_say(
            worth in numbers(), expected in numbers(), margin in margins(), largest in 0usize..80,
            base in numbers(), each in 0u64..1_000_000,
        ) {
            let cost_of = |count: usize| base.saturating_add(each * count as u64);
            let pays_in = |count: usize| {
                // Σ over the batch, in 128 bits: what it brings in covers what it must.
                let cost = u128::from(cost_of(count));
                let required = cost + (cost * u128::from(margin.bps)).div_ceil(10_000)
                    + u128::from(margin.lamports) * count as u128;
                u128::from(worth) * count as u128 >= required
            };
            let required = u128::from(expected)
                + (u128::from(expected) * u128::from(margin.bps)).div_ceil(10_000)
                + u128::from(margin.lamports);
            match decide(worth, expected, margin, largest, cost_of) {
                Decision::Pays => prop_assert!(u128::from(worth) >= required || worth == u64::MAX),
                Decision::Waits { batch } => {
                    prop_assert!(u128::from(worth) < required);
                    prop_assert!((2..=largest).contains(&batch));
                    prop_assert!(pays_in(batch) || worth.saturating_mul(batch as u64) == u64::MAX);
                    prop_assert!((2..batch).all(|smaller| !pays_in(smaller)));
                }
                Decision::Short { by } => {
                    prop_assert!(by > 0);
                    let least = required.min(u128::from(u64::MAX));
                    prop_assert_eq!(u128::from(worth) + u128::from(by), least);
                    prop_assert!((2..=largest).all(|batch| !pays_in(batch)));
                }
            }
        }

        #[test]
        fn who_brings_more_is_never_treated_worse(
            worth in numbers(), more in numbers(), expected in 0u64..100_000, margin in margins(), largest in 0usize..80,
        ) {
            let rank = |decision| match decision {
                Decision::Pays => (0, 0),
                Decision::Waits { batch } => (1, batch as u64),
                Decision::Short { by } => (2, by),
            };
            let of = |worth| rank(decide(worth, expected, margin, largest, flat));
            prop_assert!(of(worth.max(more)) <= of(worth.min(more)));
        }
    }
}
