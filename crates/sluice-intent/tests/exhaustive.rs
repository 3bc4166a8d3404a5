//! Window and split by enumeration: not what was drawn, but everything there is of it.
//!
//! 2²⁵⁶ windows and 2⁶⁴ sums cannot be enumerated, and a copy of the code at a smaller width would prove the copy.
//! So the code itself is run on parts of its input that are closed in themselves and small:
//!
//! - Nonces that are multiples of a stride `s` see a window of `⌈256/s⌉` places and a jump of at most `⌊128/s⌋`, and
//!   never leave it. Every state that any sequence of such nonces reaches is visited.
//! - The window is linear in its bits, so that one bit at each of its places stands for all 2²⁵⁶ of them.
//! - Shares that are multiples of 625 basis points are sixteenths. Every division into sixteenths is made.
//! - A part of a sum is linear in the sum's quotient by 10,000, so that every remainder stands for every sum.
//!
//! Where a step is arithmetic and not enumeration, it is written out at the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::HashSet;

use sluice_intent::split::{Fees, Shares, split};
use sluice_intent::window::{MAX_JUMP, WINDOW_BITS, Window};
use sluice_intent::{BPS, Skip};

// ---- The window -----------------------------------------------------------------------------------------------

/// A window and one nonce that is watched while others are taken: whether it was taken before is remembered here,
/// and nowhere else, so that the window cannot be asked about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Watched {
    top: u64,
    bits: [u64; 4],
    nonce: u64,
    taken: bool,
}

/// From here on a state is moved down. `take` knows tops and nonces only by their difference (and by which is
/// larger), so a state that lies wholly above nonce 0 gets the same answers wherever it lies.
const REBASE: u64 = 2 * WINDOW_BITS;

impl Watched {
    /// The same state with a top below [`REBASE`], which leaves room for a window and a nonce below it.
    fn rebased(self, stride: u64) -> Self {
        if self.top < REBASE {
            return self;
        }
        let down = (self.top - REBASE) / stride * stride + stride;
        // A watched nonce that has slid out stays out, as the top only rises: just below the window stands for
        // every nonce that is further down.
        let lowest = self.top - (WINDOW_BITS / stride + 1) * stride;
        Self {
            top: self.top - down,
            nonce: self.nonce.max(lowest) - down,
            ..self
        }
    }

    fn window(&self) -> Window {
        Window {
            top: self.top,
            bits: self.bits,
        }
    }
}

/// Visits every state that a fresh window reaches by nonces that are multiples of `stride`, whatever their order
/// and number, and gives how many there are.
fn visit_every_state(stride: u64) -> usize {
    // The watched nonce starts anywhere up to two jumps above where windows are rebased, so that it is also met by
    // a window that has nothing of the fresh one any more. What starts further up comes by there later: the top
    // rises by at most a jump at a time.
    let mut todo: Vec<Watched> = (0..=(REBASE + 2 * MAX_JUMP) / stride)
        .map(|n| Watched {
            top: 0,
            bits: [0; 4],
            nonce: n * stride,
            taken: false,
        })
        .collect();
    let mut multiples = Window::default();
    for place in (0..WINDOW_BITS).step_by(stride as usize) {
        let one = with_place(0, place);
        (0..4).for_each(|word| multiples.bits[word] |= one.bits[word]);
    }
    let mut seen: HashSet<Watched> = todo.iter().copied().collect();
    while let Some(state) = todo.pop() {
        let window = state.window();
        let lowest = state.top.saturating_sub(WINDOW_BITS + stride) / stride * stride;
        let highest = state.top + MAX_JUMP + stride;
        for nonce in (lowest..=highest).step_by(stride as usize) {
            let answer = window.take(nonce);
            if nonce == state.nonce && state.taken {
                // What was taken once is refused for ever.
                assert!(answer.is_err(), "nonce {nonce} is taken twice: {state:?}");
                continue;
            }
            let in_reach = nonce <= state.top + MAX_JUMP && nonce + WINDOW_BITS > state.top;
            if nonce == state.nonce {
                // And what was not is free as long as it is in reach: nobody can void it but by leaving it behind.
                assert_eq!(answer.is_ok(), in_reach, "nonce {nonce}: {state:?}");
            }
            let Ok(next) = answer else { continue };
            assert!(in_reach, "nonce {nonce}: {state:?}");
            // The places stay multiples of the stride: this is what closes the search.
            let strays = (0..4).any(|word| next.bits[word] & !multiples.bits[word] != 0);
            assert!(!strays, "nonce {nonce}: {state:?} becomes {next:?}");
            assert_eq!(next.top, state.top.max(nonce));
            let next = Watched {
                top: next.top,
                bits: next.bits,
                nonce: state.nonce,
                taken: state.taken || nonce == state.nonce,
            }
            .rebased(stride);
            if seen.insert(next) {
                todo.push(next);
            }
        }
    }
    seen.len()
}

