/** Stock `exact`, version 1: the published server of version 1, paid by clients of both generations. */
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { after, before, describe, it } from "node:test";
import { pathToFileURL } from "node:url";

import { getBase58Decoder } from "@solana/kit";
import { x402Client } from "@x402/core/client";
import { decodePaymentResponseHeader } from "@x402/core/http";
import { wrapFetchWithPayment } from "@x402/fetch";
import { ExactSvmSchemeV1 } from "@x402/svm/exact/v1/client";

import { FUNDS, listen, NETWORK_V1, World } from "./world.mjs";

// The packages of version 1 want other versions of the same libraries, and live in a folder of their own.
const here = createRequire(new URL("../v1/package.json", import.meta.url));
const load = (name) => import(pathToFileURL(here.resolve(name)).href);
const { default: express } = await load("express");
const { paymentMiddleware } = await load("x402-express");
const legacy = await load("x402-fetch");

const PRICE = 10_000n;

describe("exact, version 1", () => {
  let world;
  before(async () => {
    world = await World.start("v1");
  });
  after(() => world?.stop());

  const server = (payTo) => {
    const app = express();
    app.use(paymentMiddleware(payTo, { "GET /paid": { price: "$0.01", network: NETWORK_V1 } }, { url: world.relayerUrl }));
    app.get("/paid", (_request, response) => response.json({ report: "worth a cent" }));
    return listen(app);
  };
  const current = (payer) =>
    wrapFetchWithPayment(fetch, new x402Client().registerV1(NETWORK_V1, new ExactSvmSchemeV1(payer.signer, { rpcUrl: world.rpcUrl })));
  const old = async (payer) => {
    const bytes = Uint8Array.of(...payer.seed, ...(await publicKey(payer)));
    const signer = await legacy.createSigner(NETWORK_V1, getBase58Decoder().decode(bytes));
    return legacy.wrapFetchWithPayment(fetch, signer, undefined, undefined, { svmConfig: { rpcUrl: world.rpcUrl } });
  };
  const publicKey = async ({ signer }) => new Uint8Array(await crypto.subtle.exportKey("raw", signer.keyPair.publicKey));

  const paid = async (payer, response) => {
    assert.equal(response.status, 200, await response.clone().text());
    assert.deepEqual(await response.json(), { report: "worth a cent" });
    const receipt = decodePaymentResponseHeader(response.headers.get("X-PAYMENT-RESPONSE"));
    assert.match((await world.status(receipt.transaction)) ?? "unknown", /confirmed|finalized/);
    assert.equal(receipt.success, true);
    assert.equal(receipt.network, NETWORK_V1);
    assert.equal(await world.tokens(payer.address), FUNDS - PRICE);
  };

  for (const [name, make] of [
    ["@x402/fetch", current],
    ["x402-fetch", old],
  ]) {
    it(`${name} pays x402-express, to a wallet`, async () => {
      const [payer, receiver] = await Promise.all([world.payer(), world.receiver()]);
      const { url, stop } = await server(receiver);
      await paid(payer, await (await make(payer))(`${url}/paid`));
      assert.equal(await world.tokens(receiver), PRICE);
      await stop();
    });
  }

  it("@x402/fetch pays x402-express, to a service", async () => {
    const payer = await world.payer();
    const before = await world.legs();
    const { url, stop } = await server(world.service);
    await paid(payer, await current(payer)(`${url}/paid`));
    const sum = (legs) => Object.values(legs).reduce((total, leg) => total + leg, 0n);
    assert.equal(sum(await world.legs()) - sum(before), PRICE);
    await stop();
  });

  it("one payment buys one answer", async () => {
    const [payer, receiver] = await Promise.all([world.payer(), world.receiver()]);
    const { url, stop } = await server(receiver);
    let header;
    const keep = async (input, init) => {
      const request = new Request(input, init);
      header = request.headers.get("X-PAYMENT") ?? header;
      return header === undefined ? fetch(request) : new Response("kept back", { status: 500 });
    };
    const client = new x402Client().registerV1(NETWORK_V1, new ExactSvmSchemeV1(payer.signer, { rpcUrl: world.rpcUrl }));
    await wrapFetchWithPayment(keep, client)(`${url}/paid`);
    assert.ok(header);
    const send = () => fetch(`${url}/paid`, { headers: { "X-PAYMENT": header } });
    const answers = await Promise.all([send(), send()]);
    assert.deepEqual(answers.map((answer) => answer.status).toSorted(), [200, 402]);
    assert.equal((await send()).status, 402);
    assert.equal(await world.tokens(receiver), PRICE);
    await stop();
  });
});
