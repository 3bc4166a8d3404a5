//! The configuration and what it says when it is wrong.

use std::path::Path;

use sluice_relayer::{Config, config::LogFormat};
use sluice_sdk::x402::Network;

const GOOD: &str = r#"
network = "solana-devnet"
rpc_url = "http://127.0.0.1:8899"
facilitator = "11111111111111111111111111111112"
[fee_payer]
env = "RELAYER_KEYPAIR"
"#;

fn problem(text: &str) -> String {
    Config::from_toml(text).unwrap_err().to_string()
}

#[test]
fn the_example_is_good() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("relayer.example.toml");
    let config = Config::load(&path).unwrap();
    // The example shows the defaults.
    let least = Config::from_toml(GOOD).unwrap();
    assert_eq!(config.listen, least.listen);
    assert_eq!(config.database_url.expose(), least.database_url.expose());
    assert_eq!(config.limits, least.limits);
    assert_eq!(config.fees, least.fees);
    assert_eq!(config.chain, least.chain);
    assert_eq!(config.batch, least.batch);
    assert_eq!(config.distribute, least.distribute);
    assert_eq!(config.reclaim, least.reclaim);
    assert_eq!(config.onboard, least.onboard);
    assert!(!config.onboard.enabled);
    let text = |config: &Config| format!("{:?}", config.economics);
    assert_eq!(text(&config), text(&least));
    assert_eq!(config.payment_identifier, least.payment_identifier);
    assert_eq!(config.guard, least.guard);
    assert!(config.alerts.webhook_url.is_none());
    assert_eq!(config.alerts.webhook_private, least.alerts.webhook_private);
    assert_eq!(config.alerts.pause_secs, least.alerts.pause_secs);
    assert_eq!(config.alerts.stale_balance(), least.alerts.stale_balance());
    assert!(config.more_fee_payers.is_empty());
    assert_eq!(config.replica, least.replica);
    assert_eq!(config.log_format, least.log_format);
}

#[test]
fn a_short_file_is_enough() {
    let config = Config::from_toml(GOOD).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:4020");
    assert_eq!(config.network, Network::Devnet);
    assert_eq!(config.database_url.expose(), "sqlite://sluice-relayer.db");
    assert_eq!(config.limits.body_bytes, 65_536);
    assert_eq!(config.limits.confirm_timeout_secs, 60);
    assert_eq!(config.log_format, LogFormat::Text);
    let caip2 = GOOD.replace("solana-devnet", Network::Devnet.caip2());
    assert_eq!(Config::from_toml(&caip2).unwrap().network, Network::Devnet);
}

#[test]
fn mistakes_are_named() {
    let missing = problem("network = \"solana\"");
    assert!(missing.contains("rpc_url"), "{missing}");
    let unknown = problem(&format!("lisen = 1\n{GOOD}"));
    assert!(unknown.contains("lisen"), "{unknown}");
    let nested = problem(&format!("{GOOD}\n[limits]\nbody_byte = 1"));
    assert!(
        nested.contains("limits") && nested.contains("body_byte"),
        "{nested}"
    );
    let wrong = problem(&format!("{GOOD}\n[limits]\nbody_bytes = \"big\""));
    assert!(wrong.contains("limits.body_bytes"), "{wrong}");
    let network = problem(&GOOD.replace("solana-devnet", "base"));
    assert!(
        network.contains("network") && network.contains("base"),
        "{network}"
    );
    let address = problem(&GOOD.replace("11111111111111111111111111111112", "me"));
    assert!(
        address.contains("facilitator") && address.contains("me"),
        "{address}"
    );
    let url = problem(&GOOD.replace("http://127.0.0.1:8899", "127.0.0.1"));
    assert!(url.contains("rpc_url"), "{url}");
    let both = problem(&format!("{GOOD}\nkeypair = \"x\""));
    assert!(both.contains("exactly one"), "{both}");
    let database = problem(&format!("database_url = \"mysql://x\"\n{GOOD}"));
    assert!(database.contains("database_url"), "{database}");
    let more = problem(&format!("more_fee_payers = [{{}}]\n{GOOD}"));
    assert!(more.contains("more_fee_payers"), "{more}");
    let batch = problem(&format!("{GOOD}\n[batch]\nmax_payments = 0"));
    assert!(batch.contains("batch.max_payments"), "{batch}");
    let format = problem(&format!("{GOOD}\n[batch]\nformat = \"v7\""));
    assert!(format.contains("batch.format"), "{format}");
    let dear = problem(&format!(
        "{GOOD}\n[fees]\nunit_price_micro_lamports = 1000000"
    ));
    assert!(dear.contains("max_lamports_per_transaction"), "{dear}");
    for (text, field) in [
        (
            "trusted_proxies = [\"10.0.0.0/99\"]",
            "guard.trusted_proxies",
        ),
        ("api_keys = [{ name = \"a\" }]", "guard.api_keys"),
        (
            "api_keys = [{ name = \"a\", env = \"A\" }, { name = \"a\", env = \"B\" }]",
            "a name of its own",
        ),
        (
            "api_keys = [{ name = \"a\", key = \"hush\" }]",
            "unknown key",
        ),
        (
            "failures = { window_secs = 0 }",
            "guard.failures.window_secs",
        ),
        (
            "screening = { hook = { url = \"http://10.0.0.1/hush\" } }",
            "guard.screening.hook.url",
        ),
        (
            "screening = { hook = { url = \"file:///hush\" } }",
            "guard.screening.hook.url",
        ),
        ("cors = { origins = [\"shop\"] }", "guard.cors.origins"),
        ("rates = { moon = {} }", "guard.rates"),
    ] {
        let guard = problem(&format!("{GOOD}\n[guard]\n{text}"));
        assert!(guard.contains(field), "{guard}");
        assert!(!guard.contains("hush"), "{guard}");
    }
    let head = problem(&format!("{GOOD}\n[limits]\nhead_bytes = 1"));
    assert!(head.contains("limits.head_bytes"), "{head}");
    let margin = problem(&format!("{GOOD}\n[chain]\nexpiry_margin_secs = 61"));
    assert!(margin.contains("chain.expiry_margin_secs"), "{margin}");
}

