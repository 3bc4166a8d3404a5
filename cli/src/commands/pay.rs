//! `sluice pay`: an x402 client on the command line.

use std::{
    io::Write,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use clap::Args;
use reqwest::{
    Method,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use serde_json::{Value, json};
use sluice_client::{
    Facilitator, FacilitatorError,
    pay::{
        Answer, Client, Error, FacilitatorNonces, FnNonces, NonceError, NonceGrant, NonceRequest,
        NonceSource, Payer, Plan, Policy, Receipt, Role, http_client,
    },
    x402::Network,
};
use sluice_migrations::Chain;
use sluice_sdk::{
    Address,
    accounts::{AcceptedMint, NonceAccount, SluiceAccount},
    address,
};
use solana_signer::Signer;

use super::key;
use crate::{
    amount::{Amount, Unit},
    context::{Context, Payees, genesis_hash, load_keypair_path, unit},
    errors::{CliError, Code},
    output::{Output, Pairs, Style, columns},
    values::{bps, date},
};

/// Pay for an HTTP request and print the receipt
///
/// Asks for the URL, reads the 402, checks that the terms shown are those that would be signed, shows price and
/// split, asks, signs, and sends the request again. Prints the receipt and, below it, the answer; -o keeps the
/// answer apart.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sluice pay https://api.example.com/report\n  sluice pay https://api.example.com/report --max 0.05 --yes -o report.json\n  sluice pay https://api.example.com/ask -X POST -d '{\"q\":\"why\"}' \\\n      --payer WALLET --signer agent.json\n  sluice pay https://api.example.com/report --dry-run\n      shows price and split, and pays nothing\n\nWith --output json one object holds receipt and body. Exit code 4 means that a payment was signed and sent and nobody knows yet what became of it: `sluice intent status DIGEST` tells. Running the command again would be another payment."
)]
pub struct Pay {
    // Named apart from the global --url: clap would take one for the other.
    /// The URL
    #[arg(value_name = "URL")]
    target: String,
    /// The HTTP method [default: GET, or POST with --data]
    #[arg(short = 'X', long = "request", value_name = "METHOD")]
    method: Option<String>,
    /// The body; @FILE reads it from a file
    #[arg(short, long, value_name = "BODY")]
    data: Option<String>,
    /// A header, as 'Name: value'; may be repeated
    #[arg(short = 'H', long = "header", value_name = "HEADER")]
    headers: Vec<String>,
    /// Most that this call may cost, in tokens (0.05) or atomic units (50000u)
    #[arg(long, value_name = "AMOUNT", default_value = "1")]
    max: Amount,
    /// The mint to pay in [default: any accepted one]
    #[arg(long, value_name = "ADDRESS")]
    mint: Option<Address>,
    /// The wallet that is charged [default: the signing key's]
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "SLUICE_PAYER",
        hide_env_values = true
    )]
    payer: Option<Address>,
    /// Keypair file of the key that signs, a session key for example [default: --keypair]
    #[arg(
        long,
        value_name = "FILE",
        env = "SLUICE_SIGNER",
        hide_env_values = true
    )]
    signer: Option<PathBuf>,
    /// The lane of that key [default: whichever has it]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u8).range(0..=1))]
    lane: Option<u8>,
    /// Ask this relayer for the nonce, which counts what is in flight [default: read the chain]
    #[arg(
        long,
        value_name = "URL",
        env = "SLUICE_RELAYER",
        hide_env_values = true
    )]
    relayer: Option<String>,
    /// Write the answer into this file; - writes it alone on standard output, and the receipt on standard error
    #[arg(short, long, value_name = "FILE")]
    outfile: Option<PathBuf>,
}

/// A runtime for the few commands that speak HTTP.
pub fn runtime() -> Result<tokio::runtime::Runtime, CliError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| CliError::error(format!("no runtime: {error}"), "free some memory"))
}

