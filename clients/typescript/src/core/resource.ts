import { fromHex, join, littleEndian, sha256, toHex, utf8, WireError } from "./bytes.js";

/** Bytes of a resource tag. */
export const RESOURCE_LEN = 16;

const DOMAIN = utf8("sluice/resource/1");

/** Kind 0: one HTTP request. `bodyHash` is the SHA-256 of the body, also of an empty one. */
export function resourceOfRequest(method: string, url: string, bodyHash: Uint8Array): Promise<Uint8Array> {
  return tag(0, [utf8(method), utf8(url), bodyHash]);
}

/** Kind 1: the payment identifier that a server gave. */
export function resourceOfIdentifier(identifier: Uint8Array): Promise<Uint8Array> {
  return tag(1, [identifier]);
}

/**
 * The tag that ties a payment to one HTTP request.
 *
 * `method` is in capitals; `url` is absolute and as it goes over the wire: escaped, with its query, without fragment and
 * without credentials. Client and server hash the same text.
 */
export async function requestTag(method: string, url: string, body: Uint8Array): Promise<Uint8Array> {
  return resourceOfRequest(method, url, await sha256(body));
}

/** A tag from its hex. */
export function readResource(text: unknown): Uint8Array {
  if (typeof text !== "string") throw new WireError("resource", "is not hex");
  return fromHex("resource", text, RESOURCE_LEN);
}

/** A URL as it is signed. */
export function signedUrl(text: string): string {
  const url = new URL(text);
  url.hash = "";
  url.username = "";
  url.password = "";
  return url.href;
}

/** Hex of a tag. */
export function showResource(resource: Uint8Array): string {
  return toHex(resource);
}

async function tag(kind: number, fields: readonly Uint8Array[]): Promise<Uint8Array> {
  const prefixed = fields.flatMap((field) => [littleEndian(field.length, 4), field]);
  const hash = await sha256(join(DOMAIN, Uint8Array.of(kind), ...prefixed));
  return hash.slice(0, RESOURCE_LEN);
}
