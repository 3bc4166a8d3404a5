//! Sponsored opening: a payer without SOL signs a transaction that the relayer built and pays for.
//!
//! The relayer signs last, and only over the bytes that it built: what comes back is compared with what the ledger kept,
//! so an edited transaction is never one of ours (ATTACKS row 42). It opens the program's own account and nothing else:
//! no token account is ever opened at its cost (row 3), and a payer gets one account a mint in its life, unless the
//! relayer itself has closed it for idleness. Off by default, and bounded by quotas.

use std::{sync::Arc, time::Duration};

use sluice_intent::{LANES, LaneTerms};
use sluice_sdk::{
    Address,
    accounts::{AcceptedMint, NonceAccount, SluiceAccount},
    address, instructions,
    token::{self, TokenAccount},
    transaction::{self, Version},
};
use solana_signature::Signature;
use tokio::time::Instant;

use crate::{
    budget,
    chain::{Depth, RawAccount},
    engine::{Engine, Unavailable},
    ledger::{
        chores::{Kind, NewChore},
        onboardings::{Onboarding, Quota, Signing, Stage},
    },
    snapshot::{exists, lookup},
    verify::check_mint,
};

/// Bytes of a signature.
const SIGNATURE_LEN: usize = 64;
/// How often the ledger is asked for an opening that another relayer may be following.
const ASK: Duration = Duration::from_millis(500);

/// What a payer asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wish {
    /// The payer, who signs.
    pub payer: Address,
    /// The mint.
    pub mint: Address,
    /// Atomic units to approve to the payer's nonce account.
    pub approve: Option<u64>,
    /// Whether the approval may end another program's.
    pub replace_delegate: bool,
    /// A lane to set, and its number.
    pub lane: Option<(u8, LaneTerms)>,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The IP address, as it counts against the quota.
    pub client: String,
    /// The API key's name, where the relayer has such keys.
    pub api_key: Option<String>,
}

/// Why nothing is sponsored. Nothing was spent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is switched off.
    #[error(
        "this relayer opens no accounts for others: open it with `sluice payer open` at your own cost"
    )]
    Off,
    /// Nobody is sponsored in the mint.
    #[error("asset: nobody is sponsored in the mint {0} here")]
    Mint(Address),
    /// The mint is not accepted, or not usable now.
    #[error("asset: {0}")]
    MintUnusable(String),
    /// The relayer's own key.
    #[error("payer: the relayer's own keys cannot be payers")]
    OwnKey,
    /// The account is open already.
    #[error(
        "the nonce account {0} is open already: set its lane or its budget with the payer's own transaction"
    )]
    AlreadyOpen(Address),
    /// The payer has no token account.
    #[error(
        "payer: its token account {0} of the mint does not exist or cannot be paid from: fund it first"
    )]
    NoTokenAccount(Address),
    /// The payer holds too little.
    #[error(
        "payer: holds {holds} atomic units of the mint, and {least} are needed to be sponsored"
    )]
    TooPoor {
        /// What it holds.
        holds: u64,
        /// What it must hold.
        least: u64,
    },
    /// Another program's approval would end.
    #[error(
        "approve: {delegate} may pull {units} atomic units from this token account now, and a token account has one \
         delegate: say replaceDelegate to end that"
    )]
    OtherDelegate {
        /// Who.
        delegate: Address,
        /// How much.
        units: u64,
    },
    /// A quota is used up.
    #[error("{}", quota_text(*.0))]
    Quota(Quota),
    /// There is no such opening.
    #[error("there is no opening with this id: it may have been forgotten, ask for a new one")]
    Unknown,
    /// The transaction is not the one that was built.
    #[error(
        "transaction: not the one that was built, byte for byte: sign it as it is, or ask for a new one"
    )]
    Edited,
    /// The payer's signature is missing or wrong.
    #[error("transaction: the payer's signature is missing or not over these bytes")]
    Signature,
    /// The blockhash has expired.
    #[error("the transaction expired before it came back: ask for a new one")]
    Expired,
    /// The key that was to pay is gone.
    #[error("the key {0} that was to pay is no longer this relayer's: ask for a new transaction")]
    Sponsor(Address),
}

