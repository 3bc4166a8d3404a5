import { fromLittleEndian, join, littleEndian, WireError } from "./bytes.js";
import type { SignedIntent } from "./intent.js";
import { LANES } from "./lane.js";

/** Bytes of an entry. */
export const ENTRY_LEN = 101;

/** The wire form of an intent inside a `settle` instruction. */
export interface Entry {
  readonly signature: Uint8Array;
  readonly amount: bigint;
  readonly nonce: bigint;
  /** Unix seconds, 32 bits. */
  readonly expiresAt: number;
  readonly resource: Uint8Array;
  readonly flags: number;
}

/** The entry of a signed intent. */
export function entryOf({ intent, signature }: SignedIntent): Entry {
  const { amount, nonce, resource, lane } = intent;
  return { signature, amount, nonce, expiresAt: Number(intent.expiresAt), resource, flags: lane };
}

/** The lane that flags name; `undefined` for flags that this version does not know. */
export function laneOfFlags(flags: number): number | undefined {
  return flags < LANES ? flags : undefined;
}

/** Writes an entry. */
export function encodeEntry(entry: Entry): Uint8Array {
  const bytes = join(
    entry.signature,
    littleEndian(entry.amount, 8),
    littleEndian(entry.nonce, 8),
    littleEndian(entry.expiresAt, 4),
    entry.resource,
    littleEndian(entry.flags, 1),
  );
  if (bytes.length !== ENTRY_LEN) throw new WireError("entry", `${bytes.length} bytes instead of ${ENTRY_LEN}`);
  return bytes;
}

/** Reads an entry. Every pattern of bytes is one. */
export function decodeEntry(bytes: Uint8Array): Entry {
  if (bytes.length !== ENTRY_LEN) throw new WireError("entry", `${bytes.length} bytes instead of ${ENTRY_LEN}`);
  return {
    signature: bytes.slice(0, 64),
    amount: fromLittleEndian(bytes.subarray(64, 72)),
    nonce: fromLittleEndian(bytes.subarray(72, 80)),
    expiresAt: Number(fromLittleEndian(bytes.subarray(80, 84))),
    resource: bytes.slice(84, 100),
    flags: bytes[100] ?? 0,
  };
}
