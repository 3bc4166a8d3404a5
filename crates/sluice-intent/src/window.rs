//! The sliding window of nonces that a lane remembers.
//!
//! Bit `k` of the window stands for the nonce `top - k`. A fresh window has top 0 and no bit set, so nonce 0
//! is free. What has slid out below the window can never be used again: forgetting is safe, reviving is not
//! possible.

use crate::Skip;

/// Nonces that a window remembers.
pub const WINDOW_BITS: u64 = 256;
/// How far a nonce may lie above the top. A larger jump would let one intent void everything in flight.
pub const MAX_JUMP: u64 = 128;

/// The state of a window: the highest nonce taken, and which of the 256 at and below it are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// The highest nonce taken (0 in a fresh window).
    pub top: u64,
    /// 256 bits, least significant word first; bit `k` is nonce `top - k`.
    pub bits: [u64; 4],
}

impl Window {
    /// The window after taking `nonce`, or why it cannot be taken. `self` does not change.
    pub fn take(&self, nonce: u64) -> Result<Self, Skip> {
        if nonce > self.top {
            let jump = nonce - self.top;
            if jump > MAX_JUMP {
                return Err(Skip::NonceTooFar);
            }
            let mut bits = shift_up(&self.bits, jump);
            bits[0] |= 1;
            return Ok(Self { top: nonce, bits });
        }
        let back = self.top - nonce;
        if back >= WINDOW_BITS {
            return Err(Skip::NonceTooOld);
        }
        let (word, bit) = ((back / 64) as usize, 1u64 << (back % 64));
        if self.bits[word] & bit != 0 {
            return Err(Skip::NonceUsed);
        }
        let mut bits = self.bits;
        bits[word] |= bit;
        Ok(Self {
            top: self.top,
            bits,
        })
    }

    /// Whether the window can still prove that `nonce` was taken. Below the window it can prove nothing.
    pub fn is_used(&self, nonce: u64) -> bool {
        matches!(self.take(nonce), Err(Skip::NonceUsed))
    }

    /// The lowest nonce above everything taken: what a payer with nothing in flight should sign next.
    pub fn next(&self) -> Option<u64> {
        if self.bits[0] & 1 == 0 {
            Some(self.top)
        } else {
            self.top.checked_add(1)
        }
    }
}

/// Shifts the window up by `by` (at most [`MAX_JUMP`], so a bit moves by at most two words).
fn shift_up(bits: &[u64; 4], by: u64) -> [u64; 4] {
    let words = (by / 64) as usize;
    let rest = by % 64;
    let mut out = [0u64; 4];
    let mut i = words;
    while i < 4 {
        let low = bits[i - words] << rest;
        let carried = if rest > 0 && i > words {
            bits[i - words - 1] >> (64 - rest)
        } else {
            0
        };
        out[i] = low | carried;
        i += 1;
    }
    out
}
