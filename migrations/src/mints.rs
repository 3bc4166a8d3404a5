//! 002: the mints that services may be paid in.

use sluice_sdk::{
    accounts::AcceptedMint,
    address,
    instructions::{self, MintArgs},
};

use crate::{Chain, Change, Error, Fields, Planner, Step, key, limit, tokens::Receiver};

const STEP: Step = Step::Mints;

pub(crate) fn plan<C: Chain + ?Sized>(planner: &mut Planner<'_, C>) -> Result<(), Error> {
    let config = &planner.file.config;
    for mint in &planner.file.mints {
        let found = planner.mint(&mint.address)?;
        let extensions = mint.extension_set();
        planner.open_accounts(
            STEP,
            config.admin,
            format!("open the treasury's account of mint {}", mint.address),
            vec![Receiver {
                what: "treasury account".to_owned(),
                owner: config.treasury,
                mint: mint.address,
                token_program: found.token_program,
            }],
        )?;

        let treasury_token =
            address::token_account(&config.treasury, &mint.address, &found.token_program);
        let (address, _) = address::accepted_mint(&mint.address);
        let mut fields = Fields::default();
        let description = match planner.read::<AcceptedMint>(&address)? {
            None => {
                fields.fresh("min", limit(mint.min));
                fields.fresh("max", limit(mint.max));
                fields.fresh("settle", mint.settle);
                fields.fresh("decimals", found.decimals);
                if extensions != 0 {
                    fields.fresh("extensions", written(extensions));
                }
                fields.fresh("treasury_token", treasury_token);
                format!("accept mint {}", mint.address)
            }
            Some(accepted) => {
                fields.compare("min", limit(accepted.min_amount), limit(mint.min));
                fields.compare("max", limit(accepted.max_amount), limit(mint.max));
                fields.compare("settle", accepted.settles(), mint.settle);
                fields.compare(
                    "extensions",
                    written(accepted.allowed_extensions),
                    written(extensions),
                );
                // A treasury that moves takes its accounts along, in a change of the first step.
                if !planner.moves_treasury() {
                    fields.compare(
                        "treasury_token",
                        key(accepted.treasury_token),
                        treasury_token,
                    );
                }
                format!("change how mint {} is accepted", mint.address)
            }
        };
        if fields.0.is_empty() {
            continue;
        }
        let args = MintArgs {
            settle: mint.settle,
            min_amount: mint.min,
            max_amount: mint.max,
            allowed_extensions: extensions,
        };
        let set_mint = instructions::set_mint(&config.admin, &mint.address, &treasury_token, &args);
        planner.plan.changes.push(Change {
            step: STEP,
            description,
            address,
            fields: fields.0,
            instructions: vec![set_mint],
            fee_payer: config.admin,
        });
    }
    Ok(())
}

/// A set of extensions as the file writes it.
fn written(set: u64) -> String {
    let numbers = (0..64u8).filter(|kind| set >> kind & 1 == 1);
    format!("{:?}", numbers.collect::<Vec<_>>())
}

impl<C: ?Sized> Planner<'_, C> {
    fn moves_treasury(&self) -> bool {
        let mut fields = self.plan.changes.iter().flat_map(|change| &change.fields);
        fields.any(|field| field.name == "treasury" && field.before.is_some())
    }
}
