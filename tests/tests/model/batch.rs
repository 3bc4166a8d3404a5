//! Settles: makes the entries, sends the batch, and checks what only a settle can break.

use std::collections::BTreeMap;

use sluice_sdk::{
    Address, UnsignedIntent,
    instructions::{self, SettleItem},
    transaction::{Budget, Version, build},
};
use solana_keypair::Keypair;
use solana_signer::Signer;

use crate::{
    check::{self, Check, hold},
    coverage,
    operation::{Amount, Bend, Expiry, Intent, Nonce, Offer},
    run::{Runner, keypair, names, pick, same_refusal},
    service::{FACILITATOR, LEGS, TREASURY, divide},
    settle::{Batch, GENESIS, Settlement, Signed},
    state,
};

/// The network's fee for the one signature of a settle.
const FEE: u64 = 5_000;

/// Nonces given out in a batch so far, by payer and lane.
type GivenOut = BTreeMap<(usize, u8), u64>;

impl Runner<'_> {
    pub fn settle(
        &mut self,
        service: u8,
        relayer: u8,
        facilitator_token: u8,
        strict: bool,
        offers: &[Offer],
    ) -> Check {
        // An old intent goes to the service that it was signed for.
        let service = match offers[0] {
            Offer::Old { index, .. } if !self.archive.all.is_empty() => {
                let place = usize::from(index) % self.archive.all.len();
                self.archive.all[place].service
            }
            _ => self.service(service),
        };
        let mut given_out = GivenOut::new();
        let mut items = Vec::new();
        for offer in offers {
            items.push(match offer {
                Offer::Old { index, bend } if !self.archive.all.is_empty() => {
                    self.offer_again(service, *index, *bend)
                }
                Offer::Old { .. } => continue,
                Offer::New(intent) => self.offer(service, intent, &mut given_out),
            });
        }
        if items.is_empty() {
            return Ok(());
        }
        let batch = Batch {
            service,
            relayer: self.relayer(service, relayer),
            facilitator_token: self.facilitator_token(service, facilitator_token),
            items,
            strict,
        };
        self.send(&batch)
    }

    /// Offers the latest of what has settled once more, each service's in a batch.
    pub fn replay(&mut self) -> Check {
        for service in 0..self.model.services.len() {
            let settled = (0..self.archive.all.len()).rev().filter(|place| {
                let old = &self.archive.all[*place];
                old.settled && old.service == service
            });
            let items: Vec<_> = settled
                .take(8)
                .map(|place| self.offer_again(service, place as u16, Bend::Nothing))
                .collect();
            if items.is_empty() {
                continue;
            }
            let batch = Batch {
                service,
                relayer: self.relayer(service, 0),
                facilitator_token: self.facilitator_token(service, 0),
                items,
                strict: false,
            };
            self.send(&batch)?;
        }
        Ok(())
    }

    fn relayer(&self, service: usize, which: u8) -> Address {
        let cast = self.cast();
        let facilitator = self.model.services[service].split.facilitator;
        match which {
            0 | 1 => pick(&self.model.facilitators[facilitator].relayers, which),
            2 => cast.relayers[2].pubkey(),
            3 => cast.relayers[0].pubkey(),
            _ => cast.sponsor.pubkey(),
        }
    }

    /// Makes, signs and files an intent; what is sent may be bent after that.
    fn offer(&mut self, service: usize, plan: &Intent, given_out: &mut GivenOut) -> SettleItem {
        let cast = self.cast();
        let payer = usize::from(plan.payer);
        let person = &cast.payers[payer];
        let closed;
        let account = match &self.model.nonces[payer] {
            Some(account) => account,
            None => {
                closed = state::Nonce {
                    opened_slot: 0,
                    last_active: 0,
                    spent_total: 0,
                    source: person.sources[0],
                    rent_payer: Address::default(),
                    lanes: Default::default(),
                };
                &closed
            }
        };
        let lane = &account.lanes[usize::from(plan.lane)];
        let first = if lane.taken.is_empty() {
            0
        } else {
            lane.top + 1
        };
        let last = given_out.get(&(payer, plan.lane)).copied();
        let nonce = match plan.nonce {
            Nonce::Next => last.map_or(first, |last| first.max(last + 1)),
            Nonce::Ahead(by) => lane.top + u64::from(by),
            Nonce::Behind(by) => lane.top.saturating_sub(u64::from(by)),
        };
        given_out.insert((payer, plan.lane), nonce.max(last.unwrap_or(0)));

        let signed_for = match plan.bend {
            Bend::OtherService => (service + 1) % self.model.services.len(),
            _ => service,
        };
        let to = &self.model.services[signed_for];
        let past = to.past.len() - 1;
        let terms = match plan.bend {
            Bend::OldTerms => &to.past[past.saturating_sub(1)],
            _ => &to.past[past],
        };
        let minimum = to.min_payment.max(self.model.mint.min).max(1);
        let token = self.model.tokens.get(&account.source);
        let amount = match plan.amount {
            Amount::Of(amount) => u64::from(amount),
            Amount::Minimum(off) => minimum.saturating_add_signed(i64::from(off)),
            Amount::Maximum(off) => self.model.mint.max.saturating_add_signed(i64::from(off)),
            Amount::Left(which, more) => {
                let left = lane.left(self.model.now)[usize::from(which)];
                left.saturating_add(u64::from(more))
            }
            Amount::Balance(more) => token.map_or(0, |token| token.amount) + u64::from(more),
            Amount::Approved(more) => token
                .and_then(|token| token.delegate)
                .map_or(0, |(_, left)| left)
                .saturating_add(u64::from(more)),
        };
        // What no limit leaves is everything; a test with that amount shows nothing about limits.
        let amount = if amount > 1 << 40 { 1_000 } else { amount };
        let now = self.model.now;
        let expires_at = match plan.expiry {
            Expiry::In(secs) => now + i64::from(secs),
            Expiry::Furthest(more) => now + i64::from(self.model.config.ttl) + i64::from(more),
            Expiry::Past(secs) => now - i64::from(secs),
        };
        let own: [&Keypair; 3] = [&person.wallet, &person.sessions[0], &person.sessions[1]];
        let right = own
            .iter()
            .position(|key| key.pubkey().to_bytes() == lane.terms.key);
        let right = right.unwrap_or(usize::from(plan.lane));
        let key = match plan.bend {
            Bend::OtherKey => own[(right + 1) % own.len()],
            _ => own[right],
        };
        let intent = UnsignedIntent {
            genesis_hash: GENESIS,
            nonce_account: person.nonce,
            opened_slot: match plan.bend {
                Bend::OldOpening => account.opened_slot.saturating_sub(1),
                _ => account.opened_slot,
            },
            lane: plan.lane,
            service: to.address,
            terms_hash: terms.0,
            amount,
            nonce,
            expires_at: u32::try_from(expires_at).unwrap(),
            resource: [plan.resource; 16],
        };
        let signed = intent.sign(key).unwrap();
        let item = SettleItem {
            entry: signed.entry(),
            source: account.source,
            nonce_account: person.nonce,
        };
        let terms = terms.1.clone();
        self.archive.keep(Signed {
            signed,
            key: key.pubkey(),
            payer,
            service: signed_for,
            terms,
            settled: false,
        });
        self.bend(service, payer, plan.bend, item)
    }

    /// Offers an old intent, with the accounts that it would need today.
    fn offer_again(&self, service: usize, index: u16, bend: Bend) -> SettleItem {
        let old = &self.archive.all[usize::from(index) % self.archive.all.len()];
        let person = &self.cast().payers[old.payer];
        let source = match &self.model.nonces[old.payer] {
            Some(account) => account.source,
            None => person.sources[0],
        };
        let item = SettleItem {
            entry: old.signed.entry(),
            source,
            nonce_account: person.nonce,
        };
        self.bend(service, old.payer, bend, item)
    }

    fn bend(&self, service: usize, payer: usize, bend: Bend, mut item: SettleItem) -> SettleItem {
        let cast = self.cast();
        let entry = &mut item.entry;
        match bend {
            Bend::FlipSignature => entry.signature[usize::from(entry.resource[0]) % 64] ^= 1,
            Bend::MoreAmount => entry.amount += 1,
            Bend::OtherResource => entry.resource[0] ^= 1,
            Bend::LaterExpiry => entry.expires_at += 1,
            Bend::OtherNonce => entry.nonce += 1,
            Bend::Flags(flags) => entry.flags = flags,
            Bend::OtherAccount(by) => {
                let other = (payer + usize::from(by)) % cast.payers.len();
                item.nonce_account = cast.payers[other].nonce;
            }
            Bend::OtherSource(by) => {
                let place = payer * 2 + usize::from(by);
                item.source = cast.payers[place / 2 % cast.payers.len()].sources[place % 2];
            }
            Bend::MissingAccount => item.nonce_account = cast.pool[0],
            Bend::ForeignAccount => item.nonce_account = cast.config.0,
            Bend::VaultAsAccount => item.nonce_account = self.model.services[service].vault,
            Bend::LaterVersion => item.nonce_account = cast.later_nonce,
            Bend::OtherMint => item.nonce_account = cast.other_nonce,
            // These are wrong in what was signed.
            Bend::Nothing
            | Bend::OtherKey
            | Bend::OtherService
            | Bend::OldTerms
            | Bend::OldOpening => {}
        }
        item
    }

    fn send(&mut self, batch: &Batch) -> Check {
        let on = self.accounts(batch.service, batch.facilitator_token);
        let settle = instructions::settle(&batch.relayer, &on, &batch.items, batch.strict);
        let mut next = self.model.clone();
        let expected = next.settle(batch, &self.archive);
        // Otherwise what was sent before, in the same words, would be a transaction that the chain has seen.
        self.world.svm.expire_blockhash();
        let alone = self.each_payer_alone(batch)?;
        let mut keys: Vec<Address> = settle.accounts.iter().map(|meta| meta.pubkey).collect();
        keys.sort();
        keys.dedup();
        let before: Vec<u64> = keys
            .iter()
            .map(|key| check::lamports(&self.world, key))
            .collect();

        let all = [settle];
        let outcome = self.world.send(&all, &[keypair(&batch.relayer)]);
        for (key, before) in keys.iter().zip(before) {
            let now = check::lamports(&self.world, key);
            let fee = if *key == batch.relayer { FEE } else { 0 };
            // A virtual machine may forgive the fee of a failure.
            let kept = now == before - fee || (outcome.is_err() && now == before);
            hold!(kept, "I6: {key} had {before} lamports and has {now}");
        }
        coverage::count("settle", &expected);
        match (outcome, expected) {
            (Ok(outcome), Ok(settlement)) => {
                let event = outcome.event();
                let wanted = &settlement.event;
                hold!(
                    event == *wanted,
                    "settle: {event:#?}\nthe model says {wanted:#?}"
                );
                hold!(outcome.codes == event.codes, "return data and event differ");
                names(&event.codes).for_each(coverage::count_entry);
                let payments = settlement.settled.len() as u64;
                coverage::most("payments in the largest settle", payments);
                for (places, codes) in alone {
                    let here: Vec<u8> = places.iter().map(|place| event.codes[*place]).collect();
                    hold!(
                        here == codes,
                        "I7: {places:?} get {here:?}, alone {codes:?}"
                    );
                }
                self.rebuild.land(next.now, &all, &outcome.logs);
                self.check_settled(batch, &settlement)?;
                self.model = next;
            }
            (Err(failure), Err(refusal)) => {
                let same = same_refusal(&failure, refusal);
                hold!(same, "settle: {refusal:?} expected, got {failure:#?}");
            }
            (Ok(outcome), Err(refusal)) => {
                let codes = outcome.codes;
                return Err(format!(
                    "settle landed with {codes:?}, expected {refusal:?}"
                ));
            }
            (Err(failure), Ok(settlement)) => {
                let codes = settlement.event.codes;
                return Err(format!("settle: {codes:?} expected, got {failure:#?}"));
            }
        }
        self.compare()
    }

    /// Places of each payer's entries, and the codes they get in a batch without the others'. Nothing where the
    /// batch is of one payer, or where it does not land even so.
    fn each_payer_alone(&self, batch: &Batch) -> Check<Vec<(Vec<usize>, Vec<u8>)>> {
        let mut groups: BTreeMap<Address, Vec<usize>> = BTreeMap::new();
        for (place, item) in batch.items.iter().enumerate() {
            groups.entry(item.nonce_account).or_default().push(place);
        }
        let mut results = Vec::new();
        if groups.len() == 1 {
            return Ok(results);
        }
        let on = self.accounts(batch.service, batch.facilitator_token);
        for places in groups.into_values() {
            let items: Vec<_> = places.iter().map(|place| batch.items[*place]).collect();
            let settle = instructions::settle(&batch.relayer, &on, &items, false);
            let budget = Budget {
                compute_units: 1_400_000,
                unit_price: 0,
                loaded_bytes: 8 << 20,
            };
            let transaction = build(
                Version::V1,
                &batch.relayer,
                &[settle],
                &budget,
                self.world.svm.latest_blockhash(),
                &[keypair(&batch.relayer)],
            )
            .map_err(|error| error.to_string())?;
            match self.world.svm.simulate_transaction(transaction) {
                Ok(alone) => results.push((places, alone.meta.return_data.data)),
                // The same for the whole batch, which is then expected to fail: the scene, or the vault.
                Err(_) => results.push((places, Vec::new())),
            }
        }
        Ok(results)
    }

    /// What must hold of every payment, by the intent that its payer signed.
    fn check_settled(&mut self, batch: &Batch, settlement: &Settlement) -> Check {
        let service = &self.model.services[batch.service];
        let (now, ttl) = (self.model.now, i64::from(self.model.config.ttl));
        let event = &settlement.event;
        for place in &settlement.settled {
            let signed = &mut self.archive.all[*place];
            let digest = signed.signed.intent.digest();
            hold!(!signed.settled, "I2: {digest:?} settled twice");
            signed.settled = true;
            let expires_at = i64::from(signed.signed.intent.expires_at);
            let in_time = now <= expires_at && expires_at <= now + ttl;
            hold!(in_time, "I3: settled at {now}, good until {expires_at}");
            let legs = divide(&signed.terms, event.total, settlement.settled.len() as u64);
            let same = signed.service == batch.service
                && signed.terms == service.split
                && event.recipients == legs[..signed.terms.recipients.len()]
                && (event.treasury, event.facilitator) == (legs[TREASURY], legs[FACILITATOR]);
            hold!(
                same,
                "I8: signed for {:?}, settled as {event:?}",
                signed.terms
            );
        }
        let tokens = check::tokens(&self.world);
        for (key, token) in &tokens {
            if token.amount <= self.model.balance(key) {
                continue;
            }
            let named = *key == service.vault
                || (0..LEGS).any(|leg| {
                    self.model.leg(batch.service, leg, &batch.facilitator_token)
                        == Some((token.owner, *key))
                });
            hold!(
                named,
                "I5: {key} of {} received and is in no terms",
                token.owner
            );
        }
        Ok(())
    }
}
