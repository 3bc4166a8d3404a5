//! Mints and accounts of Token-2022, made by the real program where it can make them, and written byte by byte where
//! only a broken or a newer one could.

use sluice_intent::{MAX_RECIPIENTS, Skip};
use sluice_sdk::{
    Address,
    accounts::HeldBalance,
    address,
    instructions::{self, FacilitatorArgs, MintArgs, RecipientArg, ServiceArgs, TermsArgs},
    token::{self, TOKEN_2022_PROGRAM, TOKEN_PROGRAM},
};
use solana_account::Account;
use solana_clock::Clock;
use solana_instruction::Instruction;
use solana_keypair::Keypair;
use solana_signer::Signer;
use spl_token_2022_interface::{
    extension::{
        BaseStateWithExtensions, ExtensionType, StateWithExtensions, confidential_mint_burn,
        confidential_transfer, confidential_transfer_fee, cpi_guard, default_account_state,
        group_member_pointer, group_pointer, interest_bearing_mint, memo_transfer,
        metadata_pointer, pausable, permissioned_burn, scaled_ui_amount,
        transfer_fee::{self, TransferFeeAmount},
        transfer_hook,
    },
    instruction,
    state::{Account as TokenAccount, AccountState, Mint},
};

use crate::{
    outcome::{Failure, Outcome},
    payer::{Payer, lane_terms},
    token::TokenState,
    world::World,
};

const PROGRAM: Address = TOKEN_2022_PROGRAM;
const ACCOUNT_LEN: usize = 165;
const MULTISIG_LEN: usize = 355;

/// An extension that a mint is born with. Its authority is always the world's admin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MintExtension {
    /// A fee on transfers, in basis points.
    TransferFee(u16),
    /// The mint can be closed.
    CloseAuthority,
    /// Accounts may hold confidential balances.
    ConfidentialTransfer,
    /// New accounts are frozen, or not.
    DefaultState(bool),
    /// Tokens cannot move.
    NonTransferable,
    /// Amounts are shown with interest.
    Interest,
    /// The admin may move and burn anybody's tokens.
    PermanentDelegate,
    /// A program that every transfer calls.
    Hook(Option<Address>),
    /// Fees on confidential transfers.
    ConfidentialFee,
    /// Where the metadata is: in the mint.
    MetadataPointer,
    /// Name, symbol and address.
    Metadata,
    /// Where the group is: in the mint.
    GroupPointer,
    /// A group of mints.
    Group,
    /// Where the membership is: in the mint.
    MemberPointer,
    /// A membership in another mint's group.
    Member,
    /// Supply that is confidential.
    ConfidentialMintBurn,
    /// Amounts are shown multiplied.
    ScaledAmount,
    /// Transfers can be paused.
    Pausable,
    /// Burning takes the admin's signature.
    PermissionedBurn,
}

impl MintExtension {
    /// Its number in the list of type, length and value.
    pub fn kind(self) -> u16 {
        u16::from(self.extension_type())
    }

    fn extension_type(self) -> ExtensionType {
        match self {
            Self::TransferFee(_) => ExtensionType::TransferFeeConfig,
            Self::CloseAuthority => ExtensionType::MintCloseAuthority,
            Self::ConfidentialTransfer => ExtensionType::ConfidentialTransferMint,
            Self::DefaultState(_) => ExtensionType::DefaultAccountState,
            Self::NonTransferable => ExtensionType::NonTransferable,
            Self::Interest => ExtensionType::InterestBearingConfig,
            Self::PermanentDelegate => ExtensionType::PermanentDelegate,
            Self::Hook(_) => ExtensionType::TransferHook,
            Self::ConfidentialFee => ExtensionType::ConfidentialTransferFeeConfig,
            Self::MetadataPointer => ExtensionType::MetadataPointer,
            Self::Metadata => ExtensionType::TokenMetadata,
            Self::GroupPointer => ExtensionType::GroupPointer,
            Self::Group => ExtensionType::TokenGroup,
            Self::MemberPointer => ExtensionType::GroupMemberPointer,
            Self::Member => ExtensionType::TokenGroupMember,
            Self::ConfidentialMintBurn => ExtensionType::ConfidentialMintBurn,
            Self::ScaledAmount => ExtensionType::ScaledUiAmount,
            Self::Pausable => ExtensionType::Pausable,
            Self::PermissionedBurn => ExtensionType::PermissionedBurn,
        }
    }

