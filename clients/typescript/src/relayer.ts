import type { Address } from "@solana/kit";

import { record } from "./core/wire.js";

const TIMEOUT_MS = 15_000;

/** A service as a relayer shows it, with everything that a server needs to ask for payments to it. */
export interface ServiceView {
  readonly service: string;
  readonly scheme: string;
  /** CAIP-2. */
  readonly network: string;
  readonly payTo: string;
  /** The mint. */
  readonly asset: string;
  /** Not read yet: {@link readExtra} checks it. */
  readonly extra: unknown;
  /** Most seconds that an intent may live. */
  readonly maxIntentTtl: number;
  /** `null` when the mint is not accepted. */
  readonly decimals: number | null;
  /** Atomic units, decimal. */
  readonly minPayment: string;
  /** `active` or `closed`. */
  readonly status: string;
  /** Whether this relayer settles for it. */
  readonly settlesHere: boolean;
}

/** A lane as a relayer shows it. A limit that does not limit is `null`; amounts are decimal. */
export interface LaneView {
  readonly lane: number;
  /** `null` for a closed lane. */
  readonly key: string | null;
  /** Above everything that is used or in flight; `null` when there is none left. */
  readonly nextNonce: string | null;
  /** Unix seconds; `null` for never ending. */
  readonly expiresAt: number | null;
  readonly maxPerPayment: string | null;
  readonly periodLimit: string | null;
  readonly periodSecs: string;
  readonly periodSpent: string;
  readonly totalLimit: string | null;
  readonly totalSpent: string;
  /** The most that one more payment may take by the lane's limits. */
  readonly headroom: string | null;
  /** `any`, `service`, `authority` or `facilitator`. */
  readonly scope: string;
  readonly scopeKey?: string;
}

/** A payer's nonce account in one mint as a relayer shows it. */
export interface PayerView {
  readonly payer: string;
  readonly mint: string;
  /** Also the delegate that the payer approves. */
  readonly nonceAccount: string;
  readonly openedSlot: string;
  /** The token account that it may pull from. */
  readonly source: string;
  readonly balance: string | null;
  /** What may still be pulled. */
  readonly delegated: string;
  readonly frozen: boolean;
  /** Payments that are being settled. */
  readonly inFlight: string;
  readonly spentTotal: string;
  /** The chain's clock, unix seconds. */
  readonly now: number;
  readonly lanes: readonly LaneView[];
}

/** A payment as a relayer's ledger has it. */
export interface IntentView {
  readonly digest: string;
  readonly scheme: string;
  /** `admitted`, `batched`, `signed`, `sent`, `confirmed`, `finalized`, `failed` or `expired`. */
  readonly state: string;
  /** Whether the state can no longer change by itself. */
  readonly isFinal: boolean;
  readonly payer: string;
  readonly service: string;
  readonly asset: string;
  readonly amount: string;
  readonly transaction?: string;
  readonly index?: number;
  readonly lamports?: number;
  readonly reason?: string;
  readonly message?: string;
}

/** A relayer's answer that is no verdict, or no answer. */
export class RelayerError extends Error {
  override readonly name = "RelayerError";

  constructor(
    message: string,
    /** The relayer's word for it; `unreachable` when it could not be asked. */
    readonly code: string,
    /** HTTP status, if there was an answer. */
    readonly status?: number,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** What a relayer says beyond x402, under `/v1`. */
export class Relayer {
  /** Without a slash at its end. */
  readonly url: string;
  readonly #fetch: typeof fetch;

  constructor(url: string, options: { readonly fetch?: typeof fetch } = {}) {
    this.url = new URL(url).href.replace(/\/+$/, "");
    this.#fetch = options.fetch ?? ((input, init) => fetch(input, init));
  }

  /** A service's terms. */
  service(service: Address): Promise<ServiceView> {
    return this.#get<ServiceView>(`/v1/services/${service}`);
  }

  /** A payer's budget in one mint, with its next nonces. */
  payer(payer: Address, mint: Address): Promise<PayerView> {
    return this.#get<PayerView>(`/v1/payers/${payer}?mint=${mint}`);
  }

  /** The state of a payment, by the hex of its digest. */
  intent(digest: string): Promise<IntentView> {
    return this.#get<IntentView>(`/v1/intents/${encodeURIComponent(digest)}`);
  }

  async #get<T>(path: string): Promise<T> {
    const url = this.url + path;
    let status: number | undefined;
    let body: unknown;
    try {
      const response = await this.#fetch(url, { signal: AbortSignal.timeout(TIMEOUT_MS) });
      status = response.status;
      body = await response.json();
    } catch (cause) {
      throw new RelayerError(`${url} gave no usable answer: ${String(cause)}`, "unreachable", status, { cause });
    }
    if (status === 200) return record("answer", body) as T;
    const { error, message } = (body ?? {}) as { error?: unknown; message?: unknown };
    throw new RelayerError(`${url} answered ${status}: ${String(message ?? error)}`, String(error), status);
  }
}
