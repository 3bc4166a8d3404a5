//! What can be done with a service besides settling: paid in the stock way, distributed, changed, closed.

use sluice_sdk::{
    Address,
    accounts::{Facilitator, HeldBalance, Service},
    address,
    instructions::{self, FacilitatorArgs, RecipientArg, ServiceAccounts, TermsArgs},
    token::TOKEN_PROGRAM,
};
use solana_instruction::Instruction;
use solana_keypair::Keypair;
use solana_signer::Signer;
use spl_token_interface::instruction as spl;

use crate::{
    outcome::{Failure, Outcome},
    world::World,
};

/// A facilitator with its keys.
#[derive(Debug)]
pub struct Operator {
    /// Its authority.
    pub authority: Keypair,
    /// Its one relayer key.
    pub relayer: Keypair,
    /// The wallet that its legs go to.
    pub wallet: Address,
    /// The facilitator account.
    pub facilitator: Address,
}

/// A recipient's row of terms.
pub fn row(owner: &Address, bps: u16) -> RecipientArg {
    RecipientArg {
        owner: owner.to_bytes(),
        bps,
    }
}

impl World {
    /// A new key with lamports.
    pub fn funded(&mut self) -> Keypair {
        let key = Keypair::new();
        self.svm.airdrop(&key.pubkey(), 100_000_000_000).unwrap();
        key
    }

    /// The world's service.
    pub fn current(&self) -> Service {
        self.service_account(&self.service)
    }

    /// Its vault.
    pub fn vault(&self) -> Address {
        Address::new_from_array(self.current().vault)
    }

    /// Its accounts, with the token account of its facilitator's wallet.
    pub fn on(&self) -> ServiceAccounts {
        let mut accounts = self.settle_accounts(&self.service);
        let facilitator: Facilitator = self.decode(&accounts.facilitator);
        let wallet = Address::new_from_array(facilitator.wallet);
        accounts.facilitator_token = self.token_of(&wallet);
        accounts
    }

    /// Pays the vault as a stock client does: a plain transfer, without an intent.
    pub fn pay_in(&mut self, amount: u64) {
        let client = self.funded();
        let source = self.open_token(client.pubkey(), amount);
        let vault = self.vault();
        let transfer = spl::transfer_checked(
            &TOKEN_PROGRAM,
            &source,
            &self.mint,
            &vault,
            &client.pubkey(),
            &[],
            amount,
            6,
        )
        .unwrap();
        self.send(&[transfer], &[&client]).unwrap();
    }

    /// Freezes a token account, as the mint's authority.
    pub fn freeze(&mut self, account: &Address) {
        let admin = self.admin.insecure_clone();
        let freeze =
            spl::freeze_account(&TOKEN_PROGRAM, account, &self.mint, &admin.pubkey(), &[]).unwrap();
        self.send(&[freeze], &[&admin]).unwrap();
    }

    /// Thaws a token account, as the mint's authority.
    pub fn thaw(&mut self, account: &Address) {
        let admin = self.admin.insecure_clone();
        let thaw =
            spl::thaw_account(&TOKEN_PROGRAM, account, &self.mint, &admin.pubkey(), &[]).unwrap();
        self.send(&[thaw], &[&admin]).unwrap();
    }

    /// Another token account of an owner, beside the associated one.
    pub fn open_other_token(&mut self, owner: Address) -> Address {
        let usual = self.token_of(&owner);
        let before = self.svm.get_account(&usual);
        self.open_token(owner, 0);
        let account = self.svm.get_account(&usual).unwrap();
        let key = Address::new_unique();
        self.svm.set_account(key, account).unwrap();
        self.svm
            .set_account(usual, before.unwrap_or_default())
            .unwrap();
        key
    }

    /// Has the world's service distributed by a stranger.
    pub fn distribute(&mut self, others: &[Address]) -> Result<Outcome, Failure> {
        let stranger = self.funded();
        let instruction = instructions::distribute(&stranger.pubkey(), &self.on(), others);
        self.send(&[instruction], &[&stranger])
    }

    /// The terms of the world's service as arguments.
    pub fn terms(&self) -> TermsArgs {
        let service = self.current();
        TermsArgs {
            facilitator_bps: service.facilitator_bps,
            facilitator_fixed: service.facilitator_fixed,
            min_payment: service.min_payment,
            recipients: service
                .shares()
                .iter()
                .map(|share| row(&Address::new_from_array(share.owner), share.bps))
                .collect(),
        }
    }

    /// `update_service` as the merchant would send it, to be bent by a test.
    pub fn update_instruction(&self, facilitator: &Address, terms: &TermsArgs) -> Instruction {
        let on = self.on();
        let now: Facilitator = self.decode(&on.facilitator);
        instructions::update_service(
            &self.merchant.pubkey(),
            &on,
            &self.current(),
            &Address::new_from_array(now.wallet),
            facilitator,
            terms,
        )
    }

