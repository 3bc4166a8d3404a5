/** Stock `exact` by the PyPI package `x402`. Skipped, and said so, where Python or pip cannot be used. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createRequire } from "node:module";
import { after, before, describe, it } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { promisify } from "node:util";

import { getBase58Decoder } from "@solana/kit";
import express from "express";
import { decodePaymentResponseHeader } from "@x402/core/http";
import { HTTPFacilitatorClient } from "@x402/core/server";
import { paymentMiddleware, x402ResourceServer } from "@x402/express";
import { ExactSvmScheme } from "@x402/svm/exact/server";

import { FUNDS, listen, NETWORK, NETWORK_V1, World } from "./world.mjs";

const PRICE = 10_000n;
const run = promisify(execFile);
const folder = fileURLToPath(new URL("../python/", import.meta.url));
const venv = fileURLToPath(new URL("../.venv/", import.meta.url));
const python = `${venv}bin/python`;

/** Why Python cannot be used; `false` if it can. */
async function unusable() {
  try {
    await run("python3", ["-m", "venv", venv]);
    await run(python, ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", `${folder}requirements.txt`], { timeout: 240_000 });
    return false;
  } catch (error) {
    const why = `Python or pip cannot be used: ${String(error.message).split("\n").slice(0, 3).join(" ")}`;
    console.error(`SKIPPED: the PyPI package x402 was not tried. ${why}`);
    return why;
  }
}

const skip = await unusable();

describe("exact, by the PyPI package x402", { skip }, () => {
  let world;
  before(async () => {
    world = await World.start("python");
  });
  after(() => world?.stop());

  const pay = async (payer, url) => {
    const publicKey = new Uint8Array(await crypto.subtle.exportKey("raw", payer.signer.keyPair.publicKey));
    const key = getBase58Decoder().decode(Uint8Array.of(...payer.seed, ...publicKey));
    const options = { env: { ...process.env, PAYER_KEY: key }, timeout: 60_000 };
    const { stdout } = await run(python, [`${folder}pay.py`, url, world.rpcUrl], options);
    return JSON.parse(stdout);
  };
  const paid = async (payer, answer, network) => {
    assert.equal(answer.status, 200, answer.body);
    assert.match(answer.body, /worth a cent/);
    const receipt = decodePaymentResponseHeader(answer.receipt);
    assert.match((await world.status(receipt.transaction)) ?? "unknown", /confirmed|finalized/);
    assert.equal(receipt.network, network);
    assert.equal(await world.tokens(payer.address), FUNDS - PRICE);
  };
  const server = (payTo) => {
    const app = express();
    const accepts = { scheme: "exact", network: NETWORK, price: "$0.01", payTo };
    const resourceServer = new x402ResourceServer(new HTTPFacilitatorClient({ url: world.relayerUrl }));
    app.use(paymentMiddleware({ "GET /paid": { accepts } }, resourceServer.register(NETWORK, new ExactSvmScheme())));
    app.get("/paid", (_request, response) => response.json({ report: "worth a cent" }));
    return listen(app);
  };

  it("version 2, to a wallet", async () => {
    const [payer, receiver] = await Promise.all([world.payer(), world.receiver()]);
    const { url, stop } = await server(receiver);
    await paid(payer, await pay(payer, `${url}/paid`), NETWORK);
    assert.equal(await world.tokens(receiver), PRICE);
    await stop();
  });

  it("version 2, to a service", async () => {
    const payer = await world.payer();
    const { url, stop } = await server(world.service);
    const before = await world.legs();
    await paid(payer, await pay(payer, `${url}/paid`), NETWORK);
    const sum = (legs) => Object.values(legs).reduce((total, leg) => total + leg, 0n);
    assert.equal(sum(await world.legs()) - sum(before), PRICE);
    await stop();
  });

  it("version 1, to a wallet", async () => {
    const [payer, receiver] = await Promise.all([world.payer(), world.receiver()]);
    const here = createRequire(new URL("../v1/package.json", import.meta.url));
    const load = (name) => import(pathToFileURL(here.resolve(name)).href);
    const { default: express4 } = await load("express");
    const { paymentMiddleware: v1 } = await load("x402-express");
    const app = express4();
    app.use(v1(receiver, { "GET /paid": { price: "$0.01", network: NETWORK_V1 } }, { url: world.relayerUrl }));
    app.get("/paid", (_request, response) => response.json({ report: "worth a cent" }));
    const { url, stop } = await listen(app);
    await paid(payer, await pay(payer, `${url}/paid`), NETWORK_V1);
    assert.equal(await world.tokens(receiver), PRICE);
    await stop();
  });
});
