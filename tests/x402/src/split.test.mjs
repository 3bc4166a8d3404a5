/** The split scheme, by our plugin in the published packages. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";

import axios from "axios";
import express from "express";
import { serve } from "@hono/node-server";
import { Hono } from "hono";
import { wrapAxiosWithPayment, x402Client as AxiosX402Client } from "@x402/axios";
import { x402Client } from "@x402/core/client";
import { decodePaymentResponseHeader } from "@x402/core/http";
import { HTTPFacilitatorClient } from "@x402/core/server";
import { paymentMiddleware as expressMiddleware, x402ResourceServer } from "@x402/express";
import { wrapFetchWithPayment } from "@x402/fetch";
import { paymentMiddleware as honoMiddleware } from "@x402/hono";

import {
  keepRawBody,
  readBudget,
  Relayer,
  revokeBudget,
  RESOURCE_MISMATCH,
  sendInstructions,
  SluiceSplitClient,
  SluiceSplitServer,
} from "@sluice/x402";
import { FUNDS, freePort, listen, MINT, NETWORK, NETWORK_V1, stopper, World } from "./world.mjs";

const PRICE = 50_000n;
/** 50 bps to the treasury, 100 to the facilitator, the rest 7 to 3. */
const LEGS = { merchant: 34_475n, partner: 14_775n, facilitator: 500n, treasury: 250n, vault: 0n };

