//! `sluice intent`.

use clap::{Args, Subcommand};
use serde_json::Value;
use sluice_client::Facilitator;

use crate::{
    commands::pay::{facilitator_error, runtime},
    context::Context,
    errors::CliError,
    output::Pairs,
};

/// Payment intents.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// What became of a payment, as its relayer knows it
    #[command(
        after_help = "Example:\n  sluice intent status DIGEST --relayer http://localhost:8402"
    )]
    Status(Status),
}

/// `sluice intent status`.
#[derive(Debug, Args)]
pub struct Status {
    /// Hex of the payment's digest, from its receipt
    digest: String,
    /// The relayer that it was paid through
    #[arg(
        long,
        value_name = "URL",
        env = "SLUICE_RELAYER",
        hide_env_values = true
    )]
    relayer: String,
}

impl Command {
    /// Runs the command.
    pub fn run(&self, context: &Context) -> Result<(), CliError> {
        let Self::Status(args) = self;
        let digest = args.digest.to_ascii_lowercase();
        if hex::decode(&digest).map_or(0, |bytes| bytes.len()) != 32 {
            return Err(CliError::usage(
                format!("{:?} is not a digest", args.digest),
                "give the 64 hex digits that the receipt shows",
            ));
        }
        let facilitator =
            Facilitator::new(&args.relayer).map_err(|e| facilitator_error(&args.relayer, &e))?;
        let value = runtime()?
            .block_on(facilitator.intent(&digest))
            .map_err(|error| facilitator_error(&args.relayer, &error))?;
        context.output.result(&value, |_| {
            let mut pairs = Pairs::new();
            flatten(&mut pairs, "", &value);
            pairs.render("")
        })
    }
}

/// The relayer's words, one row each: what it adds later shows without a change here.
fn flatten(pairs: &mut Pairs, name: &str, value: &Value) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                let path = if name.is_empty() {
                    field.clone()
                } else {
                    format!("{name}.{field}")
                };
                flatten(pairs, &path, value);
            }
        }
        Value::Array(items) if items.iter().any(|item| item.is_object()) => {
            for (index, item) in items.iter().enumerate() {
                flatten(pairs, &format!("{name}.{index}"), item);
            }
        }
        Value::Array(items) => {
            let words: Vec<String> = items.iter().map(word).collect();
            pairs.row(name, words.join("\n"));
        }
        Value::Null => {}
        other => {
            pairs.row(name, word(other));
        }
    }
}

fn word(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}
