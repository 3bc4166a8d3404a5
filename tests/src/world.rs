use std::path::PathBuf;

use litesvm::LiteSVM;
use sluice_intent::LaneTerms;
use sluice_sdk::{
    Address, DEVNET_USDC, PROGRAM_ID, UnsignedIntent,
    accounts::{AcceptedMint, Config, NonceAccount, Service, SluiceAccount},
    address,
    instructions::{
        self, ConfigArgs, FacilitatorArgs, MintArgs, RecipientArg, ServiceAccounts, ServiceArgs,
        SettleItem, TermsArgs,
    },
    token::{self, TOKEN_PROGRAM},
    transaction::{Budget, Version, build, wire},
};
use solana_account::Account;
use solana_clock::Clock;
use solana_instruction::Instruction;
use solana_keypair::Keypair;
use solana_signer::Signer;

use crate::{
    outcome::{Failure, Outcome},
    payer::{Payer, lane_terms},
    token::{TokenState, mint_data},
};

/// The chain's clock when a world begins.
pub const NOW: i64 = 1_800_000_000;
/// Genesis hash in every world's config.
pub const GENESIS: [u8; 32] = [7; 32];
const SLOT: u64 = 1_000;

/// The built program. The suites test what goes on chain, so they cannot do without it. `SLUICE_PROGRAM` names
/// another build, to see that a changed program fails them.
pub fn program_path() -> PathBuf {
    let built = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/deploy/sluice.so");
    let path = std::env::var_os("SLUICE_PROGRAM").map_or(built, PathBuf::from);
    assert!(
        path.exists(),
        "{} is missing: run `make program` first",
        path.display()
    );
    path
}

/// How a world differs from the usual one.
#[derive(Clone, Debug)]
pub struct WorldOptions {
    /// Shares of the service's recipients, in basis points.
    pub recipients: Vec<u16>,
    /// The treasury's share, in basis points.
    pub treasury_bps: u16,
    /// The facilitator's proportional share, in basis points.
    pub facilitator_bps: u16,
    /// The facilitator's fixed share, in atomic units.
    pub facilitator_fixed: u64,
    /// The service's minimum, in atomic units.
    pub min_payment: u64,
}

impl Default for WorldOptions {
    fn default() -> Self {
        Self {
            recipients: vec![10_000],
            treasury_bps: 50,
            facilitator_bps: 100,
            facilitator_fixed: 0,
            min_payment: 1,
        }
    }
}

/// A deployment with one mint, one facilitator and one service.
pub struct World {
    /// The virtual machine.
    pub svm: LiteSVM,
    /// Upgrade authority, admin and mint authority.
    pub admin: Keypair,
    /// May pause.
    pub guardian: Keypair,
    /// The treasury's wallet.
    pub treasury: Address,
    /// Authority of the facilitator.
    pub operator: Keypair,
    /// The facilitator's fee wallet.
    pub fee_wallet: Address,
    /// Its relayer key.
    pub relayer: Keypair,
    /// Authority of the service.
    pub merchant: Keypair,
    /// The mint.
    pub mint: Address,
    /// The service.
    pub service: Address,
    /// The recipients' wallets.
    pub recipients: Vec<Address>,
}

impl World {
    /// The usual world: one recipient, treasury 50 bps, facilitator 100 bps.
    pub fn new() -> Self {
        Self::with(&WorldOptions::default())
    }

    /// A world with these recipients.
    pub fn with_recipients(shares: &[u16]) -> Self {
        Self::with(&WorldOptions {
            recipients: shares.to_vec(),
            ..WorldOptions::default()
        })
    }

    /// A world made to order.
    pub fn with(options: &WorldOptions) -> Self {
        let mut world = Self::deployed();
        world
            .send(
                &[world.initialize_config(options.treasury_bps)],
                &[&world.admin.insecure_clone()],
            )
            .unwrap();
        world.open_token(world.treasury, 0);
        world.set_mint(true);
        world.open_token(world.fee_wallet, 0);
        let args = FacilitatorArgs {
            wallet: world.fee_wallet.to_bytes(),
            min_fee_bps: 0,
            min_fee_fixed: 0,
            relayers: vec![world.relayer.pubkey().to_bytes()],
        };
        let operator = world.operator.insecure_clone();
        world
            .send(
                &[instructions::register_facilitator(
                    &operator.pubkey(),
                    &args,
                )],
                &[&operator],
            )
            .unwrap();
        world.recipients = options
            .recipients
            .iter()
            .map(|_| Address::new_unique())
            .collect();
        for owner in world.recipients.clone() {
            world.open_token(owner, 0);
        }
        world.service = world.create_service(1, options);
        world
    }

