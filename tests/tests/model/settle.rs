//! What a settle must answer to each entry, and what moves.

use std::collections::BTreeMap;

use sluice::SluiceError;
use sluice_intent::{Digest, Skip};
use sluice_sdk::{Address, SignedIntent, UnsignedIntent, instructions::SettleItem};
use sluice_tests::Settled;

use crate::{
    lane::Spend,
    service::{FACILITATOR, LEGS, TREASURY, divide},
    state::{Model, Refusal, Split, need},
};

/// Genesis hash in the world's config.
pub const GENESIS: [u8; 32] = [7; 32];

/// An intent that somebody signed, once and for all.
#[derive(Clone, Debug)]
pub struct Signed {
    pub signed: SignedIntent,
    pub key: Address,
    pub payer: usize,
    pub service: usize,
    /// What the payer was shown.
    pub terms: Split,
    pub settled: bool,
}

/// Every intent that was ever signed.
#[derive(Clone, Default)]
pub struct Archive {
    pub all: Vec<Signed>,
    by_digest: BTreeMap<Digest, Vec<usize>>,
}

impl Archive {
    pub fn keep(&mut self, signed: Signed) {
        let digest = signed.signed.intent.digest();
        let places = self.by_digest.entry(digest).or_default();
        places.push(self.all.len());
        self.all.push(signed);
    }

    /// The intent of this digest that this key has signed with this signature.
    fn find(&self, digest: &Digest, key: &[u8; 32], signature: &[u8; 64]) -> Option<usize> {
        self.by_digest.get(digest)?.iter().copied().find(|place| {
            let entry = &self.all[*place];
            entry.key.to_bytes() == *key && entry.signed.signature == *signature
        })
    }

    /// Whether a digest has settled, whoever's signature it was with.
    fn has_settled(&self, digest: &Digest) -> bool {
        self.by_digest
            .get(digest)
            .is_some_and(|places| places.iter().any(|place| self.all[*place].settled))
    }
}

/// A settle as it is sent.
pub struct Batch {
    pub service: usize,
    pub relayer: Address,
    pub facilitator_token: Address,
    pub items: Vec<SettleItem>,
    pub strict: bool,
}

/// What a settle must leave behind.
pub struct Settlement {
    pub event: Settled,
    /// Places in the archive of what settled.
    pub settled: Vec<usize>,
}

impl Model {
    /// Fails with an invariant's name where the model itself would have to break one.
    pub fn settle(&mut self, batch: &Batch, archive: &Archive) -> Result<Settlement, Refusal> {
        let service = &self.services[batch.service];
        let facilitator = &self.facilitators[service.split.facilitator];
        need(!self.config.paused, SluiceError::Paused)?;
        need(!service.closed, SluiceError::ServiceInactive)?;
        need(self.mint.settles, SluiceError::MintDisabled)?;
        need(!facilitator.suspended, SluiceError::FacilitatorSuspended)?;
        let known = facilitator.relayers.contains(&batch.relayer);
        need(known, SluiceError::RelayerNotRegistered)?;
        need(!batch.items.is_empty(), SluiceError::EntryAccounts)?;

        let (vault, split, address) = (service.vault, service.split.clone(), service.address);
        let payable: Vec<Option<Address>> = (0..LEGS)
            .map(|leg| {
                let (owner, token) = self.leg(batch.service, leg, &batch.facilitator_token)?;
                let can = token != vault && self.can_receive(&token, &owner);
                can.then_some(token)
            })
            .collect();
        let stays = |legs: &[u64; LEGS], leg: usize| legs[leg] > 0 && payable[leg].is_none();

        // Several payments meet in the vault. A single one whose legs can all be paid goes past it.
        let open = !self.tokens[&vault].frozen;
        let several = batch.items.len() > 1;
        need(open || !several, SluiceError::VaultUnusable)?;
        let (mut codes, mut settled, mut amounts) = (Vec::new(), Vec::new(), Vec::new());
        for item in &batch.items {
            match self.judge(batch, item, archive) {
                Ok(place) => {
                    let legs = divide(&split, item.entry.amount, 1);
                    let past = !several && (0..LEGS).all(|leg| !stays(&legs, leg));
                    need(open || past, SluiceError::VaultUnusable)?;
                    self.pull(batch, item);
                    settled.push(place);
                    amounts.push(item.entry.amount);
                    codes.push(0);
                }
                Err(skip) if batch.strict => {
                    return Err(Refusal::Program(6_000 + u32::from(skip.code())));
                }
                Err(skip) => codes.push(skip.code()),
            }
        }

        let total: u64 = amounts.iter().sum();
        let legs = divide(&split, total, amounts.len() as u64);
        let mut held = 0u16;
        let now = self.now;
        for leg in 0..LEGS {
            if stays(&legs, leg) {
                held |= 1 << leg;
                self.credit(&vault, legs[leg]);
                let state = &mut self.services[batch.service];
                state.set_held(leg, state.held(leg) + legs[leg], now);
            } else if let Some(token) = payable[leg] {
                self.credit(&token, legs[leg]);
            }
        }
        let state = &mut self.services[batch.service];
        state.settled_total += total;
        state.payments += amounts.len() as u64;
        Ok(Settlement {
            event: Settled {
                service: address.to_bytes(),
                total,
                treasury: legs[TREASURY],
                facilitator: legs[FACILITATOR],
                held,
                recipients: legs[..split.recipients.len()].to_vec(),
                codes,
            },
            settled,
        })
    }

