import { address, type Address } from "@solana/kit";

import { readU64 } from "../core/bytes.js";
import { nonceAccountAddress } from "../core/program.js";
import { MAX_JUMP } from "../core/window.js";
import { Relayer, RelayerError } from "../relayer.js";

/** How long a nonce is kept from the next caller: longer than an intent lives. Of two intents with one nonce one lands. */
const HOLD_MS = 330_000;

/** For whom a nonce is asked. */
export interface NonceRequest {
  readonly payer: Address;
  readonly mint: Address;
  /** The key that will sign. */
  readonly key: Address;
}

/** Where the next intent of a payer stands. */
export interface NonceGrant {
  readonly nonceAccount: Address;
  readonly openedSlot: bigint;
  readonly lane: number;
  readonly nonce: bigint;
}

/** Gives out nonces. Two calls at once must not be given the same one, or only one of the two payments lands. */
export interface NonceSource {
  next(request: NonceRequest): Promise<NonceGrant>;
}

/** Why there is no nonce. */
export class NonceError extends Error {
  override readonly name = "NonceError";

  constructor(
    readonly reason: "not_opened" | "no_lane" | "too_many_in_flight" | "foreign_account",
    message: string,
  ) {
    super(message);
  }
}

/**
 * Asks a relayer, which counts what it has in flight, and keeps apart the callers in this process. Processes that share a
 * key should have one source between them.
 */
export class RelayerNonces implements NonceSource {
  readonly #relayer: Relayer;
  readonly #held = new Map<string, number>();

  constructor(relayer: Relayer | string) {
    this.#relayer = typeof relayer === "string" ? new Relayer(relayer) : relayer;
  }

  async next({ payer, mint, key }: NonceRequest): Promise<NonceGrant> {
    const view = await this.#relayer.payer(payer, mint).catch((error: unknown) => {
      if (error instanceof RelayerError && error.code === "nonce_account_not_found") {
        throw new NonceError("not_opened", `${payer} has opened no account for payments in ${mint}: open it first`);
      }
      throw error;
    });
    const nonceAccount = await nonceAccountAddress(payer, mint);
    if (view.nonceAccount !== nonceAccount) {
      const message = `the relayer names ${view.nonceAccount} as the payer's nonce account, which is ${nonceAccount}`;
      throw new NonceError("foreign_account", message);
    }
    const lane = view.lanes.find((each) => each.key === key);
    if (lane === undefined) throw new NonceError("no_lane", `no open lane of ${payer} has the key ${key}`);
    if (lane.nextNonce === null) throw tooMany();
    const openedSlot = readU64("openedSlot", view.openedSlot);
    const first = readU64("nextNonce", lane.nextNonce);
    return {
      nonceAccount: address(nonceAccount),
      openedSlot,
      lane: lane.lane,
      nonce: this.#take(`${nonceAccount}/${openedSlot}/${lane.lane}`, first),
    };
  }

  /** The first nonce from `first` on that nobody here was given lately. */
  #take(place: string, first: bigint): bigint {
    const now = Date.now();
    for (const [held, since] of this.#held) if (now - since >= HOLD_MS) this.#held.delete(held);
    for (let nonce = first; nonce < first + MAX_JUMP; nonce += 1n) {
      const held = `${place}/${nonce}`;
      if (this.#held.has(held)) continue;
      this.#held.set(held, now);
      return nonce;
    }
    throw tooMany();
  }
}

function tooMany(): NonceError {
  const message = `${MAX_JUMP} payments of this lane are under way: wait until some have landed or expired`;
  return new NonceError("too_many_in_flight", message);
}
