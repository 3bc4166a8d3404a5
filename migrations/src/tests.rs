//! Planning and applying against a chain in memory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{cell::RefCell, collections::HashMap};

use bytemuck::{NoUninit, Zeroable};
use sluice_sdk::{
    Address, LOADER_V3, PROGRAM_ID,
    accounts::{
        AcceptedMint, Config, Facilitator, MINT_SETTLES, RecipientShare, SERVICE_ACTIVE, Service,
        SluiceAccount, VERSION,
    },
    address,
    token::{ASSOCIATED_TOKEN_PROGRAM, TOKEN_2022_PROGRAM, TOKEN_PROGRAM},
};
use solana_instruction::Instruction;
use solana_keypair::Keypair;
use solana_signature::Signature;
use solana_signer::Signer;

use crate::{
    Chain, ChainError, Drift, Error, File, FileError, Step, apply, chain::AccountData, plan,
};

const GENESIS: [u8; 32] = [9; 32];

/// A chain on which every transaction does what it should: it brings the accounts that it writes to the state
/// that they have in `finished`.
#[derive(Clone, Default)]
struct Fake {
    accounts: RefCell<HashMap<Address, AccountData>>,
    finished: HashMap<Address, AccountData>,
    sent: RefCell<Vec<Vec<Instruction>>>,
    /// Takes transactions, and forgets them.
    deaf: bool,
}

impl Chain for Fake {
    fn genesis_hash(&self) -> Result<[u8; 32], ChainError> {
        Ok(GENESIS)
    }

    fn get_accounts(&self, addresses: &[Address]) -> Result<Vec<Option<AccountData>>, ChainError> {
        let accounts = self.accounts.borrow();
        Ok(addresses
            .iter()
            .map(|key| accounts.get(key).cloned())
            .collect())
    }

    fn send(
        &self,
        fee_payer: &Address,
        instructions: &[Instruction],
        signers: &[&dyn Signer],
    ) -> Result<Signature, ChainError> {
        let mut needed: Vec<Address> = vec![*fee_payer];
        let mut accounts = self.accounts.borrow_mut();
        for meta in instructions.iter().flat_map(|one| &one.accounts) {
            if meta.is_signer {
                needed.push(meta.pubkey);
            }
            if let Some(state) = self.finished.get(&meta.pubkey).filter(|_| !self.deaf) {
                accounts.insert(meta.pubkey, state.clone());
            }
        }
        for key in needed {
            assert!(
                signers.iter().any(|signer| signer.pubkey() == key),
                "{key} must sign"
            );
        }
        self.sent.borrow_mut().push(instructions.to_vec());
        Ok(Signature::default())
    }
}

struct World {
    admin: Keypair,
    facilitator: Keypair,
    merchant: Keypair,
    file: File,
    mint: Address,
    treasury: Address,
    wallet: Address,
    partner: Address,
}

fn unique(tag: u8) -> Address {
    Address::new_from_array([tag; 32])
}

impl World {
    fn new() -> Self {
        let (admin, facilitator, merchant) = (
            Keypair::new_from_array([1; 32]),
            Keypair::new_from_array([2; 32]),
            Keypair::new_from_array([3; 32]),
        );
        let (mint, treasury, wallet, partner) = (unique(21), unique(22), unique(23), unique(24));
        let text = format!(
            r#"
            [config]
            admin = "{admin}"
            treasury = "{treasury}"
            treasury_bps = 100
            max_facilitator_bps = 2000
            max_intent_ttl = 600
            [[mint]]
            address = "{mint}"
            max = 1000000
            [[facilitator]]
            name = "one"
            authority = "{facilitator}"
            wallet = "{wallet}"
            relayers = ["{relayer}"]
            min_fee_bps = 50
            [[service]]
            id = 7
            creator = "{merchant}"
            mint = "{mint}"
            facilitator = "one"
            facilitator_bps = 100
            recipients = [
                {{ owner = "{merchant}", bps = 9000 }},
                {{ owner = "{partner}", bps = 1000 }},
            ]
            "#,
            admin = admin.pubkey(),
            facilitator = facilitator.pubkey(),
            merchant = merchant.pubkey(),
            relayer = unique(25),
        );
        let file = File::parse(&text).unwrap();
        Self {
            admin,
            facilitator,
            merchant,
            file,
            mint,
            treasury,
            wallet,
            partner,
        }
    }

    fn signers(&self) -> Vec<&dyn Signer> {
        vec![&self.admin, &self.facilitator, &self.merchant]
    }

