//! The stock scheme: a test for each rule, on every instruction, and for what must pass; and a transfer's way through the
//! relayer.

use reqwest::StatusCode;
use serde_json::{Value, json};
use sluice_relayer::{
    exact::Transfer,
    http::IntentView,
    proof::{NonceWitness, Proof},
    reason::{ExactReason, Reason, Rejection},
    request::Asked,
};
use sluice_sdk::{
    Address, DEVNET_USDC, SYSTEM_PROGRAM, address,
    token::{TOKEN_2022_PROGRAM, TOKEN_PROGRAM},
    x402::{
        EXACT, ExactPayload, ExactTransfer, FacilitatorRequest, LIGHTHOUSE_PROGRAM, MEMO_PROGRAM,
        Network, message_digest, partly_signed,
    },
};
use solana_hash::Hash;
use solana_instruction::{AccountMeta, Instruction};
use solana_keypair::Keypair;
use solana_message::{AddressLookupTableAccount, Message, VersionedMessage, v0};
use solana_signature::Signature;
use solana_signer::Signer;
use solana_transaction::versioned::VersionedTransaction;

use crate::{
    fake::{Fate, LIFE},
    http::{QUICK, World, invalid, reason},
    postgres::{Store, on_both},
    scene::{
        AMOUNT, Scene, key, keypair, merchant, payer, raw_token, relayer, second, service, source,
        till, vault,
    },
};

/// A blockhash that the fake chain calls valid.
pub fn blockhash() -> Hash {
    Hash::new_from_array([5; 32])
}

fn compute_budget() -> Address {
    "ComputeBudget111111111111111111111111111111"
        .parse()
        .unwrap()
}

fn limit(units: u32) -> Instruction {
    Instruction {
        program_id: compute_budget(),
        accounts: Vec::new(),
        data: [&[2][..], &units.to_le_bytes()].concat(),
    }
}

fn price(micro_lamports: u64) -> Instruction {
    Instruction {
        program_id: compute_budget(),
        accounts: Vec::new(),
        data: [&[3][..], &micro_lamports.to_le_bytes()].concat(),
    }
}

fn memo(text: &str) -> Instruction {
    Instruction {
        program_id: MEMO_PROGRAM,
        accounts: Vec::new(),
        data: text.as_bytes().to_vec(),
    }
}

fn lighthouse(kind: u8, accounts: Vec<AccountMeta>) -> Instruction {
    Instruction {
        program_id: LIGHTHOUSE_PROGRAM,
        accounts,
        data: vec![kind, 0, 0],
    }
}

pub fn transfer(memo: &str) -> ExactTransfer {
    ExactTransfer {
        fee_payer: relayer(),
        pay_to: merchant(),
        mint: DEVNET_USDC,
        token_program: TOKEN_PROGRAM,
        decimals: 6,
        amount: AMOUNT,
        memo: memo.to_owned(),
        blockhash: blockhash(),
    }
}

/// What a stock client sends, to be bent.
#[derive(Clone)]
struct Stock {
    transfer: ExactTransfer,
    instructions: Vec<Instruction>,
    extra: Value,
    amount: u64,
    pay_to: Address,
}

impl Stock {
    fn new() -> Self {
        let transfer = transfer("one of its kind");
        Self {
            instructions: vec![
                limit(20_000),
                price(1),
                transfer.transfer(&payer()),
                memo(&transfer.memo),
            ],
            extra: json!({ "feePayer": relayer().to_string() }),
            amount: AMOUNT,
            pay_to: merchant(),
            transfer,
        }
    }

    fn with(change: impl FnOnce(&mut Self)) -> Self {
        let mut this = Self::new();
        change(&mut this);
        this
    }

    fn message(&self) -> VersionedMessage {
        let message = v0::Message::try_compile(
            &self.transfer.fee_payer,
            &self.instructions,
            &[],
            self.transfer.blockhash,
        );
        VersionedMessage::V0(message.unwrap())
    }

    fn payload(&self) -> ExactPayload {
        let mut this = self.clone();
        let signs = |i: &Instruction| i.accounts.iter().any(|meta| meta.pubkey == payer());
        // Whatever is bent, the payer signs it: another rule is to be broken than that.
        if !this.instructions.iter().any(signs)
            && let Some(last) = this.instructions.last_mut()
        {
            last.accounts.push(AccountMeta::new_readonly(payer(), true));
        }
        partly_signed(this.message(), &keypair(2)).unwrap()
    }

    fn requirements(&self) -> Value {
        json!({
            "scheme": EXACT,
            "network": Network::Devnet.caip2(),
            "amount": self.amount.to_string(),
            "asset": DEVNET_USDC.to_string(),
            "payTo": self.pay_to.to_string(),
            "maxTimeoutSeconds": 60,
            "extra": self.extra,
        })
    }

    fn body_of(&self, payload: &ExactPayload) -> Value {
        let requirements = self.requirements();
        json!({
            "x402Version": 2,
            "paymentPayload": {
                "x402Version": 2,
                "accepted": requirements,
                "payload": payload,
            },
            "paymentRequirements": requirements,
        })
    }

    fn body(&self) -> Value {
        self.body_of(&self.payload())
    }

