/** A local validator with the program set up, a relayer in front of it, and wallets with money. */
import { spawn, execFile } from "node:child_process";
import { createWriteStream, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer as createHttpServer } from "node:http";
import { createServer } from "node:net";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import path from "node:path";

import {
  AccountRole,
  address,
  createKeyPairSignerFromBytes,
  createKeyPairSignerFromPrivateKeyBytes,
  createSolanaRpc,
  fetchEncodedAccount,
} from "@solana/kit";
import {
  ASSOCIATED_TOKEN_PROGRAM,
  facilitatorAddress,
  fromLittleEndian,
  littleEndian,
  openBudget,
  sendInstructions,
  serviceAddress,
  SYSTEM_PROGRAM,
  TOKEN_PROGRAM,
  tokenAccountAddress,
} from "@sluice/x402";

export const ROOT = fileURLToPath(new URL("../../../", import.meta.url));
/** A local validator is declared as devnet: the official packages know no others. */
export const NETWORK = "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1";
export const NETWORK_V1 = "solana-devnet";
/** Devnet USDC, as the official packages know it. */
export const MINT = { mint: address("4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU"), decimals: 6 };
/** What a payer is given: 10 USDC. */
export const FUNDS = 10_000_000n;

const BINARIES = process.env.SLUICE_BIN ?? path.join(ROOT, "target/debug");
const PROGRAM = process.env.SLUICE_PROGRAM ?? path.join(ROOT, "target/deploy/sluice.so");
const READY_MS = 60_000;
const SERVICE_ID = 1n;
const run = promisify(execFile);
/** Stops what serves now. */
const open = new Set();

/** A program that was started here, and is ended here. */
class Child {
  constructor(name, args, folder, log) {
    this.name = name;
    this.logFile = path.join(folder, log);
    this.process = spawn(path.join(BINARIES, name), args, { stdio: ["ignore", "pipe", "pipe"] });
    this.process.stderr.pipe(createWriteStream(this.logFile));
    this.ended = once(this.process, "exit");
    this.process.on("error", (error) => console.error(`${name}: ${error.message}: build it with \`make everything\``));
  }

  async stop() {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return;
    this.process.kill("SIGTERM");
    await this.ended;
  }
}

