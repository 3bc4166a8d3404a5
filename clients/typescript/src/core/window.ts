/** Nonces that a window remembers. */
export const WINDOW_BITS = 256n;
/** How far a nonce may lie above the top. */
export const MAX_JUMP = 128n;

/** The nonces that a lane remembers: bit `k` is the nonce `top - k`. */
export interface Window {
  /** The highest nonce taken; 0 in a fresh window. */
  readonly top: bigint;
  /** 256 bits. */
  readonly bits: bigint;
}

/** Why a nonce cannot be taken. */
export type WindowSkip = "nonce_used" | "nonce_too_old" | "nonce_too_far";

/** The window after taking `nonce`, or why it cannot be taken. */
export function takeNonce(window: Window, nonce: bigint): Window | WindowSkip {
  if (nonce > window.top) {
    const jump = nonce - window.top;
    if (jump > MAX_JUMP) return "nonce_too_far";
    return { top: nonce, bits: BigInt.asUintN(Number(WINDOW_BITS), window.bits << jump) | 1n };
  }
  const back = window.top - nonce;
  if (back >= WINDOW_BITS) return "nonce_too_old";
  const bit = 1n << back;
  if ((window.bits & bit) !== 0n) return "nonce_used";
  return { top: window.top, bits: window.bits | bit };
}

/** The lowest nonce above everything taken; `undefined` after the largest. */
export function nextNonce(window: Window): bigint | undefined {
  if ((window.bits & 1n) === 0n) return window.top;
  return window.top === 0xffff_ffff_ffff_ffffn ? undefined : window.top + 1n;
}