    /// What the program adds after the mint is initialised, at the mint's own cost.
    fn comes_later(self) -> bool {
        matches!(self, Self::Metadata | Self::Group | Self::Member)
    }

    /// The instruction before the mint is initialised.
    fn before(self, mint: &Address, admin: Address) -> Option<Instruction> {
        let authority = Some(admin);
        let built = match self {
            Self::TransferFee(bps) => transfer_fee::instruction::initialize_transfer_fee_config(
                &PROGRAM,
                mint,
                authority.as_ref(),
                authority.as_ref(),
                bps,
                u64::MAX,
            ),
            Self::CloseAuthority => {
                instruction::initialize_mint_close_authority(&PROGRAM, mint, authority.as_ref())
            }
            Self::ConfidentialTransfer => confidential_transfer::instruction::initialize_mint(
                &PROGRAM, mint, authority, true, None,
            ),
            Self::DefaultState(frozen) => {
                let state = if frozen {
                    AccountState::Frozen
                } else {
                    AccountState::Initialized
                };
                default_account_state::instruction::initialize_default_account_state(
                    &PROGRAM, mint, &state,
                )
            }
            Self::NonTransferable => instruction::initialize_non_transferable_mint(&PROGRAM, mint),
            Self::Interest => {
                interest_bearing_mint::instruction::initialize(&PROGRAM, mint, authority, 500)
            }
            Self::PermanentDelegate => {
                instruction::initialize_permanent_delegate(&PROGRAM, mint, &admin)
            }
            Self::Hook(program) => {
                transfer_hook::instruction::initialize(&PROGRAM, mint, authority, program)
            }
            Self::ConfidentialFee => {
                confidential_transfer_fee::instruction::initialize_confidential_transfer_fee_config(
                    &PROGRAM,
                    mint,
                    authority,
                    &Default::default(),
                )
            }
            Self::MetadataPointer => {
                metadata_pointer::instruction::initialize(&PROGRAM, mint, authority, Some(*mint))
            }
            Self::GroupPointer => {
                group_pointer::instruction::initialize(&PROGRAM, mint, authority, Some(*mint))
            }
            Self::MemberPointer => group_member_pointer::instruction::initialize(
                &PROGRAM,
                mint,
                authority,
                Some(*mint),
            ),
            Self::ConfidentialMintBurn => confidential_mint_burn::instruction::initialize_mint(
                &PROGRAM,
                mint,
                &Default::default(),
                &Default::default(),
            ),
            Self::ScaledAmount => {
                scaled_ui_amount::instruction::initialize(&PROGRAM, mint, authority, 2.0)
            }
            Self::Pausable => pausable::instruction::initialize(&PROGRAM, mint, &admin),
            Self::PermissionedBurn => {
                permissioned_burn::instruction::initialize(&PROGRAM, mint, &admin)
            }
            Self::Metadata | Self::Group | Self::Member => return None,
        };
        Some(built.unwrap())
    }
}

/// The set of extensions as `set_mint` takes it.
pub fn bits(extensions: &[MintExtension]) -> u64 {
    extensions
        .iter()
        .fold(0, |set, extension| set | 1 << extension.kind())
}

/// A world whose mint is what a test asks for, with everything opened by the token program itself.
pub struct Market {
    /// The world. Its functions for token accounts know the classic program only; those here know both.
    pub world: World,
    /// The mint's program.
    pub program: Address,
    /// Keys of the treasury's, the facilitator's and the recipients' wallets.
    wallets: Vec<Keypair>,
}

impl Market {
    /// A mint of Token-2022 with these extensions, accepted with all of them, and a service with two recipients.
    pub fn new(extensions: &[MintExtension]) -> Self {
        let mut market = Self::unaccepted(extensions);
        market.accept(bits(extensions)).unwrap();
        market.open_service(&[6_000, 4_000]);
        market
    }

    /// The same in the classic mint.
    pub fn classic() -> Self {
        let mut market = Self::classic_unaccepted();
        market.accept(0).unwrap();
        market.open_service(&[6_000, 4_000]);
        market
    }

