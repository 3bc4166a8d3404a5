/** The server's half of the scheme. */
export { keepRawBody } from "./body.js";
export { BODY_UNKNOWN, RESOURCE_MISMATCH, SluiceSplitServer, type SluiceSplitServerOptions } from "./scheme.js";
