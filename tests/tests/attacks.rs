//! What has been done to payment programs, played against this one. A test for each attack that the chain can meet,
//! named by its number in the project's list; each asserts that nothing is gained.
//!
//! Attacks that the program cannot meet, because they are over before or begin after its part:
//!
//! | # | attack | why not here |
//! |---|---|---|
//! | 1 | extra instruction moves the fee payer's money | the relayer signs it; the program sees its own instruction only |
//! | 12 | priority fee blow-up | the relayer writes the price |
//! | 14 | duplicate key varied through the fee-payer slot | the relayer's key for a request; on chain the nonce decides, see 13 |
//! | 15, 16 | reply lost, timeout reported as failure | what a client is told; the second attempt is number 13 |
//! | 25 to 31 | alerts, secrets, bodies, identifiers, URLs, crashes, RPC errors | the relayer's process |
//! | 33 | one payment in twenty parallel requests | the relayer's answers; on chain it is number 13 |
//! | 42 | onboarding transaction edited before it comes back | the relayer signs last and compares bytes |
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "../../crates/sluice-intent/tests/support/edge_cases.rs"]
mod edge_cases;
#[path = "support/forge.rs"]
mod forge;
mod support;

use sluice::SluiceError;
use sluice_intent::{Intent, LaneTerms, Scope, Skip, UNLIMITED, signature};
use sluice_sdk::{
    Address, PROGRAM_ID, SYSTEM_PROGRAM, SignedIntent, UnsignedIntent,
    accounts::{AcceptedMint, Config, FEE_DELAY_SECS, Facilitator},
    address,
    instructions::{self, FacilitatorArgs, MintArgs, ServiceArgs, SettleItem, TermsArgs},
    token::{self, TOKEN_2022_PROGRAM, TOKEN_PROGRAM},
    transaction::{Budget, Version, build},
};
use sluice_tests::{
    Failure, NOW, Outcome, Payer, TokenState, World, WorldOptions, lane_terms, mint_data, row,
};
use solana_account::Account;
use solana_instruction::Instruction;
use solana_keypair::Keypair;
use solana_signer::Signer;
use spl_token_interface::instruction as spl;
use support::refused;

const HOLDS: u64 = 1_000_000;

/// What an attacker does to its own account, and to a service.
type Spoil = fn(&mut World, &Keypair);
type Change = fn(&mut World);

fn balance_of(world: &World, owner: &Address) -> u64 {
    world.balance(&world.token_of(owner))
}

#[track_caller]
fn skipped(result: Result<Outcome, Failure>, reason: Skip) {
    let failure = match result {
        Ok(_) => panic!("it settled and should have been skipped: {reason:?}"),
        Err(failure) => failure,
    };
    assert_eq!(failure.skip(), Some(reason), "{:?}", failure.error);
}

/// A world whose recipients hold their own keys.
fn with_keys(shares: &[u16]) -> (World, Vec<Keypair>) {
    let mut world = World::new();
    let keys: Vec<_> = shares.iter().map(|_| world.funded()).collect();
    world.recipients = keys.iter().map(Signer::pubkey).collect();
    for owner in world.recipients.clone() {
        world.open_token(owner, 0);
    }
    let options = WorldOptions {
        recipients: shares.to_vec(),
        ..WorldOptions::default()
    };
    world.service = world.create_service(2, &options);
    (world, keys)
}

/// Sends one instruction and says which programs were handed the fee payer's account by this one.
fn who_got_the_fee_payer(
    world: &mut World,
    instruction: Instruction,
    payer: &Keypair,
) -> Vec<Address> {
    world.svm.expire_blockhash();
    let budget = Budget {
        compute_units: 1_400_000,
        unit_price: 0,
        loaded_bytes: 8 << 20,
    };
    let blockhash = world.svm.latest_blockhash();
    let transaction = build(
        Version::V1,
        &payer.pubkey(),
        &[instruction],
        &budget,
        blockhash,
        &[payer],
    )
    .unwrap();
    let keys = transaction.message.static_account_keys().to_vec();
    let meta = world.svm.send_transaction(transaction).unwrap();
    let inner: Vec<_> = meta.inner_instructions.into_iter().flatten().collect();
    assert!(!inner.is_empty(), "it calls other programs");
    let with_payer = inner
        .iter()
        .filter(|inner| inner.instruction.accounts.contains(&0));
    with_payer
        .map(|inner| keys[usize::from(inner.instruction.program_id_index)])
        .collect()
}

#[test]
fn a02_a_called_program_uses_the_fee_payers_signature() {
    let mut world = World::with_recipients(&[6_000, 4_000]);
    let payer = world.payer(HOLDS);
    let (relayer, merchant) = (
        world.relayer.insecure_clone(),
        world.merchant.insecure_clone(),
    );
    let none: [Address; 0] = [];
    let item = world.item(&payer, 10_000, 0);
    let settle = world.settle_instruction(&[item], true);
    assert_eq!(who_got_the_fee_payer(&mut world, settle, &relayer), none);
    let others = [world.payer(HOLDS), world.payer(HOLDS)];
    let items = others.each_ref().map(|payer| world.item(payer, 10_000, 0));
    let settle = world.settle_instruction(&items, false);
    assert_eq!(who_got_the_fee_payer(&mut world, settle, &relayer), none);
    world.pay_in(10_000);
    let distribute = instructions::distribute(&relayer.pubkey(), &world.on(), &[]);
    assert_eq!(
        who_got_the_fee_payer(&mut world, distribute, &relayer),
        none
    );
    // Only for the rent of an account that is owed to somebody, and only the system program.
    let gone = world.recipients[1];
    let key = world.token_of(&gone);
    world.freeze(&key);
    world.pay_in(10_000);
    let mut terms = world.terms();
    terms.recipients = vec![row(&world.recipients[0], 10_000)];
    let update = world.update_instruction(&world.facilitator(), &terms);
    assert_eq!(
        who_got_the_fee_payer(&mut world, update, &merchant),
        [SYSTEM_PROGRAM]
    );
    world.thaw(&key);
    let release = instructions::release_held(&world.on(), &gone, &merchant.pubkey(), &key);
    assert_eq!(who_got_the_fee_payer(&mut world, release, &relayer), none);
    world.pay_in(10_000);
    let close = instructions::close_service(&merchant.pubkey(), &world.on());
    assert_eq!(who_got_the_fee_payer(&mut world, close, &merchant), none);
    // And no program but the two that it knows is called at all: a foreign one in the token program's place is refused.
    let mut settle = world.settle_instruction(&[item], true);
    settle.accounts[9].pubkey = PROGRAM_ID;
    refused(
        world.send_as_relayer(&[settle]),
        SluiceError::WrongTokenProgram,
    );
}

