import {
  AccountRole,
  type AccountMeta,
  type AccountSignerMeta,
  type Address,
  type Instruction,
  type TransactionSigner,
} from "@solana/kit";

import { join, littleEndian } from "../core/bytes.js";
import { scopeParts, type LaneTerms } from "../core/lane.js";
import {
  acceptedMintAddress,
  addressBytes,
  nonceAccountAddress,
  PROGRAM_ID,
  SYSTEM_PROGRAM,
  TOKEN_PROGRAM,
  tokenAccountAddress,
} from "../core/program.js";

/** First bytes of instructions, as in the IDL. */
const OPEN_NONCE = Uint8Array.of(86, 162, 25, 36, 119, 143, 110, 223);
const SET_LANE = Uint8Array.of(188, 69, 253, 134, 75, 141, 73, 183);
const SET_SOURCE = Uint8Array.of(136, 61, 231, 10, 214, 70, 18, 31);
const CLOSE_NONCE = Uint8Array.of(251, 32, 189, 191, 213, 66, 6, 105);
/** Of the token programs. */
const REVOKE = 5;
const APPROVE_CHECKED = 13;
const ZERO = new Uint8Array(32);

/** A mint, with what a token instruction says of it. */
export interface MintInfo {
  readonly mint: Address;
  readonly decimals: number;
  /** The classic one, if it is not given. */
  readonly tokenProgram?: Address | undefined;
}

/** Opens the payer's account for payments in a mint. It may pull from `source` alone, the associated one by default. */
export async function openNonce(options: {
  readonly payer: TransactionSigner;
  readonly rentPayer?: TransactionSigner | undefined;
  readonly mint: MintInfo;
  readonly source?: Address | undefined;
}): Promise<Instruction> {
  const { payer, rentPayer = payer, mint } = options;
  const source = options.source ?? (await tokenAccountAddress(payer.address, mint.mint, mint.tokenProgram));
  return instruction(PROGRAM_ID, OPEN_NONCE, [
    signer(rentPayer, AccountRole.WRITABLE_SIGNER),
    signer(payer, AccountRole.READONLY_SIGNER),
    readonly(await acceptedMintAddress(mint.mint)),
    readonly(mint.mint),
    readonly(source),
    writable(await nonceAccountAddress(payer.address, mint.mint)),
    readonly(SYSTEM_PROGRAM),
  ]);
}

/** Sets a lane: 0 the payer's own key, 1 a session key. */
export async function setLaneInstruction(
  payer: TransactionSigner,
  mint: Address,
  lane: number,
  terms: LaneTerms,
): Promise<Instruction> {
  const scope = scopeParts(terms.scope);
  const data = join(
    SET_LANE,
    littleEndian(lane, 1),
    terms.key === undefined ? ZERO : addressBytes(terms.key),
    littleEndian(terms.expiresAt, 8),
    littleEndian(terms.maxPerPayment, 8),
    littleEndian(terms.periodLimit, 8),
    littleEndian(terms.periodSecs, 8),
    littleEndian(terms.totalLimit, 8),
    littleEndian(scope.kind, 1),
    scope.key,
  );
  return instruction(PROGRAM_ID, data, [
    signer(payer, AccountRole.READONLY_SIGNER),
    writable(await nonceAccountAddress(payer.address, mint)),
  ]);
}

/** Pins another of the payer's token accounts as the one that may be pulled from. */
export async function setSource(payer: TransactionSigner, mint: Address, source: Address): Promise<Instruction> {
  return instruction(PROGRAM_ID, SET_SOURCE, [
    signer(payer, AccountRole.READONLY_SIGNER),
    writable(await nonceAccountAddress(payer.address, mint)),
    readonly(source),
  ]);
}

/** Closes the payer's account, and gives the rent back to who paid it. */
export async function closeNonce(payer: TransactionSigner, mint: Address, rentPayer: Address): Promise<Instruction> {
  return instruction(PROGRAM_ID, CLOSE_NONCE, [
    signer(payer, AccountRole.READONLY_SIGNER),
    writable(await nonceAccountAddress(payer.address, mint)),
    writable(rentPayer),
  ]);
}

/**
 * Approves a budget. It replaces whatever was approved from that token account before, also to another program: see
 * {@link otherDelegate}.
 */
export async function approveBudget(payer: TransactionSigner, mint: MintInfo, amount: bigint): Promise<Instruction> {
  const tokenProgram = mint.tokenProgram ?? TOKEN_PROGRAM;
  const data = join(Uint8Array.of(APPROVE_CHECKED), littleEndian(amount, 8), littleEndian(mint.decimals, 1));
  return instruction(tokenProgram, data, [
    writable(await tokenAccountAddress(payer.address, mint.mint, tokenProgram)),
    readonly(mint.mint),
    readonly(await nonceAccountAddress(payer.address, mint.mint)),
    signer(payer, AccountRole.READONLY_SIGNER),
  ]);
}

/** Takes back whatever was approved. */
export async function revokeBudget(payer: TransactionSigner, mint: MintInfo): Promise<Instruction> {
  const tokenProgram = mint.tokenProgram ?? TOKEN_PROGRAM;
  return instruction(tokenProgram, Uint8Array.of(REVOKE), [
    writable(await tokenAccountAddress(payer.address, mint.mint, tokenProgram)),
    signer(payer, AccountRole.READONLY_SIGNER),
  ]);
}

function instruction(
  programAddress: Address,
  data: Uint8Array,
  accounts: readonly (AccountMeta | AccountSignerMeta)[],
): Instruction {
  return { programAddress, accounts, data };
}

function signer(key: TransactionSigner, role: AccountRole.READONLY_SIGNER | AccountRole.WRITABLE_SIGNER): AccountSignerMeta {
  return { address: key.address, role, signer: key };
}

function readonly(address: Address): AccountMeta {
  return { address, role: AccountRole.READONLY };
}

function writable(address: Address): AccountMeta {
  return { address, role: AccountRole.WRITABLE };
}
