//! The window of nonces (I2): a nonce is taken at most once, whatever the order, and a refusal changes nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use sluice_intent::window::{MAX_JUMP, WINDOW_BITS, Window};
use sluice_intent::{Skip, window};
use support::{config, reference::WindowModel};

/// Asserts that window and model answer alike, and moves both.
fn step(window: &mut Window, model: &mut WindowModel, nonce: u64) -> Result<(), Skip> {
    let before = *window;
    let got = window.take(nonce);
    assert_eq!(*window, before, "take changes nothing by itself");
    let got = match got {
        Ok(next) => {
            *window = next;
            Ok(())
        }
        Err(skip) => Err(skip),
    };
    assert_eq!(
        got,
        model.answer(nonce),
        "nonce {nonce} at top {}",
        before.top
    );
    if got.is_ok() {
        model.take(nonce);
        assert_eq!(window.top, model.top);
    }
    got
}

/// How the next nonce lies to the top.
#[derive(Clone, Debug)]
enum Aim {
    Next,
    Above(u64),
    Below(u64),
    Again(prop::sample::Index),
    Anywhere(u64),
}

fn aim() -> impl Strategy<Value = Aim> {
    prop_oneof![
        4 => Just(Aim::Next),
        3 => (1u64..=140).prop_map(Aim::Above),
        6 => (0u64..=300).prop_map(Aim::Below),
        3 => any::<prop::sample::Index>().prop_map(Aim::Again),
        1 => support::edgy_u64().prop_map(Aim::Anywhere),
    ]
}

/// Runs a sequence and gives how many nonces were taken.
fn run(mut window: Window, mut model: WindowModel, aims: &[Aim]) -> usize {
    let mut asked: Vec<u64> = Vec::new();
    let mut taken = 0;
    for aim in aims {
        let nonce = match aim {
            Aim::Next => window.top.saturating_add(1),
            Aim::Above(by) => window.top.saturating_add(*by),
            Aim::Below(by) => window.top.saturating_sub(*by),
            Aim::Again(index) if asked.is_empty() => index.index(128) as u64,
            Aim::Again(index) => *index.get(&asked),
            Aim::Anywhere(nonce) => *nonce,
        };
        asked.push(nonce);
        taken += usize::from(step(&mut window, &mut model, nonce).is_ok());
    }
    taken
}

/// A window whose top was taken and nothing else.
fn at(top: u64) -> (Window, WindowModel) {
    let window = Window {
        top,
        bits: [1, 0, 0, 0],
    };
    let model = WindowModel {
        top,
        taken: BTreeSet::from([top]),
    };
    (window, model)
}

proptest! {
    #![proptest_config(config(64))]

    #[test]
    fn a_fresh_window_answers_as_the_model_over_thousands_of_takes(aims in vec(aim(), 2_000..3_000)) {
        let taken = run(Window::default(), WindowModel::default(), &aims);
        // Or the property would hold of a window that refuses everything.
        prop_assert!(taken > aims.len() / 5, "only {taken} of {} were taken", aims.len());
    }

    #[test]
    fn a_window_near_the_largest_nonce_answers_as_the_model(
        below in 0u64..=600, aims in vec(aim(), 500..800),
    ) {
        let (window, model) = at(u64::MAX - below);
        run(window, model, &aims);
    }

    #[test]
    fn a_window_anywhere_answers_as_the_model(top in any::<u64>(), aims in vec(aim(), 300..500)) {
        let (window, model) = at(top);
        run(window, model, &aims);
    }
}

proptest! {
    #![proptest_config(config(4_000))]

    #[test]
    fn moving_up_keeps_every_bit_at_its_nonce(
        top in prop_oneof![Just(u64::MAX - 128), 255u64..=1_000, 255u64..=u64::MAX - 128],
        bits in any::<[u64; 4]>(), jump in 1u64..=128,
    ) {
        let old = Window { top, bits };
        let new = old.take(top + jump).unwrap();
        prop_assert_eq!(new.top, top + jump);
        for back in 0..WINDOW_BITS {
            let nonce = new.top - back;
            let was = nonce <= top && old.is_used(nonce);
            prop_assert_eq!(new.is_used(nonce), was || back == 0, "nonce {}", nonce);
        }
    }

    #[test]
    fn filling_a_gap_sets_one_bit_and_no_other(
        top in 255u64..=u64::MAX, bits in any::<[u64; 4]>(), back in 0u64..256,
    ) {
        let old = Window { top, bits };
        match old.take(top - back) {
            Err(skip) => prop_assert_eq!(skip, Skip::NonceUsed),
            Ok(new) => {
                prop_assert_eq!(new.top, top);
                for other in 0..WINDOW_BITS {
                    let was = old.is_used(top - other);
                    prop_assert_eq!(new.is_used(top - other), was || other == back);
                    prop_assert!(other != back || !was);
                }
            }
        }
    }

    #[test]
    fn next_is_free_and_above_everything_taken(top in any::<u64>(), bits in any::<[u64; 4]>()) {
        // A window that took anything has its top bit set.
        let window = Window { top, bits: [bits[0] | 1, bits[1], bits[2], bits[3]] };
        match window.next() {
            Some(next) => {
                prop_assert!(next > top);
                prop_assert!(window.take(next).is_ok());
            }
            None => prop_assert_eq!(top, u64::MAX),
        }
    }
}