#[test]
fn a03_a_recipient_closes_its_account_again_and_again_for_the_rent() {
    let (mut world, keys) = with_keys(&[6_000, 4_000]);
    let payer = world.payer(HOLDS);
    let thief = &keys[1];
    let relayer = world.relayer.pubkey();
    for nonce in 0..3 {
        let token = world.token_of(&thief.pubkey());
        if world.exists(&token) {
            let mint = world.mint;
            let out = world.open_other_token(thief.pubkey());
            let amount = world.balance(&token);
            let empty = spl::transfer_checked(
                &TOKEN_PROGRAM,
                &token,
                &mint,
                &out,
                &thief.pubkey(),
                &[],
                amount,
                6,
            );
            let close = spl::close_account(
                &TOKEN_PROGRAM,
                &token,
                &thief.pubkey(),
                &thief.pubkey(),
                &[],
            );
            world
                .send(&[empty.unwrap(), close.unwrap()], &[thief])
                .unwrap();
        }
        let before = world.svm.get_balance(&relayer).unwrap();
        let item = world.item(&payer, 10_000, nonce);
        let outcome = world.settle(&[item], true).unwrap();
        assert_eq!(outcome.event().held, 0b10, "its leg waits");
        assert!(!world.exists(&token), "nobody opens it");
        assert_eq!(world.svm.get_balance(&relayer).unwrap(), before - 5_000);
    }
}

#[test]
fn a04_sparse_nonces_allocate_rent_nobody_reclaims() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    let relayer = world.relayer.insecure_clone();
    let accounts = world.svm.get_program_accounts(&PROGRAM_ID).len();
    let before = world.svm.get_balance(&relayer.pubkey()).unwrap();
    for n in 0..10 {
        let item = world.item(&payer, 10, n * 128);
        world.settle(&[item], true).unwrap();
    }
    assert_eq!(world.svm.get_program_accounts(&PROGRAM_ID).len(), accounts);
    let spent = before - world.svm.get_balance(&relayer.pubkey()).unwrap();
    assert_eq!(spent, 10 * 5_000, "fees and nothing else");
    // The one account's rent comes back to whoever sponsored it, without the payer's help.
    let rent = world.svm.get_balance(&payer.nonce_account).unwrap();
    world.pass_slots(1);
    world.set_time(NOW + 31 * 24 * 3_600);
    let key = relayer.pubkey();
    let before = world.svm.get_balance(&key).unwrap();
    let close = instructions::close_nonce(&key, &payer.key(), &world.mint, &key);
    world.send_as_relayer(&[close]).unwrap();
    assert_eq!(world.svm.get_balance(&key).unwrap(), before + rent - 5_000);
}

/// Closes a payer's nonce account and opens it again with the same keys.
fn reopen(world: &mut World, payer: &Payer) {
    let relayer = world.relayer.insecure_clone();
    let key = payer.key();
    let all = [
        instructions::close_nonce(&key, &key, &world.mint, &relayer.pubkey()),
        instructions::open_nonce(&relayer.pubkey(), &key, &world.mint, &payer.source),
        instructions::set_lane(&key, &world.mint, 1, &lane_terms(payer.session.pubkey())),
    ];
    world.send(&all, &[&relayer, &payer.wallet]).unwrap();
}

#[test]
fn a05_close_and_reopen_a_nonce_account_to_replay() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    let item = world.item(&payer, 1_000, 0);
    world.settle(&[item], true).unwrap();
    // In the slot of its opening it cannot be closed, so it cannot be opened twice in one slot either.
    let relayer = world.relayer.insecure_clone();
    let key = payer.key();
    let close = instructions::close_nonce(&key, &key, &world.mint, &relayer.pubkey());
    refused(
        world.send(&[close], &[&relayer, &payer.wallet]),
        SluiceError::SameSlot,
    );
    for _ in 0..2 {
        world.pass_slots(1);
        reopen(&mut world, &payer);
        skipped(world.settle(&[item], true), Skip::BadSignature);
    }
    assert_eq!(world.balance(&payer.source), HOLDS - 1_000);
}

#[test]
fn a06_the_nonces_scope_lacks_mint_program_or_cluster() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    let intent = world.intent(&payer, 1_000, 0);
    let signed = payer.sign(intent);

    // Another mint: the same wallet and session key, a service and a nonce account of that mint.
    let (usual, service, other) = (world.mint, world.service, Address::new_unique());
    let data = mint_data(world.admin.pubkey());
    world.put(other, data, TOKEN_PROGRAM);
    world.mint = other;
    let owners = [world.treasury, world.fee_wallet, world.recipients[0]];
    for owner in owners {
        world.open_token(owner, 0);
    }
    world.set_mint(true);
    world.service = world.create_service(2, &WorldOptions::default());
    let source = world.open_token(payer.key(), HOLDS);
    let relayer = world.relayer.insecure_clone();
    let setup = [
        instructions::open_nonce(&relayer.pubkey(), &payer.key(), &other, &source),
        instructions::set_lane(&payer.key(), &other, 1, &lane_terms(payer.session.pubkey())),
        token::approve(&payer.key(), &other, &token::TOKEN_PROGRAM, HOLDS, 6),
    ];
    world.send(&setup, &[&relayer, &payer.wallet]).unwrap();
    let nonce_account = address::nonce_account(&payer.key(), &other).0;
    assert_eq!(
        world.nonce_account(&nonce_account).opened_slot,
        payer.opened_slot,
        "all but the address is the same"
    );
    let replay = SettleItem {
        entry: signed.entry(),
        source,
        nonce_account,
    };
    skipped(world.settle(&[replay], true), Skip::BadSignature);
    let mixed = payer.item(&signed);
    skipped(world.settle(&[mixed], true), Skip::MintMismatch);
    assert_eq!(world.balance(&source), HOLDS);
    (world.mint, world.service) = (usual, service);

    // Another deployment of the program, which would have an account at the same address only by its own id.
    let digest = Intent {
        genesis_hash: &intent.genesis_hash,
        program_id: &[3; 32],
        nonce_account: intent.nonce_account.as_array(),
        opened_slot: intent.opened_slot,
        lane: intent.lane,
        service: intent.service.as_array(),
        terms_hash: &intent.terms_hash,
        amount: intent.amount,
        nonce: intent.nonce,
        expires_at: i64::from(intent.expires_at),
        resource: intent.resource,
    }
    .digest();
    let message = sluice_intent::intent::message(&digest);
    let signature = *payer.session.sign_message(&message).as_array();
    let elsewhere = SignedIntent { intent, signature };
    skipped(
        world.settle(&[payer.item(&elsewhere)], true),
        Skip::BadSignature,
    );
    let mut cluster = intent;
    cluster.genesis_hash = [1; 32];
    let item = payer.item(&payer.sign(cluster));
    skipped(world.settle(&[item], true), Skip::BadSignature);
    world.settle(&[payer.item(&signed)], true).unwrap();
}

