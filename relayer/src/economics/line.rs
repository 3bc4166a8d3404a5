//! Payments in line that wait for others to share the cost of a transaction, and what a batch of them is short by.

use std::sync::Arc;

use tokio::time::Instant;

use super::cost_of;
use crate::{
    batch::Item,
    desk::Answer,
    engine::{Engine, Unavailable},
    ledger::Charge,
    reason::{Reason, Rejection},
};

impl Engine {
    /// Whether a batch may leave: one of those in line does not wait, or has waited long enough, or they pay together.
    pub(crate) fn may_leave(&self, line: &[Item], most: usize) -> bool {
        line.iter().any(|item| self.is_over(item)) || self.pay_together(line, most)
    }

    /// When the first wait of those in line is over.
    pub(crate) fn first_end(line: &[Item]) -> Option<Instant> {
        line.iter().filter_map(|item| item.terms.wait).min()
    }

    /// Whether a payment leaves with the next batch, whatever that is.
    fn is_over(&self, item: &Item) -> bool {
        let end = item.terms.wait;
        end.is_none_or(|end| end <= Instant::now()) || self.draining.is_cancelled()
    }

    /// Whether the batch that would be cut off this line brings in what it costs, and the margin.
    fn pay_together(&self, line: &[Item], most: usize) -> bool {
        self.short(&together(line, most)) == 0
    }

    /// Lamports that a batch is short by.
    fn short(&self, batch: &[&Item]) -> u64 {
        let Some(first) = batch.first() else {
            return 0;
        };
        let brought = batch.iter().fold(0u64, |sum, item| {
            sum.saturating_add(item.terms.worth.unwrap_or(0))
        });
        let recipients = first.accounts.recipients.len();
        let cost = cost_of(batch.len(), recipients, &self.fees_known());
        let required = self.economics.margin.required(cost, batch.len());
        required.saturating_sub(brought)
    }

    /// Ends the waits that are over. Whoever does not pay together with those that came is subsidised or told no.
    pub(crate) fn end_waits(&self, line: &mut Vec<Item>, most: usize) {
        loop {
            // A batch that leaves anyway takes the others along for next to nothing.
            let leaves = line.iter().any(|item| item.terms.wait.is_none());
            if leaves || self.pay_together(line, most) {
                return;
            }
            let Some(over) = line.iter().position(|item| self.is_over(item)) else {
                return;
            };
            // In front, so that the batch that is judged is the one that leaves.
            let mut item = line.remove(over);
            item.terms.wait = None;
            line.insert(0, item);
            let batch = together(line, most);
            let (count, short) = (batch.len(), self.short(&batch));
            let Some(item) = line.first_mut() else {
                return;
            };
            match self.economics.purse.hold(item.terms.day, short) {
                Some(hold) => item.terms.hold = Some(Arc::new(hold)),
                None => {
                    let item = line.remove(0);
                    self.desk.release(item.digest(), self.waited(count, short));
                }
            }
        }
    }

    /// What a payment is told that has waited for nothing.
    fn waited(&self, count: usize, short: u64) -> Answer {
        if self.draining.is_cancelled() {
            return Answer::Unavailable(Unavailable::Interrupted);
        }
        let rejection = Rejection::new(
            Reason::Uneconomic,
            format!(
                "the payment has waited for others to share its transaction, and too few came: {short} lamports are \
                 missing for a batch of {count}; ask for more, or try again when there is more traffic"
            ),
        );
        Answer::Refused {
            rejection,
            transaction: None,
        }
    }

    /// What the ledger is to count against the day's subsidy, for each payment of a batch: what the batch as a whole is
    /// short by, out of what was set aside for its payments.
    ///
    /// By the batch as it was put together: where another relayer has one of its payments, or has used the subsidy up
    /// meanwhile, the rest travels in a smaller one, and what that costs more is not counted.
    pub(crate) fn charges(&self, batch: &[Item]) -> Vec<Option<Charge>> {
        if batch.iter().all(|item| item.terms.hold.is_none()) {
            return vec![None; batch.len()];
        }
        let mut short = self.short(&batch.iter().collect::<Vec<_>>());
        let per_day = self.economics.purse.per_day();
        let charge = |item: &Item| {
            let hold = item.terms.hold.as_ref()?;
            let lamports = hold.lamports().min(short);
            short -= lamports;
            (lamports > 0).then(|| Charge {
                day: hold.day(),
                lamports,
                per_day,
            })
        };
        batch.iter().map(charge).collect()
    }
}

/// The payments of a line that travel with the first of it.
fn together(line: &[Item], most: usize) -> Vec<&Item> {
    let Some(first) = line.first() else {
        return Vec::new();
    };
    let others = line.iter().skip(1);
    let others = others.filter(|item| item.travels_with(first));
    std::iter::once(first).chain(others).take(most).collect()
}
