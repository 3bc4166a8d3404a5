//! A deployment with one service and its payers, as accounts.

use bytemuck::Zeroable;
use serde_json::{Value, json};
use sluice_intent::{Lane, UNLIMITED};
use sluice_relayer::{
    chain::{CLOCK, RawAccount},
    request::{Home, Payment},
    snapshot::{Lookup, Snapshot},
    verify::Settler,
};
use sluice_sdk::{
    Address, DEVNET_USDC, PROGRAM_ID, UnsignedIntent,
    accounts::{
        AcceptedMint, Config, Facilitator, MINT_SETTLES, NonceAccount, SERVICE_ACTIVE, Service,
        SluiceAccount, VERSION,
    },
    address,
    token::{self, Mint, TOKEN_PROGRAM, TokenAccount},
    x402::{FacilitatorRequest, Network, SCHEME, SplitExtra, SplitPayload},
};
use solana_keypair::Keypair;
use solana_program_pack::Pack;
use solana_signer::Signer;
use spl_token_interface::state::{Account, AccountState};

pub const NOW: i64 = 1_900_000_000;
pub const GENESIS: [u8; 32] = [77; 32];
pub const OPENED: u64 = 42;
pub const AMOUNT: u64 = 10_000;

#[derive(Clone)]
pub struct Scene {
    pub now: i64,
    pub config: Config,
    pub facilitator: Facilitator,
    pub accepted: Option<AcceptedMint>,
    pub mint: RawAccount,
    pub service: Service,
    pub nonce: Option<NonceAccount>,
    pub source: Option<TokenAccount>,
    pub relayer_lamports: u64,
    /// What a second fee payer holds; there is none if nothing.
    pub second_lamports: Option<u64>,
    /// How many payers there are beside the first, with the same lanes and as much money each.
    pub others: u8,
}

pub fn keypair(seed: u8) -> Keypair {
    Keypair::new_from_array([seed; 32])
}

pub fn key(seed: u8) -> Address {
    Address::new_from_array(keypair(seed).pubkey().to_bytes())
}

pub fn relayer() -> Address {
    key(1)
}
pub fn payer() -> Address {
    key(2)
}
/// The key of lane 1.
pub fn agent() -> Keypair {
    keypair(3)
}
pub fn facilitator() -> Address {
    address::facilitator(&key(4)).0
}
pub fn service() -> Address {
    address::service(&key(5), 7).0
}
/// Another fee payer's key.
pub fn second() -> Keypair {
    keypair(10)
}
/// The first payer is 0.
pub fn payer_of(index: u8) -> Address {
    if index == 0 {
        payer()
    } else {
        key(100 + index)
    }
}
pub fn nonce_account_of(index: u8) -> Address {
    address::nonce_account(&payer_of(index), &DEVNET_USDC).0
}
pub fn nonce_account() -> Address {
    address::nonce_account(&payer(), &DEVNET_USDC).0
}
pub fn source() -> Address {
    address::token_account(&payer(), &DEVNET_USDC, &TOKEN_PROGRAM)
}

/// Whom transfers pay that pay no service.
pub fn merchant() -> Address {
    key(11)
}
/// The merchant's token account.
pub fn till() -> Address {
    address::token_account(&merchant(), &DEVNET_USDC, &TOKEN_PROGRAM)
}
pub fn vault() -> Address {
    address::token_account(&service(), &DEVNET_USDC, &TOKEN_PROGRAM)
}

fn token_of(owner: Address, amount: u64) -> TokenAccount {
    TokenAccount {
        token_program: TOKEN_PROGRAM,
        mint: DEVNET_USDC,
        owner,
        amount,
        delegate: None,
        frozen: false,
        lets_out: true,
        lets_in: true,
    }
}

pub fn home() -> Home {
    Home {
        network: Network::Devnet,
        genesis_hash: GENESIS,
        facilitator: facilitator(),
    }
}

pub fn settler() -> Settler {
    Settler {
        relayers: vec![relayer()],
        facilitator: facilitator(),
        margin_secs: 5,
    }
}

