import type { Address } from "@solana/kit";

import { WireError } from "../core/bytes.js";
import { caip2 } from "../core/network.js";
import { PROGRAM_ID } from "../core/program.js";
import { checkedTermsHash, readAddress, readExtra, type SplitExtra } from "../core/wire.js";
import type { Relayer, ServiceView } from "../relayer.js";

/** After a refusal, which may mean that the terms have changed, they are loaded again this many times sooner. */
const SOONER = 12;

/** A service's terms, checked. */
export interface ServiceTerms {
  readonly view: ServiceView;
  readonly extra: SplitExtra;
}

interface Known {
  terms: Promise<ServiceTerms>;
  triedAt: number;
}

/**
 * The terms of services, loaded from a relayer and loaded again when they are old. When that fails the known ones serve on:
 * if they have changed, the relayer refuses the payment and nothing is charged.
 */
export class TermsCache {
  readonly #known = new Map<Address, Known>();

  constructor(
    readonly relayer: Relayer,
    readonly ageMs: number,
  ) {}

  /** The terms of a service. */
  async of(service: Address): Promise<ServiceTerms> {
    const known = this.#known.get(service);
    const now = Date.now();
    if (known === undefined) {
      const fresh = { terms: this.#load(service), triedAt: now };
      this.#known.set(service, fresh);
      fresh.terms.catch(() => this.#known.delete(service));
      return fresh.terms;
    }
    if (now - known.triedAt >= this.ageMs) {
      known.triedAt = now;
      const before = known.terms;
      known.terms = this.#load(service).catch((error: unknown) => {
        console.warn(`terms of ${service} not loaded again: ${String(error)}`);
        return before;
      });
    }
    return known.terms;
  }

  /** Lets the terms be loaded again soon: a payment for them was refused. */
  refused(service: Address): void {
    const known = this.#known.get(service);
    if (known === undefined) return;
    known.triedAt = Math.min(known.triedAt, Date.now() - this.ageMs + this.ageMs / SOONER);
  }

  async #load(service: Address): Promise<ServiceTerms> {
    const view = await this.relayer.service(service);
    const extra = readExtra(view.extra);
    const wrong = (field: string, found: string, expected: string): WireError =>
      new WireError(field, `${found} instead of ${expected}`);
    if (view.service !== service) throw wrong("service", view.service, service);
    if (view.payTo !== service) throw wrong("payTo", view.payTo, service);
    if (extra.service !== service) throw wrong("extra.service", extra.service, service);
    if (extra.program !== PROGRAM_ID) throw wrong("extra.program", extra.program, PROGRAM_ID);
    if (caip2(view.network) === undefined) throw wrong("network", view.network, "a network of Solana");
    if (!view.settlesHere) {
      const problem = "this relayer does not settle for it: it is closed, of another facilitator, or its mint is off";
      throw new WireError("service", problem);
    }
    await checkedTermsHash(extra, readAddress("asset", view.asset));
    return { view, extra };
  }
}
