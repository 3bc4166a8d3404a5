//! The program's instructions. Accounts and arguments are documented in `programs/sluice/src/instructions`.

use borsh::BorshSerialize;
use sluice_intent::{Entry, LaneTerms};
use solana_instruction::{AccountMeta, Instruction};

use crate::{
    Address, PROGRAM_ID, SYSTEM_PROGRAM,
    accounts::{AcceptedMint, Service, instruction_discriminator},
    address,
    token::ASSOCIATED_TOKEN_PROGRAM,
};

fn signer(key: Address) -> AccountMeta {
    AccountMeta::new_readonly(key, true)
}
fn signer_writable(key: Address) -> AccountMeta {
    AccountMeta::new(key, true)
}
fn readonly(key: Address) -> AccountMeta {
    AccountMeta::new_readonly(key, false)
}
fn writable(key: Address) -> AccountMeta {
    AccountMeta::new(key, false)
}

fn instruction(name: &str, accounts: Vec<AccountMeta>, args: impl BorshSerialize) -> Instruction {
    let mut data = instruction_discriminator(name).to_vec();
    // Writing to a Vec cannot fail; the arguments here hold nothing that can refuse to serialise.
    if let Ok(bytes) = borsh::to_vec(&args) {
        data.extend(bytes);
    }
    Instruction {
        program_id: PROGRAM_ID,
        accounts,
        data,
    }
}

/// Arguments of [`initialize_config`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize)]
pub struct ConfigArgs {
    /// The admin from now on.
    pub admin: [u8; 32],
    /// May pause; zero for nobody.
    pub guardian: [u8; 32],
    /// The treasury's wallet.
    pub treasury: [u8; 32],
    /// Genesis hash of the cluster.
    pub genesis_hash: [u8; 32],
    /// The treasury's share, in basis points.
    pub treasury_bps: u16,
    /// Most that a service may grant its facilitator, in basis points.
    pub max_facilitator_bps: u16,
    /// Most seconds between landing and expiry.
    pub max_intent_ttl: u32,
}

/// Creates the config. `upgrade_authority` signs and pays rent.
pub fn initialize_config(upgrade_authority: &Address, args: &ConfigArgs) -> Instruction {
    let accounts = vec![
        signer_writable(*upgrade_authority),
        writable(address::config().0),
        readonly(address::program_data().0),
        readonly(SYSTEM_PROGRAM),
    ];
    instruction("initialize_config", accounts, args)
}

/// Arguments of [`update_config`]; what is `None` stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize)]
pub struct ConfigUpdate {
    /// Announces a treasury share, in basis points.
    pub treasury_bps: Option<u16>,
    /// See [`ConfigArgs::max_facilitator_bps`].
    pub max_facilitator_bps: Option<u16>,
    /// See [`ConfigArgs::max_intent_ttl`].
    pub max_intent_ttl: Option<u32>,
    /// See [`ConfigArgs::guardian`].
    pub guardian: Option<[u8; 32]>,
}

/// Changes the config. `admin` signs.
pub fn update_config(admin: &Address, update: &ConfigUpdate) -> Instruction {
    instruction(
        "update_config",
        vec![signer(*admin), writable(address::config().0)],
        update,
    )
}

/// Stops or resumes pulls from payers. `authority` is the admin or, to stop, the guardian.
pub fn set_paused(authority: &Address, paused: bool) -> Instruction {
    instruction(
        "set_paused",
        vec![signer(*authority), writable(address::config().0)],
        paused,
    )
}

/// Changes the treasury's wallet, and the treasury accounts of `mints`: pairs of mint and the new wallet's
/// token account, which must be open.
pub fn set_treasury(
    admin: &Address,
    treasury: &Address,
    mints: &[(Address, Address)],
) -> Instruction {
    let mut accounts = vec![signer(*admin), writable(address::config().0)];
    for (mint, token) in mints {
        accounts.push(writable(address::accepted_mint(mint).0));
        accounts.push(readonly(*token));
    }
    instruction("set_treasury", accounts, treasury.to_bytes())
}

/// Arguments of [`set_mint`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize)]
pub struct MintArgs {
    /// Whether pulls from payers are allowed.
    pub settle: bool,
    /// Least atomic units a payment.
    pub min_amount: u64,
    /// Most atomic units a payment.
    pub max_amount: u64,
    /// Token-2022 extensions that the mint may carry; 0 for classic mints.
    pub allowed_extensions: u64,
}

