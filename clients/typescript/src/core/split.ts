import { UNLIMITED } from "./bytes.js";
import { BPS, MAX_FACILITATOR_BPS, MAX_RECIPIENTS } from "./terms.js";

/** What treasury and facilitator take before the recipients divide the rest. */
export interface Fees {
  readonly treasuryBps: number;
  readonly facilitatorBps: number;
  /** Of each payment, in atomic units. */
  readonly facilitatorFixed: bigint;
}

/** The division of a sum, in atomic units. It adds up to the sum. */
export interface Shares {
  readonly treasury: bigint;
  readonly facilitator: bigint;
  /** In the order of the terms. */
  readonly recipients: readonly bigint[];
}

/** Why a sum cannot be divided. */
export class SplitError extends Error {
  override readonly name = "SplitError";

  constructor(readonly problem: "recipients" | "treasury") {
    super(
      problem === "recipients"
        ? "1 to 8 recipients' shares must add up to 10000 bps"
        : "the treasury's share is over 10000 bps",
    );
  }
}

/** Divides `sum`, which `payments` payments add up to, as the program does. */
export function split(sum: bigint, payments: bigint, fees: Fees, recipientBps: readonly number[]): Shares {
  const whole = recipientBps.reduce((total, bps) => total + BigInt(bps), 0n);
  if (recipientBps.length === 0 || recipientBps.length > MAX_RECIPIENTS || whole !== BPS) {
    throw new SplitError("recipients");
  }
  if (BigInt(fees.treasuryBps) > BPS) throw new SplitError("treasury");
  const treasury = part(sum, BigInt(fees.treasuryBps));
  let rest = sum - treasury;
  const proportional = part(sum, least(BigInt(fees.facilitatorBps), BPS));
  // The program's counts stop at the top of 64 bits.
  const asked = least(least(payments * fees.facilitatorFixed, UNLIMITED) + proportional, UNLIMITED);
  const facilitator = least(least(asked, part(sum, BigInt(MAX_FACILITATOR_BPS))), rest);
  rest -= facilitator;
  const legs = recipientBps.map((bps) => part(rest, BigInt(bps)));
  const others = legs.slice(1);
  const first = rest - others.reduce((total, leg) => total + leg, 0n);
  return { treasury, facilitator, recipients: [first, ...others] };
}

function part(sum: bigint, bps: bigint): bigint {
  return (sum * bps) / BPS;
}

function least(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}