#[test]
fn a07_a_deadline_that_is_signed_and_not_enforced_or_far_ahead() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    let item = world.item(&payer, 1_000, 0);
    // Kept back by a relayer until the price suits it.
    world.set_time(NOW + 61);
    skipped(world.settle(&[item], true), Skip::Expired);
    let mut moved = item;
    moved.entry.expires_at += 100;
    skipped(world.settle(&[moved], true), Skip::BadSignature);
    // Signed for ever: no relayer can keep it and no other can find it later.
    for ahead in [601, 3_601, 1_000_000_000] {
        let mut intent = world.intent(&payer, 1_000, 1);
        intent.expires_at = u32::try_from(world.time() + ahead).unwrap();
        let item = payer.item(&payer.sign(intent));
        skipped(world.settle(&[item], true), Skip::ExpiryTooFar);
    }
    assert_eq!(world.balance(&payer.source), HOLDS);
}

/// A Token-2022 mint with one extension.
fn mint_2022(authority: Address, kind: u16, value: &[u8]) -> Vec<u8> {
    let mut data = mint_data(authority);
    data.resize(165, 0);
    data.push(1);
    data.extend(kind.to_le_bytes());
    data.extend(u16::try_from(value.len()).unwrap().to_le_bytes());
    data.extend(value);
    data
}

/// The short form. Fees, hooks, delegates, frozen accounts and pauses that come after acceptance, with money in
/// flight: `token_2022.rs`.
#[test]
fn a08_token_2022_mints_that_take_a_fee_call_out_or_take_money_back() {
    let mut world = World::new();
    let admin = world.admin.insecure_clone();
    let mut fee = vec![0; 108];
    // The newer fee's basis points.
    fee[106] = 1;
    let mut hook = vec![0; 64];
    hook[32] = 1;
    let mut pause = vec![0; 33];
    pause[32] = 1;
    let all_known: u64 = [
        1, 3, 4, 6, 10, 12, 14, 16, 18, 19, 20, 21, 22, 23, 24, 25, 26,
    ]
    .iter()
    .map(|bit| 1u64 << bit)
    .sum();
    for (name, kind, value, allowed, reason) in [
        ("fee", 1, fee.clone(), all_known, SluiceError::MintUnusable),
        ("hook", 14, hook, all_known, SluiceError::MintUnusable),
        ("pause", 26, pause, all_known, SluiceError::MintUnusable),
        (
            "a permanent delegate that nobody allowed",
            12,
            vec![7; 32],
            0,
            SluiceError::MintUnusable,
        ),
        (
            "an unknown extension",
            40,
            vec![],
            all_known,
            SluiceError::MintUnusable,
        ),
        (
            "allowing what cannot be allowed",
            9,
            vec![],
            all_known | 1 << 9,
            SluiceError::InvalidExtensions,
        ),
    ] {
        let mint = Address::new_unique();
        let data = mint_2022(admin.pubkey(), kind, &value);
        world.put(mint, data, TOKEN_2022_PROGRAM);
        let owner = world.treasury;
        let treasury = open_2022(&mut world, mint, owner, 0, &[]);
        let args = MintArgs {
            settle: true,
            min_amount: 1,
            max_amount: HOLDS,
            allowed_extensions: allowed,
        };
        let set = instructions::set_mint(&admin.pubkey(), &mint, &treasury, &args);
        let failure = world.send(&[set], &[&admin]).unwrap_err();
        assert_eq!(failure.custom(), Some(reason.into()), "{name}");
    }
}

/// Writes the associated token account of a Token-2022 mint, with extensions behind it.
fn open_2022(
    world: &mut World,
    mint: Address,
    owner: Address,
    amount: u64,
    extensions: &[u8],
) -> Address {
    let state = TokenState {
        mint,
        owner,
        amount,
        delegate: None,
        frozen: false,
    };
    let key = address::token_account(&owner, &mint, &TOKEN_2022_PROGRAM);
    let mut account = state.account(TOKEN_2022_PROGRAM);
    if !extensions.is_empty() {
        account.data.push(2);
        account.data.extend_from_slice(extensions);
    }
    world.svm.set_account(key, account).unwrap();
    key
}

#[test]
fn a09_a_prefunded_address_bricks_its_creation() {
    for lamports in [1, 890_880, 50_000_000_000] {
        let gift = || Account {
            lamports,
            ..Account::default()
        };
        let mut world = World::deployed();
        let [admin, operator, merchant, relayer] = [
            &world.admin,
            &world.operator,
            &world.merchant,
            &world.relayer,
        ]
        .map(Keypair::insecure_clone);
        let wallet = Keypair::new();
        let recipients = [Address::new_unique(), Address::new_unique()];
        let service = address::service(&merchant.pubkey(), 1).0;
        let (mint, facilitator) = (world.mint, world.facilitator());
        for key in [
            address::config().0,
            address::accepted_mint(&mint).0,
            facilitator,
            service,
            world.token_of(&service),
            address::nonce_account(&wallet.pubkey(), &mint).0,
            address::held_balance(&service, &recipients[1]).0,
        ] {
            world.svm.set_account(key, gift()).unwrap();
        }
        let config = world.initialize_config(50);
        world.send(&[config], &[&admin]).unwrap();
        world.open_token(world.treasury, 0);
        world.set_mint(true);
        let args = FacilitatorArgs {
            wallet: world.fee_wallet.to_bytes(),
            min_fee_bps: 0,
            min_fee_fixed: 0,
            relayers: vec![relayer.pubkey().to_bytes()],
        };
        let register = instructions::register_facilitator(&operator.pubkey(), &args);
        world.send(&[register], &[&operator]).unwrap();
        world.recipients = recipients.to_vec();
        let options = WorldOptions {
            recipients: vec![5_000, 5_000],
            ..WorldOptions::default()
        };
        world.service = world.create_service(1, &options);
        assert_eq!(world.service, service);
        let source = world.open_token(wallet.pubkey(), HOLDS);
        let open = instructions::open_nonce(&relayer.pubkey(), &wallet.pubkey(), &mint, &source);
        world.send(&[open], &[&relayer, &wallet]).unwrap();
        // Recipients without accounts, so that the change opens a held balance.
        world.pay_in(10_000);
        world.distribute(&[]).unwrap();
        let mut terms = world.terms();
        terms.recipients = vec![row(&recipients[0], 10_000)];
        world.update(&terms).unwrap();
        assert!(world.has_held_balance(&recipients[1]));
        let _: Config = world.decode(&address::config().0);
        let _: AcceptedMint = world.decode(&address::accepted_mint(&mint).0);
        let _: Facilitator = world.decode(&facilitator);
    }
}

