//! Everything that changes state goes through here: simulate, show, ask, send.

use serde::Serialize;
use sluice_migrations::{Chain, ChainError, Field, chain::Simulation};
use sluice_sdk::Address;
use solana_instruction::Instruction;
use solana_keypair::Keypair;
use solana_signer::Signer;

use crate::{
    amount::sol,
    context::Context,
    errors::CliError,
    output::{Output, Pairs, Style},
};

/// What a command would like to do.
#[derive(Debug, Default)]
pub struct Proposal {
    /// What it does, as a sentence without a full stop.
    pub title: String,
    /// What changes.
    pub fields: Vec<Field>,
    /// What a person should think about first.
    pub warnings: Vec<String>,
    /// The instructions.
    pub instructions: Vec<Instruction>,
}

impl Proposal {
    /// A proposal without fields.
    pub fn new(title: impl ToString, instructions: Vec<Instruction>) -> Self {
        Self {
            title: title.to_string(),
            instructions,
            ..Self::default()
        }
    }

    /// Adds a field that is new.
    #[must_use]
    pub fn field(mut self, name: &str, after: impl ToString) -> Self {
        self.fields.push(Field {
            name: name.to_owned(),
            before: None,
            after: after.to_string(),
        });
        self
    }

    /// Adds a field if it changes.
    #[must_use]
    pub fn change(mut self, name: &str, before: impl ToString, after: impl ToString) -> Self {
        let (before, after) = (before.to_string(), after.to_string());
        if before != after {
            self.fields.push(Field {
                name: name.to_owned(),
                before: Some(before),
                after,
            });
        }
        self
    }
}

/// What became of a proposal, for scripts.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// `sent`, `dry_run` or `unchanged`.
    pub status: &'static str,
    /// What it does.
    pub description: String,
    /// The transaction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
    /// What changes.
    pub changes: Vec<ChangeRow>,
    /// The account that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Who signs.
    pub signers: Vec<String>,
    /// The network fee.
    pub fee_lamports: u64,
    /// Rent for accounts that are opened.
    pub rent_lamports: u64,
    /// Accounts that are opened, with their lamports.
    pub opens: Vec<Opened>,
}

/// A field of [`Outcome`].
#[derive(Clone, Debug, Serialize)]
pub struct ChangeRow {
    /// Its name.
    pub field: String,
    /// What the chain holds.
    pub before: Option<String>,
    /// What it will hold.
    pub after: String,
}

/// An account that is opened.
#[derive(Clone, Debug, Serialize)]
pub struct Opened {
    /// Its address.
    pub address: String,
    /// Its rent.
    pub lamports: u64,
    /// Its size.
    pub bytes: usize,
}

impl Context {
    /// Simulates, shows, asks and sends. The first of `signers` pays the fee.
    pub fn execute(
        &self,
        proposal: Proposal,
        about: Option<Address>,
        signers: &[&Keypair],
    ) -> Result<Outcome, CliError> {
        let Some(fee_payer) = signers.first().map(|key| key.pubkey()) else {
            return Err(CliError::error("nobody signs", "report it"));
        };
        let simulation = self.chain.simulate(&fee_payer, &proposal.instructions)?;
        let keys: Vec<Address> = signers.iter().map(|key| key.pubkey()).collect();
        let mut outcome = outcome(&proposal, about, &keys, &simulation);
        self.review(&proposal, &keys, &simulation, &outcome);
        if let Some(failure) = simulation.failure {
            return Err(ChainError::Refused(Box::new(failure)).into());
        }
        if self.dry_run {
            outcome.status = "dry_run";
            return Ok(outcome);
        }
        self.confirm("Send it?")?;
        let mut distinct: Vec<&dyn Signer> = Vec::new();
        for key in signers {
            if distinct.iter().all(|one| one.pubkey() != key.pubkey()) {
                distinct.push(*key);
            }
        }
        let signature = self
            .chain
            .send(&fee_payer, &proposal.instructions, &distinct)?;
        outcome.signature = Some(signature.to_string());
        Ok(outcome)
    }

    /// [`Context::execute`], and prints the outcome.
    pub fn run(
        &self,
        proposal: Proposal,
        about: Option<Address>,
        signers: &[&Keypair],
    ) -> Result<(), CliError> {
        let outcome = self.execute(proposal, about, signers)?;
        self.output
            .result(&outcome, |output| outcome_text(output, &outcome))
    }

