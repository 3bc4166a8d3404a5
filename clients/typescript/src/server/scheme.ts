import type { HTTPRequestContext, HTTPTransportContext } from "@x402/core/server";
import type {
  AssetAmount,
  Network,
  PaymentFlowConfig,
  PaymentRequirements,
  Price,
  SchemeNetworkServer,
  SchemeServerHooks,
  SupportedKind,
  VerifyContext,
} from "@x402/core/types";
import { convertToTokenAmount, parseMoney } from "@x402/core/utils";

import { readU64, same, WireError } from "../core/bytes.js";
import { caip2, usdc } from "../core/network.js";
import { PROGRAM_ID } from "../core/program.js";
import { readResource, requestTag } from "../core/resource.js";
import { readAddress, readPayload, SCHEME } from "../core/wire.js";
import { Relayer } from "../relayer.js";
import { rawBody } from "./body.js";
import { TermsCache } from "./terms.js";

/** The reason for a payment that was signed for another method, URL or body. */
export const RESOURCE_MISMATCH = "invalid_sluice_split_resource_mismatch";
/** The reason when a body's bytes are not known any more: the server's set-up is to be mended. */
export const BODY_UNKNOWN = "invalid_sluice_split_body_unknown";

const DEFAULT_TERMS_AGE_MS = 60_000;

/** How a server asks for payments. */
export interface SluiceSplitServerOptions {
  /** The relayer's URL, which is the facilitator's as well. */
  readonly relayer: string | Relayer;
  /**
   * What stands before the path in the URLs that clients ask for, like `https://api.example.com`. It is not taken from the
   * request's `Host`, because a payment is for a URL and the sender of a request chooses its `Host`.
   */
  readonly publicUrl: string;
  /** Load terms again when they are this old, instead of 60 s. */
  readonly termsAgeMs?: number;
  /** The bytes of a request's body, for frameworks that this package does not know. */
  readonly body?: (request: HTTPRequestContext) => Promise<Uint8Array | undefined>;
}

/**
 * The server's half of `sluice-split`: register it with `x402ResourceServer`, and let a route accept
 * `{ scheme: "sluice-split", network, payTo: service, price }`.
 */
export class SluiceSplitServer implements SchemeNetworkServer {
  readonly scheme = SCHEME;
  readonly defaultAssetTransferMethod = "default";
  readonly paymentFlows: Readonly<Record<string, PaymentFlowConfig>> = {
    default: { supported: ["authorization"], default: "authorization" },
  };
  readonly schemeHooks: SchemeServerHooks = {
    // A hook that throws is passed over by the official server, so this one answers whatever happens.
    onBeforeVerify: async (context) => {
      try {
        return await this.#checkRequest(context);
      } catch (error) {
        return { abort: true, reason: "invalid_payload", message: String(error) };
      }
    },
    onAfterVerify: async ({ result, requirements }) => {
      if (!result.isValid) this.#terms.refused(readAddress("payTo", requirements.payTo));
    },
    onSettleFailure: async ({ requirements }) => {
      this.#terms.refused(readAddress("payTo", requirements.payTo));
    },
  };
  readonly #terms: TermsCache;
  readonly #base: string;
  readonly #body: (request: HTTPRequestContext) => Promise<Uint8Array | undefined>;

  constructor(options: SluiceSplitServerOptions) {
    const relayer = typeof options.relayer === "string" ? new Relayer(options.relayer) : options.relayer;
    this.#terms = new TermsCache(relayer, options.termsAgeMs ?? DEFAULT_TERMS_AGE_MS);
    this.#base = publicBase(options.publicUrl);
    this.#body = options.body ?? ((request) => rawBody(request.adapter));
  }

  /** Dollars are USDC; anything else is given as `{ amount, asset }` in atomic units of the service's mint. */
  async parsePrice(price: Price, network: Network): Promise<AssetAmount> {
    if (typeof price === "object") {
      if (!price.asset) throw new WireError("price.asset", "is missing: give the service's mint");
      return { amount: readU64("price.amount", price.amount).toString(), asset: price.asset, extra: price.extra ?? {} };
    }
    const { amount, symbol } = parseMoney(price);
    const known = usdc(network);
    if (known === undefined || (symbol !== undefined && symbol !== known.symbol)) {
      throw new WireError("price", `${price} has no known mint on ${network}: give { amount, asset }`);
    }
    return { amount: convertToTokenAmount(amount, known.decimals), asset: known.asset, extra: {} };
  }

