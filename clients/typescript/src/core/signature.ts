import { fromLittleEndian, join } from "./bytes.js";

const PRIME = 2n ** 255n - 19n;
/** The `y` of the eight points of small order; a point and its negative share one. */
const SMALL_ORDER: ReadonlySet<bigint> = new Set([
  0n,
  1n,
  PRIME - 1n,
  0x05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826n,
  0x7a03ac9277fdc74ec6cc392cfa53202a0f67100d760b3cba4fd84d3d706a17c7n,
]);

/**
 * The program's verdict on a signature, which is the strict one: scalar and points reduced, no point of small order, and
 * the cofactorless equation. The equation is the platform's; what platforms differ in is checked before.
 */
export async function verifySignature(
  key: Uint8Array,
  message: Uint8Array,
  signature: Uint8Array,
): Promise<boolean> {
  if (key.length !== 32 || signature.length !== 64) return false;
  if (!isAcceptable(key) || !isAcceptable(signature.subarray(0, 32))) return false;
  try {
    const publicKey = await crypto.subtle.importKey("raw", join(key), "Ed25519", false, ["verify"]);
    return await crypto.subtle.verify("Ed25519", publicKey, join(signature), join(message));
  } catch {
    // A key that is no point of the curve cannot be imported everywhere.
    return false;
  }
}

/** Whether a point is reduced and not of small order. Only points of small order have an encoding with a wrong sign. */
function isAcceptable(point: Uint8Array): boolean {
  const y = fromLittleEndian(point) & (2n ** 255n - 1n);
  return y < PRIME && !SMALL_ORDER.has(y);
}