    /// What a command says that finds everything as it should be.
    pub fn unchanged(&self, description: &str, about: Address) -> Result<(), CliError> {
        let outcome = Outcome {
            status: "unchanged",
            description: description.to_owned(),
            signature: None,
            changes: Vec::new(),
            address: Some(about.to_string()),
            signers: Vec::new(),
            fee_lamports: 0,
            rent_lamports: 0,
            opens: Vec::new(),
        };
        self.output
            .result(&outcome, |_| format!("nothing to change: {description}"))
    }

    /// The review goes to stderr, so that stdout holds results only.
    fn review(
        &self,
        proposal: &Proposal,
        keys: &[Address],
        simulation: &Simulation,
        outcome: &Outcome,
    ) {
        if self.output.is_json() && (self.yes || self.dry_run || !self.can_ask()) {
            return;
        }
        let output = &self.output;
        output.note(&output.paint_err(Style::Bold, &proposal.title));
        let mut pairs = Pairs::new();
        for field in &proposal.fields {
            let value = match &field.before {
                Some(before) => format!("{before} → {}", field.after),
                None => field.after.clone(),
            };
            pairs.row(&field.name, value);
        }
        if !proposal.fields.is_empty() {
            output.note(pairs.render("  ").trim_end_matches('\n'));
        }
        let mut pairs = Pairs::new();
        for (index, key) in keys.iter().enumerate() {
            if keys.iter().take(index).any(|earlier| earlier == key) {
                continue;
            }
            let role = if index == 0 {
                "signs, pays fee and rent"
            } else {
                "signs"
            };
            pairs.row(role, key);
        }
        for opened in &outcome.opens {
            let text = format!(
                "{}, {} bytes, rent {}",
                opened.address,
                opened.bytes,
                sol(opened.lamports)
            );
            pairs.row("opens", text);
        }
        pairs.row("cost", cost(outcome));
        pairs.row("cluster", self.chain.place());
        if self.dry_run {
            pairs.row("compute", format!("{} units", simulation.units));
        }
        output.note(&output.paint_err(Style::Dim, pairs.render("  ").trim_end_matches('\n')));
        for warning in &proposal.warnings {
            output.note(&output.paint_err(Style::Yellow, &format!("  warning: {warning}")));
        }
    }
}

fn cost(outcome: &Outcome) -> String {
    let fee = format!("fee {}", sol(outcome.fee_lamports));
    if outcome.rent_lamports == 0 {
        return fee;
    }
    format!("{fee}, rent {}", sol(outcome.rent_lamports))
}

fn outcome(
    proposal: &Proposal,
    about: Option<Address>,
    keys: &[Address],
    simulation: &Simulation,
) -> Outcome {
    let opens: Vec<Opened> = simulation
        .accounts
        .iter()
        .filter(|one| one.before.is_none())
        .filter_map(|one| {
            one.after.map(|lamports| Opened {
                address: one.address.to_string(),
                lamports,
                bytes: one.bytes,
            })
        })
        .collect();
    let mut signers: Vec<String> = keys.iter().map(Address::to_string).collect();
    signers.dedup();
    Outcome {
        status: "sent",
        description: proposal.title.clone(),
        signature: None,
        changes: proposal
            .fields
            .iter()
            .map(|field| ChangeRow {
                field: field.name.clone(),
                before: field.before.clone(),
                after: field.after.clone(),
            })
            .collect(),
        address: about.map(|address| address.to_string()),
        signers,
        fee_lamports: simulation.fee,
        rent_lamports: opens.iter().map(|one| one.lamports).sum(),
        opens,
    }
}

/// The outcome for a person.
pub fn outcome_text(output: &Output, outcome: &Outcome) -> String {
    let mut pairs = Pairs::new();
    match &outcome.signature {
        Some(signature) => {
            pairs.row(output.paint(Style::Green, "done"), &outcome.description);
            pairs.row("transaction", signature);
        }
        None => {
            pairs.row(
                "dry run",
                format!(
                    "would {}: nothing was sent",
                    decapitalised(&outcome.description)
                ),
            );
        }
    }
    if let Some(address) = &outcome.address {
        pairs.row("account", address);
    }
    pairs.render("")
}

fn decapitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map(|first| first.to_lowercase().chain(letters).collect())
        .unwrap_or_default()
}
