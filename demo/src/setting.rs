//! The files of a demo, in a folder under `target`: keys, migrations, the relayer's configuration, logs.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::{Context, Result, ensure};
use sluice_sdk::{Address, DEVNET_USDC, address};

use crate::processes::Localnet;

/// The demo's service, among its merchant's.
const SERVICE_ID: u64 = 1;

/// The folder of a run, from the workspace's root: what is printed can be typed again there.
pub struct Setting {
    folder: &'static str,
    /// What is added to the relayer's configuration.
    relayer: String,
}

impl Setting {
    /// A new folder: the chain is new, too, and a ledger goes with its chain.
    pub fn fresh(folder: &'static str) -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("..")
            .canonicalize()?;
        std::env::set_current_dir(&root).with_context(|| format!("entering {}", root.display()))?;
        if Path::new(folder).exists() {
            fs::remove_dir_all(folder).with_context(|| format!("emptying {folder}"))?;
        }
        fs::create_dir_all(folder)?;
        Ok(Self {
            folder,
            relayer: String::new(),
        })
    }

    /// Where everything is.
    pub fn folder(&self) -> PathBuf {
        PathBuf::from(self.folder)
    }

    /// Adds to the relayer's configuration.
    pub fn with_relayer(mut self, text: &str) -> Self {
        self.relayer = text.to_owned();
        self
    }

    /// The demo keys.
    pub fn keys(&self) -> PathBuf {
        self.folder().join("keys")
    }

    /// The relayer's log.
    pub fn relayer_log(&self) -> PathBuf {
        self.folder().join("relayer.log")
    }

    /// The built program.
    pub fn program(&self) -> Result<PathBuf> {
        let path = PathBuf::from("target/deploy/sluice.so");
        ensure!(
            path.exists(),
            "{} is missing: run `make program`",
            path.display()
        );
        Ok(path)
    }

    /// The migrations' file.
    pub fn migrations(&self) -> String {
        format!("{}/migrations.toml", self.folder)
    }

    /// Writes the migrations: what a new cluster's admin would write by hand.
    pub fn write_migrations(&self, localnet: &Localnet) -> Result<()> {
        let key = |role: &str| localnet.address(role);
        let text = format!(
            r#"[config]
admin = "{admin}"
keypair = "keys/admin.json"
treasury = "{treasury}"
treasury_bps = 50
max_facilitator_bps = 1000
max_intent_ttl = 300

[[mint]]
address = "{mint}"
min = 100
max = 1_000_000_000

[[facilitator]]
name = "demo"
authority = "{facilitator}"
keypair = "keys/facilitator.json"
wallet = "{wallet}"
relayers = ["{relayer}"]
min_fee_bps = 100

[[service]]
id = {SERVICE_ID}
creator = "{merchant}"
keypair = "keys/merchant.json"
mint = "{mint}"
facilitator = "demo"
facilitator_bps = 100
recipients = [
    {{ owner = "{merchant}", bps = 7000 }},
    {{ owner = "{partner}", bps = 3000 }},
]
"#,
            admin = key("admin")?,
            treasury = key("treasury")?,
            mint = DEVNET_USDC,
            facilitator = key("facilitator")?,
            wallet = key("facilitator-wallet")?,
            relayer = key("relayer")?,
            merchant = key("merchant")?,
            partner = key("partner")?,
        );
        fs::write(self.folder().join("migrations.toml"), text)?;
        Ok(())
    }

    /// Writes the relayer's configuration.
    pub fn write_relayer(&self, localnet: &Localnet, listen: SocketAddr) -> Result<PathBuf> {
        let authority = parse(&localnet.address("facilitator")?)?;
        let text = format!(
            r#"listen = "{listen}"
network = "solana-devnet"
rpc_url = "{rpc}"
ws_url = "{ws}"
database_url = "sqlite://{database}"
facilitator = "{facilitator}"

[fee_payer]
keypair = "{keypair}"
{more}"#,
            more = self.relayer,
            rpc = localnet.rpc_url(),
            ws = localnet.text("ws_url")?,
            database = self.folder().join("ledger.db").display(),
            facilitator = address::facilitator(&authority).0,
            keypair = localnet.key_file("relayer")?,
        );
        fs::write(self.folder().join("relayer.toml"), text)?;
        Ok(self.folder().join("relayer.toml"))
    }
}

/// The demo's service.
pub fn service_address(localnet: &Localnet) -> Result<Address> {
    Ok(address::service(&parse(&localnet.address("merchant")?)?, SERVICE_ID).0)
}

/// Whose balances the demo compares: a name and a wallet each.
pub fn parties(localnet: &Localnet, service: Address) -> Result<Vec<(&'static str, Address)>> {
    let mut parties = Vec::new();
    for (name, role) in [
        ("payer", "payer"),
        ("agent", "agent"),
        ("merchant", "merchant"),
        ("partner", "partner"),
        ("facilitator", "facilitator-wallet"),
        ("treasury", "treasury"),
        ("relayer", "relayer"),
    ] {
        parties.push((name, parse(&localnet.address(role)?)?));
    }
    parties.push(("vault", service));
    Ok(parties)
}

/// An address from its text.
pub fn parse(text: &str) -> Result<Address> {
    Address::from_str(text).with_context(|| format!("{text:?} as an address"))
}
