//! What a settlement may use and what it costs.

use sluice_intent::MAX_RECIPIENTS;
use sluice_sdk::transaction::Budget;

use crate::config::Fees;

/// Lamports of one signature. A settlement has one, the fee payer's.
pub const SIGNATURE_LAMPORTS: u64 = 5_000;

/// Compute units of a settlement of one payment, without its recipients. Measured: about 25,000 with one
/// recipient and p-token; the classic token program takes 4,700 for each of the three transfers here.
const BASE_UNITS: u32 = 40_000;
/// Compute units for each recipient: a transfer by the classic token program and what surrounds it.
const RECIPIENT_UNITS: u32 = 7_000;
/// Bytes of accounts: the program (at most 500,000), the token program, and small accounts.
const LOADED_BYTES: u32 = 2 * 1024 * 1024;

/// The budget of a settlement of one payment.
pub fn of_settlement(recipients: usize, fees: &Fees) -> Budget {
    let recipients = u32::try_from(recipients.min(MAX_RECIPIENTS)).unwrap_or(u32::MAX);
    Budget {
        compute_units: BASE_UNITS.saturating_add(RECIPIENT_UNITS.saturating_mul(recipients)),
        unit_price: fees.unit_price_micro_lamports,
        loaded_bytes: LOADED_BYTES,
    }
}

/// What a transaction of `budget` costs in all, in lamports.
pub fn cost(budget: &Budget) -> u64 {
    SIGNATURE_LAMPORTS.saturating_add(budget.priority_fee())
}

/// The most that a settlement can cost, in lamports.
pub fn dearest(fees: &Fees) -> u64 {
    cost(&of_settlement(MAX_RECIPIENTS, fees))
}
