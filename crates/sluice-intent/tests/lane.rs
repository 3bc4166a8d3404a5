//! A lane's limits (I4): they hold over any interleaving of payments, changes of key and passing time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::mem::offset_of;

use bytemuck::Zeroable;
use proptest::collection::vec;
use proptest::prelude::*;
use sluice_intent::{Lane, LaneTerms, Scope, Skip, Spend, UNLIMITED, Window, lane};
use support::{
    config, edgy_u64,
    reference::{AUTHORITY, FACILITATOR, LaneModel, SERVICE, open_terms, spend, sum},
};

const START: i64 = 1_700_000_000;

fn open_lane(terms: &LaneTerms, now: i64) -> Lane {
    let mut lane = Lane::zeroed();
    lane.set(terms, now);
    lane
}

/// Checks and, where that is allowed, applies.
fn pay(lane: &mut Lane, spend: &Spend<'_>) -> Result<(), Skip> {
    let update = lane.check(spend)?;
    lane.apply(update);
    Ok(())
}

#[derive(Clone, Debug)]
enum Op {
    Set(LaneTerms),
    Wait(u32),
    Pay {
        amount: Amount,
        nonce: Nonce,
        elsewhere: bool,
    },
}

#[derive(Clone, Debug)]
enum Amount {
    Exactly(u64),
    Headroom,
    OneMore,
}

#[derive(Clone, Debug)]
enum Nonce {
    Next,
    Above(u64),
    Below(u64),
}

fn limit() -> impl Strategy<Value = u64> {
    prop_oneof![
        1 => Just(0),
        6 => 1u64..=200,
        1 => Just(u64::MAX - 1),
        2 => Just(UNLIMITED),
    ]
}

fn lane_terms() -> impl Strategy<Value = LaneTerms> {
    let scope = prop_oneof![
        6 => Just(Scope::Any),
        1 => Just(Scope::Service(SERVICE)),
        1 => Just(Scope::Authority(AUTHORITY)),
        1 => Just(Scope::Facilitator(FACILITATOR)),
    ];
    let expiry = prop_oneof![
        3 => Just(i64::MAX),
        1 => (0i64..2_000).prop_map(|ahead| START + ahead),
    ];
    let secs = prop_oneof![
        1 => Just(0),
        6 => prop_oneof![Just(1u64), Just(7), Just(60)],
        1 => Just(u64::MAX),
    ];
    // Three keys, so that a sequence returns to a former one (A, B, A), and the zero key, which closes.
    let key = prop_oneof![1 => Just(0u8), 9 => 1u8..=3];
    (key, expiry, limit(), limit(), secs, limit(), scope).prop_map(
        |(key, expires_at, max_per_payment, period_limit, period_secs, total_limit, scope)| {
            LaneTerms {
                key: [key; 32],
                expires_at,
                max_per_payment,
                period_limit,
                period_secs,
                total_limit,
                scope,
            }
        },
    )
}

fn op() -> impl Strategy<Value = Op> {
    let amount = prop_oneof![
        6 => (0u64..=60).prop_map(Amount::Exactly),
        1 => edgy_u64().prop_map(Amount::Exactly),
        1 => Just(Amount::Headroom),
        1 => Just(Amount::OneMore),
    ];
    let nonce = prop_oneof![
        8 => Just(Nonce::Next),
        1 => (1u64..=130).prop_map(Nonce::Above),
        2 => (0u64..=260).prop_map(Nonce::Below),
    ];
    let payment =
        (amount, nonce, prop::bool::weighted(0.1)).prop_map(|(amount, nonce, elsewhere)| Op::Pay {
            amount,
            nonce,
            elsewhere,
        });
    prop_oneof![
        1 => lane_terms().prop_map(Op::Set),
        3 => prop_oneof![0u32..=8, 0u32..=120].prop_map(Op::Wait),
        12 => payment,
    ]
}

/// A payment that went through, with what was in force.
#[derive(Clone, Copy, Debug)]
struct Paid {
    at: i64,
    amount: u64,
    limit: u64,
    secs: u64,
    /// Counts the changes of key and of the length of a period.
    regime: u32,
}

