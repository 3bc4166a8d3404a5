//! Who plays: keys, addresses, and which token accounts there are. The same in every sequence, so that a failure can
//! be repeated to the last byte.

use std::{collections::BTreeMap, sync::OnceLock};

use sluice_sdk::{Address, DEVNET_USDC, address, token::TOKEN_PROGRAM};
use solana_keypair::Keypair;
use solana_signer::Signer;

/// Payers. More than 16 pulls do not leave in one call, and the token program takes each from another account.
pub const PAYERS: usize = 18;
/// Of these, those to whom more happens than payments. The last one of them is a possible recipient too.
pub const ACTIVE: usize = 4;
/// Most services that a sequence creates.
pub const SERVICES: usize = 6;

/// A payer: a wallet, two session keys, two token accounts.
pub struct Person {
    pub wallet: Keypair,
    pub sessions: [Keypair; 2],
    /// The associated account, and one at an address of its own.
    pub sources: [Address; 2],
    pub nonce: Address,
    pub nonce_bump: u8,
}

impl Person {
    pub fn key(&self) -> Address {
        self.wallet.pubkey()
    }
}

pub struct Cast {
    pub mint: Address,
    pub other_mint: Address,
    pub admins: [Keypair; 2],
    pub guardian: Keypair,
    /// Pays the fee of everything but a settle, and has no say in anything.
    pub sponsor: Keypair,
    pub operators: [Keypair; 2],
    pub facilitators: [(Address, u8); 2],
    /// The first two are the first facilitator's.
    pub relayers: [Keypair; 3],
    pub merchants: [Keypair; 2],
    pub payers: Vec<Person>,
    pub treasuries: [Address; 2],
    pub fee_wallets: [Address; 2],
    /// Who may be a recipient.
    pub pool: Vec<Address>,
    /// Pays vaults without an intent, as clients of the `exact` scheme do.
    pub client: Keypair,
    /// Where money goes that its owner takes elsewhere.
    pub sink: Address,
    pub config: (Address, u8),
    pub accepted: (Address, u8),
    /// A nonce account in another mint.
    pub other_nonce: Address,
    /// A nonce account of a later layout.
    pub later_nonce: Address,
    token_of: BTreeMap<Address, Address>,
    /// Every token account that a test bends, with its rightful owner.
    pub holders: Vec<(Address, Address)>,
}

/// The cast, made once.
pub fn cast() -> &'static Cast {
    static CAST: OnceLock<Cast> = OnceLock::new();
    CAST.get_or_init(Cast::new)
}

fn key(group: u8, number: usize) -> Keypair {
    let mut seed = [group; 32];
    seed[0] = number as u8;
    Keypair::new_from_array(seed)
}

fn wallet(group: u8, number: usize) -> Address {
    key(group, number).pubkey()
}

impl Cast {
    fn new() -> Self {
        let mint = DEVNET_USDC;
        let ata = |owner: &Address| address::token_account(owner, &mint, &TOKEN_PROGRAM);
        let payers: Vec<Person> = (0..PAYERS)
            .map(|i| {
                let wallet = key(10, i);
                let (nonce, nonce_bump) = address::nonce_account(&wallet.pubkey(), &mint);
                Person {
                    sources: [ata(&wallet.pubkey()), self::wallet(12, i)],
                    // The first two payers let the same key spend for them.
                    sessions: [key(11, i), key(13, i.max(1))],
                    nonce,
                    nonce_bump,
                    wallet,
                }
            })
            .collect();
        let operators = [key(3, 0), key(3, 1)];
        let treasuries = [wallet(6, 0), wallet(6, 1)];
        let fee_wallets = [wallet(7, 0), wallet(7, 1)];
        let mut pool: Vec<Address> = (0..9).map(|i| wallet(8, i)).collect();
        pool.extend([payers[3].key(), treasuries[1], fee_wallets[0]]);

        let mut owners = pool.clone();
        owners.extend(treasuries);
        owners.extend(fee_wallets);
        owners.extend(payers[..ACTIVE].iter().map(Person::key));
        owners.sort();
        owners.dedup();
        let mut token_of: BTreeMap<_, _> = owners.iter().map(|who| (*who, ata(who))).collect();
        let mut holders: Vec<_> = token_of.iter().map(|(who, token)| (*token, *who)).collect();
        holders.extend(
            payers[..ACTIVE]
                .iter()
                .map(|payer| (payer.sources[1], payer.key())),
        );
        let client = key(9, 0);
        token_of.insert(client.pubkey(), ata(&client.pubkey()));
        let other_mint = wallet(14, 0);
        Self {
            mint,
            other_nonce: address::nonce_account(&payers[0].key(), &other_mint).0,
            other_mint,
            admins: [key(1, 0), key(1, 1)],
            guardian: key(2, 0),
            sponsor: key(2, 1),
            facilitators: [0, 1].map(|i| address::facilitator(&operators[i].pubkey())),
            operators,
            relayers: [key(4, 0), key(4, 1), key(4, 2)],
            merchants: [key(5, 0), key(5, 1)],
            payers,
            treasuries,
            fee_wallets,
            pool,
            client,
            sink: wallet(9, 1),
            config: address::config(),
            accepted: address::accepted_mint(&mint),
            later_nonce: wallet(14, 1),
            token_of,
            holders,
        }
    }

    /// The associated token account of one of the cast.
    pub fn token(&self, owner: &Address) -> Address {
        self.token_of[owner]
    }

    /// The payer whose nonce account this is.
    pub fn payer_of(&self, nonce: &Address) -> Option<usize> {
        self.payers.iter().position(|payer| payer.nonce == *nonce)
    }

    /// All who sign transactions and need lamports.
    pub fn signers(&self) -> Vec<&Keypair> {
        let mut all = vec![&self.guardian, &self.sponsor, &self.client];
        all.extend(&self.admins);
        all.extend(&self.operators);
        all.extend(&self.relayers);
        all.extend(&self.merchants);
        all
    }
}
