//! The local validator as its users meet it: over RPC, and as a program with signals and exit codes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "these are tests"
)]

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};
use sluice_localnet::{
    DemoKeys, Error, GENESIS_HASH, Localnet, NETWORK, PAYER_UNITS, Role, USDC_MINT,
    associated_token_address, default_program_path, program_data_address,
};
use solana_address::Address;
use solana_hash::Hash;
use solana_instruction::{AccountMeta, Instruction};
use solana_keypair::Keypair;
use solana_message::{Message, VersionedMessage, v1};
use solana_signer::Signer as _;
use solana_system_interface::instruction::transfer;
use solana_transaction::versioned::VersionedTransaction;

const SLOT: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(60);
const MEMO: Address = Address::from_str_const("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr");

/// The built program, or a message that says why a test was skipped.
fn program() -> Option<PathBuf> {
    let path = default_program_path();
    if path.is_file() {
        return Some(path);
    }
    eprintln!(
        "SKIPPED: {} is missing, run `make program` to include this test",
        path.display()
    );
    None
}

struct Rpc {
    client: reqwest::Client,
    url: String,
}

impl Rpc {
    fn new(url: &str) -> Self {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self {
            client,
            url: url.to_owned(),
        }
    }

    async fn try_call(&self, method: &str, params: Value) -> Result<Value, Value> {
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let answer = self
            .client
            .post(&self.url)
            .json(&request)
            .send()
            .await
            .unwrap();
        let mut answer: Value = answer.json().await.unwrap();
        if answer["error"].is_null() {
            Ok(answer["result"].take())
        } else {
            Err(answer["error"].take())
        }
    }

    async fn call(&self, method: &str, params: Value) -> Value {
        self.try_call(method, params).await.unwrap()
    }

    /// An account as the RPC parses it, at the commitment most clients read at.
    async fn account(&self, address: Address) -> Value {
        let options = json!({"encoding": "jsonParsed", "commitment": "confirmed"});
        self.call("getAccountInfo", json!([address.to_string(), options]))
            .await["value"]
            .take()
    }

    async fn lamports(&self, address: Address) -> u64 {
        let options = json!({"commitment": "confirmed"});
        self.call("getBalance", json!([address.to_string(), options]))
            .await["value"]
            .as_u64()
            .unwrap()
    }

    async fn units(&self, owner: Address) -> String {
        let account = self.account(associated_token_address(&owner)).await;
        let info = &account["data"]["parsed"]["info"];
        assert_eq!(info["mint"], USDC_MINT.to_string());
        assert_eq!(info["owner"], owner.to_string());
        assert_eq!(info["state"], "initialized");
        info["tokenAmount"]["amount"].as_str().unwrap().to_owned()
    }

