//! 001: the config of the deployment.

use sluice_sdk::{
    Address, PROGRAM_ID,
    accounts::{self, AcceptedMint},
    address,
    instructions::{self, ConfigArgs, ConfigUpdate},
    token,
};

use crate::{Chain, Change, Drift, Error, Fields, Planner, Step, bps, key, somebody};

const STEP: Step = Step::Config;
const SUBJECT: &str = "the config's";

pub(crate) fn plan<C: Chain + ?Sized>(planner: &mut Planner<'_, C>) -> Result<(), Error> {
    let genesis_hash = planner.chain.genesis_hash()?;
    match planner.read::<accounts::Config>(&address::config().0)? {
        None => create(planner, genesis_hash),
        Some(config) => compare(planner, &config, genesis_hash),
    }
}

fn create<C: Chain + ?Sized>(
    planner: &mut Planner<'_, C>,
    genesis_hash: [u8; 32],
) -> Result<(), Error> {
    let file = &planner.file.config;
    let (data_address, _) = address::program_data();
    let data = planner
        .chain
        .get_accounts(&[data_address])?
        .into_iter()
        .next();
    let data = data.flatten().ok_or(Error::NotDeployed(PROGRAM_ID))?;
    let authority =
        accounts::upgrade_authority(&data.owner, &data.data).map_err(|error| Error::Decode {
            address: data_address,
            error,
        })?;
    let Some(authority) = authority else {
        planner.plan.drift.push(Drift {
            step: STEP,
            subject: "the program's".to_owned(),
            address: data_address,
            field: "upgrade authority".to_owned(),
            chain: "nobody".to_owned(),
            file: "a config to create".to_owned(),
            mend: "only an upgrade authority can create the config: deploy the program anew",
        });
        return Ok(());
    };
    let guardian = file.guardian.unwrap_or_default();
    let mut fields = Fields::default();
    fields.fresh("admin", file.admin);
    fields.fresh("guardian", somebody(guardian));
    fields.fresh("treasury", file.treasury);
    fields.fresh("treasury_bps", bps(file.treasury_bps));
    fields.fresh("max_facilitator_bps", bps(file.max_facilitator_bps));
    fields.fresh("max_intent_ttl", format!("{} s", file.max_intent_ttl));
    fields.fresh("genesis_hash", key(genesis_hash));
    let args = ConfigArgs {
        admin: file.admin.to_bytes(),
        guardian: guardian.to_bytes(),
        treasury: file.treasury.to_bytes(),
        genesis_hash,
        treasury_bps: file.treasury_bps,
        max_facilitator_bps: file.max_facilitator_bps,
        max_intent_ttl: file.max_intent_ttl,
    };
    planner.plan.changes.push(Change {
        step: STEP,
        description: "create the config".to_owned(),
        address: address::config().0,
        fields: fields.0,
        instructions: vec![instructions::initialize_config(&authority, &args)],
        fee_payer: authority,
    });
    Ok(())
}

fn compare<C: Chain + ?Sized>(
    planner: &mut Planner<'_, C>,
    config: &accounts::Config,
    genesis_hash: [u8; 32],
) -> Result<(), Error> {
    let file = &planner.file.config;
    let (address, _) = address::config();
    let mut drift = Fields::default();
    drift.compare("genesis_hash", key(config.genesis_hash), key(genesis_hash));
    let mend = "this is not the cluster that the config was made for: check --url";
    let found = drift.into_drift(STEP, SUBJECT, address, mend);
    planner.plan.drift.extend(found);
    let mut drift = Fields::default();
    drift.compare("admin", key(config.admin), file.admin);
    let mend = "correct `admin` in the file, or have the present admin hand over";
    let found = drift.into_drift(STEP, SUBJECT, address, mend);
    planner.plan.drift.extend(found);

    let mut fields = Fields::default();
    let mut update = ConfigUpdate::default();
    // An announced share is as good as set: it takes effect by itself.
    let coming = if config.fees_effective_at == 0 {
        config.treasury_bps
    } else {
        config.pending_treasury_bps
    };
    if fields.compare("treasury_bps", bps(coming), bps(file.treasury_bps)) {
        update.treasury_bps = Some(file.treasury_bps);
        if let Some(field) = fields.0.last_mut() {
            field
                .after
                .push_str(" (announced now, in force 24 h later)");
        }
    } else if config.fees_effective_at != 0 {
        planner.plan.notes.push(format!(
            "the treasury's share of {} is announced and in force from unix second {}",
            bps(coming),
            config.fees_effective_at
        ));
    }
    let (before, after) = (config.max_facilitator_bps, file.max_facilitator_bps);
    if fields.compare("max_facilitator_bps", bps(before), bps(after)) {
        update.max_facilitator_bps = Some(after);
    }
    let (before, after) = (config.max_intent_ttl, file.max_intent_ttl);
    if fields.compare(
        "max_intent_ttl",
        format!("{before} s"),
        format!("{after} s"),
    ) {
        update.max_intent_ttl = Some(after);
    }
    let guardian = file.guardian.unwrap_or_default();
    if fields.compare(
        "guardian",
        somebody(key(config.guardian)),
        somebody(guardian),
    ) {
        update.guardian = Some(guardian.to_bytes());
    }
    if !fields.0.is_empty() {
        planner.plan.changes.push(Change {
            step: STEP,
            description: "change the config".to_owned(),
            address,
            fields: fields.0,
            instructions: vec![instructions::update_config(&file.admin, &update)],
            fee_payer: file.admin,
        });
    }
    treasury(planner, config)
}

/// The wallet and the mints' treasury accounts move in one transaction: between two of them the treasury's
/// legs would be held back.
fn treasury<C: Chain + ?Sized>(
    planner: &mut Planner<'_, C>,
    config: &accounts::Config,
) -> Result<(), Error> {
    let file = &planner.file.config;
    let mut fields = Fields::default();
    if !fields.compare("treasury", key(config.treasury), file.treasury) {
        return Ok(());
    }
    let mut instructions = Vec::new();
    let mut pairs: Vec<(Address, Address)> = Vec::new();
    for mint in planner.file.mints.iter().map(|mint| mint.address) {
        let Some(accepted) = planner.read::<AcceptedMint>(&address::accepted_mint(&mint).0)? else {
            continue;
        };
        let program = key(accepted.token_program);
        let account = address::token_account(&file.treasury, &mint, &program);
        fields.compare(
            &format!("treasury_token of {mint}"),
            key(accepted.treasury_token),
            account,
        );
        let (admin, treasury) = (&file.admin, &file.treasury);
        instructions.push(token::create_account(admin, treasury, &mint, &program));
        pairs.push((mint, account));
    }
    instructions.push(instructions::set_treasury(
        &file.admin,
        &file.treasury,
        &pairs,
    ));
    planner.plan.notes.push(
        "mints that are accepted but not in the file keep the old treasury's accounts: name them all"
            .to_owned(),
    );
    planner.plan.changes.push(Change {
        step: STEP,
        description: "change the treasury".to_owned(),
        address: address::config().0,
        fields: fields.0,
        instructions,
        fee_payer: file.admin,
    });
    Ok(())
}