    /// The classic mint is there, and nothing accepts it yet.
    pub fn classic_unaccepted() -> Self {
        let mut market = Self {
            world: World::deployed(),
            program: TOKEN_PROGRAM,
            wallets: Vec::new(),
        };
        market.set_up();
        market
    }

    /// The mint is there, and nothing accepts it yet.
    pub fn unaccepted(extensions: &[MintExtension]) -> Self {
        let mut market = Self {
            world: World::deployed(),
            program: PROGRAM,
            wallets: Vec::new(),
        };
        market.world.mint = market.create_mint(extensions);
        market.set_up();
        market
    }

    /// Config, facilitator, and the fee legs' accounts.
    fn set_up(&mut self) {
        let admin = self.admin();
        self.world.treasury = self.new_wallet();
        self.world.fee_wallet = self.new_wallet();
        let initialize = self.world.initialize_config(50);
        self.world.send(&[initialize], &[&admin]).unwrap();
        let operator = self.world.operator.insecure_clone();
        let args = FacilitatorArgs {
            wallet: self.world.fee_wallet.to_bytes(),
            min_fee_bps: 0,
            min_fee_fixed: 0,
            relayers: vec![self.world.relayer.pubkey().to_bytes()],
        };
        let register = instructions::register_facilitator(&operator.pubkey(), &args);
        self.world.send(&[register], &[&operator]).unwrap();
        self.open(self.world.treasury);
        self.open(self.world.fee_wallet);
    }

    /// Creates a mint with 6 decimals. The admin is every authority of it.
    pub fn create_mint(&mut self, extensions: &[MintExtension]) -> Address {
        let admin = self.admin();
        let mint = Address::new_unique();
        let fixed: Vec<_> = extensions
            .iter()
            .filter(|extension| !extension.comes_later())
            .map(|extension| extension.extension_type())
            .collect();
        let len = ExtensionType::try_calculate_account_len::<Mint>(&fixed).unwrap();
        self.world.put(mint, vec![0; len], PROGRAM);
        let mut all: Vec<_> = extensions
            .iter()
            .filter_map(|extension| extension.before(&mint, admin.pubkey()))
            .collect();
        let (key, freezer) = (admin.pubkey(), Some(admin.pubkey()));
        all.push(
            instruction::initialize_mint2(&PROGRAM, &mint, &key, freezer.as_ref(), 6).unwrap(),
        );
        for extension in extensions.iter().filter(|one| one.comes_later()) {
            all.push(match extension {
                MintExtension::Metadata => spl_token_metadata_interface::instruction::initialize(
                    &PROGRAM,
                    &mint,
                    &key,
                    &mint,
                    &key,
                    "Sluice test money".to_owned(),
                    "STM".to_owned(),
                    "https://example.com/stm.json".to_owned(),
                ),
                MintExtension::Group => spl_token_group_interface::instruction::initialize_group(
                    &PROGRAM, &mint, &mint, &key, freezer, 3,
                ),
                _ => {
                    let group =
                        self.create_mint(&[MintExtension::GroupPointer, MintExtension::Group]);
                    spl_token_group_interface::instruction::initialize_member(
                        &PROGRAM, &mint, &mint, &key, &group, &key,
                    )
                }
            });
        }
        self.world.send(&all, &[&admin]).unwrap();
        mint
    }

    /// Accepts the world's mint with these extensions, settlement on.
    pub fn accept(&mut self, allowed_extensions: u64) -> Result<Outcome, Failure> {
        self.set_mint(true, allowed_extensions)
    }

    /// `set_mint`, with settlement on or off.
    pub fn set_mint(&mut self, settle: bool, allowed_extensions: u64) -> Result<Outcome, Failure> {
        let admin = self.admin();
        let args = MintArgs {
            settle,
            min_amount: 1,
            max_amount: u64::MAX,
            allowed_extensions,
        };
        let treasury = self.token_of(&self.world.treasury);
        let set = instructions::set_mint(&admin.pubkey(), &self.world.mint, &treasury, &args);
        self.world.send(&[set], &[&admin])
    }