    /// The program on chain, nothing set up.
    pub fn deployed() -> Self {
        let mut svm = LiteSVM::new();
        svm.add_program(PROGRAM_ID, &std::fs::read(program_path()).unwrap())
            .unwrap();
        let keys: Vec<Keypair> = (0..5).map(|_| Keypair::new()).collect();
        let [admin, guardian, operator, relayer, merchant] = keys.try_into().unwrap();
        for key in [&admin, &guardian, &operator, &relayer, &merchant] {
            svm.airdrop(&key.pubkey(), 1_000_000_000_000).unwrap();
        }
        let (data_address, _) = address::program_data();
        let mut data_account = svm.get_account(&data_address).unwrap();
        data_account.data[12] = 1;
        data_account.data[13..45].copy_from_slice(admin.pubkey().as_ref());
        svm.set_account(data_address, data_account).unwrap();

        let mut world = Self {
            svm,
            guardian,
            treasury: Address::new_unique(),
            operator,
            fee_wallet: Address::new_unique(),
            relayer,
            merchant,
            mint: DEVNET_USDC,
            service: Address::default(),
            recipients: Vec::new(),
            admin,
        };
        world.put(world.mint, mint_data(world.admin.pubkey()), TOKEN_PROGRAM);
        world.svm.warp_to_slot(SLOT);
        world.set_time(NOW);
        world
    }

    /// `initialize_config` as the deployer would send it.
    pub fn initialize_config(&self, treasury_bps: u16) -> Instruction {
        let args = ConfigArgs {
            admin: self.admin.pubkey().to_bytes(),
            guardian: self.guardian.pubkey().to_bytes(),
            treasury: self.treasury.to_bytes(),
            genesis_hash: GENESIS,
            treasury_bps,
            max_facilitator_bps: 5_000,
            max_intent_ttl: 600,
        };
        instructions::initialize_config(&self.admin.pubkey(), &args)
    }

    /// Accepts the world's mint, with settlement on or off.
    pub fn set_mint(&mut self, settle: bool) {
        let args = MintArgs {
            settle,
            min_amount: 1,
            max_amount: 1_000_000_000_000,
            allowed_extensions: 0,
        };
        let treasury_token = self.token_of(&self.treasury);
        let admin = self.admin.insecure_clone();
        let instruction =
            instructions::set_mint(&admin.pubkey(), &self.mint, &treasury_token, &args);
        self.send(&[instruction], &[&admin]).unwrap();
    }

    /// The facilitator account.
    pub fn facilitator(&self) -> Address {
        address::facilitator(&self.operator.pubkey()).0
    }

    /// `create_service` for the world's recipients, as the merchant would send it.
    pub fn service_instruction(&self, id: u64, options: &WorldOptions) -> Instruction {
        let recipients = self.recipients.iter().zip(&options.recipients);
        let args = ServiceArgs {
            id,
            terms: TermsArgs {
                facilitator_bps: options.facilitator_bps,
                facilitator_fixed: options.facilitator_fixed,
                min_payment: options.min_payment,
                recipients: recipients
                    .map(|(owner, bps)| RecipientArg {
                        owner: owner.to_bytes(),
                        bps: *bps,
                    })
                    .collect(),
            },
        };
        let merchant = self.merchant.pubkey();
        instructions::create_service(
            &merchant,
            &self.mint,
            &TOKEN_PROGRAM,
            &self.facilitator(),
            &args,
        )
    }

    /// Creates another service of the merchant.
    pub fn create_service(&mut self, id: u64, options: &WorldOptions) -> Address {
        let merchant = self.merchant.insecure_clone();
        self.send(&[self.service_instruction(id, options)], &[&merchant])
            .unwrap();
        address::service(&merchant.pubkey(), id).0
    }

