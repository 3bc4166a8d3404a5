//! `sluice migrate`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use sluice_migrations::{self as migrations, Change, File, Plan, Step};
use solana_keypair::Keypair;
use solana_signer::Signer;

use crate::{
    context::Context,
    errors::CliError,
    output::{Pairs, Style},
};

/// Set a cluster up from a TOML file.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show what is missing between the file and the chain, as a diff; changes nothing
    #[command(
        after_help = "Examples:\n  sluice migrate plan --file sluice.toml\n  sluice migrate plan --file sluice.toml --output json -u devnet\n\nThe steps are 001_config, 002_mints, 003_facilitators, 004_services. migrations/example.toml shows every key."
    )]
    Plan(FileArg),
    /// Send what plan shows, and plan once more to prove that nothing is left
    #[command(
        after_help = "Examples:\n  sluice migrate apply --file sluice.toml\n  sluice migrate apply --file sluice.toml --yes\n      a second time, it does nothing\n\nSigners are the files that the TOML names, and --keypair."
    )]
    Apply(FileArg),
}

/// The file.
#[derive(Debug, Args)]
pub struct FileArg {
    /// The TOML file
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
}

impl Command {
    /// Runs the command.
    pub fn run(&self, context: &Context) -> Result<(), CliError> {
        match self {
            Self::Plan(args) => {
                let file = File::load(&args.file)?;
                let plan = migrations::plan(&context.chain, &file)?;
                context.output.result(&to_json(&plan), |output| {
                    to_text(&plan, &|style, text| output.paint(style, text))
                })
            }
            Self::Apply(args) => apply(context, args),
        }
    }
}

fn apply(context: &Context, args: &FileArg) -> Result<(), CliError> {
    let file = File::load(&args.file)?;
    let plan = migrations::plan(&context.chain, &file)?;
    let output = &context.output;
    if context.dry_run {
        return output.result(&to_json(&plan), |output| {
            to_text(&plan, &|style, text| output.paint(style, text))
        });
    }
    if !output.is_json() || (!context.yes && context.can_ask()) {
        output.note(to_text(&plan, &|style, text| output.paint_err(style, text)).trim_end());
    }
    let mut signers = if plan.changes.is_empty() {
        Vec::new()
    } else {
        file.load_signers()?
    };
    // --keypair stands in for what the file does not name. That it is missing only matters if it is needed.
    let have = |signers: &[Keypair], key| signers.iter().any(|one| one.pubkey() == key);
    if plan.signers().into_iter().any(|key| !have(&signers, key)) {
        signers.extend(context.signer().ok());
    }
    if plan.drift.is_empty() && !plan.changes.is_empty() {
        context.confirm(&format!("Send {}?", count(plan.changes.len())))?;
    }
    let refs: Vec<&dyn Signer> = signers.iter().map(|key| key as &dyn Signer).collect();
    let applied = migrations::apply(&context.chain, &file, &plan, &refs, |one| {
        if !output.is_json() {
            let mark = output.paint(Style::Green, "done");
            let what = format!("{mark} {} {}", one.change.step, one.change.description);
            output.line(&format!("{what}\n     {}", one.signature));
        }
    })?;
    let rows: Vec<Value> = applied
        .iter()
        .map(|one| {
            let mut row = change_json(&one.change);
            row["signature"] = one.signature.to_string().into();
            row
        })
        .collect();
    output.result(&json!({"status": "applied", "changes": rows}), |_| {
        if applied.is_empty() {
            "nothing to do: the chain is as the file says".to_owned()
        } else {
            format!(
                "{} applied; planned again: the chain is as the file says",
                count(applied.len())
            )
        }
    })
}

fn count(changes: usize) -> String {
    format!(
        "{changes} transaction{}",
        if changes == 1 { "" } else { "s" }
    )
}

fn change_json(change: &Change) -> Value {
    let fields: Vec<Value> = change
        .fields
        .iter()
        .map(|field| json!({"field": field.name, "before": field.before, "after": field.after}))
        .collect();
    let signers: Vec<String> = change.signers().iter().map(ToString::to_string).collect();
    json!({
        "step": change.step.name(),
        "description": change.description,
        "address": change.address.to_string(),
        "fields": fields,
        "signers": signers,
    })
}

fn to_json(plan: &Plan) -> Value {
    let drift: Vec<Value> = plan
        .drift
        .iter()
        .map(|one| {
            json!({
                "step": one.step.name(),
                "subject": one.subject,
                "address": one.address.to_string(),
                "field": one.field,
                "chain": one.chain,
                "file": one.file,
                "mend": one.mend,
            })
        })
        .collect();
    let changes: Vec<Value> = plan.changes.iter().map(change_json).collect();
    json!({"changes": changes, "drift": drift, "notes": plan.notes})
}

fn to_text(plan: &Plan, paint: &dyn Fn(Style, &str) -> String) -> String {
    let mut text = String::new();
    let mut line = |words: &str| {
        text.push_str(words);
        text.push('\n');
    };
    for step in Step::ALL {
        let changes: Vec<&Change> = plan.changes.iter().filter(|one| one.step == step).collect();
        let drift: Vec<_> = plan.drift.iter().filter(|one| one.step == step).collect();
        if changes.is_empty() && drift.is_empty() {
            line(&format!(
                "{}  {}",
                paint(Style::Bold, step.name()),
                paint(Style::Dim, "nothing to do")
            ));
            continue;
        }
        line(&paint(Style::Bold, step.name()));
        for one in drift {
            line(&paint(
                Style::Red,
                &format!("  ! {} {}", one.subject, one.field),
            ));
            line(&format!("      chain  {}", one.chain));
            line(&format!("      file   {}", one.file));
            line(&format!("      mend   {}", one.mend));
        }
        for change in changes {
            line(&format!("  {}", change.description));
            let width = change
                .fields
                .iter()
                .map(|field| field.name.len())
                .max()
                .unwrap_or(0);
            for field in &change.fields {
                match &field.before {
                    Some(before) => {
                        line(&paint(
                            Style::Red,
                            &format!("    - {:width$}  {before}", field.name),
                        ));
                        line(&paint(
                            Style::Green,
                            &format!("    + {:width$}  {}", field.name, field.after),
                        ));
                    }
                    None => line(&paint(
                        Style::Green,
                        &format!("    + {:width$}  {}", field.name, field.after),
                    )),
                }
            }
            let signers: Vec<String> = change.signers().iter().map(ToString::to_string).collect();
            let mut pairs = Pairs::new();
            pairs.row("account", change.address);
            pairs.row("signed by", signers.join("\n"));
            line(&paint(Style::Dim, pairs.render("    ").trim_end()));
        }
    }
    for note in &plan.notes {
        line(&paint(Style::Yellow, &format!("note: {note}")));
    }
    match (plan.changes.len(), plan.drift.len()) {
        (0, 0) => line("the chain is as the file says"),
        (changes, 0) => line(&format!("{} to send", count(changes))),
        (_, drift) => line(&format!(
            "{drift} difference{} that cannot be repaired: nothing will be sent before the file is corrected",
            if drift == 1 { "" } else { "s" }
        )),
    }
    text
}