/// Accepts a mint or changes how it is accepted. `admin` signs and pays rent; `treasury_token` is the
/// treasury's open token account of the mint.
pub fn set_mint(
    admin: &Address,
    mint: &Address,
    treasury_token: &Address,
    args: &MintArgs,
) -> Instruction {
    let accounts = vec![
        signer_writable(*admin),
        readonly(address::config().0),
        readonly(*mint),
        writable(address::accepted_mint(mint).0),
        readonly(*treasury_token),
        readonly(SYSTEM_PROGRAM),
    ];
    instruction("set_mint", accounts, args)
}

/// Names the next admin, who takes over by [`accept_admin`]; zero takes the proposal back. `admin` signs.
pub fn propose_admin(admin: &Address, next: &Address) -> Instruction {
    let accounts = vec![signer(*admin), writable(address::config().0)];
    instruction("propose_admin", accounts, next.to_bytes())
}

/// Makes the proposed key the admin. It signs.
pub fn accept_admin(proposed: &Address) -> Instruction {
    let accounts = vec![signer(*proposed), writable(address::config().0)];
    instruction("accept_admin", accounts, ())
}

/// Stops a facilitator's settlements, or lets them go on. `admin` signs.
pub fn suspend_facilitator(admin: &Address, facilitator: &Address, suspended: bool) -> Instruction {
    let accounts = vec![
        signer(*admin),
        readonly(address::config().0),
        writable(*facilitator),
    ];
    instruction("suspend_facilitator", accounts, suspended)
}

/// Names the next authority of a facilitator or a service (`account`), which takes over by [`accept_authority`]; zero
/// takes the proposal back. `authority` signs.
pub fn propose_authority(authority: &Address, account: &Address, next: &Address) -> Instruction {
    let accounts = vec![signer(*authority), writable(*account)];
    instruction("propose_authority", accounts, next.to_bytes())
}

/// Makes the proposed key the authority of a facilitator or a service (`account`). It signs.
pub fn accept_authority(proposed: &Address, account: &Address) -> Instruction {
    let accounts = vec![signer(*proposed), writable(*account)];
    instruction("accept_authority", accounts, ())
}

/// Arguments of [`register_facilitator`] and [`update_facilitator`].
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize)]
pub struct FacilitatorArgs {
    /// Owns the token accounts that its legs go to.
    pub wallet: [u8; 32],
    /// Least proportional share that a service must grant, in basis points.
    pub min_fee_bps: u16,
    /// Least fixed share of each payment, in atomic units.
    pub min_fee_fixed: u64,
    /// 1 to 8 relayer keys.
    pub relayers: Vec<[u8; 32]>,
}

/// Registers a facilitator. `creator` signs, pays rent and becomes its authority.
pub fn register_facilitator(creator: &Address, args: &FacilitatorArgs) -> Instruction {
    let accounts = vec![
        signer_writable(*creator),
        writable(address::facilitator(creator).0),
        readonly(SYSTEM_PROGRAM),
    ];
    instruction("register_facilitator", accounts, args)
}

/// Replaces a facilitator's wallet, minimums and relayer keys. `authority` signs.
pub fn update_facilitator(
    authority: &Address,
    facilitator: &Address,
    args: &FacilitatorArgs,
) -> Instruction {
    let accounts = vec![signer(*authority), writable(*facilitator)];
    instruction("update_facilitator", accounts, args)
}

/// A recipient of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize)]
pub struct RecipientArg {
    /// The wallet.
    pub owner: [u8; 32],
    /// Share of what treasury and facilitator leave, in basis points.
    pub bps: u16,
}

/// What a service charges: arguments of [`update_service`], and of [`create_service`] after the id.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize)]
pub struct TermsArgs {
    /// The facilitator's proportional share, in basis points.
    pub facilitator_bps: u16,
    /// The facilitator's fixed share of each payment, in atomic units.
    pub facilitator_fixed: u64,
    /// Least atomic units a payment.
    pub min_payment: u64,
    /// 1 to 8 recipients; the first also receives rounding remainders.
    pub recipients: Vec<RecipientArg>,
}

/// Arguments of [`create_service`].
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize)]
pub struct ServiceArgs {
    /// Tells the creator's services apart.
    pub id: u64,
    /// What it charges.
    pub terms: TermsArgs,
}

