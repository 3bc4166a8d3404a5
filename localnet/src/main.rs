//! `sluice-localnet`: a local Solana validator with Sluice deployed and everybody funded.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{Parser, ValueEnum};
use serde_json::{Value, json};
use sluice_localnet::{
    DemoKeys, GENESIS_HASH, LAMPORTS_PER_SOL, Localnet, NETWORK, Role, USDC_DECIMALS, USDC_MINT,
    default_program_path, program_data_address,
};
use solana_address::Address;
use solana_signer::Signer as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The embedded validator clones and drops whole accounts: with the C library's allocator that is a third of its time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Run a local Solana validator with Sluice deployed and everybody funded.
///
/// It listens on 127.0.0.1 only, connects to nothing outside, keeps nothing, and runs until it is interrupted.
/// It declares itself to be devnet, which x402 clients know. The program is upgradeable; the mint has devnet USDC's
/// address and 6 decimals. The demo keys are the same everywhere and public: never use them on another network.
#[derive(Debug, Parser)]
#[command(name = "sluice-localnet", version, after_help = EXAMPLES, after_long_help = EXAMPLES)]
struct Args {
    /// Port of the RPC; 0 picks a free one
    #[arg(long, value_name = "PORT", default_value_t = 8899)]
    rpc_port: u16,

    /// Port of the websocket; 0 picks a free one
    #[arg(long, value_name = "PORT", default_value_t = 8900)]
    ws_port: u16,

    /// Time from block to block, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 400, value_parser = clap::value_parser!(u64).range(10..=10_000))]
    slot_ms: u64,

    /// The program's file [default: target/deploy/sluice.so here or in a folder above; made by `make program`]
    #[arg(long, value_name = "PATH", env = "SLUICE_PROGRAM")]
    program: Option<PathBuf>,

    /// Start without the program
    #[arg(long, conflicts_with_all = ["program", "program_id"])]
    no_program: bool,

    /// Where the program is deployed
    #[arg(long, value_name = "ADDRESS", default_value_t = sluice_sdk::PROGRAM_ID)]
    program_id: Address,

    /// Write the demo key pairs into this folder, as files the Solana command line reads
    #[arg(long, value_name = "DIR")]
    keys_dir: Option<PathBuf>,

    /// Give an address SOL, on top of what it has; may be repeated
    #[arg(long, value_name = "ADDRESS=SOL", value_parser = parse_fund)]
    fund: Vec<(Address, u64)>,

    /// Give an owner USDC, in units of 0.000001, on top of what it has; may be repeated
    #[arg(long, value_name = "OWNER=UNITS", value_parser = parse_token)]
    token: Vec<(Address, u64)>,

    /// How to print what was started: a block of text, or one line of JSON
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,

    /// Print the validator's own messages on standard error
    #[arg(long, short)]
    verbose: bool,
}

const EXAMPLES: &str = "\
Examples:
  sluice-localnet
      RPC on 8899, websocket on 8900, the program from target/deploy/sluice.so
  sluice-localnet --keys-dir .demo/keys
      the same, with the demo keys as files: solana -u localhost -k .demo/keys/admin.json balance
  sluice-localnet --rpc-port 0 --ws-port 0 --output json
      free ports, and a line of JSON for a script to read
  sluice-localnet --fund 7Np41oeYqPefeNQEHSv1UDhYrehxin3NStELsSKCT4K2=2.5 \\
                  --token 7Np41oeYqPefeNQEHSv1UDhYrehxin3NStELsSKCT4K2=5000000
      2.5 SOL and 5 USDC for a wallet of your own";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the runtime cannot be created: {error}"))?;
    runtime.block_on(async {
        // Listened to before anything starts, so that an early signal ends it in order too.
        let mut interrupt = listen_to(SignalKind::interrupt())?;
        let mut terminate = listen_to(SignalKind::terminate())?;

        if let Some(dir) = &args.keys_dir {
            write_keys(dir, &DemoKeys::new())?;
        }
        let mut builder = Localnet::builder()
            .program_id(args.program_id)
            .rpc_port(args.rpc_port)
            .ws_port(args.ws_port)
            .slot_time(Duration::from_millis(args.slot_ms))
            .verbose(args.verbose);
        let program = match &args.program {
            _ if args.no_program => None,
            Some(path) => Some(path.clone()),
            None => Some(default_program_path()),
        };
        builder = match &program {
            Some(path) => builder.program(path),
            None => builder.without_program(),
        };
        for (address, lamports) in &args.fund {
            builder = builder.fund(*address, *lamports);
        }
        for (owner, units) in &args.token {
            builder = builder.token(*owner, *units);
        }
        let localnet = builder.start().map_err(|error| error.to_string())?;

        let ready = match args.output {
            Output::Json => ready_json(args, program.as_deref(), &localnet).to_string(),
            Output::Text => ready_text(args, program.as_deref(), &localnet),
        };
        // A reader that has gone is no reason to stop.
        let _ = writeln!(io::stdout(), "{ready}");

        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            why = localnet.ended() => return Err(format!("the validator ended: {why}")),
        }
        localnet.stop().map_err(|error| error.to_string())
    })
}

fn listen_to(kind: SignalKind) -> Result<Signal, String> {
    signal(kind).map_err(|error| format!("signals cannot be listened to: {error}"))
}

/// Writes each key pair to `ROLE.json`, readable by its owner only: they are public, but tools warn otherwise, and habits
/// matter.
fn write_keys(dir: &Path, keys: &DemoKeys) -> Result<(), String> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| format!("the folder {} cannot be created: {error}", dir.display()))?;
    for (role, keypair) in keys.iter() {
        let path = key_file(dir, role);
        let content = json!(keypair.to_bytes().to_vec()).to_string();
        write_key(&path, &content)?;
    }
    Ok(())
}

