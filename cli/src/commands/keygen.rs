//! `sluice keygen`.

use std::{fs::OpenOptions, io::Write, path::PathBuf};

use clap::Args;
use serde_json::json;
use solana_keypair::Keypair;
use solana_signer::Signer;

use crate::{context::path_text, errors::CliError, output::Output};

/// Make a keypair file
///
/// The file is as the Solana CLI writes them, readable by its owner only. An existing file is never replaced,
/// and the secret is never printed.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  sluice keygen -o agent.json\n  solana -k agent.json address")]
pub struct Keygen {
    /// The file to write
    #[arg(short, long, value_name = "FILE")]
    outfile: PathBuf,
}

impl Keygen {
    /// Runs the command.
    pub fn run(&self, output: &Output) -> Result<(), CliError> {
        let path = path_text(&self.outfile);
        let failed = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => CliError::error(
                format!("{path} exists, and a key that is overwritten is lost"),
                "give another -o, or remove it yourself",
            ),
            std::io::ErrorKind::NotFound => CliError::error(
                format!("the folder of {path} does not exist"),
                "make it first",
            ),
            _ => CliError::error(
                format!("{path}: {error}"),
                "give a place that can be written to",
            ),
        };
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&self.outfile).map_err(failed)?;
        let keypair = Keypair::new();
        let text = serde_json::to_string(&keypair.to_bytes().to_vec())
            .map_err(|error| CliError::error(error, "report it"))?;
        file.write_all(text.as_bytes()).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        let address = keypair.pubkey();
        output.result(
            &json!({"address": address.to_string(), "file": path}),
            |_| format!("{address}\nwritten to {path}: whoever has this file has the key"),
        )
    }
}
