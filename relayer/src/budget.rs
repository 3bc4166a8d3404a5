//! What a settlement may use and what it costs.

use sluice_intent::MAX_RECIPIENTS;
use sluice_sdk::transaction::Budget;

use crate::config::Fees;

/// Lamports of one signature. A settlement has one, the fee payer's.
pub const SIGNATURE_LAMPORTS: u64 = 5_000;

/// Compute units of a settlement without its payments and recipients. Measured (`docs/compute-units.md`): about 22,540 with
/// one payment, one recipient and p-token, of which a payment is 13,900 and a recipient 1,150. What is asked for is more,
/// for addresses and token programs that cost more; what is not used costs nothing but a little priority.
const BASE_UNITS: u32 = 15_000;
/// Compute units for each payment.
const PAYMENT_UNITS: u32 = 22_000;
/// Compute units for each recipient.
const RECIPIENT_UNITS: u32 = 7_000;
/// Compute units of a distribution beside its recipients' and [`BASE_UNITS`].
const DISTRIBUTION_UNITS: u32 = 10_000;
/// Compute units for each nonce account that is closed.
const CLOSE_UNITS: u32 = 15_000;
/// Compute units of an opening: the account's address is found anew, which may take many tries.
const ONBOARD_UNITS: u32 = 120_000;
/// The most that a transaction may ask for.
const MAX_UNITS: u32 = 1_400_000;
/// Bytes of accounts: the program (at most 500,000), the token program, and small accounts.
const LOADED_BYTES: u32 = 2 * 1024 * 1024;

/// The budget of a settlement.
pub fn of_settlement(payments: usize, recipients: usize, fees: &Fees) -> Budget {
    Budget {
        compute_units: units(payments, recipients).min(MAX_UNITS),
        unit_price: fees.unit_price_micro_lamports,
        loaded_bytes: LOADED_BYTES,
    }
}

/// The budget of a distribution of vaults with so many recipients each; `None` where that is too much for a transaction.
/// Measured: 11,800 with one recipient, 20,600 with eight.
pub fn of_distribution(recipients: &[usize], fees: &Fees) -> Option<Budget> {
    let units = recipients
        .iter()
        .map(|recipients| units(0, *recipients).saturating_add(DISTRIBUTION_UNITS))
        .fold(0u32, u32::saturating_add);
    (units <= MAX_UNITS).then_some(Budget {
        compute_units: units,
        unit_price: fees.unit_price_micro_lamports,
        loaded_bytes: LOADED_BYTES,
    })
}

/// The budget of closing so many nonce accounts.
pub fn of_reclaim(accounts: usize, fees: &Fees) -> Budget {
    let count = u32::try_from(accounts).unwrap_or(u32::MAX);
    Budget {
        compute_units: CLOSE_UNITS.saturating_mul(count).min(MAX_UNITS),
        unit_price: fees.unit_price_micro_lamports,
        loaded_bytes: LOADED_BYTES,
    }
}

/// The budget of opening a nonce account, setting a lane and approving.
pub fn of_onboarding(fees: &Fees) -> Budget {
    Budget {
        compute_units: ONBOARD_UNITS,
        unit_price: fees.unit_price_micro_lamports,
        loaded_bytes: LOADED_BYTES,
    }
}

/// The most payments that compute units allow in one transaction.
pub fn most_payments(recipients: usize) -> usize {
    let left = MAX_UNITS.saturating_sub(units(0, recipients));
    (left / PAYMENT_UNITS) as usize
}

fn units(payments: usize, recipients: usize) -> u32 {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    BASE_UNITS
        .saturating_add(PAYMENT_UNITS.saturating_mul(count(payments)))
        .saturating_add(RECIPIENT_UNITS.saturating_mul(count(recipients.min(MAX_RECIPIENTS))))
}

/// What a transaction of `budget` costs in all, in lamports.
pub fn cost(budget: &Budget) -> u64 {
    SIGNATURE_LAMPORTS.saturating_add(budget.priority_fee())
}

/// The most that a settlement of one payment can cost, in lamports.
pub fn dearest(fees: &Fees) -> u64 {
    cost(&of_settlement(1, MAX_RECIPIENTS, fees))
}
