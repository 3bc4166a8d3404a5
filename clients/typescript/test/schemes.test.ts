import assert from "node:assert/strict";
import { createServer, type IncomingMessage, type Server } from "node:http";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { describe, it } from "node:test";

import { createKeyPairSignerFromPrivateKeyBytes, type Address, type MessagePartialSigner } from "@solana/kit";
import { x402Client } from "@x402/core/client";
import type { HTTPAdapter } from "@x402/core/server";
import type { PaymentPayload, PaymentRequirements, SupportedKind, VerifyContext } from "@x402/core/types";

import {
  BODY_UNKNOWN,
  intentExpiry,
  intentOf,
  isSignedBy,
  keepRawBody,
  nonceAccountAddress,
  PROGRAM_ID,
  RelayerNonces,
  requestTag,
  RESOURCE_MISMATCH,
  serviceAddress,
  SluiceSplitClient,
  SluiceSplitServer,
  termsHash,
  termsOf,
  toHex,
  utf8,
  readPayload,
  type NonceSource,
  type SplitExtra,
} from "../src/index.js";

const NETWORK = "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1";
const GENESIS = "EtWTRABZaYq6iMfeYKouRu166VU2xqa1wcaWoxPkrZBG";
const USDC = "4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU" as Address;
const URL_PAID = "http://api.example/report?day=1";

const signer = await createKeyPairSignerFromPrivateKeyBytes(new Uint8Array(32).fill(3));
const service = await serviceAddress(signer.address, 1n);

/** A service's `extra`, with the hash that belongs to it. */
async function shownTerms(change: Partial<SplitExtra> = {}): Promise<SplitExtra> {
  const extra: SplitExtra = {
    program: PROGRAM_ID,
    service,
    facilitator: signer.address,
    facilitatorBps: 100,
    facilitatorFixed: "0",
    treasuryBps: 50,
    recipients: [{ owner: signer.address, tokenAccount: USDC, bps: 10_000 }],
    termsHash: "00".repeat(32),
    genesisHash: GENESIS,
    ...change,
  };
  const hash = await termsHash(termsOf(extra, USDC));
  return { ...extra, termsHash: toHex(hash ?? new Uint8Array(32)) };
}

const view = (extra: SplitExtra, change: object = {}) => ({
  service,
  payTo: service,
  scheme: "sluice-split",
  network: NETWORK,
  asset: USDC,
  extra,
  maxIntentTtl: 120,
  minPayment: "100",
  settlesHere: true,
  ...change,
});

/** A relayer that answers with what `answer` gives, and counts. */
function relayerOf(answer: () => unknown): { readonly fetch: typeof fetch; asked: number } {
  const counted = {
    asked: 0,
    fetch: (async () => {
      counted.asked += 1;
      const body = answer();
      if (body instanceof Error) throw body;
      return Response.json(body);
    }) as typeof fetch,
  };
  return counted;
}

async function serverScheme(answer: () => unknown, termsAgeMs = 60_000) {
  const { Relayer } = await import("../src/index.js");
  const counted = relayerOf(answer);
  const relayer = new Relayer("http://relayer.example/", { fetch: counted.fetch });
  return { counted, scheme: new SluiceSplitServer({ relayer, publicUrl: "http://api.example/", termsAgeMs }) };
}

const asked = (change: Partial<PaymentRequirements> = {}): PaymentRequirements => ({
  scheme: "sluice-split",
  network: NETWORK,
  asset: USDC,
  amount: "50000",
  payTo: service,
  maxTimeoutSeconds: 300,
  extra: {},
  ...change,
});
const kind = (extra: Record<string, unknown> = {}): SupportedKind => ({
  x402Version: 2,
  scheme: "sluice-split",
  network: NETWORK,
  extra: { program: PROGRAM_ID, genesisHash: GENESIS, ...extra },
});

const nonces: NonceSource = {
  next: async ({ payer, mint }) => ({ nonceAccount: await nonceAccountAddress(payer, mint), openedSlot: 7n, lane: 1, nonce: 4n }),
};