/// A relayer's trouble in words.
pub fn facilitator_error(url: &str, error: &FacilitatorError) -> CliError {
    match error {
        FacilitatorError::Unreachable { .. } | FacilitatorError::Unavailable { .. } => {
            CliError::new(
                Code::Unreachable,
                error,
                format!("check that the relayer at {url} is up, or name another with --relayer"),
            )
        }
        FacilitatorError::BadUrl { .. } => CliError::usage(error, "give --relayer as http(s)://…"),
        FacilitatorError::Refused { status: 404, .. } => CliError::error(
            format!("the relayer at {url} knows nothing of it"),
            "check the digest, and that this is the relayer it was paid through",
        ),
        _ => CliError::error(error, format!("check that {url} is a Sluice relayer")),
    }
}

impl Pay {
    /// Runs the command.
    pub fn run(&self, context: Context) -> Result<(), CliError> {
        let signer = match &self.signer {
            Some(path) => load_keypair_path(path)?,
            None => context.signer()?,
        };
        let payer = self.payer.unwrap_or_else(|| signer.pubkey());
        let method = self.method()?;
        let headers = self.header_map()?;
        let body = self.body()?;
        let genesis_hash = genesis_hash(&context.chain)?;
        let units = self.accepted(&context)?;
        let mut policy = Policy::none();
        for (mint, unit) in &units {
            policy = policy.allow(*mint, self.max.limit(unit.decimals)?);
        }
        let context = Arc::new(context);
        let nonces: Arc<dyn NonceSource> = match &self.relayer {
            Some(url) => {
                let facilitator = Facilitator::new(url).map_err(|e| facilitator_error(url, &e))?;
                let (source, lane) = (Arc::new(FacilitatorNonces::new(facilitator)), self.lane);
                Arc::new(FnNonces::new(move |request: NonceRequest| {
                    let source = Arc::clone(&source);
                    async move {
                        let grant = source.next(&request).await?;
                        match lane {
                            Some(lane) if lane != grant.lane => {
                                Err(NonceError::NoLane { key: request.key })
                            }
                            _ => Ok(grant),
                        }
                    }
                }))
            }
            None => {
                let (context, lane) = (Arc::clone(&context), self.lane);
                Arc::new(FnNonces::new(move |request| {
                    let grant = from_chain(&context, &request, lane);
                    async move { grant }
                }))
            }
        };
        let payer = Payer {
            address: payer,
            network: network(&genesis_hash),
            genesis_hash,
            policy,
        };
        let http = http_client().map_err(|error| CliError::error(error, "report it"))?;
        let client = Client::new(http, payer, nonces, Arc::new(signer));

        // Everything is driven from here, so that questions to a person do not hold up a worker.
        let runtime = runtime()?;
        let failed = |error| self.failed(&context, &units, error);
        let plan = match runtime.block_on(client.plan(method, &self.target, headers, body)) {
            Err(Error::NotAsked(answer)) => return self.free(&context, &answer),
            other => other.map_err(failed)?,
        };
        let unit = units
            .iter()
            .find(|(mint, _)| *mint == plan.mint())
            .map_or_else(|| unit(&plan.mint(), 0), |(_, unit)| unit.clone());
        let json = context.output.is_json();
        let payees = plan
            .terms()
            .facilitator
            .parse()
            .map_or_else(|_| Payees::default(), |account| context.payees(&account));
        if context.dry_run {
            return context.output.result(&plan_json(&plan), |output| {
                plan_text(output, &unit, &plan, client.payer(), &payees, true)
            });
        }
        if !json || !context.yes {
            context.output.note(
                plan_text(
                    &context.output,
                    &unit,
                    &plan,
                    client.payer(),
                    &payees,
                    false,
                )
                .trim_end(),
            );
        }
        context.confirm(&format!("Pay {}?", unit.both(plan.amount())))?;
        let sent = runtime.block_on(client.sign(plan)).map_err(failed)?;
        let receipt = match runtime.block_on(client.send(&sent)) {
            // The same signed payment once more: it cannot be charged twice, and may have an answer by now.
            Err(Error::Unknown { .. }) => {
                context
                    .output
                    .note("no proof of payment yet; asking once more with the same payment");
                runtime.block_on(client.retry(&sent)).map_err(failed)?
            }
            other => other.map_err(failed)?,
        };
        self.receipt(&context, &unit, &payees, &receipt)
    }

