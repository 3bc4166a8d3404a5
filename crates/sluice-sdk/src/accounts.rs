//! The program's accounts as they lie on chain, and how to read them.
//!
//! Each struct is the account's bytes after the 8-byte discriminator, field by field as in
//! `programs/sluice/src/state`; a test compares every offset with the program's own.

use core::mem::offset_of;

use bytemuck::{AnyBitPattern, Pod, Zeroable};
use sha2::{Digest as _, Sha256};
use sluice_intent::{LANES, Lane, MAX_RECIPIENTS, MAX_RELAYERS, Recipient, Terms, TermsError};

use crate::{Address, LOADER_V3, PROGRAM_ID};

/// The layout version that this crate reads.
pub const VERSION: u8 = 1;
/// Bytes of an account's discriminator.
pub const DISCRIMINATOR_LEN: usize = 8;
/// [`AcceptedMint::flags`]: pulls from payers are allowed.
pub const MINT_SETTLES: u8 = 1;
/// [`Service::status`]: takes payments.
pub const SERVICE_ACTIVE: u8 = 1;
/// [`Service::status`]: takes no payments.
pub const SERVICE_CLOSED: u8 = 2;
/// Seconds between the announcement of a treasury share and its effect.
pub const FEE_DELAY_SECS: i64 = 24 * 3_600;

/// Seconds without a settlement after which whoever paid a nonce account's rent may close it.
pub const NONCE_IDLE_SECS: i64 = 30 * 24 * 3_600;

/// A 32-byte key inside an account.
pub type Key = [u8; 32];

/// Which of the program's accounts are asked for: those of a kind that hold a key in one place. Both parts are what a
/// node compares an account's bytes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountQuery {
    /// The first bytes of the data.
    pub discriminator: [u8; DISCRIMINATOR_LEN],
    /// Where the key stands in the data.
    pub offset: usize,
    /// The key.
    pub key: Address,
}

impl AccountQuery {
    /// The services of a facilitator account.
    pub fn services_of(facilitator: Address) -> Self {
        Self {
            discriminator: Service::discriminator(),
            offset: DISCRIMINATOR_LEN + offset_of!(Service, facilitator),
            key: facilitator,
        }
    }

    /// The nonce accounts whose rent `rent_payer` paid.
    pub fn sponsored_by(rent_payer: Address) -> Self {
        Self {
            discriminator: NonceAccount::discriminator(),
            offset: DISCRIMINATOR_LEN + offset_of!(NonceAccount, rent_payer),
            key: rent_payer,
        }
    }
}

/// Why account data could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The account belongs to another program.
    #[error("{kind}: the account belongs to {owner}, not to the Sluice program")]
    Owner {
        /// What was expected.
        kind: &'static str,
        /// Who owns it.
        owner: Address,
    },
    /// It is one of the program's accounts, but of another kind, or shorter than that kind.
    #[error("not a {kind} account of the Sluice program")]
    Kind {
        /// What was expected.
        kind: &'static str,
    },
    /// The layout version is unknown.
    #[error("{kind}: layout version {version}; this build reads version {VERSION}: upgrade it")]
    Version {
        /// What was expected.
        kind: &'static str,
        /// What was found.
        version: u8,
    },
}

/// An account of the program.
pub trait SluiceAccount: AnyBitPattern {
    /// Its name in the program; the discriminator is made of it.
    const NAME: &'static str;

    /// The layout version in the data.
    fn version(&self) -> u8;

    /// The first 8 bytes of its data.
    fn discriminator() -> [u8; DISCRIMINATOR_LEN] {
        head(&Sha256::digest(format!("account:{}", Self::NAME)))
    }

    /// Bytes of the whole account.
    fn size() -> usize {
        DISCRIMINATOR_LEN + size_of::<Self>()
    }

    /// Reads account data, checking owner, kind, size and version.
    fn decode(owner: &Address, data: &[u8]) -> Result<Self, DecodeError> {
        let kind = Self::NAME;
        if *owner != PROGRAM_ID {
            return Err(DecodeError::Owner {
                kind,
                owner: *owner,
            });
        }
        Self::decode_data(data)
    }