fn write_key(path: &Path, content: &str) -> Result<(), String> {
    let failed = |error: io::Error| format!("{} cannot be written: {error}", path.display());
    let new = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match new {
        Ok(mut file) => file.write_all(content.as_bytes()).map_err(failed),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // Somebody's own key under the same name is worth more than a demo.
            if fs::read_to_string(path).map_err(failed)? != content {
                return Err(format!(
                    "{} exists and is not the demo key: choose another folder with --keys-dir",
                    path.display()
                ));
            }
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

fn key_file(dir: &Path, role: Role) -> PathBuf {
    dir.join(format!("{role}.json"))
}

fn ready_text(args: &Args, program: Option<&Path>, localnet: &Localnet) -> String {
    let program = program.map_or_else(
        || "not deployed".to_owned(),
        |path| {
            format!(
                "{} (upgradeable, from {})",
                localnet.program_id(),
                path.display()
            )
        },
    );
    let mut lines = vec![
        format!(
            "sluice-localnet is ready, one block every {} ms",
            args.slot_ms
        ),
        String::new(),
        format!("  rpc       {}", localnet.rpc_url()),
        format!("  websocket {}", localnet.ws_url()),
        format!("  network   {NETWORK} (a local stand-in for devnet)"),
        format!("  program   {program}"),
        format!("  mint      {USDC_MINT} ({USDC_DECIMALS} decimals)"),
        String::new(),
        "  Demo keys. EVERYBODY HAS THEM: never send them anything on a public network.".to_owned(),
    ];
    for (role, keypair) in localnet.keys().iter() {
        let address = keypair.pubkey().to_string();
        let sol = match role.lamports() / LAMPORTS_PER_SOL {
            0 => String::new(),
            sol => format!("{sol} SOL"),
        };
        lines.push(format!(
            "  {role:<18} {address:<44} {sol:>7}  {}",
            role.purpose()
        ));
    }
    lines.push(match &args.keys_dir {
        Some(dir) => format!("  Their files are in {}.", dir.display()),
        None => "  --keys-dir DIR writes them to files.".to_owned(),
    });
    lines.push(String::new());
    lines.push("Interrupt it (Ctrl-C) to stop; nothing is kept.".to_owned());
    lines.join("\n")
}

fn ready_json(args: &Args, program: Option<&Path>, localnet: &Localnet) -> Value {
    let keys: serde_json::Map<String, Value> = localnet
        .keys()
        .iter()
        .map(|(role, keypair)| {
            let file = args.keys_dir.as_ref().map(|dir| key_file(dir, role));
            let key = json!({"address": keypair.pubkey().to_string(), "file": file, "lamports": role.lamports()});
            (role.name().to_owned(), key)
        })
        .collect();
    json!({
        "rpc_url": localnet.rpc_url(),
        "ws_url": localnet.ws_url(),
        "network": NETWORK,
        "genesis_hash": GENESIS_HASH,
        "slot_ms": args.slot_ms,
        "mint": USDC_MINT.to_string(),
        "decimals": USDC_DECIMALS,
        "program_id": program.map(|_| localnet.program_id().to_string()),
        "program_data": program.map(|_| program_data_address(&localnet.program_id()).to_string()),
        "program": program,
        "keys": keys,
    })
}

fn parse_fund(text: &str) -> Result<(Address, u64), String> {
    let (address, sol) = split(text)?;
    let lamports =
        lamports(sol).ok_or_else(|| format!("\"{sol}\" is no amount of SOL, such as 2 or 0.5"))?;
    Ok((address, lamports))
}

fn parse_token(text: &str) -> Result<(Address, u64), String> {
    let (owner, units) = split(text)?;
    let units = units
        .parse()
        .map_err(|_| format!("\"{units}\" is no number of units; 1 USDC is 1000000"))?;
    Ok((owner, units))
}

fn split(text: &str) -> Result<(Address, &str), String> {
    let (address, amount) = text
        .split_once('=')
        .ok_or("write the address, an equals sign and the amount, with no spaces")?;
    let address = address
        .parse()
        .map_err(|_| format!("\"{address}\" is no Solana address"))?;
    Ok((address, amount))
}

/// Decimal SOL to lamports, exactly.
fn lamports(sol: &str) -> Option<u64> {
    let (whole, fraction) = sol.split_once('.').unwrap_or((sol, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let fraction: u64 = format!("{fraction:0<9}").parse().ok()?;
    whole
        .parse::<u64>()
        .ok()?
        .checked_mul(LAMPORTS_PER_SOL)?
        .checked_add(fraction)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn sol_amounts_are_exact() {
        assert_eq!(lamports("2"), Some(2_000_000_000));
        assert_eq!(lamports("0.5"), Some(500_000_000));
        assert_eq!(lamports("0.000000001"), Some(1));
        assert_eq!(lamports("18446744073.709551615"), Some(u64::MAX));
        for wrong in [
            "",
            ".",
            "1.",
            ".5",
            "-1",
            "+1",
            "1e3",
            "0.0000000001",
            "18446744073.709551616",
            "18446744074",
        ] {
            assert_eq!(lamports(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn amounts_need_an_address() {
        let address = Role::Merchant.keypair().pubkey();
        assert_eq!(parse_token(&format!("{address}=7")), Ok((address, 7)));
        assert_eq!(
            parse_fund(&format!("{address}=0.1")),
            Ok((address, 100_000_000))
        );
        for wrong in [
            "",
            "=",
            "5",
            "nobody=5",
            &format!("{address}="),
            &format!("{address}=-1"),
            &format!("{address} = 1"),
        ] {
            assert!(parse_token(wrong).is_err(), "{wrong}");
            assert!(parse_fund(wrong).is_err(), "{wrong}");
        }
    }
}