/// Takes every pair of nonces within 400 of the top, in both orders, and compares with arithmetic.
fn every_pair_around(top: u64) {
    let low = top.saturating_sub(400);
    let high = top.saturating_add(400);
    let (start, _) = at(top);
    let expect = |top: u64, taken: &[u64], nonce: u64| {
        if nonce > top && nonce - top > 128 {
            Err(Skip::NonceTooFar)
        } else if nonce <= top && top - nonce > 255 {
            Err(Skip::NonceTooOld)
        } else if taken.contains(&nonce) {
            Err(Skip::NonceUsed)
        } else {
            Ok(())
        }
    };
    for first in low..=high {
        let after = start.take(first);
        assert_eq!(after.map(|_| ()), expect(top, &[top], first));
        // A refused first take leaves the window as it was.
        let (after, new_top, taken) = match after {
            Ok(after) => (after, top.max(first), [top, first]),
            Err(_) => (start, top, [top, top]),
        };
        assert_eq!(after.top, new_top);
        for second in low..=high {
            assert_eq!(
                after.take(second).map(|_| ()),
                expect(new_top, &taken, second),
                "top {top}, {first}, then {second}"
            );
        }
    }
}

#[test]
fn every_pair_of_nonces_around_the_top_answers_as_arithmetic_says() {
    every_pair_around(1_000);
}

#[test]
fn every_pair_of_nonces_around_a_low_top_answers_as_arithmetic_says() {
    every_pair_around(100);
}

#[test]
fn every_pair_of_nonces_around_a_top_near_the_end_answers_as_arithmetic_says() {
    every_pair_around(u64::MAX - 100);
}

#[test]
fn a_fresh_window_has_taken_nothing_and_offers_nonce_zero() {
    let fresh = Window::default();
    assert_eq!(fresh.next(), Some(0));
    assert!((0..=400).all(|nonce| !fresh.is_used(nonce)));
    let after = fresh.take(0).unwrap();
    assert_eq!(after.take(0), Err(Skip::NonceUsed));
    assert_eq!(after.next(), Some(1));
}

#[test]
fn nonce_zero_stays_free_while_later_nonces_are_taken_first() {
    let window = Window::default().take(128).unwrap().take(255).unwrap();
    let window = window.take(0).expect("255 back is still inside");
    assert_eq!(window.take(0), Err(Skip::NonceUsed));
    let slid = Window::default().take(128).unwrap().take(256).unwrap();
    assert_eq!(slid.take(0), Err(Skip::NonceTooOld));
}

#[test]
fn a_jump_may_be_as_wide_as_the_limit_and_no_wider() {
    let (window, _) = at(5);
    assert_eq!(window.take(5 + MAX_JUMP).map(|w| w.top), Ok(5 + MAX_JUMP));
    assert_eq!(window.take(5 + MAX_JUMP + 1), Err(Skip::NonceTooFar));
    assert_eq!(window.take(u64::MAX), Err(Skip::NonceTooFar));
}

#[test]
fn no_jump_can_void_more_than_half_of_what_is_in_flight() {
    // A payer may have signed 128 nonces up to the top; the widest jump keeps every one of them usable.
    let (window, _) = at(1_000);
    let jumped = window.take(1_000 + MAX_JUMP).unwrap();
    for nonce in 1_000 - (WINDOW_BITS - 1 - MAX_JUMP)..1_000 {
        assert!(jumped.take(nonce).is_ok(), "nonce {nonce}");
    }
}

#[test]
fn the_largest_nonce_is_taken_once_and_ends_the_lane() {
    let (window, _) = at(u64::MAX - 1);
    let last = window.take(u64::MAX).unwrap();
    assert_eq!(last.take(u64::MAX), Err(Skip::NonceUsed));
    assert_eq!(last.take(u64::MAX - 1), Err(Skip::NonceUsed));
    assert_eq!(last.take(0), Err(Skip::NonceTooOld));
    assert_eq!(last.next(), None);
    // What is free below the top can still be used.
    assert!(last.take(u64::MAX - 255).is_ok());
    assert_eq!(last.take(u64::MAX - 256), Err(Skip::NonceTooOld));
}

#[test]
fn nothing_is_said_of_nonces_below_the_window() {
    let (window, _) = at(1_000);
    assert!(!window.is_used(1_000 - 256));
    assert_eq!(window.take(1_000 - 256), Err(Skip::NonceTooOld));
}

#[test]
fn the_sizes_are_those_of_the_account_layout() {
    assert_eq!((window::WINDOW_BITS, window::MAX_JUMP), (256, 128));
}
