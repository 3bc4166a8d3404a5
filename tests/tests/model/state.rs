//! What the chain must hold: every account of the program and every token account, by the specification. Each
//! operation says what it changes or why it is refused. Nothing here calls the program's code or the pure core's
//! windows, limits and splits.

use std::collections::BTreeMap;

use sluice::SluiceError;
use sluice_intent::{LaneTerms, Recipient, Terms};
use sluice_sdk::Address;

use crate::{
    cast::{Cast, PAYERS},
    lane::Lane,
};

/// Seconds between an announced treasury share and its effect.
const FEE_DELAY: i64 = 24 * 3_600;
/// Seconds without a payment after which the rent payer may close a nonce account.
const IDLE: i64 = 30 * 24 * 3_600;

/// Why an instruction must fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// With this number of the program's.
    Program(u32),
    /// With any error: it is the token program's to say.
    Token,
}

pub fn refuse<T>(error: SluiceError) -> Result<T, Refusal> {
    Err(Refusal::Program(6_000 + error as u32))
}

/// Refuses with `error` unless `holds`.
pub fn need(holds: bool, error: SluiceError) -> Result<(), Refusal> {
    if holds { Ok(()) } else { refuse(error) }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    pub owner: Address,
    pub amount: u64,
    pub delegate: Option<(Address, u64)>,
    pub frozen: bool,
}

impl Token {
    pub fn new(owner: Address, amount: u64) -> Self {
        Self {
            owner,
            amount,
            delegate: None,
            frozen: false,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Config {
    pub admin: Address,
    pub pending_admin: Address,
    pub guardian: Address,
    pub treasury: Address,
    pub treasury_bps: u16,
    /// The announced share, and since when it holds.
    pub announced: Option<(u16, i64)>,
    pub max_facilitator_bps: u16,
    pub ttl: u32,
    pub paused: bool,
}

impl Config {
    pub fn treasury_bps_at(&self, now: i64) -> u16 {
        match self.announced {
            Some((bps, from)) if now >= from => bps,
            _ => self.treasury_bps,
        }
    }
}

/// The mint that every service is paid in.
#[derive(Clone, Debug)]
pub struct Mint {
    pub settles: bool,
    pub min: u64,
    pub max: u64,
    pub treasury_token: Address,
}

#[derive(Clone, Debug)]
pub struct Facilitator {
    pub authority: Address,
    pub pending: Address,
    pub wallet: Address,
    pub relayers: Vec<Address>,
    pub min_bps: u16,
    pub min_fixed: u64,
    pub suspended: bool,
}

/// What a payer signs the hash of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Place in [`Cast::facilitators`].
    pub facilitator: usize,
    pub facilitator_bps: u16,
    pub facilitator_fixed: u64,
    pub treasury_bps: u16,
    pub recipients: Vec<(Address, u16)>,
}

/// What is held for a leg, and since when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    pub amount: u64,
    pub since: i64,
}

#[derive(Clone, Debug)]
pub struct Service {
    pub address: Address,
    pub bump: u8,
    pub vault: Address,
    pub vault_bump: u8,
    pub id: u64,
    pub creator: Address,
    pub created_slot: u64,
    pub authority: Address,
    pub pending: Address,
    pub split: Split,
    pub min_payment: u64,
    /// For each recipient, in the order of the terms.
    pub held: Vec<Held>,
    pub held_treasury: u64,
    pub held_facilitator: u64,
    pub settled_total: u64,
    pub payments: u64,
    pub closed: bool,
    pub version: u32,
    /// All terms it ever had with their hashes; the last ones are in force.
    pub past: Vec<([u8; 32], Split)>,
    /// Somebody took money out of the vault that the program does not know of.
    pub seized: bool,
}

/// What a replaced recipient or a former facilitator is owed.
#[derive(Clone, Debug)]
pub struct Owed {
    pub address: Address,
    pub bump: u8,
    pub amount: u64,
    pub since: i64,
    pub rent_payer: Address,
}

#[derive(Clone, Debug)]
pub struct Nonce {
    pub opened_slot: u64,
    pub last_active: i64,
    pub spent_total: u64,
    pub source: Address,
    pub rent_payer: Address,
    pub lanes: [Lane; 2],
}

#[derive(Clone)]
pub struct Model {
    pub cast: &'static Cast,
    pub now: i64,
    pub slot: u64,
    /// Every token account of the mint. What is not here does not exist.
    pub tokens: BTreeMap<Address, Token>,
    /// Units that were minted.
    pub supply: u128,
    pub config: Config,
    pub mint: Mint,
    pub facilitators: [Facilitator; 2],
    pub services: Vec<Service>,
    /// By service and owner.
    pub owed: BTreeMap<(usize, Address), Owed>,
    pub nonces: [Option<Nonce>; PAYERS],
}

/// What a handover is of.
#[derive(Clone, Copy, Debug)]
pub enum Office {
    Admin,
    Facilitator(usize),
    Service(usize),
}

impl Model {
    /// Whether an account can take money that is meant for `owner`.
    pub fn can_receive(&self, token: &Address, owner: &Address) -> bool {
        self.tokens
            .get(token)
            .is_some_and(|state| state.owner == *owner && !state.frozen)
    }

