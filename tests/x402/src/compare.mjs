/**
 * The same `exact` payments settled by our relayer and by the npm facilitator, on one validator in one run, and what each says
 * to a small corpus of hostile transactions. Prints the tables; with --accept it writes them into docs/compare.md.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { cpus } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

import {
  AccountRole,
  address,
  appendTransactionMessageInstructions,
  createTransactionMessage,
  getBase64EncodedWireTransaction,
  partiallySignTransactionMessageWithSigners,
  pipe,
  setTransactionMessageFeePayer,
  setTransactionMessageLifetimeUsingBlockhash,
} from "@solana/kit";
import { HTTPFacilitatorClient } from "@x402/core/server";
import { ExactSvmScheme as ExactSvmClient } from "@x402/svm/exact/client";

import { littleEndian, sendInstructions, SYSTEM_PROGRAM, TOKEN_PROGRAM, tokenAccountAddress, utf8 } from "@sluice/x402";
import { MINT, newKey, NETWORK, ROOT, World } from "./world.mjs";

const PAYMENTS = 60;
const AT_ONCE = 32;
const PRICE = 1_000n;
const COMPUTE_BUDGET = address("ComputeBudget111111111111111111111111111111");
const MEMO = address("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr");
const LIGHTHOUSE = address("L2TExMFKdjpN9kozasaurPirfHy9P8sbXoAN1qA3S95");

let npm;
const world = await World.start("compare");
try {
  const sides = [await ours(), await theirs()];
  const rows = [];
  for (const side of sides) rows.push(await measure(side));
  const verdicts = await hostile(sides);
  const text = page(rows, verdicts);
  console.log(text);
  if (process.argv.includes("--accept")) writeFileSync(path.join(ROOT, "docs/compare.md"), text);
} finally {
  npm?.kill();
  await world.stop();
}

async function ours() {
  return { name: "sluice-relayer", client: new HTTPFacilitatorClient({ url: world.relayerUrl }), feePayer: world.wallet("relayer") };
}

/** The npm facilitator, in a process of its own. */
async function theirs() {
  const { seed, signer } = await newKey();
  await sendInstructions(world.rpc, world.admin, [fund(signer.address, 10_000_000_000n)]);
  const env = { ...process.env, NODE_ENV: "production", FEE_PAYER: Buffer.from(seed).toString("hex"), RPC_URL: world.rpcUrl };
  const file = fileURLToPath(new URL("npm-facilitator.mjs", import.meta.url));
  npm = spawn(process.execPath, [file], { env, stdio: ["ignore", "pipe", "inherit"] });
  const [url] = await once(createInterface({ input: npm.stdout }), "line");
  return { name: "npm x402Facilitator", client: new HTTPFacilitatorClient({ url }), feePayer: signer.address };
}

async function requirementsOf(side, payTo, extra = {}) {
  return {
    scheme: "exact",
    network: NETWORK,
    amount: PRICE.toString(),
    asset: MINT.mint,
    payTo,
    maxTimeoutSeconds: 60,
    extra: { feePayer: side.feePayer, ...extra },
  };
}

function wrapped(requirements, payload) {
  return { x402Version: 2, resource: { url: "http://api.example/" }, accepted: requirements, payload };
}

async function measure(side) {
  const [payer, receiver] = await Promise.all([world.payer(), world.receiver()]);
  const requirements = await requirementsOf(side, receiver);
  const scheme = new ExactSvmClient(payer.signer, { rpcUrl: world.rpcUrl });
  const make = async () => wrapped(requirements, (await scheme.createPaymentPayload(2, requirements)).payload);
  const before = await world.lamports(side.feePayer);
  const [verify, settle] = [[], []];
  const pay = async (payment, times) => {
    const began = performance.now();
    const settled = await side.client.settle(payment, requirements);
    if (!settled.success) throw new Error(`${side.name}: ${settled.errorReason}: ${settled.errorMessage}`);
    times?.push(performance.now() - began);
  };
  for (let count = 0; count < PAYMENTS; count += 1) {
    const payment = await make();
    const began = performance.now();
    const verified = await side.client.verify(payment, requirements);
    if (!verified.isValid) throw new Error(`${side.name}: ${verified.invalidReason}`);
    verify.push(performance.now() - began);
    await pay(payment, settle);
  }
  // Made beforehand: the client's own work is not measured.
  const ready = [];
  for (let count = 0; count < PAYMENTS * 2; count += 1) ready.push(await make());
  const crowd = [];
  const began = performance.now();
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      for (let payment = ready.pop(); payment !== undefined; payment = ready.pop()) await pay(payment, crowd);
    }),
  );
  const rate = (PAYMENTS * 2) / ((performance.now() - began) / 1_000);
  const paid = await world.tokens(receiver);
  if (paid !== PRICE * BigInt(PAYMENTS * 3)) throw new Error(`${side.name}: the receiver has ${paid}`);
  const lamports = Number(before - (await world.lamports(side.feePayer))) / (PAYMENTS * 3);
  return { name: side.name, verify, settle, crowd, rate, lamports };
}

