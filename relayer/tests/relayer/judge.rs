//! One test for each reason, and for what must pass.

use serde_json::{Value, json};
use sluice_intent::{Skip, UNLIMITED};
use sluice_relayer::{
    ledger::NonceKey,
    reason::{Reason, Rejection},
    snapshot::Lookup,
    verify::{Admission, InFlight, judge},
};
use sluice_sdk::{
    Address, DEVNET_USDC, UnsignedIntent,
    accounts::{NonceAccount, SERVICE_CLOSED},
    address,
    token::{TOKEN_2022_PROGRAM, TOKEN_PROGRAM},
    x402::Network,
};
use solana_signer::Signer;

use crate::scene::{
    AMOUNT, NOW, OPENED, Scene, key, keypair, mint, nonce_account, parse, payer, service, settler,
};

fn judged(scene: &Scene, intent: UnsignedIntent) -> Result<Admission, Rejection> {
    judge(&scene.snapshot(), &scene.payment(intent), &settler())
}

#[track_caller]
fn refused(scene: &Scene, intent: UnsignedIntent, reason: Reason) -> String {
    let rejection = judged(scene, intent).unwrap_err();
    assert_eq!(rejection.reason, reason, "{rejection}");
    assert!(rejection.message.len() > 10);
    rejection.message
}

#[track_caller]
fn skipped(scene: &Scene, intent: UnsignedIntent, skip: Skip) {
    refused(scene, intent, Reason::Skip(skip));
}

/// The scene with one change, and its first intent.
fn with(change: impl FnOnce(&mut Scene)) -> (Scene, UnsignedIntent) {
    let mut scene = Scene::default();
    change(&mut scene);
    let intent = scene.intent(1);
    (scene, intent)
}

/// The scene with another lane 1.
fn lane(change: impl FnOnce(&mut sluice_intent::Lane)) -> (Scene, UnsignedIntent) {
    with(|scene| change(&mut scene.nonce.as_mut().unwrap().lanes[1]))
}

fn token(change: impl FnOnce(&mut sluice_sdk::token::TokenAccount)) -> (Scene, UnsignedIntent) {
    with(|scene| change(scene.source.as_mut().unwrap()))
}

#[test]
fn a_good_payment_is_admitted() {
    let scene = Scene::default();
    let admission = judged(&scene, scene.intent(0)).unwrap();
    assert_eq!(admission.payer, payer());
    assert_eq!(admission.digest, scene.intent(0).digest());
    let shares = admission.shares;
    assert_eq!(
        (shares.treasury, shares.facilitator, shares.recipients[0]),
        (100, 200, 9_700)
    );
    assert_eq!(admission.reserve(&[]), Ok(()));
    assert_eq!(admission.item.nonce_account, nonce_account());
}

#[test]
fn version_1_is_admitted() {
    let scene = Scene::default();
    let payment = parse(scene.body_v1(scene.intent(1))).unwrap();
    let admission = judge(&scene.snapshot(), &payment, &settler()).unwrap();
    assert_eq!(admission.digest, scene.intent(1).digest());
}

#[test]
fn what_stops_everybody() {
    let (scene, intent) = with(|s| s.config.paused = 1);
    refused(&scene, intent, Reason::Paused);
    let (scene, intent) = with(|s| s.facilitator.suspended = 1);
    refused(&scene, intent, Reason::FacilitatorSuspended);
    let (scene, intent) = with(|s| s.facilitator.relayers[0] = [8; 32]);
    refused(&scene, intent, Reason::RelayerNotRegistered);
    let (scene, intent) = with(|s| s.accepted.as_mut().unwrap().flags = 0);
    refused(&scene, intent, Reason::MintDisabled);
}

/// The scene in a Token-2022 mint with these extensions, of which `allowed` are accepted.
fn in_2022(allowed: u64, extensions: &[(u16, &[u8])]) -> (Scene, UnsignedIntent) {
    with(|scene| {
        let accepted = scene.accepted.as_mut().unwrap();
        accepted.token_program = TOKEN_2022_PROGRAM.to_bytes();
        accepted.allowed_extensions = allowed;
        scene.mint = mint(TOKEN_2022_PROGRAM, extensions);
        scene.source.as_mut().unwrap().token_program = TOKEN_2022_PROGRAM;
    })
}