    pub fn balance(&self, token: &Address) -> u64 {
        self.tokens.get(token).map_or(0, |state| state.amount)
    }

    pub fn credit(&mut self, token: &Address, amount: u64) {
        if amount > 0 {
            self.tokens.get_mut(token).unwrap().amount += amount;
        }
    }

    pub fn debit(&mut self, token: &Address, amount: u64) {
        if amount > 0 {
            self.tokens.get_mut(token).unwrap().amount -= amount;
        }
    }

    /// The hash of terms, as a payer computes it from what it was shown.
    pub fn hash(&self, service: &Address, split: &Split) -> [u8; 32] {
        let rows: Vec<Recipient> = split
            .recipients
            .iter()
            .map(|(owner, bps)| Recipient {
                owner: owner.to_bytes(),
                token_account: self.cast.token(owner).to_bytes(),
                bps: *bps,
            })
            .collect();
        Terms {
            service: service.to_bytes(),
            mint: self.cast.mint.to_bytes(),
            facilitator: self.cast.facilitators[split.facilitator].0.to_bytes(),
            facilitator_bps: split.facilitator_bps,
            facilitator_fixed: split.facilitator_fixed,
            treasury_bps: split.treasury_bps,
            recipients: &rows,
        }
        .hash()
        .unwrap()
    }

    pub fn approve(&mut self, payer: usize, token: &Address, amount: u64) -> Result<(), Refusal> {
        let person = &self.cast.payers[payer];
        match self.tokens.get_mut(token) {
            Some(state) if state.owner == person.key() && !state.frozen => {
                state.delegate = Some((person.nonce, amount));
                Ok(())
            }
            _ => Err(Refusal::Token),
        }
    }

    pub fn revoke(&mut self, payer: usize, token: &Address) -> Result<(), Refusal> {
        let who = self.cast.payers[payer].key();
        match self.tokens.get_mut(token) {
            Some(state) if state.owner == who && !state.frozen => {
                state.delegate = None;
                Ok(())
            }
            _ => Err(Refusal::Token),
        }
    }

    /// A transfer by the owner of `from`.
    pub fn transfer(&mut self, from: &Address, to: &Address, amount: u64) -> Result<(), Refusal> {
        let ready = |token| {
            self.tokens
                .get(token)
                .is_some_and(|state: &Token| !state.frozen)
        };
        if !ready(from) || !ready(to) || self.balance(from) < amount {
            return Err(Refusal::Token);
        }
        self.debit(from, amount);
        self.credit(to, amount);
        Ok(())
    }

