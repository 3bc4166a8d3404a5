//! What is kept of sponsored openings: the transaction that was built, what became of it, and the quotas that bound them.

use sluice_sdk::Address;
use solana_signature::Signature;
use sqlx::{AnyConnection, Row, any::AnyRow};

use super::{
    Backend, Ledger, LedgerError,
    chores::{DAY_MS, Kind, NewChore, insert, lock},
    row::{column, from_sql, parse, to_sql},
};

/// Where a sponsored opening stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Its transaction was built and given out. Nothing is signed.
    Built,
    /// The payer's signature came back, and the transaction is on its way.
    Signed,
    /// The account is open, at the relayer's cost.
    Landed,
    /// The transaction failed: it cost its fee and opened nothing.
    Failed,
    /// The transaction can never land. It cost nothing.
    Dead,
    /// The account was open, and its payer has closed it since.
    Closed,
    /// The account was open, and the relayer has closed it since, because it was idle.
    Reclaimed,
}

impl Stage {
    const ALL: [Self; 7] = [
        Self::Built,
        Self::Signed,
        Self::Landed,
        Self::Failed,
        Self::Dead,
        Self::Closed,
        Self::Reclaimed,
    ];

    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Built => "built",
            Self::Signed => "signed",
            Self::Landed => "landed",
            Self::Failed => "failed",
            Self::Dead => "dead",
            Self::Closed => "closed",
            Self::Reclaimed => "reclaimed",
        }
    }
}

/// A sponsored opening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Onboarding {
    /// What it is asked for by.
    pub id: String,
    /// For whom.
    pub payer: Address,
    /// In which mint.
    pub mint: Address,
    /// What is opened.
    pub nonce_account: Address,
    /// The relayer's key that pays rent and fee.
    pub sponsor: Address,
    /// The transaction as it was built, with zeros for signatures.
    pub unsigned: Vec<u8>,
    /// The last block that may hold it.
    pub last_valid_block_height: u64,
    /// What the account costs while it is open.
    pub rent_lamports: u64,
    /// What the transaction costs.
    pub fee_lamports: u64,
    /// Who asked.
    pub client: String,
    /// With which API key, by its name.
    pub api_key: Option<String>,
    /// Where it stands.
    pub stage: Stage,
    /// The transaction, once it is signed.
    pub signature: Option<Signature>,
    /// The slot it landed in.
    pub slot: Option<u64>,
    /// Why it failed.
    pub error: Option<String>,
}

/// Bounds on what is sponsored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// Rent and fees of a day, in lamports.
    pub lamports_per_day: u64,
    /// Rent of the accounts that are open, in lamports.
    pub lamports_outstanding: u64,
    /// Openings a day for one client.
    pub per_client: u32,
    /// Openings a day for one payer.
    pub per_payer: u32,
    /// Openings a day for one API key.
    pub per_key: u32,
    /// Transactions built a day for one client, whether they come back or not.
    pub builds_per_client: u32,
}

/// The bound that an opening would pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quota {
    /// [`Quotas::lamports_per_day`].
    Day,
    /// [`Quotas::lamports_outstanding`].
    Outstanding,
    /// [`Quotas::per_client`].
    Client,
    /// [`Quotas::per_payer`].
    Payer,
    /// [`Quotas::per_key`].
    Key,
    /// [`Quotas::builds_per_client`].
    Builds,
    /// One account a payer and mint.
    Once,
}

/// What became of an opening that was to be signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signing {
    /// It is on disk, and may be sent.
    Written,
    /// It was signed before; here is how it stands.
    Known(Box<Onboarding>),
    /// It would pass a bound.
    Over(Quota),
    /// There is no such opening.
    Unknown,
}

const COLUMNS: &str = "id, payer, mint, nonce_account, sponsor, unsigned, last_valid_block_height, rent_lamports, \
     fee_lamports, client, api_key, state, signature, slot, error";

impl Ledger {
    /// Writes an opening down that was built, unless it would pass a bound. Nothing is used up by it but the number of
    /// builds.
    pub async fn write_onboarding(
        &self,
        onboarding: Onboarding,
        quotas: Quotas,
    ) -> Result<Option<Quota>, LedgerError> {
        let backend = self.backend;
        self.write(move |connection| {
            Box::pin(async move {
                let builds = count_builds(connection, backend, &onboarding.client).await?;
                if builds >= i64::from(quotas.builds_per_client) {
                    return Ok(Some(Quota::Builds));
                }
                if let Some(quota) = passed(connection, backend, &onboarding, &quotas).await? {
                    return Ok(Some(quota));
                }
                let sql = format!(
                    "INSERT INTO onboardings (id, payer, mint, nonce_account, sponsor, unsigned, \
                     last_valid_block_height, rent_lamports, fee_lamports, client, api_key, built_at) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, {})",
                    backend.now()
                );
                sqlx::query(&sql)
                    .bind(onboarding.id)
                    .bind(onboarding.payer.to_string())
                    .bind(onboarding.mint.to_string())
                    .bind(onboarding.nonce_account.to_string())
                    .bind(onboarding.sponsor.to_string())
                    .bind(onboarding.unsigned)
                    .bind(to_sql(onboarding.last_valid_block_height))
                    .bind(to_sql(onboarding.rent_lamports))
                    .bind(to_sql(onboarding.fee_lamports))
                    .bind(onboarding.client)
                    .bind(onboarding.api_key)
                    .execute(connection)
                    .await?;
                Ok(None)
            })
        })
        .await
    }

