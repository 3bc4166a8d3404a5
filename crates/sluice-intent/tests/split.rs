//! The division of a settled sum (I1): nothing is created, nothing is lost, and each leg is what the terms say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use proptest::collection::vec;
use proptest::prelude::*;
use sluice_intent::split::{Fees, Shares, SplitError, split};
use support::{config, edgy_u64, reference::reference_split, shares};

/// Fees within the caps that every service is checked against.
fn capped_fees() -> impl Strategy<Value = Fees> {
    let bps = |cap: u16| prop_oneof![1 => Just(0), 1 => Just(cap), 4 => 0..=cap];
    (bps(1_000), bps(5_000), edgy_u64()).prop_map(
        |(treasury_bps, facilitator_bps, facilitator_fixed)| Fees {
            treasury_bps,
            facilitator_bps,
            facilitator_fixed,
        },
    )
}

fn total(shares: &Shares) -> u128 {
    let recipients: u128 = shares.recipients.iter().map(|leg| u128::from(*leg)).sum();
    u128::from(shares.treasury) + u128::from(shares.facilitator) + recipients
}

fn no_fees() -> Fees {
    Fees {
        treasury_bps: 0,
        facilitator_bps: 0,
        facilitator_fixed: 0,
    }
}

proptest! {
    #![proptest_config(config(12_000))]

    #[test]
    fn the_legs_add_up_to_the_sum_to_the_unit(
        sum in edgy_u64(), payments in edgy_u64(), fees in capped_fees(), rows in shares(),
    ) {
        let legs = split(sum, payments, &fees, &rows).unwrap();
        prop_assert_eq!(total(&legs), u128::from(sum));
    }

    #[test]
    fn every_leg_equals_the_reference_in_128_bits(
        sum in edgy_u64(), payments in edgy_u64(), fees in capped_fees(), rows in shares(),
    ) {
        let legs = split(sum, payments, &fees, &rows).unwrap();
        let (treasury, facilitator, recipients) = reference_split(
            sum, payments, fees.treasury_bps, fees.facilitator_bps, fees.facilitator_fixed, &rows,
        );
        prop_assert_eq!(u128::from(legs.treasury), treasury);
        prop_assert_eq!(u128::from(legs.facilitator), facilitator);
        let got: Vec<u128> = legs.recipients.iter().map(|leg| u128::from(*leg)).collect();
        prop_assert_eq!(&got[..rows.len()], &recipients[..]);
    }

    #[test]
    fn a_place_without_a_recipient_gets_nothing(
        sum in edgy_u64(), payments in edgy_u64(), fees in capped_fees(), rows in shares(),
    ) {
        let legs = split(sum, payments, &fees, &rows).unwrap();
        prop_assert!(legs.recipients[rows.len()..].iter().all(|leg| *leg == 0));
    }

    #[test]
    fn the_facilitator_never_gets_more_than_half(
        sum in edgy_u64(), payments in edgy_u64(), fees in capped_fees(), rows in shares(),
    ) {
        let legs = split(sum, payments, &fees, &rows).unwrap();
        prop_assert!(legs.facilitator <= sum / 2);
    }

    #[test]
    fn treasury_and_facilitator_are_rounded_down_by_less_than_a_unit(
        sum in edgy_u64(), payments in 0u64..=64, mut fees in capped_fees(), rows in shares(),
    ) {
        // Nothing fixed, so that the exact share is a fraction of the sum and no more.
        fees.facilitator_fixed = 0;
        let legs = split(sum, payments, &fees, &rows).unwrap();
        for (leg, bps) in [(legs.treasury, fees.treasury_bps), (legs.facilitator, fees.facilitator_bps)] {
            let exact = u128::from(sum) * u128::from(bps);
            let got = u128::from(leg) * 10_000;
            prop_assert!(got <= exact && exact - got < 10_000, "{leg} for {bps} bps of {sum}");
        }
    }

    #[test]
    fn no_recipient_is_further_from_the_exact_share_than_there_are_recipients(
        sum in edgy_u64(), payments in edgy_u64(), fees in capped_fees(), rows in shares(),
    ) {
        let legs = split(sum, payments, &fees, &rows).unwrap();
        let rest = u128::from(sum - legs.treasury - legs.facilitator);
        for (i, bps) in rows.iter().enumerate() {
            let exact = rest * u128::from(*bps);
            let got = u128::from(legs.recipients[i]) * 10_000;
            prop_assert!(got.abs_diff(exact) < rows.len() as u128 * 10_000);
            // The first may only gain by rounding, the others may only lose, and less than a unit.
            if i == 0 {
                prop_assert!(got >= exact.saturating_sub(9_999));
            } else {
                prop_assert!(got <= exact && exact - got < 10_000);
            }
        }
    }

    #[test]
    fn a_fixed_fee_is_taken_once_a_payment(
        each in 1_000u64..=1_000_000, payments in 1u64..=40, fixed in 0u64..=400, rows in shares(),
    ) {
        let fees = Fees { facilitator_fixed: fixed, ..no_fees() };
        let legs = split(each * payments, payments, &fees, &rows).unwrap();
        // 400 is below half of 1,000, so the cap does not bind.
        prop_assert_eq!(legs.facilitator, fixed * payments);
    }

    #[test]
    fn shares_past_the_caps_of_terms_still_conserve_and_never_panic(
        sum in edgy_u64(), payments in edgy_u64(), treasury_bps in 0u16..=10_000,
        facilitator_bps in any::<u16>(), facilitator_fixed in edgy_u64(), rows in shares(),
    ) {
        let fees = Fees { treasury_bps, facilitator_bps, facilitator_fixed };
        let legs = split(sum, payments, &fees, &rows).unwrap();
        prop_assert_eq!(total(&legs), u128::from(sum));
        prop_assert_eq!(u128::from(legs.treasury), u128::from(sum) * u128::from(treasury_bps) / 10_000);
        prop_assert!(legs.facilitator <= sum / 2);
    }

    #[test]
    fn recipients_that_do_not_add_up_are_refused(
        sum in edgy_u64(), payments in edgy_u64(), fees in capped_fees(), rows in vec(any::<u16>(), 0..=12),
    ) {
        let whole: u64 = rows.iter().map(|bps| u64::from(*bps)).sum();
        prop_assume!(whole != 10_000 || rows.is_empty() || rows.len() > 8);
        prop_assert_eq!(split(sum, payments, &fees, &rows), Err(SplitError::Recipients));
    }

    #[test]
    fn one_basis_point_too_much_or_too_little_is_refused(
        sum in edgy_u64(), rows in shares(), place in any::<prop::sample::Index>(), more in any::<bool>(),
    ) {
        let mut rows = rows;
        let bps = place.get_mut(&mut rows);
        *bps = if more { *bps + 1 } else { *bps - 1 };
        prop_assert_eq!(split(sum, 1, &no_fees(), &rows), Err(SplitError::Recipients));
    }

    #[test]
    fn a_treasury_over_the_whole_is_refused(
        sum in edgy_u64(), treasury_bps in 10_001u16..=u16::MAX, rows in shares(),
    ) {
        let fees = Fees { treasury_bps, ..no_fees() };
        prop_assert_eq!(split(sum, 1, &fees, &rows), Err(SplitError::Treasury));
    }
}