#[test]
fn a10_a_recipient_closes_freezes_or_reowns_its_account_so_that_every_payout_fails() {
    let spoil: [(&str, Spoil); 3] = [
        ("closed", |world, key| {
            let token = world.token_of(&key.pubkey());
            let owner = key.pubkey();
            let close = spl::close_account(&TOKEN_PROGRAM, &token, &owner, &owner, &[]);
            world.send(&[close.unwrap()], &[key]).unwrap();
        }),
        ("frozen", |world, key| {
            let token = world.token_of(&key.pubkey());
            world.freeze(&token);
        }),
        ("given away", |world, key| {
            let token = world.token_of(&key.pubkey());
            let heir = Address::new_unique();
            let give = spl::set_authority(
                &TOKEN_PROGRAM,
                &token,
                Some(&heir),
                spl::AuthorityType::AccountOwner,
                &key.pubkey(),
                &[],
            );
            world.send(&[give.unwrap()], &[key]).unwrap();
        }),
    ];
    for (name, spoil) in spoil {
        let (mut world, keys) = with_keys(&[6_000, 4_000]);
        let payers = [world.payer(HOLDS), world.payer(HOLDS)];
        spoil(&mut world, &keys[1]);
        let items = payers.each_ref().map(|payer| world.item(payer, 10_000, 0));
        let outcome = world.settle(&items, false).unwrap();
        assert_eq!(outcome.codes, [0, 0], "{name}");
        let event = outcome.event();
        assert_eq!(event.held, 0b10, "{name}");
        assert_eq!(
            balance_of(&world, &keys[0].pubkey()),
            event.recipients[0],
            "{name}"
        );
        world.pay_in(10_000);
        world.distribute(&[]).unwrap();
        let share = world.current().split(10_000, 0).unwrap().recipients;
        assert_eq!(
            balance_of(&world, &keys[0].pubkey()),
            event.recipients[0] + share[0],
            "{name}"
        );
        // It has hurt nobody, and is still owed what is its own.
        let due = event.recipients[1] + share[1];
        assert_eq!(world.current().recipients[1].held, due, "{name}");
        let other = world.open_other_token(keys[1].pubkey());
        world.distribute(&[other]).unwrap();
        assert_eq!(world.balance(&other), due, "{name}");
    }
}

/// Settles an entry under `key` as lane 1's, and gives the verdict on chain.
fn on_chain(
    world: &mut World,
    payer: &Payer,
    key: &[u8; 32],
    signed: &SignedIntent,
) -> Option<Skip> {
    let lane = world.nonce_account(&payer.nonce_account).lanes[1];
    if lane.key != *key {
        let terms = lane_terms(Address::new_from_array(*key));
        world.set_lane(payer, 1, &terms).unwrap();
    }
    let outcome = world.settle(&[payer.item(signed)], false).unwrap();
    assert_eq!(outcome.event().codes, outcome.codes);
    outcome.skips()[0]
}

#[test]
fn a11_ed25519_edge_cases_are_judged_alike_on_chain_and_off() {
    let mut world = World::new();
    let payer = world.payer(u64::from(u32::MAX));
    let mut accepted = 0;
    let mut cases = forge::refused(world.intent(&payer, 10, 0));
    // An accepted one uses its nonce up, so each of these is made for another.
    let count = forge::accepted(world.intent(&payer, 10, 0)).len();
    for (nth, nonce) in (0..count).zip(0..) {
        let mut odd = forge::accepted(world.intent(&payer, 10, nonce));
        cases.push(odd.swap_remove(nth));
    }
    assert!(cases.len() > 400, "only {}", cases.len());
    for case in &cases {
        let digest = case.signed.intent.digest();
        let off_chain = signature::verify(&case.key, &digest, &case.signed.signature);
        assert_eq!(off_chain, case.valid, "{}", case.name);
        let verdict = on_chain(&mut world, &payer, &case.key, &case.signed);
        let expected = if case.valid {
            accepted += 1;
            None
        } else if case.key == [0; 32] {
            // The encoding of all zeros, a point of order 4, is no key at all: its lane is closed.
            Some(Skip::LaneClosed)
        } else {
            Some(Skip::BadSignature)
        };
        assert_eq!(verdict, expected, "{}", case.name);
    }
    // The honest one, and those whose owner made the small parts of its own key vanish: seven orders in two ways.
    assert_eq!(accepted, 1 + 2 * 7);
    assert_eq!(
        world.balance(&payer.source),
        u64::from(u32::MAX) - 10 * accepted
    );
}

#[test]
fn a11_published_keys_and_signatures_never_pass_for_an_intent() {
    // Made for other messages, so that all are refused; the bytes exercise every way of decoding a point and a scalar.
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    for case in edge_cases::all() {
        let intent = world.intent(&payer, 10, 0);
        let signed = SignedIntent {
            intent,
            signature: case.signature,
        };
        assert!(!signature::verify(
            &case.key,
            &intent.digest(),
            &case.signature
        ));
        let verdict = on_chain(&mut world, &payer, &case.key, &signed);
        let expected = if case.key == [0; 32] {
            Skip::LaneClosed
        } else {
            Skip::BadSignature
        };
        assert_eq!(verdict, Some(expected), "{}", case.name);
    }
    assert_eq!(world.balance(&payer.source), HOLDS);
}

#[test]
fn a13_the_same_payload_settled_twice() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    let item = world.item(&payer, 1_000, 0);
    // Two relayers of one facilitator, who know nothing of each other.
    let second = world.funded();
    let operator = world.operator.insecure_clone();
    let args = FacilitatorArgs {
        wallet: world.fee_wallet.to_bytes(),
        min_fee_bps: 0,
        min_fee_fixed: 0,
        relayers: vec![
            world.relayer.pubkey().to_bytes(),
            second.pubkey().to_bytes(),
        ],
    };
    let update = instructions::update_facilitator(&operator.pubkey(), &world.facilitator(), &args);
    world.send(&[update], &[&operator]).unwrap();
    let both = [world.relayer.insecure_clone(), second];
    let mut landed = 0;
    for relayer in both.iter().chain(&both) {
        let settle = instructions::settle(&relayer.pubkey(), &world.on(), &[item], true);
        match world.send(&[settle], &[relayer]) {
            Ok(_) => landed += 1,
            Err(failure) => assert_eq!(failure.skip(), Some(Skip::NonceUsed)),
        }
    }
    // And twice in one transaction, as two instructions.
    let next = world.item(&payer, 1_000, 1);
    let twice = world.settle_instruction(&[next], true);
    skipped(
        world.send_as_relayer(&[twice.clone(), twice]),
        Skip::NonceUsed,
    );
    assert_eq!(landed, 1);
    assert_eq!(world.balance(&payer.source), HOLDS - 1_000);
}

#[test]
fn a17_parallel_intents_exceed_the_balance() {
    let mut world = World::new();
    let greedy = world.payer(1_000);
    let honest = world.payer(HOLDS);
    // Ten promises of all that there is, to ten relayers' pages; whichever comes first is paid.
    let mut items: Vec<_> = (0..10).map(|n| world.item(&greedy, 1_000, n)).collect();
    items.insert(5, world.item(&honest, 1_000, 0));
    let outcome = world.settle(&items, false).unwrap();
    let settled = outcome.skips().iter().filter(|skip| skip.is_none()).count();
    assert_eq!(settled, 2);
    assert_eq!(outcome.skips()[0], None);
    assert_eq!(outcome.skips()[5], None, "nobody else is hurt");
    assert_eq!(world.balance(&greedy.source), 0);
    assert_eq!(outcome.fee, 5_000);
}

