//! Every account, balance and window again, from what a chain's history shows and nothing else: the events in the
//! logs, the instructions with their accounts, the time of the block, and the balances at the beginning.

use std::collections::BTreeMap;

use anchor_lang::{AnchorDeserialize, Discriminator};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use sluice::events::{Changed, Paid, Settled};
use sluice_intent::{ENTRY_LEN, Entry};
use sluice_sdk::{
    Address, PROGRAM_ID,
    accounts::{NonceAccount, Service, SluiceAccount},
    token::TOKEN_PROGRAM,
};
use solana_instruction::Instruction;

use crate::coverage;

/// `TransferChecked` of the token programs.
const TRANSFER_CHECKED: u8 = 12;
/// Places in the accounts of a settle.
const VAULT: usize = 6;
const TREASURY: usize = 7;
const FACILITATOR: usize = 8;
const FIRST_RECIPIENT: usize = 10;

#[derive(Clone, Default)]
pub struct Rebuild {
    /// Data of the program's accounts.
    pub accounts: BTreeMap<Address, Vec<u8>>,
    pub balances: BTreeMap<Address, u64>,
}

impl Rebuild {
    /// Takes in a transaction that landed at `time`.
    pub fn land(&mut self, time: i64, instructions: &[Instruction], logs: &[String]) {
        for instruction in instructions {
            if instruction.program_id == TOKEN_PROGRAM && instruction.data[0] == TRANSFER_CHECKED {
                let amount = u64::from_le_bytes(instruction.data[1..9].try_into().unwrap());
                let (from, to) = (&instruction.accounts[0], &instruction.accounts[2]);
                self.transfer(from.pubkey, to.pubkey, amount);
            }
        }
        let bytes: usize = logs.iter().map(String::len).sum();
        coverage::most("bytes in the longest log", bytes as u64);
        let settle = sluice::instruction::Settle::DISCRIMINATOR;
        let mut settles = instructions
            .iter()
            .filter(|one| one.program_id == PROGRAM_ID && one.data.starts_with(settle));
        for line in logs {
            assert!(
                !line.starts_with("Log truncated"),
                "an event may be lost: {logs:#?}"
            );
            let Some(text) = line.strip_prefix("Program data: ") else {
                continue;
            };
            let data = STANDARD.decode(text).unwrap();
            let (head, mut body) = data.split_at(8);
            if head == Changed::DISCRIMINATOR {
                self.changed(Changed::deserialize(&mut body).unwrap());
            } else if head == Paid::DISCRIMINATOR {
                self.paid(&Paid::deserialize(&mut body).unwrap());
            } else if head == Settled::DISCRIMINATOR {
                let event = Settled::deserialize(&mut body).unwrap();
                self.settled(time, &event, settles.next().unwrap());
            }
            assert!(body.is_empty(), "an event with bytes that nobody reads");
        }
    }

    /// Money that moved outside the program's sight.
    pub fn transfer(&mut self, from: Address, to: Address, amount: u64) {
        self.take(from, amount);
        self.give(to, amount);
    }

    pub fn give(&mut self, to: Address, amount: u64) {
        *self.balances.entry(to).or_default() += amount;
    }

    fn take(&mut self, from: Address, amount: u64) {
        let balance = self.balances.entry(from).or_default();
        *balance = balance
            .checked_sub(amount)
            .expect("more left than there was");
    }

    fn changed(&mut self, event: Changed) {
        if event.data.is_empty() {
            self.accounts.remove(&event.account);
        } else {
            self.accounts.insert(event.account, event.data);
        }
    }

    fn paid(&mut self, event: &Paid) {
        let vault = Address::new_from_array(self.read::<Service>(&event.service).vault);
        for leg in &event.legs {
            self.transfer(vault, leg.token_account, leg.amount);
        }
    }

    fn settled(&mut self, time: i64, event: &Settled, instruction: &Instruction) {
        let account = |place: usize| instruction.accounts[place].pubkey;
        let recipients = event.recipients.len();
        // 8 discriminator, 1 strict, 4 count.
        let entries = instruction.data[13..].chunks_exact(ENTRY_LEN);
        assert_eq!(entries.len(), event.codes.len());
        let (mut total, mut payments) = (0, 0);
        for (i, (bytes, code)) in entries.zip(&event.codes).enumerate() {
            if *code != 0 {
                continue;
            }
            let entry = Entry::decode(bytes.try_into().unwrap());
            let first = FIRST_RECIPIENT + recipients + 2 * i;
            self.take(account(first), entry.amount);
            self.burn(account(first + 1), time, &entry);
            total += entry.amount;
            payments += 1;
        }
        assert_eq!(total, event.total);

        let mut service: Service = self.read(&event.service);
        let mut legs: Vec<_> = event.recipients.iter().copied().enumerate().collect();
        legs.extend([(8, event.treasury), (9, event.facilitator)]);
        for (leg, amount) in legs {
            total -= amount;
            if event.held & (1 << leg) == 0 {
                if amount > 0 {
                    let place = match leg {
                        8 => TREASURY,
                        9 => FACILITATOR,
                        _ => FIRST_RECIPIENT + leg,
                    };
                    self.give(account(place), amount);
                }
                continue;
            }
            self.give(account(VAULT), amount);
            service.held_total += amount;
            match leg {
                8 => service.held_treasury += amount,
                9 => service.held_facilitator += amount,
                _ => {
                    let share = &mut service.recipients[leg];
                    if share.held == 0 {
                        share.held_since = time;
                    }
                    share.held += amount;
                }
            }
        }
        assert_eq!(total, 0, "the legs do not add up to what was pulled");
        service.settled_total += event.total;
        service.payments += payments;
        self.write(event.service, &service);
    }

    /// What a payment does to its nonce account.
    fn burn(&mut self, key: Address, time: i64, entry: &Entry) {
        let mut nonce: NonceAccount = self.read(&key);
        nonce.spent_total += entry.amount;
        nonce.last_active = time;
        let lane = &mut nonce.lanes[usize::from(entry.flags)];
        let mut taken: Vec<u64> = (0..256)
            .filter(|back| lane.window[back / 64] & (1 << (back % 64)) != 0)
            .map(|back| lane.top - back as u64)
            .collect();
        taken.push(entry.nonce);
        lane.top = lane.top.max(entry.nonce);
        lane.window = [0; 4];
        for nonce in taken {
            let back = (lane.top - nonce) as usize;
            if back < 256 {
                lane.window[back / 64] |= 1 << (back % 64);
            }
        }
        let elapsed = i128::from(time) - i128::from(lane.period_start);
        let secs = i128::from(lane.period_secs);
        if secs > 0 && elapsed >= secs {
            lane.period_start += (elapsed / secs * secs) as i64;
            lane.period_spent = 0;
        }
        lane.period_spent += entry.amount;
        lane.total_spent += entry.amount;
        self.write(key, &nonce);
    }

    fn read<T: SluiceAccount>(&self, key: &Address) -> T {
        T::decode_data(&self.accounts[key]).unwrap()
    }

    fn write<T: SluiceAccount + bytemuck::NoUninit>(&mut self, key: Address, state: &T) {
        let mut data = T::discriminator().to_vec();
        data.extend(bytemuck::bytes_of(state));
        self.accounts.insert(key, data);
    }
}