    /// Reads account data of an owner that was checked before.
    fn decode_data(data: &[u8]) -> Result<Self, DecodeError> {
        let kind = Self::NAME;
        let body = data
            .strip_prefix(&Self::discriminator())
            .and_then(|body| body.get(..size_of::<Self>()))
            .ok_or(DecodeError::Kind { kind })?;
        let account: Self =
            bytemuck::try_pod_read_unaligned(body).map_err(|_| DecodeError::Kind { kind })?;
        match account.version() {
            VERSION => Ok(account),
            version => Err(DecodeError::Version { kind, version }),
        }
    }
}

fn head(hash: &[u8]) -> [u8; DISCRIMINATOR_LEN] {
    let mut head = [0u8; DISCRIMINATOR_LEN];
    head.copy_from_slice(&hash[..DISCRIMINATOR_LEN]);
    head
}

/// The first 8 bytes of an instruction's data.
pub(crate) fn instruction_discriminator(name: &str) -> [u8; DISCRIMINATOR_LEN] {
    head(&Sha256::digest(format!("global:{name}")))
}

/// The first 8 bytes of the settlement event in a transaction's log.
pub fn settled_event_discriminator() -> [u8; DISCRIMINATOR_LEN] {
    head(&Sha256::digest(b"event:Settled"))
}

/// The config of a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Config {
    /// Unix second from which `pending_treasury_bps` holds; 0 when nothing is pending.
    pub fees_effective_at: i64,
    /// The admin.
    pub admin: Key,
    /// Becomes admin by accepting; zero for nobody.
    pub pending_admin: Key,
    /// May pause.
    pub guardian: Key,
    /// The treasury's wallet.
    pub treasury: Key,
    /// Genesis hash of the cluster.
    pub genesis_hash: Key,
    /// Most seconds between landing and expiry.
    pub max_intent_ttl: u32,
    /// The treasury's share, in basis points.
    pub treasury_bps: u16,
    /// The announced share.
    pub pending_treasury_bps: u16,
    /// Most that a service may grant its facilitator, in basis points.
    pub max_facilitator_bps: u16,
    /// 1 while paused.
    pub paused: u8,
    /// Layout version.
    pub version: u8,
    /// Bump of the address.
    pub bump: u8,
    /// Zero.
    pub flags: u8,
    /// Zero.
    pub padding: [u8; 2],
    /// Zero.
    pub reserved: [u8; 64],
}

/// A mint that services may be paid in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct AcceptedMint {
    /// Least atomic units a payment.
    pub min_amount: u64,
    /// Most atomic units a payment.
    pub max_amount: u64,
    /// Token-2022 extensions that the mint may carry, a bit each.
    pub allowed_extensions: u64,
    /// The mint.
    pub mint: Key,
    /// The program that owns mint and accounts.
    pub token_program: Key,
    /// Where the treasury's legs go.
    pub treasury_token: Key,
    /// Decimals of the mint.
    pub decimals: u8,
    /// Layout version.
    pub version: u8,
    /// Bump of the address.
    pub bump: u8,
    /// [`MINT_SETTLES`].
    pub flags: u8,
    /// Zero.
    pub padding: [u8; 4],
    /// Zero.
    pub reserved: [u8; 64],
}

/// An operator with its relayer keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Facilitator {
    /// Slot of registration.
    pub created_slot: u64,
    /// Least fixed share of each payment, in atomic units.
    pub min_fee_fixed: u64,
    /// Who registered it.
    pub creator: Key,
    /// Who may change it.
    pub authority: Key,
    /// Becomes authority by accepting; zero for nobody.
    pub pending_authority: Key,
    /// Owns the token accounts that its legs go to.
    pub wallet: Key,
    /// Keys that pay for and sign settlements.
    pub relayers: [Key; MAX_RELAYERS],
    /// Least proportional share, in basis points.
    pub min_fee_bps: u16,
    /// How many of `relayers` are in use.
    pub relayer_count: u8,
    /// 1 while suspended.
    pub suspended: u8,
    /// Layout version.
    pub version: u8,
    /// Bump of the address.
    pub bump: u8,
    /// Zero.
    pub flags: u8,
    /// Zero.
    pub padding: [u8; 1],
    /// Zero.
    pub reserved: [u8; 64],
}