#[test]
fn a18_the_payer_revokes_or_moves_its_funds_after_the_check() {
    let mut world = World::new();
    let (revoker, mover, honest) = (world.payer(HOLDS), world.payer(HOLDS), world.payer(HOLDS));
    let items = [&revoker, &mover, &honest].map(|payer| world.item(payer, 1_000, 0));
    let relayer = world.relayer.insecure_clone();
    let away = world.open_token(Address::new_unique(), 0);
    let revoke = token::revoke(&revoker.key(), &world.mint, &token::TOKEN_PROGRAM);
    let transfer = spl::transfer_checked(
        &TOKEN_PROGRAM,
        &mover.source,
        &world.mint,
        &away,
        &mover.key(),
        &[],
        HOLDS,
        6,
    )
    .unwrap();
    world.send(&[revoke], &[&relayer, &revoker.wallet]).unwrap();
    world.send(&[transfer], &[&relayer, &mover.wallet]).unwrap();
    let outcome = world.settle(&items, false).unwrap();
    assert_eq!(
        outcome.skips(),
        [Some(Skip::DelegateGone), Some(Skip::BalanceShort), None]
    );
    assert_eq!(outcome.fee, 5_000, "all that it cost the relayer");
}

#[test]
fn a19_one_bad_entry_fails_a_whole_batch() {
    // Every kind of bad entry is in `batches.rs`; here the attacker sends nineteen of them against one payer.
    let mut world = World::new();
    let honest = world.payer(HOLDS);
    let mut items: Vec<_> = (0..19)
        .map(|_| {
            let attacker = world.payer(0);
            world.item(&attacker, 1_000, 0)
        })
        .collect();
    items.push(world.item(&honest, 1_000, 0));
    let outcome = world.settle(&items, false).unwrap();
    assert_eq!(outcome.skips()[19], None);
    assert_eq!(outcome.event().total, 1_000);
    assert_eq!(world.balance(&honest.source), HOLDS - 1_000);
}

#[test]
fn a20_terms_that_change_after_the_signature() {
    let change: [(&str, Change); 4] = [
        ("the merchant raises the facilitator's share", |world| {
            let mut terms = world.terms();
            terms.facilitator_bps = 5_000;
            world.update(&terms).unwrap();
        }),
        ("the merchant pays somebody else", |world| {
            let thief = Address::new_unique();
            world.open_token(thief, 0);
            let mut terms = world.terms();
            terms.recipients = vec![row(&thief, 10_000)];
            world.update(&terms).unwrap();
        }),
        ("the treasury raises its share", |world| {
            world.announce_treasury_share(1_000).unwrap();
            world.set_time(NOW + FEE_DELAY_SECS);
            world.sync().unwrap();
        }),
        ("a higher fixed share", |world| {
            let mut terms = world.terms();
            terms.facilitator_fixed = 400;
            world.update(&terms).unwrap();
        }),
    ];
    for (name, change) in change {
        let mut world = World::new();
        let payer = world.payer(HOLDS);
        let mut intent = world.intent(&payer, 1_000, 0);
        change(&mut world);
        // Whoever waits for the change has an intent that still lives then.
        intent.expires_at = u32::try_from(world.time() + 60).unwrap();
        let item = payer.item(&payer.sign(intent));
        let failure = world.settle(&[item], true).unwrap_err();
        assert_eq!(failure.skip(), Some(Skip::BadSignature), "{name}");
        assert_eq!(world.balance(&payer.source), HOLDS, "{name}");
    }
    // A service that is closed is not created anew at its address with other terms.
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    let item = world.item(&payer, 1_000, 0);
    world.close().unwrap();
    world.recipients = vec![world.relayer.pubkey()];
    let again = world.service_instruction(1, &WorldOptions::default());
    let merchant = world.merchant.insecure_clone();
    refused(
        world.send(&[again], &[&merchant]),
        SluiceError::AlreadyExists,
    );
    refused(world.settle(&[item], true), SluiceError::ServiceInactive);
    // An intent to an address where no service is yet was signed for terms that its signer knows.
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    let future = address::service(&world.merchant.pubkey(), 77).0;
    let mut intent = world.intent(&payer, 1_000, 0);
    intent.service = future;
    let item = payer.item(&payer.sign(intent));
    world.service = world.create_service(77, &WorldOptions::default());
    skipped(world.settle(&[item], true), Skip::BadSignature);
}

#[test]
fn a21_pay_for_one_resource_and_take_another() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    let mut intent = world.intent(&payer, 1_000, 0);
    let cheap = sluice_intent::resource::of_request("GET", "https://a.example/cheap", &[0; 32]);
    let dear = sluice_intent::resource::of_request("GET", "https://a.example/dear", &[0; 32]);
    assert_ne!(cheap, dear);
    intent.resource = cheap;
    let item = payer.item(&payer.sign(intent));
    let mut bent = item;
    bent.entry.resource = dear;
    skipped(world.settle(&[bent], true), Skip::BadSignature);
    assert_eq!(world.settle(&[item], true).unwrap().codes, [0]);
}

#[test]
fn a22_another_relayer_or_the_payer_settles_first_and_takes_the_fee() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    let item = world.item(&payer, 10_000, 0);
    let rival = world.register(0, 0);
    world.svm.airdrop(&payer.key(), 1_000_000_000).unwrap();
    let payer_wallet = payer.wallet.insecure_clone();
    let fee = |world: &World| balance_of(world, &world.fee_wallet);
    for front_runner in [&rival.relayer, &rival.authority, &payer_wallet] {
        let key = front_runner.pubkey();
        let mut on = world.on();
        refused(
            {
                let settle = instructions::settle(&key, &on, &[item], true);
                world.send(&[settle], &[front_runner])
            },
            SluiceError::RelayerNotRegistered,
        );
        // With its own facilitator account in the place of the service's.
        on.facilitator = rival.facilitator;
        on.facilitator_token = world.token_of(&rival.wallet);
        refused(
            {
                let settle = instructions::settle(&key, &on, &[item], true);
                world.send(&[settle], &[front_runner])
            },
            SluiceError::WrongFacilitator,
        );
    }
    assert_eq!((fee(&world), balance_of(&world, &rival.wallet)), (0, 0));
    assert_eq!(world.balance(&payer.source), HOLDS);
    // The service's own relayer cannot turn the fee to another wallet either.
    let mut on = world.on();
    on.facilitator_token = world.token_of(&rival.wallet);
    let settle = instructions::settle(&world.relayer.pubkey(), &on, &[item], true);
    world.send_as_relayer(&[settle]).unwrap();
    assert_eq!(balance_of(&world, &rival.wallet), 0);
    assert_eq!(world.current().held_facilitator, 100);
}

