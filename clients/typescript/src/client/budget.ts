import {
  address,
  fetchEncodedAccount,
  type Address,
  type GetAccountInfoApi,
  type Instruction,
  type Rpc,
  type TransactionSigner,
} from "@solana/kit";

import { fromLittleEndian, same, toBase58, UNLIMITED, WireError } from "../core/bytes.js";
import { decodeLane, LANE_LEN, LANES, NEVER, type Lane, type Scope } from "../core/lane.js";
import { nonceAccountAddress, PROGRAM_ID, TOKEN_2022_PROGRAM, TOKEN_PROGRAM, tokenAccountAddress } from "../core/program.js";
import { approveBudget, openNonce, setLaneInstruction, type MintInfo } from "./instructions.js";

const NONCE_ACCOUNT = Uint8Array.of(110, 202, 133, 201, 147, 206, 238, 84);
const HEAD_LEN = 8 + 3 * 8 + 4 * 32 + 8 + 64;
const VERSION_AT = 8 + 3 * 8 + 4 * 32;
const VERSION = 1;

/** A payer's nonce account as it lies on chain. */
export interface NonceAccount {
  readonly address: Address;
  /** Slot in which it was opened. */
  readonly openedSlot: bigint;
  /** Unix second of the last settlement, or of opening. */
  readonly lastActive: bigint;
  /** Atomic units ever pulled. */
  readonly spentTotal: bigint;
  readonly payer: Address;
  readonly mint: Address;
  /** The one token account that may be pulled from. */
  readonly source: Address;
  readonly rentPayer: Address;
  readonly lanes: readonly Lane[];
}

/** A payer's budget: the account, and what may still be pulled. */
export interface Budget {
  readonly account: NonceAccount;
  /** Atomic units in the source; `undefined` when it is not usable. */
  readonly balance: bigint | undefined;
  /** Atomic units that are still approved; 0 if somebody else is the delegate. */
  readonly delegated: bigint;
}

/** What a session key may do. */
export interface SessionTerms {
  readonly key: Address;
  /** Atomic units; no limit if it is not given. So are the others. */
  readonly maxPerPayment?: bigint;
  readonly perPeriod?: { readonly limit: bigint; readonly seconds: bigint };
  readonly total?: bigint;
  /** Unix seconds. */
  readonly expiresAt?: bigint;
  readonly scope?: Scope;
}

/** What a token account shows of itself. */
interface Source {
  readonly mint: Uint8Array;
  readonly amount: bigint;
  readonly delegate: Address | undefined;
  readonly delegated: bigint;
}

/**
 * The instructions that open a payer's account, give a session key its limits and approve a budget: one transaction, which the
 * payer signs and anybody may pay for.
 */
export async function openBudget(options: {
  readonly payer: TransactionSigner;
  readonly rentPayer?: TransactionSigner;
  readonly mint: MintInfo;
  /** Atomic units. The upgrade authority of the program could spend them: keep it small. */
  readonly approve: bigint;
  readonly session: SessionTerms;
}): Promise<Instruction[]> {
  const { payer, rentPayer, mint, approve, session } = options;
  return [
    await openNonce({ payer, rentPayer, mint }),
    await sessionInstruction(payer, mint.mint, session),
    await approveBudget(payer, mint, approve),
  ];
}

/** The instruction that gives a session key its limits, in lane 1. */
export function sessionInstruction(payer: TransactionSigner, mint: Address, session: SessionTerms): Promise<Instruction> {
  return setLaneInstruction(payer, mint, 1, {
    key: session.key,
    expiresAt: session.expiresAt ?? NEVER,
    maxPerPayment: session.maxPerPayment ?? UNLIMITED,
    periodLimit: session.perPeriod?.limit ?? UNLIMITED,
    periodSecs: session.perPeriod?.seconds ?? 0n,
    totalLimit: session.total ?? UNLIMITED,
    scope: session.scope ?? { kind: "any" },
  });
}

/** Reads a payer's budget from the chain; `undefined` if none was opened. */
export async function readBudget(rpc: Rpc<GetAccountInfoApi>, payer: Address, mint: Address): Promise<Budget | undefined> {
  const key = await nonceAccountAddress(payer, mint);
  const found = await fetchEncodedAccount(rpc, key, { commitment: "confirmed" });
  if (!found.exists) return undefined;
  if (found.programAddress !== PROGRAM_ID) throw new WireError("nonceAccount", `${key} belongs to another program`);
  const account = decodeNonceAccount(key, Uint8Array.from(found.data));
  const source = await readSource(rpc, account.source);
  const delegated = source?.delegate === key ? source.delegated : 0n;
  return { account, balance: source?.amount, delegated };
}

/** Who else may spend from the payer's token account. An approval would replace that: ask first. */
export async function otherDelegate(
  rpc: Rpc<GetAccountInfoApi>,
  payer: Address,
  mint: MintInfo,
): Promise<Address | undefined> {
  const source = await readSource(rpc, await tokenAccountAddress(payer, mint.mint, mint.tokenProgram));
  const ours = await nonceAccountAddress(payer, mint.mint);
  return source?.delegate === ours ? undefined : source?.delegate;
}

/** Reads the data of a nonce account. */
export function decodeNonceAccount(key: Address, data: Uint8Array): NonceAccount {
  if (data.length < HEAD_LEN + LANES * LANE_LEN || !same(data.subarray(0, 8), NONCE_ACCOUNT)) {
    throw new WireError("nonceAccount", `${key} is not a nonce account of the Sluice program`);
  }
  const version = data[VERSION_AT];
  if (version !== VERSION) throw new WireError("nonceAccount", `layout version ${version}: upgrade this package`);
  const u64 = (at: number): bigint => fromLittleEndian(data.subarray(at, at + 8));
  const owner = (at: number): Address => address(toBase58(data.subarray(at, at + 32)));
  return {
    address: key,
    openedSlot: u64(8),
    lastActive: BigInt.asIntN(64, u64(16)),
    spentTotal: u64(24),
    payer: owner(32),
    mint: owner(64),
    source: owner(96),
    rentPayer: owner(128),
    lanes: Array.from({ length: LANES }, (_, lane) => {
      const at = HEAD_LEN + lane * LANE_LEN;
      return decodeLane(data.subarray(at, at + LANE_LEN));
    }),
  };
}

/** Both token programs lay the head of an account out alike. */
async function readSource(rpc: Rpc<GetAccountInfoApi>, key: Address): Promise<Source | undefined> {
  const found = await fetchEncodedAccount(rpc, key, { commitment: "confirmed" });
  if (!found.exists || found.data.length < 165) return undefined;
  if (found.programAddress !== TOKEN_PROGRAM && found.programAddress !== TOKEN_2022_PROGRAM) return undefined;
  const data = Uint8Array.from(found.data);
  return {
    mint: data.slice(0, 32),
    amount: fromLittleEndian(data.subarray(64, 72)),
    delegate: data[72] === 1 ? address(toBase58(data.subarray(76, 108))) : undefined,
    delegated: fromLittleEndian(data.subarray(121, 129)),
  };
}