    /// The merchant's service, with accounts for its recipients.
    pub fn open_service(&mut self, shares: &[u16]) {
        assert!(shares.len() <= MAX_RECIPIENTS);
        self.world.recipients = shares.iter().map(|_| self.new_wallet()).collect();
        for owner in self.world.recipients.clone() {
            self.open(owner);
        }
        let merchant = self.world.merchant.insecure_clone();
        let args = ServiceArgs {
            id: 1,
            terms: self.terms(&self.world.recipients, shares),
        };
        let create = instructions::create_service(
            &merchant.pubkey(),
            &self.world.mint,
            &self.program,
            &self.world.facilitator(),
            &args,
        );
        self.world.send(&[create], &[&merchant]).unwrap();
        self.world.service = address::service(&merchant.pubkey(), 1).0;
    }

    fn terms(&self, owners: &[Address], shares: &[u16]) -> TermsArgs {
        let row = |(owner, bps): (&Address, &u16)| RecipientArg {
            owner: owner.to_bytes(),
            bps: *bps,
        };
        TermsArgs {
            facilitator_bps: 100,
            facilitator_fixed: 0,
            min_payment: 1,
            recipients: owners.iter().zip(shares).map(row).collect(),
        }
    }

    fn new_wallet(&mut self) -> Address {
        let wallet = Keypair::new();
        let key = wallet.pubkey();
        self.wallets.push(wallet);
        key
    }

    /// The key of a wallet that is paid.
    pub fn wallet(&self, key: &Address) -> Keypair {
        let mut wallets = self.wallets.iter();
        let found = wallets.find(|wallet| wallet.pubkey() == *key);
        found.expect("a wallet of the market").insecure_clone()
    }

    /// The admin, who is every authority of the mint.
    pub fn admin(&self) -> Keypair {
        self.world.admin.insecure_clone()
    }

    /// Sends an instruction that the admin signs.
    pub fn as_admin(&mut self, instruction: Instruction) -> Result<Outcome, Failure> {
        let admin = self.admin();
        self.world.send(&[instruction], &[&admin])
    }

    /// The associated token account of an owner.
    pub fn token_of(&self, owner: &Address) -> Address {
        address::token_account(owner, &self.world.mint, &self.program)
    }

    /// The service's vault.
    pub fn vault(&self) -> Address {
        self.token_of(&self.world.service)
    }

    /// Token accounts of the recipients, the treasury and the facilitator.
    pub fn legs(&self) -> Vec<Address> {
        let mut owners = self.world.recipients.clone();
        owners.extend([self.world.treasury, self.world.fee_wallet]);
        owners.iter().map(|owner| self.token_of(owner)).collect()
    }

    /// Opens an owner's associated token account, thawed if the mint has it begin frozen.
    pub fn open(&mut self, owner: Address) -> Address {
        let key = self.open_as_born(owner);
        if self.token(&key).state == AccountState::Frozen {
            self.thaw(&key);
        }
        key
    }

    /// Opens an owner's associated token account as the mint has it begin.
    pub fn open_as_born(&mut self, owner: Address) -> Address {
        let open = token::create_account(
            &self.world.admin.pubkey(),
            &owner,
            &self.world.mint,
            &self.program,
        );
        self.as_admin(open).unwrap();
        self.token_of(&owner)
    }

    /// Mints into an account.
    pub fn mint_to(&mut self, account: &Address, amount: u64) {
        let key = self.world.admin.pubkey();
        let mint = self.world.mint;
        let build = instruction::mint_to(&self.program, &mint, account, &key, &[], amount);
        self.as_admin(build.unwrap()).unwrap();
    }

    /// A payer who holds and approves `amount`, with both lanes open and unlimited.
    pub fn payer(&mut self, amount: u64) -> Payer {
        let (wallet, session) = (Keypair::new(), Keypair::new());
        let key = wallet.pubkey();
        let source = self.open(key);
        if amount > 0 {
            self.mint_to(&source, amount);
        }
        let mint = self.world.mint;
        let relayer = self.world.relayer.insecure_clone();
        let set_up = [
            instructions::open_nonce(&relayer.pubkey(), &key, &mint, &source),
            instructions::set_lane(&key, &mint, 0, &lane_terms(key)),
            instructions::set_lane(&key, &mint, 1, &lane_terms(session.pubkey())),
            self.approve(&key, amount),
        ];
        self.world.send(&set_up, &[&relayer, &wallet]).unwrap();
        let nonce_account = Payer::nonce_address(&key, &mint);
        let opened_slot = self.world.nonce_account(&nonce_account).opened_slot;
        Payer {
            wallet,
            session,
            source,
            nonce_account,
            opened_slot,
        }
    }