#[test]
fn a_mint_that_the_program_would_refuse() {
    let (scene, intent) = in_2022(0, &[]);
    let admission = judged(&scene, intent).unwrap();
    assert_eq!(admission.accounts.token_program, TOKEN_2022_PROGRAM);

    let fee = [0; 108];
    let (scene, intent) = in_2022(1 << 1, &[(1, &fee)]);
    judged(&scene, intent).unwrap();
    let (scene, intent) = in_2022(0, &[(1, &fee)]);
    let message = refused(&scene, intent, Reason::MintUnusable);
    assert!(message.contains("extension 1 (transfer fee)"), "{message}");
    for at in [88, 106] {
        let mut fee = fee;
        fee[at] = 1;
        let (scene, intent) = in_2022(1 << 1, &[(1, &fee)]);
        let message = refused(&scene, intent, Reason::MintUnusable);
        assert!(message.contains("fee"), "{message}");
    }
    let (scene, intent) = in_2022(1 << 14, &[(14, &[1; 64])]);
    refused(&scene, intent, Reason::MintUnusable);
    let (scene, intent) = in_2022(1 << 26, &[(26, &[1; 33])]);
    let message = refused(&scene, intent, Reason::MintUnusable);
    assert!(message.contains("paused"), "{message}");
    let (scene, intent) = in_2022(u64::MAX, &[(999, &[])]);
    refused(&scene, intent, Reason::MintUnusable);

    // Closed, and made anew as another mint.
    let (scene, intent) = with(|s| s.mint.data.clear());
    let message = refused(&scene, intent, Reason::MintUnusable);
    assert!(message.contains("closed"), "{message}");
    let (scene, intent) = with(|s| s.mint.data[44] = 9);
    refused(&scene, intent, Reason::MintUnusable);
    let (scene, intent) = with(|s| s.mint.owner = TOKEN_2022_PROGRAM);
    refused(&scene, intent, Reason::MintUnusable);
}

#[test]
fn the_service_and_its_mint() {
    let (scene, intent) = with(|s| s.service.status = SERVICE_CLOSED);
    let message = refused(&scene, intent, Reason::Requirements);
    assert!(message.contains("closed"), "{message}");

    let (scene, intent) = with(|s| s.accepted = None);
    let message = refused(&scene, intent, Reason::Requirements);
    assert!(message.contains("not accepted"), "{message}");

    // The requirement names the devnet mint; the service is paid in another one by now.
    let scene = Scene::default();
    let payment = scene.payment(scene.intent(1));
    let mut snapshot = scene.snapshot();
    let mut changed = scene.service;
    changed.mint = [3; 32];
    snapshot.service = Lookup::Found(changed);
    let rejection = judge(&snapshot, &payment, &settler()).unwrap_err();
    assert_eq!(rejection.reason, Reason::Requirements);
    assert!(rejection.message.contains("paid in"), "{rejection}");

    changed = scene.service;
    changed.facilitator = [3; 32];
    snapshot.service = Lookup::Found(changed);
    let rejection = judge(&snapshot, &payment, &settler()).unwrap_err();
    assert_eq!(rejection.reason, Reason::Requirements);

    snapshot.service = Lookup::Missing;
    let rejection = judge(&snapshot, &payment, &settler()).unwrap_err();
    assert!(rejection.message.contains("no service"), "{rejection}");

    // Terms that changed after the 402.
    changed = scene.service;
    changed.terms_hash = [4; 32];
    snapshot.service = Lookup::Found(changed);
    let rejection = judge(&snapshot, &payment, &settler()).unwrap_err();
    assert_eq!(rejection.reason, Reason::Requirements);
    assert!(rejection.message.contains("termsHash"), "{rejection}");
}

