/** Stock `exact`, by the published packages of version 2, through our relayer. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";

import axios from "axios";
import express from "express";
import { serve } from "@hono/node-server";
import { Hono } from "hono";
import { wrapAxiosWithPayment } from "@x402/axios";
import { x402Client } from "@x402/core/client";
import { decodePaymentResponseHeader } from "@x402/core/http";
import { HTTPFacilitatorClient } from "@x402/core/server";
import { paymentMiddleware as expressMiddleware, x402ResourceServer } from "@x402/express";
import { wrapFetchWithPayment } from "@x402/fetch";
import { paymentMiddleware as honoMiddleware } from "@x402/hono";
import { ExactSvmScheme as ExactSvmClient } from "@x402/svm/exact/client";
import { ExactSvmScheme as ExactSvmServer } from "@x402/svm/exact/server";

import { sendInstructions } from "@sluice/x402";
import { FUNDS, freePort, listen, NETWORK, stopper, transfer, World } from "./world.mjs";

const PRICE = 10_000n;

describe("exact, version 2", () => {
  let world;
  before(async () => {
    world = await World.start("exact");
  });
  after(() => world?.stop());

  const resourceServer = () =>
    new x402ResourceServer(new HTTPFacilitatorClient({ url: world.relayerUrl })).register(NETWORK, new ExactSvmServer());
  const routes = (payTo) => ({
    "GET /paid": { accepts: { scheme: "exact", network: NETWORK, price: "$0.01", payTo }, description: "a report" },
  });
  const client = (payer) => new x402Client().register(NETWORK, new ExactSvmClient(payer.signer, { rpcUrl: world.rpcUrl }));

  /** An Express server with one paid route; `handler` runs between verification and settlement. */
  const expressServer = async (payTo, handler = async () => {}) => {
    const app = express();
    app.use(expressMiddleware(routes(payTo), resourceServer()));
    app.get("/paid", async (_request, response) => {
      await handler();
      response.json({ report: "worth a cent" });
    });
    return listen(app);
  };

  /** What holds after every payment that succeeded. */
  const settled = async (header, payer, receiver, earned = PRICE) => {
    const receipt = decodePaymentResponseHeader(header);
    // Asked at once: the answer came, so the payment must have landed.
    assert.match((await world.status(receipt.transaction)) ?? "unknown", /confirmed|finalized/);
    assert.equal(receipt.success, true);
    assert.equal(receipt.network, NETWORK);
    assert.equal(receipt.payer, payer.address);
    assert.equal(await world.tokens(payer.address), FUNDS - PRICE);
    if (receiver) assert.equal(await world.tokens(receiver), earned);
    assert.equal(await world.lamports(payer.address), 0n);
    return receipt;
  };

  it("@x402/fetch pays @x402/express, to a wallet", async () => {
    const [payer, receiver] = await Promise.all([world.payer(), world.receiver()]);
    const server = await expressServer(receiver);
    const response = await wrapFetchWithPayment(fetch, client(payer))(`${server.url}/paid`);
    assert.equal(response.status, 200);
    assert.deepEqual(await response.json(), { report: "worth a cent" });
    const receipt = await settled(response.headers.get("PAYMENT-RESPONSE"), payer, receiver);
    assert.equal(receipt.extra.batch.size, 1);
    await server.stop();
  });

  it("@x402/fetch pays @x402/express, to a service", async () => {
    const payer = await world.payer();
    const server = await expressServer(world.service);
    const before = await world.legs();
    const response = await wrapFetchWithPayment(fetch, client(payer))(`${server.url}/paid`);
    assert.equal(response.status, 200);
    const receipt = await settled(response.headers.get("PAYMENT-RESPONSE"), payer);
    assert.match(receipt.extra.distribution, /vault/);
    // In the vault, or divided already.
    const sum = (legs) => Object.values(legs).reduce((total, leg) => total + leg, 0n);
    assert.equal(sum(await world.legs()) - sum(before), PRICE);
    await server.stop();
  });

  it("@x402/axios pays @x402/express", async () => {
    const [payer, receiver] = await Promise.all([world.payer(), world.receiver()]);
    const server = await expressServer(receiver);
    const response = await wrapAxiosWithPayment(axios.create(), client(payer)).get(`${server.url}/paid`);
    assert.equal(response.status, 200);
    await settled(response.headers["payment-response"], payer, receiver);
    await server.stop();
  });

  it("@x402/fetch pays @x402/hono", async () => {
    const [payer, receiver] = await Promise.all([world.payer(), world.receiver()]);
    const app = new Hono();
    app.use(honoMiddleware(routes(receiver), resourceServer()));
    app.get("/paid", (context) => context.json({ report: "worth a cent" }));
    const port = await freePort();
    const stop = stopper(serve({ fetch: app.fetch, port, hostname: "127.0.0.1" }));
    const response = await wrapFetchWithPayment(fetch, client(payer))(`http://127.0.0.1:${port}/paid`);
    assert.equal(response.status, 200);
    await settled(response.headers.get("PAYMENT-RESPONSE"), payer, receiver);
    await stop();
  });

  it("one payment buys one answer, however often and at once it is sent", async () => {
    const [payer, receiver] = await Promise.all([world.payer(), world.receiver()]);
    const server = await expressServer(receiver);
    let header;
    const spy = async (input, init) => {
      const request = new Request(input, init);
      header = request.headers.get("PAYMENT-SIGNATURE") ?? header;
      // The payment itself is sent three times at once, below.
      return header === undefined ? fetch(request) : new Response("kept back", { status: 500 });
    };
    await wrapFetchWithPayment(spy, client(payer))(`${server.url}/paid`);
    assert.ok(header);
    const send = () => fetch(`${server.url}/paid`, { headers: { "PAYMENT-SIGNATURE": header } });
    const answers = await Promise.all([send(), send(), send()]);
    assert.deepEqual(answers.map((answer) => answer.status).toSorted(), [200, 402, 402]);
    const late = await send();
    assert.equal(late.status, 402);
    assert.equal(await world.tokens(receiver), PRICE);
    assert.equal(await world.tokens(payer.address), FUNDS - PRICE);
    await server.stop();
  });

  it("nothing is released for a payment that cannot settle", async () => {
    const [payer, receiver, elsewhere] = await Promise.all([world.payer(), world.receiver(), world.receiver()]);
    let served = 0;
    const server = await expressServer(receiver, async () => {
      served += 1;
      await sendInstructions(world.rpc, world.admin, [await transfer(payer.signer, elsewhere, FUNDS)]);
    });
    const response = await wrapFetchWithPayment(fetch, client(payer))(`${server.url}/paid`);
    assert.equal(served, 1, "the payment was good when it was verified");
    assert.equal(response.status, 402);
    assert.doesNotMatch(await response.text(), /worth a cent/);
    const receipt = decodePaymentResponseHeader(response.headers.get("PAYMENT-RESPONSE"));
    assert.equal(receipt.success, false);
    assert.ok(receipt.errorReason);
    assert.equal(await world.tokens(receiver), 0n);
    await server.stop();
  });
});