/** What every test works with. */
export class World {
  static async start(name) {
    const folder = path.join(ROOT, "target/test-x402", name);
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true });
    const world = new World();
    world.folder = folder;
    const keys = path.join(folder, "keys");
    const options = ["--rpc-port", "0", "--ws-port", "0", "--output", "json", "--slot-ms", "100"];
    world.localnet = new Child("sluice-localnet", [...options, "--program", PROGRAM, "--keys-dir", keys], folder, "localnet.log");
    const lines = createInterface({ input: world.localnet.process.stdout });
    const [line] = await Promise.race([once(lines, "line"), world.localnet.ended.then(() => fail(world.localnet))]);
    world.ready = JSON.parse(line);
    if (world.ready.mint !== MINT.mint) {
      await world.stop();
      throw new Error(`the validator's mint ${world.ready.mint} is not devnet USDC, ${MINT.mint}: stock clients refuse it`);
    }
    world.rpcUrl = world.ready.rpc_url;
    world.rpc = createSolanaRpc(world.rpcUrl);
    world.admin = await world.key("admin");
    world.service = await serviceAddress(world.wallet("merchant"), SERVICE_ID);
    await world.migrate();
    await world.startRelayer();
    return world;
  }

  /** The address of a demo wallet. */
  wallet(role) {
    return address(this.ready.keys[role].address);
  }

  keyFile(role) {
    return path.resolve(this.folder, "keys", `${role}.json`);
  }

  key(role) {
    const bytes = Uint8Array.from(JSON.parse(readFileSync(this.keyFile(role), "utf8")));
    return createKeyPairSignerFromBytes(bytes);
  }

  async migrate() {
    const key = (role) => `"${this.wallet(role)}"`;
    const text = `[config]
admin = ${key("admin")}
keypair = "keys/admin.json"
treasury = ${key("treasury")}
treasury_bps = 50
max_facilitator_bps = 1000
max_intent_ttl = 300

[[mint]]
address = "${MINT.mint}"

[[facilitator]]
name = "test"
authority = ${key("facilitator")}
keypair = "keys/facilitator.json"
wallet = ${key("facilitator-wallet")}
relayers = [${key("relayer")}]

[[service]]
id = ${SERVICE_ID}
creator = ${key("merchant")}
keypair = "keys/merchant.json"
mint = "${MINT.mint}"
facilitator = "test"
facilitator_bps = 100
recipients = [{ owner = ${key("merchant")}, bps = 7000 }, { owner = ${key("partner")}, bps = 3000 }]
`;
    const file = path.join(this.folder, "migrations.toml");
    writeFileSync(file, text);
    await run(path.join(BINARIES, "sluice"), ["-u", this.rpcUrl, "migrate", "apply", "--file", file, "--yes"]);
  }

  async startRelayer() {
    const port = await freePort();
    const facilitator = await facilitatorAddress(this.wallet("facilitator"));
    const config = path.join(this.folder, "relayer.toml");
    writeFileSync(
      config,
      `listen = "127.0.0.1:${port}"
network = "solana-devnet"
rpc_url = "${this.rpcUrl}"
ws_url = "${this.ready.ws_url}"
database_url = "sqlite://${path.join(this.folder, "ledger.db")}"
facilitator = "${facilitator}"

[fee_payer]
keypair = "${this.keyFile("relayer")}"
`,
    );
    this.relayer = new Child("sluice-relayer", ["run", "--config", config], this.folder, "relayer.log");
    this.relayerUrl = `http://127.0.0.1:${port}`;
    const deadline = Date.now() + READY_MS;
    for (;;) {
      const ready = await fetch(`${this.relayerUrl}/ready`).catch(() => undefined);
      if (ready?.ok) return;
      if (Date.now() > deadline || this.relayer.process.exitCode !== null) await fail(this.relayer);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** A wallet without SOL that holds USDC. */
  async payer(units = FUNDS) {
    const { seed, signer } = await newKey();
    await sendInstructions(this.rpc, this.admin, [
      await createTokenAccount(this.admin, signer.address),
      await mintTo(this.admin, signer.address, units),
    ]);
    return { signer, seed, address: signer.address };
  }

  /** A wallet that receives. */
  async receiver() {
    const { signer } = await newKey();
    await sendInstructions(this.rpc, this.admin, [await createTokenAccount(this.admin, signer.address)]);
    return signer.address;
  }

  /** A payer that has approved a budget, and an agent's session key with its limits. */
  async budgeted(limits = {}) {
    const payer = await this.payer();
    const agent = await newKey();
    const instructions = await openBudget({
      payer: payer.signer,
      rentPayer: this.admin,
      mint: MINT,
      approve: FUNDS,
      session: { key: agent.signer.address, ...limits },
    });
    await sendInstructions(this.rpc, this.admin, instructions);
    return { ...payer, agent: agent.signer, agentSeed: agent.seed };
  }

  /** Atomic units of a wallet, or of a service's vault. */
  async tokens(owner) {
    const account = await fetchEncodedAccount(this.rpc, await tokenAccountAddress(owner, MINT.mint), {
      commitment: "confirmed",
    });
    return account.exists ? fromLittleEndian(Uint8Array.from(account.data.slice(64, 72))) : 0n;
  }

  /** What everybody who shares in the service has, its vault included. */
  async legs() {
    const owners = {
      merchant: this.wallet("merchant"),
      partner: this.wallet("partner"),
      facilitator: this.wallet("facilitator-wallet"),
      treasury: this.wallet("treasury"),
      vault: this.service,
    };
    const rows = Object.entries(owners).map(async ([name, owner]) => [name, await this.tokens(owner)]);
    return Object.fromEntries(await Promise.all(rows));
  }

  /** The commitment that a transaction has now; `undefined` for one that the cluster does not know, or that failed. */
  async status(signature) {
    const { value } = await this.rpc.getSignatureStatuses([signature]).send();
    return value[0]?.err ? undefined : value[0]?.confirmationStatus;
  }

  async lamports(owner) {
    return (await this.rpc.getBalance(owner, { commitment: "confirmed" }).send()).value;
  }

  async stop() {
    await Promise.all([...open].map((stop) => stop()));
    await this.relayer?.stop();
    await this.localnet?.stop();
  }
}

/** A transfer that the test makes itself. */
export async function transfer(from, to, amount) {
  return {
    programAddress: TOKEN_PROGRAM,
    accounts: [
      { address: await tokenAccountAddress(from.address, MINT.mint), role: AccountRole.WRITABLE },
      { address: await tokenAccountAddress(to, MINT.mint), role: AccountRole.WRITABLE },
      { address: from.address, role: AccountRole.READONLY_SIGNER, signer: from },
    ],
    data: Uint8Array.of(3, ...littleEndian(amount, 8)),
  };
}

export async function newKey() {
  const seed = crypto.getRandomValues(new Uint8Array(32));
  return { seed, signer: await createKeyPairSignerFromPrivateKeyBytes(seed, true) };
}

/** Serves a node request handler on a free port, or on the one given. What a failed test leaves open ends with its world. */
export async function listen(handler, port = 0) {
  const server = createHttpServer(handler);
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  return { url: `http://127.0.0.1:${server.address().port}`, stop: stopper(server) };
}

/** What stops a server, once. */
export function stopper(server) {
  const stop = async () => {
    if (!open.delete(stop)) return;
    server.closeAllConnections();
    server.close();
    await once(server, "close");
  };
  open.add(stop);
  return stop;
}

export async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

async function createTokenAccount(payer, owner) {
  return {
    programAddress: ASSOCIATED_TOKEN_PROGRAM,
    accounts: [
      { address: payer.address, role: AccountRole.WRITABLE_SIGNER, signer: payer },
      { address: await tokenAccountAddress(owner, MINT.mint), role: AccountRole.WRITABLE },
      { address: owner, role: AccountRole.READONLY },
      { address: MINT.mint, role: AccountRole.READONLY },
      { address: SYSTEM_PROGRAM, role: AccountRole.READONLY },
      { address: TOKEN_PROGRAM, role: AccountRole.READONLY },
    ],
    data: Uint8Array.of(1),
  };
}

async function mintTo(authority, owner, units) {
  return {
    programAddress: TOKEN_PROGRAM,
    accounts: [
      { address: MINT.mint, role: AccountRole.WRITABLE },
      { address: await tokenAccountAddress(owner, MINT.mint), role: AccountRole.WRITABLE },
      { address: authority.address, role: AccountRole.READONLY_SIGNER, signer: authority },
    ],
    data: Uint8Array.of(7, ...littleEndian(units, 8)),
  };
}

async function fail(child) {
  throw new Error(`${child.name} did not start:\n${readFileSync(child.logFile, "utf8").slice(-2000)}`);
}