#[test]
fn the_nonce_account() {
    let (scene, intent) = with(|s| s.nonce = None);
    skipped(&scene, intent, Skip::AccountMissing);
    let (scene, intent) = with(|s| s.nonce.as_mut().unwrap().mint = [1; 32]);
    skipped(&scene, intent, Skip::MintMismatch);

    let scene = Scene::default();
    let payment = scene.payment(scene.intent(1));
    let mut snapshot = scene.snapshot();
    snapshot.nonce = Lookup::Wrong(sluice_sdk::DecodeError::Kind {
        kind: "NonceAccount",
    });
    let rejection = judge(&snapshot, &payment, &settler()).unwrap_err();
    assert_eq!(rejection.reason, Reason::Skip(Skip::AccountForeign));
    snapshot.nonce = Lookup::Wrong(sluice_sdk::DecodeError::Version {
        kind: "NonceAccount",
        version: 2,
    });
    let rejection = judge(&snapshot, &payment, &settler()).unwrap_err();
    assert_eq!(rejection.reason, Reason::Skip(Skip::AccountVersion));

    let mut intent = scene.intent(1);
    intent.opened_slot = OPENED + 1;
    let message = refused(&scene, intent, Reason::Skip(Skip::BadSignature));
    assert!(message.contains("opened in slot 42"), "{message}");
}

#[test]
fn lanes() {
    let scene = Scene::default();
    let mut intent = scene.intent(1);
    intent.lane = 2;
    skipped(&scene, intent, Skip::UnknownFlag);
    intent.lane = 0;
    skipped(&scene, intent, Skip::LaneClosed);

    let (scene, intent) = lane(|l| l.expires_at = NOW - 1);
    skipped(&scene, intent, Skip::LaneExpired);
    let (scene, intent) = lane(|l| {
        l.scope_kind = 1;
        l.scope_key = [1; 32];
    });
    skipped(&scene, intent, Skip::Scope);
    let (scene, intent) = lane(|l| {
        l.scope_kind = 1;
        l.scope_key = service().to_bytes();
    });
    assert!(judged(&scene, intent).is_ok());
    let (scene, intent) = lane(|l| l.max_per_payment = AMOUNT - 1);
    skipped(&scene, intent, Skip::OverMax);
    let (scene, intent) = lane(|l| l.period_limit = AMOUNT - 1);
    skipped(&scene, intent, Skip::OverPeriod);
    let (scene, intent) = lane(|l| l.total_limit = AMOUNT - 1);
    skipped(&scene, intent, Skip::OverTotal);
}

#[test]
fn nonces() {
    let (scene, _) = lane(|l| {
        l.top = 500;
        l.window = [0b11, 0, 0, 0];
    });
    skipped(&scene, scene.intent(500), Skip::NonceUsed);
    skipped(&scene, scene.intent(499), Skip::NonceUsed);
    skipped(&scene, scene.intent(244), Skip::NonceTooOld);
    skipped(&scene, scene.intent(629), Skip::NonceTooFar);
    assert!(judged(&scene, scene.intent(628)).is_ok());
    assert!(judged(&scene, scene.intent(245)).is_ok());
}

#[test]
fn amounts() {
    let (scene, intent) = with(|s| s.service.min_payment = AMOUNT + 1);
    skipped(&scene, intent, Skip::BelowMinimum);
    let (scene, intent) = with(|s| s.accepted.as_mut().unwrap().min_amount = AMOUNT + 1);
    skipped(&scene, intent, Skip::BelowMinimum);
    let (scene, intent) = with(|s| s.accepted.as_mut().unwrap().max_amount = AMOUNT - 1);
    skipped(&scene, intent, Skip::AboveMaximum);
}

#[test]
fn lives() {
    let at = |seconds: i64| {
        let scene = Scene::default();
        let mut intent = scene.intent(1);
        intent.expires_at = u32::try_from(NOW + seconds).unwrap();
        judged(&scene, intent).map_err(|rejection| rejection.reason)
    };
    assert_eq!(at(-1).unwrap_err(), Reason::Skip(Skip::Expired));
    assert_eq!(at(4).unwrap_err(), Reason::Skip(Skip::Expired));
    assert!(at(5).is_ok());
    // The server waits 60 s, and the clocks may differ by 10.
    assert!(at(70).is_ok());
    assert_eq!(at(71).unwrap_err(), Reason::Payload);
    assert_eq!(at(601).unwrap_err(), Reason::Skip(Skip::ExpiryTooFar));
}