fn quota_text(quota: Quota) -> &'static str {
    match quota {
        Quota::Day => "the day's budget for sponsored accounts is used up: try again later",
        Quota::Outstanding => {
            "as much rent is out as may be: try again when accounts have been closed"
        }
        Quota::Client => "too many accounts were opened for this address today: try again later",
        Quota::Payer => "too many accounts were opened for this payer today: try again later",
        Quota::Key => "too many accounts were opened with this API key today: try again later",
        Quota::Builds => "too many transactions were built for this address today: try again later",
        Quota::Once => {
            "this payer was sponsored in this mint before, and that happens once: open the account at your own cost"
        }
    }
}

/// What a call came to: an opening as the ledger has it, or a refusal.
pub type Outcome = Result<Onboarding, Refused>;

impl Engine {
    /// Builds the transaction for a wish, keeps it, and signs nothing.
    pub async fn onboard(&self, wish: &Wish, caller: Caller) -> Result<Outcome, Unavailable> {
        if !self.settings.onboard.enabled {
            return Ok(Err(Refused::Off));
        }
        let Some(least) = self.settings.onboard.min_units(&wish.mint) else {
            return Ok(Err(Refused::Mint(wish.mint)));
        };
        if self.signers.key(&wish.payer).is_some() {
            return Ok(Err(Refused::OwnKey));
        }
        let funds = match self.funds(&wish.payer, &wish.mint, least).await? {
            Ok(funds) => funds,
            Err(refused) => return Ok(Err(refused)),
        };
        let other = funds.account.other_delegate(&funds.nonce_account);
        if let (Some((delegate, units)), Some(_), false) =
            (other, wish.approve, wish.replace_delegate)
        {
            return Ok(Err(Refused::OtherDelegate { delegate, units }));
        }
        let registered = self.facilitator().await?;
        let sponsor = self.signers.pick(registered.relayer_keys(), 0)?.address();
        let fees = self.fees_now(funds.nonce_account, funds.source).await;
        let mut budget = budget::of_onboarding(&fees);
        // No two are the same transaction, even on one blockhash: one that failed must not stand for the next.
        budget.compute_units += u32::from(rand::random::<u16>());
        let fee_lamports = budget::cost(&budget).saturating_add(budget::SIGNATURE_LAMPORTS);
        let most = fees.max_lamports_per_transaction;
        if fee_lamports > most {
            return Err(Unavailable::NotReady(format!(
                "an opening would cost {fee_lamports} lamports, over the cap of {most}: raise \
                 fees.max_lamports_per_transaction or lower the priority fee"
            )));
        }
        let mut all = vec![instructions::open_nonce(
            &sponsor,
            &wish.payer,
            &wish.mint,
            &funds.source,
        )];
        if let Some((lane, terms)) = &wish.lane {
            all.push(instructions::set_lane(
                &wish.payer,
                &wish.mint,
                *lane,
                terms,
            ));
        }
        if let Some(units) = wish.approve {
            all.push(token::approve(
                &wish.payer,
                &wish.mint,
                &funds.account.token_program,
                units,
                funds.decimals,
            ));
        }
        let blockhash = self.blockhashes.get().await?;
        let broken = |error: transaction::BuildError| Unavailable::NotReady(error.to_string());
        let message = transaction::compile(Version::V0, &sponsor, &all, &budget, blockhash.hash)
            .map_err(broken)?;
        let onboarding = Onboarding {
            id: hex::encode(rand::random::<[u8; 16]>()),
            payer: wish.payer,
            mint: wish.mint,
            nonce_account: funds.nonce_account,
            sponsor,
            unsigned: transaction::wire(&transaction::unsigned(message)).map_err(broken)?,
            last_valid_block_height: blockhash.last_valid_block_height,
            rent_lamports: self.chain.rent(NonceAccount::size()).await?,
            fee_lamports,
            client: caller.client,
            api_key: caller.api_key,
            stage: Stage::Built,
            signature: None,
            slot: None,
            error: None,
        };
        let quotas = self.settings.onboard.quotas();
        Ok(
            match self
                .ledger
                .write_onboarding(onboarding.clone(), quotas)
                .await?
            {
                None => Ok(onboarding),
                Some(quota) => Err(Refused::Quota(quota)),
            },
        )
    }

