//! What priority costs now.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use sluice_sdk::Address;

use super::Chain;
use crate::config::Fees;

/// How long a price is believed.
const MAX_AGE: Duration = Duration::from_secs(5);

/// The price that recent transactions paid for the accounts that ours lock.
#[derive(Debug, Default)]
pub struct Prices {
    last: Mutex<Option<(u64, Instant)>>,
}

impl Prices {
    /// Micro-lamports a compute unit: the configured percentile of what was paid lately for `accounts`, between the
    /// configured floor and ceiling. Where nobody says what was paid, the last price known, or the floor.
    pub async fn now(&self, chain: &dyn Chain, accounts: &[Address], fees: &Fees) -> u64 {
        let floor = fees.unit_price_micro_lamports;
        let ceiling = fees.max_unit_price_micro_lamports.max(floor);
        if ceiling == floor {
            return floor;
        }
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((price, at)) = last
            && at.elapsed() < MAX_AGE
        {
            return price;
        }
        let price = match chain.recent_prices(accounts).await {
            Ok(paid) => percentile(paid, fees.price_percentile).unwrap_or(floor),
            Err(error) => {
                tracing::debug!(%error, "what priority costs is not known now");
                last.map_or(floor, |(price, _)| price)
            }
        };
        let price = price.clamp(floor, ceiling);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((price, Instant::now()));
        price
    }

    /// The last price known, without asking for another.
    pub fn known(&self, fees: &Fees) -> u64 {
        let floor = fees.unit_price_micro_lamports;
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.map_or(floor, |(price, _)| price)
    }
}

/// The price that `percent` of the others did not exceed; `None` for no prices.
fn percentile(mut paid: Vec<u64>, percent: u8) -> Option<u64> {
    paid.sort_unstable();
    let last = paid.len().checked_sub(1)?;
    paid.get(last * usize::from(percent.min(100)) / 100)
        .copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_prices() {
        assert_eq!(percentile(vec![], 50), None);
        assert_eq!(percentile(vec![7], 99), Some(7));
        assert_eq!(percentile(vec![30, 10, 20], 50), Some(20));
        assert_eq!(percentile(vec![30, 10, 20], 100), Some(30));
        assert_eq!(percentile(vec![30, 10, 20], 0), Some(10));
    }
}
