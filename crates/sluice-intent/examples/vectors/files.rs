//! What the vector files hold. The suite `vectors` uses the same types to read them back.
//!
//! Fields of a type keep their order in the file. Numbers that may pass 2^53 are strings, as many languages
//! read JSON numbers as doubles.
#![allow(dead_code)]

use std::io;
use std::path::PathBuf;
use std::str::FromStr;

use bytemuck::Zeroable;
use ed25519_dalek::{Signer, SigningKey};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use sluice_intent::split::{self, Fees, SplitError};
use sluice_intent::{
    Entry, Flags, Intent, Key, Lane, LaneTerms, Recipient, Scope, Skip, Spend, Terms, TermsError,
    UNLIMITED, Window, intent, resource,
};

use crate::edge_cases;

/// Where the files are.
pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors")
}

/// Every file: its name and its text.
pub fn all() -> Vec<(&'static str, String)> {
    vec![
        ("intent.json", text(&intents(), 2)),
        ("terms.json", text(&terms(), 2)),
        ("resource.json", text(&resources(), 2)),
        ("entry.json", text(&entries(), 2)),
        ("window.json", text(&windows(), 4)),
        ("lane.json", text(&lanes(), 4)),
        ("split.json", text(&splits(), 2)),
        ("ed25519.json", text(&signatures(), 2)),
    ]
}

/// A number as a decimal string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dec<T>(pub T);

impl<T: ToString> Serialize for Dec<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_string())
    }
}

impl<'de, T: FromStr> Deserialize<'de> for Dec<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse()
            .map(Self)
            .map_err(|_| D::Error::custom("not a number of this size"))
    }
}

/// Bytes as lower-case hex.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hex<T>(pub T);

impl<T: AsRef<[u8]>> Serialize for Hex<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(&self.0))
    }
}

impl<'de, T: TryFrom<Vec<u8>>> Deserialize<'de> for Hex<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = hex::decode(text).map_err(D::Error::custom)?;
        T::try_from(bytes)
            .map(Self)
            .map_err(|_| D::Error::custom("not this many bytes"))
    }
}

/// Writes JSON with one case a line: what lies deeper than `expanded` stays on its line.
struct Lines {
    expanded: usize,
    depth: usize,
}

impl Lines {
    fn open<W: ?Sized + io::Write>(&mut self, out: &mut W, sign: &[u8]) -> io::Result<()> {
        self.depth += 1;
        out.write_all(sign)
    }

    fn close<W: ?Sized + io::Write>(&mut self, out: &mut W, sign: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        if self.depth < self.expanded {
            self.line(out)?;
        }
        out.write_all(sign)
    }

    fn next<W: ?Sized + io::Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if !first {
            out.write_all(b",")?;
        }
        if self.depth <= self.expanded {
            self.line(out)
        } else if first {
            Ok(())
        } else {
            out.write_all(b" ")
        }
    }

    fn line<W: ?Sized + io::Write>(&self, out: &mut W) -> io::Result<()> {
        out.write_all(b"\n")?;
        out.write_all(&b"  ".repeat(self.depth))
    }
}

impl serde_json::ser::Formatter for Lines {
    fn begin_array<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.open(out, b"[")
    }
    fn end_array<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.close(out, b"]")
    }
    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.next(out, first)
    }
    fn begin_object<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.open(out, b"{")
    }
    fn end_object<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.close(out, b"}")
    }
    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.next(out, first)
    }
    fn begin_object_value<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }
}

fn text<T: Serialize>(file: &T, expanded: usize) -> String {
    let mut out = Vec::new();
    let lines = Lines { expanded, depth: 0 };
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, lines);
    file.serialize(&mut serializer).unwrap();
    out.push(b'\n');
    String::from_utf8(out).unwrap()
}