/// No stretch as long as a period may see more than twice the highest limit that was in force.
fn assert_no_stretch_over_twice_the_limit(paid: &[Paid]) {
    for (i, first) in paid.iter().enumerate() {
        if first.secs == 0 {
            continue;
        }
        let stretch = paid[i..].iter().take_while(|p| {
            p.regime == first.regime
                && i128::from(p.at) - i128::from(first.at) < i128::from(first.secs)
        });
        let (mut sum, mut limit) = (0u128, 0u64);
        for payment in stretch {
            sum += u128::from(payment.amount);
            limit = limit.max(payment.limit);
        }
        assert!(
            limit == UNLIMITED || sum <= 2 * u128::from(limit),
            "{sum} paid from {} within {} s, limit {limit}",
            first.at,
            first.secs
        );
    }
}

/// The headroom is what one more payment may take: all of it passes, one more unit does not.
fn assert_headroom_is_exact(lane: &Lane, now: i64) {
    let headroom = lane.headroom(now);
    let Some(nonce) = lane.window().next() else {
        return;
    };
    // The scope is not the headroom's affair, so ask without one.
    let mut lane = *lane;
    lane.scope_kind = 0;
    if !lane.is_open() || now > lane.expires_at {
        assert_eq!(headroom, 0);
        return;
    }
    for amount in [1, headroom / 2, headroom] {
        if (1..=headroom).contains(&amount) {
            let answer = lane.check(&spend(now, nonce, amount));
            assert!(answer.is_ok(), "{answer:?} for {amount} of {headroom}");
        }
    }
    if let Some(more) = headroom.checked_add(1) {
        let answer = lane.check(&spend(now, nonce, more)).unwrap_err();
        let limits = [Skip::OverMax, Skip::OverPeriod, Skip::OverTotal];
        assert!(limits.contains(&answer), "{answer:?} over {headroom}");
    }
}

/// Runs a sequence beside the model and gives how many payments went through.
fn run(ops: &[Op]) -> usize {
    let mut lane = Lane::zeroed();
    let mut model = LaneModel::default();
    let mut now = START;
    let mut regime = 0;
    let mut paid: Vec<Paid> = Vec::new();
    for op in ops {
        let before = lane;
        match op {
            Op::Wait(secs) => now += i64::from(*secs),
            Op::Set(terms) => {
                if terms.key != model.terms.key || terms.period_secs != model.terms.period_secs {
                    regime += 1;
                }
                lane.set(terms, now);
                model.set(terms, now);
                assert_eq!(
                    lane.window(),
                    before.window(),
                    "no change of terms touches the window"
                );
                assert_eq!(lane.is_open(), terms.key != [0; 32]);
            }
            Op::Pay {
                amount,
                nonce,
                elsewhere,
            } => {
                let amount = match amount {
                    Amount::Exactly(amount) => *amount,
                    Amount::Headroom => lane.headroom(now),
                    Amount::OneMore => lane.headroom(now).saturating_add(1),
                };
                let nonce = match nonce {
                    Nonce::Next => lane.window().next().unwrap(),
                    Nonce::Above(by) => lane.top + by,
                    Nonce::Below(by) => lane.top.saturating_sub(*by),
                };
                let elsewhere_keys = [[0xee; 32], [0xed; 32], [0xec; 32]];
                let mut spend = spend(now, nonce, amount);
                if *elsewhere {
                    [spend.service, spend.authority, spend.facilitator] = elsewhere_keys.each_ref();
                }
                let expect = model.answer(&spend);
                assert_eq!(pay(&mut lane, &spend), expect, "{spend:?}");
                if expect.is_ok() {
                    model.pay(&spend);
                    // What the lane allowed, by its terms and the clock alone.
                    let terms = model.terms;
                    assert!(amount <= terms.max_per_payment && now <= terms.expires_at);
                    let spent = sum(&model.in_all);
                    assert!(
                        terms.total_limit == UNLIMITED || spent <= u128::from(terms.total_limit)
                    );
                    paid.push(Paid {
                        at: now,
                        amount,
                        limit: terms.period_limit,
                        secs: terms.period_secs,
                        regime,
                    });
                } else {
                    assert_eq!(lane, before, "a refused payment changes nothing");
                }
            }
        }
        // What is stored is what the model remembers, counted as far as a u64 can.
        let stored = |amounts: &[u64]| amounts.iter().fold(0u64, |sum, a| sum.saturating_add(*a));
        assert_eq!(i128::from(lane.period_start), model.start);
        assert_eq!(lane.period_spent, stored(&model.in_period));
        assert_eq!(lane.total_spent, stored(&model.in_all));
        assert_eq!(lane.top, model.window.top);
        assert_headroom_is_exact(&lane, now);
    }
    assert_no_stretch_over_twice_the_limit(&paid);
    paid.len()
}