/** One transaction for each rule or known hole, and what each facilitator says to it. */
async function hostile(sides) {
  const rows = new Map();
  for (const side of sides) {
    const [payer, receiver, stranger] = await Promise.all([world.payer(), world.receiver(), world.receiver()]);
    const feePayer = side.feePayer;
    const plain = (amount = PRICE, to = receiver) => transferChecked(payer.signer, to, amount);
    const budget = (units = 20_000, price = 1n) => [
      { programAddress: COMPUTE_BUDGET, data: Uint8Array.of(2, ...littleEndian(units, 4)) },
      { programAddress: COMPUTE_BUDGET, data: Uint8Array.of(3, ...littleEndian(price, 8)) },
    ];
    const memo = (text) => ({ programAddress: MEMO, data: utf8(text) });
    const cases = {
      "an honest payment": [[...budget(), await plain(), memo("honest")]],
      "the payer's signature corrupted": [[...budget(), await plain(), memo("corrupted")], { corrupt: true }],
      "to another receiver": [[...budget(), await plain(PRICE, stranger), memo("other")]],
      "a unit less": [[...budget(), await plain(PRICE - 1n), memo("less")]],
      "a unit more": [[...budget(), await plain(PRICE + 1n), memo("more")]],
      "two transfers": [[...budget(), await plain(), await plain(), memo("twice")]],
      "another memo than asked": [[...budget(), await plain(), memo("mine")], { extra: { memo: "yours" } }],
      "no memo, though one is asked": [[...budget(), await plain()], { extra: { memo: "yours" } }],
      "5 lamports a unit for 1,400,000 units": [[...budget(1_400_000, 5_000_000n), await plain(), memo("dear")]],
      "SOL taken from the fee payer": [
        [...budget(), await plain(), { ...fundFrom(feePayer, payer.address, 1_000_000n) }],
      ],
      "the fee payer a writable signer of a Lighthouse instruction": [
        [
          ...budget(),
          await plain(),
          { programAddress: LIGHTHOUSE, accounts: [{ address: feePayer, role: AccountRole.WRITABLE_SIGNER }], data: Uint8Array.of(0, 0) },
        ],
      ],
      "an unknown program": [[...budget(), await plain(), { programAddress: SYSTEM_PROGRAM, accounts: [], data: Uint8Array.of(4, 0, 0, 0) }]],
    };
    const { value: lifetime } = await world.rpc.getLatestBlockhash({ commitment: "confirmed" }).send();
    for (const [name, [instructions, options = {}]] of Object.entries(cases)) {
      const requirements = await requirementsOf(side, receiver, options.extra);
      const transaction = await partly(feePayer, instructions, lifetime, options.corrupt);
      const verdict = await ask(() => side.client.verify(wrapped(requirements, { transaction }), requirements));
      rows.set(name, [...(rows.get(name) ?? []), verdict.isValid ? "valid" : `\`${verdict.invalidReason}\``]);
    }
    // What happens to one payment that is settled by two callers at once, and once more later.
    const requirements = await requirementsOf(side, receiver);
    const transaction = await partly(feePayer, [...budget(), await plain(), memo("one")], lifetime);
    const settle = () => ask(() => side.client.settle(wrapped(requirements, { transaction }), requirements));
    const answers = [...(await Promise.all([settle(), settle()])), await settle()];
    const said = answers.map((answer) => (answer.success ? "success" : `\`${answer.errorReason}\``));
    const name = "one payment settled twice at once, then again";
    rows.set(name, [...(rows.get(name) ?? []), said.join(", ")]);
  }
  return rows;
}

