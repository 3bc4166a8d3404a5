/** The x402 scheme `sluice-split` for the official packages. */
export * from "./client/index.js";
export * from "./core/index.js";
export * from "./relayer.js";
export * from "./server/index.js";
