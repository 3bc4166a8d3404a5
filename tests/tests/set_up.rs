//! The instructions around settle: who may call them, and what they refuse.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use sluice_sdk::{
    Address, DEVNET_USDC,
    accounts::{AcceptedMint, FEE_DELAY_SECS, Facilitator},
    address,
    instructions::{
        self, ConfigArgs, ConfigUpdate, FacilitatorArgs, MintArgs, RecipientArg, ServiceArgs,
        TermsArgs,
    },
    token::{TOKEN_2022_PROGRAM, TOKEN_PROGRAM},
};
use sluice_tests::{NOW, World, WorldOptions, lane_terms};
use solana_account::Account;
use solana_keypair::Keypair;
use solana_signer::Signer;

#[test]
fn fresh_deployment_initialised_by_a_stranger() {
    let mut world = World::deployed();
    let stranger = Keypair::new();
    world
        .svm
        .airdrop(&stranger.pubkey(), 1_000_000_000)
        .unwrap();
    let mut instruction = world.initialize_config(50);
    instruction.accounts[0].pubkey = stranger.pubkey();
    assert_eq!(
        world
            .send(&[instruction.clone()], &[&stranger])
            .unwrap_err()
            .custom(),
        Some(6_120)
    );
    // A data account of the stranger's own making does not help.
    let fake = Address::new_unique();
    let mut data = world
        .svm
        .get_account(&address::program_data().0)
        .unwrap()
        .data;
    data[13..45].copy_from_slice(stranger.pubkey().as_ref());
    world.put(fake, data, sluice_sdk::LOADER_V3);
    instruction.accounts[2].pubkey = fake;
    assert_eq!(
        world
            .send(&[instruction], &[&stranger])
            .unwrap_err()
            .custom(),
        Some(6_120)
    );
    let admin = world.admin.insecure_clone();
    world
        .send(&[world.initialize_config(50)], &[&admin])
        .unwrap();
}

#[test]
fn a_config_is_created_once() {
    let mut world = World::deployed();
    let admin = world.admin.insecure_clone();
    world
        .send(&[world.initialize_config(50)], &[&admin])
        .unwrap();
    assert_eq!(
        world
            .send(&[world.initialize_config(60)], &[&admin])
            .unwrap_err()
            .custom(),
        Some(6_181)
    );
    assert_eq!(world.config().treasury_bps, 50);
}

#[test]
fn a_prefunded_address_does_not_stop_its_creation() {
    for lamports in [1_000_000, 10_000_000_000] {
        let mut world = World::deployed();
        let admin = world.admin.insecure_clone();
        let gift = Account {
            lamports,
            ..Account::default()
        };
        world.svm.set_account(address::config().0, gift).unwrap();
        world
            .send(&[world.initialize_config(50)], &[&admin])
            .unwrap();
        assert_eq!(world.config().admin, admin.pubkey().to_bytes());
    }
}

#[test]
fn the_caps_hold_against_the_deployer() {
    let mut world = World::deployed();
    let admin = world.admin.insecure_clone();
    let good = ConfigArgs {
        admin: admin.pubkey().to_bytes(),
        guardian: [0; 32],
        treasury: world.treasury.to_bytes(),
        genesis_hash: [7; 32],
        treasury_bps: 1_000,
        max_facilitator_bps: 5_000,
        max_intent_ttl: 3_600,
    };
    for (bad, error) in [
        (
            ConfigArgs {
                treasury_bps: 1_001,
                ..good
            },
            6_130,
        ),
        (
            ConfigArgs {
                max_facilitator_bps: 5_001,
                ..good
            },
            6_130,
        ),
        (
            ConfigArgs {
                max_intent_ttl: 3_601,
                ..good
            },
            6_130,
        ),
        (
            ConfigArgs {
                max_intent_ttl: 0,
                ..good
            },
            6_131,
        ),
        (
            ConfigArgs {
                admin: [0; 32],
                ..good
            },
            6_132,
        ),
        (
            ConfigArgs {
                treasury: [0; 32],
                ..good
            },
            6_132,
        ),
        (
            ConfigArgs {
                genesis_hash: [0; 32],
                ..good
            },
            6_132,
        ),
    ] {
        let instruction = instructions::initialize_config(&admin.pubkey(), &bad);
        assert_eq!(
            world.send(&[instruction], &[&admin]).unwrap_err().custom(),
            Some(error)
        );
    }
    world
        .send(
            &[instructions::initialize_config(&admin.pubkey(), &good)],
            &[&admin],
        )
        .unwrap();
}

