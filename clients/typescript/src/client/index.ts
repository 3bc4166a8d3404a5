/** The client's half of the scheme, and what a payer does before: open, approve, limit, look. */
export * from "./budget.js";
export * from "./instructions.js";
export { NonceError, RelayerNonces, type NonceGrant, type NonceRequest, type NonceSource } from "./nonces.js";
export type { AxiosLike } from "./observe.js";
export { digestOf, intentExpiry, SluiceSplitClient, type SluiceSplitClientOptions } from "./scheme.js";
export { sendInstructions, TransactionError } from "./send.js";
