use sluice_intent::{LaneTerms, Scope, UNLIMITED};
use sluice_sdk::{Address, SignedIntent, UnsignedIntent, address, instructions::SettleItem};
use solana_keypair::Keypair;
use solana_signer::Signer;

/// A payer with an open nonce account: lane 0 its wallet's key, lane 1 a session key.
#[derive(Debug)]
pub struct Payer {
    /// The wallet.
    pub wallet: Keypair,
    /// The session key.
    pub session: Keypair,
    /// The token account that may be pulled from.
    pub source: Address,
    /// The nonce account.
    pub nonce_account: Address,
    /// Slot in which it was opened.
    pub opened_slot: u64,
}

impl Payer {
    /// The wallet's address.
    pub fn key(&self) -> Address {
        self.wallet.pubkey()
    }

    /// Signs with the key of the intent's lane.
    pub fn sign(&self, intent: UnsignedIntent) -> SignedIntent {
        let key = if intent.lane == 0 {
            &self.wallet
        } else {
            &self.session
        };
        intent.sign(key).unwrap()
    }

    /// A signed intent with this payer's accounts.
    pub fn item(&self, signed: &SignedIntent) -> SettleItem {
        SettleItem {
            entry: signed.entry(),
            source: self.source,
            nonce_account: self.nonce_account,
        }
    }

    /// The nonce account's address for a wallet.
    pub fn nonce_address(wallet: &Address, mint: &Address) -> Address {
        address::nonce_account(wallet, mint).0
    }
}

/// A lane without any limit.
pub fn lane_terms(key: Address) -> LaneTerms {
    LaneTerms {
        key: key.to_bytes(),
        expires_at: i64::MAX,
        max_per_payment: UNLIMITED,
        period_limit: UNLIMITED,
        period_secs: 0,
        total_limit: UNLIMITED,
        scope: Scope::Any,
    }
}