    fn parse_of(&self, payload: &ExactPayload) -> Result<Transfer, Rejection> {
        let request: FacilitatorRequest = serde_json::from_value(self.body_of(payload)).unwrap();
        let asked = Asked::read(&request, Network::Devnet, &[EXACT]).unwrap();
        Transfer::parse(&asked, &[relayer(), key(10)], 20_000)
    }

    fn parse(&self) -> Result<Transfer, Rejection> {
        self.parse_of(&self.payload())
    }

    #[track_caller]
    fn refused(change: impl FnOnce(&mut Self)) -> ExactReason {
        exact(Self::with(change).parse())
    }
}

/// The body of a transfer to somebody.
pub fn body_to(pay_to: Address, text: &str) -> Value {
    let stock = Stock::with(|stock| {
        stock.pay_to = pay_to;
        stock.transfer.pay_to = pay_to;
        stock.transfer.memo = text.to_owned();
        stock.instructions[2] = stock.transfer.transfer(&payer());
        stock.instructions[3] = memo(text);
    });
    stock.body()
}

#[track_caller]
fn exact(parsed: Result<Transfer, Rejection>) -> ExactReason {
    match parsed.unwrap_err().reason {
        Reason::Exact(reason) => reason,
        other => panic!("{other}"),
    }
}

/// The transaction in a payload, bent, as a payload.
fn bent(payload: &ExactPayload, change: impl FnOnce(&mut VersionedTransaction)) -> ExactPayload {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let bytes = STANDARD.decode(&payload.transaction).unwrap();
    let mut transaction = sluice_sdk::transaction::from_wire(&bytes).unwrap();
    change(&mut transaction);
    ExactPayload {
        transaction: STANDARD.encode(sluice_sdk::transaction::wire(&transaction).unwrap()),
    }
}

#[test]
fn what_stock_clients_send_is_read() {
    let read = Stock::new().parse().unwrap();
    assert_eq!(read.pay_to, merchant());
    assert_eq!((read.amount, read.mint), (AMOUNT, DEVNET_USDC));
    let order = &read.order;
    assert_eq!((order.payer, order.fee_payer), (payer(), relayer()));
    assert_eq!((order.source, order.destination), (source(), till()));
    assert_eq!(order.fee_lamports, 10_001);
    assert!(order.plain);
    let message = Stock::new().message().serialize();
    assert_eq!(read.digest, message_digest(&message));
    // The client library of this project builds the same.
    let own = transfer("one of its kind").sign(&keypair(2)).unwrap();
    assert_eq!(own, Stock::new().payload());
}

#[test]
fn a_legacy_message_is_read_too() {
    let stock = Stock::new();
    let message = Message::new_with_blockhash(
        &stock.instructions,
        Some(&relayer()),
        &stock.transfer.blockhash,
    );
    let payload = partly_signed(VersionedMessage::Legacy(message), &keypair(2)).unwrap();
    assert_eq!(stock.parse_of(&payload).unwrap().order.source, source());
}

#[test]
fn what_the_fee_payers_place_holds_changes_nothing() {
    let stock = Stock::new();
    let digest = stock.parse().unwrap().digest;
    for fill in [[0; 64], [1; 64], [255; 64]] {
        let payload = bent(&stock.payload(), |transaction| {
            transaction.signatures[0] = Signature::from(fill);
        });
        assert_eq!(stock.parse_of(&payload).unwrap().digest, digest);
    }
}

#[test]
fn the_fee_payer_is_named_and_ours() {
    let extra = |extra: Value| Stock::refused(|stock| stock.extra = extra);
    assert_eq!(extra(json!({})), ExactReason::MissingFeePayer);
    assert_eq!(extra(Value::Null), ExactReason::MissingFeePayer);
    assert_eq!(extra(json!({"feePayer": 5})), ExactReason::MissingFeePayer);
    for stranger in [key(77).to_string(), "no key".to_owned()] {
        assert_eq!(
            extra(json!({ "feePayer": stranger })),
            ExactReason::FeePayerNotManaged
        );
    }
    // Ours, and not the one of the transaction.
    assert_eq!(
        extra(json!({"feePayer": key(10).to_string()})),
        ExactReason::FeePayerMismatch
    );
    assert_eq!(
        Stock::refused(|stock| stock.transfer.fee_payer = key(77)),
        ExactReason::FeePayerMismatch
    );
}

#[test]
fn what_cannot_be_read_is_refused() {
    let stock = Stock::new();
    let text = |text: &str| {
        let payload = ExactPayload {
            transaction: text.to_owned(),
        };
        exact(stock.parse_of(&payload))
    };
    for garbage in ["", "??", "AAAA", "AQ=="] {
        assert_eq!(text(garbage), ExactReason::NotDecoded, "{garbage:?}");
    }
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let mut bytes = STANDARD.decode(stock.payload().transaction).unwrap();
    for len in 0..bytes.len() {
        assert_eq!(
            text(&STANDARD.encode(&bytes[..len])),
            ExactReason::NotDecoded
        );
    }
    bytes.push(0);
    assert_eq!(text(&STANDARD.encode(&bytes)), ExactReason::NotDecoded);
    // Out of bounds.
    for change in [
        (|i: &mut v0::Message| i.instructions[2].program_id_index = 200) as fn(&mut v0::Message),
        |i| i.instructions[2].accounts[0] = 200,
        |i| i.header.num_required_signatures = 9,
        |i| i.header.num_readonly_signed_accounts = 2,
    ] {
        let payload = bent(&stock.payload(), |transaction| {
            let VersionedMessage::V0(message) = &mut transaction.message else {
                panic!("version 0");
            };
            change(message);
        });
        assert_eq!(exact(stock.parse_of(&payload)), ExactReason::NotDecoded);
    }
}

