//! The division of a sum: what can be divided is divided as the reference in 128 bits does it, to the unit; what
//! cannot is refused; and one unit more never moves a leg further than one unit.
#![no_main]

use libfuzzer_sys::{
    arbitrary::{self, Arbitrary},
    fuzz_target,
};
use sluice_fuzz::{
    Edgy,
    reference::{reference_split, sum},
};
use sluice_intent::{
    Shares, SplitError,
    split::{Fees, split},
};

#[derive(Arbitrary, Debug)]
struct Input {
    sum: Edgy,
    payments: Edgy,
    treasury_bps: u16,
    facilitator_bps: u16,
    facilitator_fixed: Edgy,
    rows: Rows,
}

#[derive(Arbitrary, Debug)]
enum Rows {
    /// Cut at these places, so that the shares add up.
    Cut(Vec<u16>),
    /// As they are: hardly ever a whole.
    Raw(Vec<u16>),
}

impl Rows {
    fn bps(self) -> Vec<u16> {
        match self {
            Self::Raw(rows) => rows,
            Self::Cut(mut cuts) => {
                cuts.truncate(9);
                cuts.iter_mut().for_each(|cut| *cut %= 10_001);
                cuts.sort_unstable();
                cuts.push(10_000);
                let mut from = 0;
                cuts.iter()
                    .map(|cut| cut - std::mem::replace(&mut from, *cut))
                    .collect()
            }
        }
    }
}

fuzz_target!(|input: Input| {
    let (Edgy(whole), Edgy(payments)) = (input.sum, input.payments);
    let rows = input.rows.bps();
    let fees = Fees {
        // Up to a little over the whole, to see that refused too.
        treasury_bps: input.treasury_bps % 10_010,
        facilitator_bps: input.facilitator_bps,
        facilitator_fixed: input.facilitator_fixed.0,
    };
    let shares = split(whole, payments, &fees, &rows);

    let of_rows: u64 = rows.iter().map(|bps| u64::from(*bps)).sum();
    if !(1..=8).contains(&rows.len()) || of_rows != 10_000 {
        assert_eq!(shares, Err(SplitError::Recipients));
        return;
    }
    if fees.treasury_bps > 10_000 {
        assert_eq!(shares, Err(SplitError::Treasury));
        return;
    }
    let Ok(shares) = shares else {
        panic!("refused {shares:?}");
    };

    let legs = sum(&shares.recipients);
    let total = u128::from(shares.treasury) + u128::from(shares.facilitator) + legs;
    assert_eq!(total, u128::from(whole), "not the whole: {shares:?}");
    assert!(shares.facilitator <= whole / 2);

    let (treasury, facilitator, recipients) = reference_split(
        whole,
        payments,
        fees.treasury_bps,
        fees.facilitator_bps,
        fees.facilitator_fixed,
        &rows,
    );
    assert_eq!(u128::from(shares.treasury), treasury);
    assert_eq!(u128::from(shares.facilitator), facilitator);
    for (i, leg) in shares.recipients.iter().enumerate() {
        let expect = recipients.get(i).copied().unwrap_or(0);
        assert_eq!(u128::from(*leg), expect, "recipient {i}");
    }

    if let Some(more) = whole.checked_add(1) {
        let Ok(after) = split(more, payments, &fees, &rows) else {
            panic!("one unit more was refused");
        };
        assert_one_unit_moves_little(&shares, &after);
    }
});

/// A leg that fell while the sum rose would let somebody gain by dividing less at once. The fees never fall; the
/// recipients together may lose one unit, where both fees gain one.
fn assert_one_unit_moves_little(before: &Shares, after: &Shares) {
    assert!((0..=1).contains(&after.treasury.wrapping_sub(before.treasury)));
    assert!((0..=1).contains(&after.facilitator.wrapping_sub(before.facilitator)));
    let (was, is) = (sum(&before.recipients), sum(&after.recipients));
    assert!(is + 1 >= was && is <= was + 1, "{was} became {is}");
    // The first takes the remainder, which comes and goes; every other one is rounded down on its own.
    for (was, is) in before.recipients.iter().zip(&after.recipients).skip(1) {
        assert!(is.abs_diff(*was) <= 1, "{was} became {is}");
    }
}