/// Lanes as no program would write them, too: any bytes of the right length.
fn any_lane() -> impl Strategy<Value = Lane> {
    vec(any::<u8>(), size_of::<Lane>()).prop_map(|bytes| bytemuck::pod_read_unaligned(&bytes))
}

proptest! {
    #![proptest_config(config(256))]

    #[test]
    fn a_lane_answers_as_the_model_over_any_interleaving(
        terms in lane_terms(), ops in vec(op(), 150..300),
    ) {
        let ops: Vec<Op> = [Op::Set(terms)].into_iter().chain(ops).collect();
        run(&ops);
    }

    #[test]
    fn limits_hold_over_a_long_run_of_small_payments(
        limit in 1u64..=100, secs in 1u64..=30, total in 500u64..=3_000,
        payments in vec((0u32..=6, 0u64..=40), 400),
    ) {
        let terms = LaneTerms {
            period_limit: limit,
            period_secs: secs,
            total_limit: total,
            ..open_terms()
        };
        let mut ops = vec![Op::Set(terms)];
        for (wait, amount) in payments {
            ops.push(Op::Wait(wait));
            ops.push(Op::Pay {
                amount: Amount::Exactly(amount),
                nonce: Nonce::Next,
                elsewhere: false,
            });
        }
        // Were nothing ever paid, every limit would hold.
        prop_assert!(run(&ops) > 10);
    }
}

proptest! {
    #![proptest_config(config(4_000))]

    #[test]
    fn no_bytes_of_a_lane_and_no_payment_make_it_panic(
        lane in any_lane(), kind in 0u8..=5, now in any::<i64>(), amount in edgy_u64(), back in -300i64..=300,
    ) {
        let mut lane = Lane { scope_kind: kind, ..lane };
        let nonce = lane.top.wrapping_add_signed(back);
        let _ = lane.headroom(now);
        let (start, _) = lane.period_at(now);
        prop_assert!(start <= now.max(lane.period_start));
        let _ = pay(&mut lane, &spend(now, nonce, amount));
        lane.set(&open_terms(), now);
    }

    #[test]
    fn the_headroom_of_any_lane_is_exact(
        lane in any_lane(), now in any::<i64>(), limits in (limit(), limit(), limit()),
        spent in (edgy_u64(), edgy_u64()), secs in prop_oneof![Just(0u64), 1u64..=100, any::<u64>()],
        since in -200i64..=200,
    ) {
        let lane = Lane {
            // An odd lowest word: a window that took anything has its top bit set.
            window: [lane.window[0] | 1, lane.window[1], lane.window[2], lane.window[3]],
            expires_at: i64::MAX,
            max_per_payment: limits.0,
            period_limit: limits.1,
            total_limit: limits.2,
            period_spent: spent.0,
            total_spent: spent.1,
            period_secs: secs,
            period_start: now.saturating_sub(since),
            ..lane
        };
        assert_headroom_is_exact(&lane, now);
    }

    #[test]
    fn a_period_starts_a_whole_number_of_lengths_later(
        start in START..START + 1_000, secs in 1u64..=100_000, after in 0i64..=10_000_000, spent in any::<u64>(),
    ) {
        let mut lane = open_lane(&LaneTerms { period_secs: secs, ..open_terms() }, start);
        lane.period_spent = spent;
        let (begin, left) = lane.period_at(start + after);
        let secs = secs as i64;
        prop_assert_eq!((begin - start) % secs, 0);
        prop_assert!(begin <= start + after && start + after < begin + secs);
        prop_assert_eq!(left, if after < secs { spent } else { 0 });
    }

    #[test]
    fn a_clock_that_steps_back_frees_nothing(back in 0i64..=1_000_000, amount in 1u64..=100) {
        let terms = LaneTerms { period_secs: 60, period_limit: 100, ..open_terms() };
        let mut lane = open_lane(&terms, START);
        pay(&mut lane, &spend(START + 90, 1, 100)).unwrap();
        prop_assert_eq!(lane.check(&spend(START + 90 - back, 2, amount)), Err(Skip::OverPeriod));
        prop_assert_eq!(lane.headroom(START + 90 - back), 0);
    }
}

