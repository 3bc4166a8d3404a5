/** The npm facilitator behind HTTP, in a process of its own. FEE_PAYER is its key's seed in hex, RPC_URL the cluster's RPC. */
import { createKeyPairSignerFromPrivateKeyBytes } from "@solana/kit";
import express from "express";
import { x402Facilitator } from "@x402/core/facilitator";
import { toFacilitatorSvmSigner } from "@x402/svm";
import { ExactSvmScheme } from "@x402/svm/exact/facilitator";

import { NETWORK } from "./world.mjs";

const seed = Uint8Array.from(Buffer.from(process.env.FEE_PAYER, "hex"));
const signer = toFacilitatorSvmSigner(await createKeyPairSignerFromPrivateKeyBytes(seed), { defaultRpcUrl: process.env.RPC_URL });
const facilitator = new x402Facilitator().register(NETWORK, new ExactSvmScheme(signer));
const app = express();
app.use(express.json());
app.get("/supported", (_request, response) => response.json(facilitator.getSupported()));
for (const route of ["verify", "settle"]) {
  app.post(`/${route}`, async (request, response) => {
    const { paymentPayload, paymentRequirements } = request.body;
    try {
      response.json(await facilitator[route](paymentPayload, paymentRequirements));
    } catch (error) {
      response.status(500).json({ error: String(error) });
    }
  });
}
const server = app.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}`));
