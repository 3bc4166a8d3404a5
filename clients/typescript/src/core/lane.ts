import type { Address } from "@solana/kit";

import { fromLittleEndian, join, littleEndian, same, toBase58, UNLIMITED, WireError } from "./bytes.js";
import { addressBytes } from "./program.js";
import { takeNonce, type Window, type WindowSkip } from "./window.js";

/** Lanes of a nonce account: 0 the payer's own key, 1 a session key. */
export const LANES = 2;
/** Bytes of a lane in its account. */
export const LANE_LEN = 192;
/** An expiry that never comes. */
export const NEVER = 0x7fff_ffff_ffff_ffffn;

const CLOSED = new Uint8Array(32);
const SCOPES = ["any", "service", "authority", "facilitator"] as const;

/** What a lane's key may pay. */
export type Scope =
  | { readonly kind: "any" }
  | { readonly kind: "service" | "authority" | "facilitator"; readonly key: Address };

/** What the payer sets about a lane. A limit of 2^64 - 1 is none, of 0 allows nothing. */
export interface LaneTerms {
  /** The key that signs; `undefined` closes the lane. */
  readonly key: Address | undefined;
  /** The last unix second in which it may spend. */
  readonly expiresAt: bigint;
  readonly maxPerPayment: bigint;
  readonly periodLimit: bigint;
  /** 0 for no period. */
  readonly periodSecs: bigint;
  readonly totalLimit: bigint;
  readonly scope: Scope;
}

/** The state of a lane as it lies on chain. */
export interface Lane {
  readonly window: Window;
  readonly expiresAt: bigint;
  readonly maxPerPayment: bigint;
  readonly periodLimit: bigint;
  readonly periodSecs: bigint;
  readonly periodStart: bigint;
  readonly periodSpent: bigint;
  readonly totalLimit: bigint;
  readonly totalSpent: bigint;
  readonly key: Uint8Array;
  readonly scopeKey: Uint8Array;
  readonly scopeKind: number;
}

/** One payment as a lane sees it. */
export interface Spend {
  readonly nonce: bigint;
  readonly amount: bigint;
  /** Unix seconds. */
  readonly now: bigint;
  readonly service: Uint8Array;
  readonly authority: Uint8Array;
  readonly facilitator: Uint8Array;
}

/** Why a lane refuses a payment. */
export type LaneSkip =
  | "lane_closed"
  | "lane_expired"
  | "scope"
  | WindowSkip
  | "over_max"
  | "over_period"
  | "over_total";

/** A scope as it is stored: kind and key. */
export function scopeParts(scope: Scope): { kind: number; key: Uint8Array } {
  const key = scope.kind === "any" ? CLOSED : addressBytes(scope.key);
  return { kind: SCOPES.indexOf(scope.kind), key };
}

/** Whether a lane has a key. */
export function isOpen(lane: Lane): boolean {
  return !same(lane.key, CLOSED);
}

/** Reads the 192 bytes of a lane. */
export function decodeLane(bytes: Uint8Array): Lane {
  if (bytes.length !== LANE_LEN) throw new WireError("lane", `${bytes.length} bytes instead of ${LANE_LEN}`);
  const u64 = (at: number): bigint => fromLittleEndian(bytes.subarray(at, at + 8));
  const i64 = (at: number): bigint => BigInt.asIntN(64, u64(at));
  return {
    window: { top: u64(0), bits: fromLittleEndian(bytes.subarray(8, 40)) },
    expiresAt: i64(40),
    maxPerPayment: u64(48),
    periodLimit: u64(56),
    periodSecs: u64(64),
    periodStart: i64(72),
    periodSpent: u64(80),
    totalLimit: u64(88),
    totalSpent: u64(96),
    key: bytes.slice(104, 136),
    scopeKey: bytes.slice(136, 168),
    scopeKind: bytes[168] ?? 0,
  };
}

/** Writes a lane. */
export function encodeLane(lane: Lane): Uint8Array {
  const word = (at: bigint): Uint8Array => littleEndian(BigInt.asUintN(64, lane.window.bits >> at), 8);
  return join(
    littleEndian(lane.window.top, 8),
    ...[0n, 64n, 128n, 192n].map(word),
    littleEndian(lane.expiresAt, 8),
    littleEndian(lane.maxPerPayment, 8),
    littleEndian(lane.periodLimit, 8),
    littleEndian(lane.periodSecs, 8),
    littleEndian(lane.periodStart, 8),
    littleEndian(lane.periodSpent, 8),
    littleEndian(lane.totalLimit, 8),
    littleEndian(lane.totalSpent, 8),
    lane.key,
    lane.scopeKey,
    Uint8Array.of(lane.scopeKind),
    new Uint8Array(23),
  );
}

