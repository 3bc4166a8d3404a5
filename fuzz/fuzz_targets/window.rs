//! A window beside a set that never forgets: both answer alike to any sequence of nonces, from a fresh window or
//! from any top, and a refusal changes nothing.
#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::{
    arbitrary::{self, Arbitrary},
    fuzz_target,
};
use sluice_fuzz::{Edgy, reference::WindowModel};
use sluice_intent::{Skip, Window};

#[derive(Arbitrary, Debug)]
struct Input {
    /// `None` for a fresh window, else a top that is taken.
    top: Option<Edgy>,
    offers: Vec<Offer>,
}

/// A nonce, mostly by its distance to the top: what is far from it is refused and teaches little.
#[derive(Arbitrary, Debug)]
enum Offer {
    Above(u8),
    Below(u8),
    FurtherBelow(u8),
    At(Edgy),
}

fuzz_target!(|input: Input| {
    let (mut window, mut model) = match input.top {
        None => Default::default(),
        Some(Edgy(top)) => {
            let bits = [1, 0, 0, 0];
            let taken = BTreeSet::from([top]);
            (Window { top, bits }, WindowModel { top, taken })
        }
    };
    for offer in input.offers {
        let top = window.top;
        let nonce = match offer {
            Offer::Above(by) => top.saturating_add(u64::from(by)),
            Offer::Below(by) => top.saturating_sub(u64::from(by)),
            Offer::FurtherBelow(by) => top.saturating_sub(256 + u64::from(by)),
            Offer::At(Edgy(nonce)) => nonce,
        };
        let expect = model.answer(nonce);
        assert_eq!(window.is_used(nonce), expect == Err(Skip::NonceUsed));
        let got = window.take(nonce);
        assert_eq!(got.map(|_| ()), expect, "nonce {nonce} at top {top}");
        if let Ok(next) = got {
            window = next;
            model.take(nonce);
        }
        assert_eq!(window.top, model.top);
        assert_eq!(window.bits, bits_of(&model));
        // A fresh window has taken nothing, not even its top.
        let next = match model.taken.contains(&model.top) {
            false => Some(model.top),
            true => model.top.checked_add(1),
        };
        assert_eq!(window.next(), next);
    }
});

/// The bits that a window must hold after what the model has taken.
fn bits_of(model: &WindowModel) -> [u64; 4] {
    let mut bits = [0; 4];
    for nonce in model.taken.range(model.top.saturating_sub(255)..) {
        let back = model.top - nonce;
        bits[(back / 64) as usize] |= 1 << (back % 64);
    }
    bits
}
