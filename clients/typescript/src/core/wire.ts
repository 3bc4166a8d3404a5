import { address, isAddress, type Address } from "@solana/kit";

import { fromBase58, fromHex, readU64, same, toBase58, toHex, WireError } from "./bytes.js";
import type { Intent, SignedIntent } from "./intent.js";
import { readResource } from "./resource.js";
import { split, type Shares } from "./split.js";
import { termsHash, termsProblem, type Terms } from "./terms.js";

/** The scheme's name. */
export const SCHEME = "sluice-split";

/** `extra` of a requirement: everything that the terms hash covers. */
export interface SplitExtra {
  readonly program: string;
  /** The service; also `payTo`. */
  readonly service: string;
  readonly facilitator: string;
  readonly facilitatorBps: number;
  /** Atomic units, decimal. */
  readonly facilitatorFixed: string;
  readonly treasuryBps: number;
  readonly recipients: readonly { readonly owner: string; readonly tokenAccount: string; readonly bps: number }[];
  /** Hex. */
  readonly termsHash: string;
  /** Base58. */
  readonly genesisHash: string;
}

/** `payload` of a payment. */
export interface SplitPayload {
  readonly nonceAccount: string;
  /** Decimal. */
  readonly openedSlot: string;
  readonly lane: number;
  /** Decimal. */
  readonly nonce: string;
  /** Unix seconds. */
  readonly expiresAt: number;
  /** Hex of the resource tag. */
  readonly resource: string;
  /** Base58. */
  readonly signature: string;
}

/** `extra` of a settle answer. */
export interface SettleExtra {
  /** Hex of the intent's digest: the payment's name everywhere. */
  readonly digest: string;
  /** The payment's place in its transaction. */
  readonly index: number;
  /** Its part of each leg, in atomic units; informative where the batch has several payments. */
  readonly split: { readonly treasury: string; readonly facilitator: string; readonly recipients: readonly string[] };
  /** The batch that it was settled in. */
  readonly batch: { readonly size: number; readonly lamportsPerPayment: number };
}

/** Reads `extra`, whoever wrote it. */
export function readExtra(value: unknown): SplitExtra {
  const extra = record("extra", value);
  const rows = extra["recipients"];
  if (!Array.isArray(rows)) throw new WireError("extra.recipients", "is no list");
  return {
    program: readAddress("extra.program", extra["program"]),
    service: readAddress("extra.service", extra["service"]),
    facilitator: readAddress("extra.facilitator", extra["facilitator"]),
    facilitatorBps: readInteger("extra.facilitatorBps", extra["facilitatorBps"], 0xffff),
    facilitatorFixed: readU64("extra.facilitatorFixed", extra["facilitatorFixed"]).toString(),
    treasuryBps: readInteger("extra.treasuryBps", extra["treasuryBps"], 0xffff),
    recipients: rows.map((each: unknown) => {
      const row = record("extra.recipients", each);
      return {
        owner: readAddress("extra.recipients.owner", row["owner"]),
        tokenAccount: readAddress("extra.recipients.tokenAccount", row["tokenAccount"]),
        bps: readInteger("extra.recipients.bps", row["bps"], 0xffff),
      };
    }),
    termsHash: toHex(fromHex("extra.termsHash", readText("extra.termsHash", extra["termsHash"]), 32)),
    genesisHash: readAddress("extra.genesisHash", extra["genesisHash"]),
  };
}

/** The terms that an `extra` shows. */
export function termsOf(extra: SplitExtra, mint: Address): Terms {
  return {
    service: address(extra.service),
    mint,
    facilitator: address(extra.facilitator),
    facilitatorBps: extra.facilitatorBps,
    facilitatorFixed: readU64("extra.facilitatorFixed", extra.facilitatorFixed),
    treasuryBps: extra.treasuryBps,
    recipients: extra.recipients.map((row) => ({
      owner: address(row.owner),
      tokenAccount: address(row.tokenAccount),
      bps: row.bps,
    })),
  };
}

