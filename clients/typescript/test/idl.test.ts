import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, it } from "node:test";

import { createKeyPairSignerFromPrivateKeyBytes, type Address } from "@solana/kit";

import {
  closeNonce,
  decodeNonceAccount,
  NEVER,
  nonceAccountAddress,
  openNonce,
  PROGRAM_ID,
  setLaneInstruction,
  setSource,
  UNLIMITED,
} from "../src/index.js";

interface Idl {
  readonly address: string;
  readonly instructions: readonly {
    readonly name: string;
    readonly discriminator: readonly number[];
    readonly accounts: readonly { readonly name: string; readonly writable?: boolean; readonly signer?: boolean }[];
  }[];
  readonly accounts: readonly { readonly name: string; readonly discriminator: readonly number[] }[];
}

const IDL = JSON.parse(readFileSync(new URL("../../../../idl/sluice.json", import.meta.url), "utf8")) as Idl;
const MINT = "4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU" as Address;

describe("the program's interface, as idl/sluice.json has it", async () => {
  const payer = await createKeyPairSignerFromPrivateKeyBytes(new Uint8Array(32).fill(1));
  const built = {
    open_nonce: await openNonce({ payer, mint: { mint: MINT, decimals: 6 } }),
    set_lane: await setLaneInstruction(payer, MINT, 1, {
      key: payer.address,
      expiresAt: NEVER,
      maxPerPayment: UNLIMITED,
      periodLimit: 1n,
      periodSecs: 2n,
      totalLimit: 3n,
      scope: { kind: "any" },
    }),
    set_source: await setSource(payer, MINT, MINT),
    close_nonce: await closeNonce(payer, MINT, payer.address),
  };

  it("is of the same program", () => assert.equal(PROGRAM_ID, IDL.address));

  for (const [name, instruction] of Object.entries(built)) {
    it(`${name} has its discriminator and accounts`, () => {
      const wanted = IDL.instructions.find((each) => each.name === name);
      assert.ok(wanted);
      assert.deepEqual([...(instruction.data?.subarray(0, 8) ?? [])], wanted.discriminator);
      const roles = (instruction.accounts ?? []).map(({ role }) => ({ signer: (role & 2) !== 0, writable: (role & 1) !== 0 }));
      assert.deepEqual(
        roles,
        wanted.accounts.map(({ signer = false, writable = false }) => ({ signer, writable })),
      );
    });
  }

  it("set_lane has the arguments' bytes", () => assert.equal(built.set_lane.data?.length, 8 + 1 + 32 + 5 * 8 + 1 + 32));

  it("a nonce account is known by its discriminator", async () => {
    const wanted = IDL.accounts.find((each) => each.name === "NonceAccount");
    assert.ok(wanted);
    const data = new Uint8Array(232 + 2 * 192);
    data.set(wanted.discriminator);
    data[160] = 1;
    data[8] = 77;
    const key = await nonceAccountAddress(payer.address, MINT);
    assert.equal(decodeNonceAccount(key, data).openedSlot, 77n);
    data[160] = 2;
    assert.throws(() => decodeNonceAccount(key, data), /layout version 2/);
    data[0] = 0;
    assert.throws(() => decodeNonceAccount(key, data), /not a nonce account/);
  });
});
