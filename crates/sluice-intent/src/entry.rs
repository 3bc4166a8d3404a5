//! The wire form of one intent inside a `settle` instruction, and the layout of a batch.

use crate::{LANES, RESOURCE_LEN, Resource, Skip};

/// Bytes of an entry.
pub const ENTRY_LEN: usize = 64 + 8 + 8 + 4 + RESOURCE_LEN + 1;
/// Accounts of an entry, in order: source token account (writable), nonce account (writable).
pub const ENTRY_ACCOUNTS: usize = 2;
/// Bytes before the first entry of a batch, after the instruction's discriminator: `strict` u8, count u32.
pub const BATCH_HEAD_LEN: usize = 5;

/// What distinguishes an intent from the others of its batch; the rest comes from accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The lane key's signature over the 40-byte message.
    pub signature: [u8; 64],
    /// Atomic units of the service's mint.
    pub amount: u64,
    /// Nonce in the lane's window.
    pub nonce: u64,
    /// Unix seconds, zero-extended to the 64 bits that are signed.
    pub expires_at: u32,
    /// What is bought.
    pub resource: Resource,
    /// Lane and envelope ([`Flags`]).
    pub flags: u8,
}

/// The meaning of [`Entry::flags`]: bits 0 and 1 the lane, bits 2 and 3 the message envelope (reserved for
/// wallets that sign text; only 0 now), the rest zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags {
    /// The lane whose key signed.
    pub lane: u8,
}

impl Flags {
    /// Reads flags; anything that this version does not know is [`Skip::UnknownFlag`].
    pub fn parse(byte: u8) -> Result<Self, Skip> {
        if usize::from(byte) < LANES {
            Ok(Self { lane: byte })
        } else {
            Err(Skip::UnknownFlag)
        }
    }

    /// The stored byte.
    pub fn to_byte(self) -> u8 {
        self.lane
    }
}

impl Entry {
    /// Reads an entry. Every pattern of bytes is one; [`Flags::parse`] and the signature judge it.
    pub fn decode(bytes: &[u8; ENTRY_LEN]) -> Self {
        let field = |at: usize| -> [u8; 8] {
            let mut out = [0u8; 8];
            out.copy_from_slice(&bytes[at..at + 8]);
            out
        };
        let mut entry = Self {
            signature: [0; 64],
            amount: u64::from_le_bytes(field(64)),
            nonce: u64::from_le_bytes(field(72)),
            expires_at: u32::from_le_bytes([bytes[80], bytes[81], bytes[82], bytes[83]]),
            resource: [0; RESOURCE_LEN],
            flags: bytes[100],
        };
        entry.signature.copy_from_slice(&bytes[..64]);
        entry.resource.copy_from_slice(&bytes[84..100]);
        entry
    }

    /// Writes an entry.
    pub fn encode(&self) -> [u8; ENTRY_LEN] {
        let mut bytes = [0u8; ENTRY_LEN];
        bytes[..64].copy_from_slice(&self.signature);
        bytes[64..72].copy_from_slice(&self.amount.to_le_bytes());
        bytes[72..80].copy_from_slice(&self.nonce.to_le_bytes());
        bytes[80..84].copy_from_slice(&self.expires_at.to_le_bytes());
        bytes[84..100].copy_from_slice(&self.resource);
        bytes[100] = self.flags;
        bytes
    }
}