#[test]
fn lookup_tables_and_version_1_are_refused() {
    let stock = Stock::new();
    let table = AddressLookupTableAccount {
        key: key(60),
        addresses: vec![till(), source(), DEVNET_USDC],
    };
    let message = v0::Message::try_compile(
        &relayer(),
        &stock.instructions,
        &[table],
        stock.transfer.blockhash,
    );
    let payload = partly_signed(VersionedMessage::V0(message.unwrap()), &keypair(2)).unwrap();
    assert_eq!(exact(stock.parse_of(&payload)), ExactReason::NotDecoded);
    let built = sluice_sdk::transaction::build(
        sluice_sdk::transaction::Version::V1,
        &relayer(),
        &stock.instructions[2..],
        &sluice_sdk::transaction::Budget {
            compute_units: 20_000,
            unit_price: 1,
            loaded_bytes: 1 << 20,
        },
        stock.transfer.blockhash,
        &[&keypair(1), &keypair(2)],
    );
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let payload = ExactPayload {
        transaction: STANDARD.encode(sluice_sdk::transaction::wire(&built.unwrap()).unwrap()),
    };
    assert_eq!(exact(stock.parse_of(&payload)), ExactReason::NotDecoded);
}

#[test]
fn durable_nonces_are_refused() {
    let advance = Instruction {
        program_id: SYSTEM_PROGRAM,
        accounts: vec![
            AccountMeta::new(key(50), false),
            AccountMeta::new_readonly(key(51), false),
            AccountMeta::new_readonly(payer(), true),
        ],
        data: vec![4, 0, 0, 0],
    };
    assert_eq!(
        Stock::refused(|stock| stock.instructions.insert(0, advance.clone())),
        ExactReason::ComputeLimit
    );
    assert_eq!(
        Stock::refused(|stock| stock.instructions.push(advance)),
        ExactReason::UnknownFifth
    );
}

#[test]
fn payer_and_fee_payer_sign_and_nobody_else() {
    let stock = Stock::new();
    // A wrong signature, another's, none.
    let signed = |signature: Signature| {
        bent(&stock.payload(), |transaction| {
            transaction.signatures[1] = signature;
        })
    };
    let other = Keypair::new_from_array([33; 32]).sign_message(&stock.message().serialize());
    let mut flipped = *keypair(2)
        .sign_message(&stock.message().serialize())
        .as_array();
    flipped[10] ^= 1;
    for signature in [Signature::default(), other, Signature::from(flipped)] {
        assert_eq!(
            exact(stock.parse_of(&signed(signature))),
            ExactReason::SignatureInvalid
        );
    }
    // Signed, and then changed.
    let payload = bent(&stock.payload(), |transaction| {
        let VersionedMessage::V0(message) = &mut transaction.message else {
            panic!("version 0");
        };
        message.instructions[3].data[0] ^= 1;
    });
    assert_eq!(
        exact(stock.parse_of(&payload)),
        ExactReason::SignatureInvalid
    );
    // A third signer.
    assert_eq!(
        Stock::refused(|stock| {
            let third = AccountMeta::new_readonly(key(40), true);
            stock.instructions[3].accounts.push(third);
        }),
        ExactReason::ExcessiveSigners
    );
}

/// Attack 1 of the list, for transfers of the relayer's own money: the fee payer's key as the authority.
#[test]
fn a01_extra_instruction_moves_the_fee_payers_money() {
    // From its own account, on its own signature.
    let mut own = Stock::new();
    own.instructions[2] = own.transfer.transfer(&relayer());
    let message = own.message();
    let transaction = VersionedTransaction {
        signatures: vec![Signature::default()],
        message,
    };
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let payload = ExactPayload {
        transaction: STANDARD.encode(sluice_sdk::transaction::wire(&transaction).unwrap()),
    };
    assert_eq!(exact(own.parse_of(&payload)), ExactReason::SignatureInvalid);
    // From another key of the relayer's.
    let mut own = Stock::new();
    own.instructions[2] = own.transfer.transfer(&key(10));
    let payload = partly_signed(own.message(), &second()).unwrap();
    assert_eq!(
        exact(own.parse_of(&payload)),
        ExactReason::FeePayerTransfers
    );
    // An instruction more.
    let lamports = Instruction {
        program_id: SYSTEM_PROGRAM,
        accounts: vec![
            AccountMeta::new(relayer(), true),
            AccountMeta::new(payer(), false),
        ],
        data: [&[2, 0, 0, 0][..], &1_000_000u64.to_le_bytes()].concat(),
    };
    for (place, reason) in [
        (0, ExactReason::ComputeLimit),
        (1, ExactReason::ComputePrice),
        (2, ExactReason::NoTransfer),
        (3, ExactReason::UnknownFourth),
        (4, ExactReason::UnknownFifth),
    ] {
        let lamports = lamports.clone();
        assert_eq!(
            Stock::refused(|stock| stock.instructions.insert(place, lamports)),
            reason
        );
    }
}