#[test]
fn a_lane_without_a_key_is_closed_whatever_its_limits() {
    let lane = open_lane(
        &LaneTerms {
            key: [0; 32],
            ..open_terms()
        },
        START,
    );
    assert!(!lane.is_open());
    assert_eq!(lane.check(&spend(START, 0, 1)), Err(Skip::LaneClosed));
    assert_eq!(lane.headroom(START), 0);
    assert_eq!(Lane::zeroed().check(&spend(0, 0, 0)), Err(Skip::LaneClosed));
}

#[test]
fn a_key_may_spend_in_its_last_second_and_not_after() {
    let terms = LaneTerms {
        expires_at: START + 10,
        ..open_terms()
    };
    let lane = open_lane(&terms, START);
    assert!(lane.check(&spend(START + 10, 0, 1)).is_ok());
    assert_eq!(lane.headroom(START + 10), UNLIMITED);
    assert_eq!(lane.check(&spend(START + 11, 0, 1)), Err(Skip::LaneExpired));
    assert_eq!(lane.headroom(START + 11), 0);
}

#[test]
fn a_key_without_an_end_spends_in_the_last_second_of_time() {
    let lane = open_lane(&open_terms(), START);
    assert!(lane.check(&spend(i64::MAX, 0, 1)).is_ok());
}

#[test]
fn each_scope_covers_its_own_field_and_no_other() {
    let scopes = [
        (Scope::Any, [true, true, true]),
        (Scope::Service(SERVICE), [true, false, false]),
        (Scope::Authority(AUTHORITY), [false, true, false]),
        (Scope::Facilitator(FACILITATOR), [false, false, true]),
        // The right key in the wrong place covers nothing.
        (Scope::Service(AUTHORITY), [false; 3]),
        (Scope::Authority(FACILITATOR), [false; 3]),
        (Scope::Facilitator(SERVICE), [false; 3]),
    ];
    let other = [0xee; 32];
    for (scope, covered) in scopes {
        let lane = open_lane(
            &LaneTerms {
                scope,
                ..open_terms()
            },
            START,
        );
        // Only one of the three is the one that the scope may name.
        let only = [
            (&SERVICE, &other, &other),
            (&other, &AUTHORITY, &other),
            (&other, &other, &FACILITATOR),
        ];
        for ((service, authority, facilitator), covered) in only.into_iter().zip(covered) {
            let spend = Spend {
                service,
                authority,
                facilitator,
                ..spend(START, 0, 1)
            };
            let expect = if covered { Ok(()) } else { Err(Skip::Scope) };
            assert_eq!(lane.check(&spend).map(|_| ()), expect, "{scope:?}");
        }
    }
}

#[test]
fn a_scope_of_an_unknown_kind_covers_nothing() {
    for kind in 0..=u8::MAX {
        let key = [9; 32];
        let known = Scope::from_parts(kind, key);
        assert_eq!(known.is_some(), kind <= 3, "kind {kind}");
        if let Some(scope) = known {
            let stored = if kind == 0 { [0; 32] } else { key };
            assert_eq!(scope.to_parts(), (kind, stored));
        }
        let mut lane = open_lane(&open_terms(), START);
        lane.scope_kind = kind;
        // Even where the key would fit all three fields.
        lane.scope_key = key;
        let spend = Spend {
            service: &key,
            authority: &key,
            facilitator: &key,
            ..spend(START, 0, 1)
        };
        assert_eq!(lane.check(&spend).is_ok(), kind <= 3, "kind {kind}");
    }
}

#[test]
fn a_limit_of_nothing_allows_nothing_and_the_largest_limits_nothing() {
    let limits: [fn(u64) -> LaneTerms; 3] = [
        |max_per_payment| LaneTerms {
            max_per_payment,
            ..open_terms()
        },
        |period_limit| LaneTerms {
            period_limit,
            period_secs: 60,
            ..open_terms()
        },
        |total_limit| LaneTerms {
            total_limit,
            ..open_terms()
        },
    ];
    let answers = [Skip::OverMax, Skip::OverPeriod, Skip::OverTotal];
    for (terms, skip) in limits.into_iter().zip(answers) {
        let none = open_lane(&terms(0), START);
        assert_eq!(none.check(&spend(START, 0, 1)), Err(skip));
        let mut unlimited = open_lane(&terms(UNLIMITED), START);
        for nonce in 0..3 {
            pay(&mut unlimited, &spend(START, nonce, u64::MAX)).unwrap();
        }
        // What is counted stops at the top, it does not start again from 0.
        assert_eq!(unlimited.total_spent, u64::MAX);
    }
}