#[test]
fn every_small_sum_is_divided_as_the_reference_divides_it() {
    let rows: [&[u16]; 5] = [
        &[10_000],
        &[5_000, 5_000],
        &[3_333, 3_333, 3_334],
        &[1, 9_999],
        &[1_250; 8],
    ];
    for sum in 0..=2_000u64 {
        for (treasury_bps, facilitator_bps, fixed) in [
            (0, 0, 0),
            (1_000, 5_000, 0),
            (100, 250, 3),
            (1, 1, u64::MAX),
        ] {
            for rows in rows {
                let fees = Fees {
                    treasury_bps,
                    facilitator_bps,
                    facilitator_fixed: fixed,
                };
                let legs = split(sum, 3, &fees, rows).unwrap();
                let (treasury, facilitator, recipients) =
                    reference_split(sum, 3, treasury_bps, facilitator_bps, fixed, rows);
                assert_eq!(u128::from(legs.treasury), treasury);
                assert_eq!(u128::from(legs.facilitator), facilitator);
                for (i, leg) in recipients.iter().enumerate() {
                    assert_eq!(
                        u128::from(legs.recipients[i]),
                        *leg,
                        "sum {sum}, recipient {i}"
                    );
                }
            }
        }
    }
}

#[test]
fn every_basis_point_of_the_largest_sum_is_exact() {
    for bps in 0..=10_000u16 {
        let fees = Fees {
            treasury_bps: bps,
            ..no_fees()
        };
        let legs = split(u64::MAX, 1, &fees, &[10_000]).unwrap();
        let exact = u128::from(u64::MAX) * u128::from(bps) / 10_000;
        assert_eq!(u128::from(legs.treasury), exact);
        assert_eq!(legs.recipients[0], u64::MAX - legs.treasury);
    }
}