#[test]
fn a23_a_fresh_deployment_initialised_by_a_stranger() {
    let mut world = World::deployed();
    let stranger = world.funded();
    let mut theft = world.initialize_config(1_000);
    theft.accounts[0].pubkey = stranger.pubkey();
    refused(
        world.send(std::slice::from_ref(&theft), &[&stranger]),
        SluiceError::NotUpgradeAuthority,
    );
    // A data account of the stranger's own making, even of the loader's.
    let mut data = world
        .svm
        .get_account(&address::program_data().0)
        .unwrap()
        .data;
    data[13..45].copy_from_slice(stranger.pubkey().as_ref());
    for owner in [sluice_sdk::LOADER_V3, SYSTEM_PROGRAM, stranger.pubkey()] {
        let fake = Address::new_unique();
        world.put(fake, data.clone(), owner);
        theft.accounts[2].pubkey = fake;
        refused(
            world.send(std::slice::from_ref(&theft), &[&stranger]),
            SluiceError::NotUpgradeAuthority,
        );
    }
    assert!(!world.exists(&address::config().0));
    // Once the program cannot be upgraded any more, nobody's config can be made, and none is taken over.
    let (key, _) = address::program_data();
    let mut account = world.svm.get_account(&key).unwrap();
    account.data[12] = 0;
    world.svm.set_account(key, account).unwrap();
    let admin = world.admin.insecure_clone();
    let usual = world.initialize_config(50);
    refused(
        world.send(&[usual], &[&admin]),
        SluiceError::NotUpgradeAuthority,
    );
}

#[test]
fn a24_signing_for_the_wrong_cluster() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    let config = world.config();
    for genesis_hash in [[0; 32], [1; 32], config.admin] {
        let mut intent = world.intent(&payer, 1_000, 0);
        intent.genesis_hash = genesis_hash;
        let item = payer.item(&payer.sign(intent));
        skipped(world.settle(&[item], true), Skip::BadSignature);
    }
    // The hash is set once: no instruction changes it, whatever the admin sends.
    let admin = world.admin.insecure_clone();
    let again = world.initialize_config(50);
    refused(world.send(&[again], &[&admin]), SluiceError::AlreadyExists);
    assert_eq!(world.config().genesis_hash, config.genesis_hash);
}

#[test]
fn a32_arithmetic_at_the_edges() {
    // Amounts up to all that a mint can have, shares from nothing to the caps, one and eight recipients.
    let most = u64::MAX;
    let tiny = [9_993, 1, 1, 1, 1, 1, 1, 1];
    for recipients in [&[10_000][..], &tiny] {
        for (treasury_bps, facilitator_bps, facilitator_fixed) in
            [(0, 0, 0), (1_000, 5_000, 0), (1, 1, most), (1_000, 0, most)]
        {
            for amount in [1, 2, 9_999, 10_001, u64::from(u32::MAX), most - 1, most] {
                let mut world = World::with(&WorldOptions {
                    recipients: recipients.to_vec(),
                    treasury_bps,
                    facilitator_bps,
                    facilitator_fixed,
                    min_payment: 0,
                });
                let admin = world.admin.insecure_clone();
                let args = MintArgs {
                    settle: true,
                    min_amount: 0,
                    max_amount: most,
                    allowed_extensions: 0,
                };
                let treasury = world.token_of(&world.treasury);
                let set = instructions::set_mint(&admin.pubkey(), &world.mint, &treasury, &args);
                world.send(&[set], &[&admin]).unwrap();
                let payer = world.payer(amount);
                let item = world.item(&payer, amount, 0);
                let event = world.settle(&[item], true).unwrap().event();
                let at =
                    format!("{amount} at {treasury_bps}, {facilitator_bps}, {facilitator_fixed}");
                // By hand, with numbers that cannot overflow.
                let (wide, fixed) = (u128::from(amount), u128::from(facilitator_fixed));
                let treasury = wide * u128::from(treasury_bps) / 10_000;
                let share = fixed + wide * u128::from(facilitator_bps) / 10_000;
                let facilitator = share.min(wide * 5_000 / 10_000);
                let net = wide - treasury - facilitator;
                let mut legs: Vec<u128> = recipients
                    .iter()
                    .map(|bps| net * u128::from(*bps) / 10_000)
                    .collect();
                legs[0] += net - legs.iter().sum::<u128>();
                let legs: Vec<u64> = legs
                    .iter()
                    .map(|leg| u64::try_from(*leg).unwrap())
                    .collect();
                assert_eq!(u128::from(event.treasury), treasury, "{at}");
                assert_eq!(u128::from(event.facilitator), facilitator, "{at}");
                assert_eq!(event.recipients, legs, "{at}");
                for (owner, leg) in world.recipients.iter().zip(legs) {
                    assert_eq!(balance_of(&world, owner), leg, "{at}");
                }
                assert_eq!(world.balance(&payer.source), 0, "{at}");
                assert_eq!(world.current().settled_total, amount, "{at}");
            }
        }
    }
}

#[test]
fn a32_counters_that_are_full_stop_no_payment() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    let key = world.service;
    let mut account = world.svm.get_account(&key).unwrap();
    // settled_total and payments, the seventh and eighth of the counters behind the discriminator.
    account.data[8 + 48..8 + 64].copy_from_slice(&[0xff; 16]);
    world.svm.set_account(key, account).unwrap();
    let item = world.item(&payer, 1_000, 0);
    assert_eq!(world.settle(&[item], true).unwrap().codes, [0]);
    let service = world.current();
    assert_eq!(
        (service.settled_total, service.payments),
        (u64::MAX, u64::MAX)
    );
}

#[test]
fn a34_two_intents_with_one_nonce() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    let (cheap, dear) = (world.item(&payer, 10, 0), world.item(&payer, 10_000, 0));
    world.settle(&[cheap], true).unwrap();
    // The second is another payment by its digest, and it is not paid: nobody may answer for it.
    skipped(world.settle(&[dear], true), Skip::NonceUsed);
    assert_eq!(world.balance(&payer.source), HOLDS - 10);
}

#[test]
fn a35_the_merchant_changes_the_split_while_money_waits_and_a_strangers_unit_blocks_the_change() {
    let mut world = World::with_recipients(&[5_000, 5_000]);
    let (merchant_own, partner) = (world.recipients[0], world.recipients[1]);
    // Paid by stock clients under a split in halves; the merchant then takes all.
    world.pay_in(100_000);
    let key = world.token_of(&partner);
    world.freeze(&key);
    let mut terms = world.terms();
    terms.recipients = vec![row(&merchant_own, 10_000)];
    let change = world.update_instruction(&world.facilitator(), &terms);
    // A stranger's unit lands in between, and again.
    world.pay_in(1);
    let merchant = world.merchant.insecure_clone();
    world.send(&[change], &[&merchant]).unwrap();
    world.pay_in(1);
    let half = world.held_balance(&partner).amount;
    assert_eq!(half, (100_001 - 500 - 1_000) / 2);
    world.thaw(&key);
    world.release(&partner, &key).unwrap();
    assert_eq!(balance_of(&world, &partner), half);
    assert_eq!(balance_of(&world, &merchant_own), 100_001 - 1_500 - half);
    // Closing takes the last unit along.
    world.close().unwrap();
    assert_eq!(world.balance(&world.vault()), 0);
}