/// One recipient of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct RecipientShare {
    /// Atomic units held for it in the vault.
    pub held: u64,
    /// Unix second since which something is held.
    pub held_since: i64,
    /// The wallet.
    pub owner: Key,
    /// The wallet's associated token account.
    pub token_account: Key,
    /// Share of what treasury and facilitator leave, in basis points.
    pub bps: u16,
    /// Zero.
    pub padding: [u8; 6],
}

/// A split config.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Service {
    /// Chosen by the creator.
    pub id: u64,
    /// The facilitator's fixed share of each payment, in atomic units.
    pub facilitator_fixed: u64,
    /// Least atomic units a payment.
    pub min_payment: u64,
    /// Everything that is held, in atomic units.
    pub held_total: u64,
    /// Of that, for the treasury.
    pub held_treasury: u64,
    /// Of that, for the facilitator.
    pub held_facilitator: u64,
    /// Atomic units ever pulled for this service.
    pub settled_total: u64,
    /// Payments ever settled.
    pub payments: u64,
    /// Slot of creation.
    pub created_slot: u64,
    /// Who created it.
    pub creator: Key,
    /// Who may change it.
    pub authority: Key,
    /// Becomes authority by accepting; zero for nobody.
    pub pending_authority: Key,
    /// The mint it is paid in.
    pub mint: Key,
    /// The facilitator whose relayers may settle.
    pub facilitator: Key,
    /// The associated token account of (service, mint).
    pub vault: Key,
    /// Hash of the terms in force.
    pub terms_hash: Key,
    /// The recipients; those past `recipient_count` are zero.
    pub recipients: [RecipientShare; MAX_RECIPIENTS],
    /// Counts the changes of terms.
    pub terms_version: u32,
    /// The facilitator's proportional share, in basis points.
    pub facilitator_bps: u16,
    /// The treasury's share, in basis points.
    pub treasury_bps: u16,
    /// How many of `recipients` are in use.
    pub recipient_count: u8,
    /// [`SERVICE_ACTIVE`] or [`SERVICE_CLOSED`].
    pub status: u8,
    /// Bump of the vault.
    pub vault_bump: u8,
    /// Layout version.
    pub version: u8,
    /// Bump of the address.
    pub bump: u8,
    /// Zero.
    pub flags: u8,
    /// Zero.
    pub padding: [u8; 2],
    /// Zero.
    pub reserved: [u8; 64],
}

/// What a replaced recipient is still owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct HeldBalance {
    /// Atomic units, in the service's vault.
    pub amount: u64,
    /// Unix second since which they are held.
    pub held_since: i64,
    /// The service.
    pub service: Key,
    /// The wallet that is owed.
    pub owner: Key,
    /// The mint.
    pub mint: Key,
    /// Who paid the rent.
    pub rent_payer: Key,
    /// Layout version.
    pub version: u8,
    /// Bump of the address.
    pub bump: u8,
    /// Zero.
    pub flags: u8,
    /// Zero.
    pub padding: [u8; 5],
    /// Zero.
    pub reserved: [u8; 64],
}

/// A payer's nonces and limits in one mint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct NonceAccount {
    /// Slot of opening.
    pub opened_slot: u64,
    /// Unix second of the last settlement, or of opening.
    pub last_active: i64,
    /// Atomic units ever pulled.
    pub spent_total: u64,
    /// The payer.
    pub payer: Key,
    /// The mint.
    pub mint: Key,
    /// The one token account that may be pulled from.
    pub source: Key,
    /// Who paid the rent.
    pub rent_payer: Key,
    /// Layout version.
    pub version: u8,
    /// Bump of the address.
    pub bump: u8,
    /// Zero.
    pub flags: u8,
    /// Zero.
    pub padding: [u8; 5],
    /// Zero.
    pub reserved: [u8; 64],
    /// Lane 0 the payer's own key, lane 1 a session key.
    pub lanes: [Lane; LANES],
}