#[test]
fn only_the_admin_changes_the_config() {
    let mut world = World::new();
    for stranger in [
        world.guardian.insecure_clone(),
        world.operator.insecure_clone(),
    ] {
        let key = stranger.pubkey();
        let update = instructions::update_config(&key, &ConfigUpdate::default());
        assert_eq!(
            world.send(&[update], &[&stranger]).unwrap_err().custom(),
            Some(6_121)
        );
        let treasury = instructions::set_treasury(&key, &key, &[]);
        assert_eq!(
            world.send(&[treasury], &[&stranger]).unwrap_err().custom(),
            Some(6_121)
        );
        let args = MintArgs {
            settle: false,
            min_amount: 0,
            max_amount: 1,
            allowed_extensions: 0,
        };
        let token = world.token_of(&world.treasury);
        let mint = instructions::set_mint(&key, &world.mint, &token, &args);
        assert_eq!(
            world.send(&[mint], &[&stranger]).unwrap_err().custom(),
            Some(6_121)
        );
    }
    let stranger = world.operator.insecure_clone();
    let pause = instructions::set_paused(&stranger.pubkey(), true);
    assert_eq!(
        world.send(&[pause], &[&stranger]).unwrap_err().custom(),
        Some(6_122)
    );
}

#[test]
fn a_new_treasury_share_waits_for_its_time_and_spares_old_services() {
    let mut world = World::new();
    let admin = world.admin.insecure_clone();
    let update = ConfigUpdate {
        treasury_bps: Some(900),
        ..ConfigUpdate::default()
    };
    world
        .send(
            &[instructions::update_config(&admin.pubkey(), &update)],
            &[&admin],
        )
        .unwrap();
    assert_eq!(
        (
            world.config().treasury_bps,
            world.config().pending_treasury_bps
        ),
        (50, 900)
    );

    let early = world.create_service(2, &WorldOptions::default());
    assert_eq!(world.service_account(&early).treasury_bps, 50);
    world.set_time(NOW + FEE_DELAY_SECS);
    let late = world.create_service(3, &WorldOptions::default());
    assert_eq!(world.service_account(&late).treasury_bps, 900);
    assert_eq!(
        world.service_account(&world.service).treasury_bps,
        50,
        "signed terms stay"
    );
    // A further announcement does not undo the one that is due.
    let update = ConfigUpdate {
        treasury_bps: Some(10),
        ..ConfigUpdate::default()
    };
    world
        .send(
            &[instructions::update_config(&admin.pubkey(), &update)],
            &[&admin],
        )
        .unwrap();
    assert_eq!(
        (
            world.config().treasury_bps,
            world.config().pending_treasury_bps
        ),
        (900, 10)
    );
    let update = ConfigUpdate {
        treasury_bps: Some(1_001),
        ..ConfigUpdate::default()
    };
    let over = instructions::update_config(&admin.pubkey(), &update);
    assert_eq!(
        world.send(&[over], &[&admin]).unwrap_err().custom(),
        Some(6_130)
    );
}

#[test]
fn a_new_treasury_is_paid_at_once_where_its_account_is_named() {
    let mut world = World::new();
    let admin = world.admin.insecure_clone();
    let new = Address::new_unique();
    let token = world.open_token(new, 0);
    let wrong = world.open_token(Address::new_unique(), 0);
    let bad = instructions::set_treasury(&admin.pubkey(), &new, &[(world.mint, wrong)]);
    assert_eq!(
        world.send(&[bad], &[&admin]).unwrap_err().custom(),
        Some(6_143)
    );
    let set = instructions::set_treasury(&admin.pubkey(), &new, &[(world.mint, token)]);
    world.send(&[set], &[&admin]).unwrap();
    let payer = world.payer(10_000);
    let item = world.item(&payer, 10_000, 0);
    let event = world.settle(&[item], true).unwrap().event();
    assert_eq!(world.balance(&token), event.treasury);
    assert_eq!(event.held, 0);
}