    pub fn open(
        &mut self,
        payer: usize,
        rent_payer: Address,
        source: Address,
    ) -> Result<(), Refusal> {
        let who = self.cast.payers[payer].key();
        need(
            self.can_receive(&source, &who),
            SluiceError::InvalidTokenAccount,
        )?;
        need(self.nonces[payer].is_none(), SluiceError::AlreadyExists)?;
        self.nonces[payer] = Some(Nonce {
            opened_slot: self.slot,
            last_active: self.now,
            spent_total: 0,
            source,
            rent_payer,
            lanes: Default::default(),
        });
        Ok(())
    }

    /// The nonce account of a payer, for a change that only its payer may make.
    fn own_nonce(&mut self, payer: usize, by: &Address) -> Result<&mut Nonce, Refusal> {
        let own = self.cast.payers[payer].key() == *by;
        match &mut self.nonces[payer] {
            None => refuse(SluiceError::WrongAccount),
            Some(_) if !own => refuse(SluiceError::NotPayer),
            Some(nonce) => Ok(nonce),
        }
    }

    pub fn set_lane(
        &mut self,
        payer: usize,
        by: &Address,
        lane: u8,
        terms: &LaneTerms,
    ) -> Result<(), Refusal> {
        let (now, own) = (self.now, self.cast.payers[payer].key().to_bytes());
        let nonce = self.own_nonce(payer, by)?;
        let fits = match lane {
            0 => terms.key == own || terms.key == [0; 32],
            1 => true,
            _ => false,
        };
        need(fits, SluiceError::InvalidLane)?;
        nonce.lanes[usize::from(lane)].set(terms, now);
        Ok(())
    }

    pub fn set_source(
        &mut self,
        payer: usize,
        by: &Address,
        source: Address,
    ) -> Result<(), Refusal> {
        let usable = self.can_receive(&source, &self.cast.payers[payer].key());
        let nonce = self.own_nonce(payer, by)?;
        need(usable, SluiceError::InvalidTokenAccount)?;
        nonce.source = source;
        Ok(())
    }

    pub fn close_nonce(
        &mut self,
        payer: usize,
        by: &Address,
        rent_payer: &Address,
    ) -> Result<(), Refusal> {
        let Some(nonce) = &self.nonces[payer] else {
            return refuse(SluiceError::WrongAccount);
        };
        let idle = self.now - nonce.last_active > IDLE;
        let may = self.cast.payers[payer].key() == *by || (nonce.rent_payer == *by && idle);
        need(may, SluiceError::NotIdle)?;
        need(self.slot > nonce.opened_slot, SluiceError::SameSlot)?;
        need(nonce.rent_payer == *rent_payer, SluiceError::WrongAccount)?;
        self.nonces[payer] = None;
        Ok(())
    }

    pub fn set_paused(&mut self, by: &Address, paused: bool) -> Result<(), Refusal> {
        let may = *by == self.config.admin || (paused && *by == self.config.guardian);
        need(may, SluiceError::NotGuardian)?;
        self.config.paused = paused;
        Ok(())
    }

    pub fn suspend(&mut self, by: &Address, which: usize, suspended: bool) -> Result<(), Refusal> {
        need(*by == self.config.admin, SluiceError::NotAdmin)?;
        self.facilitators[which].suspended = suspended;
        Ok(())
    }

    pub fn set_mint(
        &mut self,
        by: &Address,
        settles: bool,
        min: u64,
        max: u64,
        treasury_token: Address,
    ) -> Result<(), Refusal> {
        need(*by == self.config.admin, SluiceError::NotAdmin)?;
        need(min <= max, SluiceError::InvalidAmounts)?;
        let fits = treasury_token == self.mint.treasury_token
            || self.can_receive(&treasury_token, &self.config.treasury);
        need(fits, SluiceError::InvalidTokenAccount)?;
        self.mint = Mint {
            settles,
            min,
            max,
            treasury_token,
        };
        Ok(())
    }

