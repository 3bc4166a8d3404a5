import type { HTTPAdapter } from "@x402/core/server";

/** Bodies as they were sent, by the request object of node. */
const KEPT = new WeakMap<object, Uint8Array>();

/** What the adapters of the official packages keep of their framework's request. */
interface KnownAdapter {
  /** Express. */
  readonly req?: { readonly body?: unknown };
  /** Hono. */
  readonly c?: { readonly req: { arrayBuffer(): Promise<ArrayBuffer> } };
}

/**
 * Keeps a body as it was sent, for parsers of Express: `express.json({ verify: keepRawBody })`. A payment is for the body's
 * bytes, and what a parser makes of them is not enough to know them.
 */
export function keepRawBody(request: object, _response: unknown, body: Uint8Array): void {
  KEPT.set(request, body);
}

/** The bytes of a request's body; `undefined` when they cannot be known any more. */
export async function rawBody(adapter: HTTPAdapter): Promise<Uint8Array | undefined> {
  const { req, c } = adapter as unknown as KnownAdapter;
  const kept = req === undefined ? undefined : KEPT.get(req);
  if (kept !== undefined) return kept;
  // Hono keeps what was read, so that the handler can read it again.
  if (c !== undefined) return new Uint8Array(await c.req.arrayBuffer());
  const parsed = req?.body;
  if (parsed instanceof Uint8Array) return parsed;
  if (typeof parsed === "string") return new TextEncoder().encode(parsed);
  const length = adapter.getHeader("content-length");
  const isEmpty = (length === undefined || length === "0") && adapter.getHeader("transfer-encoding") === undefined;
  return isEmpty ? new Uint8Array() : undefined;
}