/// Attack 2 of the list: whatever the fee payer is handed to can spend its signature.
#[test]
fn a02_a_called_program_uses_the_fee_payers_signature() {
    for meta in [
        AccountMeta::new(relayer(), true),
        AccountMeta::new(relayer(), false),
        AccountMeta::new_readonly(relayer(), true),
        AccountMeta::new_readonly(relayer(), false),
    ] {
        let assertion = lighthouse(5, vec![meta.clone()]);
        assert_eq!(
            Stock::refused(|stock| stock.instructions.push(assertion)),
            ExactReason::FeePayerIncluded
        );
        let noted = meta.clone();
        assert_eq!(
            Stock::refused(|stock| stock.instructions[3].accounts.push(noted)),
            ExactReason::FeePayerIncluded
        );
        // Where nothing should be handed at all.
        assert_eq!(
            Stock::refused(|stock| stock.instructions[0].accounts.push(meta)),
            ExactReason::FeePayerIncluded
        );
    }
    // As where the money comes from, goes to, or what it is.
    for place in [0, 2] {
        assert_eq!(
            Stock::refused(|stock| stock.instructions[2].accounts[place].pubkey = relayer()),
            ExactReason::FeePayerIncluded
        );
    }
    // Lighthouse writes memory at a signer's cost.
    for kind in [0, 1, 18, 255] {
        let write = lighthouse(kind, vec![AccountMeta::new(payer(), true)]);
        assert_eq!(
            Stock::refused(|stock| stock.instructions.push(write)),
            ExactReason::UnknownFifth
        );
    }
}

/// Attack 12 of the list.
#[test]
fn a12_priority_fee_blow_up() {
    assert_eq!(
        Stock::refused(|stock| stock.instructions[1] = price(5_000_001)),
        ExactReason::ComputePriceTooHigh
    );
    // Five lamports a unit are within the rule of the specification, and 1.4 million units too.
    assert_eq!(
        Stock::refused(|stock| {
            stock.instructions[0] = limit(1_400_000);
            stock.instructions[1] = price(5_000_000);
        }),
        ExactReason::ComputePriceTooHigh
    );
    assert_eq!(
        Stock::refused(|stock| stock.instructions[0] = limit(1_400_001)),
        ExactReason::ComputeLimitTooHigh
    );
    // To the lamport.
    let cost = |micro: u64| {
        Stock::with(|stock| {
            stock.instructions[0] = limit(20_000);
            stock.instructions[1] = price(micro);
        })
        .parse()
    };
    assert_eq!(cost(500_000).unwrap().order.fee_lamports, 20_000);
    assert_eq!(exact(cost(500_001)), ExactReason::ComputePriceTooHigh);
    assert_eq!(exact(cost(u64::MAX)), ExactReason::ComputePriceTooHigh);
}

#[test]
fn the_instructions_stand_where_they_must() {
    let refused =
        |change: fn(&mut Vec<Instruction>)| Stock::refused(|stock| change(&mut stock.instructions));
    assert_eq!(
        refused(|all| all.truncate(2)),
        ExactReason::InstructionCount
    );
    assert_eq!(
        refused(|all| all.extend(vec![memo("x"); 4])),
        ExactReason::InstructionCount
    );
    assert_eq!(refused(|all| all.swap(0, 1)), ExactReason::ComputeLimit);
    assert_eq!(refused(|all| all.swap(1, 2)), ExactReason::ComputePrice);
    assert_eq!(refused(|all| all.swap(2, 3)), ExactReason::NoTransfer);
    // Heap frames and loaded data sizes are compute budget too, and not these.
    assert_eq!(refused(|all| all[0].data[0] = 1), ExactReason::ComputeLimit);
    assert_eq!(refused(|all| all[1].data[0] = 4), ExactReason::ComputePrice);
    assert_eq!(
        refused(|all| all[0].data.push(0)),
        ExactReason::ComputeLimit
    );
    assert_eq!(
        refused(|all| all[1].data.truncate(8)),
        ExactReason::ComputePrice
    );
    assert_eq!(
        refused(|all| all[0].data.clear()),
        ExactReason::ComputeLimit
    );
    // A second compute budget instruction would replace the first.
    assert_eq!(refused(|all| all.push(price(1))), ExactReason::UnknownFifth);
    assert_eq!(
        refused(|all| all.push(all[2].clone())),
        ExactReason::UnknownFifth
    );
    assert!(
        Stock::with(|stock| stock.instructions.truncate(3))
            .parse()
            .is_ok()
    );
    let memos = Stock::with(|stock| stock.instructions.extend(vec![memo("x"); 3]));
    assert!(memos.parse().is_ok());
}