    async fn blockhash(&self) -> Hash {
        let answer = self.call("getLatestBlockhash", json!([])).await;
        answer["value"]["blockhash"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap()
    }

    async fn send(&self, transaction: &VersionedTransaction) -> Result<String, Value> {
        let bytes = wincode::serialize(transaction).unwrap();
        let options = json!({"encoding": "base64", "preflightCommitment": "confirmed"});
        let answer = self
            .try_call(
                "sendTransaction",
                json!([BASE64_STANDARD.encode(bytes), options]),
            )
            .await?;
        Ok(answer.as_str().unwrap().to_owned())
    }

    /// Waits until a transaction is confirmed, and returns its error.
    async fn landed(&self, signature: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut status = self
                .call("getSignatureStatuses", json!([[signature]]))
                .await["value"][0]
                .take();
            if matches!(
                status["confirmationStatus"].as_str(),
                Some("confirmed" | "finalized")
            ) {
                return status["err"].take();
            }
            assert!(Instant::now() < deadline, "not confirmed: {status}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn legacy(payer: &Keypair, instructions: &[Instruction], blockhash: Hash) -> VersionedTransaction {
    let message = Message::new_with_blockhash(instructions, Some(&payer.pubkey()), &blockhash);
    VersionedTransaction::try_new(VersionedMessage::Legacy(message), &[payer]).unwrap()
}

fn port_of(url: &str) -> u16 {
    url.rsplit_once(':').unwrap().1.parse().unwrap()
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

#[tokio::test]
async fn the_cluster_is_as_promised() {
    let rich = Address::new_from_array([7; 32]);
    let opened = Address::new_from_array([8; 32]);
    let localnet = Localnet::builder()
        .without_program()
        .slot_time(SLOT)
        .fund(rich, 5)
        .fund(rich, 2_000_000_000)
        .token(rich, 1_500_000)
        .token(opened, 0)
        .token(Role::Payer.keypair().pubkey(), 1)
        .start()
        .unwrap();
    let rpc = Rpc::new(localnet.rpc_url());
    let keys = localnet.keys();

    assert_eq!(rpc.call("getHealth", json!([])).await, "ok");
    assert_eq!(rpc.call("getGenesisHash", json!([])).await, GENESIS_HASH);
    assert_eq!(
        NETWORK,
        format!("solana:{}", &GENESIS_HASH[..32]),
        "CAIP-2: the first 32 characters"
    );

    let mint = rpc.account(USDC_MINT).await;
    assert_eq!(mint["owner"], "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA");
    let info = &mint["data"]["parsed"]["info"];
    assert_eq!(info["decimals"], 6);
    assert_eq!(info["mintAuthority"], keys.address(Role::Admin).to_string());
    assert_eq!(info["freezeAuthority"], Value::Null);
    assert_eq!(info["isInitialized"], true);
    assert_eq!(info["supply"], (PAYER_UNITS + 1 + 1_500_000).to_string());

    for (role, keypair) in keys.iter() {
        assert_eq!(
            rpc.lamports(keypair.pubkey()).await,
            role.lamports(),
            "{role}"
        );
    }
    assert_eq!(rpc.lamports(rich).await, 2_000_000_005);
    assert_eq!(
        rpc.units(keys.address(Role::Payer)).await,
        (PAYER_UNITS + 1).to_string()
    );
    assert_eq!(rpc.units(rich).await, "1500000");
    assert_eq!(rpc.units(opened).await, "0");
    let owned =
        json!([rich.to_string(), {"mint": USDC_MINT.to_string()}, {"encoding": "jsonParsed"}]);
    let owned = rpc.call("getTokenAccountsByOwner", owned).await;
    assert_eq!(
        owned["value"][0]["pubkey"],
        associated_token_address(&rich).to_string()
    );
    localnet.stop().unwrap();
}

#[tokio::test]
async fn transactions_land_and_the_mint_can_be_minted_from() {
    let localnet = Localnet::builder()
        .without_program()
        .slot_time(SLOT)
        .start()
        .unwrap();
    let rpc = Rpc::new(localnet.rpc_url());
    let admin = &localnet.keys().admin;
    let somebody = Address::new_from_array([9; 32]);

    // SOL, in a legacy transaction.
    let blockhash = rpc.blockhash().await;
    let payment = legacy(
        admin,
        &[transfer(&admin.pubkey(), &somebody, 3_000_000)],
        blockhash,
    );
    let signature = rpc.send(&payment).await.unwrap();
    assert_eq!(rpc.landed(&signature).await, Value::Null);
    assert_eq!(rpc.lamports(somebody).await, 3_000_000);
    assert_eq!(
        rpc.lamports(admin.pubkey()).await,
        Role::Admin.lamports() - 3_000_000 - 5_000
    );

    // Tokens: the account is the one the token program itself would have written.
    let payer_tokens = associated_token_address(&localnet.keys().address(Role::Payer));
    let mut data = vec![7]; // MintTo
    data.extend(25u64.to_le_bytes());
    let mint_to = Instruction {
        program_id: sluice_sdk::token::TOKEN_PROGRAM,
        accounts: vec![
            AccountMeta::new(USDC_MINT, false),
            AccountMeta::new(payer_tokens, false),
            AccountMeta::new_readonly(admin.pubkey(), true),
        ],
        data,
    };
    let signature = rpc
        .send(&legacy(admin, &[mint_to], blockhash))
        .await
        .unwrap();
    assert_eq!(rpc.landed(&signature).await, Value::Null);
    let payer = localnet.keys().address(Role::Payer);
    assert_eq!(rpc.units(payer).await, (PAYER_UNITS + 25).to_string());

    // A transaction of version 1, larger than any older one may be. Its limits are in its header, and unset means 0.
    let memos: Vec<_> = (0..7u8)
        .map(|n| Instruction {
            program_id: MEMO,
            accounts: vec![AccountMeta::new_readonly(admin.pubkey(), true)],
            data: vec![b'a' + n; 400],
        })
        .collect();
    let limits = v1::TransactionConfig::empty()
        .with_compute_unit_limit(1_400_000)
        .with_loaded_accounts_data_size_limit(1 << 20);
    let message =
        v1::Message::try_compile_with_config(&admin.pubkey(), &memos, blockhash, limits).unwrap();
    let large = VersionedTransaction::try_new(VersionedMessage::V1(message), &[admin]).unwrap();
    assert!(wincode::serialize(&large).unwrap().len() > 1_232);
    let signature = rpc.send(&large).await.unwrap();
    assert_eq!(rpc.landed(&signature).await, Value::Null);
    let options =
        json!({"encoding": "json", "commitment": "confirmed", "maxSupportedTransactionVersion": 1});
    let landed = rpc
        .call("getTransaction", json!([signature, options]))
        .await;
    assert_eq!(landed["version"], 1);
    assert_eq!(landed["meta"]["fee"], 5_000);

    // A signature that is not the payer's is refused: the validator checks them.
    let mut forged = legacy(admin, &[transfer(&admin.pubkey(), &somebody, 4)], blockhash);
    forged.signatures[0] = large.signatures[0];
    assert!(rpc.send(&forged).await.is_err());
    localnet.stop().unwrap();
}

#[tokio::test]
async fn the_program_is_deployed_upgradeable_and_runs() {
    let Some(path) = program() else { return };
    let id = sluice_sdk::PROGRAM_ID;
    let localnet = Localnet::builder()
        .program(&path)
        .slot_time(SLOT)
        .start()
        .unwrap();
    let rpc = Rpc::new(localnet.rpc_url());
    assert_eq!(localnet.program_id(), id);

    let program = rpc.account(id).await;
    assert_eq!(program["executable"], true);
    assert_eq!(
        program["owner"],
        "BPFLoaderUpgradeab1e11111111111111111111111"
    );
    assert_eq!(
        program["data"]["parsed"]["info"]["programData"],
        program_data_address(&id).to_string()
    );
    let data = rpc.account(program_data_address(&id)).await;
    let info = &data["data"]["parsed"]["info"];
    assert_eq!(
        info["authority"],
        localnet.keys().address(Role::Admin).to_string()
    );
    assert_eq!(info["slot"], 0);
    let code = BASE64_STANDARD
        .decode(info["data"][0].as_str().unwrap())
        .unwrap();
    assert!(
        code == std::fs::read(path).unwrap(),
        "the code is not the file's"
    );

    // Something only its own code answers: Anchor's error 101 for an instruction it does not have.
    let admin = &localnet.keys().admin;
    let unknown = Instruction {
        program_id: id,
        accounts: vec![],
        data: vec![0xff; 8],
    };
    let error = rpc
        .send(&legacy(admin, &[unknown], rpc.blockhash().await))
        .await
        .unwrap_err();
    assert_eq!(
        error["data"]["err"],
        json!({"InstructionError": [0, {"Custom": 101}]}),
        "{error}"
    );
    localnet.stop().unwrap();
}

#[tokio::test]
async fn it_stops_clean_and_frees_its_ports() {
    let localnet = Localnet::builder()
        .without_program()
        .slot_time(SLOT)
        .start()
        .unwrap();
    let ports = [port_of(localnet.rpc_url()), port_of(localnet.ws_url())];
    assert_ne!(ports[0], ports[1]);
    assert!(ports.iter().all(|port| !is_free(*port)));

    // With clients still connected: a kept-alive RPC connection and a websocket.
    let rpc = Rpc::new(localnet.rpc_url());
    assert_eq!(rpc.call("getHealth", json!([])).await, "ok");
    let mut websocket = TcpStream::connect(("127.0.0.1", ports[1])).unwrap();
    let handshake = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    websocket.write_all(handshake.as_bytes()).unwrap();
    let mut status = [0; 12];
    websocket.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 101");

    localnet.stop().unwrap();
    assert!(ports.iter().all(|port| is_free(*port)));
}

#[test]
fn dropping_stops_and_two_run_side_by_side() {
    let first = Localnet::builder()
        .without_program()
        .slot_time(SLOT)
        .start()
        .unwrap();
    let second = Localnet::builder()
        .without_program()
        .slot_time(SLOT)
        .start()
        .unwrap();
    let ports = [port_of(first.rpc_url()), port_of(first.ws_url())];
    drop(first);
    assert!(ports.iter().all(|port| is_free(*port)));
    assert!(!is_free(port_of(second.rpc_url())));
    // The same ports, right after.
    let again = Localnet::builder()
        .without_program()
        .rpc_port(ports[0])
        .ws_port(ports[1])
        .start()
        .unwrap();
    assert_eq!(port_of(again.rpc_url()), ports[0]);
}

#[tokio::test]
async fn it_says_when_it_ended_by_itself() {
    let localnet = Localnet::builder()
        .without_program()
        .slot_time(SLOT)
        .start()
        .unwrap();
    let rpc = Rpc::new(localnet.rpc_url());
    // An operator's call that any client on this machine can make.
    rpc.call("exit", json!([])).await;
    let ended = tokio::time::timeout(PATIENCE, localnet.ended())
        .await
        .unwrap();
    assert!(!ended.is_empty());
    localnet.stop().unwrap();
}

#[test]
fn what_cannot_start_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let builder = || Localnet::builder().without_program();

    let missing = dir.path().join("sluice.so");
    let error = builder().program(&missing).start().unwrap_err();
    assert!(matches!(&error, Error::ProgramMissing(path) if *path == missing));
    assert!(error.to_string().contains("make program"), "{error}");

    let text = dir.path().join("text.so");
    std::fs::write(&text, "not a program").unwrap();
    assert!(matches!(
        builder().program(&text).start(),
        Err(Error::ProgramInvalid { .. })
    ));
    // An ELF file by its first bytes only: it is the validator that finds out.
    let stub = dir.path().join("stub.so");
    std::fs::write(
        &stub,
        [b"\x7fELF\x02\x01\x01".as_slice(), &[0; 500]].concat(),
    )
    .unwrap();
    assert!(matches!(
        builder().program(&stub).start(),
        Err(Error::ProgramInvalid { .. })
    ));

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = builder().rpc_port(port).start().unwrap_err();
    assert!(matches!(error, Error::PortInUse { server: "RPC", port: p } if p == port));
    let error = builder().ws_port(port).start().unwrap_err();
    assert!(matches!(error, Error::PortInUse { server: "websocket", port: p } if p == port));

    assert!(matches!(
        builder().slot_time(Duration::ZERO).start(),
        Err(Error::SlotTime(_))
    ));
    let a = Address::new_from_array([1; 32]);
    let b = Address::new_from_array([2; 32]);
    assert!(
        matches!(builder().fund(a, u64::MAX).fund(a, 1).start(), Err(Error::BalanceOverflow(x)) if x == a)
    );
    let supply = builder()
        .token(a, u64::MAX / 2)
        .token(b, u64::MAX / 2)
        .start();
    assert!(matches!(supply, Err(Error::BalanceOverflow(x)) if x == USDC_MINT));
}

/// A run of the program that is ended when the test is, however that ends.
struct Process(Child);

impl Process {
    fn start(args: &[&str]) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_sluice-localnet"))
            .args(["--no-program", "--slot-ms", "50"])
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self(child)
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args(["-s", name, &self.0.id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    /// The exit code and everything on standard error.
    fn end(mut self) -> (Option<i32>, String) {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "it does not end");
            thread::sleep(Duration::from_millis(5));
        };
        let mut errors = String::new();
        self.0
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut errors)
            .unwrap();
        (status.code(), errors)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_program_runs_until_a_signal() {
    let dir = tempfile::tempdir().unwrap();
    let keys_dir = dir.path().join("keys");
    for signal in ["TERM", "INT"] {
        let mut process = Process::start(&[
            "--rpc-port",
            "0",
            "--ws-port",
            "0",
            "--output",
            "json",
            "--keys-dir",
            keys_dir.to_str().unwrap(),
        ]);
        let mut line = String::new();
        BufReader::new(process.0.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(ready["network"], NETWORK);
        assert_eq!(ready["mint"], USDC_MINT.to_string());
        assert_eq!(ready["program_id"], Value::Null);
        for (role, keypair) in DemoKeys::new().iter() {
            let key = &ready["keys"][role.name()];
            assert_eq!(key["address"], keypair.pubkey().to_string());
            let file = key["file"].as_str().unwrap();
            let stored = solana_keypair::read_keypair_file(file).unwrap();
            assert_eq!(stored.pubkey(), keypair.pubkey());
            assert_eq!(
                std::fs::metadata(file).unwrap().permissions().mode() & 0o777,
                0o600
            );
        }
        process.signal(signal);
        assert_eq!(process.end(), (Some(0), String::new()));
        assert!(is_free(port_of(ready["rpc_url"].as_str().unwrap())));
    }
}

#[test]
fn the_program_fails_with_one_sentence() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let (code, errors) = Process::start(&["--rpc-port", &port, "--ws-port", "0"]).end();
    assert_eq!(code, Some(1));
    assert_eq!(errors.lines().count(), 1, "{errors}");
    assert!(
        errors.contains(&port) && errors.contains("in use"),
        "{errors}"
    );

    // A key of somebody's own is not written over.
    let dir = tempfile::tempdir().unwrap();
    let own = dir.path().join("admin.json");
    std::fs::write(&own, "[1,2,3]").unwrap();
    let keys_dir = dir.path().to_str().unwrap();
    let (code, errors) =
        Process::start(&["--rpc-port", "0", "--ws-port", "0", "--keys-dir", keys_dir]).end();
    assert_eq!(code, Some(1));
    assert_eq!(errors.lines().count(), 1, "{errors}");
    assert_eq!(std::fs::read_to_string(own).unwrap(), "[1,2,3]");

    let (code, errors) = Process::start(&["--fund", "nobody=1"]).end();
    assert_eq!(code, Some(2));
    assert!(errors.contains("no Solana address"), "{errors}");
}
