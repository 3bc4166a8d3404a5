//! How a settled sum is divided: treasury, facilitator, recipients. To the unit, for every `u64`.

use crate::{BPS, MAX_FACILITATOR_BPS, MAX_RECIPIENTS};

/// The division of one settled sum, in atomic units. Always adds up to the sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shares {
    /// The treasury's leg.
    pub treasury: u64,
    /// The facilitator's leg.
    pub facilitator: u64,
    /// The recipients' legs; those past the recipients' count are zero.
    pub recipients: [u64; MAX_RECIPIENTS],
}

/// Why a sum cannot be divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitError {
    /// No recipient, more than eight, or shares that do not add up to 10,000 basis points.
    Recipients,
    /// The treasury's share is over the whole.
    Treasury,
}

impl core::fmt::Display for SplitError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Recipients => "1 to 8 recipients' shares must add up to 10000 bps",
            Self::Treasury => "the treasury's share is over 10000 bps",
        })
    }
}

impl core::error::Error for SplitError {}

/// What the treasury and the facilitator take before the recipients divide the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fees {
    /// The treasury's part of the sum, in basis points.
    pub treasury_bps: u16,
    /// The facilitator's part of the sum, in basis points.
    pub facilitator_bps: u16,
    /// The facilitator's part of each payment, in atomic units.
    pub facilitator_fixed: u64,
}

/// Divides `sum`, which `payments` payments add up to.
///
/// Treasury and facilitator are rounded down; the facilitator's leg never passes half of the sum; the
/// recipients divide the rest by `recipient_bps` rounded down, and the first takes the remainder.
pub fn split(
    sum: u64,
    payments: u64,
    fees: &Fees,
    recipient_bps: &[u16],
) -> Result<Shares, SplitError> {
    let count = recipient_bps.len();
    let whole: u64 = recipient_bps.iter().map(|bps| u64::from(*bps)).sum();
    if count == 0 || count > MAX_RECIPIENTS || whole != BPS {
        return Err(SplitError::Recipients);
    }
    if u64::from(fees.treasury_bps) > BPS {
        return Err(SplitError::Treasury);
    }
    let treasury = part(sum, fees.treasury_bps);
    let rest = sum - treasury;
    let asked = payments
        .saturating_mul(fees.facilitator_fixed)
        .saturating_add(part(sum, fees.facilitator_bps.min(BPS as u16)));
    let facilitator = asked.min(part(sum, MAX_FACILITATOR_BPS)).min(rest);
    let rest = rest - facilitator;

    let mut recipients = [0u64; MAX_RECIPIENTS];
    let mut left = rest;
    for (leg, bps) in recipients.iter_mut().zip(recipient_bps).skip(1) {
        *leg = part(rest, *bps);
        left -= *leg;
    }
    recipients[0] = left;
    Ok(Shares {
        treasury,
        facilitator,
        recipients,
    })
}

/// `⌊sum · bps / 10⁴⌋` for `bps ≤ 10⁴`, without 128-bit arithmetic: the quotient and the rest of the sum are
/// scaled apart, and neither product can overflow.
fn part(sum: u64, bps: u16) -> u64 {
    let bps = u64::from(bps);
    sum / BPS * bps + sum % BPS * bps / BPS
}