    /// Changes the terms of the world's service and keeps its facilitator.
    pub fn update(&mut self, terms: &TermsArgs) -> Result<Outcome, Failure> {
        let facilitator = self.on().facilitator;
        self.update_with(&facilitator, terms)
    }

    /// Changes the terms of the world's service, with the facilitator from now on.
    pub fn update_with(
        &mut self,
        facilitator: &Address,
        terms: &TermsArgs,
    ) -> Result<Outcome, Failure> {
        let instruction = self.update_instruction(facilitator, terms);
        let merchant = self.merchant.insecure_clone();
        self.send(&[instruction], &[&merchant])
    }

    /// Closes the world's service, as the merchant.
    pub fn close(&mut self) -> Result<Outcome, Failure> {
        let merchant = self.merchant.insecure_clone();
        let instruction = instructions::close_service(&merchant.pubkey(), &self.on());
        self.send(&[instruction], &[&merchant])
    }

    /// Brings the world's service up to date, as a stranger.
    pub fn sync(&mut self) -> Result<Outcome, Failure> {
        let stranger = self.funded();
        let instruction = instructions::sync_service(&stranger.pubkey(), &self.on());
        self.send(&[instruction], &[&stranger])
    }

    /// Has somebody's `HeldBalance` paid to `destination`, as a stranger.
    pub fn release(&mut self, owner: &Address, destination: &Address) -> Result<Outcome, Failure> {
        let stranger = self.funded();
        let rent_payer = Address::new_from_array(self.held_balance(owner).rent_payer);
        let instruction = instructions::release_held(&self.on(), owner, &rent_payer, destination);
        self.send(&[instruction], &[&stranger])
    }

    /// What an owner is owed by the world's service outside its terms.
    pub fn held_balance(&self, owner: &Address) -> HeldBalance {
        self.decode(&address::held_balance(&self.service, owner).0)
    }

    /// Whether there is such an account.
    pub fn has_held_balance(&self, owner: &Address) -> bool {
        let key = address::held_balance(&self.service, owner).0;
        self.exists(&key)
    }

    /// Whether there is anything at an address.
    pub fn exists(&self, key: &Address) -> bool {
        self.svm
            .get_account(key)
            .is_some_and(|account| account.lamports > 0)
    }

    /// Pauses or resumes settlement, as the admin.
    pub fn set_paused(&mut self, paused: bool) {
        let admin = self.admin.insecure_clone();
        let instruction = instructions::set_paused(&admin.pubkey(), paused);
        self.send(&[instruction], &[&admin]).unwrap();
    }

    /// Suspends a facilitator or lets it go on, as the admin.
    pub fn set_suspended(&mut self, facilitator: &Address, suspended: bool) {
        let admin = self.admin.insecure_clone();
        let instruction =
            instructions::suspend_facilitator(&admin.pubkey(), facilitator, suspended);
        self.send(&[instruction], &[&admin]).unwrap();
    }

    /// Registers another facilitator with these minimums, whose wallet has a token account.
    pub fn register(&mut self, min_fee_bps: u16, min_fee_fixed: u64) -> Operator {
        let (authority, relayer) = (self.funded(), self.funded());
        let wallet = Address::new_unique();
        self.open_token(wallet, 0);
        let args = FacilitatorArgs {
            wallet: wallet.to_bytes(),
            min_fee_bps,
            min_fee_fixed,
            relayers: vec![relayer.pubkey().to_bytes()],
        };
        let instruction = instructions::register_facilitator(&authority.pubkey(), &args);
        self.send(&[instruction], &[&authority]).unwrap();
        Operator {
            facilitator: address::facilitator(&authority.pubkey()).0,
            authority,
            relayer,
            wallet,
        }
    }

    /// Announces a treasury share, as the admin.
    pub fn announce_treasury_share(&mut self, bps: u16) -> Result<Outcome, Failure> {
        let admin = self.admin.insecure_clone();
        let update = instructions::ConfigUpdate {
            treasury_bps: Some(bps),
            ..instructions::ConfigUpdate::default()
        };
        let instruction = instructions::update_config(&admin.pubkey(), &update);
        self.send(&[instruction], &[&admin])
    }

    /// Moves on by some slots; the clock's seconds stay.
    pub fn pass_slots(&mut self, slots: u64) {
        let now = self.time();
        let slot = self.svm.get_sysvar::<solana_clock::Clock>().slot;
        self.svm.warp_to_slot(slot + slots);
        self.set_time(now);
    }
}