#[test]
fn what_earns_nothing_is_named() {
    let economics = |keys: &str| format!("{GOOD}\n[economics]\n{keys}");
    for (keys, field) in [
        ("enforce = true", "economics.enforce"),
        ("sol_usd = \"0\"", "economics.sol_usd"),
        ("sol_usd = \"1e3\"", "economics.sol_usd"),
        ("token_usd = { x = \"1\" }", "economics.token_usd"),
        ("price_url = \"file:///etc/passwd\"", "economics.price_url"),
        ("price_url = \"http://\"", "economics.price_url"),
        (
            "price_url = \"http://x\"\nprice_max_age_secs = 30",
            "economics.price_max_age_secs",
        ),
        ("price_poll_secs = 0", "economics.price_poll_secs"),
        ("wait_ms = 60000", "economics.wait_ms"),
        ("wait_batch = 1", "economics.wait_batch"),
        ("margin_bps = 1000001", "economics.margin_bps"),
        ("subsidy = 1", "economics.subsidy"),
    ] {
        let problem = problem(&economics(keys));
        assert!(problem.contains(field), "{keys}: {problem}");
        assert!(!problem.contains("passwd"), "{problem}");
    }
    let keys = "enforce = true\nsol_usd = \"150.25\"\n\
        token_usd = { \"EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v\" = \"0.9998\" }";
    let config = Config::from_toml(&economics(keys)).unwrap().economics;
    assert_eq!(config.sol_usd.unwrap().to_string(), "150.25");
    let token = config.token_usd.0.values().next().unwrap();
    assert_eq!(token.to_string(), "0.9998");
    // As an environment variable gives it.
    let number = Config::from_toml(&economics("sol_usd = 150.1")).unwrap();
    let price = number.economics.sol_usd.unwrap();
    assert_eq!(price.to_string(), "150.1");
    let kept = problem(&format!(
        "{GOOD}\n[payment_identifier]\nkeep_secs = 99999999"
    ));
    assert!(kept.contains("payment_identifier.keep_secs"), "{kept}");
}

#[test]
fn mistakes_about_chores_are_named() {
    for (tables, field) in [
        ("[reclaim]\nidle_secs = 60", "reclaim.idle_secs"),
        ("[reclaim]\nscan_ms = 0", "reclaim.scan_ms"),
        ("[distribute]\nscan_ms = 0", "distribute.scan_ms"),
        ("[distribute]\nmax_vaults = 0", "distribute.max_vaults"),
        ("[distribute]\nservices = [\"me\"]", "distribute.services"),
        ("[distribute]\nthreshhold = 1", "distribute.threshhold"),
        ("[onboard]\nenabled = true", "onboard.mints"),
        (
            "[[onboard.mints]]\nmint = \"11111111111111111111111111111112\"\nmin_units = 0",
            "onboard.mints",
        ),
    ] {
        let problem = problem(&format!("{GOOD}\n{tables}"));
        assert!(problem.contains(field), "{field}: {problem}");
    }
}

#[test]
fn both_databases_can_be_named() {
    for url in ["sqlite://x.db", "postgres://u@h/d", "postgresql://u@h/d"] {
        let config = Config::from_toml(&format!("database_url = \"{url}\"\n{GOOD}")).unwrap();
        assert_eq!(config.database_url.expose(), url);
    }
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::load(Path::new("/nowhere/relayer.toml")).unwrap_err();
    assert!(
        error.to_string().contains("/nowhere/relayer.toml"),
        "{error}"
    );
}

#[test]
fn a_key_in_the_file_is_refused_and_not_repeated() {
    for text in [
        GOOD.replace(
            "[fee_payer]\nenv = \"RELAYER_KEYPAIR\"",
            "fee_payer = \"hush\"",
        ),
        GOOD.replace("\"RELAYER_KEYPAIR\"", "[104, 117, 115, 104]"),
    ] {
        let error = problem(&text);
        assert!(error.contains("fee_payer"), "{error}");
        assert!(!error.contains("hush") && !error.contains("117"), "{error}");
    }
}
