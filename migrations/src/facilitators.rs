//! 003: the facilitators, and the accounts that their fees go to.

use sluice_sdk::{
    Address,
    accounts::Facilitator,
    instructions::{self, FacilitatorArgs},
};

use crate::{Chain, Change, Error, Fields, Planner, Step, bps, key, limit, list, tokens::Receiver};

const STEP: Step = Step::Facilitators;

pub(crate) fn plan<C: Chain + ?Sized>(planner: &mut Planner<'_, C>) -> Result<(), Error> {
    for one in &planner.file.facilitators {
        let address = one.address();
        let mut fields = Fields::default();
        match planner.read::<Facilitator>(&address)? {
            None => {
                fields.fresh("authority", one.authority);
                fields.fresh("wallet", one.wallet);
                fields.fresh("relayers", list(&one.relayers));
                fields.fresh("min_fee_bps", bps(one.min_fee_bps));
                fields.fresh("min_fee_fixed", limit(one.min_fee_fixed));
                let args = FacilitatorArgs {
                    wallet: one.wallet.to_bytes(),
                    min_fee_bps: one.min_fee_bps,
                    min_fee_fixed: one.min_fee_fixed,
                    relayers: one.relayers.iter().map(Address::to_bytes).collect(),
                };
                planner.plan.changes.push(Change {
                    step: STEP,
                    description: format!("register facilitator {:?}", one.name),
                    address,
                    fields: fields.0,
                    instructions: vec![instructions::register_facilitator(&one.authority, &args)],
                    fee_payer: one.authority,
                });
            }
            Some(found) => {
                let relayers: Vec<Address> = found
                    .relayer_keys()
                    .iter()
                    .map(|bytes| key(*bytes))
                    .collect();
                fields.compare("authority", key(found.authority), one.authority);
                fields.compare("wallet", key(found.wallet), one.wallet);
                fields.compare("relayers", list(&relayers), list(&one.relayers));
                fields.compare("min_fee_bps", bps(found.min_fee_bps), bps(one.min_fee_bps));
                fields.compare(
                    "min_fee_fixed",
                    limit(found.min_fee_fixed),
                    limit(one.min_fee_fixed),
                );
                let state = if found.suspended == 0 {
                    "in use"
                } else {
                    "suspended by the admin"
                };
                fields.compare("state", state, "in use");
                let subject = format!("facilitator {:?}", one.name);
                let mend = "this version cannot change a facilitator: correct the file, or register \
                            another under a new authority";
                planner
                    .plan
                    .drift
                    .extend(fields.into_drift(STEP, &subject, address, mend));
            }
        }
        let receivers = planner
            .file
            .mints
            .iter()
            .map(|mint| {
                Ok(Receiver {
                    what: "fee account".to_owned(),
                    owner: one.wallet,
                    mint: mint.address,
                    token_program: planner.mint(&mint.address)?.token_program,
                })
            })
            .collect::<Result<_, Error>>()?;
        let description = format!("open the fee accounts of facilitator {:?}", one.name);
        planner.open_accounts(STEP, one.authority, description, receivers)?;
    }
    Ok(())
}
