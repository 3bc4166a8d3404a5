import {
  createSignableMessage,
  type Address,
  type MessagePartialSigner,
  type SignatureBytes,
} from "@solana/kit";

import { join, littleEndian, sha256, utf8, WireError } from "./bytes.js";
import { addressBytes, PROGRAM_ID } from "./program.js";
import { RESOURCE_LEN } from "./resource.js";
import { verifySignature } from "./signature.js";

const DOMAIN = utf8("sluice/intent/1");
const MESSAGE_TAG = utf8("sluice1\n");

/** What a payer signs, with the context that its digest pins. */
export interface Intent {
  /** Genesis hash of the cluster, 32 bytes. */
  readonly genesisHash: Uint8Array;
  /** The payer's nonce account. */
  readonly nonceAccount: Address;
  /** Slot in which it was opened: a reopened account revives nothing. */
  readonly openedSlot: bigint;
  /** The lane whose key signs. */
  readonly lane: number;
  /** The service that is paid. */
  readonly service: Address;
  /** Hash of the terms that the payer was shown. */
  readonly termsHash: Uint8Array;
  /** Atomic units of the service's mint. */
  readonly amount: bigint;
  /** Nonce in the lane's window. */
  readonly nonce: bigint;
  /** The last unix second in which it may land. */
  readonly expiresAt: number | bigint;
  /** What is bought, 16 bytes. */
  readonly resource: Uint8Array;
}

/** An intent with its signature. */
export interface SignedIntent {
  readonly intent: Intent;
  /** The lane key's, 64 bytes. */
  readonly signature: Uint8Array;
  /** The payment's name everywhere. */
  readonly digest: Uint8Array;
}

/** The digest: SHA-256 over domain and fields, integers little-endian. */
export function intentDigest(intent: Intent, program: Address = PROGRAM_ID): Promise<Uint8Array> {
  const bytes = (name: string, value: Uint8Array, length: number): Uint8Array => {
    if (value.length === length) return value;
    throw new WireError(name, `${value.length} bytes instead of ${length}`);
  };
  return sha256(
    DOMAIN,
    bytes("genesisHash", intent.genesisHash, 32),
    addressBytes(program),
    addressBytes(intent.nonceAccount),
    littleEndian(intent.openedSlot, 8),
    littleEndian(intent.lane, 1),
    addressBytes(intent.service),
    bytes("termsHash", intent.termsHash, 32),
    littleEndian(intent.amount, 8),
    littleEndian(intent.nonce, 8),
    littleEndian(intent.expiresAt, 8),
    bytes("resource", intent.resource, RESOURCE_LEN),
  );
}

/** The 40 bytes that a lane's key signs for a digest. They can never be a transaction. */
export function intentMessage(digest: Uint8Array): Uint8Array {
  return join(MESSAGE_TAG, digest);
}

/** Signs an intent with a lane's key, and checks the signature as the program will. */
export async function signIntent(signer: MessagePartialSigner, intent: Intent): Promise<SignedIntent> {
  const digest = await intentDigest(intent);
  const message = intentMessage(digest);
  const [signatures] = await signer.signMessages([createSignableMessage(message)]);
  const signature: SignatureBytes | undefined = signatures?.[signer.address];
  if (!signature || !(await verifySignature(addressBytes(signer.address), message, signature))) {
    throw new Error(`the signer of ${signer.address} gave no signature of that key over the 40 bytes of the intent`);
  }
  return { intent, signature: Uint8Array.from(signature), digest };
}

/** Whether a signed intent is signed by `key`, by the program's criterion. */
export async function isSignedBy(signed: Pick<SignedIntent, "intent" | "signature">, key: Address): Promise<boolean> {
  const message = intentMessage(await intentDigest(signed.intent));
  return verifySignature(addressBytes(key), message, signed.signature);
}