    /// `ApproveChecked` for a wallet's nonce account.
    pub fn approve(&self, wallet: &Address, amount: u64) -> Instruction {
        instruction::approve_checked(
            &self.program,
            &self.token_of(wallet),
            &self.world.mint,
            &Payer::nonce_address(wallet, &self.world.mint),
            wallet,
            &[],
            amount,
            6,
        )
        .unwrap()
    }

    /// Settles payments of `amount` each, an intent of every payer with this nonce.
    pub fn settle(
        &mut self,
        payers: &[&Payer],
        amount: u64,
        nonce: u64,
    ) -> Result<Outcome, Failure> {
        let items: Vec<_> = payers
            .iter()
            .map(|payer| self.world.item(payer, amount, nonce))
            .collect();
        self.world.settle(&items, false)
    }

    /// The skips of a settle that landed.
    pub fn skips(&mut self, payers: &[&Payer], amount: u64, nonce: u64) -> Vec<Option<Skip>> {
        self.settle(payers, amount, nonce).unwrap().skips()
    }

    /// `distribute`, sent by the relayer as anybody.
    pub fn distribute(&mut self) -> Result<Outcome, Failure> {
        let accounts = self.world.settle_accounts(&self.world.service);
        let caller = self.world.relayer.pubkey();
        let distribute = instructions::distribute(&caller, &accounts, &[]);
        self.world.send_as_relayer(&[distribute])
    }

    /// `update_service` to these recipients.
    pub fn update(&mut self, owners: &[Address], shares: &[u16]) -> Result<Outcome, Failure> {
        let merchant = self.world.merchant.insecure_clone();
        let update = instructions::update_service(
            &merchant.pubkey(),
            &self.world.settle_accounts(&self.world.service),
            &self.world.service_account(&self.world.service),
            &self.world.fee_wallet,
            &self.world.facilitator(),
            &self.terms(owners, shares),
        );
        self.world.send(&[update], &[&merchant])
    }

    /// `close_service`.
    pub fn close(&mut self) -> Result<Outcome, Failure> {
        let merchant = self.world.merchant.insecure_clone();
        let accounts = self.world.settle_accounts(&self.world.service);
        let close = instructions::close_service(&merchant.pubkey(), &accounts);
        self.world.send(&[close], &[&merchant])
    }

    /// `release_held` for a replaced recipient, to its associated token account.
    pub fn release(&mut self, owner: &Address) -> Result<Outcome, Failure> {
        let accounts = self.world.settle_accounts(&self.world.service);
        let rent_payer = self.world.merchant.pubkey();
        let to = self.token_of(owner);
        let release = instructions::release_held(&accounts, owner, &rent_payer, &to);
        self.world.send_as_relayer(&[release])
    }

    /// What a replaced recipient is owed; 0 once the account is closed.
    pub fn owed(&self, owner: &Address) -> u64 {
        let key = address::held_balance(&self.world.service, owner).0;
        match self.world.svm.get_account(&key) {
            Some(account) if !account.data.is_empty() => {
                self.world.decode::<HeldBalance>(&key).amount
            }
            _ => 0,
        }
    }

    /// What the service holds, which must be the sum of what it holds for each leg and of what it owes outside the
    /// terms to `replaced`.
    pub fn held(&self, replaced: &[Address]) -> u64 {
        let service = self.world.service_account(&self.world.service);
        let legs: u64 = service.recipients.iter().map(|share| share.held).sum();
        let outside: u64 = replaced.iter().map(|owner| self.owed(owner)).sum();
        let sum = legs + service.held_treasury + service.held_facilitator + outside;
        assert_eq!(service.held_total, sum, "the parts are the whole");
        sum
    }