#[test]
fn a36_the_treasurys_or_the_facilitators_account_frozen_or_missing_halts_a_mint() {
    let spoil: [fn(&mut World, Address); 2] = [
        |world, key| world.freeze(&key),
        |world, key| world.remove(key),
    ];
    for spoil in spoil {
        let mut world = World::new();
        let second = world.create_service(2, &WorldOptions::default());
        for owner in [world.treasury, world.fee_wallet] {
            let key = world.token_of(&owner);
            spoil(&mut world, key);
        }
        let payer = world.payer(HOLDS);
        for (nonce, service) in [world.service, second].into_iter().enumerate() {
            world.service = service;
            let item = world.item(&payer, 10_000, nonce as u64);
            let event = world.settle(&[item], true).unwrap().event();
            assert_eq!(event.held, 1 << 8 | 1 << 9);
            let recipient = balance_of(&world, &world.recipients[0]);
            assert_eq!(recipient, event.recipients[0] * (nonce as u64 + 1));
            assert_eq!(world.current().held_total, 150);
        }
    }
}

/// The short form: a Token-2022 account that asks for a memo. Confidential-only accounts, and what an account's
/// extensions do in every place, are in `token_2022.rs`.
#[test]
fn a37_a_recipient_requires_memos_so_that_its_payouts_fail() {
    let mut world = World::new();
    let (admin, merchant, relayer) = (
        world.admin.insecure_clone(),
        world.merchant.insecure_clone(),
        world.relayer.insecure_clone(),
    );
    let mint = Address::new_unique();
    world.put(mint, mint_data(admin.pubkey()), TOKEN_2022_PROGRAM);
    let (treasury, fee_wallet) = (world.treasury, world.fee_wallet);
    let treasury = open_2022(&mut world, mint, treasury, 0, &[]);
    let facilitator_token = open_2022(&mut world, mint, fee_wallet, 0, &[]);
    let args = MintArgs {
        settle: true,
        min_amount: 1,
        max_amount: HOLDS,
        allowed_extensions: 0,
    };
    let set = instructions::set_mint(&admin.pubkey(), &mint, &treasury, &args);
    world.send(&[set], &[&admin]).unwrap();
    let (plain, asks) = (Address::new_unique(), Address::new_unique());
    let plain_token = open_2022(&mut world, mint, plain, 0, &[]);
    // Memo transfer, extension 8, one byte: required.
    let asks_token = open_2022(&mut world, mint, asks, 0, &[8, 0, 1, 0, 1]);
    let service_args = ServiceArgs {
        id: 2,
        terms: TermsArgs {
            facilitator_bps: 100,
            facilitator_fixed: 0,
            min_payment: 1,
            recipients: vec![row(&plain, 5_000), row(&asks, 5_000)],
        },
    };
    let create = instructions::create_service(
        &merchant.pubkey(),
        &mint,
        &TOKEN_2022_PROGRAM,
        &world.facilitator(),
        &service_args,
    );
    world.send(&[create], &[&merchant]).unwrap();
    let service = address::service(&merchant.pubkey(), 2).0;

    let wallet = Keypair::new();
    let nonce_account = address::nonce_account(&wallet.pubkey(), &mint).0;
    let source = open_2022(&mut world, mint, wallet.pubkey(), HOLDS, &[]);
    let mut account = world.svm.get_account(&source).unwrap();
    // The delegate with its tag, and the delegated amount.
    account.data[72] = 1;
    account.data[76..108].copy_from_slice(nonce_account.as_ref());
    account.data[121..129].copy_from_slice(&HOLDS.to_le_bytes());
    world.svm.set_account(source, account).unwrap();
    let setup = [
        instructions::open_nonce(&relayer.pubkey(), &wallet.pubkey(), &mint, &source),
        instructions::set_lane(&wallet.pubkey(), &mint, 0, &lane_terms(wallet.pubkey())),
    ];
    world.send(&setup, &[&relayer, &wallet]).unwrap();
    world.mint = mint;
    world.service = service;
    let on = world.settle_accounts(&service);
    assert_eq!(on.facilitator_token, facilitator_token);
    let state = world.service_account(&service);
    let intent = UnsignedIntent {
        genesis_hash: world.config().genesis_hash,
        nonce_account,
        opened_slot: world.nonce_account(&nonce_account).opened_slot,
        lane: 0,
        service,
        terms_hash: state.terms_hash,
        amount: 10_000,
        nonce: 0,
        expires_at: u32::try_from(NOW + 60).unwrap(),
        resource: [0; 16],
    };
    let item = SettleItem {
        entry: intent.sign(&wallet).unwrap().entry(),
        source,
        nonce_account,
    };
    let settle = instructions::settle(&relayer.pubkey(), &on, &[item], true);
    let event = world.send_as_relayer(&[settle]).unwrap().event();
    assert_eq!(event.held, 0b10);
    let amount = |world: &World, key: &Address| {
        let data = world.svm.get_account(key).unwrap().data;
        u64::from_le_bytes(data[64..72].try_into().unwrap())
    };
    assert_eq!(amount(&world, &plain_token), event.recipients[0]);
    // Once it asks for nothing any more, it is paid.
    open_2022(&mut world, mint, asks, 0, &[8, 0, 1, 0, 0]);
    let distribute = instructions::distribute(&relayer.pubkey(), &on, &[]);
    world.send_as_relayer(&[distribute]).unwrap();
    assert_eq!(amount(&world, &asks_token), event.recipients[1]);
}

#[test]
fn a38_a_huge_nonce_voids_everything_in_flight() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    let in_flight: Vec<_> = (0..20).map(|nonce| world.item(&payer, 10, nonce)).collect();
    for nonce in [129, 1_000, u64::MAX - 1, u64::MAX] {
        let item = world.item(&payer, 10, nonce);
        skipped(world.settle(&[item], true), Skip::NonceTooFar);
    }
    // The furthest jump that there is, and all of them still settle.
    let jump = world.item(&payer, 10, 128);
    world.settle(&[jump], true).unwrap();
    let outcome = world.settle(&in_flight, false).unwrap();
    assert_eq!(outcome.codes, [0; 20]);
    // One lane's window is not the other's.
    let mut intent = world.intent(&payer, 10, 0);
    intent.lane = 0;
    let item = payer.item(&payer.sign(intent));
    world.settle(&[item], true).unwrap();
}

/// A service of a thief, whose only recipient it is, with a facilitator of its own.
fn thieves_den(world: &mut World) -> (Keypair, Address) {
    let thief = world.funded();
    world.open_token(thief.pubkey(), 0);
    let own = world.register(0, 0);
    world.relayer = own.relayer;
    world.fee_wallet = own.wallet;
    let args = ServiceArgs {
        id: 1,
        terms: TermsArgs {
            facilitator_bps: 0,
            facilitator_fixed: 0,
            min_payment: 1,
            recipients: vec![row(&thief.pubkey(), 10_000)],
        },
    };
    let create = instructions::create_service(
        &thief.pubkey(),
        &world.mint,
        &TOKEN_PROGRAM,
        &own.facilitator,
        &args,
    );
    world.send(&[create], &[&thief]).unwrap();
    world.service = address::service(&thief.pubkey(), 1).0;
    (thief, own.facilitator)
}