#[test]
fn no_sequence_of_nonces_takes_one_of_them_twice() {
    // From 29 on there are at most 9 places; what is coarser than the largest jump can never move.
    for stride in 29..=MAX_JUMP {
        let places = WINDOW_BITS.div_ceil(stride);
        let states = visit_every_state(stride);
        // Each set of places with the top taken is a state, or the search would have ended early.
        assert!(states >= 1 << (places - 1), "stride {stride}: {states}");
    }
}

/// The place of each bit in a window, seen through nothing but the struct's documentation.
fn places(window: &Window) -> Vec<u64> {
    (0..WINDOW_BITS)
        .filter(|k| window.bits[(k / 64) as usize] >> (k % 64) & 1 == 1)
        .collect()
}

fn with_place(top: u64, place: u64) -> Window {
    let mut bits = [0u64; 4];
    bits[(place / 64) as usize] = 1 << (place % 64);
    Window { top, bits }
}

/// Moving up by `jump` moves the bit at each place up by `jump`, drops it beyond the last place, and sets place 0.
///
/// Why single bits suffice: the new words are made of the old ones by `<<`, `>>` and `|` with amounts that depend
/// on the jump alone, and `(a | b) << n = (a << n) | (b << n)`, likewise for `>>`. So for any window the result is
/// the union of the results for its bits, for each of the 2²⁵⁶ windows.
#[test]
fn moving_up_moves_every_bit_by_the_jump_and_drops_what_leaves() {
    for top in [0, 1_000, u64::MAX - MAX_JUMP] {
        for jump in 1..=MAX_JUMP {
            let none = Window { top, bits: [0; 4] }.take(top + jump).unwrap();
            assert_eq!((none.top, places(&none)), (top + jump, vec![0]));
            for place in 0..WINDOW_BITS {
                let moved = with_place(top, place).take(top + jump).unwrap();
                let expect = match place + jump {
                    to if to < WINDOW_BITS => with_place(top + jump, to),
                    _ => with_place(top + jump, 0),
                };
                let expect = Window {
                    bits: [
                        expect.bits[0] | 1,
                        expect.bits[1],
                        expect.bits[2],
                        expect.bits[3],
                    ],
                    ..expect
                };
                assert_eq!(moved, expect, "place {place}, jump {jump}");
            }
        }
    }
}

/// At and below the top, the answer hangs on the one bit of the nonce, and taking sets this bit and no other.
///
/// All other bits clear and all other bits set are the two extremes; as the bit is read and written by one mask in
/// one word (`&`, `|`), what holds at both holds between them.
#[test]
fn below_the_top_a_nonce_is_answered_by_its_own_bit_alone() {
    let top = u64::MAX - 7;
    for back in 0..WINDOW_BITS {
        let own = with_place(top, back);
        let others = Window {
            top,
            bits: own.bits.map(|word| !word),
        };
        let full = Window {
            top,
            bits: [u64::MAX; 4],
        };
        let nonce = top - back;
        assert_eq!(Window { top, bits: [0; 4] }.take(nonce), Ok(own));
        assert_eq!(others.take(nonce), Ok(full));
        assert_eq!(own.take(nonce), Err(Skip::NonceUsed));
        assert_eq!(full.take(nonce), Err(Skip::NonceUsed));
        assert!(own.is_used(nonce) && !others.is_used(nonce));
    }
}

/// Out of reach, the bits do not matter: neither an empty window nor a full one takes the nonce.
#[test]
fn out_of_reach_no_window_takes_a_nonce() {
    for bits in [[0; 4], [u64::MAX; 4]] {
        for top in [0, 255, 256, 1_000, u64::MAX - 129, u64::MAX] {
            let window = Window { top, bits };
            for nonce in (0..=top.saturating_sub(256)).take(600) {
                if top >= 256 {
                    assert_eq!(window.take(nonce), Err(Skip::NonceTooOld));
                    assert!(!window.is_used(nonce));
                }
            }
            for above in (MAX_JUMP + 1..=600).chain([u64::MAX / 2]) {
                if let Some(nonce) = top.checked_add(above) {
                    assert_eq!(window.take(nonce), Err(Skip::NonceTooFar));
                    assert!(!window.is_used(nonce));
                }
            }
        }
    }
}

// ---- The split ------------------------------------------------------------------------------------------------

const NO_FEES: Fees = Fees {
    treasury_bps: 0,
    facilitator_bps: 0,
    facilitator_fixed: 0,
};

/// `part(sum, bps)`, seen from outside: the treasury's leg where there are no other fees.
fn part(sum: u64, bps: u16) -> u64 {
    let fees = Fees {
        treasury_bps: bps,
        ..NO_FEES
    };
    let shares = split(sum, 1, &fees, &[10_000]).unwrap();
    assert_eq!(shares.recipients[0], sum - shares.treasury);
    shares.treasury
}

