//! 004: the services, and the accounts that their recipients are paid to.

use sluice_sdk::{
    accounts::{SERVICE_ACTIVE, Service},
    instructions::{self, RecipientArg, ServiceArgs, TermsArgs},
};

use crate::{Chain, Change, Error, Fields, Planner, Step, bps, file, key, limit, tokens::Receiver};

const STEP: Step = Step::Services;

pub(crate) fn plan<C: Chain + ?Sized>(planner: &mut Planner<'_, C>) -> Result<(), Error> {
    for one in &planner.file.services {
        let address = one.address();
        // Checked when the file was read.
        let facilitator = planner.file.facilitator_of(one).unwrap_or_default();
        let recipients = written(one.recipients.iter().map(|row| (row.owner, row.bps)));
        let token_program = planner.mint(&one.mint)?.token_program;
        let receivers = one
            .recipients
            .iter()
            .map(|row| Receiver {
                what: "recipient's account".to_owned(),
                owner: row.owner,
                mint: one.mint,
                token_program,
            })
            .collect();
        let description = format!("open the accounts of the recipients of service {}", one.id);
        planner.open_accounts(STEP, one.creator, description, receivers)?;

        let mut fields = Fields::default();
        match planner.read::<Service>(&address)? {
            None => {
                fields.fresh("creator", one.creator);
                fields.fresh("mint", one.mint);
                fields.fresh("facilitator", facilitator);
                fields.fresh("facilitator_bps", bps(one.facilitator_bps));
                fields.fresh("facilitator_fixed", limit(one.facilitator_fixed));
                fields.fresh("min_payment", limit(one.min_payment));
                fields.fresh("recipients", recipients);
                planner.plan.changes.push(Change {
                    step: STEP,
                    description: format!("create service {}", one.id),
                    address,
                    fields: fields.0,
                    instructions: vec![instructions::create_service(
                        &one.creator,
                        &one.mint,
                        &token_program,
                        &facilitator,
                        &args(one),
                    )],
                    fee_payer: one.creator,
                });
            }
            Some(found) => {
                let rows = found
                    .shares()
                    .iter()
                    .map(|share| (key(share.owner), share.bps));
                fields.compare("mint", key(found.mint), one.mint);
                fields.compare("facilitator", key(found.facilitator), facilitator);
                fields.compare(
                    "facilitator_bps",
                    bps(found.facilitator_bps),
                    bps(one.facilitator_bps),
                );
                fields.compare(
                    "facilitator_fixed",
                    limit(found.facilitator_fixed),
                    limit(one.facilitator_fixed),
                );
                fields.compare(
                    "min_payment",
                    limit(found.min_payment),
                    limit(one.min_payment),
                );
                fields.compare("recipients", written(rows), recipients);
                let state = if found.status == SERVICE_ACTIVE {
                    "active"
                } else {
                    "closed"
                };
                fields.compare("state", state, "active");
                let subject = format!("service {}", one.id);
                let mend = "this version cannot change a service's terms: correct the file, or create \
                            another service under a new id";
                planner
                    .plan
                    .drift
                    .extend(fields.into_drift(STEP, &subject, address, mend));
            }
        }
    }
    Ok(())
}

fn args(one: &file::Service) -> ServiceArgs {
    ServiceArgs {
        id: one.id,
        terms: TermsArgs {
            facilitator_bps: one.facilitator_bps,
            facilitator_fixed: one.facilitator_fixed,
            min_payment: one.min_payment,
            recipients: one
                .recipients
                .iter()
                .map(|row| RecipientArg {
                    owner: row.owner.to_bytes(),
                    bps: row.bps,
                })
                .collect(),
        },
    }
}

fn written(rows: impl Iterator<Item = (sluice_sdk::Address, u16)>) -> String {
    let words: Vec<String> = rows
        .map(|(owner, share)| format!("{owner} {}", bps(share)))
        .collect();
    words.join(", ")
}