#[test]
fn a_new_treasury_without_its_accounts_is_owed() {
    let mut world = World::new();
    let admin = world.admin.insecure_clone();
    let old = world.token_of(&world.treasury);
    let set = instructions::set_treasury(&admin.pubkey(), &Address::new_unique(), &[]);
    world.send(&[set], &[&admin]).unwrap();
    let payer = world.payer(10_000);
    let item = world.item(&payer, 10_000, 0);
    let event = world.settle(&[item], true).unwrap().event();
    assert_eq!((event.held, world.balance(&old)), (1 << 8, 0));
}

fn mint_error(world: &mut World, mint: Address, args: &MintArgs) -> Option<u32> {
    let admin = world.admin.insecure_clone();
    let treasury = world.token_of(&world.treasury);
    let instruction = instructions::set_mint(&admin.pubkey(), &mint, &treasury, args);
    world.send(&[instruction], &[&admin]).unwrap_err().custom()
}

#[test]
fn mints_that_are_not_accepted() {
    let mut world = World::new();
    let args = MintArgs {
        settle: true,
        min_amount: 0,
        max_amount: 1,
        allowed_extensions: 0,
    };
    let data = world.svm.get_account(&DEVNET_USDC).unwrap().data;

    let native_2022 = Address::from_str_const("9pan9bMn5HatX4EJdBwg9VgCa7Uz5HL8N1m5D3NdXejP");
    world.put(native_2022, data.clone(), TOKEN_2022_PROGRAM);
    assert_eq!(mint_error(&mut world, native_2022, &args), Some(6_141));

    let native = Address::from_str_const("So11111111111111111111111111111111111111112");
    world.put(native, data.clone(), TOKEN_PROGRAM);
    assert_eq!(mint_error(&mut world, native, &args), Some(6_141));

    let foreign = Address::new_unique();
    world.put(foreign, data.clone(), Address::new_unique());
    assert_eq!(mint_error(&mut world, foreign, &args), Some(6_142));

    let mut uninitialised = data.clone();
    uninitialised[45] = 0;
    let empty = Address::new_unique();
    world.put(empty, uninitialised, TOKEN_PROGRAM);
    assert_eq!(mint_error(&mut world, empty, &args), Some(6_142));

    // A token account is no mint.
    let account = world.token_of(&world.treasury);
    assert_eq!(mint_error(&mut world, account, &args), Some(6_142));

    // The treasury's token account must be of the mint.
    let other = Address::new_unique();
    world.put(other, data, TOKEN_PROGRAM);
    assert_eq!(mint_error(&mut world, other, &args), Some(6_143));

    let mint = world.mint;
    assert_eq!(
        mint_error(
            &mut world,
            mint,
            &MintArgs {
                min_amount: 2,
                ..args
            }
        ),
        Some(6_144)
    );
    assert_eq!(
        mint_error(
            &mut world,
            mint,
            &MintArgs {
                allowed_extensions: 1,
                ..args
            }
        ),
        Some(6_145)
    );
}

#[test]
fn a_mint_can_be_set_again() {
    let mut world = World::new();
    let key = address::accepted_mint(&world.mint).0;
    assert!(world.decode::<AcceptedMint>(&key).settles());
    world.set_mint(false);
    assert!(!world.decode::<AcceptedMint>(&key).settles());
}

