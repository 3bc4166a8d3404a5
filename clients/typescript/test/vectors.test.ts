import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { describe, it } from "node:test";

import { createKeyPairSignerFromPrivateKeyBytes, type Address } from "@solana/kit";

import {
  decodeEntry,
  decodeLane,
  encodeEntry,
  encodeLane,
  entryOf,
  fromHex,
  headroom,
  intentDigest,
  intentMessage,
  intentOf,
  isSignedBy,
  laneOfFlags,
  nextNonce,
  payloadOf,
  readPayload,
  requestTag,
  resourceOfIdentifier,
  resourceOfRequest,
  setLane,
  sha256,
  signIntent,
  spend,
  split,
  SplitError,
  takeNonce,
  termsHash,
  termsProblem,
  toBase58,
  toHex,
  utf8,
  verifySignature,
  type Intent,
  type Lane,
  type Scope,
  type Window,
} from "../src/core/index.js";

const FOLDER = new URL("../../../../tests/vectors/", import.meta.url);

// The files' shapes are described in tests/vectors/README.md.
// eslint-disable-next-line @typescript-eslint/no-explicit-any
type Row = Record<string, any>;

function read(name: string): Row {
  return JSON.parse(readFileSync(new URL(name, FOLDER), "utf8")) as Row;
}

const hex = (text: string): Uint8Array => fromHex("vector", text);
const key = (text: string): Address => toBase58(hex(text)) as Address;

/** Runs every case, and fails when there is none. */
async function each(cases: readonly Row[], run: (row: Row) => Promise<void> | void): Promise<void> {
  assert.ok(cases.length > 0, "a file without cases proves nothing");
  for (const row of cases) {
    try {
      await run(row);
    } catch (error) {
      throw new Error(`case ${JSON.stringify(row["name"] ?? row)}`, { cause: error });
    }
  }
}

