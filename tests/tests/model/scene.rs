//! The world that every sequence begins in: two facilitators, three services, four payers with open nonce accounts.
//! Made once by the program's own instructions; a sequence gets a copy.

use std::collections::BTreeMap;

use litesvm::LiteSVM;
use sluice_sdk::{
    Address, PROGRAM_ID,
    accounts::SluiceAccount,
    address,
    instructions::{
        self, ConfigArgs, FacilitatorArgs, MintArgs, RecipientArg, ServiceArgs, TermsArgs,
    },
    token::TOKEN_PROGRAM,
};
use sluice_tests::{NOW, TokenState, World, lane_terms, mint_data};
use solana_instruction::Instruction;
use solana_keypair::Keypair;
use solana_signer::Signer;

use crate::{
    cast::{Cast, cast},
    rebuild::Rebuild,
    run::approve,
    service::Wanted,
    settle::GENESIS,
    state::{Config, Facilitator, Mint, Model, Token},
};

/// The slot in which the scene is set.
pub const SLOT: u64 = 1_000;
/// The path of another build of the program, to see whether this suite finds what is wrong with it.
pub const PROGRAM: &str = "SLUICE_MODEL_PROGRAM";

pub struct Scene {
    svm: LiteSVM,
    pub model: Model,
    pub rebuild: Rebuild,
    /// Accounts that nothing ever changes.
    pub props: BTreeMap<Address, Vec<u8>>,
}

/// The arguments of an update or a creation.
pub fn terms_args(wanted: &Wanted) -> TermsArgs {
    TermsArgs {
        facilitator_bps: wanted.facilitator_bps,
        facilitator_fixed: wanted.facilitator_fixed,
        min_payment: wanted.min_payment,
        recipients: wanted
            .recipients
            .iter()
            .map(|(owner, bps)| RecipientArg {
                owner: owner.to_bytes(),
                bps: *bps,
            })
            .collect(),
    }
}

/// Writes a token account of the world's mint as the model has it.
pub fn write_token(world: &mut World, key: Address, token: Option<&Token>) {
    let Some(token) = token else {
        world.remove(key);
        return;
    };
    let state = TokenState {
        mint: world.mint,
        owner: token.owner,
        amount: token.amount,
        delegate: token.delegate,
        frozen: token.frozen,
    };
    let account = state.account(TOKEN_PROGRAM);
    world.svm.set_account(key, account).unwrap();
}

/// A world around a virtual machine. The suite reads the cast's keys; these are for the world's own helpers.
fn world(svm: LiteSVM) -> World {
    let cast = cast();
    World {
        svm,
        admin: cast.admins[0].insecure_clone(),
        guardian: cast.guardian.insecure_clone(),
        treasury: cast.treasuries[0],
        operator: cast.operators[0].insecure_clone(),
        fee_wallet: cast.fee_wallets[0],
        relayer: cast.relayers[0].insecure_clone(),
        merchant: cast.merchants[0].insecure_clone(),
        mint: cast.mint,
        service: Address::default(),
        recipients: Vec::new(),
    }
}

impl Scene {
    /// A copy of the world.
    pub fn world(&self) -> World {
        world(self.svm.clone())
    }

    pub fn new() -> Self {
        let cast = cast();
        let mut world = world(World::deployed().svm);
        if let Ok(path) = std::env::var(PROGRAM) {
            let program = std::fs::read(path).unwrap();
            world.svm.add_program(PROGRAM_ID, &program).unwrap();
        }
        let (key, _) = address::program_data();
        let mut data = world.svm.get_account(&key).unwrap();
        data.data[12] = 1;
        data.data[13..45].copy_from_slice(world.admin.pubkey().as_ref());
        world.svm.set_account(key, data).unwrap();
        for mint in [cast.mint, cast.other_mint] {
            world.put(mint, mint_data(cast.admins[0].pubkey()), TOKEN_PROGRAM);
        }
        for signer in cast.signers() {
            let key = signer.pubkey();
            world.svm.airdrop(&key, 1_000_000_000_000).unwrap();
        }
        let mut scene = Self {
            svm: world.svm.clone(),
            model: model(cast),
            rebuild: Rebuild::default(),
            props: BTreeMap::new(),
        };
        for (key, token) in &scene.model.tokens {
            write_token(&mut world, *key, Some(token));
            scene.rebuild.give(*key, token.amount);
        }
        scene.govern(&mut world);
        scene.serve(&mut world);
        scene.let_pay(&mut world);
        scene.set_props(&mut world);
        scene.svm = world.svm.clone();
        scene
    }

