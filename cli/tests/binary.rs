//! The built binary, as a script meets it.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    path::Path,
    process::{Command, Output},
};

/// Nothing listens on port 1.
const DEAD: &str = "http://127.0.0.1:1";

fn sluice(args: &[&str]) -> Output {
    // Away from whoever runs the tests: their config and environment must not matter.
    Command::new(env!("CARGO_BIN_EXE_sluice"))
        .args(args)
        .env_clear()
        .env("HOME", "/nonexistent")
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[track_caller]
fn fails(args: &[&str], code: i32) -> String {
    let output = sluice(args);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
    assert!(output.stdout.is_empty(), "{args:?}: errors are for stderr");
    assert!(!stderr.contains('\u{1b}'), "colours without a terminal");
    stderr
}

#[test]
fn help_documents_the_exit_codes() {
    let output = sluice(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let help = text(&output.stdout);
    for word in ["Exit codes", "unknown outcome", "--dry-run", "Examples"] {
        assert!(help.contains(word), "{word}");
    }
}

#[test]
fn a_wrong_command_line_is_2() {
    fails(&["config", "show", "--no-such-flag"], 2);
    fails(&["config", "set-fees"], 2);
    fails(&["service", "quote", "not-an-address", "1"], 2);
    fails(&["payer", "approve", "1.2.3"], 2);
    fails(&["config", "show", "-u", "nowhere"], 2);
    fails(&["intent", "status", "abc", "--relayer", DEAD], 2);
}

#[test]
fn a_dead_rpc_is_5_and_says_what_to_do() {
    let stderr = fails(&["config", "show", "-u", DEAD], 5);
    assert!(
        stderr.contains(DEAD) && stderr.contains("--url"),
        "{stderr}"
    );

    let stderr = fails(&["config", "show", "-u", DEAD, "--output", "json"], 5);
    let error: serde_json::Value = serde_json::from_str(&stderr).unwrap();
    assert_eq!(error["error"]["code"], "unreachable");
    assert!(error["error"]["mend"].as_str().unwrap().contains("--url"));
}

#[test]
fn a_dead_relayer_is_5() {
    let digest = "00".repeat(32);
    let stderr = fails(
        &["intent", "status", &digest, "--relayer", DEAD, "-u", DEAD],
        5,
    );
    assert!(stderr.contains("--relayer"), "{stderr}");
}

#[test]
fn a_missing_keypair_is_named_with_a_way_to_make_one() {
    let stderr = fails(
        &["payer", "show", "-u", DEAD, "-k", "/nonexistent/key.json"],
        1,
    );
    assert!(stderr.contains("/nonexistent/key.json"), "{stderr}");
    assert!(
        stderr.contains("sluice keygen") && stderr.contains("solana-keygen new"),
        "{stderr}"
    );
}

#[test]
fn the_url_that_is_paid_is_not_the_rpc() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key.json");
    let key = key.to_str().unwrap();
    sluice(&["keygen", "-o", key]);
    let stderr = fails(
        &["pay", "http://127.0.0.1:2/paid", "-u", DEAD, "-k", key],
        5,
    );
    assert!(stderr.contains("RPC at http://127.0.0.1:1:"), "{stderr}");
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.yml");
    std::fs::write(
        &config,
        "json_rpc_url: http://127.0.0.1:3\nwebsocket_url: ''\nkeypair_path: /nonexistent/file.json\ncommitment: confirmed\n",
    )
    .unwrap();
    let asked = |args: &[&str], env: Option<(&str, &str)>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        command
            .args(["config", "show"])
            .args(args)
            .env_clear()
            .env("HOME", "/nonexistent");
        command.env("SLUICE_CONFIG", &config);
        command.envs(env);
        text(&command.output().unwrap().stderr)
    };
    assert!(asked(&[], None).contains("127.0.0.1:3"));
    let env = Some(("SLUICE_URL", "http://127.0.0.1:2"));
    assert!(asked(&[], env).contains("127.0.0.1:2"));
    assert!(asked(&["-u", DEAD], env).contains("127.0.0.1:1"));
    let stderr = fails(
        &["config", "show", "--config", "/nonexistent/config.yml"],
        1,
    );
    assert!(stderr.contains("--config"), "{stderr}");
}

#[cfg(unix)]
#[test]
fn a_new_key_is_private_and_never_replaced() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.json");
    let path_text = path.to_str().unwrap();
    let output = sluice(&["keygen", "-o", path_text, "--output", "json"]);
    assert_eq!(output.status.code(), Some(0));
    let before = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let secret: Vec<u8> = serde_json::from_str(&before).unwrap();
    assert_eq!(secret.len(), 64);
    assert!(
        !text(&output.stdout).contains(&before),
        "the secret is not printed"
    );
    fails(&["keygen", "-o", path_text], 1);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
}

#[test]
fn a_migration_file_with_a_mistake_is_refused_before_the_rpc_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.toml");
    std::fs::write(&path, "[config]\nadmn = \"x\"\n").unwrap();
    let stderr = fails(
        &[
            "migrate",
            "plan",
            "--file",
            path.to_str().unwrap(),
            "-u",
            DEAD,
        ],
        1,
    );
    assert!(
        stderr.contains("admn") && stderr.contains("bad.toml"),
        "{stderr}"
    );
    assert!(
        Path::new(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../migrations/example.toml"
        ))
        .exists()
    );
}

#[test]
fn completions_are_printed_for_every_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let output = sluice(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output.stdout).contains("sluice"));
    }
}