    /// The base of a token account.
    pub fn token(&self, key: &Address) -> TokenAccount {
        let account = self.world.svm.get_account(key).unwrap();
        StateWithExtensions::<TokenAccount>::unpack(&account.data)
            .unwrap()
            .base
    }

    /// Atomic units in a token account.
    pub fn balance(&self, key: &Address) -> u64 {
        self.token(key).amount
    }

    /// Atomic units that a token account withholds as fees.
    pub fn withheld(&self, key: &Address) -> u64 {
        let account = self.world.svm.get_account(key).unwrap();
        let state = StateWithExtensions::<TokenAccount>::unpack(&account.data).unwrap();
        let fees = state.get_extension::<TransferFeeAmount>().unwrap();
        u64::from(fees.withheld_amount)
    }

    /// Units in the vault, with every leg and with these payers.
    pub fn money(&self, payers: &[&Payer]) -> u64 {
        let mut keys = self.legs();
        keys.push(self.vault());
        keys.extend(payers.iter().map(|payer| payer.source));
        keys.iter().map(|key| self.balance(key)).sum()
    }

    /// Freezes an account.
    pub fn freeze(&mut self, key: &Address) {
        let (mint, admin) = (self.world.mint, self.world.admin.pubkey());
        let build = instruction::freeze_account(&self.program, key, &mint, &admin, &[]);
        self.as_admin(build.unwrap()).unwrap();
    }

    /// Thaws an account.
    pub fn thaw(&mut self, key: &Address) {
        let (mint, admin) = (self.world.mint, self.world.admin.pubkey());
        let build = instruction::thaw_account(&self.program, key, &mint, &admin, &[]);
        self.as_admin(build.unwrap()).unwrap();
    }

    /// Sets the fee from the epoch after the next on.
    pub fn set_fee(&mut self, bps: u16) {
        let (mint, admin) = (self.world.mint, self.world.admin.pubkey());
        let build = transfer_fee::instruction::set_transfer_fee(
            &PROGRAM,
            &mint,
            &admin,
            &[],
            bps,
            u64::MAX,
        );
        self.as_admin(build.unwrap()).unwrap();
    }

    /// Moves the clock ahead by epochs.
    pub fn pass_epochs(&mut self, epochs: u64) {
        let mut clock = self.world.svm.get_sysvar::<Clock>();
        clock.epoch += epochs;
        self.world.svm.set_sysvar(&clock);
    }

    /// Sets the program that every transfer calls.
    pub fn set_hook(&mut self, program: Option<Address>) {
        let (mint, admin) = (self.world.mint, self.world.admin.pubkey());
        let build = transfer_hook::instruction::update(&PROGRAM, &mint, &admin, &[], program);
        self.as_admin(build.unwrap()).unwrap();
    }

    /// Pauses or resumes the mint.
    pub fn set_paused(&mut self, paused: bool) {
        let (mint, admin) = (self.world.mint, self.world.admin.pubkey());
        let build = if paused {
            pausable::instruction::pause(&PROGRAM, &mint, &admin, &[])
        } else {
            pausable::instruction::resume(&PROGRAM, &mint, &admin, &[])
        };
        self.as_admin(build.unwrap()).unwrap();
    }

    /// Moves tokens as the permanent delegate.
    pub fn seize(&mut self, from: &Address, to: &Address, amount: u64) {
        let (mint, admin) = (self.world.mint, self.world.admin.pubkey());
        let build =
            instruction::transfer_checked(&self.program, from, &mint, to, &admin, &[], amount, 6);
        self.as_admin(build.unwrap()).unwrap();
    }

    /// Makes room for an extension in a wallet's account, which it pays for.
    fn reallocate(&mut self, wallet: &Keypair, extension: ExtensionType) -> Address {
        let (owner, key) = (wallet.pubkey(), self.token_of(&wallet.pubkey()));
        self.world.svm.airdrop(&owner, 1_000_000_000).unwrap();
        let build = instruction::reallocate(&PROGRAM, &key, &owner, &owner, &[], &[extension]);
        self.world.send(&[build.unwrap()], &[wallet]).unwrap();
        key
    }