#[test]
fn the_transfer_is_the_one_that_was_asked_for() {
    let refused =
        |change: fn(&mut Instruction)| Stock::refused(|stock| change(&mut stock.instructions[2]));
    // Plain Transfer, Approve, another length.
    assert_eq!(refused(|i| i.data[0] = 3), ExactReason::NoTransfer);
    assert_eq!(refused(|i| i.data[0] = 13), ExactReason::NoTransfer);
    assert_eq!(refused(|i| i.data.push(0)), ExactReason::NoTransfer);
    assert_eq!(refused(|i| i.data.truncate(9)), ExactReason::NoTransfer);
    assert_eq!(refused(|i| i.data.truncate(1)), ExactReason::NoTransfer);
    assert_eq!(refused(|i| i.data.clear()), ExactReason::NoTransfer);
    assert_eq!(refused(|i| i.program_id = key(44)), ExactReason::NoTransfer);
    assert_eq!(
        refused(|i| i.accounts.truncate(i.accounts.len() - 1)),
        ExactReason::NoTransfer
    );
    assert_eq!(
        refused(|i| i.accounts.push(AccountMeta::new_readonly(key(45), false))),
        ExactReason::NoTransfer
    );
    assert_eq!(refused(|i| i.data[1] ^= 1), ExactReason::AmountMismatch);
    assert_eq!(
        refused(|i| i.accounts[1].pubkey = key(46)),
        ExactReason::MintMismatch
    );
    assert_eq!(
        refused(|i| i.accounts[0].pubkey = i.accounts[2].pubkey),
        ExactReason::RecipientMismatch
    );
    // Somebody else's authority, who does not sign.
    assert_eq!(
        Stock::refused(|stock| {
            stock.instructions[2].accounts[3] = AccountMeta::new_readonly(key(47), false);
            stock.instructions[3].accounts = vec![AccountMeta::new_readonly(payer(), true)];
        }),
        ExactReason::SignatureInvalid
    );
}

#[test]
fn a_memo_that_is_asked_for_is_there_once_and_equal() {
    let asked = |change: fn(&mut Stock)| {
        Stock::with(|stock| {
            stock.extra["memo"] = json!("one of its kind");
            change(stock);
        })
        .parse()
    };
    assert!(asked(|_| {}).is_ok());
    assert_eq!(
        exact(asked(|stock| stock.instructions.truncate(3))),
        ExactReason::MemoCount
    );
    assert_eq!(
        exact(asked(|stock| stock.instructions.push(memo("another")))),
        ExactReason::MemoCount
    );
    assert_eq!(
        exact(asked(|stock| stock.instructions[3] = memo("another"))),
        ExactReason::MemoMismatch
    );
    let number = Stock::with(|stock| stock.extra["memo"] = json!(5));
    assert_eq!(number.parse().unwrap_err().reason, Reason::Requirements);
    assert!(
        Stock::with(|stock| stock.extra["memo"] = json!(""))
            .parse()
            .is_ok()
    );
}

/// A stock client's request, one of many.
pub fn stock_body(number: u64) -> Value {
    let text = format!("number {number}");
    let stock = Stock::with(|stock| {
        stock.transfer.memo.clone_from(&text);
        stock.instructions[3] = memo(&text);
    });
    stock.body()
}

on_both! {
    a_transfer_settles_once
    a_transfer_to_a_service_goes_to_its_vault
    a_transfer_in_twenty_parallel_calls_is_one_success
    a14_a_duplicate_key_varied_through_the_fee_payer_slot
    a_transfer_that_fails_on_chain_is_said_to_have_failed
    a_transfer_without_an_answer_is_pending_and_redeemed_once
    a_transfer_that_is_lost_expires_with_its_blockhash
    a_restart_takes_up_transfers
}

async fn view(world: &World, digest: [u8; 32]) -> IntentView {
    let answer = world
        .get(&format!("/v1/intents/{}", hex::encode(digest)))
        .await;
    assert_eq!(answer.status(), StatusCode::OK);
    answer.json().await.unwrap()
}

async fn a_transfer_settles_once(store: Store) {
    let world = World::on(store, Scene::default(), QUICK).await;
    let stock = Stock::new();
    let verdict = world.verify(&stock.body()).await;
    assert!(verdict.is_valid, "{verdict:?}");
    assert_eq!(verdict.payer, Some(payer().to_string()));
    // Nothing was signed, and what is plain needs no simulation.
    assert_eq!(world.chain.state().sent, []);
    assert_eq!(world.chain.state().simulated, 0);

    let answer = world.settle(&stock.body()).await;
    assert!(answer.success, "{answer:?}");
    let sent = world.chain.state().transactions();
    assert_eq!(sent.len(), 1);
    assert_eq!(answer.transaction, sent[0].to_string());
    assert_eq!(answer.amount, Some(AMOUNT.to_string()));
    assert_eq!(answer.payer, Some(payer().to_string()));
    let extra = answer.extra.unwrap();
    assert_eq!(
        extra["batch"],
        json!({"size": 1, "lamportsPerPayment": 10_001})
    );
    assert!(extra.get("distribution").is_none());
    assert_eq!(
        reason(&world.settle(&stock.body()).await),
        "duplicate_settlement"
    );
    assert_eq!(
        invalid(&world.verify(&stock.body()).await),
        "duplicate_settlement"
    );

    let digest = stock.parse().unwrap().digest;
    let seen = view(&world, digest).await;
    assert_eq!(
        (seen.scheme.as_str(), seen.state.as_str()),
        ("exact", "confirmed")
    );
    assert_eq!(seen.service, merchant().to_string());
    assert_eq!((seen.nonce, seen.split.is_none()), (None, true));
    world.written_ahead();

    let world = world.restart().await;
    assert_eq!(
        reason(&world.settle(&stock.body()).await),
        "duplicate_settlement"
    );
    assert_eq!(world.chain.state().transactions().len(), 1);
    world.stop().await;
}