    fn land(&mut self, world: &mut World, all: &[Instruction], signers: &[&Keypair]) {
        let outcome = world.send(all, signers).unwrap();
        self.rebuild.land(NOW, all, &outcome.logs);
    }

    fn govern(&mut self, world: &mut World) {
        let cast = cast();
        let admin = &cast.admins[0];
        let config = ConfigArgs {
            admin: admin.pubkey().to_bytes(),
            guardian: cast.guardian.pubkey().to_bytes(),
            treasury: cast.treasuries[0].to_bytes(),
            genesis_hash: GENESIS,
            treasury_bps: self.model.config.treasury_bps,
            max_facilitator_bps: self.model.config.max_facilitator_bps,
            max_intent_ttl: self.model.config.ttl,
        };
        let args = MintArgs {
            settle: true,
            min_amount: self.model.mint.min,
            max_amount: self.model.mint.max,
            allowed_extensions: 0,
        };
        let other = other_token(world, &cast.treasuries[0]);
        let all = [
            instructions::initialize_config(&admin.pubkey(), &config),
            instructions::set_mint(
                &admin.pubkey(),
                &cast.mint,
                &self.model.mint.treasury_token,
                &args,
            ),
            instructions::set_mint(&admin.pubkey(), &cast.other_mint, &other, &args),
        ];
        self.land(world, &all, &[admin]);
        for (operator, state) in cast.operators.iter().zip(self.model.facilitators.clone()) {
            let args = FacilitatorArgs {
                wallet: state.wallet.to_bytes(),
                min_fee_bps: state.min_bps,
                min_fee_fixed: state.min_fixed,
                relayers: state.relayers.iter().map(|key| key.to_bytes()).collect(),
            };
            let register = instructions::register_facilitator(&operator.pubkey(), &args);
            self.land(world, &[register], &[operator]);
        }
    }

    fn serve(&mut self, world: &mut World) {
        let cast = cast();
        let rows = [
            (0, 0, vec![10_000]),
            (0, 2, vec![6_667, 3_333]),
            (1, 4, vec![1_251, 1_249, 2_000, 500, 4_000, 997, 2, 1]),
        ];
        for (id, (merchant, from, shares)) in rows.into_iter().enumerate() {
            let merchant: &Keypair = &cast.merchants[merchant];
            let wanted = Wanted {
                facilitator: 0,
                facilitator_bps: 100,
                facilitator_fixed: 7 * id as u64,
                min_payment: 1,
                recipients: shares
                    .into_iter()
                    .enumerate()
                    .map(|(i, bps)| (cast.pool[from + i], bps))
                    .collect(),
            };
            let id = id as u64;
            self.model
                .create_service(merchant.pubkey(), id, &wanted)
                .unwrap();
            let args = ServiceArgs {
                id,
                terms: terms_args(&wanted),
            };
            let create = instructions::create_service(
                &merchant.pubkey(),
                &cast.mint,
                &TOKEN_PROGRAM,
                &cast.facilitators[0].0,
                &args,
            );
            self.land(world, &[create], &[merchant]);
        }
    }

    fn let_pay(&mut self, world: &mut World) {
        let cast = cast();
        let sponsor = cast.sponsor.pubkey();
        for (i, payer) in cast.payers.iter().enumerate() {
            let (who, source) = (payer.key(), payer.sources[0]);
            let session = lane_terms(payer.sessions[0].pubkey());
            self.model.open(i, sponsor, source).unwrap();
            self.model.set_lane(i, &who, 0, &lane_terms(who)).unwrap();
            self.model.set_lane(i, &who, 1, &session).unwrap();
            self.model.approve(i, &source, 500_000_000).unwrap();
            let all = [
                instructions::open_nonce(&sponsor, &who, &cast.mint, &source),
                instructions::set_lane(&who, &cast.mint, 0, &lane_terms(who)),
                instructions::set_lane(&who, &cast.mint, 1, &session),
                approve(&source, &payer.nonce, &who, 500_000_000),
            ];
            self.land(world, &all, &[&cast.sponsor, &payer.wallet]);
        }
    }

