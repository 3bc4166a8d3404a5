import { getBase58Decoder, getBase58Encoder } from "@solana/kit";

/** Largest number of 64 bits; as a limit, none. */
export const UNLIMITED = 0xffff_ffff_ffff_ffffn;

/** A field of the wire or of an account that cannot be read. */
export class WireError extends Error {
  override readonly name = "WireError";

  constructor(
    /** The field's name on the wire. */
    readonly field: string,
    /** What is wrong with it. */
    readonly problem: string,
  ) {
    super(`${field}: ${problem}`);
  }
}

/** Hex in lower case. */
export function toHex(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += byte.toString(16).padStart(2, "0");
  return text;
}

/** Bytes of hex; of exactly `length` if it is given. */
export function fromHex(field: string, text: string, length?: number): Uint8Array {
  if (text.length % 2 !== 0 || !/^[0-9a-fA-F]*$/.test(text)) throw new WireError(field, "is not hex");
  const bytes = Uint8Array.from(text.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
  return sized(field, bytes, length);
}

/** Base58, as keys and signatures are shown. */
export function toBase58(bytes: Uint8Array): string {
  return getBase58Decoder().decode(bytes);
}

/** Bytes of base58, `length` of them. */
export function fromBase58(field: string, text: string, length: number): Uint8Array {
  let bytes: Uint8Array;
  try {
    bytes = Uint8Array.from(getBase58Encoder().encode(text));
  } catch {
    throw new WireError(field, `${JSON.stringify(text)} is not base58`);
  }
  return sized(field, bytes, length);
}

/** A decimal number of 64 bits, digits alone. */
export function readU64(field: string, text: unknown): bigint {
  if (typeof text === "string" && /^[0-9]+$/.test(text)) {
    const value = BigInt(text);
    if (value <= UNLIMITED) return value;
  }
  throw new WireError(field, `${JSON.stringify(text)} is not a decimal number of 64 bits`);
}

/** `value` in `length` bytes, little-endian; a negative one in two's complement. */
export function littleEndian(value: bigint | number, length: 1 | 2 | 4 | 8): Uint8Array {
  const bits = length * 8;
  const wide = BigInt(value);
  if (BigInt.asUintN(bits, wide) !== wide && BigInt.asIntN(bits, wide) !== wide) {
    throw new WireError("number", `${wide} does not fit in ${bits} bits`);
  }
  let rest = BigInt.asUintN(bits, wide);
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; at += 1) {
    bytes[at] = Number(rest & 0xffn);
    rest >>= 8n;
  }
  return bytes;
}

/** The number in little-endian bytes. */
export function fromLittleEndian(bytes: Uint8Array): bigint {
  let value = 0n;
  for (let at = bytes.length - 1; at >= 0; at -= 1) value = (value << 8n) | BigInt(bytes[at] ?? 0);
  return value;
}

/** One after the other. */
export function join(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** Text in UTF-8. */
export function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** SHA-256 over the parts, one after the other. */
export async function sha256(...parts: readonly Uint8Array[]): Promise<Uint8Array> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", join(...parts)));
}

/** Whether two byte strings are the same. Nothing compared here is secret. */
export function same(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, at) => byte === b[at]);
}

function sized(field: string, bytes: Uint8Array, length: number | undefined): Uint8Array {
  if (length === undefined || bytes.length === length) return bytes;
  throw new WireError(field, `${bytes.length} bytes instead of ${length}`);
}