async fn a_transfer_to_a_service_goes_to_its_vault(store: Store) {
    let mut scene = Scene::default();
    let world = World::on(store, scene.clone(), QUICK).await;
    let to_service = |memo: &str| {
        let mut stock = Stock::new();
        stock.pay_to = service();
        stock.transfer.pay_to = service();
        stock.transfer.memo = memo.to_owned();
        stock.instructions[2] = stock.transfer.transfer(&payer());
        stock.instructions[3] = self::memo(memo);
        stock
    };
    let stock = to_service("first");
    assert_eq!(stock.parse().unwrap().order.destination, vault());
    let answer = world.settle(&stock.body()).await;
    assert!(answer.success, "{answer:?}");
    assert!(answer.extra.unwrap()["distribution"].is_string());
    // A merchant's account is none of the service's.
    let mut astray = to_service("astray");
    astray.transfer.pay_to = merchant();
    astray.instructions[2] = astray.transfer.transfer(&payer());
    assert_eq!(
        invalid(&world.verify(&astray.body()).await),
        "invalid_exact_svm_payload_recipient_mismatch"
    );

    let stock = to_service("second");
    let refused = async |scene: &Scene| {
        for (key, account) in scene.accounts() {
            world.chain.state().accounts.insert(key, account);
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        let answer = world.verify(&stock.body()).await;
        invalid(&answer).to_owned()
    };
    scene.config.paused = 1;
    assert_eq!(refused(&scene).await, "invalid_sluice_split_paused");
    scene.config.paused = 0;
    scene.service.status = sluice_sdk::accounts::SERVICE_CLOSED;
    assert_eq!(refused(&scene).await, "invalid_payment_requirements");
    scene.service.status = sluice_sdk::accounts::SERVICE_ACTIVE;
    scene.service.facilitator = key(90).to_bytes();
    assert_eq!(refused(&scene).await, "invalid_payment_requirements");
    world.stop().await;
}

async fn a_transfer_in_twenty_parallel_calls_is_one_success(store: Store) {
    let world = World::on(store, Scene::default(), QUICK).await;
    let body = Stock::new().body();
    let calls = (0..20).map(|_| world.settle(&body));
    let answers = futures_util::future::join_all(calls).await;
    let good = answers.iter().filter(|answer| answer.success).count();
    assert_eq!(good, 1);
    for answer in answers.iter().filter(|answer| !answer.success) {
        assert_eq!(reason(answer), "duplicate_settlement");
    }
    assert_eq!(world.chain.state().transactions().len(), 1);
    world.stop().await;
}

async fn a14_a_duplicate_key_varied_through_the_fee_payer_slot(store: Store) {
    let world = World::on(store, Scene::default(), QUICK).await;
    let stock = Stock::new();
    assert!(world.settle(&stock.body()).await.success);
    for fill in [[1; 64], [2; 64]] {
        let payload = bent(&stock.payload(), |transaction| {
            transaction.signatures[0] = Signature::from(fill);
        });
        let body = stock.body_of(&payload);
        assert_eq!(reason(&world.settle(&body).await), "duplicate_settlement");
        assert_eq!(invalid(&world.verify(&body).await), "duplicate_settlement");
    }
    assert_eq!(world.chain.state().transactions().len(), 1);
    world.stop().await;
}

async fn a_transfer_that_fails_on_chain_is_said_to_have_failed(store: Store) {
    let world = World::on(store, Scene::default(), QUICK).await;
    let error = json!({"InstructionError": [2, {"Custom": 1}]});
    world.chain.state().fate = Fate::Failed(error);
    let stock = Stock::new();
    let answer = world.settle(&stock.body()).await;
    assert_eq!(reason(&answer), "invalid_exact_svm_transaction_failed");
    let sent = world.chain.state().transactions();
    assert_eq!(answer.transaction, sent[0].to_string());
    // And stays so: the same transaction cannot land again.
    world.chain.state().fate = Fate::Confirmed;
    let again = world.settle(&stock.body()).await;
    assert_eq!(reason(&again), "invalid_exact_svm_transaction_failed");
    let digest = stock.parse().unwrap().digest;
    assert_eq!(view(&world, digest).await.state, "failed");
    assert_eq!(world.chain.state().transactions().len(), 1);
    world.stop().await;
}

async fn a_transfer_without_an_answer_is_pending_and_redeemed_once(store: Store) {
    let world = World::on(store, Scene::default(), QUICK).await;
    world.chain.state().fate = Fate::Processed;
    let body = Stock::new().body();
    let answer = world.settle(&body).await;
    assert_eq!(reason(&answer), "settlement_pending");
    assert!(!answer.transaction.is_empty());
    world.chain.state().fate = Fate::Confirmed;
    let again = world.settle(&body).await;
    assert!(again.success, "{again:?}");
    assert_eq!(again.transaction, answer.transaction);
    assert_eq!(reason(&world.settle(&body).await), "duplicate_settlement");
    world.stop().await;
}

async fn a_transfer_that_is_lost_expires_with_its_blockhash(store: Store) {
    let world = World::on(store, Scene::default(), QUICK).await;
    world.chain.state().fate = Fate::Lost;
    let stock = Stock::new();
    let answer = world.settle(&stock.body()).await;
    assert_eq!(reason(&answer), "settlement_pending");
    // Still within what the blockhash may live: nobody says that it is over.
    let digest = stock.parse().unwrap().digest;
    assert!(!view(&world, digest).await.is_final);
    world.chain.state().height += LIFE + 100;
    for _ in 0..1_000 {
        if view(&world, digest).await.state == "expired" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let seen = view(&world, digest).await;
    assert_eq!(seen.state, "expired");
    assert_eq!(
        seen.reason.as_deref(),
        Some("invalid_exact_svm_transaction_failed")
    );
    assert!(seen.is_final);
    // Proved by that one transaction's death, whatever the clock says.
    let Some(Proof::Impossible {
        transactions,
        nonce,
        ..
    }) = seen.proof
    else {
        panic!("{seen:?}")
    };
    assert_eq!(nonce, NonceWitness::Silent);
    assert_eq!(transactions.len(), 1);
    assert_eq!(Some(&transactions[0].signature), seen.transaction.as_ref());
    let dead_at = transactions[0].finalized_block_height;
    assert!(dead_at > Some(transactions[0].last_valid_block_height));
    // Its payer's signature is good for that transaction alone: none other was made.
    assert_eq!(world.chain.state().transactions().len(), 1);
    world.stop().await;
}

async fn a_restart_takes_up_transfers(store: Store) {
    let world = World::on(store, Scene::default(), QUICK).await;
    world.chain.state().fate = Fate::Processed;
    let stock = Stock::new();
    assert_eq!(
        reason(&world.settle(&stock.body()).await),
        "settlement_pending"
    );
    let world = world.restart().await;
    world.chain.state().fate = Fate::Confirmed;
    let answer = world.settle(&stock.body()).await;
    assert!(answer.success, "{answer:?}");
    assert_eq!(world.chain.state().transactions().len(), 1);
    world.stop().await;
}

#[tokio::test]
async fn version_1_is_spoken_too() {
    let world = World::new().await;
    let stock = Stock::new();
    let body = json!({
        "x402Version": 1,
        "paymentPayload": {
            "x402Version": 1,
            "scheme": EXACT,
            "network": "solana-devnet",
            "payload": stock.payload(),
        },
        "paymentRequirements": {
            "scheme": EXACT,
            "network": "solana-devnet",
            "maxAmountRequired": AMOUNT.to_string(),
            "resource": "http://localhost/paid",
            "description": "",
            "mimeType": "",
            "asset": DEVNET_USDC.to_string(),
            "payTo": merchant().to_string(),
            "maxTimeoutSeconds": 60,
            "extra": stock.extra,
        },
    });
    assert!(world.verify(&body).await.is_valid);
    let answer = world.settle(&body).await;
    assert!(answer.success, "{answer:?}");
    assert_eq!(answer.network, "solana-devnet");
    // Whichever version it is asked for in, it is the same payment.
    assert_eq!(
        reason(&world.settle(&stock.body()).await),
        "duplicate_settlement"
    );
    world.stop().await;
}

#[tokio::test]
async fn what_is_supported_names_a_fee_payer_for_each_kind() {
    let world = World::new().await;
    let supported: Value = world.get("/supported").await.json().await.unwrap();
    let kinds = supported["kinds"].as_array().unwrap();
    let exact: Vec<&Value> = kinds
        .iter()
        .filter(|kind| kind["scheme"] == EXACT)
        .collect();
    assert_eq!(exact.len(), 2);
    for kind in exact {
        assert_eq!(kind["extra"]["feePayer"], relayer().to_string());
    }
    world.stop().await;
    let world = World::with(Scene::default(), "exact = { enabled = false }").await;
    let supported: Value = world.get("/supported").await.json().await.unwrap();
    let kinds = supported["kinds"].as_array().unwrap();
    assert!(kinds.iter().all(|kind| kind["scheme"] != EXACT));
    let answer = world.verify(&Stock::new().body()).await;
    assert_eq!(invalid(&answer), "unsupported_scheme");
    world.stop().await;
}

#[tokio::test]
async fn the_accounts_must_hold() {
    let world = World::new().await;
    let verdict = async |stock: &Stock| invalid(&world.verify(&stock.body()).await).to_owned();
    const FAILS: &str = "invalid_exact_svm_transaction_simulation_failed";
    let bend = async |key: Address, change: &dyn Fn(&mut Vec<u8>)| {
        let before = {
            let mut state = world.chain.state();
            let account = state.accounts.get_mut(&key).unwrap();
            let before = account.clone();
            change(&mut account.data);
            before
        };
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        let answer = invalid(&world.verify(&Stock::new().body()).await).to_owned();
        world.chain.state().accounts.insert(key, before);
        answer
    };
    // The source: little money, frozen, another owner, another mint, none.
    assert_eq!(
        bend(source(), &|data| data[64..72].fill(0)).await,
        "insufficient_funds"
    );
    assert_eq!(bend(source(), &|data| data[108] = 2).await, FAILS);
    assert_eq!(bend(source(), &|data| data[32..64].fill(9)).await, FAILS);
    assert_eq!(
        bend(source(), &|data| data[0..32].fill(9)).await,
        "invalid_exact_svm_payload_mint_mismatch"
    );
    assert_eq!(
        bend(source(), &|data| data.clear()).await,
        "insufficient_funds"
    );
    assert_eq!(
        bend(source(), &|data| data[32..64]
            .copy_from_slice(relayer().as_array()))
        .await,
        "invalid_exact_svm_payload_transaction_fee_payer_transferring_funds"
    );
    // The till: frozen, none.
    assert_eq!(bend(till(), &|data| data[108] = 2).await, FAILS);
    assert_eq!(bend(till(), &|data| data.clear()).await, FAILS);
    // The mint: other decimals, none.
    assert_eq!(bend(DEVNET_USDC, &|data| data[44] = 9).await, FAILS);
    assert_eq!(bend(DEVNET_USDC, &|data| data.clear()).await, FAILS);
    // Another token program than the mint's.
    let stock = Stock::with(|stock| {
        stock.transfer.token_program = TOKEN_2022_PROGRAM;
        stock.instructions[2] = stock.transfer.transfer(&payer());
    });
    assert_eq!(verdict(&stock).await, FAILS);
    // Money for somebody else.
    let stock = Stock::with(|stock| {
        stock.transfer.pay_to = key(80);
        stock.instructions[2] = stock.transfer.transfer(&payer());
    });
    assert_eq!(
        verdict(&stock).await,
        "invalid_exact_svm_payload_recipient_mismatch"
    );
    // A blockhash that no node knows.
    let stock = Stock::with(|stock| stock.transfer.blockhash = Hash::new_from_array([6; 32]));
    assert_eq!(verdict(&stock).await, FAILS);
    assert!(world.verify(&Stock::new().body()).await.is_valid);
    world.stop().await;
}

#[tokio::test]
async fn a_delegate_may_pay_what_it_was_approved_for() {
    let mut scene = Scene::default();
    let mut token = scene.source.unwrap();
    token.owner = key(70);
    token.delegate = Some((payer(), AMOUNT));
    scene.source = None;
    let world = World::with(scene, QUICK).await;
    let put = |token: &sluice_sdk::token::TokenAccount| {
        let account = raw_token(token);
        world.chain.state().accounts.insert(source(), account);
    };
    put(&token);
    assert!(world.verify(&Stock::new().body()).await.is_valid);
    token.delegate = Some((payer(), AMOUNT - 1));
    put(&token);
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    let answer = world.verify(&Stock::new().body()).await;
    assert_eq!(invalid(&answer), "insufficient_funds");
    world.stop().await;
}

#[tokio::test]
async fn what_the_accounts_do_not_show_is_simulated() {
    let world = World::new().await;
    let long = "m".repeat(100);
    let unsure: [fn(&mut Stock); 3] = [
        |stock| stock.instructions[0] = limit(19_999),
        |stock| {
            let assertion = lighthouse(5, vec![AccountMeta::new_readonly(payer(), false)]);
            stock.instructions.push(assertion);
        },
        |stock| stock.instructions[3] = memo(&"m".repeat(100)),
    ];
    assert_eq!(long.len(), 100);
    for (i, change) in unsure.into_iter().enumerate() {
        let stock = Stock::with(change);
        assert!(world.verify(&stock.body()).await.is_valid);
        assert_eq!(world.chain.state().simulated, 2 * i as u64 + 1);
        world.chain.state().simulation = Some(json!({"InstructionError": [3, "Custom"]}));
        assert_eq!(
            invalid(&world.verify(&stock.body()).await),
            "invalid_exact_svm_transaction_simulation_failed"
        );
        world.chain.state().simulation = None;
    }
    world.stop().await;
    let world = World::with(Scene::default(), "exact = { always_simulate = true }").await;
    assert!(world.verify(&Stock::new().body()).await.is_valid);
    assert_eq!(world.chain.state().simulated, 1);
    world.stop().await;
}

/// Attack 17 of the list, across the schemes: one balance pays intents and transfers.
#[tokio::test]
async fn a17_parallel_payments_exceed_the_balance() {
    let mut scene = Scene::default();
    let mut token = scene.source.unwrap();
    token.amount = 2 * AMOUNT;
    scene.source = Some(token);
    let world = World::with(scene, QUICK).await;
    world.chain.state().fate = Fate::Processed;
    let named = |name: &str| Stock::with(|stock| stock.instructions[3] = memo(name));
    assert_eq!(
        reason(&world.settle(&named("a").body()).await),
        "settlement_pending"
    );
    assert!(world.verify(&named("b").body()).await.is_valid);
    assert_eq!(
        reason(&world.settle(&world.body(1)).await),
        "settlement_pending"
    );
    assert_eq!(
        invalid(&world.verify(&named("b").body()).await),
        "insufficient_funds"
    );
    assert_eq!(
        reason(&world.settle(&named("c").body()).await),
        "insufficient_funds"
    );
    assert_eq!(
        invalid(&world.verify(&world.body(2)).await),
        "insufficient_funds"
    );
    assert_eq!(world.chain.state().transactions().len(), 2);
    world.stop().await;
}

/// Asked about once, however many payments are signed with it.
#[tokio::test]
async fn a_blockhash_that_was_seen_here_is_not_asked_about() {
    let world = World::new().await;
    let mut newest = [0; 32];
    newest[..8].copy_from_slice(&world.chain.state().blockhashes.to_le_bytes());
    world.chain.state().known_blockhashes.clear();
    let stock = Stock::with(|stock| stock.transfer.blockhash = Hash::new_from_array(newest));
    assert!(world.verify(&stock.body()).await.is_valid);
    world.stop().await;
}

#[test]
fn token_accounts_are_the_associated_ones() {
    assert_eq!(
        till(),
        address::token_account(&merchant(), &DEVNET_USDC, &TOKEN_PROGRAM)
    );
}