describe("sluice-split", () => {
  let world;
  before(async () => {
    world = await World.start("split");
  });
  after(() => world?.stop());

  const resourceServer = (publicUrl) =>
    new x402ResourceServer(new HTTPFacilitatorClient({ url: world.relayerUrl })).register(
      NETWORK,
      new SluiceSplitServer({ relayer: world.relayerUrl, publicUrl }),
    );
  const accepts = () => ({ scheme: "sluice-split", network: NETWORK, price: "$0.05", payTo: world.service });
  const routes = () => ({ "GET /report": { accepts: accepts() }, "GET /other": { accepts: accepts() }, "POST /ask": { accepts: accepts() } });
  const scheme = (payer, options = {}) =>
    new SluiceSplitClient({ signer: payer.agent, payer: payer.address, relayer: world.relayerUrl, ...options });

  const expressServer = async (handler = async () => {}) => {
    const port = await freePort();
    const url = `http://127.0.0.1:${port}`;
    const app = express();
    app.use(express.json({ verify: keepRawBody }));
    app.use(expressMiddleware(routes(), resourceServer(url)));
    app.all(/.*/, async (request, response) => {
      await handler();
      response.json({ report: "river levels", asked: request.body ?? null });
    });
    return listen(app, port);
  };
  const payFetch = (payer, split = scheme(payer), inner = fetch) =>
    wrapFetchWithPayment(split.fetch(inner), new x402Client().register("solana:*", split));

  /** Runs what pays once, and checks that every leg has exactly its share. */
  const paysOnce = async (payer, pay) => {
    const [before, lamports] = [await world.legs(), await world.lamports(payer.address)];
    const header = await pay();
    const receipt = decodePaymentResponseHeader(header);
    assert.match((await world.status(receipt.transaction)) ?? "unknown", /confirmed|finalized/);
    assert.equal(receipt.success, true);
    assert.equal(receipt.payer, payer.address);
    const legs = await world.legs();
    for (const [name, share] of Object.entries(LEGS)) assert.equal(legs[name] - before[name], share, name);
    assert.equal(await world.tokens(payer.address), FUNDS - PRICE);
    assert.equal(await world.lamports(payer.address), lamports, "the payer needs no SOL");
    assert.deepEqual(receipt.extra.split, { treasury: "250", facilitator: "500", recipients: ["34475", "14775"] });
    const ledger = await new Relayer(world.relayerUrl).intent(receipt.extra.digest);
    assert.equal(ledger.transaction, receipt.transaction);
    return receipt;
  };

  it("@x402/fetch pays @x402/express", async () => {
    const payer = await world.budgeted();
    const server = await expressServer();
    await paysOnce(payer, async () => {
      const response = await payFetch(payer)(`${server.url}/report?day=1#top`);
      assert.equal(response.status, 200);
      assert.equal((await response.json()).report, "river levels");
      return response.headers.get("PAYMENT-RESPONSE");
    });
    await server.stop();
  });

  it("@x402/fetch pays @x402/express for a request with a body", async () => {
    const payer = await world.budgeted();
    const server = await expressServer();
    await paysOnce(payer, async () => {
      const response = await payFetch(payer)(`${server.url}/ask`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: '{ "question": "how high?" }',
      });
      assert.equal(response.status, 200);
      assert.deepEqual((await response.json()).asked, { question: "how high?" });
      return response.headers.get("PAYMENT-RESPONSE");
    });
    await server.stop();
  });

  for (const [of, Client] of [
    ["@x402/core", x402Client],
    ["@x402/axios itself", AxiosX402Client],
  ]) {
    it(`@x402/axios pays @x402/express, with the client of ${of}`, async () => {
      const payer = await world.budgeted();
      const server = await expressServer();
      await paysOnce(payer, async () => {
        const split = scheme(payer);
        const api = wrapAxiosWithPayment(split.axios(axios.create({ baseURL: server.url })), new Client().register("solana:*", split));
        const response = await api.post("/ask", { question: "how high?" }, { params: { day: 1 } });
        assert.equal(response.status, 200);
        assert.deepEqual(response.data.asked, { question: "how high?" });
        return response.headers["payment-response"];
      });
      await server.stop();
    });
  }

  it("@x402/fetch pays @x402/hono", async () => {
    const payer = await world.budgeted();
    const port = await freePort();
    const app = new Hono();
    app.use(honoMiddleware(routes(), resourceServer(`http://127.0.0.1:${port}`)));
    app.post("/ask", async (context) => context.json({ asked: await context.req.json() }));
    const stop = stopper(serve({ fetch: app.fetch, port, hostname: "127.0.0.1" }));
    await paysOnce(payer, async () => {
      const body = '{ "question": "how high?" }';
      const response = await payFetch(payer)(`http://127.0.0.1:${port}/ask`, { method: "POST", body });
      assert.equal(response.status, 200);
      assert.deepEqual(await response.json(), { asked: { question: "how high?" } });
      return response.headers.get("PAYMENT-RESPONSE");
    });
    await stop();
  });

  it("version 1: @x402/fetch pays what a server of version 1 asks", async () => {
    const payer = await world.budgeted();
    const view = await new Relayer(world.relayerUrl).service(world.service);
    let url = "";
    const requirements = () => ({
      scheme: "sluice-split",
      network: NETWORK_V1,
      maxAmountRequired: PRICE.toString(),
      resource: `${url}/report`,
      description: "",
      mimeType: "",
      payTo: world.service,
      maxTimeoutSeconds: 60,
      asset: MINT.mint,
      extra: view.extra,
    });
    const ask = async (route, paymentPayload) => {
      const body = JSON.stringify({ x402Version: 1, paymentPayload, paymentRequirements: requirements() });
      const answer = await fetch(`${world.relayerUrl}/${route}`, { method: "POST", headers: { "content-type": "application/json" }, body });
      return answer.json();
    };
    const server = await listen(async (request, response) => {
      const header = request.headers["x-payment"];
      if (header === undefined) {
        response.writeHead(402, { "content-type": "application/json" });
        response.end(JSON.stringify({ x402Version: 1, error: "payment required", accepts: [requirements()] }));
        return;
      }
      const payment = JSON.parse(Buffer.from(header, "base64").toString());
      const [verified, settled] = [await ask("verify", payment), await ask("settle", payment)];
      response.setHeader("X-PAYMENT-RESPONSE", Buffer.from(JSON.stringify(settled)).toString("base64"));
      response.writeHead(verified.isValid && settled.success ? 200 : 402).end("ok");
    });
    url = server.url;
    await paysOnce(payer, async () => {
      const split = scheme(payer);
      const client = new x402Client().registerV1(NETWORK_V1, split);
      const response = await wrapFetchWithPayment(split.fetch(fetch), client)(`${url}/report`);
      assert.equal(response.status, 200);
      return response.headers.get("X-PAYMENT-RESPONSE");
    });
    await server.stop();
  });

  it("one payment buys one answer, of the request that it was signed for", async () => {
    const payer = await world.budgeted();
    const server = await expressServer();
    let header;
    const keep = async (input, init) => {
      const request = new Request(input, init);
      header = request.headers.get("PAYMENT-SIGNATURE") ?? header;
      return header === undefined ? fetch(request) : new Response("kept back", { status: 500 });
    };
    await payFetch(payer, scheme(payer), keep)(`${server.url}/report`);
    assert.ok(header);
    const headers = { "PAYMENT-SIGNATURE": header };
    const reason = (answer) => JSON.parse(Buffer.from(answer.headers.get("PAYMENT-REQUIRED"), "base64").toString()).error;
    for (const [path, init] of [
      ["/other", {}],
      ["/report?more=1", {}],
      ["/ask", { method: "POST" }],
      ["/ask", { method: "POST", body: "{}", headers: { ...headers, "content-type": "application/json" } }],
    ]) {
      const answer = await fetch(server.url + path, { headers, ...init });
      assert.equal(answer.status, 402, path);
      assert.equal(reason(answer), RESOURCE_MISMATCH, path);
    }
    // Another name for the same server is not another request; who asks chooses the name.
    const send = () => fetch(`${server.url.replace("127.0.0.1", "localhost")}/report`, { headers });
    const answers = await Promise.all([send(), send(), send()]);
    assert.deepEqual(answers.map((answer) => answer.status).toSorted(), [200, 402, 402]);
    assert.equal((await send()).status, 402);
    assert.equal(await world.tokens(payer.address), FUNDS - PRICE);
    await server.stop();
  });

  it("payments at once have nonces of their own", async () => {
    const payer = await world.budgeted();
    const server = await expressServer();
    const pay = payFetch(payer);
    const answers = await Promise.all(Array.from({ length: 8 }, (_, at) => pay(`${server.url}/report?at=${at}`)));
    assert.deepEqual(answers.map((answer) => answer.status), Array(8).fill(200));
    assert.equal(await world.tokens(payer.address), FUNDS - 8n * PRICE);
    await server.stop();
  });

  it("nothing is released for a payment that cannot settle", async () => {
    const payer = await world.budgeted();
    const before = await world.legs();
    let served = 0;
    const server = await expressServer(async () => {
      served += 1;
      await sendInstructions(world.rpc, world.admin, [await revokeBudget(payer.signer, MINT)]);
    });
    const response = await payFetch(payer)(`${server.url}/report`);
    assert.equal(served, 1, "the payment was good when it was verified");
    assert.equal(response.status, 402);
    assert.doesNotMatch(await response.text(), /river levels/);
    assert.equal(decodePaymentResponseHeader(response.headers.get("PAYMENT-RESPONSE")).success, false);
    assert.deepEqual(await world.legs(), before);
    await server.stop();
  });

  it("a session key spends within its limits, which the chain keeps", async () => {
    const payer = await world.budgeted({ maxPerPayment: PRICE, total: PRICE + 1n });
    const server = await expressServer();
    assert.equal((await payFetch(payer)(`${server.url}/report`)).status, 200);
    const refused = await payFetch(payer)(`${server.url}/report`);
    assert.equal(refused.status, 402);
    const budget = await readBudget(world.rpc, payer.address, MINT.mint);
    assert.equal(budget.account.lanes[1].totalSpent, PRICE);
    assert.equal(budget.account.spentTotal, PRICE);
    assert.equal(budget.delegated, FUNDS - PRICE);
    assert.equal(budget.balance, FUNDS - PRICE);
    await server.stop();
  });

  it("the client signs nothing that it was not shown, or that is over its limit", async () => {
    const payer = await world.budgeted();
    const server = await expressServer();
    const split = scheme(payer);
    const client = new x402Client().register("solana:*", split);
    await assert.rejects(wrapFetchWithPayment(fetch, client)(`${server.url}/report`), /was not shown it/);
    await assert.rejects(payFetch(payer, scheme(payer, { maxAmount: PRICE - 1n }))(`${server.url}/report`), /pays at most 49999/);
    await assert.rejects(payFetch(payer, scheme(payer, { genesisHash: MINT.mint }))(`${server.url}/report`), /another cluster/);
    const forged = async (input, init) => {
      const response = await fetch(input, init);
      const required = JSON.parse(Buffer.from(response.headers.get("PAYMENT-REQUIRED") ?? "e30=", "base64").toString());
      required.accepts[0].extra.recipients[0].owner = payer.agent.address;
      const header = Buffer.from(JSON.stringify(required)).toString("base64");
      return new Response("", { status: response.status, headers: { "PAYMENT-REQUIRED": header } });
    };
    await assert.rejects(payFetch(payer, scheme(payer), forged)(`${server.url}/report`), /do not pay this server/);
    assert.equal(await world.tokens(payer.address), FUNDS);
    await server.stop();
  });
});