/// The parts of a sum are exact: `part(sum, b) = ⌊sum · b / 10⁴⌋` for every `u64` and every `b ≤ 10⁴`.
///
/// Let `sum = 10⁴ · q + r` with `r < 10⁴`. Then `sum · b / 10⁴ = q · b + r · b / 10⁴`, and `q · b` is whole, so
/// `⌊sum · b / 10⁴⌋ = q · b + ⌊r · b / 10⁴⌋`, which is what the code computes. Nothing overflows: `q · b ≤ q · 10⁴ ≤
/// sum`, `r · b < 10⁸`, and the result is at most `sum`.
///
/// So a part depends on `q` by a product and on `r` by a table of 10⁴ rows: every row is checked, for the shares and
/// the quotients at which a wrong constant, a rounding up or a lost term would show; then every share.
#[test]
fn every_remainder_and_every_share_gives_the_exact_part() {
    let max_q = u64::MAX / BPS;
    let check = |q: u64, r: u64, bps: u16| {
        if let Some(sum) = (q * BPS).checked_add(r) {
            let exact = u128::from(sum) * u128::from(bps) / 10_000;
            assert_eq!(u128::from(part(sum, bps)), exact, "{sum}, {bps} bps");
        }
    };
    for r in 0..BPS {
        for bps in [1, 2, 3, 7, 1_250, 3_333, 4_999, 5_000, 6_667, 9_999, 10_000] {
            for q in [0, 1, max_q - 1, max_q] {
                check(q, r, bps);
            }
        }
    }
    for bps in 0..=10_000 {
        for r in [0, 1, 2, 3, 4_999, 5_000, 5_001, 9_998, 9_999] {
            for q in [0, 1, 2, max_q / 2, max_q - 1, max_q] {
                check(q, r, bps);
            }
        }
    }
}

/// A sixteenth of a whole, in basis points: 16 is the largest power of two that divides 10,000.
const SIXTEENTH: u16 = 625;

/// Every way to write `whole` as a sum of 1 to 8 numbers above 0, in every order.
fn compositions(whole: u16) -> Vec<Vec<u16>> {
    fn extend(left: u16, head: &mut Vec<u16>, all: &mut Vec<Vec<u16>>) {
        if left == 0 {
            all.push(head.clone());
        } else if head.len() < 8 {
            for next in 1..=left {
                head.push(next);
                extend(left - next, head, all);
                head.pop();
            }
        }
    }
    let mut all = Vec::new();
    extend(whole, &mut Vec::new(), &mut all);
    all
}

fn total(shares: &Shares) -> u128 {
    let recipients: u128 = shares.recipients.iter().map(|leg| u128::from(*leg)).sum();
    recipients + u128::from(shares.treasury) + u128::from(shares.facilitator)
}

/// Sums at both ends, and at one place in the middle: as many in a row as make every remainder by 16.
fn sums(count: u64) -> impl Iterator<Item = u64> {
    (0..count)
        .chain((0..count).map(|n| u64::MAX - n))
        .chain((0..count).map(|n| (u64::MAX / BPS / 2) * BPS + n))
}

#[test]
fn every_division_into_sixteenths_gives_each_recipient_its_floor_and_the_first_the_rest() {
    let rows = compositions(16);
    assert_eq!(rows.len(), 1 << 14);
    for sixteenths in rows {
        let bps: Vec<u16> = sixteenths.iter().map(|n| n * SIXTEENTH).collect();
        for sum in sums(17) {
            let shares = split(sum, 1, &NO_FEES, &bps).unwrap();
            assert_eq!(total(&shares), u128::from(sum), "{sum} by {sixteenths:?}");
            for (leg, n) in shares.recipients.iter().zip(&sixteenths).skip(1) {
                assert_eq!(u128::from(*leg), u128::from(sum) * u128::from(*n) / 16);
            }
            assert!(
                shares.recipients[sixteenths.len()..]
                    .iter()
                    .all(|leg| *leg == 0)
            );
        }
    }
}

#[test]
fn every_pair_of_fees_in_sixteenths_leaves_nothing_and_takes_nothing_twice() {
    for treasury in 0..=16u16 {
        for facilitator in 0..=16u16 {
            for (payments, fixed) in [(1, 0), (1, 1), (3, 2), (5, 40), (u64::MAX, u64::MAX)] {
                let fees = Fees {
                    treasury_bps: treasury * SIXTEENTH,
                    facilitator_bps: facilitator * SIXTEENTH,
                    facilitator_fixed: fixed,
                };
                for sum in sums(256) {
                    let shares = split(sum, payments, &fees, &[5_000, 5_000]).unwrap();
                    let whole = u128::from(sum);
                    let to_treasury = whole * u128::from(treasury) / 16;
                    let asked = u128::from(payments) * u128::from(fixed)
                        + whole * u128::from(facilitator) / 16;
                    let to_facilitator = asked.min(whole / 2).min(whole - to_treasury);
                    let rest = whole - to_treasury - to_facilitator;
                    assert_eq!(
                        (u128::from(shares.treasury), u128::from(shares.facilitator)),
                        (to_treasury, to_facilitator),
                        "{sum}: {fees:?}, {payments} payments"
                    );
                    assert_eq!(u128::from(shares.recipients[1]), rest / 2);
                    assert_eq!(total(&shares), whole);
                }
            }
        }
    }
}