/** A verdict, also where the client throws it. */
async function ask(call) {
  try {
    return await call();
  } catch (error) {
    return { isValid: false, success: false, invalidReason: error.invalidReason ?? error.message, errorReason: error.errorReason ?? error.message };
  }
}

async function partly(feePayer, instructions, lifetime, corrupt = false) {
  const message = pipe(
    createTransactionMessage({ version: 0 }),
    (draft) => setTransactionMessageFeePayer(feePayer, draft),
    (draft) => setTransactionMessageLifetimeUsingBlockhash(lifetime, draft),
    (draft) => appendTransactionMessageInstructions(instructions, draft),
  );
  const signed = await partiallySignTransactionMessageWithSigners(message);
  const bytes = Buffer.from(getBase64EncodedWireTransaction(signed), "base64");
  // The fee payer's signature is the first, the payer's the second.
  if (corrupt) bytes[1 + 64] ^= 1;
  return bytes.toString("base64");
}

async function transferChecked(from, to, amount) {
  return {
    programAddress: TOKEN_PROGRAM,
    accounts: [
      { address: await tokenAccountAddress(from.address, MINT.mint), role: AccountRole.WRITABLE },
      { address: MINT.mint, role: AccountRole.READONLY },
      { address: await tokenAccountAddress(to, MINT.mint), role: AccountRole.WRITABLE },
      { address: from.address, role: AccountRole.READONLY_SIGNER, signer: from },
    ],
    data: Uint8Array.of(12, ...littleEndian(amount, 8), MINT.decimals),
  };
}

function fund(to, lamports) {
  const transfer = fundFrom(world.admin.address, to, lamports);
  transfer.accounts[0].signer = world.admin;
  return transfer;
}

function fundFrom(from, to, lamports) {
  return {
    programAddress: SYSTEM_PROGRAM,
    accounts: [
      { address: from, role: AccountRole.WRITABLE_SIGNER },
      { address: to, role: AccountRole.WRITABLE },
    ],
    data: Uint8Array.of(2, 0, 0, 0, ...littleEndian(lamports, 8)),
  };
}

function page(rows, verdicts) {
  const at = (times, part) => times.toSorted((a, b) => a - b)[Math.min(times.length - 1, Math.floor(times.length * part))].toFixed(1);
  const line = (name, cell) => `| ${name} | ${rows.map(cell).join(" | ")} |`;
  return `# The same payments, by our relayer and by the npm facilitator

Made by \`node tests/x402/src/compare.mjs --accept\` (${cpus().length} cores, 100 ms slots, everything on one machine): ${PAYMENTS} \`exact\` payments one after
the other, each verified and then settled, then ${PAYMENTS * 2} with ${AT_ONCE} at once, through \`@x402/core\`'s HTTP client. The other side is \`x402Facilitator\`
with \`ExactSvmScheme\` of \`@x402/svm\` 2.27.0 behind Express, in a process of its own; ours is the build of \`make everything\`. Only what stands
beside each other can be compared: the machine does other things as well.

| | ${rows.map((row) => row.name).join(" | ")} |
|---|${rows.map(() => "---:|").join("")}
${line("`/verify`, p50 ms", (row) => at(row.verify, 0.5))}
${line("`/verify`, p99 ms", (row) => at(row.verify, 0.99))}
${line("`/settle`, p50 ms", (row) => at(row.settle, 0.5))}
${line("`/settle`, p99 ms", (row) => at(row.settle, 0.99))}
${line(`\`/settle\` with ${AT_ONCE} at once, p50 ms`, (row) => at(row.crowd, 0.5))}
${line(`\`/settle\` with ${AT_ONCE} at once, p99 ms`, (row) => at(row.crowd, 0.99))}
${line(`payments a second with ${AT_ONCE} at once`, (row) => row.rate.toFixed(0))}
${line("lamports a payment", (row) => row.lamports.toFixed(0))}

What each says to \`/verify\`, and in the last line to \`/settle\`. The validator has no Lighthouse program, so a simulation of it fails here and would not
on mainnet. The npm facilitator holds duplicates in memory and for two minutes; ours in its ledger.

| transaction | ${rows.map((row) => row.name).join(" | ")} |
|---|${rows.map(() => "---|").join("")}
${[...verdicts].map(([name, cells]) => `| ${name} | ${cells.join(" | ")} |`).join("\n")}
`;
}