    /// Has a wallet's account demand a memo with what comes in, or no longer.
    pub fn require_memo(&mut self, wallet: &Keypair, required: bool) {
        let key = self.token_of(&wallet.pubkey());
        let owner = wallet.pubkey();
        let build = if required {
            self.reallocate(wallet, ExtensionType::MemoTransfer);
            memo_transfer::instruction::enable_required_transfer_memos(&PROGRAM, &key, &owner, &[])
        } else {
            memo_transfer::instruction::disable_required_transfer_memos(&PROGRAM, &key, &owner, &[])
        };
        self.world.send(&[build.unwrap()], &[wallet]).unwrap();
    }

    /// Guards a wallet's account against what programs would do in its name.
    pub fn guard(&mut self, wallet: &Keypair) {
        let key = self.reallocate(wallet, ExtensionType::CpiGuard);
        let owner = wallet.pubkey();
        let build = cpi_guard::instruction::enable_cpi_guard(&PROGRAM, &key, &owner, &[]);
        self.world.send(&[build.unwrap()], &[wallet]).unwrap();
    }

    /// Has an account that can hold confidential balances take open credits as well, or not.
    pub fn set_open_credits(&mut self, wallet: &Keypair, open: bool) {
        let (owner, key) = (wallet.pubkey(), self.token_of(&wallet.pubkey()));
        let build = if open {
            confidential_transfer::instruction::enable_non_confidential_credits
        } else {
            confidential_transfer::instruction::disable_non_confidential_credits
        };
        let instruction = build(&PROGRAM, &key, &owner, &[]).unwrap();
        self.world.svm.airdrop(&owner, 1_000_000_000).unwrap();
        self.world.send(&[instruction], &[wallet]).unwrap();
    }

    /// Data of an account.
    pub fn data(&self, key: &Address) -> Vec<u8> {
        self.world.svm.get_account(key).unwrap().data
    }

    /// Writes data over that of an account.
    pub fn set_data(&mut self, key: Address, data: Vec<u8>) {
        let mut account = self.world.svm.get_account(&key).unwrap();
        account.data = data;
        account.lamports = account.lamports.max(100_000_000);
        self.world.svm.set_account(key, account).unwrap();
    }

    /// Appends bytes to an account's or a mint's list of extensions, which the program itself never would.
    pub fn append(&mut self, key: Address, tag: u8, bytes: &[u8]) {
        let mut data = self.data(&key);
        if data.len() <= ACCOUNT_LEN {
            data.resize(ACCOUNT_LEN, 0);
            data.push(tag);
        }
        data.extend_from_slice(bytes);
        self.set_data(key, data);
    }
}

/// An extension of a token account, as its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tlv {
    /// Withheld fees.
    FeeAmount,
    /// Confidential balances; `true` takes open credits too.
    Confidential(bool),
    /// The owner cannot change.
    ImmutableOwner,
    /// A memo is demanded, or not.
    Memo(bool),
    /// Tokens that cannot move.
    NonTransferable,
    /// The guard is on, or not.
    CpiGuard(bool),
    /// The mint has a hook, or room for one.
    Hook,
    /// Withheld fees, confidential.
    ConfidentialFee,
    /// The mint can be paused.
    Pausable,
    /// A number that nobody knows, with as many bytes.
    Unknown(u16, u8),
    /// A length past the end. Ends the list.
    PastTheEnd,
    /// Fewer bytes than number and length take. Ends the list.
    Truncated,
}

impl Tlv {
    /// Number, length and value.
    pub fn bytes(self) -> Vec<u8> {
        let (kind, value) = match self {
            Self::FeeAmount => (2, vec![0; 8]),
            Self::Confidential(open) => {
                let mut value = vec![0; 295];
                // Approved, and both kinds of credits: the second switch is the one for open credits.
                value[0] = 1;
                value[261] = 1;
                value[262] = u8::from(open);
                (5, value)
            }
            Self::ImmutableOwner => (7, vec![]),
            Self::Memo(required) => (8, vec![u8::from(required)]),
            Self::CpiGuard(on) => (11, vec![u8::from(on)]),
            Self::NonTransferable => (13, vec![]),
            Self::Hook => (15, vec![0]),
            Self::ConfidentialFee => (17, vec![0; 64]),
            Self::Pausable => (27, vec![]),
            Self::Unknown(kind, len) => (kind, vec![0; usize::from(len)]),
            Self::PastTheEnd => return vec![8, 0, 2, 0, 0],
            Self::Truncated => return vec![8, 0, 1],
        };
        let len = u16::try_from(value.len()).unwrap();
        [&u16::to_le_bytes(kind)[..], &len.to_le_bytes(), &value].concat()
    }