    /// Takes the transaction back with the payer's signature, signs it and sends it, and waits until it has landed or
    /// the patience of a caller is over. The answer is what the ledger knows then. A second call with the same is told
    /// how it stands.
    pub async fn submit_onboarding(
        self: &Arc<Self>,
        id: &str,
        returned: &[u8],
    ) -> Result<Outcome, Unavailable> {
        let Some(kept) = self.ledger.onboarding(id).await? else {
            return Ok(Err(Refused::Unknown));
        };
        let signatures = match countersigned(&kept, returned) {
            Ok(signatures) => signatures,
            Err(refused) => return Ok(Err(refused)),
        };
        if kept.stage != Stage::Built {
            return Ok(Ok(self.awaited(kept).await?));
        }
        if !self.settings.onboard.enabled {
            return Ok(Err(Refused::Off));
        }
        if self.chain.finalized_block_height().await? > kept.last_valid_block_height {
            return Ok(Err(Refused::Expired));
        }
        let Some(least) = self.settings.onboard.min_units(&kept.mint) else {
            return Ok(Err(Refused::Mint(kept.mint)));
        };
        // What held when it was built may not hold any more, and would cost a fee to find out.
        if let Err(refused) = self.funds(&kept.payer, &kept.mint, least).await? {
            return Ok(Err(refused));
        }
        let Some(key) = self.signers.key(&kept.sponsor) else {
            return Ok(Err(Refused::Sponsor(kept.sponsor)));
        };
        self.signers.check_one(&kept.sponsor)?;
        let message = message_of(&kept.unsigned).unwrap_or_default();
        let ours = self
            .sign_with(key.as_ref(), message)
            .await
            .map_err(Unavailable::Signer)?;
        let chore = NewChore {
            kind: Kind::Onboard,
            signature: ours,
            wire: fill(&kept.unsigned, ours, signatures),
            last_valid_block_height: kept.last_valid_block_height,
            fee_payer: kept.sponsor,
            lamports: kept.fee_lamports,
            subjects: vec![kept.nonce_account],
        };
        let open = chore.open();
        let quotas = self.settings.onboard.quotas();
        match self
            .ledger
            .sign_onboarding(kept.id.clone(), chore, quotas)
            .await?
        {
            Signing::Unknown => return Ok(Err(Refused::Unknown)),
            Signing::Over(quota) => return Ok(Err(Refused::Quota(quota))),
            Signing::Known(known) => return Ok(Ok(self.awaited(*known).await?)),
            Signing::Written => {}
        }
        tracing::info!(id = %kept.id, payer = %kept.payer, sponsor = %kept.sponsor, transaction = %ours, "opening signed");
        // Even if the caller hangs up.
        let engine = Arc::clone(self);
        self.tasks
            .spawn(async move { engine.send_chore(open).await });
        let signed = Onboarding {
            stage: Stage::Signed,
            signature: Some(ours),
            ..kept
        };
        Ok(Ok(self.awaited(signed).await?))
    }

    /// An opening as it stands.
    pub async fn onboarding(&self, id: &str) -> Result<Outcome, Unavailable> {
        let found = self.ledger.onboarding(id).await?;
        Ok(found.ok_or(Refused::Unknown))
    }

    /// Whether what was built can no longer land, although nobody has signed it.
    pub async fn has_expired(&self, onboarding: &Onboarding) -> Result<bool, Unavailable> {
        let height = self.chain.finalized_block_height().await?;
        Ok(onboarding.stage == Stage::Built && height > onboarding.last_valid_block_height)
    }

    /// Waits while nobody knows whether an opening lands, for as long as a caller has patience.
    async fn awaited(&self, mut onboarding: Onboarding) -> Result<Onboarding, Unavailable> {
        let until = Instant::now() + self.settings.limits.confirm_timeout();
        let mut ended = self.chores.ended.subscribe();
        while onboarding.stage == Stage::Signed {
            if let Some(known) = self.ledger.onboarding(&onboarding.id).await? {
                onboarding = known;
            }
            if onboarding.stage != Stage::Signed || Instant::now() >= until {
                break;
            }
            tokio::select! {
                _ = ended.changed() => {}
                () = tokio::time::sleep(ASK) => {}
                () = tokio::time::sleep_until(until) => {}
                () = self.closing.cancelled() => break,
            }
        }
        Ok(onboarding)
    }

