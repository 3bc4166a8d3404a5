import {
  appendTransactionMessageInstructions,
  createTransactionMessage,
  getBase64EncodedWireTransaction,
  getSignatureFromTransaction,
  pipe,
  setTransactionMessageFeePayerSigner,
  setTransactionMessageLifetimeUsingBlockhash,
  signTransactionMessageWithSigners,
  type GetBlockHeightApi,
  type GetLatestBlockhashApi,
  type GetSignatureStatusesApi,
  type Instruction,
  type Rpc,
  type SendTransactionApi,
  type Signature,
  type TransactionSigner,
} from "@solana/kit";

const POLL_MS = 250;

/** A transaction that failed on chain, or did not land in time. */
export class TransactionError extends Error {
  override readonly name = "TransactionError";

  constructor(
    readonly signature: Signature,
    /** `failed` on chain, or `expired`: it can no longer land. */
    readonly outcome: "failed" | "expired",
    message: string,
  ) {
    super(message);
  }
}

/** Sends instructions in one transaction and waits until it is confirmed. */
export async function sendInstructions(
  rpc: Rpc<GetBlockHeightApi & GetLatestBlockhashApi & GetSignatureStatusesApi & SendTransactionApi>,
  feePayer: TransactionSigner,
  instructions: readonly Instruction[],
): Promise<Signature> {
  const { value: lifetime } = await rpc.getLatestBlockhash({ commitment: "confirmed" }).send();
  const message = pipe(
    createTransactionMessage({ version: 0 }),
    (draft) => setTransactionMessageFeePayerSigner(feePayer, draft),
    (draft) => setTransactionMessageLifetimeUsingBlockhash(lifetime, draft),
    (draft) => appendTransactionMessageInstructions(instructions, draft),
  );
  const transaction = await signTransactionMessageWithSigners(message);
  const signature = getSignatureFromTransaction(transaction);
  const wire = getBase64EncodedWireTransaction(transaction);
  await rpc.sendTransaction(wire, { encoding: "base64", preflightCommitment: "confirmed" }).send();
  for (;;) {
    // The height before the status: what has not landed by then never will.
    const height = await rpc.getBlockHeight({ commitment: "confirmed" }).send();
    const { value } = await rpc.getSignatureStatuses([signature]).send();
    const status = value[0];
    if (status?.err) {
      const cause = JSON.stringify(status.err, (_, each: unknown) => (typeof each === "bigint" ? each.toString() : each));
      throw new TransactionError(signature, "failed", `transaction ${signature} failed: ${cause}`);
    }
    if (status?.confirmationStatus === "confirmed" || status?.confirmationStatus === "finalized") return signature;
    if (!status && height > lifetime.lastValidBlockHeight) {
      throw new TransactionError(signature, "expired", `transaction ${signature} did not land in time`);
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}
