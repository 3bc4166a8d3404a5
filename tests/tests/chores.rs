//! What the relayer does beside payments, on the local validator with the real program: vaults are distributed to the
//! unit, a payer without lamports is opened an account and pays, and idle accounts give their rent back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::StatusCode;
use serde_json::{Value, json};
use sluice_localnet::Localnet;
use sluice_migrations::{
    File, apply,
    chain::{Chain, RpcChain},
    plan,
};
use sluice_relayer::{
    Relayer, RunningRelayer,
    chores::distribute::{Due, Vault, due},
};
use sluice_sdk::{
    Address, DEVNET_USDC, UnsignedIntent,
    accounts::{
        AcceptedMint, Config, Facilitator, NONCE_IDLE_SECS, NonceAccount, Service, SluiceAccount,
    },
    address, instructions,
    token::{self, TOKEN_PROGRAM, TokenAccount},
    transaction,
    x402::{ExactTransfer, Network, SplitExtra, SplitPayload},
};
use sluice_tests::program_path;
use solana_commitment_config::CommitmentConfig;
use solana_keypair::Keypair;
use solana_signer::Signer;

const FIRST: u64 = 1;
const SECOND: u64 = 2;
const LONG: Duration = Duration::from_secs(60);

/// A validator that is set up by migrations, with two services.
struct Cluster {
    localnet: Localnet,
    chain: RpcChain,
    folder: tempfile::TempDir,
}

/// Each test has its own: a relayer closes whatever is idle, and spends from one key.
fn start() -> Cluster {
    let localnet = Localnet::builder()
        .program(program_path())
        .slot_time(Duration::from_millis(100))
        .start()
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (role, keypair) in localnet.keys().iter() {
        let path = folder.path().join(format!("{role}.json"));
        std::fs::write(path, json!(keypair.to_bytes().to_vec()).to_string()).unwrap();
    }
    let keys = localnet.keys();
    let (merchant, partner) = (keys.merchant.pubkey(), keys.partner.pubkey());
    let service = |id: u64, recipients: &str| {
        format!(
            "[[service]]\nid = {id}\ncreator = \"{merchant}\"\nkeypair = \"merchant.json\"\nmint = \"{DEVNET_USDC}\"\n\
             facilitator = \"test\"\nfacilitator_bps = 100\nrecipients = {recipients}\n"
        )
    };
    let two = format!(
        "[{{ owner = \"{merchant}\", bps = 7000 }}, {{ owner = \"{partner}\", bps = 3000 }}]"
    );
    let one = format!("[{{ owner = \"{partner}\", bps = 10000 }}]");
    let text = format!(
        r#"
[config]
admin = "{admin}"
keypair = "admin.json"
treasury = "{treasury}"
treasury_bps = 50
max_facilitator_bps = 1000
max_intent_ttl = 300
[[mint]]
address = "{DEVNET_USDC}"
[[facilitator]]
name = "test"
authority = "{facilitator}"
keypair = "facilitator.json"
wallet = "{wallet}"
relayers = ["{relayer}"]
{first}
{second}
"#,
        admin = keys.admin.pubkey(),
        treasury = keys.treasury.pubkey(),
        facilitator = keys.facilitator.pubkey(),
        wallet = keys.facilitator_wallet.pubkey(),
        relayer = keys.relayer.pubkey(),
        first = service(FIRST, &two),
        second = service(SECOND, &one),
    );
    let path = folder.path().join("migrations.toml");
    std::fs::write(&path, text).unwrap();
    let file = File::load(&path).unwrap();
    let chain = RpcChain::new(localnet.rpc_url(), CommitmentConfig::confirmed());
    let signers = file.load_signers().unwrap();
    let signers: Vec<&dyn Signer> = signers.iter().map(|key| key as &dyn Signer).collect();
    apply(
        &chain,
        &file,
        &plan(&chain, &file).unwrap(),
        &signers,
        |_| {},
    )
    .unwrap();
    Cluster {
        localnet,
        chain,
        folder,
    }
}