    /// A payer who holds and approves `amount`, with both lanes open and unlimited.
    pub fn payer(&mut self, amount: u64) -> Payer {
        let (wallet, session) = (Keypair::new(), Keypair::new());
        let key = wallet.pubkey();
        let source = self.open_token(key, amount);
        let relayer = self.relayer.insecure_clone();
        let setup = [
            instructions::open_nonce(&relayer.pubkey(), &key, &self.mint, &source),
            instructions::set_lane(&key, &self.mint, 0, &lane_terms(key)),
            instructions::set_lane(&key, &self.mint, 1, &lane_terms(session.pubkey())),
            token::approve(&key, &self.mint, &TOKEN_PROGRAM, amount, 6),
        ];
        self.send(&setup, &[&relayer, &wallet]).unwrap();
        let nonce_account = Payer::nonce_address(&key, &self.mint);
        let opened_slot = self.nonce_account(&nonce_account).opened_slot;
        Payer {
            wallet,
            session,
            source,
            nonce_account,
            opened_slot,
        }
    }

    /// Sets a lane of a payer.
    pub fn set_lane(
        &mut self,
        payer: &Payer,
        lane: u8,
        terms: &LaneTerms,
    ) -> Result<Outcome, Failure> {
        let instruction = instructions::set_lane(&payer.key(), &self.mint, lane, terms);
        let relayer = self.relayer.insecure_clone();
        self.send(&[instruction], &[&relayer, &payer.wallet])
    }

    /// An intent to the world's service, on lane 1, for one minute.
    pub fn intent(&self, payer: &Payer, amount: u64, nonce: u64) -> UnsignedIntent {
        UnsignedIntent {
            genesis_hash: GENESIS,
            nonce_account: payer.nonce_account,
            opened_slot: payer.opened_slot,
            lane: 1,
            service: self.service,
            terms_hash: self.service_account(&self.service).terms_hash,
            amount,
            nonce,
            expires_at: u32::try_from(self.time() + 60).unwrap(),
            resource: [9; 16],
        }
    }

    /// A signed entry on lane 1 with its accounts.
    pub fn item(&self, payer: &Payer, amount: u64, nonce: u64) -> SettleItem {
        payer.item(&payer.sign(self.intent(payer, amount, nonce)))
    }

    /// The accounts of a settle for a service.
    pub fn settle_accounts(&self, service: &Address) -> ServiceAccounts {
        let accepted: AcceptedMint = self.decode(&address::accepted_mint(&self.mint).0);
        ServiceAccounts::new(
            *service,
            &self.service_account(service),
            &accepted,
            &self.fee_wallet,
        )
    }

    /// Settles entries for the world's service as its relayer.
    pub fn settle(&mut self, items: &[SettleItem], strict: bool) -> Result<Outcome, Failure> {
        let instruction = self.settle_instruction(items, strict);
        self.send_as_relayer(&[instruction])
    }

    /// The `settle` that [`World::settle`] sends, to be bent by a test.
    pub fn settle_instruction(&self, items: &[SettleItem], strict: bool) -> Instruction {
        let accounts = self.settle_accounts(&self.service);
        instructions::settle(&self.relayer.pubkey(), &accounts, items, strict)
    }

    /// Sends instructions that the relayer pays for, in a transaction of version 1.
    pub fn send_as_relayer(&mut self, all: &[Instruction]) -> Result<Outcome, Failure> {
        let relayer = self.relayer.insecure_clone();
        self.send(all, &[&relayer])
    }

    /// Sends instructions in one transaction of version 1; the first signer pays.
    pub fn send(&mut self, all: &[Instruction], signers: &[&Keypair]) -> Result<Outcome, Failure> {
        self.send_version(Version::V1, all, signers)
    }