#[test]
fn sources() {
    let (scene, intent) = with(|s| s.source = None);
    skipped(&scene, intent, Skip::SourceUnusable);
    let (scene, intent) = token(|t| t.mint = key(30));
    skipped(&scene, intent, Skip::SourceUnusable);
    let (scene, intent) = token(|t| t.token_program = TOKEN_2022_PROGRAM);
    skipped(&scene, intent, Skip::SourceUnusable);
    let (scene, intent) = token(|t| t.lets_out = false);
    skipped(&scene, intent, Skip::SourceUnusable);
    // What comes in does not matter to a payment.
    let (scene, intent) = token(|t| t.lets_in = false);
    judged(&scene, intent).unwrap();
    let (scene, intent) = token(|t| t.frozen = true);
    skipped(&scene, intent, Skip::SourceFrozen);
    let (scene, intent) = token(|t| t.owner = key(30));
    skipped(&scene, intent, Skip::OwnerChanged);
    let (scene, intent) = token(|t| t.delegate = None);
    skipped(&scene, intent, Skip::DelegateGone);
    let (scene, intent) = token(|t| t.delegate = Some((key(30), UNLIMITED)));
    skipped(&scene, intent, Skip::DelegateGone);
    let (scene, intent) = token(|t| t.delegate = Some((nonce_account(), AMOUNT - 1)));
    skipped(&scene, intent, Skip::DelegatedShort);
    let (scene, intent) = token(|t| t.amount = AMOUNT - 1);
    let rejection = judged(&scene, intent).unwrap_err();
    assert_eq!(rejection.reason.as_str(), "insufficient_funds");
}

#[test]
fn a_payer_cannot_pay_itself() {
    let legs: [fn(&Scene) -> [u8; 32]; 4] = [
        |s| s.service.vault,
        |s| s.accepted.unwrap().treasury_token,
        |s| s.service.recipients[0].token_account,
        |s| {
            let wallet = Address::new_from_array(s.facilitator.wallet);
            address::token_account(&wallet, &DEVNET_USDC, &TOKEN_PROGRAM).to_bytes()
        },
    ];
    for leg in legs {
        let (scene, intent) = with(|s| {
            let account = leg(s);
            let nonce: &mut NonceAccount = s.nonce.as_mut().unwrap();
            nonce.source = account;
        });
        skipped(&scene, intent, Skip::SelfPayment);
    }
}

#[test]
fn signatures() {
    let scene = Scene::default();
    let sign = |intent: UnsignedIntent, seed: u8| {
        let mut body = scene.body(intent);
        let signed = intent.sign(&keypair(seed)).unwrap();
        let payload = sluice_sdk::x402::SplitPayload::of_intent(&signed);
        body["paymentPayload"]["payload"] = json!(payload);
        judge(&scene.snapshot(), &parse(body).unwrap(), &settler()).map_err(|r| r.reason)
    };
    assert!(sign(scene.intent(1), 3).is_ok());
    let bad = Err(Reason::Skip(Skip::BadSignature));
    assert_eq!(sign(scene.intent(1), 2).map(|_| ()), bad);
    // Signed for another cluster, other terms, another amount.
    for change in [
        |i: &mut UnsignedIntent| i.genesis_hash = [1; 32],
        |i: &mut UnsignedIntent| i.terms_hash = [1; 32],
        |i: &mut UnsignedIntent| i.amount = AMOUNT - 1,
        |i: &mut UnsignedIntent| i.service = key(40),
    ] {
        let mut intent = scene.intent(1);
        change(&mut intent);
        assert_eq!(sign(intent, 3).map(|_| ()), bad);
    }
}

