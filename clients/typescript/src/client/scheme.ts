import { address, type Address, type MessagePartialSigner } from "@solana/kit";
import type {
  DefaultAsset,
  Network,
  PaymentPayloadContext,
  PaymentPayloadResult,
  PaymentRequirements,
  SchemeNetworkClient,
} from "@x402/core/types";

import { fromBase58, readU64, toHex, WireError } from "../core/bytes.js";
import { signIntent, type SignedIntent } from "../core/intent.js";
import { caip2, isGenesisOf, usdc } from "../core/network.js";
import { nonceAccountAddress, PROGRAM_ID } from "../core/program.js";
import { checkedTermsHash, payloadOf, readAddress, readExtra, SCHEME } from "../core/wire.js";
import { type Relayer } from "../relayer.js";
import { RelayerNonces, type NonceSource } from "./nonces.js";
import { type AxiosLike, Observer } from "./observe.js";

/** Most seconds that an intent of this client lives. */
const MAX_LIFE = 300;
/** Seconds that an intent ends before the server's `maxTimeoutSeconds`, for clocks that differ. */
const MARGIN = 10;

/** Who pays, and by whose word. */
export interface SluiceSplitClientOptions {
  /** The lane's key: a session key that the payer has given limits, or the payer's own. */
  readonly signer: MessagePartialSigner;
  /** The wallet that is charged. The signer itself, if it is not given. */
  readonly payer?: Address | string;
  /** A relayer's URL, for nonces. */
  readonly relayer: string | Relayer;
  /** Where nonces come from instead. */
  readonly nonces?: NonceSource;
  /**
   * Genesis hash of the cluster that is paid on. It follows from the network's name, but for local validators, which are
   * declared as devnet.
   */
  readonly genesisHash?: string | undefined;
  /** Most atomic units of one payment, whatever the mint; the official client's spend controls hold as well. */
  readonly maxAmount?: bigint;
  /** Told of every intent that was signed, before it leaves. */
  readonly onSigned?: (signed: SignedIntent) => void | Promise<void>;
}

/** What a requirement asks, of either version, checked. */
interface Asked {
  readonly service: Address;
  readonly mint: Address;
  readonly amount: bigint;
  readonly maxTimeoutSeconds: number;
  readonly genesisHash: Uint8Array;
  readonly termsHash: Uint8Array;
}

/**
 * The client's half of `sluice-split`: register it with `x402Client`, and give {@link SluiceSplitClient.fetch} or
 * {@link SluiceSplitClient.axios} to the package that sends.
 */
export class SluiceSplitClient implements SchemeNetworkClient {
  readonly scheme = SCHEME;
  readonly #options: SluiceSplitClientOptions;
  readonly #payer: Address;
  readonly #nonces: NonceSource;
  readonly #observer = new Observer();

  constructor(options: SluiceSplitClientOptions) {
    this.#options = options;
    this.#payer = options.payer === undefined ? options.signer.address : address(options.payer);
    this.#nonces = options.nonces ?? new RelayerNonces(options.relayer);
  }

  /** Lets the scheme see the requests that it pays for: `wrapFetchWithPayment(scheme.fetch(fetch), client)`. */
  fetch(inner: typeof fetch): typeof fetch {
    return this.#observer.fetch(inner);
  }

  /** The same for axios: `wrapAxiosWithPayment(scheme.axios(axios.create()), client)`. */
  axios<T extends AxiosLike>(instance: T): T {
    return this.#observer.axios(instance);
  }

  /** What the official client's spend controls know a price in dollars by. */
  findDefaultAsset(asset: string, network: Network): DefaultAsset | undefined {
    const known = usdc(network);
    return known?.asset === asset ? known : undefined;
  }

  async createPaymentPayload(
    x402Version: number,
    requirements: PaymentRequirements,
    context?: PaymentPayloadContext,
  ): Promise<PaymentPayloadResult> {
    const asked = await this.#check(x402Version, requirements);
    const resource = this.#observer.tagOf(requirements, context?.extensions);
    const { signer, onSigned } = this.#options;
    const grant = await this.#nonces.next({ payer: this.#payer, mint: asked.mint, key: signer.address });
    const expected = await nonceAccountAddress(this.#payer, asked.mint);
    if (grant.nonceAccount !== expected) {
      throw new Error(`the nonce account ${grant.nonceAccount} is not the payer's, which is ${expected}`);
    }
    const signed = await signIntent(signer, {
      ...grant,
      genesisHash: asked.genesisHash,
      service: asked.service,
      termsHash: asked.termsHash,
      amount: asked.amount,
      expiresAt: intentExpiry(Math.floor(Date.now() / 1_000), asked.maxTimeoutSeconds),
      resource,
    });
    await onSigned?.(signed);
    const payload = { ...payloadOf(signed) };
    if (x402Version !== 1) return { x402Version, payload };
    const { scheme, network } = requirements;
    return { x402Version, scheme, network, payload } as PaymentPayloadResult;
  }

  async #check(x402Version: number, requirements: PaymentRequirements): Promise<Asked> {
    const network = caip2(requirements.network);
    if (network === undefined) throw new WireError("network", `${requirements.network} is not of Solana`);
    const extra = readExtra(requirements.extra);
    const mint = readAddress("asset", requirements.asset);
    const service = readAddress("payTo", requirements.payTo);
    if (extra.service !== service) throw new WireError("extra.service", `${extra.service} is not payTo, ${service}`);
    if (extra.program !== PROGRAM_ID) throw new WireError("extra.program", `${extra.program} is not the Sluice program`);
    const { genesisHash, maxAmount } = this.#options;
    const ours = genesisHash === undefined ? isGenesisOf(network, extra.genesisHash) : extra.genesisHash === genesisHash;
    if (!ours) {
      throw new WireError("extra.genesisHash", `${extra.genesisHash} is another cluster than this payer pays on`);
    }
    const termsHash = await checkedTermsHash(extra, mint);
    const text = x402Version === 1 ? (requirements as { maxAmountRequired?: unknown }).maxAmountRequired : requirements.amount;
    const amount = readU64("amount", text);
    if (amount === 0n) throw new WireError("amount", "is 0");
    if (maxAmount !== undefined && amount > maxAmount) {
      throw new WireError("amount", `${amount} units are asked, and this client pays at most ${maxAmount}`);
    }
    const { maxTimeoutSeconds } = requirements;
    if (!Number.isInteger(maxTimeoutSeconds) || maxTimeoutSeconds <= 0) {
      throw new WireError("maxTimeoutSeconds", "leaves no time to settle in");
    }
    return {
      service,
      mint,
      amount,
      maxTimeoutSeconds,
      genesisHash: fromBase58("extra.genesisHash", extra.genesisHash, 32),
      termsHash,
    };
  }
}

/** The last second of an intent that is signed `now`: before the server stops waiting, and soon. */
export function intentExpiry(now: number, maxTimeoutSeconds: number): number {
  const margin = Math.min(MARGIN, Math.floor(maxTimeoutSeconds / 3));
  const at = now + Math.min(maxTimeoutSeconds - margin, MAX_LIFE);
  if (now > 0 && at <= 0xffff_ffff) return at;
  throw new Error(`the clock shows ${now}, which is no time to sign a payment at: set it`);
}

/** Hex of a signed intent's digest: the payment's name everywhere. */
export function digestOf(signed: SignedIntent): string {
  return toHex(signed.digest);
}
