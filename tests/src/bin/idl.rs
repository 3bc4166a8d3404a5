//! `make idl`: builds the program's IDL without the Anchor CLI. Prints it, or with `--write` puts it into
//! `idl/sluice.json`.
#![allow(clippy::print_stdout, reason = "it is what the program is for")]

use std::{
    env, fs,
    path::PathBuf,
    process::{Command, ExitCode},
};

use anchor_lang_idl::build::IdlBuilder;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("the IDL could not be built: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode, Box<dyn std::error::Error>> {
    // Under rustup's cargo this names the toolchain, and the builder passes it on wrongly: start again
    // without it.
    if env::var_os("RUSTUP_TOOLCHAIN").is_some() {
        let status = Command::new(env::current_exe()?)
            .args(env::args_os().skip(1))
            .env_remove("RUSTUP_TOOLCHAIN")
            .status()?;
        return Ok(if status.success() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        });
    }
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()?;
    let mut idl = IdlBuilder::new()
        .program_path(root.join("programs/sluice"))
        .skip_lint(true)
        .build()?;
    // It exists for the IDL alone: its accounts are what brings the layouts in.
    idl.instructions.retain(|one| one.name != "layouts");
    let text = serde_json::to_string_pretty(&idl)? + "\n";
    if env::args().any(|arg| arg == "--write") {
        fs::create_dir_all(root.join("idl"))?;
        fs::write(root.join("idl/sluice.json"), text)?;
    } else {
        print!("{text}");
    }
    Ok(ExitCode::SUCCESS)
}