/// Creates a service and its vault. `creator` signs, pays rent and becomes its authority; `facilitator` is
/// the facilitator account's address.
pub fn create_service(
    creator: &Address,
    mint: &Address,
    token_program: &Address,
    facilitator: &Address,
    args: &ServiceArgs,
) -> Instruction {
    let (service, _) = address::service(creator, args.id);
    let accounts = vec![
        signer_writable(*creator),
        readonly(address::config().0),
        readonly(address::accepted_mint(mint).0),
        readonly(*facilitator),
        readonly(*mint),
        writable(service),
        writable(address::token_account(&service, mint, token_program)),
        readonly(*token_program),
        readonly(ASSOCIATED_TOKEN_PROGRAM),
        readonly(SYSTEM_PROGRAM),
    ];
    instruction("create_service", accounts, args)
}

/// Opens the nonce account of (`payer`, `mint`). Both `rent_payer` and `payer` sign; `source` is the one
/// token account that may be pulled from.
pub fn open_nonce(
    rent_payer: &Address,
    payer: &Address,
    mint: &Address,
    source: &Address,
) -> Instruction {
    let accounts = vec![
        signer_writable(*rent_payer),
        signer(*payer),
        readonly(address::accepted_mint(mint).0),
        readonly(*mint),
        readonly(*source),
        writable(address::nonce_account(payer, mint).0),
        readonly(SYSTEM_PROGRAM),
    ];
    instruction("open_nonce", accounts, ())
}

#[derive(BorshSerialize)]
struct LaneWire {
    lane: u8,
    key: [u8; 32],
    expires_at: i64,
    max_per_payment: u64,
    period_limit: u64,
    period_secs: u64,
    total_limit: u64,
    scope_kind: u8,
    scope_key: [u8; 32],
}

/// Sets a lane (0 the payer's own key, 1 a session key); a zero key closes it. `payer` signs.
pub fn set_lane(payer: &Address, mint: &Address, lane: u8, terms: &LaneTerms) -> Instruction {
    let (scope_kind, scope_key) = terms.scope.to_parts();
    let args = LaneWire {
        lane,
        key: terms.key,
        expires_at: terms.expires_at,
        max_per_payment: terms.max_per_payment,
        period_limit: terms.period_limit,
        period_secs: terms.period_secs,
        total_limit: terms.total_limit,
        scope_kind,
        scope_key,
    };
    let accounts = vec![
        signer(*payer),
        writable(address::nonce_account(payer, mint).0),
    ];
    instruction("set_lane", accounts, args)
}

/// Pins another of the payer's token accounts as the one that may be pulled from. `payer` signs.
pub fn set_source(payer: &Address, mint: &Address, source: &Address) -> Instruction {
    let accounts = vec![
        signer(*payer),
        writable(address::nonce_account(payer, mint).0),
        readonly(*source),
    ];
    instruction("set_source", accounts, ())
}

/// Closes the nonce account of (`payer`, `mint`). `authority` signs: the payer, or the rent payer after 30 idle days.
pub fn close_nonce(
    authority: &Address,
    payer: &Address,
    mint: &Address,
    rent_payer: &Address,
) -> Instruction {
    let accounts = vec![
        signer(*authority),
        writable(address::nonce_account(payer, mint).0),
        writable(*rent_payer),
    ];
    instruction("close_nonce", accounts, ())
}

/// The accounts of whatever moves a service's money: [`settle`], [`distribute`], [`update_service`],
/// [`sync_service`] and [`close_service`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAccounts {
    /// The service.
    pub service: Address,
    /// Its facilitator account.
    pub facilitator: Address,
    /// Its mint.
    pub mint: Address,
    /// Its vault.
    pub vault: Address,
    /// The program of the mint.
    pub token_program: Address,
    /// The treasury's token account, from the accepted mint.
    pub treasury_token: Address,
    /// A token account of the facilitator's wallet.
    pub facilitator_token: Address,
    /// The recipients' token accounts, in the order of the terms.
    pub recipients: Vec<Address>,
}

impl ServiceAccounts {
    /// Reads the accounts off a service, its accepted mint and its facilitator's wallet.
    pub fn new(
        address: Address,
        service: &Service,
        accepted: &AcceptedMint,
        facilitator_wallet: &Address,
    ) -> Self {
        let mint = Address::new_from_array(service.mint);
        let token_program = Address::new_from_array(accepted.token_program);
        let token =
            |share: &crate::accounts::RecipientShare| Address::new_from_array(share.token_account);
        Self {
            service: address,
            facilitator: Address::new_from_array(service.facilitator),
            mint,
            vault: Address::new_from_array(service.vault),
            token_program,
            treasury_token: Address::new_from_array(accepted.treasury_token),
            facilitator_token: address::token_account(facilitator_wallet, &mint, &token_program),
            recipients: service.shares().iter().map(token).collect(),
        }
    }