#[test]
fn a_sum_of_nothing_divides_into_nothing() {
    let fees = Fees {
        treasury_bps: 1_000,
        facilitator_bps: 5_000,
        facilitator_fixed: u64::MAX,
    };
    assert_eq!(
        split(0, u64::MAX, &fees, &[1_250; 8]).unwrap(),
        Shares::default()
    );
}

#[test]
fn a_single_unit_goes_to_the_first_recipient() {
    let fees = Fees {
        treasury_bps: 1_000,
        facilitator_bps: 5_000,
        facilitator_fixed: u64::MAX,
    };
    let legs = split(1, 1, &fees, &[1, 9_999]).unwrap();
    assert_eq!((legs.treasury, legs.facilitator), (0, 0));
    assert_eq!(legs.recipients, [1, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn the_remainder_goes_to_the_first_recipient() {
    let legs = split(15, 1, &no_fees(), &[1_250; 8]).unwrap();
    assert_eq!(legs.recipients, [8, 1, 1, 1, 1, 1, 1, 1]);
}

#[test]
fn a_fixed_fee_over_half_is_cut_to_half() {
    let fees = Fees {
        facilitator_fixed: u64::MAX,
        ..no_fees()
    };
    let legs = split(101, u64::MAX, &fees, &[10_000]).unwrap();
    assert_eq!((legs.facilitator, legs.recipients[0]), (50, 51));
}

#[test]
fn fixed_and_proportional_fees_add_up_before_the_cap() {
    let fees = Fees {
        treasury_bps: 100,
        facilitator_bps: 250,
        facilitator_fixed: 7,
    };
    // 1 % and 2.5 % of 10,000, and 7 for each of 3 payments; 9,629 in three, the rest to the first.
    let legs = split(10_000, 3, &fees, &[3_334, 3_333, 3_333]).unwrap();
    assert_eq!((legs.treasury, legs.facilitator), (100, 271));
    assert_eq!(legs.recipients[..3], [3_211, 3_209, 3_209]);
}

#[test]
fn no_recipient_and_nine_recipients_are_refused() {
    assert_eq!(split(1, 1, &no_fees(), &[]), Err(SplitError::Recipients));
    let nine = [
        1_112, 1_111, 1_111, 1_111, 1_111, 1_111, 1_111, 1_111, 1_111,
    ];
    assert_eq!(
        nine.iter().map(|bps| u32::from(*bps)).sum::<u32>(),
        10_000,
        "only the count may be wrong here"
    );
    assert_eq!(split(1, 1, &no_fees(), &nine), Err(SplitError::Recipients));
}

#[test]
fn the_treasury_may_be_the_whole_but_no_more() {
    let fees = |treasury_bps| Fees {
        treasury_bps,
        facilitator_bps: 5_000,
        facilitator_fixed: 1,
    };
    let legs = split(u64::MAX, 1, &fees(10_000), &[10_000]).unwrap();
    assert_eq!(
        (legs.treasury, legs.facilitator, legs.recipients[0]),
        (u64::MAX, 0, 0)
    );
    assert_eq!(
        split(u64::MAX, 1, &fees(10_001), &[10_000]),
        Err(SplitError::Treasury)
    );
}

#[test]
fn a_refusal_names_the_bound_that_was_passed() {
    let recipients = SplitError::Recipients.to_string();
    assert!(recipients.contains("1 to 8") && recipients.contains("10000 bps"));
    let treasury = SplitError::Treasury.to_string();
    assert!(treasury.contains("treasury") && treasury.contains("10000 bps"));
}