    fn method(&self) -> Result<Method, CliError> {
        let default = if self.data.is_some() { "POST" } else { "GET" };
        let name = self
            .method
            .as_deref()
            .unwrap_or(default)
            .to_ascii_uppercase();
        Method::from_str(&name).map_err(|_| {
            CliError::usage(
                format!("{name:?} is not an HTTP method"),
                "-X GET, -X POST, …",
            )
        })
    }

    fn header_map(&self) -> Result<HeaderMap, CliError> {
        let mut map = HeaderMap::new();
        if self.data.is_some() {
            map.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        for header in &self.headers {
            let parsed = header.split_once(':').and_then(|(name, value)| {
                let name = HeaderName::from_str(name.trim()).ok()?;
                Some((name, HeaderValue::from_str(value.trim()).ok()?))
            });
            let Some((name, value)) = parsed else {
                return Err(CliError::usage(
                    "a header is not 'Name: value'",
                    "-H 'Accept: application/json'",
                ));
            };
            map.insert(name, value);
        }
        Ok(map)
    }

    fn body(&self) -> Result<Vec<u8>, CliError> {
        match &self.data {
            None => Ok(Vec::new()),
            Some(text) => match text.strip_prefix('@') {
                None => Ok(text.clone().into_bytes()),
                Some(path) => std::fs::read(path).map_err(|error| {
                    CliError::error(
                        format!("{path}: {error}"),
                        "give -d @FILE a file that can be read",
                    )
                }),
            },
        }
    }

    /// The mints that this call may be paid in.
    fn accepted(&self, context: &Context) -> Result<Vec<(Address, Unit)>, CliError> {
        if let Some(mint) = self.mint {
            let info = context.mint_info(&mint)?;
            return Ok(vec![(info.address, info.unit)]);
        }
        let accepted = context.list::<AcceptedMint>()?;
        if accepted.is_empty() {
            return Err(CliError::error(
                format!("Sluice accepts no mint on {}", context.chain.place()),
                "check --url: is it the cluster that the server is paid on?",
            ));
        }
        let entry = |one: &AcceptedMint| (key(one.mint), unit(&key(one.mint), one.decimals));
        Ok(accepted.iter().map(|(_, one)| entry(one)).collect())
    }

    /// The server asked for nothing.
    fn free(&self, context: &Context, answer: &Answer) -> Result<(), CliError> {
        let text = format!(
            "no payment was asked for: the server answered {}",
            answer.status
        );
        let value =
            json!({"paid": false, "status": answer.status, "body": body_json(&answer.body)});
        self.deliver(context, &value, &text, &answer.body)?;
        if answer.status >= 400 {
            return Err(CliError::error(
                format!("{} answered {}", self.target, answer.status),
                "nothing was paid; correct the request",
            ));
        }
        Ok(())
    }

    fn receipt(
        &self,
        context: &Context,
        unit: &Unit,
        payees: &Payees,
        receipt: &Receipt,
    ) -> Result<(), CliError> {
        let text = receipt_text(&context.output, unit, payees, receipt);
        let mut value =
            serde_json::to_value(receipt).map_err(|error| CliError::error(error, "report it"))?;
        value["paid"] = true.into();
        value["lamportsSpentByPayer"] = 0.into();
        value["treasuryWallet"] = payees.treasury.map(|key| key.to_string()).into();
        value["facilitatorWallet"] = payees.facilitator.map(|key| key.to_string()).into();
        value["body"] = body_json(&receipt.body);
        self.deliver(context, &value, &text, &receipt.body)?;
        if receipt.status >= 400 {
            return Err(CliError::error(
                format!(
                    "the payment {} has settled, and the server answered {}",
                    receipt.digest, receipt.status
                ),
                "show the receipt to whoever runs the server; do not pay again",
            ));
        }
        Ok(())
    }

    /// Prints what came of it, and the answer where it was wanted.
    fn deliver(
        &self,
        context: &Context,
        value: &Value,
        text: &str,
        body: &[u8],
    ) -> Result<(), CliError> {
        let output = &context.output;
        let with_body = || format!("{}\n\n{}", text.trim_end(), String::from_utf8_lossy(body));
        match self.outfile.as_deref() {
            None => output.result(value, |_| with_body()),
            Some(path) if path == Path::new("-") => {
                output.note(text.trim_end());
                // A reader that has gone away is not an error.
                let _ = std::io::stdout().write_all(body);
                Ok(())
            }
            Some(path) => match std::fs::write(path, body) {
                Ok(()) => output.result(value, |_| text.to_owned()),
                // It is paid for, so it must not be lost with the file.
                Err(error) => {
                    output.result(value, |_| with_body())?;
                    Err(CliError::error(
                        format!("{}: {error}", path.display()),
                        "the answer is printed above instead",
                    ))
                }
            },
        }
    }

    fn failed(&self, context: &Context, units: &[(Address, Unit)], error: Error) -> CliError {
        let status = |digest: &str| {
            let relayer = self.relayer.as_deref().unwrap_or("RELAYER_URL");
            format!("sluice intent status {digest} --relayer {relayer}")
        };
        match &error {
            Error::Unreachable { .. } => CliError::new(
                Code::Unreachable,
                &error,
                "check the URL and that the server is up; nothing was paid",
            ),
            Error::BadRequest { .. } => CliError::usage(&error, "correct URL, method and headers"),
            Error::OverPolicy {
                mint,
                amount,
                limit,
            } => {
                let both = |units_: u64| {
                    let unit = units.iter().find(|(known, _)| known == mint);
                    unit.map_or_else(
                        || format!("{units_}u of {mint}"),
                        |(_, unit)| unit.both(units_),
                    )
                };
                CliError::error(
                    format!(
                        "the server asks for {}, and --max allows {}",
                        both(*amount),
                        both(*limit)
                    ),
                    "nothing was paid; raise --max if that is a fair price",
                )
            }
            Error::NoSplitOffer { .. } => CliError::error(
                &error,
                "this server is not paid through Sluice; nothing was paid",
            ),
            Error::TermsMismatch(_) => {
                CliError::error(&error, "do not pay this server; nothing was paid")
            }
            Error::WrongCluster { .. } => CliError::error(
                &error,
                format!(
                    "choose the server's cluster with --url (now {}); nothing was paid",
                    context.chain.place()
                ),
            ),
            Error::NotOpened { .. } => CliError::error(
                &error,
                "the wallet's owner runs `sluice payer open --approve AMOUNT --session KEY`",
            ),
            Error::Nonce(NonceError::NoLane { .. }) => CliError::error(
                &error,
                "the wallet's owner runs `sluice payer lane --session KEY`; is --payer the wallet, and --signer the key?",
            ),
            Error::Nonce(NonceError::Facilitator(inner)) => {
                facilitator_error(self.relayer.as_deref().unwrap_or_default(), inner)
            }
            Error::Rejected { sent, .. } => CliError::error(
                &error,
                format!(
                    "nothing was charged so far; `sluice payer show --payer {}` shows the limits. What was signed is void after {}",
                    sent.payer(),
                    date(i64::from(sent.expires_at()))
                ),
            ),
            Error::AlreadySettled { sent } => CliError::error(
                "this payment has settled before and buys nothing more",
                status(sent.digest()),
            ),
            Error::Unknown { problem, sent, .. } => CliError::new(
                Code::Unknown,
                format!(
                    "the payment {} was sent, and what became of it is not known: {problem}",
                    sent.digest()
                ),
                format!(
                    "do not pay again before you know: {}",
                    status(sent.digest())
                ),
            ),
            Error::AnswerLost { receipt, .. } => CliError::error(
                &error,
                format!(
                    "it is paid in {}; ask the server for the answer, and do not pay again",
                    receipt.transaction
                ),
            ),
            _ => CliError::error(&error, "nothing was paid"),
        }
    }
}

/// The three names that x402 has; a local validator is called devnet, and its genesis hash tells it apart.
fn network(genesis_hash: &[u8; 32]) -> Network {
    let text = key(*genesis_hash).to_string();
    let is = |network: &Network| {
        let name = network.caip2();
        name.strip_prefix("solana:")
            .is_some_and(|head| text.starts_with(head))
    };
    Network::ALL.into_iter().find(is).unwrap_or(Network::Devnet)
}

/// Reads the next nonce off the chain. It does not see what is in flight, so two calls at once can be given
/// the same one; of the two payments only one lands.
fn from_chain(
    context: &Context,
    request: &NonceRequest,
    lane: Option<u8>,
) -> Result<NonceGrant, NonceError> {
    let other = |error: &dyn std::fmt::Display| NonceError::Other(error.to_string());
    let (nonce_account, _) = address::nonce_account(&request.payer, &request.mint);
    let found = context
        .chain
        .get_accounts(&[nonce_account])
        .map_err(|error| other(&error))?;
    let account = found.into_iter().flatten().next();
    let account = account
        .filter(|account| !account.data.is_empty())
        .ok_or(NonceError::NotOpened)?;
    let account =
        NonceAccount::decode(&account.owner, &account.data).map_err(|error| other(&error))?;
    let has_key = |number: usize| {
        account
            .lanes
            .get(number)
            .is_some_and(|one| key(one.key) == request.key)
    };
    let number = match lane {
        Some(number) if has_key(usize::from(number)) => number,
        Some(_) => return Err(NonceError::NoLane { key: request.key }),
        None => [1u8, 0]
            .into_iter()
            .find(|number| has_key(usize::from(*number)))
            .ok_or(NonceError::NoLane { key: request.key })?,
    };
    let lane = account.lanes.get(usize::from(number));
    let nonce = lane.and_then(|lane| lane.window().next());
    Ok(NonceGrant {
        nonce_account,
        opened_slot: account.opened_slot,
        lane: number,
        nonce: nonce
            .ok_or_else(|| NonceError::Other("the lane has used up every nonce".to_owned()))?,
    })
}

fn plan_text(
    output: &Output,
    unit: &Unit,
    plan: &Plan,
    payer: &Payer,
    payees: &Payees,
    on_stdout: bool,
) -> String {
    let bold = |text: &str| {
        if on_stdout {
            output.paint(Style::Bold, text)
        } else {
            output.paint_err(Style::Bold, text)
        }
    };
    let mut text = format!("{}\n", bold(&format!("{} {}", plan.method(), plan.url())));
    let mut pairs = Pairs::new();
    pairs.row("price", unit.both(plan.amount()));
    pairs.row("paid by", payer.address);
    pairs.row("service", plan.service());
    pairs.row(
        "terms",
        format!("{} (checked)", hex::encode(plan.terms_hash())),
    );
    text.push_str(&pairs.render("  "));
    let terms = plan.terms();
    let shares = plan.shares();
    let mut rows = vec![
        vec![
            "  treasury".to_owned(),
            unit.both(shares.treasury),
            bps(terms.treasury_bps),
            payees.treasury_text(),
        ],
        vec![
            "  facilitator".to_owned(),
            unit.both(shares.facilitator),
            format!(
                "{} + {}u",
                bps(terms.facilitator_bps),
                terms.facilitator_fixed
            ),
            payees.facilitator_text(&terms.facilitator),
        ],
    ];
    for (row, amount) in terms.recipients.iter().zip(shares.recipients) {
        let share = format!("{} of the rest", bps(row.bps));
        rows.push(vec![
            "  recipient".to_owned(),
            unit.both(amount),
            share,
            row.owner.clone(),
        ]);
    }
    text.push_str(&columns(&["  LEG", "AMOUNT", "SHARE", "OWNER"], &rows));
    text
}

fn plan_json(plan: &Plan) -> Value {
    let shares = plan.shares();
    let recipients: Vec<String> = plan
        .terms()
        .recipients
        .iter()
        .zip(shares.recipients)
        .map(|(_, amount)| amount.to_string())
        .collect();
    json!({
        "paid": false,
        "method": plan.method().as_str(),
        "url": plan.url(),
        "amount": plan.amount().to_string(),
        "mint": plan.mint().to_string(),
        "service": plan.service().to_string(),
        "network": plan.network().caip2(),
        "terms": plan.terms(),
        "split": {
            "treasury": shares.treasury.to_string(),
            "facilitator": shares.facilitator.to_string(),
            "recipients": recipients,
        },
    })
}

fn receipt_text(output: &Output, unit: &Unit, payees: &Payees, receipt: &Receipt) -> String {
    let mut pairs = Pairs::new();
    pairs.row(
        output.paint(Style::Green, "paid"),
        unit.both(receipt.amount),
    );
    pairs.row(
        "transaction",
        match receipt.index {
            Some(index) => format!("{} (payment {index})", receipt.transaction),
            None => receipt.transaction.clone(),
        },
    );
    pairs.row("digest", &receipt.digest);
    let relayer = receipt.lamports_per_payment.map_or_else(
        || "not said".to_owned(),
        |lamports| format!("{lamports} lamports"),
    );
    pairs.row(
        "network fee",
        format!("payer 0 lamports, relayer {relayer}"),
    );
    if let Some(size) = receipt.batch_size {
        let plural = if size == 1 { "" } else { "s" };
        pairs.row(
            "batch",
            format!("{size} payment{plural} in the transaction"),
        );
    }
    let mut text = pairs.render("");
    let rows: Vec<Vec<String>> = receipt
        .split
        .iter()
        .map(|leg| {
            let named = leg.owner.clone().unwrap_or_default();
            let (role, owner) = match leg.role {
                Role::Treasury => ("treasury", payees.treasury_text()),
                Role::Facilitator => ("facilitator", payees.facilitator_text(&named)),
                Role::Recipient => ("recipient", named),
            };
            vec![format!("  {role}"), unit.both(leg.amount), owner]
        })
        .collect();
    text.push_str(&columns(&["  LEG", "AMOUNT", "OWNER"], &rows));
    if !receipt.split_reported {
        text.push_str("  (the split follows from the terms; the server did not report it)\n");
    }
    text
}

/// The body as JSON where it is JSON, as text where it is text, and in base64 otherwise.
fn body_json(body: &[u8]) -> Value {
    if let Ok(value) = serde_json::from_slice(body) {
        return value;
    }
    match std::str::from_utf8(body) {
        Ok(text) => text.into(),
        Err(_) => {
            use base64::{Engine as _, engine::general_purpose::STANDARD};
            json!({"base64": STANDARD.encode(body)})
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_named_by_its_genesis_hash() {
        let devnet = Address::from_str_const("EtWTRABZaYq6iMfeYKouRu166VU2xqa1wcaWoxPkrZBG");
        let mainnet = Address::from_str_const("5eykt4UsFv8P8NJdTREpY1vzqKqZKvdpKuc147dw2N9d");
        assert_eq!(network(&devnet.to_bytes()), Network::Devnet);
        assert_eq!(network(&mainnet.to_bytes()), Network::Mainnet);
        assert_eq!(network(&[1; 32]), Network::Devnet, "a local validator");
    }
}