macro_rules! accounts {
    ($($name:ident),*) => {$(
        impl SluiceAccount for $name {
            const NAME: &'static str = stringify!($name);
            fn version(&self) -> u8 { self.version }
        }
    )*};
}
accounts!(
    Config,
    AcceptedMint,
    Facilitator,
    Service,
    HeldBalance,
    NonceAccount
);

impl Config {
    /// The treasury's share at `now`: the announced one once its time has come.
    pub fn treasury_bps_at(&self, now: i64) -> u16 {
        let due = self.fees_effective_at != 0 && now >= self.fees_effective_at;
        if due {
            self.pending_treasury_bps
        } else {
            self.treasury_bps
        }
    }
}

impl AcceptedMint {
    /// Whether pulls from payers are allowed.
    pub fn settles(&self) -> bool {
        self.flags & MINT_SETTLES != 0
    }
}

impl Facilitator {
    /// The relayer keys in use.
    pub fn relayer_keys(&self) -> &[Key] {
        &self.relayers[..usize::from(self.relayer_count).min(MAX_RELAYERS)]
    }
}

impl Service {
    /// The recipients in use.
    pub fn shares(&self) -> &[RecipientShare] {
        &self.recipients[..usize::from(self.recipient_count).min(MAX_RECIPIENTS)]
    }

    /// The recipients as the terms name them.
    pub fn terms_recipients(&self) -> Vec<Recipient> {
        let row = |share: &RecipientShare| Recipient {
            owner: share.owner,
            token_account: share.token_account,
            bps: share.bps,
        };
        self.shares().iter().map(row).collect()
    }

    /// The terms hash recomputed from the fields, which must equal `terms_hash`.
    pub fn compute_terms_hash(&self, address: &Address) -> Result<Key, TermsError> {
        let recipients = self.terms_recipients();
        Terms {
            service: address.to_bytes(),
            mint: self.mint,
            facilitator: self.facilitator,
            facilitator_bps: self.facilitator_bps,
            facilitator_fixed: self.facilitator_fixed,
            treasury_bps: self.treasury_bps,
            recipients: &recipients,
        }
        .hash()
    }

    /// How `sum`, made of `payments` payments, is divided.
    pub fn split(
        &self,
        sum: u64,
        payments: u64,
    ) -> Result<sluice_intent::Shares, sluice_intent::SplitError> {
        let fees = sluice_intent::split::Fees {
            treasury_bps: self.treasury_bps,
            facilitator_bps: self.facilitator_bps,
            facilitator_fixed: self.facilitator_fixed,
        };
        let bps: Vec<u16> = self.shares().iter().map(|share| share.bps).collect();
        sluice_intent::split::split(sum, payments, &fees, &bps)
    }
}

/// The program's upgrade authority, read from its data account; `None` when it can no longer be upgraded.
pub fn upgrade_authority(owner: &Address, data: &[u8]) -> Result<Option<Address>, DecodeError> {
    const KIND: &str = "ProgramData";
    // bincode: u32 variant 3, u64 slot, u8 option, 32 bytes of key.
    if *owner != LOADER_V3 {
        return Err(DecodeError::Owner {
            kind: KIND,
            owner: *owner,
        });
    }
    match data {
        [3, 0, 0, 0, _, _, _, _, _, _, _, _, 0, ..] => Ok(None),
        [3, 0, 0, 0, _, _, _, _, _, _, _, _, 1, rest @ ..] => {
            let key = rest
                .first_chunk::<32>()
                .ok_or(DecodeError::Kind { kind: KIND })?;
            Ok(Some(Address::new_from_array(*key)))
        }
        _ => Err(DecodeError::Kind { kind: KIND }),
    }
}