#[test]
fn facilitators_that_are_not_registered() {
    let mut world = World::deployed();
    let operator = world.operator.insecure_clone();
    let key = |n: u8| [n; 32];
    let good = FacilitatorArgs {
        wallet: key(9),
        min_fee_bps: 10,
        min_fee_fixed: 1,
        relayers: vec![key(1)],
    };
    let bad = [
        (
            FacilitatorArgs {
                relayers: vec![],
                ..good.clone()
            },
            6_150,
        ),
        (
            FacilitatorArgs {
                relayers: (1..=9).map(key).collect(),
                ..good.clone()
            },
            6_150,
        ),
        (
            FacilitatorArgs {
                relayers: vec![key(1), key(1)],
                ..good.clone()
            },
            6_150,
        ),
        (
            FacilitatorArgs {
                relayers: vec![key(0)],
                ..good.clone()
            },
            6_150,
        ),
        (
            FacilitatorArgs {
                relayers: vec![operator.pubkey().to_bytes()],
                ..good.clone()
            },
            6_150,
        ),
        (
            FacilitatorArgs {
                wallet: key(0),
                ..good.clone()
            },
            6_132,
        ),
        (
            FacilitatorArgs {
                min_fee_bps: 5_001,
                ..good.clone()
            },
            6_130,
        ),
    ];
    for (args, error) in bad {
        let instruction = instructions::register_facilitator(&operator.pubkey(), &args);
        assert_eq!(
            world
                .send(&[instruction], &[&operator])
                .unwrap_err()
                .custom(),
            Some(error)
        );
    }
    let most = FacilitatorArgs {
        relayers: (1..=8).map(key).collect(),
        ..good
    };
    let register = instructions::register_facilitator(&operator.pubkey(), &most);
    world
        .send(std::slice::from_ref(&register), &[&operator])
        .unwrap();
    let account: Facilitator = world.decode(&world.facilitator());
    assert_eq!(account.relayer_keys().len(), 8);
    assert_eq!(
        world.send(&[register], &[&operator]).unwrap_err().custom(),
        Some(6_181)
    );
}

#[test]
fn services_that_are_not_created() {
    let mut world = World::new();
    let merchant = world.merchant.insecure_clone();
    let row = |n: u8, bps: u16| RecipientArg {
        owner: [n; 32],
        bps,
    };
    let good = TermsArgs {
        facilitator_bps: 100,
        facilitator_fixed: 0,
        min_payment: 1,
        recipients: vec![row(1, 10_000)],
    };
    let own = address::service(&merchant.pubkey(), 9).0;
    let bad = [
        (
            TermsArgs {
                recipients: vec![],
                ..good.clone()
            },
            6_160,
        ),
        (
            TermsArgs {
                recipients: (1..=9).map(|n| row(n, 1_111)).collect(),
                ..good.clone()
            },
            6_160,
        ),
        (
            TermsArgs {
                recipients: vec![row(1, 9_999)],
                ..good.clone()
            },
            6_161,
        ),
        (
            TermsArgs {
                recipients: vec![row(1, 10_000), row(2, 0)],
                ..good.clone()
            },
            6_161,
        ),
        (
            TermsArgs {
                recipients: vec![row(1, 5_000), row(1, 5_000)],
                ..good.clone()
            },
            6_162,
        ),
        (
            TermsArgs {
                recipients: vec![RecipientArg {
                    owner: own.to_bytes(),
                    bps: 10_000,
                }],
                ..good.clone()
            },
            6_163,
        ),
        (
            TermsArgs {
                recipients: vec![row(0, 10_000)],
                ..good.clone()
            },
            6_132,
        ),
        (
            TermsArgs {
                facilitator_bps: 5_001,
                ..good.clone()
            },
            6_165,
        ),
    ];
    let facilitator = world.facilitator();
    for (args, error) in bad {
        let instruction = instructions::create_service(
            &merchant.pubkey(),
            &world.mint,
            &TOKEN_PROGRAM,
            &facilitator,
            &ServiceArgs {
                id: 9,
                terms: args.clone(),
            },
        );
        let failure = world.send(&[instruction], &[&merchant]).unwrap_err();
        assert_eq!(
            failure.custom(),
            Some(error),
            "{args:?} {:#?}",
            failure.logs
        );
    }
    let create = instructions::create_service(
        &merchant.pubkey(),
        &world.mint,
        &TOKEN_PROGRAM,
        &facilitator,
        &ServiceArgs { id: 9, terms: good },
    );
    world
        .send(std::slice::from_ref(&create), &[&merchant])
        .unwrap();
    assert_eq!(
        world.send(&[create], &[&merchant]).unwrap_err().custom(),
        Some(6_181)
    );
    let service = world.service_account(&own);
    assert_eq!(
        service.compute_terms_hash(&own).unwrap(),
        service.terms_hash
    );
    assert_eq!(
        world.token(&Address::new_from_array(service.vault)).owner,
        own
    );
}

