/** The package's README: its programs are taken out of it and run as they are written. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import path from "node:path";

import { freePort, FUNDS, World } from "./world.mjs";

const README = readFileSync(new URL("../../../clients/typescript/README.md", import.meta.url), "utf8");
// Beside this file's dependencies, so that the packages are found.
const folder = fileURLToPath(new URL("../build/", import.meta.url));
const MOST_LINES = 21;

const programs = new Map(
  [...README.matchAll(/<!-- run: (\S+) -->\n```js\n([\s\S]*?)```/g)].map(([, name, text]) => [name, text]),
);

describe("the README", () => {
  let world;
  before(async () => {
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder);
    for (const [name, text] of programs) writeFileSync(path.join(folder, name), text);
    world = await World.start("readme");
  });
  after(() => world?.stop());

  const start = (name, env) => spawn(process.execPath, [path.join(folder, name)], { env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "inherit"] });

  it("has a paid route and a paying agent, of some twenty lines", () => {
    assert.deepEqual([...programs.keys()], ["server.mjs", "agent.mjs"]);
    for (const text of programs.values()) {
      assert.ok(text.split("\n").filter((line) => line.trim() !== "").length <= MOST_LINES);
    }
  });

  it("works as it is written", async () => {
    const payer = await world.budgeted({ maxPerPayment: 100_000n });
    const port = await freePort();
    const url = `http://127.0.0.1:${port}`;
    const server = start("server.mjs", { RELAYER_URL: world.relayerUrl, SERVICE: world.service, PUBLIC_URL: url, PORT: String(port) });
    try {
      await once(server.stdout, "data");
      const keyFile = path.join(world.folder, "agent.json");
      const publicKey = new Uint8Array(await crypto.subtle.exportKey("raw", payer.agent.keyPair.publicKey));
      writeFileSync(keyFile, JSON.stringify([...payer.agentSeed, ...publicKey]));
      const agent = start("agent.mjs", {
        AGENT_KEY_FILE: keyFile,
        PAYER: payer.address,
        RELAYER_URL: world.relayerUrl,
        URL_TO_PAY: `${url}/report`,
      });
      let text = "";
      agent.stdout.on("data", (data) => (text += data));
      assert.deepEqual(await once(agent, "exit"), [0, null]);
      const { status, body, receipt } = JSON.parse(text);
      assert.equal(status, 200);
      assert.equal(body.report, "river levels");
      assert.equal(receipt.success, true);
      assert.match((await world.status(receipt.transaction)) ?? "unknown", /confirmed|finalized/);
      assert.equal(await world.tokens(payer.address), FUNDS - 50_000n);
    } finally {
      server.kill();
      await once(server, "exit");
    }
  });
});