impl Cluster {
    fn service(&self, id: u64) -> Address {
        address::service(&self.localnet.keys().merchant.pubkey(), id).0
    }

    fn account(&self, key: &Address) -> Option<(Address, Vec<u8>)> {
        let rpc = self.chain.rpc();
        let answer = rpc
            .get_account_with_commitment(key, CommitmentConfig::confirmed())
            .unwrap();
        let account = answer.value.filter(|account| account.lamports > 0)?;
        Some((account.owner, account.data))
    }

    fn read<T: SluiceAccount>(&self, key: &Address) -> T {
        let (owner, data) = self.account(key).unwrap();
        T::decode(&owner, &data).unwrap()
    }

    fn token(&self, key: &Address) -> Option<TokenAccount> {
        let (program, data) = self.account(key)?;
        token::decode_account(&program, &data)
    }

    /// Units that an owner holds.
    fn units(&self, owner: &Address) -> u64 {
        self.token(&ata(owner)).map_or(0, |account| account.amount)
    }

    fn lamports(&self, key: &Address) -> u64 {
        let rpc = self.chain.rpc();
        let commitment = CommitmentConfig::confirmed();
        rpc.get_balance_with_commitment(key, commitment)
            .unwrap()
            .value
    }

    /// Gives an owner units, opening its account; of a service, this is its vault.
    fn pay(&self, owner: &Address, units: u64) {
        let admin = self.localnet.keys().admin.insecure_clone();
        let mint_to = spl_token_interface::instruction::mint_to(
            &TOKEN_PROGRAM,
            &DEVNET_USDC,
            &ata(owner),
            &admin.pubkey(),
            &[],
            units,
        )
        .unwrap();
        let open = token::create_account(&admin.pubkey(), owner, &DEVNET_USDC, &TOKEN_PROGRAM);
        self.chain
            .send(&admin.pubkey(), &[open, mint_to], &[&admin as &dyn Signer])
            .unwrap();
    }

    /// Everybody who may receive a leg: treasury, facilitator, merchant, partner.
    fn receivers(&self) -> [u64; 4] {
        let keys = self.localnet.keys();
        [
            &keys.treasury,
            &keys.facilitator_wallet,
            &keys.merchant,
            &keys.partner,
        ]
        .map(|key| self.units(&key.pubkey()))
    }

    async fn relayer(&self, extra: &str) -> RunningRelayer {
        let ledger = self
            .folder
            .path()
            .join(format!("{}.db", Keypair::new().pubkey()));
        let authority = self.localnet.keys().facilitator.pubkey();
        let text = format!(
            r#"
listen = "127.0.0.1:0"
network = "solana-devnet"
rpc_url = "{rpc_url}"
database_url = "sqlite://{ledger}"
facilitator = "{facilitator}"
[fee_payer]
keypair = "{keypair}"
[limits]
confirm_timeout_secs = 30
{extra}
"#,
            rpc_url = self.localnet.rpc_url(),
            ledger = ledger.display(),
            facilitator = address::facilitator(&authority).0,
            keypair = self.folder.path().join("relayer.json").display(),
        );
        let config = sluice_relayer::Config::from_toml(&text).unwrap();
        Relayer::start(config).await.unwrap()
    }

    /// What the relayer's judgement says of a vault now.
    fn due(&self, id: u64) -> Due {
        let address = self.service(id);
        let service: Service = self.read(&address);
        let accepted: AcceptedMint = self.read(&address::accepted_mint(&DEVNET_USDC).0);
        let config: Config = self.read(&address::config().0);
        let of: Facilitator = self.read(&Address::new_from_array(service.facilitator));
        let (owner, data) = self.account(&DEVNET_USDC).unwrap();
        let wallet = Address::new_from_array(of.wallet);
        let mut legs: Vec<Option<TokenAccount>> = service
            .shares()
            .iter()
            .map(|share| self.token(&Address::new_from_array(share.token_account)))
            .collect();
        legs.push(self.token(&Address::new_from_array(accepted.treasury_token)));
        legs.push(self.token(&ata(&wallet)));
        due(&Vault {
            address,
            vault: self.token(&Address::new_from_array(service.vault)),
            mint: token::decode_mint(&owner, &data),
            treasury: Address::new_from_array(config.treasury),
            facilitator: wallet,
            service,
            accepted,
            legs,
        })
    }