    /// Accounts that stand in a nonce account's place and are none that can be used.
    fn set_props(&mut self, world: &mut World) {
        let cast = cast();
        let payer = &cast.payers[0];
        let source = other_token(world, &payer.key());
        let sponsor = &cast.sponsor;
        let open =
            instructions::open_nonce(&sponsor.pubkey(), &payer.key(), &cast.other_mint, &source);
        self.land(world, &[open], &[sponsor, &payer.wallet]);
        let mut data = world.svm.get_account(&payer.nonce).unwrap().data;
        data[8 + std::mem::offset_of!(sluice_sdk::accounts::NonceAccount, version)] = 2;
        world.put(cast.later_nonce, data.clone(), PROGRAM_ID);
        self.rebuild.accounts.insert(cast.later_nonce, data);
        let keys = [
            cast.later_nonce,
            cast.other_nonce,
            address::accepted_mint(&cast.other_mint).0,
        ];
        for key in keys {
            let account = world.svm.get_account(&key).unwrap();
            assert!(account.data.len() >= sluice_sdk::accounts::AcceptedMint::size());
            self.props.insert(key, account.data);
        }
    }
}

/// Opens an owner's account of the other mint.
fn other_token(world: &mut World, owner: &Address) -> Address {
    let mint = cast().other_mint;
    let key = address::token_account(owner, &mint, &TOKEN_PROGRAM);
    let state = TokenState {
        mint,
        owner: *owner,
        amount: 1_000_000,
        delegate: None,
        frozen: false,
    };
    world
        .svm
        .set_account(key, state.account(TOKEN_PROGRAM))
        .unwrap();
    key
}

/// What the scene is to be before services and nonce accounts.
fn model(cast: &'static Cast) -> Model {
    let mut tokens: BTreeMap<_, _> = cast
        .holders
        .iter()
        .map(|(key, owner)| (*key, Token::new(*owner, 0)))
        .collect();
    for payer in &cast.payers {
        for (source, amount) in payer.sources.iter().zip([1_000_000_000, 100_000_000]) {
            tokens.insert(*source, Token::new(payer.key(), amount));
        }
    }
    let client = cast.client.pubkey();
    tokens.insert(cast.token(&client), Token::new(client, 1 << 50));
    tokens.insert(cast.sink, Token::new(client, 0));
    let supply = tokens.values().map(|token| u128::from(token.amount)).sum();
    let key = |keypair: &Keypair| keypair.pubkey();
    let facilitator = |which: usize, relayers: &[Keypair]| Facilitator {
        authority: key(&cast.operators[which]),
        pending: Address::default(),
        wallet: cast.fee_wallets[which],
        relayers: relayers.iter().map(key).collect(),
        min_bps: 0,
        min_fixed: 0,
        suspended: false,
    };
    Model {
        cast,
        now: NOW,
        slot: SLOT,
        tokens,
        supply,
        config: Config {
            admin: key(&cast.admins[0]),
            pending_admin: Address::default(),
            guardian: key(&cast.guardian),
            treasury: cast.treasuries[0],
            treasury_bps: 50,
            announced: None,
            max_facilitator_bps: 5_000,
            ttl: 600,
            paused: false,
        },
        mint: Mint {
            settles: true,
            min: 1,
            max: 1_000_000_000,
            treasury_token: cast.token(&cast.treasuries[0]),
        },
        facilitators: [
            facilitator(0, &cast.relayers[..2]),
            facilitator(1, &cast.relayers[2..]),
        ],
        services: Vec::new(),
        owed: BTreeMap::new(),
        nonces: Default::default(),
    }
}
