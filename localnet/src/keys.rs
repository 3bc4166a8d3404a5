//! The demo keys: well known, for local use only.

use std::fmt;

use sha2::{Digest as _, Sha256};
use solana_address::Address;
use solana_keypair::Keypair;
use solana_signer::Signer as _;

/// Who a demo key belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// The program's upgrade authority, which initialises the config; also the mint's authority.
    Admin,
    /// Receives the protocol's share.
    Treasury,
    /// The facilitator's authority.
    Facilitator,
    /// Owns the token account that receives the facilitator's share.
    FacilitatorWallet,
    /// The relayer's fee payer.
    Relayer,
    /// The service that gets paid; deploys a split config.
    Merchant,
    /// A second recipient in the merchant's split.
    Partner,
    /// Owns the tokens that are paid with.
    Payer,
    /// The payer's agent: a session key, which holds nothing.
    Agent,
}

impl Role {
    /// Every role, in the order they are listed in.
    pub const ALL: [Self; 9] = [
        Self::Admin,
        Self::Treasury,
        Self::Facilitator,
        Self::FacilitatorWallet,
        Self::Relayer,
        Self::Merchant,
        Self::Partner,
        Self::Payer,
        Self::Agent,
    ];

    /// The role's name, which is also the name of its key file without `.json`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Treasury => "treasury",
            Self::Facilitator => "facilitator",
            Self::FacilitatorWallet => "facilitator-wallet",
            Self::Relayer => "relayer",
            Self::Merchant => "merchant",
            Self::Partner => "partner",
            Self::Payer => "payer",
            Self::Agent => "agent",
        }
    }

    /// What the role is for, in a few words.
    #[must_use]
    pub const fn purpose(self) -> &'static str {
        match self {
            Self::Admin => "upgrade authority, mint authority",
            Self::Treasury => "receives the protocol's share",
            Self::Facilitator => "facilitator's authority",
            Self::FacilitatorWallet => "receives the facilitator's share",
            Self::Relayer => "relayer's fee payer",
            Self::Merchant => "service that gets paid",
            Self::Partner => "second recipient",
            Self::Payer => "pays, owns 100 USDC",
            Self::Agent => "payer's session key",
        }
    }

    /// The SOL the role's key starts with, in lamports. Only keys that pay fees or rent hold any.
    #[must_use]
    pub const fn lamports(self) -> u64 {
        match self {
            Self::Admin | Self::Facilitator | Self::Relayer | Self::Merchant => {
                100 * crate::LAMPORTS_PER_SOL
            }
            // For the nonce account it opens.
            Self::Payer => crate::LAMPORTS_PER_SOL,
            Self::Treasury | Self::FacilitatorWallet | Self::Partner | Self::Agent => 0,
        }
    }

    /// The role's key pair: the same one everywhere and always, and therefore nobody's secret.
    #[must_use]
    pub fn keypair(self) -> Keypair {
        let label = format!("sluice localnet demo key: {}", self.name());
        Keypair::new_from_array(Sha256::digest(label).into())
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The key pairs of all roles.
///
/// **They are public**: derived from fixed labels (`sluice localnet demo key: admin` and so on, hashed with SHA-256 to an
/// Ed25519 seed) so that demos and tests are the same everywhere. Use them on a local validator only.
#[allow(
    missing_docs,
    reason = "each field is the role of its name, and Role documents those"
)]
pub struct DemoKeys {
    pub admin: Keypair,
    pub treasury: Keypair,
    pub facilitator: Keypair,
    pub facilitator_wallet: Keypair,
    pub relayer: Keypair,
    pub merchant: Keypair,
    pub partner: Keypair,
    pub payer: Keypair,
    pub agent: Keypair,
}

impl DemoKeys {
    /// Derives them all.
    #[must_use]
    pub fn new() -> Self {
        Self {
            admin: Role::Admin.keypair(),
            treasury: Role::Treasury.keypair(),
            facilitator: Role::Facilitator.keypair(),
            facilitator_wallet: Role::FacilitatorWallet.keypair(),
            relayer: Role::Relayer.keypair(),
            merchant: Role::Merchant.keypair(),
            partner: Role::Partner.keypair(),
            payer: Role::Payer.keypair(),
            agent: Role::Agent.keypair(),
        }
    }

    /// The key pair of a role.
    #[must_use]
    pub const fn get(&self, role: Role) -> &Keypair {
        match role {
            Role::Admin => &self.admin,
            Role::Treasury => &self.treasury,
            Role::Facilitator => &self.facilitator,
            Role::FacilitatorWallet => &self.facilitator_wallet,
            Role::Relayer => &self.relayer,
            Role::Merchant => &self.merchant,
            Role::Partner => &self.partner,
            Role::Payer => &self.payer,
            Role::Agent => &self.agent,
        }
    }

    /// The address of a role.
    #[must_use]
    pub fn address(&self, role: Role) -> Address {
        self.get(role).pubkey()
    }

    /// All roles with their key pairs.
    pub fn iter(&self) -> impl Iterator<Item = (Role, &Keypair)> {
        Role::ALL.into_iter().map(|role| (role, self.get(role)))
    }
}

impl Default for DemoKeys {
    fn default() -> Self {
        Self::new()
    }
}

// Not derived: the addresses are what a reader wants, and key pairs do not belong in logs, not even public ones.
impl fmt::Debug for DemoKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(
                self.iter()
                    .map(|(role, keypair)| (role.name(), keypair.pubkey())),
            )
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_hash_of_its_label() {
        // Written down, so that a change of the derivation cannot go unnoticed: people keep these addresses in scripts.
        let addresses: Vec<_> = Role::ALL
            .iter()
            .map(|role| role.keypair().pubkey().to_string())
            .collect();
        assert_eq!(addresses, EXPECTED);
    }

    const EXPECTED: [&str; 9] = [
        "4JpaVAbcBoaqf1v55u2Dzezi4aK8TUfzzpf3xZyA73AA",
        "253cf2Rq8LoVT1Vo4j9ssfpQ71tfzP2zGrjqkcQw3Ra3",
        "59LrqjrAfCrL4fDdXbumhGGEBRo9vmA8j16c8wwaC9pN",
        "3KvuCFN784m58NJZ7yeWjDSKQLMELw3pRhbnFHFnurFL",
        "14cD6tEBQe2oA8CrFfZtPAYg8xDmemBXttGpvAGKzAJL",
        "DFfYpPipAb5Fm8rE7kqTS1ZNYBjHdDNVZNTWb5gpPSf3",
        "7NB9nSjKVsNACT6v4Yn9TcunRkdCu7be7F9jm354EJfW",
        "HKythhR8yRQsAUbcMyrJBzse8Qv6kNmcsa1kdjB1ARky",
        "EoQh2dcVGKzSwQbVa9fFsv4u35yZnRJjMZX9auiNoE5A",
    ];

    #[test]
    fn debug_output_shows_no_secrets() {
        let keys = DemoKeys::new();
        let text = format!("{keys:?}");
        for (_, keypair) in keys.iter() {
            assert!(text.contains(&keypair.pubkey().to_string()));
            assert!(!text.contains(&keypair.to_base58_string()));
        }
    }
}
