//! Token accounts that must be open before money can be sent to them.

use sluice_sdk::{Address, SYSTEM_PROGRAM, address, token};

use crate::{Chain, Change, Drift, Error, Field, Planner, Step};

/// A wallet that must be able to receive a mint.
pub(crate) struct Receiver {
    /// What it is, for a person.
    pub what: String,
    /// The wallet.
    pub owner: Address,
    /// The mint.
    pub mint: Address,
    /// The mint's program.
    pub token_program: Address,
}

impl<C: Chain + ?Sized> Planner<'_, C> {
    /// A mint as it is on the chain.
    pub(crate) fn mint(&self, address: &Address) -> Result<token::Mint, Error> {
        let found = self.chain.get_accounts(&[*address])?.into_iter().next();
        found
            .flatten()
            .and_then(|found| token::decode_mint(&found.owner, &found.data))
            .ok_or(Error::Missing {
                what: "the mint",
                address: *address,
            })
    }

    /// Plans to open the accounts of `receivers` that are not open, in one transaction that `funder` pays
    /// for. Pairs that an earlier change opens already are left out.
    pub(crate) fn open_accounts(
        &mut self,
        step: Step,
        funder: Address,
        description: String,
        receivers: Vec<Receiver>,
    ) -> Result<(), Error> {
        let accounts: Vec<Address> = receivers
            .iter()
            .map(|one| address::token_account(&one.owner, &one.mint, &one.token_program))
            .collect();
        let found = self.chain.get_accounts(&accounts)?;
        let mut fields = Vec::new();
        let mut instructions = Vec::new();
        let mut about = None;
        for ((receiver, account), found) in receivers.iter().zip(&accounts).zip(found) {
            let found = found.filter(|one| one.owner != SYSTEM_PROGRAM || !one.data.is_empty());
            if let Some(found) = found {
                self.check_account(step, receiver, account, &found);
                continue;
            }
            let (owner, mint) = (&receiver.owner, &receiver.mint);
            let create = token::create_account(&funder, owner, mint, &receiver.token_program);
            if instructions.contains(&create) || self.opens(account) {
                continue;
            }
            about.get_or_insert(*account);
            fields.push(Field {
                name: receiver.what.clone(),
                before: None,
                after: format!("{account} (owner {})", receiver.owner),
            });
            instructions.push(create);
        }
        if let Some(address) = about {
            self.plan.changes.push(Change {
                step,
                description,
                address,
                fields,
                instructions,
                fee_payer: funder,
            });
        }
        Ok(())
    }

    /// An associated token account is derived from its owner, but the owner can hand it on, and the mint's
    /// authority can freeze it: then it takes no money, and nothing here can change that.
    fn check_account(
        &mut self,
        step: Step,
        receiver: &Receiver,
        account: &Address,
        found: &crate::chain::AccountData,
    ) {
        let mut drift = |field: &str, chain: String, file: String| {
            self.plan.drift.push(Drift {
                step,
                subject: format!("{} {account}:", receiver.what),
                address: *account,
                field: field.to_owned(),
                chain,
                file,
                mend: "name another wallet in the file, or have the account restored by its owner",
            });
        };
        match token::decode_account(&found.owner, &found.data) {
            None => drift(
                "kind",
                format!("an account of {}", found.owner),
                "a token account".to_owned(),
            ),
            Some(token) if token.owner != receiver.owner => {
                drift("owner", token.owner.to_string(), receiver.owner.to_string());
            }
            Some(token) if token.frozen => {
                drift("state", "frozen".to_owned(), "able to receive".to_owned());
            }
            Some(token) if !token.lets_in => {
                drift(
                    "state",
                    "closed to plain transfers".to_owned(),
                    "able to receive".to_owned(),
                );
            }
            Some(_) => {}
        }
    }

    /// Whether a change that is planned already opens `account`.
    fn opens(&self, account: &Address) -> bool {
        let mut planned = self
            .plan
            .changes
            .iter()
            .flat_map(|change| &change.instructions);
        planned.any(|one| {
            one.program_id == token::ASSOCIATED_TOKEN_PROGRAM
                && one
                    .accounts
                    .get(1)
                    .is_some_and(|meta| meta.pubkey == *account)
        })
    }
}