/** A server that asks for payment, and for whatever comes then. */
async function paidServer(requirements: object, answer: (request: IncomingMessage) => void): Promise<{ url: string; server: Server }> {
  const server = createServer((request, response) => {
    const header = request.headers["payment-signature"];
    if (header !== undefined) answer(request);
    const required = { x402Version: 2, resource: { url: "" }, accepts: [requirements] };
    const headers = { "PAYMENT-REQUIRED": Buffer.from(JSON.stringify(required)).toString("base64") };
    response.writeHead(header === undefined ? 402 : 200, headers).end("ok");
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return { server, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
}

describe("the client's half", () => {
  it("signs for the request at hand, and takes its mark off", async () => {
    const requirements = asked({ extra: { ...(await shownTerms()) } });
    let sent: PaymentPayload | undefined;
    const { url, server } = await paidServer(requirements, (request) => {
      sent = JSON.parse(Buffer.from(String(request.headers["payment-signature"]), "base64").toString()) as PaymentPayload;
    });
    const scheme = new SluiceSplitClient({ signer, relayer: url, nonces });
    const client = new x402Client().register("solana:*", scheme);
    const watched = scheme.fetch(fetch);
    // What @x402/fetch does.
    const ask = { method: "POST", body: "how high?" };
    const answer = await watched(`${url}/ask?day=1#top`, ask);
    const header = answer.headers.get("PAYMENT-REQUIRED") ?? "";
    const required = JSON.parse(Buffer.from(header, "base64").toString());
    const payload = await client.createPaymentPayload(required);
    const signature = Buffer.from(JSON.stringify(payload)).toString("base64");
    await watched(`${url}/ask?day=1`, { ...ask, headers: { "PAYMENT-SIGNATURE": signature } });
    server.close();
    assert.ok(sent);
    assert.deepEqual(sent.accepted, requirements);
    assert.deepEqual(sent.extensions, {});
    const split = readPayload(sent.payload);
    assert.equal(split.resource, toHex(await requestTag("POST", `${url}/ask?day=1`, utf8("how high?"))));
    const extra = await shownTerms();
    const { getBase58Encoder } = await import("@solana/kit");
    const signed = intentOf(split, {
      genesisHash: Uint8Array.from(getBase58Encoder().encode(GENESIS)),
      service,
      termsHash: Uint8Array.from(Buffer.from(extra.termsHash, "hex")),
      amount: 50_000n,
    });
    assert.ok(await isSignedBy(signed, signer.address));
    assert.ok(!(await isSignedBy({ ...signed, intent: { ...signed.intent, amount: 50_001n } }, signer.address)));
  });

  it("takes no mark from a server", async () => {
    const scheme = new SluiceSplitClient({ signer, relayer: "http://relayer.example", nonces });
    const requirements = asked({ extra: { ...(await shownTerms()) } });
    const extensions = { "sluice-split/request": crypto.randomUUID() };
    await assert.rejects(scheme.createPaymentPayload(2, requirements, { extensions }), /was not shown it/);
  });

  it("refuses what it would regret", async () => {
    const scheme = new SluiceSplitClient({ signer, relayer: "http://relayer.example", nonces });
    const good = await shownTerms();
    const other = await shownTerms({ genesisHash: USDC });
    const cases: [RegExp, Partial<PaymentRequirements>][] = [
      [/not payTo/, { payTo: signer.address, extra: { ...good } }],
      [/do not pay this server/, { extra: { ...good, facilitatorBps: 101 } }],
      [/another cluster/, { extra: { ...other } }],
      [/not the Sluice program/, { extra: { ...good, program: signer.address } }],
      [/not of Solana/, { network: "eip155:8453", extra: { ...good } }],
      [/amount/, { amount: "0", extra: { ...good } }],
      [/amount/, { amount: "+1", extra: { ...good } }],
      [/maxTimeoutSeconds/, { maxTimeoutSeconds: 0, extra: { ...good } }],
      [/extra/, { extra: null as never }],
    ];
    for (const [expected, change] of cases) await assert.rejects(scheme.createPaymentPayload(2, asked(change)), expected);
  });

  it("refuses a signature that is not the key's", async () => {
    const liar: MessagePartialSigner = {
      address: signer.address,
      signMessages: async (messages) => messages.map(() => ({ [signer.address]: new Uint8Array(64) as never })),
    };
    const { signIntent } = await import("../src/index.js");
    const intent = {
      genesisHash: new Uint8Array(32),
      nonceAccount: signer.address,
      openedSlot: 1n,
      lane: 0,
      service,
      termsHash: new Uint8Array(32),
      amount: 1n,
      nonce: 0n,
      expiresAt: 1,
      resource: new Uint8Array(16),
    };
    await assert.rejects(signIntent(liar, intent), /gave no signature/);
  });

  it("lets an intent end before the server stops waiting", () => {
    assert.equal(intentExpiry(1_000, 60), 1_050);
    assert.equal(intentExpiry(1_000, 9), 1_006);
    assert.equal(intentExpiry(1_000, 1), 1_001);
    assert.equal(intentExpiry(1_000, 86_400), 1_300);
    for (const now of [-1, 0, 0xffff_ffff]) assert.throws(() => intentExpiry(now, 60), /clock/);
  });

  it("gives callers at once different nonces, and no more than a window holds", async () => {
    const { Relayer } = await import("../src/index.js");
    const nonceAccount = await nonceAccountAddress(signer.address, USDC);
    const lanes = [{ lane: 1, key: signer.address, nextNonce: "5" }];
    const counted = relayerOf(() => ({ nonceAccount, openedSlot: "9", lanes }));
    const source = new RelayerNonces(new Relayer("http://relayer.example", { fetch: counted.fetch }));
    const request = { payer: signer.address, mint: USDC, key: signer.address };
    const given = await Promise.all(Array.from({ length: 128 }, () => source.next(request)));
    assert.equal(new Set(given.map(({ nonce }) => nonce)).size, 128);
    assert.equal(given.at(0)?.openedSlot, 9n);
    await assert.rejects(source.next(request), { reason: "too_many_in_flight" });
    await assert.rejects(source.next({ ...request, key: USDC }), { reason: "no_lane" });
    await assert.rejects(source.next({ ...request, mint: service }), { reason: "foreign_account" });
  });
});

describe("the server's half", () => {
  const request = (change: Partial<Record<keyof HTTPAdapter | "req" | "c", unknown>> = {}, headers: Record<string, string> = {}) => {
    const adapter = {
      getHeader: (name: string) => ({ host: "evil.example", ...headers })[name],
      getMethod: () => "GET",
      getUrl: () => "http://evil.example/report?day=1",
      ...change,
    };
    return { request: { adapter, path: "/report", method: "GET" } };
  };
  const check = async (payload: object, transportContext: unknown) => {
    const { scheme } = await serverScheme(() => ({}));
    const context = { paymentPayload: { payload }, requirements: asked(), declaredExtensions: {}, transportContext };
    return scheme.schemeHooks.onBeforeVerify?.(context as unknown as VerifyContext);
  };
  const payload = async (resource: Promise<Uint8Array>) => ({
    nonceAccount: signer.address,
    openedSlot: "1",
    lane: 1,
    nonce: "0",
    expiresAt: 1,
    resource: toHex(await resource),
    signature: "1".repeat(64),
  });

  it("asks with the terms that the relayer shows", async () => {
    const extra = await shownTerms();
    const { scheme } = await serverScheme(() => view(extra));
    const { amount, asset } = await scheme.parsePrice("$0.05", NETWORK);
    assert.deepEqual({ amount, asset }, { amount: "50000", asset: USDC });
    const requirements = await scheme.enhancePaymentRequirements(asked(), kind(), []);
    assert.deepEqual(requirements, asked({ maxTimeoutSeconds: 120, extra: { ...extra } }));
    assert.equal(scheme.validateFacilitatorSupport(NETWORK, kind()), undefined);
    assert.match(scheme.validateFacilitatorSupport(NETWORK, kind({ program: USDC })) ?? "", /settles with program/);
  });

  it("asks for nothing that cannot be paid", async () => {
    const extra = await shownTerms();
    const cases: [RegExp, object, Partial<PaymentRequirements>][] = [
      [/does not settle/, view(extra, { settlesHere: false }), {}],
      [/payTo/, view(extra, { payTo: USDC }), {}],
      [/do not pay/, view({ ...extra, treasuryBps: 51 }), {}],
      [/give \{ amount, asset/, view(extra), { asset: service }],
      [/below the service's minimum/, view(extra), { amount: "99" }],
      [/on solana:5eykt/, view(extra, { network: "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp" }), {}],
    ];
    for (const [expected, answer, change] of cases) {
      const { scheme } = await serverScheme(() => answer);
      await assert.rejects(scheme.enhancePaymentRequirements(asked(change), kind(), []), expected);
    }
  });

  it("loads terms again when they are old, and serves on with the known ones", async () => {
    const extra = await shownTerms();
    let answer: unknown = view(extra);
    const young = await serverScheme(() => answer);
    for (let times = 0; times < 3; times += 1) await young.scheme.enhancePaymentRequirements(asked(), kind(), []);
    assert.equal(young.counted.asked, 1);
    const old = await serverScheme(() => answer, 0);
    await old.scheme.enhancePaymentRequirements(asked(), kind(), []);
    answer = new Error("down");
    const requirements = await old.scheme.enhancePaymentRequirements(asked(), kind(), []);
    assert.equal(old.counted.asked, 2);
    assert.equal(requirements.extra["termsHash"], extra.termsHash);
  });

  it("takes payments of the request at hand alone, whatever the host is called", async () => {
    assert.equal(await check(await payload(requestTag("GET", URL_PAID, utf8(""))), request()), undefined);
    for (const tag of [
      requestTag("POST", URL_PAID, utf8("")),
      requestTag("GET", "http://api.example/report", utf8("")),
      requestTag("GET", "http://evil.example/report?day=1", utf8("")),
      requestTag("GET", URL_PAID, utf8("x")),
    ]) {
      const refused = await check(await payload(tag), request());
      assert.equal((refused as { reason: string }).reason, RESOURCE_MISMATCH);
    }
  });

  it("is for the body as it was sent", async () => {
    const tag = payload(requestTag("GET", URL_PAID, utf8('{ "a": 1 }')));
    const headers = { "content-length": "10" };
    const req = { body: { a: 1 } };
    const gone = await check(await tag, request({ req }, headers));
    assert.equal((gone as { reason: string }).reason, BODY_UNKNOWN);
    keepRawBody(req, undefined, utf8('{ "a": 1 }'));
    assert.equal(await check(await tag, request({ req }, headers)), undefined);
    assert.equal(await check(await tag, request({ req: { body: utf8('{ "a": 1 }') } }, headers)), undefined);
    const c = { req: { arrayBuffer: async () => utf8('{ "a": 1 }').buffer } };
    assert.equal(await check(await tag, request({ c }, headers)), undefined);
  });

  it("refuses what it cannot read, and never lets it pass", async () => {
    for (const broken of [{}, { resource: "zz" }, null as never]) {
      assert.equal(((await check(broken, request())) as { abort: boolean }).abort, true);
    }
    const refused = await check(await payload(requestTag("GET", URL_PAID, utf8(""))), undefined);
    assert.equal((refused as { reason: string }).reason, RESOURCE_MISMATCH);
    for (const publicUrl of ["ftp://a", "http://a/?q", "http://u@a", "http://a/#f"]) {
      assert.throws(() => new SluiceSplitServer({ relayer: "http://relayer.example", publicUrl }), /publicUrl/);
    }
  });
});