#[test]
fn what_is_in_flight_counts() {
    let scene = Scene::default();
    let of_slot = |opened_slot: u64, nonce: u64, amount: u64| InFlight {
        digest: [u8::try_from(nonce).unwrap(); 32],
        amount,
        nonce: Some(NonceKey {
            account: nonce_account(),
            opened_slot,
            lane: 1,
            nonce,
        }),
    };
    let other = |nonce: u64, amount: u64| of_slot(OPENED, nonce, amount);
    let admission = judged(&scene, scene.intent(1)).unwrap();
    let reason = |in_flight: &[InFlight]| admission.reserve(in_flight).unwrap_err().reason;
    // The agent may take 100,000 a payment; 500,000 are approved, the account holds 1,000,000.
    assert_eq!(admission.reserve(&[other(2, 100_000)]), Ok(()));
    let many: Vec<InFlight> = (2..7).map(|nonce| other(nonce, 100_000)).collect();
    assert_eq!(reason(&many), Reason::Skip(Skip::DelegatedShort));
    // The same nonce under another digest.
    assert_eq!(reason(&[other(1, 1)]), Reason::NonceConflict);
    // Its own row is no competitor, and one of a closed account neither.
    let own = InFlight {
        digest: admission.digest,
        ..other(1, AMOUNT)
    };
    assert_eq!(admission.reserve(&[own]), Ok(()));
    assert_eq!(
        admission.reserve(&[of_slot(OPENED - 1, 1, 1_000_000)]),
        Ok(())
    );
    // A transfer from the same token account needs no approval, and takes from what the account holds.
    let transfer = |amount: u64| InFlight {
        digest: [99; 32],
        amount,
        nonce: None,
    };
    assert_eq!(admission.reserve(&[transfer(1_000_000 - AMOUNT)]), Ok(()));
    assert_eq!(
        reason(&[transfer(1_000_001 - AMOUNT)]),
        Reason::Skip(Skip::BalanceShort)
    );
    // What landed by the snapshot is in its balances already.
    let (scene, intent) = lane(|l| {
        l.top = 3;
        l.window = [0b1, 0, 0, 0];
    });
    let admission = judged(&scene, intent).unwrap();
    assert_eq!(admission.reserve(&[other(3, 1_000_000)]), Ok(()));

    // Limits of the lane, as if everything in flight had landed.
    let (scene, intent) = lane(|l| l.period_limit = AMOUNT + 50);
    let admission = judged(&scene, intent).unwrap();
    let rejection = admission.reserve(&[other(2, 100)]).unwrap_err();
    assert_eq!(rejection.reason, Reason::Skip(Skip::OverPeriod));
    // Balance.
    let (scene, intent) = token(|t| t.amount = AMOUNT + 50);
    let admission = judged(&scene, intent).unwrap();
    let rejection = admission.reserve(&[other(2, 100)]).unwrap_err();
    assert_eq!(rejection.reason.as_str(), "insufficient_funds");
}