#[test]
fn a39_a_leaked_session_key_pays_itself_the_whole_limit() {
    // In the right scope it gets nothing.
    let scopes: [fn(&World) -> Scope; 3] = [
        |world| Scope::Service(world.service.to_bytes()),
        |world| Scope::Authority(world.merchant.pubkey().to_bytes()),
        |world| Scope::Facilitator(world.facilitator().to_bytes()),
    ];
    for scope in scopes {
        let mut world = World::new();
        let payer = world.payer(HOLDS);
        let terms = LaneTerms {
            scope: scope(&world),
            ..lane_terms(payer.session.pubkey())
        };
        world.set_lane(&payer, 1, &terms).unwrap();
        let (thief, _) = thieves_den(&mut world);
        let item = world.item(&payer, 1_000, 0);
        skipped(world.settle(&[item], true), Skip::Scope);
        assert_eq!(balance_of(&world, &thief.pubkey()), 0);
    }
    // Without a scope, it gets its limits and not a unit more; and nothing after its time.
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    let terms = LaneTerms {
        max_per_payment: 300,
        period_limit: 1_000,
        period_secs: 3_600,
        total_limit: 1_500,
        expires_at: NOW + 10_000,
        ..lane_terms(payer.session.pubkey())
    };
    world.set_lane(&payer, 1, &terms).unwrap();
    let (thief, _) = thieves_den(&mut world);
    let mut taken = 0;
    let mut nonce = 0;
    for now in [
        NOW,
        NOW + 3_600,
        NOW + 7_200,
        NOW + 10_000,
        NOW + 10_001,
        NOW + 90_000,
    ] {
        world.set_time(now);
        for amount in [301, 300, 300, 300, 100, 100, 1] {
            let item = world.item(&payer, amount, nonce);
            if world.settle(&[item], true).is_ok() {
                taken += amount;
                nonce += 1;
            }
        }
    }
    assert_eq!(taken, 1_500);
    assert_eq!(world.balance(&payer.source), HOLDS - 1_500);
    assert!(balance_of(&world, &thief.pubkey()) <= 1_500);
    // It cannot give itself more, nor another lane.
    let relayer = world.relayer.insecure_clone();
    for lane in [0, 1] {
        let raise = LaneTerms {
            total_limit: UNLIMITED,
            ..terms
        };
        let mut set = instructions::set_lane(&payer.session.pubkey(), &world.mint, lane, &raise);
        set.accounts[1].pubkey = payer.nonce_account;
        refused(
            world.send(&[set], &[&relayer, &payer.session]),
            SluiceError::NotPayer,
        );
    }
    // A small approval bounds it, too, whatever the lane says.
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    world.change_token(payer.source, |state| {
        state.delegate = state.delegate.map(|(key, _)| (key, 500));
    });
    thieves_den(&mut world);
    let item = world.item(&payer, 501, 0);
    skipped(world.settle(&[item], true), Skip::DelegatedShort);
}

#[test]
fn a40_the_relayer_debits_another_of_the_payers_token_accounts() {
    let mut world = World::new();
    let payer = world.payer(HOLDS);
    // The payer's savings, even with an approval for the same delegate.
    let savings = world.open_other_token(payer.key());
    let delegate = payer.nonce_account;
    world.change_token(savings, |state| {
        state.amount = 50 * HOLDS;
        state.delegate = Some((delegate, 50 * HOLDS));
    });
    let mut item = world.item(&payer, 1_000, 0);
    item.source = savings;
    skipped(world.settle(&[item], true), Skip::SourceMismatch);
    // Nor can the relayer, or the session key, pin it.
    let relayer = world.relayer.insecure_clone();
    for thief in [&relayer, &payer.session] {
        let mut pin = instructions::set_source(&thief.pubkey(), &world.mint, &savings);
        pin.accounts[1].pubkey = payer.nonce_account;
        let result = if thief.pubkey() == relayer.pubkey() {
            world.send(&[pin], &[&relayer])
        } else {
            world.send(&[pin], &[&relayer, thief])
        };
        refused(result, SluiceError::NotPayer);
    }
    assert_eq!(world.balance(&savings), 50 * HOLDS);
}

#[test]
fn a41_a_pause_locks_the_vault() {
    // A mint's new fee or pause is in `token_2022.rs`: classic mints have neither.
    let mut world = World::with_recipients(&[5_000, 5_000]);
    let key = world.token_of(&world.recipients[1]);
    world.freeze(&key);
    let payer = world.payer(HOLDS);
    let item = world.item(&payer, 10_000, 0);
    world.settle(&[item], true).unwrap();
    world.pay_in(10_000);
    world.set_paused(true);
    let facilitator = world.facilitator();
    world.set_suspended(&facilitator, true);
    world.set_mint(false);
    let item = world.item(&payer, 10_000, 1);
    refused(world.settle(&[item], true), SluiceError::Paused);
    world.thaw(&key);
    world.distribute(&[]).unwrap();
    assert_eq!(world.balance(&key), 2 * 4_925);
    assert_eq!(world.balance(&world.vault()), 0);
    world.pay_in(3);
    world.close().unwrap();
    assert_eq!(world.balance(&world.vault()), 0);
}

#[test]
fn a43_the_payer_pays_itself_for_receipts() {
    // As recipient, as the facilitator's wallet, as the treasury.
    let mut world = World::with_recipients(&[5_000, 5_000]);
    let payer = world.payer(HOLDS);
    let mut terms = world.terms();
    terms.recipients[1] = row(&payer.key(), 5_000);
    world.update(&terms).unwrap();
    let item = world.item(&payer, 1_000, 0);
    skipped(world.settle(&[item], true), Skip::SelfPayment);

    let mut world = World::new();
    let payer = world.payer(HOLDS);
    let operator = world.operator.insecure_clone();
    let args = FacilitatorArgs {
        wallet: payer.key().to_bytes(),
        min_fee_bps: 0,
        min_fee_fixed: 0,
        relayers: vec![world.relayer.pubkey().to_bytes()],
    };
    let update = instructions::update_facilitator(&operator.pubkey(), &world.facilitator(), &args);
    world.send(&[update], &[&operator]).unwrap();
    let item = world.item(&payer, 1_000, 0);
    let settle = instructions::settle(&world.relayer.pubkey(), &world.on(), &[item], true);
    skipped(world.send_as_relayer(&[settle]), Skip::SelfPayment);

    let mut world = World::new();
    let payer = world.payer(HOLDS);
    let admin = world.admin.insecure_clone();
    let mints = [(world.mint, payer.source)];
    let set = instructions::set_treasury(&admin.pubkey(), &payer.key(), &mints);
    world.send(&[set], &[&admin]).unwrap();
    let item = world.item(&payer, 1_000, 0);
    skipped(world.settle(&[item], true), Skip::SelfPayment);
    let service = world.current();
    assert_eq!(
        (service.payments, service.settled_total),
        (0, 0),
        "no receipt"
    );
    assert_eq!(world.balance(&payer.source), HOLDS);
}
