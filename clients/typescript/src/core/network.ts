/** The networks that x402 knows on Solana. A local validator is declared as devnet. */
const NETWORKS = [
  { caip2: "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", v1: "solana" },
  { caip2: "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1", v1: "solana-devnet" },
  { caip2: "solana:4uhcVJyU9pJkvQyS88uRDiswHXSCkY3z", v1: "solana-testnet" },
] as const;

/** Circle's USDC, which prices in dollars mean. */
const USDC: Readonly<Record<string, string>> = {
  "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp": "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v",
  "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1": "4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU",
};

/** The names of all networks in version 1. */
export const V1_NETWORKS: readonly string[] = NETWORKS.map((network) => network.v1);

/** The CAIP-2 name of a network's name in either version; `undefined` for no network of Solana. */
export function caip2(name: string): `solana:${string}` | undefined {
  return NETWORKS.find((network) => network.caip2 === name || network.v1 === name)?.caip2;
}

/**
 * Whether a cluster with this genesis hash can be the network: CAIP-2 names a Solana network by the head of its genesis
 * hash.
 */
export function isGenesisOf(network: string, genesisHash: string): boolean {
  return genesisHash.startsWith(network.slice("solana:".length));
}

/** USDC of a network, with what the official packages' spend controls ask for. */
export function usdc(network: string): { asset: string; decimals: number; symbol: string } | undefined {
  const asset = USDC[caip2(network) ?? ""];
  return asset === undefined ? undefined : { asset, decimals: 6, symbol: "USDC" };
}
