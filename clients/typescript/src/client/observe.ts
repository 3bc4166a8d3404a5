import { safeBase64Decode, safeBase64Encode } from "@x402/core/utils";

import { requestTag, signedUrl } from "../core/resource.js";
import { SCHEME } from "../core/wire.js";

/** Where a 402 carries the mark of the request that it answers. It is taken off before the payment leaves. */
const MARK = `${SCHEME}/request`;
const KEEP_MS = 600_000;

/** What a 402 answers: the tag of its request, or why the request cannot be paid for. */
type Observed = { readonly tag: Uint8Array } | { readonly problem: string };

/** The part of an axios instance that is used. */
export interface AxiosLike {
  readonly interceptors: {
    readonly response: { use(onFulfilled: undefined, onRejected: (error: unknown) => unknown): number };
  };
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- its configuration is axios's own type
  getUri(config?: any): string;
}

interface AxiosFailure {
  readonly config?: { readonly method?: string; readonly data?: unknown };
  readonly request?: { readonly res?: { readonly responseUrl?: string } };
  readonly response?: { readonly status: number; headers: Record<string, unknown>; data: unknown };
}

/**
 * Knows which request a 402 answers.
 *
 * A scheme of the official packages is shown the 402 and not the request. What is signed here is for one request, and must
 * not be taken from what the server says it is for. So the requests are watched on their way out, and each 402 on its way in
 * is given a mark that nobody else can guess.
 */
export class Observer {
  readonly #seen = new Map<string, { readonly observed: Observed; readonly at: number }>();
  readonly #known = new WeakMap<object, Observed>();

  /** A `fetch` to hand to `wrapFetchWithPayment`. */
  fetch(inner: typeof fetch): typeof fetch {
    return async (input, init) => {
      const request = new Request(input, init);
      const body = request.body === null ? new ArrayBuffer(0) : await request.clone().arrayBuffer();
      const response = await inner(request);
      if (response.status !== 402) return response;
      const url = signedUrl(request.url);
      const landed = response.url === "" ? url : signedUrl(response.url);
      const observed = await observe(request.method, url, landed, new Uint8Array(body));
      return this.#markResponse(response, observed);
    };
  }

  /** Watches an axios instance. Call it before `wrapAxiosWithPayment`. */
  axios<T extends AxiosLike>(instance: T): T {
    instance.interceptors.response.use(undefined, async (error: unknown) => {
      const { config, request, response } = error as AxiosFailure;
      if (response?.status === 402 && config !== undefined) {
        const url = signedUrl(instance.getUri(config));
        const landed = request?.res?.responseUrl === undefined ? url : signedUrl(request.res.responseUrl);
        const body = bodyBytes(config.data);
        const observed =
          body === undefined
            ? { problem: "its body is a stream or a form, whose bytes are not known before it is sent: send text or bytes" }
            : await observe((config.method ?? "get").toUpperCase(), url, landed, body);
        const header = response.headers["payment-required"];
        if (typeof header === "string") {
          const marked = this.#markHeader(header, observed);
          if (marked !== undefined) response.headers["payment-required"] = marked;
        } else {
          this.#markBody(response.data, observed);
        }
      }
      throw error;
    });
    return instance;
  }

  /**
   * The tag of the request that a requirement asks to be paid for. `extensions` are those of its 402; the mark is taken out of
   * them.
   */
  tagOf(requirements: object, extensions: Record<string, unknown> | undefined): Uint8Array {
    const mark = extensions?.[MARK];
    if (typeof mark === "string") {
      delete extensions?.[MARK];
      const seen = this.#seen.get(mark);
      this.#seen.delete(mark);
      if (seen !== undefined) this.#known.set(requirements, seen.observed);
    }
    const observed = this.#known.get(requirements);
    if (observed === undefined) {
      throw new Error(
        `${SCHEME} pays for one request and was not shown it: use wrapFetchWithPayment(scheme.fetch(fetch), client), or ` +
          "wrapAxiosWithPayment(scheme.axios(instance), client)",
      );
    }
    if ("problem" in observed) throw new Error(`the request cannot be paid for: ${observed.problem}`);
    return observed.tag;
  }

  async #markResponse(response: Response, observed: Observed): Promise<Response> {
    const headers = new Headers(response.headers);
    const header = headers.get("PAYMENT-REQUIRED");
    const text = await response.text();
    let body = text;
    if (header !== null) {
      const marked = this.#markHeader(header, observed);
      if (marked !== undefined) headers.set("PAYMENT-REQUIRED", marked);
    } else {
      const required = parse(text);
      if (this.#markBody(required, observed)) body = JSON.stringify(required);
    }
    // The body is decoded by now and may have another length.
    headers.delete("content-encoding");
    headers.delete("content-length");
    return new Response(body, { status: response.status, statusText: response.statusText, headers });
  }

  #markHeader(header: string, observed: Observed): string | undefined {
    let required: unknown;
    try {
      required = parse(safeBase64Decode(header));
    } catch {
      return undefined;
    }
    return this.#markBody(required, observed) ? safeBase64Encode(JSON.stringify(required)) : undefined;
  }

  /** Marks a 402 that offers the scheme, and says whether it did. */
  #markBody(required: unknown, observed: Observed): boolean {
    if (typeof required !== "object" || required === null) return false;
    const answer = required as { accepts?: unknown; extensions?: unknown };
    const offers = Array.isArray(answer.accepts) ? (answer.accepts as unknown[]) : [];
    if (!offers.some((offer) => (offer as { scheme?: unknown } | null)?.scheme === SCHEME)) return false;
    const mark = crypto.randomUUID();
    const now = Date.now();
    for (const [old, { at }] of this.#seen) if (now - at >= KEEP_MS) this.#seen.delete(old);
    this.#seen.set(mark, { observed, at: now });
    answer.extensions = { ...(answer.extensions as object | undefined), [MARK]: mark };
    return true;
  }
}

/** A redirected answer is not paid: the payment would go to a URL that it was not signed for. */
async function observe(method: string, url: string, landed: string, body: Uint8Array): Promise<Observed> {
  if (landed !== url) return { problem: `the server redirects to ${landed}: ask for that` };
  return { tag: await requestTag(method, url, body) };
}

function bodyBytes(data: unknown): Uint8Array | undefined {
  if (data === undefined || data === null) return new Uint8Array();
  if (typeof data === "string") return new TextEncoder().encode(data);
  if (data instanceof ArrayBuffer) return new Uint8Array(data);
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return undefined;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