  getAssetDecimals(asset: string, network: Network): number | undefined {
    const known = usdc(network);
    return known?.asset === asset ? known.decimals : undefined;
  }

  /** Adds the service's terms, as the relayer shows them and after they were checked. */
  async enhancePaymentRequirements(
    requirements: PaymentRequirements,
    supportedKind: SupportedKind,
    _facilitatorExtensions: string[],
  ): Promise<PaymentRequirements> {
    const { view, extra } = await this.#terms.of(readAddress("payTo", requirements.payTo));
    if (caip2(view.network) !== caip2(requirements.network)) {
      throw new WireError("network", `the service is on ${view.network}, and the route asks on ${requirements.network}`);
    }
    const advertised = supportedKind.extra?.["genesisHash"];
    if (advertised !== undefined && advertised !== extra.genesisHash) {
      throw new WireError("extra.genesisHash", `${extra.genesisHash} is not the facilitator's cluster`);
    }
    if (view.asset !== requirements.asset) {
      throw new WireError("price", `the service is paid in ${view.asset}: give { amount, asset: "${view.asset}" }`);
    }
    const least = readU64("minPayment", view.minPayment);
    if (readU64("amount", requirements.amount) < least) {
      throw new WireError("price", `${requirements.amount} units are below the service's minimum of ${least}`);
    }
    return {
      ...requirements,
      maxTimeoutSeconds: Math.min(requirements.maxTimeoutSeconds, view.maxIntentTtl),
      extra: { ...requirements.extra, ...extra },
    };
  }

  validateFacilitatorSupport(_network: Network, supportedKind: SupportedKind): string | undefined {
    const program = supportedKind.extra?.["program"];
    return program === PROGRAM_ID ? undefined : `the facilitator settles with program ${String(program)}, not ${PROGRAM_ID}`;
  }

  /** What the facilitator cannot see: whether the payment is for the request that it came with. */
  async #checkRequest({ paymentPayload, transportContext }: VerifyContext) {
    const payload = readPayload(paymentPayload.payload);
    const request = (transportContext as HTTPTransportContext | undefined)?.request;
    if (request === undefined) {
      return refusal(RESOURCE_MISMATCH, `${SCHEME} pays for HTTP requests, and this is none`);
    }
    const body = await this.#body(request);
    if (body === undefined) {
      const message =
        "the body was parsed before the payment was checked, and its bytes are gone: use express.json({ verify: keepRawBody }), or express.raw";
      console.warn(`${SCHEME}: ${message}`);
      return refusal(BODY_UNKNOWN, message);
    }
    const method = request.adapter.getMethod();
    const url = this.#url(request);
    if (same(readResource(payload.resource), await requestTag(method, url, body))) return undefined;
    return refusal(RESOURCE_MISMATCH, `the payment was signed for another method, URL or body than ${method} ${url}`);
  }

  /** The URL as the client sees it: the public base, and path and query as they came. */
  #url({ adapter }: HTTPRequestContext): string {
    const url = adapter.getUrl();
    const host = adapter.getHeader("host") ?? "";
    const origin = ["http://", "https://"].map((scheme) => scheme + host).find((each) => url.startsWith(each));
    const path = origin === undefined ? new URL(url).pathname + new URL(url).search : url.slice(origin.length);
    return this.#base + path;
  }
}

function refusal(reason: string, message: string): { abort: true; reason: string; message: string } {
  return { abort: true, reason, message };
}

function publicBase(text: string): string {
  const url = new URL(text);
  const isBare = url.search === "" && url.hash === "" && url.username === "" && url.password === "";
  if (!["http:", "https:"].includes(url.protocol) || !isBare) {
    throw new WireError("publicUrl", `${text} must be an http or https URL without query, fragment and credentials`);
  }
  return url.href.replace(/\/+$/, "");
}