/// Reads a file that is checked in.
pub fn read<T: DeserializeOwned>(name: &str) -> T {
    let text = std::fs::read_to_string(folder().join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// A key with a known name.
fn key(name: &str) -> Key {
    let mut hasher = Sha256::new();
    hasher.update(b"sluice vectors: ");
    hasher.update(name);
    hasher.finalize().into()
}

/// The name of an outcome: `done`, or the reason's name on the wire.
fn outcome<T>(result: &Result<T, Skip>, done: &str) -> String {
    match result {
        Ok(_) => done.into(),
        Err(skip) => skip.name().into(),
    }
}

// intent.json

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct IntentFile {
    pub secret_seed: Hex<[u8; 32]>,
    pub public_key: Hex<[u8; 32]>,
    pub cases: Vec<IntentCase>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct IntentCase {
    pub name: String,
    pub genesis_hash: Hex<[u8; 32]>,
    pub program_id: Hex<[u8; 32]>,
    pub nonce_account: Hex<[u8; 32]>,
    pub opened_slot: Dec<u64>,
    pub lane: u8,
    pub service: Hex<[u8; 32]>,
    pub terms_hash: Hex<[u8; 32]>,
    pub amount: Dec<u64>,
    pub nonce: Dec<u64>,
    pub expires_at: Dec<i64>,
    pub resource: Hex<[u8; 16]>,
    pub digest: Hex<[u8; 32]>,
    pub message: Hex<[u8; 40]>,
    pub signature: Hex<[u8; 64]>,
}

impl IntentCase {
    pub fn as_intent(&self) -> Intent<'_> {
        Intent {
            genesis_hash: &self.genesis_hash.0,
            program_id: &self.program_id.0,
            nonce_account: &self.nonce_account.0,
            opened_slot: self.opened_slot.0,
            lane: self.lane,
            service: &self.service.0,
            terms_hash: &self.terms_hash.0,
            amount: self.amount.0,
            nonce: self.nonce.0,
            expires_at: self.expires_at.0,
            resource: self.resource.0,
        }
    }
}

/// The seed of the one key that signs the intents. It is public: nothing of value may ever be behind it.
const SEED: [u8; 32] = [0x51; 32];

/// An ordinary payment, for the terms and the resource that open the files of those.
fn ordinary() -> IntentCase {
    let terms = &terms().cases[0];
    let resource = &resources().requests[0];
    IntentCase {
        name: "ordinary".into(),
        genesis_hash: Hex(key("genesis")),
        program_id: Hex(key("program")),
        nonce_account: Hex(key("nonce account")),
        opened_slot: Dec(350_000_000),
        lane: 0,
        service: terms.service.clone(),
        terms_hash: terms.hash.clone().unwrap(),
        amount: Dec(10_000),
        nonce: Dec(7),
        expires_at: Dec(1_790_000_000),
        resource: resource.resource.clone(),
        digest: Hex([0; 32]),
        message: Hex([0; 40]),
        signature: Hex([0; 64]),
    }
}

fn intents() -> IntentFile {
    /// Name, and what the case changes of the ordinary payment.
    type Change = (&'static str, fn(&mut IntentCase));
    let changed: [Change; 14] = [
        ("ordinary", |_| {}),
        ("another cluster", |case| case.genesis_hash.0[0] ^= 1),
        ("another program", |case| case.program_id.0[31] ^= 0x80),
        ("another nonce account", |case| {
            case.nonce_account = Hex(key("another"))
        }),
        ("the account opened a slot later", |case| {
            case.opened_slot.0 += 1
        }),
        ("the session lane", |case| case.lane = 1),
        ("another service", |case| case.service = Hex(key("another"))),
        ("other terms", |case| case.terms_hash = Hex(key("other"))),
        ("one unit more", |case| case.amount.0 += 1),
        ("the next nonce", |case| case.nonce.0 += 1),
        ("a second later", |case| case.expires_at.0 += 1),
        ("another resource", |case| case.resource.0[15] ^= 1),
        ("everything zero", |case| {
            for key in [
                &mut case.genesis_hash,
                &mut case.program_id,
                &mut case.nonce_account,
                &mut case.service,
                &mut case.terms_hash,
            ] {
                key.0 = [0; 32];
            }
            case.resource.0 = [0; 16];
            (case.opened_slot, case.lane) = (Dec(0), 0);
            (case.amount, case.nonce, case.expires_at) = (Dec(0), Dec(0), Dec(0));
        }),
        // No entry of the wire can carry this expiry, as it has 32 bits for it; the digest has 64.
        ("every number at its end", |case| {
            (case.opened_slot, case.lane) = (Dec(u64::MAX), u8::MAX);
            (case.amount, case.nonce) = (Dec(u64::MAX), Dec(u64::MAX));
            case.expires_at = Dec(i64::MIN);
        }),
    ];
    let signer = SigningKey::from_bytes(&SEED);
    let cases = changed
        .into_iter()
        .map(|(name, change)| {
            let mut case = ordinary();
            case.name = name.into();
            change(&mut case);
            let digest = case.as_intent().digest();
            let message = intent::message(&digest);
            case.signature = Hex(signer.sign(&message).to_bytes());
            case.digest = Hex(digest);
            case.message = Hex(message);
            case
        })
        .collect();
    IntentFile {
        secret_seed: Hex(SEED),
        public_key: Hex(signer.verifying_key().to_bytes()),
        cases,
    }
}

// terms.json

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TermsFile {
    pub cases: Vec<TermsCase>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TermsCase {
    pub name: String,
    pub service: Hex<[u8; 32]>,
    pub mint: Hex<[u8; 32]>,
    pub facilitator: Hex<[u8; 32]>,
    pub facilitator_bps: u16,
    pub facilitator_fixed: Dec<u64>,
    pub treasury_bps: u16,
    pub recipients: Vec<RecipientCase>,
    pub hash: Option<Hex<[u8; 32]>>,
    pub error: Option<String>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RecipientCase {
    pub owner: Hex<[u8; 32]>,
    pub token_account: Hex<[u8; 32]>,
    pub bps: u16,
}

impl TermsCase {
    pub fn rows(&self) -> Vec<Recipient> {
        self.recipients
            .iter()
            .map(|row| Recipient {
                owner: row.owner.0,
                token_account: row.token_account.0,
                bps: row.bps,
            })
            .collect()
    }

    pub fn as_terms<'a>(&self, rows: &'a [Recipient]) -> Terms<'a> {
        Terms {
            service: self.service.0,
            mint: self.mint.0,
            facilitator: self.facilitator.0,
            facilitator_bps: self.facilitator_bps,
            facilitator_fixed: self.facilitator_fixed.0,
            treasury_bps: self.treasury_bps,
            recipients: rows,
        }
    }
}

pub fn terms_error_name(error: TermsError) -> &'static str {
    match error {
        TermsError::RecipientCount => "recipient_count",
        TermsError::RecipientShares => "recipient_shares",
        TermsError::DuplicateRecipient => "duplicate_recipient",
        TermsError::TreasuryShare => "treasury_share",
        TermsError::FacilitatorShare => "facilitator_share",
    }
}

fn terms() -> TermsFile {
    let rows = |shares: &[u16]| -> Vec<RecipientCase> {
        shares
            .iter()
            .enumerate()
            .map(|(i, bps)| RecipientCase {
                owner: Hex(key(&format!("owner {i}"))),
                token_account: Hex(key(&format!("token account {i}"))),
                bps: *bps,
            })
            .collect()
    };
    let case = |name: &str, shares: &[u16], change: fn(&mut TermsCase)| {
        let mut case = TermsCase {
            name: name.into(),
            service: Hex(key("service")),
            mint: Hex(key("mint")),
            facilitator: Hex(key("facilitator")),
            facilitator_bps: 250,
            facilitator_fixed: Dec(1_000),
            treasury_bps: 100,
            recipients: rows(shares),
            hash: None,
            error: None,
        };
        change(&mut case);
        let rows = case.rows();
        let terms = case.as_terms(&rows);
        let (hash, error) = (terms.hash(), terms.validate());
        case.hash = hash.ok().map(Hex);
        case.error = error.err().map(|error| terms_error_name(error).into());
        case
    };
    TermsFile {
        cases: vec![
            case("ordinary", &[9_000, 1_000], |_| {}),
            case("the other order", &[9_000, 1_000], |case| {
                case.recipients.reverse()
            }),
            case("one recipient", &[10_000], |_| {}),
            case("eight recipients", &[1_250; 8], |_| {}),
            case("a share of one basis point", &[1, 9_999], |_| {}),
            case("no fees", &[10_000], |case| {
                (case.facilitator_bps, case.treasury_bps) = (0, 0);
                case.facilitator_fixed = Dec(0);
            }),
            case("fees at their caps", &[10_000], |case| {
                (case.facilitator_bps, case.treasury_bps) = (5_000, 1_000);
                case.facilitator_fixed = Dec(u64::MAX);
            }),
            case("no recipient", &[], |_| {}),
            case("nine recipients", &[1_250; 9], |_| {}),
            case("shares of 9,999", &[9_000, 999], |_| {}),
            case("shares of 10,001", &[9_000, 1_001], |_| {}),
            case("a share of nothing", &[10_000, 0], |_| {}),
            case("the same owner twice", &[5_000, 5_000], |case| {
                case.recipients[1].owner = case.recipients[0].owner.clone();
            }),
            case("a treasury over its cap", &[10_000], |case| {
                case.treasury_bps = 1_001
            }),
            case("a facilitator over its cap", &[10_000], |case| {
                case.facilitator_bps = 5_001;
            }),
        ],
    }
}

// resource.json

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceFile {
    pub requests: Vec<RequestCase>,
    pub identifiers: Vec<IdentifierCase>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RequestCase {
    pub method: String,
    pub url: String,
    pub body: Hex<Vec<u8>>,
    pub body_hash: Hex<[u8; 32]>,
    pub resource: Hex<[u8; 16]>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct IdentifierCase {
    pub identifier: Hex<Vec<u8>>,
    pub resource: Hex<[u8; 16]>,
}

fn resources() -> ResourceFile {
    let requests: [(&str, &str, &[u8]); 8] = [
        ("GET", "https://api.example/weather?city=Bern", b""),
        ("POST", "https://api.example/weather?city=Bern", b""),
        ("POST", "https://api.example/ask", b"{\"q\":\"why\"}"),
        // Joined without lengths these would read alike.
        ("a", "bc", b""),
        ("ab", "c", b""),
        ("", "", b""),
        // Lengths count bytes of UTF-8, not characters.
        ("GET", "https://b\u{fc}cher.example/\u{20ac}", b"\0\xff"),
        ("get", "https://api.example/weather?city=Bern", b""),
    ];
    let long = [0xa5; 300];
    let identifiers: [&[u8]; 5] = [
        b"",
        b"pay_7d5d747be160e280504c099d984bcfe0",
        b"abc",
        &[0],
        &long,
    ];
    ResourceFile {
        requests: requests
            .into_iter()
            .map(|(method, url, body)| {
                let body_hash = Sha256::digest(body).into();
                RequestCase {
                    method: method.into(),
                    url: url.into(),
                    body: Hex(body.to_vec()),
                    body_hash: Hex(body_hash),
                    resource: Hex(resource::of_request(method, url, &body_hash)),
                }
            })
            .collect(),
        identifiers: identifiers
            .into_iter()
            .map(|identifier| IdentifierCase {
                identifier: Hex(identifier.to_vec()),
                resource: Hex(resource::of_identifier(identifier)),
            })
            .collect(),
    }
}

// entry.json

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EntryFile {
    pub cases: Vec<EntryCase>,
    pub flags: Vec<FlagsCase>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EntryCase {
    pub name: String,
    pub signature: Hex<[u8; 64]>,
    pub amount: Dec<u64>,
    pub nonce: Dec<u64>,
    pub expires_at: u32,
    pub resource: Hex<[u8; 16]>,
    pub flags: u8,
    pub bytes: Hex<[u8; 101]>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FlagsCase {
    pub byte: u8,
    pub lane: Option<u8>,
    pub error: Option<String>,
}

impl EntryCase {
    pub fn as_entry(&self) -> Entry {
        Entry {
            signature: self.signature.0,
            amount: self.amount.0,
            nonce: self.nonce.0,
            expires_at: self.expires_at,
            resource: self.resource.0,
            flags: self.flags,
        }
    }
}

fn entries() -> EntryFile {
    let case = |name: &str, entry: Entry| EntryCase {
        name: name.into(),
        signature: Hex(entry.signature),
        amount: Dec(entry.amount),
        nonce: Dec(entry.nonce),
        expires_at: entry.expires_at,
        resource: Hex(entry.resource),
        flags: entry.flags,
        bytes: Hex(entry.encode()),
    };
    let of_intent = |index: usize| {
        let intent = &intents().cases[index];
        Entry {
            signature: intent.signature.0,
            amount: intent.amount.0,
            nonce: intent.nonce.0,
            expires_at: u32::try_from(intent.expires_at.0).unwrap(),
            resource: intent.resource.0,
            flags: Flags { lane: intent.lane }.to_byte(),
        }
    };
    EntryFile {
        cases: vec![
            case("the ordinary intent", of_intent(0)),
            case("the intent of the session lane", of_intent(5)),
            case("every byte zero", Entry::decode(&[0; 101])),
            case("every byte 255", Entry::decode(&[0xff; 101])),
            case(
                "every byte its place",
                Entry::decode(&core::array::from_fn(|i| i as u8)),
            ),
        ],
        flags: (0..=u8::MAX)
            .map(|byte| {
                let flags = Flags::parse(byte);
                FlagsCase {
                    byte,
                    lane: flags.ok().map(|flags| flags.lane),
                    error: flags.err().map(|skip| skip.name().into()),
                }
            })
            .collect(),
    }
}

// window.json

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct WindowFile {
    pub sequences: Vec<WindowSequence>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct WindowSequence {
    pub name: String,
    pub start: WindowState,
    pub steps: Vec<WindowStep>,
}

#[derive(Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct WindowState {
    pub top: Dec<u64>,
    pub bits: [Dec<u64>; 4],
    pub next: Option<Dec<u64>>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct WindowStep {
    pub nonce: Dec<u64>,
    pub result: String,
    pub state: WindowState,
}

impl WindowState {
    pub fn of(window: &Window) -> Self {
        Self {
            top: Dec(window.top),
            bits: window.bits.map(Dec),
            next: window.next().map(Dec),
        }
    }

    pub fn as_window(&self) -> Window {
        Window {
            top: self.top.0,
            bits: self.bits.map(|word| word.0),
        }
    }
}

fn windows() -> WindowFile {
    let sequence = |name: &str, start: Window, nonces: &[u64]| {
        let mut window = start;
        let steps = nonces
            .iter()
            .map(|nonce| {
                let taken = window.take(*nonce);
                window = taken.unwrap_or(window);
                WindowStep {
                    nonce: Dec(*nonce),
                    result: outcome(&taken, "taken"),
                    state: WindowState::of(&window),
                }
            })
            .collect();
        WindowSequence {
            name: name.into(),
            start: WindowState::of(&start),
            steps,
        }
    };
    let at = |top: u64| Window {
        top,
        bits: [1, 0, 0, 0],
    };
    let max = u64::MAX;
    let rising: Vec<u64> = (0..8).chain(0..8).collect();
    WindowFile {
        sequences: vec![
            sequence("rising, then again", Window::default(), &rising),
            sequence("out of order", Window::default(), &[3, 1, 0, 2, 2, 5, 4, 3]),
            sequence(
                "a first nonce far up",
                Window::default(),
                &[129, 128, 0, 1, 127, 256, 0, 1],
            ),
            sequence(
                "jumps at and over their limit",
                at(1_000),
                &[1_129, 1_128, 1_257, 1_256, 1_128, 1_000, 1_001],
            ),
            sequence(
                "the lower edge of the window",
                at(1_000),
                &[745, 744, 745, 743, 1_001, 745, 746, 747],
            ),
            sequence(
                "moves by words and across them",
                at(1_000),
                &[
                    999, 937, 936, 873, 1_001, 1_064, 1_065, 1_129, 1_193, 1_000, 999, 937, 938,
                ],
            ),
            sequence(
                "the last nonces there are",
                at(max - 130),
                &[
                    max,
                    max - 2,
                    max,
                    max - 1,
                    max,
                    0,
                    max - 255,
                    max - 256,
                    max - 130,
                ],
            ),
        ],
    }
}

// lane.json

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LaneFile {
    pub sequences: Vec<LaneSequence>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LaneSequence {
    pub name: String,
    pub steps: Vec<LaneStep>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum LaneStep {
    Set {
        now: Dec<i64>,
        key: Hex<[u8; 32]>,
        expires_at: Dec<i64>,
        max_per_payment: Dec<u64>,
        period_limit: Dec<u64>,
        period_secs: Dec<u64>,
        total_limit: Dec<u64>,
        scope_kind: u8,
        scope_key: Hex<[u8; 32]>,
        account: Hex<Vec<u8>>,
    },
    Pay {
        now: Dec<i64>,
        nonce: Dec<u64>,
        amount: Dec<u64>,
        service: Hex<[u8; 32]>,
        authority: Hex<[u8; 32]>,
        facilitator: Hex<[u8; 32]>,
        headroom: Dec<u64>,
        result: String,
        account: Hex<Vec<u8>>,
    },
}

/// Builds a sequence step by step.
struct LaneScript {
    name: &'static str,
    lane: Lane,
    now: i64,
    steps: Vec<LaneStep>,
}

const START: i64 = 1_790_000_000;

impl LaneScript {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            lane: Lane::zeroed(),
            now: START,
            steps: Vec::new(),
        }
    }

    fn set(mut self, terms: LaneTerms) -> Self {
        self.lane.set(&terms, self.now);
        let (scope_kind, scope_key) = terms.scope.to_parts();
        self.steps.push(LaneStep::Set {
            now: Dec(self.now),
            key: Hex(terms.key),
            expires_at: Dec(terms.expires_at),
            max_per_payment: Dec(terms.max_per_payment),
            period_limit: Dec(terms.period_limit),
            period_secs: Dec(terms.period_secs),
            total_limit: Dec(terms.total_limit),
            scope_kind,
            scope_key: Hex(scope_key),
            account: self.account(),
        });
        self
    }

    fn pay_to(
        mut self,
        nonce: u64,
        amount: u64,
        [service, authority, facilitator]: [Key; 3],
    ) -> Self {
        let headroom = self.lane.headroom(self.now);
        let update = self.lane.check(&Spend {
            nonce,
            amount,
            now: self.now,
            service: &service,
            authority: &authority,
            facilitator: &facilitator,
        });
        if let Ok(update) = update {
            self.lane.apply(update);
        }
        self.steps.push(LaneStep::Pay {
            now: Dec(self.now),
            nonce: Dec(nonce),
            amount: Dec(amount),
            service: Hex(service),
            authority: Hex(authority),
            facilitator: Hex(facilitator),
            headroom: Dec(headroom),
            result: outcome(&update, "paid"),
            account: self.account(),
        });
        self
    }

    fn pay(self, nonce: u64, amount: u64) -> Self {
        let places = [key("service"), key("authority"), key("facilitator")];
        self.pay_to(nonce, amount, places)
    }

    fn wait(mut self, secs: i64) -> Self {
        self.now += secs;
        self
    }

    fn account(&self) -> Hex<Vec<u8>> {
        Hex(bytemuck::bytes_of(&self.lane).to_vec())
    }

    fn done(self) -> LaneSequence {
        LaneSequence {
            name: self.name.into(),
            steps: self.steps,
        }
    }
}

fn lanes() -> LaneFile {
    let open = LaneTerms {
        key: key("lane key"),
        expires_at: i64::MAX,
        max_per_payment: UNLIMITED,
        period_limit: UNLIMITED,
        period_secs: 0,
        total_limit: UNLIMITED,
        scope: Scope::Any,
    };
    let limited = LaneTerms {
        max_per_payment: 60,
        period_limit: 100,
        period_secs: 3_600,
        total_limit: 250,
        ..open
    };
    let other = LaneTerms {
        key: key("other lane key"),
        ..limited
    };
    let closed = LaneTerms {
        key: [0; 32],
        ..open
    };
    let scoped = |scope| LaneTerms { scope, ..open };
    let (service, authority, facilitator) = (key("service"), key("authority"), key("facilitator"));
    let elsewhere = key("elsewhere");
    let script = LaneScript::new;
    LaneFile {
        sequences: vec![
            script("never set, then closed again")
                .pay(0, 1)
                .set(open)
                .pay(0, 1)
                .set(closed)
                .pay(1, 1)
                .done(),
            script("without limits")
                .set(open)
                .pay(0, u64::MAX)
                .pay(1, u64::MAX)
                .pay(2, 0)
                .done(),
            script("the limit of a payment, of a period and in all")
                .set(limited)
                .pay(0, 61)
                .pay(0, 60)
                .pay(1, 41)
                .pay(1, 40)
                .pay(2, 1)
                .wait(3_599)
                .pay(2, 1)
                .wait(1)
                .pay(2, 60)
                .pay(3, 40)
                .wait(36_000)
                .pay(4, 51)
                .pay(4, 50)
                .pay(5, 1)
                .done(),
            script("a refusal does not begin a period")
                .set(limited)
                .pay(0, 60)
                .wait(7_300)
                .pay(1, 61)
                .pay(0, 1)
                .pay(1, 5)
                .done(),
            script("limits of nothing")
                .set(LaneTerms {
                    max_per_payment: 0,
                    ..open
                })
                .pay(0, 1)
                .set(LaneTerms {
                    period_limit: 0,
                    period_secs: 1,
                    ..open
                })
                .pay(0, 1)
                .set(LaneTerms {
                    total_limit: 0,
                    ..open
                })
                .pay(0, 1)
                .pay(0, 0)
                .done(),
            script("a period limit without a period")
                .set(LaneTerms {
                    period_limit: 1,
                    ..open
                })
                .pay(0, 500)
                .done(),
            script("a period longer than time")
                .set(LaneTerms {
                    period_limit: 10,
                    period_secs: u64::MAX,
                    ..open
                })
                .pay(0, 10)
                .wait(1_000_000_000)
                .pay(1, 1)
                .done(),
            script("the last second of a key")
                .set(LaneTerms {
                    expires_at: START + 10,
                    ..open
                })
                .wait(10)
                .pay(0, 1)
                .wait(1)
                .pay(1, 1)
                .done(),
            script("one key, another, and the first again")
                .set(limited)
                .pay(0, 60)
                .pay(1, 40)
                .set(other)
                .pay(1, 5)
                .pay(2, 5)
                .set(limited)
                .pay(2, 5)
                .pay(3, 60)
                .done(),
            script("other limits for the same key")
                .set(limited)
                .pay(0, 60)
                .set(LaneTerms {
                    total_limit: 50,
                    ..limited
                })
                .pay(1, 0)
                .set(LaneTerms {
                    period_limit: 65,
                    ..limited
                })
                .pay(1, 6)
                .pay(1, 5)
                .done(),
            script("scopes")
                .set(scoped(Scope::Service(service)))
                .pay_to(0, 1, [service, elsewhere, elsewhere])
                .pay_to(1, 1, [elsewhere, service, service])
                .set(scoped(Scope::Authority(authority)))
                .pay_to(1, 1, [elsewhere, authority, elsewhere])
                .pay_to(2, 1, [authority, elsewhere, authority])
                .set(scoped(Scope::Facilitator(facilitator)))
                .pay_to(2, 1, [elsewhere, elsewhere, facilitator])
                .pay_to(3, 1, [facilitator, facilitator, elsewhere])
                .done(),
            script("nonces")
                .set(open)
                .pay(129, 1)
                .pay(128, 1)
                .pay(128, 1)
                .pay(256, 1)
                .pay(0, 1)
                .done(),
        ],
    }
}

// split.json

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SplitFile {
    pub cases: Vec<SplitCase>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SplitCase {
    pub name: String,
    pub sum: Dec<u64>,
    pub payments: Dec<u64>,
    pub treasury_bps: u16,
    pub facilitator_bps: u16,
    pub facilitator_fixed: Dec<u64>,
    pub recipient_bps: Vec<u16>,
    pub shares: Option<SharesCase>,
    pub error: Option<String>,
}

#[derive(Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct SharesCase {
    pub treasury: Dec<u64>,
    pub facilitator: Dec<u64>,
    pub recipients: Vec<Dec<u64>>,
}

impl SplitCase {
    pub fn compute(&self) -> Result<SharesCase, SplitError> {
        let fees = Fees {
            treasury_bps: self.treasury_bps,
            facilitator_bps: self.facilitator_bps,
            facilitator_fixed: self.facilitator_fixed.0,
        };
        let shares = split::split(self.sum.0, self.payments.0, &fees, &self.recipient_bps)?;
        let recipients = &shares.recipients[..self.recipient_bps.len()];
        Ok(SharesCase {
            treasury: Dec(shares.treasury),
            facilitator: Dec(shares.facilitator),
            recipients: recipients.iter().copied().map(Dec).collect(),
        })
    }
}

pub fn split_error_name(error: SplitError) -> &'static str {
    match error {
        SplitError::Recipients => "recipients",
        SplitError::Treasury => "treasury",
    }
}

fn splits() -> SplitFile {
    let max = u64::MAX;
    /// Name, sum and payments, fees, recipients.
    type Row<'a> = (&'a str, (u64, u64), (u16, u16, u64), &'a [u16]);
    let rows: [Row<'_>; 24] = [
        ("one payment", (10_000, 1), (100, 250, 7), &[9_000, 1_000]),
        (
            "a batch",
            (1_000_003, 12),
            (100, 250, 1_000),
            &[3_334, 3_333, 3_333],
        ),
        ("nothing", (0, 0), (1_000, 5_000, max), &[10_000]),
        ("one unit", (1, 1), (1_000, 5_000, max), &[1, 9_999]),
        ("two units", (2, 1), (1_000, 5_000, max), &[1, 9_999]),
        ("the largest sum", (max, 1), (1_000, 5_000, 0), &[10_000]),
        (
            "the largest sum among eight",
            (max, 1),
            (333, 777, 13),
            &[1_250; 8],
        ),
        (
            "the largest of everything",
            (max, max),
            (1_000, 5_000, max),
            &[1_250; 8],
        ),
        ("one below a whole", (9_999, 1), (1, 1, 0), &[10_000]),
        ("a whole", (10_000, 1), (1, 1, 0), &[10_000]),
        ("one above a whole", (10_001, 1), (1, 1, 0), &[10_000]),
        ("no fees", (12_345, 3), (0, 0, 0), &[10_000]),
        (
            "the remainder to the first",
            (15, 1),
            (0, 0, 0),
            &[1_250; 8],
        ),
        (
            "a first share of almost nothing",
            (7, 1),
            (0, 0, 0),
            &[1, 3_333, 3_333, 3_333],
        ),
        ("a fixed fee at the cap", (100, 1), (0, 0, 50), &[10_000]),
        ("a fixed fee over the cap", (101, 2), (0, 0, 26), &[10_000]),
        (
            "both fees over the cap",
            (1_000, 1),
            (1_000, 4_999, 2),
            &[10_000],
        ),
        (
            "a fixed fee that would overflow",
            (1_000, 2),
            (0, 0, 1 << 63),
            &[10_000],
        ),
        (
            "the whole to the treasury",
            (max, 1),
            (10_000, 5_000, 1),
            &[10_000],
        ),
        (
            "a recipient without a share",
            (9, 1),
            (0, 0, 0),
            &[0, 10_000],
        ),
        ("no recipient", (100, 1), (0, 0, 0), &[]),
        (
            "nine recipients",
            (100, 1),
            (0, 0, 0),
            &[
                1_112, 1_111, 1_111, 1_111, 1_111, 1_111, 1_111, 1_111, 1_111,
            ],
        ),
        ("shares of 9,999", (100, 1), (0, 0, 0), &[9_999]),
        (
            "a treasury over the whole",
            (100, 1),
            (10_001, 0, 0),
            &[10_000],
        ),
    ];
    let cases = rows.into_iter().map(
        |(name, (sum, payments), (treasury_bps, facilitator_bps, fixed), recipient_bps)| {
            let mut case = SplitCase {
                name: name.into(),
                sum: Dec(sum),
                payments: Dec(payments),
                treasury_bps,
                facilitator_bps,
                facilitator_fixed: Dec(fixed),
                recipient_bps: recipient_bps.to_vec(),
                shares: None,
                error: None,
            };
            match case.compute() {
                Ok(shares) => case.shares = Some(shares),
                Err(error) => case.error = Some(split_error_name(error).into()),
            }
            case
        },
    );
    SplitFile {
        cases: cases.collect(),
    }
}

// ed25519.json

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SignatureFile {
    pub cases: Vec<SignatureCase>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SignatureCase {
    pub name: String,
    pub key: Hex<[u8; 32]>,
    pub message: Hex<Vec<u8>>,
    pub signature: Hex<[u8; 64]>,
    pub valid: bool,
    pub equation: String,
}

fn signatures() -> SignatureFile {
    SignatureFile {
        cases: edge_cases::all()
            .into_iter()
            .map(|case| {
                let equation = edge_cases::equation(&case.key, &case.message, &case.signature);
                SignatureCase {
                    name: case.name,
                    key: Hex(case.key),
                    message: Hex(case.message),
                    signature: Hex(case.signature),
                    valid: case.valid,
                    equation: equation.name().into(),
                }
            })
            .collect(),
    }
}