impl Default for Scene {
    fn default() -> Self {
        let mut config = Config::zeroed();
        config.genesis_hash = GENESIS;
        config.max_intent_ttl = 600;
        config.version = VERSION;
        config.treasury = key(9).to_bytes();

        let mut of = Facilitator::zeroed();
        of.version = VERSION;
        of.creator = key(4).to_bytes();
        of.authority = key(4).to_bytes();
        of.wallet = key(6).to_bytes();
        of.relayers[0] = relayer().to_bytes();
        of.relayer_count = 1;

        let mut accepted = AcceptedMint::zeroed();
        accepted.version = VERSION;
        accepted.mint = DEVNET_USDC.to_bytes();
        accepted.token_program = TOKEN_PROGRAM.to_bytes();
        accepted.treasury_token =
            address::token_account(&key(9), &DEVNET_USDC, &TOKEN_PROGRAM).to_bytes();
        accepted.decimals = 6;
        accepted.min_amount = 10;
        accepted.max_amount = 1_000_000_000;
        accepted.flags = MINT_SETTLES;

        let mut split = Service::zeroed();
        split.version = VERSION;
        split.id = 7;
        split.creator = key(5).to_bytes();
        split.authority = key(5).to_bytes();
        split.mint = DEVNET_USDC.to_bytes();
        split.facilitator = facilitator().to_bytes();
        split.vault = address::token_account(&service(), &DEVNET_USDC, &TOKEN_PROGRAM).to_bytes();
        split.status = SERVICE_ACTIVE;
        split.min_payment = 100;
        split.facilitator_bps = 200;
        split.treasury_bps = 100;
        split.recipient_count = 1;
        split.recipients[0].owner = key(5).to_bytes();
        split.recipients[0].token_account =
            address::token_account(&key(5), &DEVNET_USDC, &TOKEN_PROGRAM).to_bytes();
        split.recipients[0].bps = 10_000;
        split.terms_hash = split.compute_terms_hash(&service()).unwrap();

        let mut nonce = NonceAccount::zeroed();
        nonce.version = VERSION;
        nonce.opened_slot = OPENED;
        nonce.payer = payer().to_bytes();
        nonce.mint = DEVNET_USDC.to_bytes();
        nonce.source = source().to_bytes();
        nonce.lanes[1] = Lane {
            key: agent().pubkey().to_bytes(),
            expires_at: i64::MAX,
            max_per_payment: 100_000,
            period_limit: 1_000_000,
            period_secs: 3_600,
            period_start: NOW,
            total_limit: UNLIMITED,
            ..Lane::zeroed()
        };
        let source = TokenAccount {
            token_program: TOKEN_PROGRAM,
            mint: DEVNET_USDC,
            owner: payer(),
            amount: 1_000_000,
            delegate: Some((nonce_account(), 500_000)),
            frozen: false,
            lets_out: true,
            lets_in: true,
        };
        Self {
            now: NOW,
            config,
            facilitator: of,
            accepted: Some(accepted),
            mint: mint(TOKEN_PROGRAM, &[]),
            service: split,
            nonce: Some(nonce),
            source: Some(source),
            relayer_lamports: 1_000_000_000,
            second_lamports: None,
            others: 0,
        }
    }
}

impl Scene {
    pub fn snapshot(&self) -> Snapshot {
        fn lookup<T: Copy>(value: Option<T>) -> Lookup<T> {
            value.map_or(Lookup::Missing, Lookup::Found)
        }
        Snapshot {
            now: self.now,
            config: self.config,
            facilitator: self.facilitator,
            accepted: lookup(self.accepted),
            mint: self.mint(),
            service: Lookup::Found(self.service),
            nonce: lookup(self.nonce),
            source: self.source,
        }
    }

    fn mint(&self) -> Option<Mint> {
        token::decode_mint(&self.mint.owner, &self.mint.data)
    }

    pub fn accounts(&self) -> Vec<(Address, RawAccount)> {
        let mut accounts = vec![
            (CLOCK, clock(self.now)),
            (address::config().0, raw(&self.config)),
            (facilitator(), raw(&self.facilitator)),
            (service(), raw(&self.service)),
            (DEVNET_USDC, self.mint.clone()),
            (relayer(), lamports_of(self.relayer_lamports)),
            (vault(), raw_token(&token_of(service(), 0))),
            (till(), raw_token(&token_of(merchant(), 0))),
        ];
        if let Some(accepted) = &self.accepted {
            accounts.push((address::accepted_mint(&DEVNET_USDC).0, raw(accepted)));
        }
        if let Some(nonce) = &self.nonce {
            accounts.push((nonce_account(), raw(nonce)));
        }
        if let Some(token) = &self.source {
            accounts.push((source(), raw_token(token)));
        }
        if let Some(lamports) = self.second_lamports {
            accounts.push((key(10), lamports_of(lamports)));
        }
        for index in 1..=self.others {
            let owner = payer_of(index);
            let source = address::token_account(&owner, &DEVNET_USDC, &TOKEN_PROGRAM);
            let mut nonce = self.nonce.unwrap();
            nonce.payer = owner.to_bytes();
            nonce.source = source.to_bytes();
            let mut token = self.source.unwrap();
            token.owner = owner;
            token.delegate = token
                .delegate
                .map(|(_, amount)| (nonce_account_of(index), amount));
            accounts.push((nonce_account_of(index), raw(&nonce)));
            accounts.push((source, raw_token(&token)));
        }
        accounts
    }

