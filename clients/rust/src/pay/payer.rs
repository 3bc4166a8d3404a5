use std::collections::BTreeMap;

use sluice_sdk::{Address, x402::Network};

/// Who pays, on which cluster, and how much at most.
#[derive(Clone, Debug)]
pub struct Payer {
    /// The wallet whose nonce account is charged. The key that signs may be another: a session key.
    pub address: Address,
    /// The network that requirements must name.
    pub network: Network,
    /// The genesis hash that requirements must name. It tells a local validator from devnet, which the
    /// network's name does not.
    pub genesis_hash: [u8; 32],
    /// What may be spent.
    pub policy: Policy,
}

/// What one call may cost, in each mint. A mint that is not named may not be spent at all: an amount means
/// nothing without its mint.
///
/// This is the client's own guard. The limits that hold whatever the client does are those of the lane, on
/// chain.
///
/// ```
/// use sluice_client::pay::Policy;
///
/// let usdc = sluice_sdk::DEVNET_USDC;
/// let policy = Policy::none().allow(usdc, 10_000);
/// assert_eq!(policy.limit(&usdc), 10_000);
/// assert_eq!(policy.limit(&sluice_sdk::PROGRAM_ID), 0);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Policy {
    limits: BTreeMap<Address, u64>,
}

impl Policy {
    /// Spends nothing.
    pub fn none() -> Self {
        Self::default()
    }

    /// Lets one call cost up to `max_amount` atomic units of `mint`.
    #[must_use]
    pub fn allow(mut self, mint: Address, max_amount: u64) -> Self {
        self.limits.insert(mint, max_amount);
        self
    }

    /// The most that one call may cost in a mint.
    pub fn limit(&self, mint: &Address) -> u64 {
        self.limits.get(mint).copied().unwrap_or(0)
    }
}