#[test]
fn a_period_of_no_length_limits_nothing() {
    let terms = LaneTerms {
        period_limit: 0,
        period_secs: 0,
        ..open_terms()
    };
    let lane = open_lane(&terms, START);
    assert!(lane.check(&spend(START, 0, 5)).is_ok());
    assert_eq!(lane.headroom(START), UNLIMITED);
}

#[test]
fn twice_the_limit_is_reached_around_a_boundary_and_never_passed() {
    let terms = LaneTerms {
        period_limit: 100,
        period_secs: 60,
        ..open_terms()
    };
    let mut lane = open_lane(&terms, START);
    pay(&mut lane, &spend(START + 59, 0, 100)).unwrap();
    assert_eq!(lane.check(&spend(START + 59, 1, 1)), Err(Skip::OverPeriod));
    pay(&mut lane, &spend(START + 60, 1, 100)).unwrap();
    assert_eq!(lane.check(&spend(START + 119, 2, 1)), Err(Skip::OverPeriod));
    assert!(lane.check(&spend(START + 120, 2, 1)).is_ok());
}

/// Where the bound ends: it is of one length of period. The payer who signs another length also gives up what the
/// old periods had counted, where they end before the new one begins.
#[test]
fn another_length_of_period_counts_from_the_same_start_and_may_forget() {
    let terms = |period_secs| LaneTerms {
        period_limit: 100,
        period_secs,
        ..open_terms()
    };
    let mut lane = open_lane(&terms(100), START);
    pay(&mut lane, &spend(START + 55, 0, 100)).unwrap();
    lane.set(&terms(50), START + 58);
    // The second period of 50 began at 50, and what was spent at 55 was counted to the one of 100 from 0.
    pay(&mut lane, &spend(START + 60, 1, 100)).unwrap();
    pay(&mut lane, &spend(START + 100, 2, 100)).unwrap();
    // Since the change it is twice the limit in any 50 seconds, as everywhere.
    assert_eq!(lane.check(&spend(START + 109, 3, 1)), Err(Skip::OverPeriod));
    // A longer length forgets nothing of the period that runs.
    let mut lane = open_lane(&terms(50), START);
    pay(&mut lane, &spend(START + 10, 0, 100)).unwrap();
    lane.set(&terms(100), START + 58);
    assert_eq!(lane.check(&spend(START + 60, 1, 1)), Err(Skip::OverPeriod));
}

#[test]
fn only_a_payment_that_goes_through_rolls_the_period_over() {
    let terms = LaneTerms {
        period_limit: 100,
        period_secs: 60,
        total_limit: 150,
        ..open_terms()
    };
    let mut lane = open_lane(&terms, START);
    pay(&mut lane, &spend(START + 5, 0, 80)).unwrap();
    let before = lane;
    // Two periods later: each refusal, and an update that nobody applies.
    let later = START + 130;
    assert_eq!(pay(&mut lane, &spend(later, 1, 90)), Err(Skip::OverTotal));
    assert_eq!(pay(&mut lane, &spend(later, 1, 101)), Err(Skip::OverPeriod));
    assert_eq!(pay(&mut lane, &spend(later, 0, 1)), Err(Skip::NonceUsed));
    let _ = lane.check(&spend(later, 1, 1)).unwrap();
    assert_eq!(lane, before);
    pay(&mut lane, &spend(later, 1, 70)).unwrap();
    assert_eq!(
        (lane.period_start, lane.period_spent, lane.total_spent),
        (START + 120, 70, 150)
    );
}