describe("tests/vectors", () => {
  it("has no file that is not checked here", () => {
    const known = ["ed25519", "entry", "intent", "lane", "resource", "split", "terms", "window"];
    const files = readdirSync(FOLDER).filter((name) => name.endsWith(".json"));
    assert.deepEqual(files.toSorted(), known.map((name) => `${name}.json`));
  });

  it("intent.json", async () => {
    const file = read("intent.json");
    const signer = await createKeyPairSignerFromPrivateKeyBytes(hex(file["secret_seed"]));
    assert.equal(signer.address, key(file["public_key"]));
    await each(file["cases"], async (row) => {
      const intent: Intent = {
        genesisHash: hex(row["genesis_hash"]),
        nonceAccount: key(row["nonce_account"]),
        openedSlot: BigInt(row["opened_slot"]),
        lane: row["lane"],
        service: key(row["service"]),
        termsHash: hex(row["terms_hash"]),
        amount: BigInt(row["amount"]),
        nonce: BigInt(row["nonce"]),
        expiresAt: BigInt(row["expires_at"]),
        resource: hex(row["resource"]),
      };
      const digest = await intentDigest(intent, key(row["program_id"]));
      const message = intentMessage(digest);
      assert.equal(toHex(digest), row["digest"]);
      assert.equal(toHex(message), row["message"]);
      assert.ok(await verifySignature(hex(file["public_key"]), message, hex(row["signature"])));
      const signed = await signIntent(signer, intent);
      const ours = toHex(await intentDigest(intent));
      assert.equal(toHex(signed.digest), ours);
      // Signatures are deterministic: where the program is ours, so is the signature.
      if (ours === row["digest"]) assert.equal(toHex(signed.signature), row["signature"]);
      assert.ok(await isSignedBy(signed, signer.address));
      const wide = intent.expiresAt > 0xffff_ffffn || BigInt(intent.expiresAt) < 0n;
      if (wide) return;
      const back = intentOf(readPayload(JSON.parse(JSON.stringify(payloadOf(signed)))), intent);
      assert.deepEqual(back, { intent: { ...intent, expiresAt: Number(intent.expiresAt) }, signature: signed.signature });
    });
  });

  it("terms.json", async () => {
    await each(read("terms.json")["cases"], async (row) => {
      const terms = {
        service: key(row["service"]),
        mint: key(row["mint"]),
        facilitator: key(row["facilitator"]),
        facilitatorBps: row["facilitator_bps"],
        facilitatorFixed: BigInt(row["facilitator_fixed"]),
        treasuryBps: row["treasury_bps"],
        recipients: row["recipients"].map((each: Row) => ({
          owner: key(each["owner"]),
          tokenAccount: key(each["token_account"]),
          bps: each["bps"],
        })),
      };
      const hash = await termsHash(terms);
      assert.equal(hash === undefined ? null : toHex(hash), row["hash"]);
      assert.equal(termsProblem(terms) ?? null, row["error"]);
    });
  });

  it("resource.json", async () => {
    const file = read("resource.json");
    await each(file["requests"], async (row) => {
      const body = hex(row["body"]);
      assert.equal(toHex(await sha256(body)), row["body_hash"]);
      assert.equal(toHex(await resourceOfRequest(row["method"], row["url"], hex(row["body_hash"]))), row["resource"]);
      assert.equal(toHex(await requestTag(row["method"], row["url"], body)), row["resource"]);
    });
    await each(file["identifiers"], async (row) => {
      assert.equal(toHex(await resourceOfIdentifier(hex(row["identifier"]))), row["resource"]);
    });
  });

  it("entry.json", async () => {
    const file = read("entry.json");
    await each(file["cases"], (row) => {
      const entry = {
        signature: hex(row["signature"]),
        amount: BigInt(row["amount"]),
        nonce: BigInt(row["nonce"]),
        expiresAt: row["expires_at"],
        resource: hex(row["resource"]),
        flags: row["flags"],
      };
      assert.equal(toHex(encodeEntry(entry)), row["bytes"]);
      assert.deepEqual(decodeEntry(hex(row["bytes"])), entry);
    });
    assert.equal(file["flags"].length, 256);
    await each(file["flags"], (row) => {
      const lane = laneOfFlags(row["byte"]);
      assert.equal(lane ?? null, row["lane"]);
      assert.equal(lane === undefined ? "unknown_flag" : null, row["error"]);
    });
  });

  it("window.json", async () => {
    const state = (row: Row): Window => ({
      top: BigInt(row["top"]),
      bits: row["bits"].reduce((bits: bigint, word: string, at: number) => bits | (BigInt(word) << BigInt(64 * at)), 0n),
    });
    await each(read("window.json")["sequences"], async (sequence) => {
      let window = state(sequence["start"]);
      assert.equal(nextNonce(window)?.toString() ?? null, sequence["start"]["next"]);
      await each(sequence["steps"], (step) => {
        const after = takeNonce(window, BigInt(step["nonce"]));
        assert.equal(typeof after === "string" ? after : "taken", step["result"]);
        if (typeof after !== "string") window = after;
        assert.deepEqual(window, state(step["state"]));
        assert.equal(nextNonce(window)?.toString() ?? null, step["state"]["next"]);
      });
    });
  });

  it("lane.json", async () => {
    const kinds = ["any", "service", "authority", "facilitator"];
    await each(read("lane.json")["sequences"], async (sequence) => {
      let lane: Lane = decodeLane(new Uint8Array(192));
      await each(sequence["steps"], (step) => {
        const now = BigInt(step["now"]);
        if (step["op"] === "set") {
          const closed = /^0+$/.test(step["key"]);
          const kind = kinds[Number(step["scope_kind"])];
          const scope = (kind === "any" ? { kind } : { kind, key: key(step["scope_key"]) }) as Scope;
          const terms = {
            key: closed ? undefined : key(step["key"]),
            expiresAt: BigInt(step["expires_at"]),
            maxPerPayment: BigInt(step["max_per_payment"]),
            periodLimit: BigInt(step["period_limit"]),
            periodSecs: BigInt(step["period_secs"]),
            totalLimit: BigInt(step["total_limit"]),
            scope,
          };
          lane = setLane(lane, terms, now);
        } else {
          assert.equal(headroom(lane, now).toString(), step["headroom"]);
          const after = spend(lane, {
            now,
            nonce: BigInt(step["nonce"]),
            amount: BigInt(step["amount"]),
            service: hex(step["service"]),
            authority: hex(step["authority"]),
            facilitator: hex(step["facilitator"]),
          });
          assert.equal(typeof after === "string" ? after : "paid", step["result"]);
          if (typeof after !== "string") lane = after;
        }
        assert.equal(toHex(encodeLane(lane)), step["account"]);
        assert.deepEqual(decodeLane(hex(step["account"])), lane);
      });
    });
  });

  it("split.json", async () => {
    await each(read("split.json")["cases"], (row) => {
      const fees = {
        treasuryBps: row["treasury_bps"],
        facilitatorBps: row["facilitator_bps"],
        facilitatorFixed: BigInt(row["facilitator_fixed"]),
      };
      const run = () => split(BigInt(row["sum"]), BigInt(row["payments"]), fees, row["recipient_bps"]);
      if (row["error"] !== null) {
        assert.throws(run, (error) => error instanceof SplitError && error.problem === row["error"]);
        return;
      }
      const shares = run();
      assert.deepEqual(
        {
          treasury: shares.treasury.toString(),
          facilitator: shares.facilitator.toString(),
          recipients: shares.recipients.map(String),
        },
        row["shares"],
      );
    });
  });

  it("ed25519.json", async () => {
    await each(read("ed25519.json")["cases"], async (row) => {
      const verdict = await verifySignature(hex(row["key"]), hex(row["message"]), hex(row["signature"]));
      assert.equal(verdict, row["valid"]);
    });
  });

  it("an entry is an intent's", async () => {
    const signer = await createKeyPairSignerFromPrivateKeyBytes(new Uint8Array(32).fill(7));
    const intent: Intent = {
      genesisHash: new Uint8Array(32),
      nonceAccount: signer.address,
      openedSlot: 9n,
      lane: 1,
      service: signer.address,
      termsHash: new Uint8Array(32),
      amount: 5n,
      nonce: 3n,
      expiresAt: 1_790_000_000,
      resource: await requestTag("GET", "https://api.example.com/a", utf8("")),
    };
    const signed = await signIntent(signer, intent);
    const entry = decodeEntry(encodeEntry(entryOf(signed)));
    assert.equal(entry.flags, 1);
    assert.deepEqual(entry.signature, signed.signature);
  });
});