    /// What a new cluster holds: the program and a mint.
    fn fresh(&self) -> Fake {
        let mut data = vec![3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        data.extend(self.admin.pubkey().to_bytes());
        let program = AccountData {
            owner: LOADER_V3,
            lamports: 1,
            data,
        };
        let mut mint = vec![0; 82];
        mint[44] = 6;
        mint[45] = 1;
        let mint = AccountData {
            owner: TOKEN_PROGRAM,
            lamports: 1,
            data: mint,
        };
        let accounts = HashMap::from([(address::program_data().0, program), (self.mint, mint)]);
        Fake {
            accounts: RefCell::new(accounts),
            finished: self.finished_accounts(),
            ..Fake::default()
        }
    }

    /// What it holds when everything is applied.
    fn done(&self) -> Fake {
        let chain = self.fresh();
        chain.accounts.borrow_mut().extend(self.finished_accounts());
        chain
    }

    fn config(&self) -> Config {
        Config {
            admin: self.admin.pubkey().to_bytes(),
            treasury: self.treasury.to_bytes(),
            genesis_hash: GENESIS,
            treasury_bps: 100,
            max_facilitator_bps: 2_000,
            max_intent_ttl: 600,
            version: VERSION,
            ..Config::zeroed()
        }
    }

    fn accepted(&self) -> AcceptedMint {
        AcceptedMint {
            mint: self.mint.to_bytes(),
            token_program: TOKEN_PROGRAM.to_bytes(),
            treasury_token: self.ata(&self.treasury).to_bytes(),
            min_amount: 1,
            max_amount: 1_000_000,
            decimals: 6,
            flags: MINT_SETTLES,
            version: VERSION,
            ..AcceptedMint::zeroed()
        }
    }

    fn registered(&self) -> Facilitator {
        let mut one = Facilitator {
            creator: self.facilitator.pubkey().to_bytes(),
            authority: self.facilitator.pubkey().to_bytes(),
            wallet: self.wallet.to_bytes(),
            min_fee_bps: 50,
            relayer_count: 1,
            version: VERSION,
            ..Facilitator::zeroed()
        };
        one.relayers[0] = unique(25).to_bytes();
        one
    }

    fn service(&self) -> Service {
        let mut one = Service {
            id: 7,
            mint: self.mint.to_bytes(),
            facilitator: self.file.facilitators[0].address().to_bytes(),
            facilitator_bps: 100,
            min_payment: 1,
            recipient_count: 2,
            status: SERVICE_ACTIVE,
            version: VERSION,
            ..Service::zeroed()
        };
        let row = |owner: Address, bps: u16| RecipientShare {
            owner: owner.to_bytes(),
            bps,
            ..RecipientShare::zeroed()
        };
        one.recipients[0] = row(self.merchant.pubkey(), 9_000);
        one.recipients[1] = row(self.partner, 1_000);
        one
    }

    fn ata(&self, owner: &Address) -> Address {
        address::token_account(owner, &self.mint, &TOKEN_PROGRAM)
    }

    fn finished_accounts(&self) -> HashMap<Address, AccountData> {
        let mut all = HashMap::from([
            (address::config().0, account(&self.config())),
            (
                address::accepted_mint(&self.mint).0,
                account(&self.accepted()),
            ),
            (
                self.file.facilitators[0].address(),
                account(&self.registered()),
            ),
            (self.file.services[0].address(), account(&self.service())),
        ]);
        for owner in [
            self.treasury,
            self.wallet,
            self.merchant.pubkey(),
            self.partner,
        ] {
            all.insert(self.ata(&owner), token_account(&self.mint, &owner));
        }
        all
    }
}

fn account<T: SluiceAccount + NoUninit>(value: &T) -> AccountData {
    let mut data = T::discriminator().to_vec();
    data.extend_from_slice(bytemuck::bytes_of(value));
    AccountData {
        owner: PROGRAM_ID,
        lamports: 1,
        data,
    }
}

fn token_account(mint: &Address, owner: &Address) -> AccountData {
    let mut data = vec![0; 165];
    data[..32].copy_from_slice(mint.as_ref());
    data[32..64].copy_from_slice(owner.as_ref());
    data[108] = 1;
    AccountData {
        owner: TOKEN_PROGRAM,
        lamports: 1,
        data,
    }
}

fn set(chain: &Fake, address: Address, data: AccountData) {
    chain.accounts.borrow_mut().insert(address, data);
}

fn only_drift(chain: &Fake, world: &World) -> Drift {
    let plan = plan(chain, &world.file).unwrap();
    assert_eq!(plan.drift.len(), 1, "{:?}", plan.drift);
    plan.drift.into_iter().next().unwrap()
}

#[test]
fn a_new_cluster_needs_everything_in_order() {
    let world = World::new();
    let plan = plan(&world.fresh(), &world.file).unwrap();
    let steps: Vec<Step> = plan.changes.iter().map(|one| one.step).collect();
    assert_eq!(
        steps,
        [
            Step::Config,
            Step::Mints,
            Step::Mints,
            Step::Facilitators,
            Step::Facilitators,
            Step::Services,
            Step::Services
        ]
    );
    assert!(plan.drift.is_empty());
    let keys = [&world.admin, &world.facilitator, &world.merchant].map(Signer::pubkey);
    assert_eq!(plan.signers(), keys);
    let genesis = plan.changes[0]
        .fields
        .iter()
        .find(|field| field.name == "genesis_hash");
    assert_eq!(
        genesis.unwrap().after,
        Address::new_from_array(GENESIS).to_string()
    );
    // The treasury's account is there before the mint that names it.
    assert!(plan.changes[1].description.contains("open"));
    assert!(plan.changes[2].description.contains("accept"));
}

#[test]
fn applying_sends_the_plan_and_a_second_time_nothing() {
    let world = World::new();
    let chain = world.fresh();
    let first = plan(&chain, &world.file).unwrap();
    let mut seen = 0;
    let applied = apply(&chain, &world.file, &first, &world.signers(), |_| seen += 1).unwrap();
    assert_eq!(
        (applied.len(), seen),
        (first.changes.len(), first.changes.len())
    );
    let planned: Vec<_> = first
        .changes
        .iter()
        .map(|one| one.instructions.clone())
        .collect();
    assert_eq!(*chain.sent.borrow(), planned);

    let second = plan(&chain, &world.file).unwrap();
    assert!(second.is_empty(), "{second:?}");
    apply(&chain, &world.file, &second, &[], |_| ()).unwrap();
    assert_eq!(chain.sent.borrow().len(), planned.len());
}

#[test]
fn a_half_applied_file_is_continued() {
    let world = World::new();
    let chain = world.fresh();
    set(&chain, address::config().0, account(&world.config()));
    set(
        &chain,
        world.ata(&world.treasury),
        token_account(&world.mint, &world.treasury),
    );
    set(
        &chain,
        world.ata(&world.partner),
        token_account(&world.mint, &world.partner),
    );
    let left = plan(&chain, &world.file).unwrap();
    let words: Vec<&str> = left
        .changes
        .iter()
        .map(|one| one.description.as_str())
        .collect();
    assert_eq!(words.len(), 5, "{words:?}");
    assert!(words[0].starts_with("accept mint"));
    let opened = left
        .changes
        .iter()
        .find(|one| one.description.contains("recipients"))
        .unwrap();
    assert_eq!(
        opened.fields.len(),
        1,
        "only the merchant's account is missing"
    );
    apply(&chain, &world.file, &left, &world.signers(), |_| ()).unwrap();
}

#[test]
fn lamports_sent_to_an_address_are_not_yet_an_account() {
    let world = World::new();
    let chain = world.fresh();
    let dust = AccountData {
        lamports: 5,
        ..AccountData::default()
    };
    set(&chain, address::config().0, dust.clone());
    set(&chain, world.ata(&world.treasury), dust);
    assert_eq!(plan(&chain, &world.file).unwrap().changes.len(), 7);
}

#[test]
fn fees_and_limits_are_changed_field_by_field() {
    let mut world = World::new();
    let chain = world.done();
    world.file.config.treasury_bps = 80;
    world.file.config.max_intent_ttl = 300;
    world.file.mints[0].settle = false;
    let left = plan(&chain, &world.file).unwrap();
    assert_eq!(left.changes.len(), 2);
    let names: Vec<&str> = left.changes[0]
        .fields
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    assert_eq!(names, ["treasury_bps", "max_intent_ttl"]);
    assert_eq!(left.changes[0].fields[0].before.as_deref(), Some("100 bps"));
    assert_eq!(left.changes[1].fields[0].before.as_deref(), Some("true"));

    // Announced is as good as done.
    let announced = Config {
        pending_treasury_bps: 80,
        fees_effective_at: 1_000,
        max_intent_ttl: 300,
        ..world.config()
    };
    set(&chain, address::config().0, account(&announced));
    let left = plan(&chain, &world.file).unwrap();
    assert_eq!(
        (left.changes.len(), left.notes.len()),
        (1, 1),
        "the mint is left"
    );
}

#[test]
fn a_token_2022_mint_has_accounts_of_its_own_program() {
    let mut world = World::new();
    let chain = world.fresh();
    let mut mint = chain.accounts.borrow()[&world.mint].clone();
    mint.owner = TOKEN_2022_PROGRAM;
    set(&chain, world.mint, mint);
    world.file.mints[0].extensions = vec![18, 3];
    let all = plan(&chain, &world.file).unwrap();
    let treasury = address::token_account(&world.treasury, &world.mint, &TOKEN_2022_PROGRAM);
    assert_eq!(all.changes[1].address, treasury);
    let accept = &all.changes[2];
    let extensions = accept.fields.iter().find(|one| one.name == "extensions");
    assert_eq!(extensions.unwrap().after, "[3, 18]");
    assert_eq!(
        accept.instructions[0].data[25..33],
        (1u64 << 18 | 1 << 3).to_le_bytes()
    );
    let opened: Vec<Address> = all
        .changes
        .iter()
        .flat_map(|one| &one.instructions)
        .filter(|one| one.program_id == ASSOCIATED_TOKEN_PROGRAM)
        .map(|one| one.accounts[5].pubkey)
        .collect();
    assert_eq!(opened, [TOKEN_2022_PROGRAM; 4]);
    let create = all.changes.last().unwrap().instructions.last().unwrap();
    assert_eq!(create.accounts[7].pubkey, TOKEN_2022_PROGRAM);
}

#[test]
fn extensions_are_compared() {
    let mut world = World::new();
    let chain = world.done();
    world.file.mints[0].extensions = vec![14];
    let left = plan(&chain, &world.file).unwrap();
    let field = &left.changes[0].fields[0];
    assert_eq!(field.before.as_deref(), Some("[]"));
    assert_eq!(
        (field.name.as_str(), field.after.as_str()),
        ("extensions", "[14]")
    );
}

#[test]
fn a_new_treasury_takes_its_token_accounts_along() {
    let mut world = World::new();
    let chain = world.done();
    world.file.config.treasury = unique(40);
    let left = plan(&chain, &world.file).unwrap();
    let change = &left.changes[0];
    assert_eq!(change.fields.len(), 2);
    assert_eq!(
        change.instructions.len(),
        2,
        "opens the account in the same transaction"
    );
    let words: Vec<&str> = left
        .changes
        .iter()
        .map(|one| one.description.as_str())
        .collect();
    assert_eq!(words, ["change the treasury"]);
}

#[test]
fn another_admin_or_cluster_stops_everything() {
    let world = World::new();
    let chain = world.done();
    let other = Config {
        admin: unique(50).to_bytes(),
        ..world.config()
    };
    set(&chain, address::config().0, account(&other));
    let drift = only_drift(&chain, &world);
    assert_eq!(drift.field, "admin");
    assert_eq!(drift.chain, unique(50).to_string());
    assert_eq!(drift.file, world.admin.pubkey().to_string());
    let left = plan(&chain, &world.file).unwrap();
    let error = apply(&chain, &world.file, &left, &world.signers(), |_| ()).unwrap_err();
    assert!(matches!(&error, Error::Drift(all) if all.len() == 1));
    assert!(error.to_string().contains(&unique(50).to_string()));
    assert!(chain.sent.borrow().is_empty());

    let foreign = Config {
        genesis_hash: [1; 32],
        ..world.config()
    };
    set(&chain, address::config().0, account(&foreign));
    assert_eq!(only_drift(&chain, &world).field, "genesis_hash");
}

#[test]
fn what_cannot_be_changed_names_both_values() {
    let world = World::new();
    let (facilitator, service) = (
        world.file.facilitators[0].address(),
        world.file.services[0].address(),
    );

    let chain = world.done();
    set(
        &chain,
        facilitator,
        account(&Facilitator {
            suspended: 1,
            ..world.registered()
        }),
    );
    assert_eq!(only_drift(&chain, &world).chain, "suspended by the admin");

    let chain = world.done();
    set(
        &chain,
        service,
        account(&Service {
            facilitator_bps: 300,
            ..world.service()
        }),
    );
    let drift = only_drift(&chain, &world);
    assert_eq!(
        (drift.chain.as_str(), drift.file.as_str()),
        ("300 bps", "100 bps")
    );

    let chain = world.done();
    let mut other = world.service();
    other.recipients.swap(0, 1);
    set(&chain, service, account(&other));
    assert_eq!(
        only_drift(&chain, &world).field,
        "recipients",
        "the first takes the remainders"
    );

    let chain = world.done();
    set(
        &chain,
        world.ata(&world.wallet),
        token_account(&world.mint, &unique(60)),
    );
    assert_eq!(only_drift(&chain, &world).chain, unique(60).to_string());

    let chain = world.done();
    let mut frozen = token_account(&world.mint, &world.partner);
    frozen.data[108] = 2;
    set(&chain, world.ata(&world.partner), frozen);
    assert_eq!(only_drift(&chain, &world).chain, "frozen");
}

#[test]
fn nothing_is_sent_before_every_signer_is_there() {
    let world = World::new();
    let chain = world.fresh();
    let left = plan(&chain, &world.file).unwrap();
    let error = apply(
        &chain,
        &world.file,
        &left,
        &[&world.admin, &world.facilitator],
        |_| (),
    )
    .unwrap_err();
    assert!(
        matches!(error, Error::SignerMissing { address, .. } if address == world.merchant.pubkey())
    );
    assert!(chain.sent.borrow().is_empty());
}

#[test]
fn a_chain_that_forgets_is_found_out() {
    let world = World::new();
    let chain = Fake {
        deaf: true,
        ..world.fresh()
    };
    let left = plan(&chain, &world.file).unwrap();
    let error = apply(&chain, &world.file, &left, &world.signers(), |_| ()).unwrap_err();
    assert!(
        matches!(error, Error::Incomplete { left: 7, .. }),
        "{error}"
    );
}

#[test]
fn what_is_missing_on_the_cluster_is_named() {
    let world = World::new();
    let chain = world.fresh();
    chain.accounts.borrow_mut().remove(&world.mint);
    assert!(
        matches!(plan(&chain, &world.file), Err(Error::Missing { address, .. }) if address == world.mint)
    );
    chain
        .accounts
        .borrow_mut()
        .remove(&address::program_data().0);
    assert!(matches!(
        plan(&chain, &world.file),
        Err(Error::NotDeployed(_))
    ));
}

#[test]
fn the_example_is_a_file() {
    let file = File::parse(include_str!("../example.toml")).unwrap();
    assert_eq!(
        (
            file.mints.len(),
            file.facilitators.len(),
            file.services.len()
        ),
        (1, 1, 1)
    );
}

#[test]
fn mistakes_in_a_file_are_found_before_the_chain_is_asked() {
    let good = include_str!("../example.toml");
    for (from, to) in [
        ("treasury_bps = 100", "treasury_bps = 1001"),
        ("treasury_bps = 100", "tresury_bps = 100"),
        ("max_intent_ttl = 600", "max_intent_ttl = 3601"),
        ("max_intent_ttl = 600", "max_intent_ttl = 0"),
        ("bps = 9000", "bps = 8999"),
        ("facilitator = \"demo\"", "facilitator = \"dmeo\""),
        ("min = 1\n", "min = 1000000001\n"),
        ("min = 1\n", "min = -1\n"),
        ("min_payment = 1", "min_payments = 1"),
        (
            "relayers = [\"14cD6tEBQe2oA8CrFfZtPAYg8xDmemBXttGpvAGKzAJL\"]",
            "relayers = []",
        ),
        (
            "relayers = [\"14cD6tEBQe2oA8CrFfZtPAYg8xDmemBXttGpvAGKzAJL\"]",
            "relayers = [\"59LrqjrAfCrL4fDdXbumhGGEBRo9vmA8j16c8wwaC9pN\"]",
        ),
    ] {
        let bad = good.replace(from, to);
        assert_ne!(bad, good, "{from} is in the example");
        assert!(File::parse(&bad).is_err(), "{to}");
    }
}

#[test]
fn a_keypair_of_somebody_else_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::new();
    let path = folder.path().join("admin.json");
    solana_keypair::write_keypair_file(&Keypair::new_from_array([77; 32]), &path).unwrap();
    world.file.config.keypair = Some("admin.json".into());
    world.file.folder = folder.path().to_owned();
    let error = world.file.load_signers().unwrap_err();
    assert!(matches!(error, FileError::Keypair { .. }));
    assert!(
        error
            .to_string()
            .contains(&world.admin.pubkey().to_string())
    );
    solana_keypair::write_keypair_file(&world.admin, &path).unwrap();
    assert_eq!(world.file.load_signers().unwrap().len(), 1);
}