    /// Asks the validator for what no cluster would do.
    async fn cheat(&self, method: &str, params: Value) {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let answer = reqwest::Client::new()
            .post(self.localnet.rpc_url())
            .json(&body)
            .send()
            .await
            .unwrap();
        let answer: Value = answer.json().await.unwrap();
        assert!(answer.get("error").is_none(), "{answer}");
    }

    /// Lets a nonce account have been idle for so long.
    async fn age(&self, key: &Address, seconds: i64) {
        let (_, mut data) = self.account(key).unwrap();
        let at = 8 + std::mem::offset_of!(NonceAccount, last_active);
        let then = i64::from_le_bytes(data[at..at + 8].try_into().unwrap()) - seconds;
        data[at..at + 8].copy_from_slice(&then.to_le_bytes());
        let update = json!([key.to_string(), { "data": hex::encode(data) }]);
        self.cheat("surfnet_setAccount", update).await;
    }
}

fn ata(owner: &Address) -> Address {
    address::token_account(owner, &DEVNET_USDC, &TOKEN_PROGRAM)
}

/// Runs what blocks away from the runtime, on a cluster that lives as long as the test.
async fn on<T: Send + 'static>(
    cluster: &'static Cluster,
    work: impl FnOnce(&'static Cluster) -> T + Send + 'static,
) -> T {
    tokio::task::spawn_blocking(move || work(cluster))
        .await
        .unwrap()
}