/** The terms hash recomputed from the terms shown. Throws when they are not acceptable, or the hash beside them differs. */
export async function checkedTermsHash(extra: SplitExtra, mint: Address): Promise<Uint8Array> {
  const terms = termsOf(extra, mint);
  const problem = termsProblem(terms);
  const hash = await termsHash(terms);
  if (problem !== undefined || hash === undefined) throw new WireError("extra.recipients", problem ?? "recipient_count");
  if (!same(hash, fromHex("extra.termsHash", extra.termsHash, 32))) {
    throw new WireError("extra.termsHash", "is not the hash of the terms shown beside it: do not pay this server");
  }
  return hash;
}

/** How a payment of `amount` is divided on its own. */
export function sharesOf(extra: SplitExtra, amount: bigint): Shares {
  const fees = {
    treasuryBps: extra.treasuryBps,
    facilitatorBps: extra.facilitatorBps,
    facilitatorFixed: readU64("extra.facilitatorFixed", extra.facilitatorFixed),
  };
  return split(
    amount,
    1n,
    fees,
    extra.recipients.map((row) => row.bps),
  );
}

/** The payload of a signed intent. */
export function payloadOf({ intent, signature }: Pick<SignedIntent, "intent" | "signature">): SplitPayload {
  return {
    nonceAccount: intent.nonceAccount,
    openedSlot: intent.openedSlot.toString(),
    lane: intent.lane,
    nonce: intent.nonce.toString(),
    expiresAt: Number(intent.expiresAt),
    resource: toHex(intent.resource),
    signature: toBase58(signature),
  };
}

/** Reads a payload, whoever wrote it. */
export function readPayload(value: unknown): SplitPayload {
  const payload = record("payload", value);
  return {
    nonceAccount: readAddress("payload.nonceAccount", payload["nonceAccount"]),
    openedSlot: readU64("payload.openedSlot", payload["openedSlot"]).toString(),
    lane: readInteger("payload.lane", payload["lane"], 0xff),
    nonce: readU64("payload.nonce", payload["nonce"]).toString(),
    expiresAt: readInteger("payload.expiresAt", payload["expiresAt"], 0xffff_ffff),
    resource: toHex(readResource(payload["resource"])),
    signature: toBase58(fromBase58("payload.signature", readText("payload.signature", payload["signature"]), 64)),
  };
}

/** The signed intent of a payload, with what the requirement says about the rest. */
export function intentOf(
  payload: SplitPayload,
  rest: Pick<Intent, "genesisHash" | "service" | "termsHash" | "amount">,
): Pick<SignedIntent, "intent" | "signature"> {
  return {
    intent: {
      ...rest,
      nonceAccount: address(payload.nonceAccount),
      openedSlot: BigInt(payload.openedSlot),
      lane: payload.lane,
      nonce: BigInt(payload.nonce),
      expiresAt: payload.expiresAt,
      resource: readResource(payload.resource),
    },
    signature: fromBase58("payload.signature", payload.signature, 64),
  };
}

/** An address in a field. */
export function readAddress(field: string, value: unknown): Address {
  if (typeof value === "string" && isAddress(value)) return value;
  throw new WireError(field, `${JSON.stringify(value)} is not an address`);
}

/** An object in a field. */
export function record(field: string, value: unknown): Readonly<Record<string, unknown>> {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw new WireError(field, "is no object");
}

/** A text in a field. */
export function readText(field: string, value: unknown): string {
  if (typeof value === "string") return value;
  throw new WireError(field, `${JSON.stringify(value)} is no text`);
}

/** A whole number from 0 to `most` in a field. */
export function readInteger(field: string, value: unknown, most: number): number {
  if (typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= most) return value;
  throw new WireError(field, `${JSON.stringify(value)} is no whole number from 0 to ${most}`);
}