    /// The accounts as the program takes them, recipients last.
    fn metas(&self, caller: &Address) -> Vec<AccountMeta> {
        let mut accounts = vec![
            signer_writable(*caller),
            readonly(address::config().0),
            readonly(address::accepted_mint(&self.mint).0),
            readonly(self.facilitator),
            writable(self.service),
            readonly(self.mint),
            writable(self.vault),
            writable(self.treasury_token),
            writable(self.facilitator_token),
            readonly(self.token_program),
        ];
        accounts.extend(self.recipients.iter().map(|key| writable(*key)));
        accounts
    }
}

/// Divides what arrived in the vault without an intent, and pays what is held and payable again. Anyone may call.
/// `others` are further token accounts of those who are owed, for what their own accounts cannot take.
pub fn distribute(caller: &Address, on: &ServiceAccounts, others: &[Address]) -> Instruction {
    let mut accounts = on.metas(caller);
    accounts.extend(others.iter().map(|key| writable(*key)));
    instruction("distribute", accounts, ())
}

/// Replaces a service's terms, after dividing what the vault holds under the old ones. `authority` signs and pays
/// rent where something is held for those who leave. `service` is the service as it is now, `wallet` its facilitator's
/// wallet, `facilitator` the facilitator from now on.
pub fn update_service(
    authority: &Address,
    on: &ServiceAccounts,
    service: &Service,
    wallet: &Address,
    facilitator: &Address,
    args: &TermsArgs,
) -> Instruction {
    let mut accounts = on.metas(authority);
    accounts.push(readonly(*facilitator));
    accounts.push(readonly(SYSTEM_PROGRAM));
    let held = |owner: &Address| writable(address::held_balance(&on.service, owner).0);
    for share in service.shares() {
        if !args.recipients.iter().any(|row| row.owner == share.owner) {
            accounts.push(held(&Address::new_from_array(share.owner)));
        }
    }
    if *facilitator != on.facilitator {
        accounts.push(held(wallet));
    }
    instruction("update_service", accounts, args)
}

/// Brings a service to the treasury share in force, after dividing what the vault holds under the old one. Anyone may
/// call.
pub fn sync_service(caller: &Address, on: &ServiceAccounts) -> Instruction {
    instruction("sync_service", on.metas(caller), ())
}

/// Ends a service, after dividing what the vault holds. `authority` signs.
pub fn close_service(authority: &Address, on: &ServiceAccounts) -> Instruction {
    instruction("close_service", on.metas(authority), ())
}

/// Pays a replaced recipient, or a former facilitator, what is still owed. Anyone may send it. `destination` is any
/// token account of the mint that `owner` owns; `rent_payer` is who paid for the held balance's account.
pub fn release_held(
    on: &ServiceAccounts,
    owner: &Address,
    rent_payer: &Address,
    destination: &Address,
) -> Instruction {
    let accounts = vec![
        writable(on.service),
        writable(address::held_balance(&on.service, owner).0),
        writable(*rent_payer),
        readonly(on.mint),
        writable(on.vault),
        writable(*destination),
        readonly(on.token_program),
    ];
    instruction("release_held", accounts, ())
}

/// An entry with its two accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettleItem {
    /// The signed entry.
    pub entry: Entry,
    /// The payer's token account.
    pub source: Address,
    /// The payer's nonce account.
    pub nonce_account: Address,
}

/// Settles intents of one service. `relayer` signs and must be the transaction's fee payer. With `strict`
/// an entry that cannot be settled fails the transaction; without, it is skipped with its code.
pub fn settle(
    relayer: &Address,
    on: &ServiceAccounts,
    items: &[SettleItem],
    strict: bool,
) -> Instruction {
    let mut accounts = on.metas(relayer);
    let mut data = instruction_discriminator("settle").to_vec();
    data.push(u8::from(strict));
    data.extend(u32::try_from(items.len()).unwrap_or(u32::MAX).to_le_bytes());
    for item in items {
        accounts.push(writable(item.source));
        accounts.push(writable(item.nonce_account));
        data.extend(item.entry.encode());
    }
    Instruction {
        program_id: PROGRAM_ID,
        accounts,
        data,
    }
}