    /// Whether Sluice knows it, and it can stand in a list.
    fn is_known(self) -> bool {
        !matches!(
            self,
            Self::NonTransferable | Self::Unknown(..) | Self::PastTheEnd | Self::Truncated
        )
    }
}

/// A token account of any shape, to be written straight into the ledger.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Of the right mint.
    pub mint: bool,
    /// Of the right owner.
    pub owner: bool,
    /// Atomic units.
    pub amount: u64,
    /// Approved to whom: the nonce account or a stranger, and how much.
    pub delegate: Option<(bool, u64)>,
    /// 0 uninitialised, 1 initialised, 2 frozen.
    pub state: u8,
    /// Its extensions.
    pub list: Vec<Tlv>,
    /// Padded to a multisig's length, where it is shorter.
    pub multisig: bool,
    /// Owned by the mint's program.
    pub program: bool,
    /// There at all.
    pub exists: bool,
}

impl Shape {
    /// An account with nothing wrong about it, that has approved what it holds.
    pub fn good(amount: u64) -> Self {
        Self {
            mint: true,
            owner: true,
            amount,
            delegate: Some((true, amount)),
            state: 1,
            list: Vec::new(),
            multisig: false,
            program: true,
            exists: true,
        }
    }

    /// The account as the chain keeps it.
    pub fn account(
        &self,
        mint: Address,
        owner: Address,
        nonce: Address,
        program: Address,
    ) -> Account {
        if !self.exists {
            return Account::default();
        }
        let stranger = Address::new_from_array([77; 32]);
        let pick = |right: bool, key| if right { key } else { stranger };
        let state = TokenState {
            mint: pick(self.mint, mint),
            owner: pick(self.owner, owner),
            amount: self.amount,
            delegate: self
                .delegate
                .map(|(right, amount)| (pick(right, nonce), amount)),
            frozen: false,
        };
        let mut account = state.account(pick(self.program, program));
        account.data[108] = self.state;
        if !self.list.is_empty() || self.multisig {
            account.data.push(2);
            for extension in &self.list {
                account.data.extend(extension.bytes());
            }
        }
        if self.multisig && account.data.len() < MULTISIG_LEN {
            account.data.resize(MULTISIG_LEN, 0);
        }
        account.lamports = 100_000_000;
        account
    }

    /// An initialised or frozen account of the right program and mint, whose list can be read and is known.
    fn is_sound(&self, program: &Address) -> bool {
        let extended = !self.list.is_empty() || self.multisig;
        let multisig = self.multisig && ACCOUNT_LEN + self.list_len() < MULTISIG_LEN;
        self.exists
            && self.program
            && self.mint
            && (self.state == 1 || self.state == 2)
            && !multisig
            && (!extended || *program == TOKEN_2022_PROGRAM)
            && self.list.iter().all(|one| one.is_known())
    }

    fn list_len(&self) -> usize {
        self.list.iter().map(|one| one.bytes().len()).sum()
    }

    /// Whether it can take money.
    pub fn takes(&self, program: &Address) -> bool {
        self.is_sound(program)
            && self.owner
            && self.state == 1
            && !self.list.contains(&Tlv::Memo(true))
            && !self.list.contains(&Tlv::Confidential(false))
    }

    /// Why `amount` cannot be pulled from it.
    pub fn gives(&self, program: &Address, amount: u64) -> Option<Skip> {
        if !self.is_sound(program) {
            Some(Skip::SourceUnusable)
        } else if self.state == 2 {
            Some(Skip::SourceFrozen)
        } else if !self.owner {
            Some(Skip::OwnerChanged)
        } else {
            match self.delegate {
                Some((true, approved)) if approved < amount => Some(Skip::DelegatedShort),
                Some((true, _)) => (self.amount < amount).then_some(Skip::BalanceShort),
                _ => Some(Skip::DelegateGone),
            }
        }
    }
}