/// A cluster for a test. It ends with the process.
async fn cluster(of: &'static OnceLock<Cluster>) -> &'static Cluster {
    tokio::task::spawn_blocking(move || of.get_or_init(start))
        .await
        .unwrap()
}

/// Waits until something holds on the chain.
async fn until(cluster: &'static Cluster, what: &str, holds: fn(&Cluster) -> bool) {
    let begun = Instant::now();
    while begun.elapsed() < LONG {
        if on(cluster, holds).await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it never came: {what}");
}

async fn post(url: &str, body: &Value) -> (StatusCode, Value) {
    let answer = reqwest::Client::new()
        .post(url)
        .json(body)
        .send()
        .await
        .unwrap();
    let status = answer.status();
    (status, answer.json().await.unwrap())
}

#[test]
fn the_sdk_and_the_program_agree_on_idleness() {
    assert_eq!(sluice::IDLE_SECS, NONCE_IDLE_SECS);
}

#[tokio::test(flavor = "multi_thread")]
async fn money_in_a_vault_is_distributed_to_the_unit() {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    let cluster = cluster(&CLUSTER).await;
    let relayer = cluster
        .relayer("[distribute]\nthreshold = 100000\nage_ms = 3600000\nscan_ms = 200\n")
        .await;
    // Nobody told the relayer of the services: it asked the chain.
    let before = on(cluster, Cluster::receivers).await;
    on(cluster, |cluster| {
        cluster.pay(&cluster.service(FIRST), 1_234_567);
        cluster.pay(&cluster.service(SECOND), 654_321);
    })
    .await;
    until(cluster, "empty vaults", |cluster| {
        [FIRST, SECOND]
            .iter()
            .all(|id| cluster.units(&cluster.service(*id)) == 0)
    })
    .await;
    // 0.5 % to the treasury, 1 % to the facilitator, of each sum, rounded down; of the rest of the first, 70 and 30 %.
    let (treasury, facilitator) = (6_172 + 3_271, 12_345 + 6_543);
    let rest = 1_234_567 - 6_172 - 12_345;
    let partner = rest * 3 / 10;
    let second = 654_321 - 3_271 - 6_543;
    let after = on(cluster, Cluster::receivers).await;
    let got: Vec<u64> = after.iter().zip(before).map(|(a, b)| a - b).collect();
    assert_eq!(
        got,
        [treasury, facilitator, rest - partner, partner + second]
    );
    assert_eq!(got.iter().sum::<u64>(), 1_234_567 + 654_321);

    // Below the threshold it waits, unless it was settled into the vault by the relayer itself.
    on(cluster, |cluster| {
        cluster.pay(&cluster.service(FIRST), 20_000)
    })
    .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(
        on(cluster, |cluster| cluster.units(&cluster.service(FIRST))).await,
        20_000
    );
    relayer.engine().vault_paid(cluster.service(FIRST));
    until(cluster, "an empty vault", |cluster| {
        cluster.units(&cluster.service(FIRST)) == 0
    })
    .await;
    relayer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stock_client_pays_a_service_is_divided_soon_after() {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    let cluster = cluster(&CLUSTER).await;
    let relayer = cluster
        .relayer("[distribute]\nage_ms = 3600000\nsoon_ms = 100\nscan_ms = 3600000\n")
        .await;
    let payer = Keypair::new();
    let (key, service) = (payer.pubkey(), cluster.service(FIRST));
    on(cluster, move |cluster| cluster.pay(&key, 100_000)).await;
    let before = on(cluster, Cluster::receivers).await;
    let fee_payer = cluster.localnet.keys().relayer.pubkey();
    let transfer = on(cluster, move |cluster| ExactTransfer {
        fee_payer,
        pay_to: service,
        mint: DEVNET_USDC,
        token_program: TOKEN_PROGRAM,
        decimals: 6,
        amount: 50_000,
        memo: "one call".to_owned(),
        blockhash: cluster.chain.rpc().get_latest_blockhash().unwrap(),
    })
    .await;
    let requirements = json!({
        "scheme": "exact",
        "network": Network::Devnet.caip2(),
        "amount": "50000",
        "asset": DEVNET_USDC.to_string(),
        "payTo": service.to_string(),
        "maxTimeoutSeconds": 60,
        "extra": { "feePayer": fee_payer.to_string() },
    });
    let body = json!({
        "x402Version": 2,
        "paymentPayload": {
            "x402Version": 2,
            "accepted": requirements,
            "payload": transfer.sign(&payer).unwrap(),
        },
        "paymentRequirements": requirements,
    });
    let (_, answer) = post(&format!("{}/settle", relayer.url()), &body).await;
    assert_eq!(answer["success"], true, "{answer}");
    assert!(answer["extra"]["distribution"].is_string(), "{answer}");
    until(cluster, "an empty vault", |cluster| {
        cluster.units(&cluster.service(FIRST)) == 0
    })
    .await;
    let after = on(cluster, Cluster::receivers).await;
    let got: Vec<u64> = after.iter().zip(before).map(|(a, b)| a - b).collect();
    // 250 to the treasury, 500 to the facilitator, and of 49,250 the partner's 30 %.
    assert_eq!(got, [250, 500, 34_475, 14_775]);
    relayer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_relayers_judgement_is_the_programs() {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    let cluster = cluster(&CLUSTER).await;
    on(cluster, |cluster| {
        let partner = cluster.localnet.keys().partner.insecure_clone();
        let anybody = cluster.localnet.keys().relayer.insecure_clone();
        let distribute = || -> bool {
            let address = cluster.service(FIRST);
            let service: Service = cluster.read(&address);
            let accepted: AcceptedMint = cluster.read(&address::accepted_mint(&DEVNET_USDC).0);
            let of: Facilitator = cluster.read(&Address::new_from_array(service.facilitator));
            let wallet = Address::new_from_array(of.wallet);
            let accounts =
                instructions::ServiceAccounts::new(address, &service, &accepted, &wallet);
            let distribute = instructions::distribute(&anybody.pubkey(), &accounts, &[]);
            let signers = [&anybody as &dyn Signer];
            cluster
                .chain
                .send(&anybody.pubkey(), &[distribute], &signers)
                .is_ok()
        };
        // What the judgement says leaves the vault is what leaves it.
        let holds = |what: &str| {
            let vault = cluster.service(FIRST);
            let (before, expected) = (cluster.units(&vault), cluster.due(FIRST));
            let wallet = cluster.localnet.keys().facilitator_wallet.pubkey();
            let earned = cluster.units(&wallet);
            let done = distribute();
            assert_eq!(done, expected.divided > 0 || expected.paid > 0, "{what}");
            assert_eq!(before - cluster.units(&vault), expected.paid, "{what}");
            assert_eq!(cluster.units(&wallet) - earned, expected.earned, "{what}");
            expected
        };
        let pay = |units: u64| cluster.pay(&cluster.service(FIRST), units);
        assert_eq!(holds("nothing there"), Due::default());
        pay(999_999);
        assert_eq!(holds("all can be paid").paid, 999_999);
        // The partner closes its account: its leg is held, the others are paid.
        let key = partner.pubkey();
        let all = cluster.units(&key);
        let admin = cluster.localnet.keys().admin.pubkey();
        let away = spl_token_interface::instruction::transfer(
            &TOKEN_PROGRAM,
            &ata(&key),
            &ata(&cluster.localnet.keys().merchant.pubkey()),
            &key,
            &[],
            all,
        )
        .unwrap();
        let close = spl_token_interface::instruction::close_account(
            &TOKEN_PROGRAM,
            &ata(&key),
            &admin,
            &key,
            &[],
        )
        .unwrap();
        let payer = &anybody as &dyn Signer;
        cluster
            .chain
            .send(&anybody.pubkey(), &[away, close], &[payer, &partner])
            .unwrap();
        pay(500_001);
        let held = holds("a leg is held");
        assert!(held.paid < held.divided && held.paid > 0);
        assert_eq!(holds("what is held cannot be paid").paid, 0);
        pay(77);
        let more = holds("more on top of what is held");
        assert!(more.divided == 77 && more.paid < 77);
        // It opens it again, and is paid what was held.
        let open = token::create_account(&anybody.pubkey(), &key, &DEVNET_USDC, &TOKEN_PROGRAM);
        cluster
            .chain
            .send(&anybody.pubkey(), &[open], &[payer])
            .unwrap();
        let paid = holds("what was held is paid");
        assert_eq!((paid.divided, paid.earned), (0, 0));
        assert_eq!(paid.paid, cluster.units(&key));
        assert_eq!(cluster.units(&cluster.service(FIRST)), 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payer_without_lamports_is_onboarded_pays_and_is_reclaimed() {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    let cluster = cluster(&CLUSTER).await;
    let relayer = cluster
        .relayer(&format!(
            "[reclaim]\nidle_secs = {NONCE_IDLE_SECS}\nscan_ms = 200\n[onboard]\nenabled = true\n\
             [[onboard.mints]]\nmint = \"{DEVNET_USDC}\"\nmin_units = 100000\n"
        ))
        .await;
    let url = format!("{}/v1/onboard", relayer.url());
    let (wallet, agent) = (Keypair::new(), Keypair::new());
    let key = wallet.pubkey();
    let ask = json!({
        "payer": key.to_string(),
        "asset": DEVNET_USDC.to_string(),
        "approve": "300000",
        "lane": { "lane": 1, "key": agent.pubkey().to_string(), "maxPerPayment": "50000", "totalLimit": "200000" },
    });
    let (status, answer) = post(&url, &ask).await;
    assert_eq!(
        (status, &answer["error"]),
        (StatusCode::FORBIDDEN, &json!("no_token_account"))
    );
    on(cluster, move |cluster| cluster.pay(&key, 400_000)).await;
    let sponsor = cluster.localnet.keys().relayer.pubkey();
    let before = on(cluster, move |cluster| cluster.lamports(&sponsor)).await;

    let (status, built) = post(&url, &ask).await;
    assert_eq!(status, StatusCode::OK, "{built}");
    let wire = STANDARD
        .decode(built["transaction"].as_str().unwrap())
        .unwrap();
    let mut opening = transaction::from_wire(&wire).unwrap();
    let keys = opening.message.static_account_keys();
    let place = keys.iter().position(|other| *other == key).unwrap();
    opening.signatures[place] = wallet.sign_message(&opening.message.serialize());
    let signed = json!({ "transaction": STANDARD.encode(transaction::wire(&opening).unwrap()) });
    let back = format!("{url}/{}", built["id"].as_str().unwrap());
    let (status, landed) = post(&back, &signed).await;
    assert_eq!(
        (status, &landed["state"]),
        (StatusCode::OK, &json!("landed")),
        "{landed}"
    );
    let nonce_account = address::nonce_account(&key, &DEVNET_USDC).0;
    assert_eq!(landed["nonceAccount"], nonce_account.to_string());
    let (rent, fee) = (
        landed["rentLamports"].as_u64().unwrap(),
        landed["feeLamports"].as_u64().unwrap(),
    );
    let after = on(cluster, move |cluster| cluster.lamports(&sponsor)).await;
    assert_eq!(before - after, rent + fee, "what it cost is what it said");
    assert_eq!(on(cluster, move |cluster| cluster.lamports(&key)).await, 0);

    // It pays at once, with nothing but a signature.
    let account: NonceAccount = on(cluster, move |cluster| cluster.read(&nonce_account)).await;
    assert_eq!(account.rent_payer, sponsor.to_bytes());
    let body = on(cluster, move |cluster| {
        request(cluster, &account, nonce_account, &agent)
    })
    .await;
    let (_, answer) = post(&format!("{}/settle", relayer.url()), &body).await;
    assert_eq!(answer["success"], true, "{answer}");
    assert_eq!(
        on(cluster, move |cluster| cluster.units(&key)).await,
        360_000
    );
    // Opened and paid from once more than a month ago, it is closed, and the rent is back.
    let before = on(cluster, move |cluster| cluster.lamports(&sponsor)).await;
    assert!(on(cluster, move |c| c.account(&nonce_account).is_some()).await);
    cluster.age(&nonce_account, NONCE_IDLE_SECS + 60).await;
    let reclaimed = async || {
        let answer = reqwest::get(&back).await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        answer["state"] == "reclaimed"
    };
    let begun = Instant::now();
    while !reclaimed().await {
        assert!(begun.elapsed() < LONG, "it was never reclaimed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(on(cluster, move |c| c.account(&nonce_account).is_none()).await);
    let after = on(cluster, move |cluster| cluster.lamports(&sponsor)).await;
    assert_eq!(after, before + rent - 5_000);
    relayer.stop().await;
}

/// A body for `/settle` of 40,000 units, signed by the agent.
fn request(
    cluster: &Cluster,
    account: &NonceAccount,
    nonce_account: Address,
    agent: &Keypair,
) -> Value {
    const UNITS: u64 = 40_000;
    let key = cluster.service(FIRST);
    let service: Service = cluster.read(&key);
    let genesis = cluster.chain.rpc().get_genesis_hash().unwrap().to_bytes();
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let intent = UnsignedIntent {
        genesis_hash: genesis,
        nonce_account,
        opened_slot: account.opened_slot,
        lane: 1,
        service: key,
        terms_hash: service.terms_hash,
        amount: UNITS,
        nonce: 0,
        expires_at: u32::try_from(now.as_secs()).unwrap() + 50,
        resource: [0; 16],
    };
    let payload = SplitPayload::of_intent(&intent.sign(agent).unwrap());
    let requirements = json!({
        "scheme": "sluice-split",
        "network": Network::Devnet.caip2(),
        "amount": UNITS.to_string(),
        "asset": DEVNET_USDC.to_string(),
        "payTo": key.to_string(),
        "maxTimeoutSeconds": 60,
        "extra": SplitExtra::of_service(&key, &service, &genesis),
    });
    json!({
        "x402Version": 2,
        "paymentPayload": { "x402Version": 2, "accepted": requirements, "payload": payload },
        "paymentRequirements": requirements,
    })
}