    /// Uses the quotas up and writes the signed transaction down, in one commit. Only after [`Signing::Written`] may its
    /// first byte leave.
    pub async fn sign_onboarding(
        &self,
        id: String,
        chore: NewChore,
        quotas: Quotas,
    ) -> Result<Signing, LedgerError> {
        let (replica, backend) = (self.replica.clone(), self.backend);
        let again = id.clone();
        let signing = self
            .write(move |connection| {
                Box::pin(async move {
                    lock(connection, Kind::Onboard).await?;
                    let Some(onboarding) = find(connection, &id).await? else {
                        return Ok(Signing::Unknown);
                    };
                    if onboarding.stage != Stage::Built {
                        return Ok(Signing::Known(Box::new(onboarding)));
                    }
                    if let Some(quota) = passed(connection, backend, &onboarding, &quotas).await? {
                        return Ok(Signing::Over(quota));
                    }
                    let sql = format!(
                        "UPDATE onboardings SET state = 'signed', signature = $1, signed_at = {} WHERE id = $2",
                        backend.now()
                    );
                    sqlx::query(&sql)
                        .bind(chore.signature.to_string())
                        .bind(&id)
                        .execute(&mut *connection)
                        .await?;
                    insert(connection, backend, &replica, &chore).await?;
                    Ok(Signing::Written)
                })
            })
            .await;
        match signing {
            // Another replica wrote the same opening, or the same account's, at the same moment.
            Err(LedgerError::Contended(problem)) => match self.onboarding(&again).await? {
                Some(onboarding) if onboarding.stage != Stage::Built => {
                    Ok(Signing::Known(Box::new(onboarding)))
                }
                _ => Err(LedgerError::Contended(problem)),
            },
            signing => signing,
        }
    }

    /// An opening.
    pub async fn onboarding(&self, id: &str) -> Result<Option<Onboarding>, LedgerError> {
        let mut connection = self.reader.acquire().await?;
        find(&mut connection, id).await
    }

    /// Accounts that are open at the relayer's cost, and the slots in which they were opened.
    pub async fn sponsored(&self) -> Result<Vec<(Address, u64)>, LedgerError> {
        let rows = sqlx::query(
            "SELECT nonce_account, slot FROM onboardings WHERE state = 'landed' AND slot IS NOT NULL",
        )
        .fetch_all(&self.reader)
        .await?;
        rows.iter()
            .map(|row| {
                Ok((
                    column(row, "nonce_account")?,
                    from_sql(row.try_get("slot")?, "slot")?,
                ))
            })
            .collect()
    }

    /// Notes that a payer has closed its account: the rent is back.
    pub async fn note_closed(&self, nonce_account: Address) -> Result<(), LedgerError> {
        self.write(move |connection| {
            Box::pin(async move {
                sqlx::query(
                    "UPDATE onboardings SET state = 'closed' WHERE nonce_account = $1 AND state = 'landed'",
                )
                .bind(nonce_account.to_string())
                .execute(connection)
                .await?;
                Ok(())
            })
        })
        .await
    }

    /// Forgets what was built more than a day ago and never came back.
    pub async fn forget_builds(&self) -> Result<(), LedgerError> {
        let sql = format!(
            "DELETE FROM onboardings WHERE state = 'built' AND built_at < {} - {DAY_MS}",
            self.backend.now()
        );
        self.write(move |connection| {
            Box::pin(async move {
                sqlx::query(&sql).execute(connection).await?;
                Ok(())
            })
        })
        .await
    }
}