    /// Sends instructions in one transaction; the first signer pays. LiteSVM does not look at sizes, so the
    /// builder's own check is what keeps a test honest.
    pub fn send_version(
        &mut self,
        version: Version,
        all: &[Instruction],
        signers: &[&Keypair],
    ) -> Result<Outcome, Failure> {
        self.svm.expire_blockhash();
        let budget = Budget {
            compute_units: 1_400_000,
            unit_price: 0,
            loaded_bytes: 8 << 20,
        };
        let payer = signers[0].pubkey();
        let blockhash = self.svm.latest_blockhash();
        let transaction =
            build(version, &payer, all, &budget, blockhash, &signers.to_vec()).unwrap();
        assert!(wire(&transaction).unwrap().len() <= version.max_len());
        Ok(self.svm.send_transaction(transaction)?.into())
    }

    /// The associated token account of an owner, for the world's mint.
    pub fn token_of(&self, owner: &Address) -> Address {
        address::token_account(owner, &self.mint, &TOKEN_PROGRAM)
    }

    /// Opens an owner's associated token account with `amount` in it.
    pub fn open_token(&mut self, owner: Address, amount: u64) -> Address {
        let key = self.token_of(&owner);
        let state = TokenState {
            mint: self.mint,
            owner,
            amount,
            delegate: None,
            frozen: false,
        };
        self.svm
            .set_account(key, state.account(TOKEN_PROGRAM))
            .unwrap();
        key
    }

    /// Reads a token account.
    pub fn token(&self, key: &Address) -> token::TokenAccount {
        let account = self.svm.get_account(key).unwrap();
        token::decode_account(&account.owner, &account.data).expect("a token account")
    }

    /// Changes a token account in place.
    pub fn change_token(&mut self, key: Address, change: impl FnOnce(&mut TokenState)) {
        let now = self.token(&key);
        let mut state = TokenState {
            mint: now.mint,
            owner: now.owner,
            amount: now.amount,
            delegate: now.delegate,
            frozen: now.frozen,
        };
        change(&mut state);
        self.svm
            .set_account(key, state.account(TOKEN_PROGRAM))
            .unwrap();
    }

    /// Atomic units in a token account.
    pub fn balance(&self, key: &Address) -> u64 {
        self.token(key).amount
    }

    /// Writes an account.
    pub fn put(&mut self, key: Address, data: Vec<u8>, owner: Address) {
        let account = Account {
            lamports: 100_000_000,
            data,
            owner,
            executable: false,
            rent_epoch: u64::MAX,
        };
        self.svm.set_account(key, account).unwrap();
    }

    /// Removes an account.
    pub fn remove(&mut self, key: Address) {
        self.svm.set_account(key, Account::default()).unwrap();
    }

    /// Reads an account of the program.
    pub fn decode<T: SluiceAccount>(&self, key: &Address) -> T {
        let account = self.svm.get_account(key).expect("the account exists");
        T::decode(&account.owner, &account.data).unwrap()
    }

    /// Reads a service.
    pub fn service_account(&self, key: &Address) -> Service {
        self.decode(key)
    }

    /// Reads a nonce account.
    pub fn nonce_account(&self, key: &Address) -> NonceAccount {
        self.decode(key)
    }

    /// Reads the config.
    pub fn config(&self) -> Config {
        self.decode(&address::config().0)
    }

    /// The chain's clock.
    pub fn time(&self) -> i64 {
        self.svm.get_sysvar::<Clock>().unix_timestamp
    }

    /// Sets the chain's clock.
    pub fn set_time(&mut self, now: i64) {
        let mut clock = self.svm.get_sysvar::<Clock>();
        clock.unix_timestamp = now;
        self.svm.set_sysvar(&clock);
    }

    /// Every token account that a settle for the world's service can move money in.
    pub fn money(&self, payers: &[&Payer]) -> u64 {
        let service = self.service_account(&self.service);
        let mut keys = vec![
            Address::new_from_array(service.vault),
            self.token_of(&self.treasury),
            self.token_of(&self.fee_wallet),
        ];
        keys.extend(self.recipients.iter().map(|owner| self.token_of(owner)));
        keys.extend(payers.iter().map(|payer| payer.source));
        keys.sort();
        keys.dedup();
        keys.iter()
            .filter_map(|key| self.svm.get_account(key))
            .filter_map(|account| token::decode_account(&account.owner, &account.data))
            .map(|account| account.amount)
            .sum()
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}