#[test]
fn requests_that_say_too_little_or_too_much() {
    let scene = Scene::default();
    let check = |change: &dyn Fn(&mut Value), reason: Reason, word: &str| {
        let mut body = scene.body(scene.intent(1));
        change(&mut body);
        let rejection = parse(body).unwrap_err();
        assert_eq!(rejection.reason, reason, "{rejection}");
        assert!(rejection.message.contains(word), "{rejection}");
    };
    // In both places, so that `accepted` stays equal.
    let both = |field: &'static str, value: Value| {
        move |body: &mut Value| {
            body["paymentRequirements"][field] = value.clone();
            body["paymentPayload"]["accepted"][field] = value.clone();
        }
    };
    let payload = |field: &'static str, value: Value| {
        move |body: &mut Value| body["paymentPayload"]["payload"][field] = value.clone()
    };
    let extra = |field: &'static str, value: Value| {
        move |body: &mut Value| {
            body["paymentRequirements"]["extra"][field] = value.clone();
            body["paymentPayload"]["accepted"]["extra"][field] = value.clone();
        }
    };
    check(&|b| b["x402Version"] = json!(3), Reason::X402Version, "3");
    check(
        &|b| b["x402Version"] = json!("2"),
        Reason::X402Version,
        "1 and 2",
    );
    check(
        &|b| b["paymentPayload"]["x402Version"] = json!(1),
        Reason::X402Version,
        "paymentPayload",
    );
    check(
        &both("scheme", json!("exact")),
        Reason::UnsupportedScheme,
        "exact",
    );
    check(
        &both("network", json!("eip155:1")),
        Reason::Network,
        "eip155:1",
    );
    check(
        &both("network", json!(Network::Mainnet.caip2())),
        Reason::Network,
        "settles on",
    );
    check(
        &both("payTo", json!("nobody")),
        Reason::Requirements,
        "payTo",
    );
    check(&both("asset", json!(7)), Reason::Requirements, "asset");
    check(&both("asset", json!("USD")), Reason::Requirements, "asset");
    for amount in ["", "-1", "+1", "1.5", "0x10", "18446744073709551616"] {
        check(
            &both("amount", json!(amount)),
            Reason::Requirements,
            "amount",
        );
    }
    check(
        &|b| b["paymentRequirements"]["amount"] = json!("1"),
        Reason::Requirements,
        "accepted",
    );
    // A field that no version knows counts as well.
    check(
        &|b| b["paymentRequirements"]["tip"] = json!(1),
        Reason::Requirements,
        "accepted",
    );
    check(
        &extra("termsHash", json!("00".repeat(32))),
        Reason::Requirements,
        "termsHash",
    );
    check(
        &extra("facilitatorBps", json!(4_000)),
        Reason::Requirements,
        "termsHash",
    );
    check(
        &extra("facilitator", json!(key(9).to_string())),
        Reason::Requirements,
        "extra.facilitator",
    );
    check(
        &extra("genesisHash", json!(key(9).to_string())),
        Reason::Requirements,
        "genesisHash",
    );
    check(
        &extra("program", json!(key(9).to_string())),
        Reason::Requirements,
        "program",
    );
    check(
        &extra("service", json!(key(9).to_string())),
        Reason::Requirements,
        "service",
    );
    check(
        &payload("nonceAccount", json!("??")),
        Reason::Payload,
        "nonceAccount",
    );
    check(
        &payload("signature", json!("0OIl")),
        Reason::Payload,
        "signature",
    );
    check(
        &payload("resource", json!("abc")),
        Reason::Payload,
        "resource",
    );
    check(
        &payload("openedSlot", json!("x")),
        Reason::Payload,
        "openedSlot",
    );
    check(&payload("nonce", json!("-4")), Reason::Payload, "nonce");
    check(
        &payload("expiresAt", json!("soon")),
        Reason::Payload,
        "expiresAt",
    );
    check(
        &|b| b["paymentPayload"]["payload"] = Value::Null,
        Reason::Payload,
        "payload",
    );

    let mut body = scene.body_v1(scene.intent(1));
    body["paymentPayload"]["network"] = json!("solana");
    assert_eq!(parse(body).unwrap_err().reason, Reason::Network);
    let mut body = scene.body_v1(scene.intent(1));
    body["paymentPayload"]["scheme"] = json!("exact");
    assert_eq!(parse(body).unwrap_err().reason, Reason::Scheme);

    // Without extra, or with what /supported gives alone, the chain's terms count.
    for extra in [
        Value::Null,
        json!({"facilitator": crate::scene::facilitator().to_string(), "feePayer": "x"}),
    ] {
        let mut body = scene.body(scene.intent(1));
        body["paymentRequirements"]["extra"] = extra.clone();
        body["paymentPayload"]["accepted"]["extra"] = extra;
        let payment = parse(body).unwrap();
        assert_eq!(payment.shown_digest(), None);
        assert!(judge(&scene.snapshot(), &payment, &settler()).is_ok());
    }
    assert_eq!(
        scene.payment(scene.intent(1)).shown_digest(),
        Some(scene.intent(1).digest())
    );
    assert_eq!(
        keypair(3).pubkey().to_bytes(),
        scene.nonce.unwrap().lanes[1].key
    );
}