#[test]
fn a_service_must_grant_the_facilitators_minimum() {
    let mut world = World::new();
    let operator = Keypair::new();
    world
        .svm
        .airdrop(&operator.pubkey(), 1_000_000_000)
        .unwrap();
    let args = FacilitatorArgs {
        wallet: [9; 32],
        min_fee_bps: 200,
        min_fee_fixed: 10,
        relayers: vec![[1; 32]],
    };
    let register = instructions::register_facilitator(&operator.pubkey(), &args);
    world.send(&[register], &[&operator]).unwrap();
    world.operator = operator;
    let merchant = world.merchant.insecure_clone();
    for (bps, fixed, fits) in [(199, 10, false), (200, 9, false), (200, 10, true)] {
        let options = WorldOptions {
            facilitator_bps: bps,
            facilitator_fixed: fixed,
            ..WorldOptions::default()
        };
        let create = world.service_instruction(5, &options);
        let result = world.send(&[create], &[&merchant]);
        assert_eq!(result.is_ok(), fits);
        if let Err(failure) = result {
            assert_eq!(failure.custom(), Some(6_164));
        }
    }
}

#[test]
fn a_vault_that_a_stranger_opened_does_not_stop_the_service() {
    let mut world = World::new();
    let key = address::service(&world.merchant.pubkey(), 7).0;
    world.open_token(key, 5);
    assert_eq!(world.create_service(7, &WorldOptions::default()), key);
}

#[test]
fn a_nonce_account_needs_its_payer_and_its_own_token_account() {
    let mut world = World::new();
    let (payer, stranger) = (Keypair::new(), Keypair::new());
    world
        .svm
        .airdrop(&stranger.pubkey(), 1_000_000_000)
        .unwrap();
    let source = world.open_token(payer.pubkey(), 100);
    let foreign = world.open_token(stranger.pubkey(), 100);
    let open = |source: &Address| {
        instructions::open_nonce(&stranger.pubkey(), &payer.pubkey(), &DEVNET_USDC, source)
    };
    assert_eq!(
        world
            .send(&[open(&foreign)], &[&stranger, &payer])
            .unwrap_err()
            .custom(),
        Some(6_143)
    );
    let mut unsigned = open(&source);
    unsigned.accounts[1].is_signer = false;
    assert_eq!(
        world.send(&[unsigned], &[&stranger]).unwrap_err().custom(),
        Some(3_010)
    );
    world.send(&[open(&source)], &[&stranger, &payer]).unwrap();
    assert_eq!(
        world
            .send(&[open(&source)], &[&stranger, &payer])
            .unwrap_err()
            .custom(),
        Some(6_181)
    );
    let state = world.nonce_account(&address::nonce_account(&payer.pubkey(), &DEVNET_USDC).0);
    assert_eq!(state.rent_payer, stranger.pubkey().to_bytes());
    assert!(state.lanes.iter().all(|lane| !lane.is_open()));
}

#[test]
fn only_the_payer_sets_lanes_and_lane_0_takes_no_other_key() {
    let mut world = World::new();
    let payer = world.payer(100);
    let stranger = Keypair::new();
    world
        .svm
        .airdrop(&stranger.pubkey(), 1_000_000_000)
        .unwrap();
    let mut theirs = instructions::set_lane(
        &stranger.pubkey(),
        &world.mint,
        1,
        &lane_terms(stranger.pubkey()),
    );
    theirs.accounts[1].pubkey = payer.nonce_account;
    assert_eq!(
        world.send(&[theirs], &[&stranger]).unwrap_err().custom(),
        Some(6_123)
    );
    let other = lane_terms(stranger.pubkey());
    assert_eq!(
        world.set_lane(&payer, 0, &other).unwrap_err().custom(),
        Some(6_170)
    );
    assert_eq!(
        world.set_lane(&payer, 2, &other).unwrap_err().custom(),
        Some(6_170)
    );
    world
        .set_lane(&payer, 0, &lane_terms(Address::default()))
        .unwrap();
    assert!(!world.nonce_account(&payer.nonce_account).lanes[0].is_open());
}