    /// The place in the archive of an entry that must settle, or why it must not.
    fn judge(&self, batch: &Batch, item: &SettleItem, archive: &Archive) -> Result<usize, Skip> {
        let (entry, service) = (&item.entry, &self.services[batch.service]);
        if entry.flags > 1 {
            return Err(Skip::UnknownFlag);
        }
        let cast = self.cast;
        let Some(payer) = cast.payer_of(&item.nonce_account) else {
            return Err(match item.nonce_account {
                key if key == cast.later_nonce => Skip::AccountVersion,
                key if key == cast.other_nonce => Skip::MintMismatch,
                key if key == cast.config.0 || self.tokens.contains_key(&key) => {
                    Skip::AccountForeign
                }
                _ => Skip::AccountMissing,
            });
        };
        let nonce = self.nonces[payer].as_ref().ok_or(Skip::AccountMissing)?;
        if entry.amount < service.min_payment.max(self.mint.min).max(1) {
            return Err(Skip::BelowMinimum);
        }
        if entry.amount > self.mint.max {
            return Err(Skip::AboveMaximum);
        }
        let expires_at = i64::from(entry.expires_at);
        if self.now > expires_at {
            return Err(Skip::Expired);
        }
        if expires_at > self.now + i64::from(self.config.ttl) {
            return Err(Skip::ExpiryTooFar);
        }
        let lane = &nonce.lanes[usize::from(entry.flags)];
        lane.answer(&self.spend(batch, item))?;
        if nonce.source != item.source {
            return Err(Skip::SourceMismatch);
        }
        let mut legs =
            (0..LEGS).filter_map(|leg| self.leg(batch.service, leg, &batch.facilitator_token));
        if item.source == service.vault || legs.any(|(_, token)| token == item.source) {
            return Err(Skip::SelfPayment);
        }
        let source = self.tokens.get(&item.source).ok_or(Skip::SourceUnusable)?;
        if source.frozen {
            return Err(Skip::SourceFrozen);
        }
        if source.owner != cast.payers[payer].key() {
            return Err(Skip::OwnerChanged);
        }
        match source.delegate {
            Some((key, _)) if key != item.nonce_account => return Err(Skip::DelegateGone),
            None => return Err(Skip::DelegateGone),
            Some((_, left)) if left < entry.amount => return Err(Skip::DelegatedShort),
            Some(_) => {}
        }
        if source.amount < entry.amount {
            return Err(Skip::BalanceShort);
        }
        let digest = UnsignedIntent {
            genesis_hash: GENESIS,
            nonce_account: item.nonce_account,
            opened_slot: nonce.opened_slot,
            lane: entry.flags,
            service: service.address,
            terms_hash: service.hash(),
            amount: entry.amount,
            nonce: entry.nonce,
            expires_at: entry.expires_at,
            resource: entry.resource,
        }
        .digest();
        let place = archive
            .find(&digest, &lane.terms.key, &entry.signature)
            .ok_or(Skip::BadSignature)?;
        assert!(
            !archive.has_settled(&digest),
            "I2: the model would let {place} settle twice"
        );
        Ok(place)
    }

    fn spend<'a>(&'a self, batch: &Batch, item: &SettleItem) -> Spend<'a> {
        let service = &self.services[batch.service];
        Spend {
            nonce: item.entry.nonce,
            amount: item.entry.amount,
            now: self.now,
            service: &service.address,
            authority: &service.authority,
            facilitator: &self.cast.facilitators[service.split.facilitator].0,
        }
    }

    /// Takes an entry's money and counts it.
    fn pull(&mut self, batch: &Batch, item: &SettleItem) {
        let now = self.now;
        let payer = self.cast.payer_of(&item.nonce_account).unwrap();
        let mut nonce = self.nonces[payer].clone().unwrap();
        nonce.lanes[usize::from(item.entry.flags)].pay(&self.spend(batch, item));
        nonce.spent_total += item.entry.amount;
        nonce.last_active = now;
        self.nonces[payer] = Some(nonce);
        let source = self.tokens.get_mut(&item.source).unwrap();
        source.amount -= item.entry.amount;
        // The token program forgets a delegate that has nothing left.
        source.delegate = source
            .delegate
            .map(|(key, left)| (key, left - item.entry.amount))
            .filter(|(_, left)| *left > 0);
    }
}
