import { address, getAddressEncoder, getProgramDerivedAddress, type Address } from "@solana/kit";

import { littleEndian, utf8 } from "./bytes.js";

/** The Sluice program. */
export const PROGRAM_ID = address("HRDPxHoikcwxEKixTK5uV9X9VcnpRwNZUsC6ZmHdLimi");
/** The classic token program. */
export const TOKEN_PROGRAM = address("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA");
/** Token-2022. */
export const TOKEN_2022_PROGRAM = address("TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb");
/** The program that derives token accounts. */
export const ASSOCIATED_TOKEN_PROGRAM = address("ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL");
/** The system program. */
export const SYSTEM_PROGRAM = address("11111111111111111111111111111111");

/** The bytes of an address. */
export function addressBytes(key: Address): Uint8Array {
  return Uint8Array.from(getAddressEncoder().encode(key));
}

async function derive(program: Address, seeds: readonly Uint8Array[]): Promise<Address> {
  const [found] = await getProgramDerivedAddress({ programAddress: program, seeds: [...seeds] });
  return found;
}

/** A payer's nonce account in one mint: also the delegate that the payer approves. */
export function nonceAccountAddress(payer: Address, mint: Address): Promise<Address> {
  return derive(PROGRAM_ID, [utf8("nonce"), addressBytes(payer), addressBytes(mint)]);
}

/** The acceptance of a mint. */
export function acceptedMintAddress(mint: Address): Promise<Address> {
  return derive(PROGRAM_ID, [utf8("mint"), addressBytes(mint)]);
}

/** A facilitator account. */
export function facilitatorAddress(creator: Address): Promise<Address> {
  return derive(PROGRAM_ID, [utf8("facilitator"), addressBytes(creator)]);
}

/** A service, which `payTo` names. */
export function serviceAddress(creator: Address, id: bigint): Promise<Address> {
  return derive(PROGRAM_ID, [utf8("service"), addressBytes(creator), littleEndian(id, 8)]);
}

/** The associated token account of an owner for a mint. */
export function tokenAccountAddress(
  owner: Address,
  mint: Address,
  tokenProgram: Address = TOKEN_PROGRAM,
): Promise<Address> {
  return derive(ASSOCIATED_TOKEN_PROGRAM, [
    addressBytes(owner),
    addressBytes(tokenProgram),
    addressBytes(mint),
  ]);
}
