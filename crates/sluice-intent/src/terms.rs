//! The terms of a service: who receives which share of a payment. A payer signs their hash.

use solana_sha256_hasher::hash;

use crate::{BPS, Key, MAX_FACILITATOR_BPS, MAX_TREASURY_BPS};

/// Recipients a service may name.
pub const MAX_RECIPIENTS: usize = 8;

const DOMAIN: &[u8; 14] = b"sluice/terms/1";
const HEAD_LEN: usize = 14 + 3 * 32 + 2 + 8 + 2 + 1;
const RECIPIENT_LEN: usize = 32 + 32 + 2;

/// One recipient of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// The wallet that owns the money.
    pub owner: Key,
    /// The wallet's associated token account of the service's mint.
    pub token_account: Key,
    /// Share of what is left after treasury and facilitator, in basis points.
    pub bps: u16,
}

/// Everything about a service that decides where money goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms<'a> {
    /// The service's address.
    pub service: Key,
    /// The mint it is paid in.
    pub mint: Key,
    /// The facilitator (account, not wallet) that may settle for it.
    pub facilitator: Key,
    /// The facilitator's proportional share of a settlement, in basis points.
    pub facilitator_bps: u16,
    /// The facilitator's fixed share of each payment, in atomic units.
    pub facilitator_fixed: u64,
    /// The treasury's share of a settlement, in basis points.
    pub treasury_bps: u16,
    /// 1 to [`MAX_RECIPIENTS`] recipients; the first also receives every rounding remainder.
    pub recipients: &'a [Recipient],
}

/// Why terms are not acceptable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TermsError {
    /// No recipient, or more than [`MAX_RECIPIENTS`].
    RecipientCount,
    /// The recipients' shares do not add up to 10,000 basis points, or one of them is zero.
    RecipientShares,
    /// The same owner stands twice.
    DuplicateRecipient,
    /// The treasury's share is over [`MAX_TREASURY_BPS`].
    TreasuryShare,
    /// The facilitator's share is over [`MAX_FACILITATOR_BPS`].
    FacilitatorShare,
}

impl core::fmt::Display for TermsError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::RecipientCount => "a service needs 1 to 8 recipients",
            Self::RecipientShares => {
                "the recipients' shares must each be above 0 and add up to 10000 bps"
            }
            Self::DuplicateRecipient => "the same recipient stands twice",
            Self::TreasuryShare => "the treasury's share is over 1000 bps",
            Self::FacilitatorShare => "the facilitator's share is over 5000 bps",
        })
    }
}

impl core::error::Error for TermsError {}

impl Terms<'_> {
    /// Checks counts, shares and caps. Accounts and minimums are the program's to check.
    pub fn validate(&self) -> Result<(), TermsError> {
        let rows = self.recipients;
        if rows.is_empty() || rows.len() > MAX_RECIPIENTS {
            return Err(TermsError::RecipientCount);
        }
        let sum: u64 = rows.iter().map(|r| u64::from(r.bps)).sum();
        if sum != BPS || rows.iter().any(|r| r.bps == 0) {
            return Err(TermsError::RecipientShares);
        }
        for (i, row) in rows.iter().enumerate() {
            if rows.iter().take(i).any(|r| r.owner == row.owner) {
                return Err(TermsError::DuplicateRecipient);
            }
        }
        if self.treasury_bps > MAX_TREASURY_BPS {
            return Err(TermsError::TreasuryShare);
        }
        if self.facilitator_bps > MAX_FACILITATOR_BPS {
            return Err(TermsError::FacilitatorShare);
        }
        Ok(())
    }

    /// The terms hash that an intent signs: sha256 over the fields in their order, integers little-endian.
    ///
    /// Fails only where the recipients cannot be encoded ([`TermsError::RecipientCount`]).
    pub fn hash(&self) -> Result<Key, TermsError> {
        let rows = self.recipients;
        if rows.is_empty() || rows.len() > MAX_RECIPIENTS {
            return Err(TermsError::RecipientCount);
        }
        let mut bytes = [0u8; HEAD_LEN + MAX_RECIPIENTS * RECIPIENT_LEN];
        let mut at = 0;
        let mut put = |part: &[u8]| {
            bytes[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        };
        put(DOMAIN);
        put(&self.service);
        put(&self.mint);
        put(&self.facilitator);
        put(&self.facilitator_bps.to_le_bytes());
        put(&self.facilitator_fixed.to_le_bytes());
        put(&self.treasury_bps.to_le_bytes());
        put(&[rows.len() as u8]);
        for row in rows {
            put(&row.owner);
            put(&row.token_account);
            put(&row.bps.to_le_bytes());
        }
        Ok(hash(&bytes[..at]).to_bytes())
    }
}