#[test]
fn a_change_of_keys_and_back_revives_no_nonce() {
    let (a, b) = (
        open_terms(),
        LaneTerms {
            key: [2; 32],
            ..open_terms()
        },
    );
    let mut lane = open_lane(&a, START);
    pay(&mut lane, &spend(START, 7, 1)).unwrap();
    lane.set(&b, START);
    assert_eq!(lane.check(&spend(START, 7, 1)), Err(Skip::NonceUsed));
    pay(&mut lane, &spend(START, 8, 1)).unwrap();
    lane.set(&a, START);
    for nonce in [7, 8] {
        assert_eq!(lane.check(&spend(START, nonce, 1)), Err(Skip::NonceUsed));
    }
    // Nor does closing the lane in between.
    lane.set(&LaneTerms { key: [0; 32], ..a }, START);
    lane.set(&a, START);
    assert_eq!(lane.check(&spend(START, 8, 1)), Err(Skip::NonceUsed));
}

#[test]
fn the_same_key_keeps_what_it_spent_and_another_starts_anew() {
    let terms = LaneTerms {
        period_limit: 100,
        period_secs: 60,
        total_limit: 150,
        ..open_terms()
    };
    let mut lane = open_lane(&terms, START);
    pay(&mut lane, &spend(START, 0, 90)).unwrap();
    // A higher limit is no new start, and a lower one is passed already.
    lane.set(
        &LaneTerms {
            period_limit: 120,
            ..terms
        },
        START + 10,
    );
    assert_eq!(lane.headroom(START + 10), 30);
    lane.set(
        &LaneTerms {
            total_limit: 80,
            ..terms
        },
        START + 10,
    );
    assert_eq!(lane.headroom(START + 10), 0);
    assert_eq!(lane.check(&spend(START + 10, 1, 0)), Err(Skip::OverTotal));
    lane.set(
        &LaneTerms {
            key: [2; 32],
            ..terms
        },
        START + 10,
    );
    assert_eq!(
        (lane.period_start, lane.period_spent, lane.total_spent),
        (START + 10, 0, 0)
    );
}

#[test]
fn the_first_reason_in_the_documented_order_is_the_answer() {
    // Everything is wrong at first; each step removes the reason that was named.
    let terms = LaneTerms {
        key: [0; 32],
        expires_at: START - 1,
        max_per_payment: 10,
        period_limit: 10,
        period_secs: 60,
        total_limit: 10,
        scope: Scope::Service([0xee; 32]),
    };
    let mut lane = open_lane(&terms, START);
    lane.window = [1, 0, 0, 0];
    lane.top = 5;
    let mut spend = spend(START, 5, 11);
    let mut named = Vec::new();
    let fixes: [fn(&mut Lane, &mut Spend<'_>); 7] = [
        |lane, _| lane.key = [1; 32],
        |lane, _| lane.expires_at = START,
        |lane, _| lane.scope_key = SERVICE,
        |_, spend| spend.nonce = 6,
        |lane, _| lane.max_per_payment = 11,
        |lane, _| lane.period_limit = 11,
        |lane, _| lane.total_limit = 11,
    ];
    for fix in fixes {
        named.push(lane.check(&spend).unwrap_err());
        fix(&mut lane, &mut spend);
    }
    assert_eq!(
        named,
        [
            Skip::LaneClosed,
            Skip::LaneExpired,
            Skip::Scope,
            Skip::NonceUsed,
            Skip::OverMax,
            Skip::OverPeriod,
            Skip::OverTotal,
        ]
    );
    assert!(lane.check(&spend).is_ok());
}

#[test]
fn the_layout_is_that_of_the_account() {
    assert_eq!(size_of::<Lane>(), 192);
    assert_eq!(lane::LANES, 2);
    let offsets = [
        offset_of!(Lane, top),
        offset_of!(Lane, window),
        offset_of!(Lane, expires_at),
        offset_of!(Lane, max_per_payment),
        offset_of!(Lane, period_limit),
        offset_of!(Lane, period_secs),
        offset_of!(Lane, period_start),
        offset_of!(Lane, period_spent),
        offset_of!(Lane, total_limit),
        offset_of!(Lane, total_spent),
        offset_of!(Lane, key),
        offset_of!(Lane, scope_key),
        offset_of!(Lane, scope_kind),
        offset_of!(Lane, reserved),
    ];
    assert_eq!(
        offsets,
        [0, 8, 40, 48, 56, 64, 72, 80, 88, 96, 104, 136, 168, 169]
    );
}

#[test]
fn a_new_lane_has_a_fresh_window_and_nothing_reserved_is_set() {
    let lane = open_lane(&open_terms(), START);
    assert_eq!(lane.window(), Window::default());
    assert_eq!(lane.reserved, [0; 23]);
    assert_eq!(lane.period_start, START);
}
