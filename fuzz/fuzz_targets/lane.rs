//! A lane beside its description: keys and limits change, time passes, payments are offered, and both answer alike
//! and count alike. Then a lane of any bytes at all, which may refuse what it likes but not panic.
#![no_main]

use bytemuck::Zeroable;
use libfuzzer_sys::{
    arbitrary::{self, Arbitrary},
    fuzz_target,
};
use sluice_fuzz::{
    Edgy,
    reference::{AUTHORITY, FACILITATOR, LaneModel, SERVICE, open_terms, spend},
};
use sluice_intent::{Key, Lane, LaneTerms, Scope, Spend, UNLIMITED};

const START: i64 = 1_700_000_000;
const OTHER: Key = [0xee; 32];

#[derive(Arbitrary, Debug)]
struct Input {
    ops: Vec<Op>,
    bytes: [u8; size_of::<Lane>()],
    now: i64,
}

#[derive(Arbitrary, Debug)]
enum Op {
    Set(Terms),
    Wait(u16),
    Pay {
        amount: Amount,
        nonce: Nonce,
        elsewhere: bool,
    },
}

#[derive(Arbitrary, Debug)]
struct Terms {
    key: u8,
    ends_after: Option<u16>,
    max_per_payment: Limit,
    period_limit: Limit,
    period_secs: Secs,
    total_limit: Limit,
    scope: u8,
}

#[derive(Arbitrary, Debug)]
enum Limit {
    None,
    Small(u8),
    Edgy(Edgy),
}

#[derive(Arbitrary, Debug)]
enum Secs {
    Small(u8),
    Edgy(Edgy),
}

#[derive(Arbitrary, Debug)]
enum Amount {
    Small(u8),
    Headroom,
    OneMore,
    Edgy(Edgy),
}

#[derive(Arbitrary, Debug)]
enum Nonce {
    Next,
    Above(u8),
    Below(u8),
    Edgy(Edgy),
}

impl Limit {
    fn units(&self) -> u64 {
        match self {
            Self::None => UNLIMITED,
            Self::Small(units) => u64::from(*units),
            Self::Edgy(Edgy(units)) => *units,
        }
    }
}

impl Terms {
    fn terms(&self) -> LaneTerms {
        LaneTerms {
            // Three keys, so that a sequence comes back to a former one, and the zero key, which closes.
            key: [self.key % 4; 32],
            expires_at: self
                .ends_after
                .map_or(i64::MAX, |secs| START + i64::from(secs)),
            max_per_payment: self.max_per_payment.units(),
            period_limit: self.period_limit.units(),
            period_secs: match self.period_secs {
                Secs::Small(secs) => u64::from(secs),
                Secs::Edgy(Edgy(secs)) => secs,
            },
            total_limit: self.total_limit.units(),
            scope: match self.scope % 8 {
                0 => Scope::Service(SERVICE),
                1 => Scope::Authority(AUTHORITY),
                2 => Scope::Facilitator(FACILITATOR),
                3 => Scope::Service(OTHER),
                _ => Scope::Any,
            },
        }
    }
}

fuzz_target!(|input: Input| {
    let mut lane = Lane::zeroed();
    let mut model = LaneModel::default();
    let mut now = START;
    // Most sequences should be able to pay.
    lane.set(&open_terms(), now);
    model.set(&open_terms(), now);
    for op in &input.ops {
        let before = lane;
        match op {
            Op::Wait(secs) => now += i64::from(*secs),
            Op::Set(terms) => {
                lane.set(&terms.terms(), now);
                model.set(&terms.terms(), now);
                assert_eq!(lane.window(), before.window());
            }
            Op::Pay {
                amount,
                nonce,
                elsewhere,
            } => {
                let spend = offer(&lane, amount, nonce, *elsewhere, now);
                let expect = model.answer(&spend);
                let got = lane.check(&spend).map(|update| lane.apply(update));
                assert_eq!(got, expect, "{spend:?}");
                match expect {
                    Ok(()) => model.pay(&spend),
                    Err(_) => assert_eq!(lane, before, "a refused payment changes nothing"),
                }
            }
        }
        assert_same(&lane, &model);
        assert_headroom_is_exact(&lane, &model, now);
    }
    no_bytes_make_a_lane_panic(&input);
});

fn offer(lane: &Lane, amount: &Amount, nonce: &Nonce, elsewhere: bool, now: i64) -> Spend<'static> {
    let amount = match amount {
        Amount::Small(units) => u64::from(*units),
        Amount::Headroom => lane.headroom(now),
        Amount::OneMore => lane.headroom(now).saturating_add(1),
        Amount::Edgy(Edgy(units)) => *units,
    };
    let nonce = match nonce {
        Nonce::Next => lane.window().next().unwrap_or(0),
        Nonce::Above(by) => lane.top.saturating_add(u64::from(*by)),
        Nonce::Below(by) => lane.top.saturating_sub(2 * u64::from(*by)),
        Nonce::Edgy(Edgy(nonce)) => *nonce,
    };
    let here = spend(now, nonce, amount);
    if !elsewhere {
        return here;
    }
    Spend {
        service: &OTHER,
        authority: &OTHER,
        facilitator: &OTHER,
        ..here
    }
}

/// What is stored is what the model remembers, counted as far as a u64 can.
fn assert_same(lane: &Lane, model: &LaneModel) {
    let stored = |amounts: &[u64]| amounts.iter().fold(0u64, |sum, a| sum.saturating_add(*a));
    assert_eq!(lane.is_open(), model.terms.key != [0; 32]);
    assert_eq!(i128::from(lane.period_start), model.start);
    assert_eq!(lane.period_spent, stored(&model.in_period));
    assert_eq!(lane.total_spent, stored(&model.in_all));
    assert_eq!(lane.top, model.window.top);
}

/// The headroom passes, by the description, and one unit more does not. Scope and window are not its affair, so
/// the payment stays within both.
fn assert_headroom_is_exact(lane: &Lane, model: &LaneModel, now: i64) {
    let headroom = lane.headroom(now);
    let Some(nonce) = lane.window().next() else {
        return;
    };
    let covered = |amount| Spend {
        service: &lane.scope_key,
        authority: &lane.scope_key,
        facilitator: &lane.scope_key,
        ..spend(now, nonce, amount)
    };
    if headroom > 0 {
        let answer = model.answer(&covered(headroom));
        assert_eq!(answer, Ok(()), "headroom {headroom}");
    }
    if let Some(more) = headroom.checked_add(1) {
        let answer = model.answer(&covered(more));
        assert!(answer.is_err(), "one more than headroom {headroom} passes");
    }
}

fn no_bytes_make_a_lane_panic(input: &Input) {
    let mut lane: Lane = bytemuck::pod_read_unaligned(&input.bytes);
    for op in &input.ops {
        match op {
            Op::Wait(_) => {
                let (start, _) = lane.period_at(input.now);
                assert!(start <= input.now.max(lane.period_start));
            }
            Op::Set(terms) => lane.set(&terms.terms(), input.now),
            Op::Pay {
                amount,
                nonce,
                elsewhere,
            } => {
                let spend = offer(&lane, amount, nonce, *elsewhere, input.now);
                if let Ok(update) = lane.check(&spend) {
                    lane.apply(update);
                    assert!(lane.window().is_used(spend.nonce));
                }
            }
        }
    }
}
