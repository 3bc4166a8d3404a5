use sluice_sdk::Address;
use solana_account::Account;
use solana_program_pack::Pack;
use spl_token_interface::state::{Account as TokenAccount, AccountState, Mint};

/// A classic token account to be written straight into the ledger.
#[derive(Clone, Copy, Debug)]
pub struct TokenState {
    /// The mint.
    pub mint: Address,
    /// The owner.
    pub owner: Address,
    /// Atomic units.
    pub amount: u64,
    /// Who may move how much.
    pub delegate: Option<(Address, u64)>,
    /// Frozen by the mint's authority.
    pub frozen: bool,
}

impl TokenState {
    /// The account as the chain keeps it, owned by `program`.
    pub fn account(&self, program: Address) -> Account {
        let state = TokenAccount {
            mint: self.mint,
            owner: self.owner,
            amount: self.amount,
            delegate: self.delegate.map(|(key, _)| key).into(),
            delegated_amount: self.delegate.map_or(0, |(_, amount)| amount),
            state: if self.frozen {
                AccountState::Frozen
            } else {
                AccountState::Initialized
            },
            is_native: None.into(),
            close_authority: None.into(),
        };
        let mut data = vec![0; TokenAccount::LEN];
        TokenAccount::pack(state, &mut data).unwrap();
        Account {
            lamports: 10_000_000,
            data,
            owner: program,
            executable: false,
            rent_epoch: u64::MAX,
        }
    }
}

/// A classic mint with 6 decimals, whose authority can mint and freeze.
pub fn mint_data(authority: Address) -> Vec<u8> {
    let mint = Mint {
        mint_authority: Some(authority).into(),
        supply: u64::MAX / 2,
        decimals: 6,
        is_initialized: true,
        freeze_authority: Some(authority).into(),
    };
    let mut data = vec![0; Mint::LEN];
    Mint::pack(mint, &mut data).unwrap();
    data
}
