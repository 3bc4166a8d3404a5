/** What client, server and program agree on: digests, terms, nonces, limits, shares. Makes no connections. */
export * from "./bytes.js";
export * from "./entry.js";
export * from "./intent.js";
export * from "./lane.js";
export * from "./network.js";
export * from "./program.js";
export * from "./resource.js";
export * from "./signature.js";
export * from "./split.js";
export * from "./terms.js";
export * from "./window.js";
export * from "./wire.js";