/// Marks accounts that the relayer has closed: their payers may be sponsored again.
pub(super) async fn reclaimed(
    connection: &mut AnyConnection,
    nonce_accounts: &[String],
) -> Result<(), LedgerError> {
    for nonce_account in nonce_accounts {
        sqlx::query(
            "UPDATE onboardings SET state = 'reclaimed' WHERE nonce_account = $1 AND state IN ('landed', 'closed')",
        )
        .bind(nonce_account)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Records how the transaction of an opening ended.
pub(super) async fn ended(
    connection: &mut AnyConnection,
    signature: &str,
    state: &str,
    slot: Option<u64>,
    error: Option<&str>,
) -> Result<(), LedgerError> {
    sqlx::query(
        "UPDATE onboardings SET state = $1, slot = $2, error = $3 WHERE signature = $4 AND state = 'signed'",
    )
    .bind(state.to_owned())
    .bind(slot.map(to_sql))
    .bind(error.map(str::to_owned))
    .bind(signature.to_owned())
    .execute(connection)
    .await?;
    Ok(())
}

async fn find(connection: &mut AnyConnection, id: &str) -> Result<Option<Onboarding>, LedgerError> {
    let sql = format!("SELECT {COLUMNS} FROM onboardings WHERE id = $1");
    let row = sqlx::query(&sql)
        .bind(id.to_owned())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(read).transpose()
}

fn read(row: &AnyRow) -> Result<Onboarding, LedgerError> {
    let state: String = row.try_get("state")?;
    let signature: Option<String> = row.try_get("signature")?;
    Ok(Onboarding {
        id: row.try_get("id")?,
        payer: column(row, "payer")?,
        mint: column(row, "mint")?,
        nonce_account: column(row, "nonce_account")?,
        sponsor: column(row, "sponsor")?,
        unsigned: row.try_get("unsigned")?,
        last_valid_block_height: from_sql(
            row.try_get("last_valid_block_height")?,
            "last_valid_block_height",
        )?,
        rent_lamports: from_sql(row.try_get("rent_lamports")?, "rent_lamports")?,
        fee_lamports: from_sql(row.try_get("fee_lamports")?, "fee_lamports")?,
        client: row.try_get("client")?,
        api_key: row.try_get("api_key")?,
        stage: Stage::ALL
            .into_iter()
            .find(|stage| stage.as_str() == state)
            .ok_or_else(|| LedgerError::Row(format!("state {state:?}")))?,
        signature: signature
            .map(|text| parse(&text, "signature"))
            .transpose()?,
        slot: row
            .try_get::<Option<i64>, _>("slot")?
            .map(|slot| from_sql(slot, "slot"))
            .transpose()?,
        error: row.try_get("error")?,
    })
}

async fn count_builds(
    connection: &mut AnyConnection,
    backend: Backend,
    client: &str,
) -> Result<i64, LedgerError> {
    let sql = format!(
        "SELECT count(*) AS builds FROM onboardings WHERE client = $1 AND built_at > {} - {DAY_MS}",
        backend.now()
    );
    let row = sqlx::query(&sql)
        .bind(client.to_owned())
        .fetch_one(connection)
        .await?;
    Ok(row.try_get("builds")?)
}

/// The bound that signing an opening would pass. What can no longer land counts for nothing; of an account that was
/// closed, only the fee was spent.
async fn passed(
    connection: &mut AnyConnection,
    backend: Backend,
    onboarding: &Onboarding,
    quotas: &Quotas,
) -> Result<Option<Quota>, LedgerError> {
    let now = backend.now();
    let sql = format!(
        "SELECT \
         (SELECT count(*) FROM onboardings WHERE payer = $1 AND mint = $2 AND state IN ('signed', 'landed', 'closed')) \
         AS twins, \
         CAST(coalesce(sum(fee_lamports + CASE WHEN state IN ('signed', 'landed') THEN rent_lamports ELSE 0 END), 0) \
         AS BIGINT) AS spent, \
         CAST(coalesce(sum(CASE WHEN client = $3 THEN 1 ELSE 0 END), 0) AS BIGINT) AS client, \
         CAST(coalesce(sum(CASE WHEN payer = $1 THEN 1 ELSE 0 END), 0) AS BIGINT) AS payer, \
         CAST(coalesce(sum(CASE WHEN api_key = $4 THEN 1 ELSE 0 END), 0) AS BIGINT) AS api_key, \
         (SELECT CAST(coalesce(sum(rent_lamports), 0) AS BIGINT) FROM onboardings WHERE state IN ('signed', 'landed')) \
         AS outstanding \
         FROM onboardings WHERE signed_at > {now} - {DAY_MS} AND state <> 'dead'"
    );
    let row = sqlx::query(&sql)
        .bind(onboarding.payer.to_string())
        .bind(onboarding.mint.to_string())
        .bind(onboarding.client.clone())
        // No key is named so.
        .bind(onboarding.api_key.clone().unwrap_or_default())
        .fetch_one(connection)
        .await?;
    let number = |name: &'static str| from_sql(row.try_get(name)?, name);
    let cost = onboarding
        .rent_lamports
        .saturating_add(onboarding.fee_lamports);
    let outstanding = number("outstanding")?.saturating_add(onboarding.rent_lamports);
    let keyed = onboarding.api_key.is_some();
    Ok(if number("twins")? > 0 {
        Some(Quota::Once)
    } else if number("payer")? >= u64::from(quotas.per_payer) {
        Some(Quota::Payer)
    } else if keyed && number("api_key")? >= u64::from(quotas.per_key) {
        Some(Quota::Key)
    } else if number("client")? >= u64::from(quotas.per_client) {
        Some(Quota::Client)
    } else if number("spent")?.saturating_add(cost) > quotas.lamports_per_day {
        Some(Quota::Day)
    } else if outstanding > quotas.lamports_outstanding {
        Some(Quota::Outstanding)
    } else {
        None
    })
}