/** The lane after the payer has set it. The window never changes, and what is spent stays for the same key. */
export function setLane(lane: Lane, terms: LaneTerms, now: bigint): Lane {
  const key = terms.key === undefined ? CLOSED : addressBytes(terms.key);
  const spent = same(lane.key, key)
    ? { periodStart: lane.periodStart, periodSpent: lane.periodSpent, totalSpent: lane.totalSpent }
    : { periodStart: now, periodSpent: 0n, totalSpent: 0n };
  const scope = scopeParts(terms.scope);
  return {
    ...spent,
    window: lane.window,
    key,
    expiresAt: terms.expiresAt,
    maxPerPayment: terms.maxPerPayment,
    periodLimit: terms.periodLimit,
    periodSecs: terms.periodSecs,
    totalLimit: terms.totalLimit,
    scopeKind: scope.kind,
    scopeKey: scope.key,
  };
}

/** The lane after a payment, or why it refuses it. */
export function spend(lane: Lane, payment: Spend): Lane | LaneSkip {
  if (!isOpen(lane)) return "lane_closed";
  if (payment.now > lane.expiresAt) return "lane_expired";
  const covers = [undefined, payment.service, payment.authority, payment.facilitator];
  const covered = covers[lane.scopeKind];
  const inScope = lane.scopeKind === 0 || (covered !== undefined && same(lane.scopeKey, covered));
  if (!inScope) return "scope";
  const window = takeNonce(lane.window, payment.nonce);
  if (typeof window === "string") return window;
  if (payment.amount > lane.maxPerPayment) return "over_max";
  const { periodStart, periodSpent: before } = periodAt(lane, payment.now);
  const periodSpent = within(before, payment.amount, lane.periodSecs === 0n ? UNLIMITED : lane.periodLimit);
  if (periodSpent === undefined) return "over_period";
  const totalSpent = within(lane.totalSpent, payment.amount, lane.totalLimit);
  if (totalSpent === undefined) return "over_total";
  return { ...lane, window, periodStart, periodSpent, totalSpent };
}

/** Start of the period that holds `now`, and what is spent in it. */
export function periodAt(lane: Lane, now: bigint): { periodStart: bigint; periodSpent: bigint } {
  const { periodStart, periodSpent, periodSecs } = lane;
  // The program counts in signed 64 bits: a longer period is none, and differences stop at the ends.
  if (periodSecs === 0n || periodSecs > NEVER) return { periodStart, periodSpent };
  const elapsed = clamp(now - periodStart);
  if (elapsed < periodSecs) return { periodStart, periodSpent };
  return { periodStart: clamp(periodStart + (elapsed / periodSecs) * periodSecs), periodSpent: 0n };
}

/** The most that one more payment may take now, by the lane alone. */
export function headroom(lane: Lane, now: bigint): bigint {
  if (!isOpen(lane) || now > lane.expiresAt) return 0n;
  const left = (limit: bigint, spent: bigint): bigint =>
    limit === UNLIMITED ? UNLIMITED : limit > spent ? limit - spent : 0n;
  const period = lane.periodSecs === 0n ? UNLIMITED : left(lane.periodLimit, periodAt(lane, now).periodSpent);
  const total = left(lane.totalLimit, lane.totalSpent);
  return [lane.maxPerPayment, period, total].reduce((least, each) => (each < least ? each : least));
}

/** A lane's key in base58, if it is open. */
export function laneKey(lane: Lane): Address | undefined {
  return isOpen(lane) ? (toBase58(lane.key) as Address) : undefined;
}

function within(spent: bigint, amount: bigint, limit: bigint): bigint | undefined {
  const sum = spent + amount;
  if (limit === UNLIMITED) return sum > UNLIMITED ? UNLIMITED : sum;
  return sum <= limit ? sum : undefined;
}

function clamp(value: bigint): bigint {
  if (value > NEVER) return NEVER;
  return value < -NEVER - 1n ? -NEVER - 1n : value;
}