    /// An intent of the agent for this service, as the payer's side would make it.
    pub fn intent(&self, nonce: u64) -> UnsignedIntent {
        UnsignedIntent {
            genesis_hash: GENESIS,
            nonce_account: nonce_account(),
            opened_slot: OPENED,
            lane: 1,
            service: service(),
            terms_hash: self.service.terms_hash,
            amount: AMOUNT,
            nonce,
            expires_at: u32::try_from(self.now + 60).unwrap(),
            resource: [5; 16],
        }
    }

    /// An intent of one of several payers.
    pub fn intent_of(&self, payer: u8, nonce: u64) -> UnsignedIntent {
        UnsignedIntent {
            nonce_account: nonce_account_of(payer),
            ..self.intent(nonce)
        }
    }

    pub fn requirements(&self) -> Value {
        json!({
            "scheme": SCHEME,
            "network": Network::Devnet.caip2(),
            "amount": AMOUNT.to_string(),
            "asset": DEVNET_USDC.to_string(),
            "payTo": service().to_string(),
            "maxTimeoutSeconds": 60,
            "extra": serde_json::to_value(SplitExtra::of_service(&service(), &self.service, &GENESIS)).unwrap(),
        })
    }

    /// A version 2 body with an intent that the agent signs.
    pub fn body(&self, intent: UnsignedIntent) -> Value {
        let signed = intent.sign(&agent()).unwrap();
        let requirements = self.requirements();
        json!({
            "x402Version": 2,
            "paymentPayload": {
                "x402Version": 2,
                "accepted": requirements,
                "payload": SplitPayload::of_intent(&signed),
            },
            "paymentRequirements": requirements,
        })
    }

    /// A version 1 body with the same.
    pub fn body_v1(&self, intent: UnsignedIntent) -> Value {
        let signed = intent.sign(&agent()).unwrap();
        json!({
            "x402Version": 1,
            "paymentPayload": {
                "x402Version": 1,
                "scheme": SCHEME,
                "network": "solana-devnet",
                "payload": SplitPayload::of_intent(&signed),
            },
            "paymentRequirements": {
                "scheme": SCHEME,
                "network": "solana-devnet",
                "maxAmountRequired": AMOUNT.to_string(),
                "resource": "http://localhost/paid",
                "description": "",
                "mimeType": "",
                "asset": DEVNET_USDC.to_string(),
                "payTo": service().to_string(),
                "maxTimeoutSeconds": 60,
            },
        })
    }

    pub fn payment(&self, intent: UnsignedIntent) -> Payment {
        parse(self.body(intent)).unwrap()
    }
}

pub fn parse(body: Value) -> Result<Payment, sluice_relayer::reason::Rejection> {
    let request: FacilitatorRequest = serde_json::from_value(body).unwrap();
    Payment::parse(&request, &home())
}

/// An account that holds lamports alone.
pub fn lamports_of(lamports: u64) -> RawAccount {
    RawAccount {
        owner: sluice_sdk::SYSTEM_PROGRAM,
        lamports,
        data: Vec::new(),
    }
}

pub fn clock(now: i64) -> RawAccount {
    let mut data = vec![0; 40];
    data[32..].copy_from_slice(&now.to_le_bytes());
    RawAccount {
        owner: sluice_sdk::SYSTEM_PROGRAM,
        lamports: 1,
        data,
    }
}

pub fn raw<T: SluiceAccount + bytemuck::NoUninit>(account: &T) -> RawAccount {
    let mut data = T::discriminator().to_vec();
    data.extend_from_slice(bytemuck::bytes_of(account));
    RawAccount {
        owner: PROGRAM_ID,
        lamports: 1_000_000,
        data,
    }
}

/// A mint with 6 decimals and these extensions, number and value.
pub fn mint(program: Address, extensions: &[(u16, &[u8])]) -> RawAccount {
    let mut data = vec![0; 82];
    data[44] = 6;
    data[45] = 1;
    if !extensions.is_empty() {
        data.resize(165, 0);
        data.push(1);
    }
    for (kind, value) in extensions {
        data.extend(kind.to_le_bytes());
        data.extend(u16::try_from(value.len()).unwrap().to_le_bytes());
        data.extend(*value);
    }
    RawAccount {
        owner: program,
        lamports: 1_000_000,
        data,
    }
}

pub fn raw_token(token: &TokenAccount) -> RawAccount {
    let account = Account {
        mint: token.mint,
        owner: token.owner,
        amount: token.amount,
        delegate: token.delegate.map(|(key, _)| key).into(),
        delegated_amount: token.delegate.map_or(0, |(_, amount)| amount),
        state: if token.frozen {
            AccountState::Frozen
        } else {
            AccountState::Initialized
        },
        ..Account::default()
    };
    let mut data = vec![0; Account::LEN];
    account.pack_into_slice(&mut data);
    let read = token::decode_account(&token.token_program, &data);
    assert_eq!(read, Some(*token));
    RawAccount {
        owner: token.token_program,
        lamports: 2_000_000,
        data,
    }
}
