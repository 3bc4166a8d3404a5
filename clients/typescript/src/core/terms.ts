import type { Address } from "@solana/kit";

import { littleEndian, sha256, utf8 } from "./bytes.js";
import { addressBytes } from "./program.js";

/** Recipients that a service may name. */
export const MAX_RECIPIENTS = 8;
/** A whole, in basis points. */
export const BPS = 10_000n;
/** The most that a treasury may take. */
export const MAX_TREASURY_BPS = 1_000;
/** The most that a facilitator may take. */
export const MAX_FACILITATOR_BPS = 5_000;

const DOMAIN = utf8("sluice/terms/1");

/** One recipient. */
export interface Recipient {
  /** The wallet. */
  readonly owner: Address;
  /** Its associated token account of the mint. */
  readonly tokenAccount: Address;
  /** Share of what treasury and facilitator leave, in basis points. */
  readonly bps: number;
}

/** Everything about a service that decides where money goes. */
export interface Terms {
  readonly service: Address;
  readonly mint: Address;
  /** The facilitator account, not its wallet. */
  readonly facilitator: Address;
  readonly facilitatorBps: number;
  /** The facilitator's fixed share of each payment, in atomic units. */
  readonly facilitatorFixed: bigint;
  readonly treasuryBps: number;
  /** The first also receives every remainder. */
  readonly recipients: readonly Recipient[];
}

/** Why terms are not acceptable. */
export type TermsProblem =
  | "recipient_count"
  | "recipient_shares"
  | "duplicate_recipient"
  | "treasury_share"
  | "facilitator_share";

/** What is wrong with terms, or `undefined`. */
export function termsProblem(terms: Terms): TermsProblem | undefined {
  const rows = terms.recipients;
  if (rows.length === 0 || rows.length > MAX_RECIPIENTS) return "recipient_count";
  const sum = rows.reduce((total, row) => total + row.bps, 0);
  if (BigInt(sum) !== BPS || rows.some((row) => row.bps === 0)) return "recipient_shares";
  if (new Set(rows.map((row) => row.owner)).size !== rows.length) return "duplicate_recipient";
  if (terms.treasuryBps > MAX_TREASURY_BPS) return "treasury_share";
  if (terms.facilitatorBps > MAX_FACILITATOR_BPS) return "facilitator_share";
  return undefined;
}

/** The hash of terms, which an intent signs; `undefined` where the recipients cannot be encoded. */
export async function termsHash(terms: Terms): Promise<Uint8Array | undefined> {
  const rows = terms.recipients;
  if (rows.length === 0 || rows.length > MAX_RECIPIENTS) return undefined;
  return sha256(
    DOMAIN,
    addressBytes(terms.service),
    addressBytes(terms.mint),
    addressBytes(terms.facilitator),
    littleEndian(terms.facilitatorBps, 2),
    littleEndian(terms.facilitatorFixed, 8),
    littleEndian(terms.treasuryBps, 2),
    littleEndian(rows.length, 1),
    ...rows.flatMap((row) => [addressBytes(row.owner), addressBytes(row.tokenAccount), littleEndian(row.bps, 2)]),
  );
}