    /// What a payer has to be sponsored for, read from the chain now.
    async fn funds(
        &self,
        payer: &Address,
        mint: &Address,
        least: u64,
    ) -> Result<Result<Funds, Refused>, Unavailable> {
        let accepted_key = address::accepted_mint(mint).0;
        let nonce_account = address::nonce_account(payer, mint).0;
        // The token account depends on the mint's program: one account for each of the two is asked for.
        let programs = [token::TOKEN_PROGRAM, token::TOKEN_2022_PROGRAM];
        let sources = programs.map(|program| address::token_account(payer, mint, &program));
        let keys = [accepted_key, *mint, nonce_account, sources[0], sources[1]];
        let accounts = self.chain.accounts(&keys, Depth::Confirmed).await?;
        let mut accounts = accounts
            .iter()
            .map(|account| account.as_ref().filter(|account| exists(account)));
        let mut next = || accounts.next().flatten();
        let accepted = lookup::<AcceptedMint>(next());
        let mint_account =
            next().and_then(|account| token::decode_mint(&account.owner, &account.data));
        let open = next().is_some_and(|account: &RawAccount| !account.data.is_empty());
        let found = [next(), next()];
        let Some(accepted) = accepted.found().filter(|accepted| accepted.settles()) else {
            let why =
                format!("the mint {mint} is not accepted, or settlement in it is switched off");
            return Ok(Err(Refused::MintUnusable(why)));
        };
        if let Err(rejection) = check_mint(mint_account.as_ref(), accepted) {
            return Ok(Err(Refused::MintUnusable(rejection.message)));
        }
        if open {
            return Ok(Err(Refused::AlreadyOpen(nonce_account)));
        }
        let at = usize::from(accepted.token_program == programs[1].to_bytes());
        let source = sources[at];
        let account = found[at]
            .and_then(|account| token::decode_account(&account.owner, &account.data))
            .filter(|account| {
                account.owner == *payer && account.mint == *mint && account.can_send()
            });
        let Some(account) = account else {
            return Ok(Err(Refused::NoTokenAccount(source)));
        };
        if account.amount < least {
            return Ok(Err(Refused::TooPoor {
                holds: account.amount,
                least,
            }));
        }
        Ok(Ok(Funds {
            nonce_account,
            source,
            account,
            decimals: accepted.decimals,
        }))
    }
}

/// A payer's side of an opening.
struct Funds {
    nonce_account: Address,
    source: Address,
    account: TokenAccount,
    decimals: u8,
}

/// Checks that a transaction that came back is the one that was built, byte for byte, and that the payer has signed it.
/// Gives the payer's signature and its place.
///
/// Nothing of what came back is parsed: its signatures aside, it must equal what was kept.
pub fn countersigned(kept: &Onboarding, returned: &[u8]) -> Result<(usize, Signature), Refused> {
    let message = message_of(&kept.unsigned).ok_or(Refused::Edited)?;
    let head = kept.unsigned.len() - message.len();
    let same = returned.len() == kept.unsigned.len()
        && returned.first() == kept.unsigned.first()
        && returned.get(head..) == Some(message);
    if !same {
        return Err(Refused::Edited);
    }
    let built = transaction::from_wire(&kept.unsigned).map_err(|_| Refused::Edited)?;
    let place = built
        .message
        .static_account_keys()
        .iter()
        .take(built.signatures.len())
        .position(|key| *key == kept.payer)
        .filter(|place| *place > 0)
        .ok_or(Refused::Edited)?;
    let from = 1 + place * SIGNATURE_LEN;
    let signature = returned
        .get(from..from + SIGNATURE_LEN)
        .and_then(|bytes| <[u8; SIGNATURE_LEN]>::try_from(bytes).ok())
        .map(Signature::from)
        .ok_or(Refused::Edited)?;
    if !signature.verify(kept.payer.as_ref(), message) {
        return Err(Refused::Signature);
    }
    Ok((place, signature))
}

/// What is signed of a transaction's bytes: everything after the signatures, whose number is the first byte.
fn message_of(wire: &[u8]) -> Option<&[u8]> {
    let count = usize::from(*wire.first()?);
    wire.get(1 + count * SIGNATURE_LEN..)
        .filter(|message| count < 128 && !message.is_empty())
}

/// The transaction with the sponsor's signature and the payer's.
fn fill(unsigned: &[u8], ours: Signature, payers: (usize, Signature)) -> Vec<u8> {
    let mut wire = unsigned.to_vec();
    for (place, signature) in [(0, ours), payers] {
        let from = 1 + place * SIGNATURE_LEN;
        if let Some(bytes) = wire.get_mut(from..from + SIGNATURE_LEN) {
            bytes.copy_from_slice(signature.as_ref());
        }
    }
    wire
}

/// Whether a lane can be set by its number and its key: lane 0 takes the payer's own key.
pub fn lane_fits(payer: &Address, lane: u8, terms: &LaneTerms) -> bool {
    usize::from(lane) < LANES
        && terms.key != [0; 32]
        && (lane != 0 || terms.key == payer.to_bytes())
}