    /// `token` is the new wallet's account of the mint, where the mint is passed.
    pub fn set_treasury(
        &mut self,
        by: &Address,
        treasury: Address,
        token: Option<Address>,
    ) -> Result<(), Refusal> {
        need(*by == self.config.admin, SluiceError::NotAdmin)?;
        self.config.treasury = treasury;
        if let Some(token) = token {
            let usable = self.can_receive(&token, &treasury);
            need(usable, SluiceError::InvalidTokenAccount)?;
            self.mint.treasury_token = token;
        }
        Ok(())
    }

    pub fn update_config(
        &mut self,
        by: &Address,
        treasury_bps: Option<u16>,
        max_facilitator_bps: Option<u16>,
        ttl: Option<u32>,
    ) -> Result<(), Refusal> {
        need(*by == self.config.admin, SluiceError::NotAdmin)?;
        let now = self.now;
        let config = &mut self.config;
        if let Some((bps, _)) = config.announced.filter(|(_, from)| now >= *from) {
            config.treasury_bps = bps;
            config.announced = None;
        }
        if let Some(bps) = treasury_bps {
            need(bps <= 1_000, SluiceError::OverCap)?;
            config.announced = Some((bps, now + FEE_DELAY));
        }
        if let Some(bps) = max_facilitator_bps {
            need(bps <= 5_000, SluiceError::OverCap)?;
            config.max_facilitator_bps = bps;
        }
        if let Some(ttl) = ttl {
            need(ttl <= 3_600, SluiceError::OverCap)?;
            need(ttl > 0, SluiceError::ZeroTtl)?;
            config.ttl = ttl;
        }
        Ok(())
    }

    pub fn update_facilitator(
        &mut self,
        by: &Address,
        which: usize,
        wallet: Address,
        mins: (u16, u64),
        relayers: &[Address],
    ) -> Result<(), Refusal> {
        let facilitator = &mut self.facilitators[which];
        need(*by == facilitator.authority, SluiceError::NotAuthority)?;
        need(mins.0 <= 5_000, SluiceError::OverCap)?;
        let mut distinct = relayers.to_vec();
        distinct.sort();
        distinct.dedup();
        let fit = (1..=8).contains(&relayers.len())
            && distinct.len() == relayers.len()
            && !relayers.contains(&facilitator.authority)
            && !relayers.contains(&Address::default());
        need(fit, SluiceError::InvalidRelayers)?;
        facilitator.wallet = wallet;
        (facilitator.min_bps, facilitator.min_fixed) = mins;
        facilitator.relayers = relayers.to_vec();
        Ok(())
    }

    pub fn propose(&mut self, by: &Address, office: Office, next: Address) -> Result<(), Refusal> {
        let (holder, pending, error) = match office {
            Office::Admin => {
                let config = &mut self.config;
                (
                    config.admin,
                    &mut config.pending_admin,
                    SluiceError::NotAdmin,
                )
            }
            Office::Facilitator(which) => {
                let state = &mut self.facilitators[which];
                (
                    state.authority,
                    &mut state.pending,
                    SluiceError::NotAuthority,
                )
            }
            Office::Service(which) => {
                let state = &mut self.services[which];
                (
                    state.authority,
                    &mut state.pending,
                    SluiceError::NotAuthority,
                )
            }
        };
        need(*by == holder, error)?;
        *pending = next;
        Ok(())
    }

    pub fn accept(&mut self, by: &Address, office: Office) -> Result<(), Refusal> {
        let (holder, pending) = match office {
            Office::Admin => (&mut self.config.admin, &mut self.config.pending_admin),
            Office::Facilitator(which) => {
                let state = &mut self.facilitators[which];
                need(state.pending == *by, SluiceError::NotPending)?;
                // A relayer key lives on a server, an authority must not.
                need(!state.relayers.contains(by), SluiceError::InvalidRelayers)?;
                (&mut state.authority, &mut state.pending)
            }
            Office::Service(which) => {
                let state = &mut self.services[which];
                (&mut state.authority, &mut state.pending)
            }
        };
        need(*pending == *by, SluiceError::NotPending)?;
        *holder = *by;
        *pending = Address::default();
        Ok(())
    }
}
