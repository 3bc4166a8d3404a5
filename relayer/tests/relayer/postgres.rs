//! Ledgers to test on: a SQLite file, or a database of a Postgres server that the tests start themselves.
//!
//! One server for the whole test binary, from the binaries that Debian installs. It lives as long as this process does:
//! a shell that holds its pid waits on a pipe from here, which the system closes however this process ends.

use std::{
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use sqlx::{AnyConnection, Connection, Row};
use tempfile::TempDir;

/// Where Debian puts the servers, a directory for each version.
const SERVERS: &str = "/usr/lib/postgresql";

/// Prints its directory once the server answers, and ends it when standard input does.
const SCRIPT: &str = r#"
set -eu
cd /
umask 077
dir=$(mktemp -d "${TMPDIR:-/tmp}/sluice-postgres.XXXXXX")
trap 'rm -rf "$dir"' EXIT
"$0/initdb" -D "$dir/data" -U postgres -A trust -E UTF8 --locale=C --no-sync >"$dir/log" 2>&1 ||
    { cat "$dir/log" >&2; exit 1; }
"$0/postgres" -D "$dir/data" -k "$dir" -h '' -F -c full_page_writes=off -c max_connections=400 \
    -c shared_buffers=16MB -c deadlock_timeout=100ms >"$dir/log" 2>&1 &
server=$!
tries=0
until "$0/pg_isready" -q -h "$dir" -U postgres; do
    tries=$((tries + 1))
    if [ "$tries" -gt 300 ]; then cat "$dir/log" >&2; kill -INT "$server"; exit 1; fi
    sleep 0.1
done
echo "$dir"
cat >/dev/null
kill -INT "$server"
wait "$server" || true
"#;

struct Server {
    directory: String,
    /// Its standard input is what the server's life hangs on.
    _shell: Child,
}

fn server() -> Option<&'static Server> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    SERVER
        .get_or_init(|| match start() {
            Ok(server) => Some(server),
            Err(problem) => {
                // Around the test harness, which keeps what a test that passes says.
                let _ = writeln!(
                    std::io::stderr(),
                    "\nSKIPPED: nothing is tested on Postgres here: {problem}\n"
                );
                None
            }
        })
        .as_ref()
}

/// A shell of somebody as whom the server runs.
pub fn as_server() -> Command {
    // The standard library does not tell whose process this is.
    let id = Command::new("id").arg("-u").output();
    let root = id.is_ok_and(|id| id.stdout.trim_ascii() == b"0");
    if root {
        // The server refuses to run as root.
        let mut command = Command::new("setpriv");
        command.args([
            "--reuid=postgres",
            "--regid=postgres",
            "--clear-groups",
            "sh",
        ]);
        command
    } else {
        Command::new("sh")
    }
}

fn start() -> Result<Server, String> {
    let binaries = newest().ok_or_else(|| {
        format!("no server under {SERVERS}; on Debian: apt-get install postgresql")
    })?;
    let mut shell = as_server()
        .args(["-c", SCRIPT])
        .arg(&binaries)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("its shell did not start: {error}"))?;
    let mut directory = String::new();
    let output = shell.stdout.take().ok_or("no output")?;
    BufReader::new(output)
        .read_line(&mut directory)
        .map_err(|error| error.to_string())?;
    if directory.is_empty() {
        return Err(format!("{} did not start", binaries.display()));
    }
    Ok(Server {
        directory: directory.trim().to_owned(),
        _shell: shell,
    })
}

/// The binaries of the newest version that is installed.
pub fn newest() -> Option<PathBuf> {
    let version = |path: &PathBuf| -> Option<u32> { path.file_name()?.to_str()?.parse().ok() };
    std::fs::read_dir(SERVERS)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.join("bin/initdb").is_file())
        .max_by_key(version)
        .map(|path| path.join("bin"))
}

/// A database of its own for a test.
pub struct Store {
    url: String,
    _dir: Option<TempDir>,
}

impl Store {
    pub fn sqlite() -> Self {
        let dir = TempDir::new().unwrap();
        Self {
            url: format!("sqlite://{}", dir.path().join("ledger.db").display()),
            _dir: Some(dir),
        }
    }

    /// A database that is there already.
    pub fn at(url: String) -> Self {
        Self { url, _dir: None }
    }

    /// `None` where there is no Postgres.
    pub async fn postgres() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let server = server()?;
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let url = |name: &str| {
            format!(
                "postgres://postgres@localhost/{name}?host={}",
                server.directory
            )
        };
        let mut connection = connect(&url("postgres")).await;
        sqlx::query(&format!("CREATE DATABASE {name}"))
            .execute(&mut connection)
            .await
            .unwrap();
        connection.close().await.unwrap();
        Some(Self {
            url: url(&name),
            _dir: None,
        })
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn is_postgres(&self) -> bool {
        self.url.starts_with("postgres")
    }

    /// Runs a statement beside the relayer.
    pub async fn execute(&self, sql: &str) {
        let mut connection = connect(&self.url).await;
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    /// A number out of it.
    pub async fn count(&self, sql: &str) -> i64 {
        let mut connection = connect(&self.url).await;
        let row = sqlx::query(sql).fetch_one(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        row.get(0)
    }

    /// Makes every change of a table fail, by the database's own word.
    pub async fn refuse_changes(&self, table: &str) {
        self.execute(&if self.is_postgres() {
            format!(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'disk full'; END $$; \
                 CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION refuse()"
            )
        } else {
            format!(
                "CREATE TRIGGER refuse BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'disk full'); END"
            )
        })
        .await;
    }

    pub async fn allow_changes(&self, table: &str) {
        self.execute(&if self.is_postgres() {
            format!("DROP TRIGGER refuse ON {table}; DROP FUNCTION refuse()")
        } else {
            "DROP TRIGGER refuse".to_owned()
        })
        .await;
    }

    /// Ends every connection to a Postgres database and lets nobody in any more, as if the server were gone.
    pub async fn cut(&self) {
        self.elsewhere(&format!(
            "ALTER DATABASE {0} ALLOW_CONNECTIONS false; \
             SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{0}'",
            self.name()
        ))
        .await;
    }

    pub async fn mend(&self) {
        self.elsewhere(&format!(
            "ALTER DATABASE {} ALLOW_CONNECTIONS true",
            self.name()
        ))
        .await;
    }

    fn name(&self) -> &str {
        let (head, _) = self.url.split_once('?').unwrap();
        head.rsplit_once('/').unwrap().1
    }

    async fn elsewhere(&self, sql: &str) {
        let other = self
            .url
            .replace(&format!("/{}?", self.name()), "/postgres?");
        let mut connection = connect(&other).await;
        for line in sql.split("; ") {
            sqlx::raw_sql(line).execute(&mut connection).await.unwrap();
        }
        connection.close().await.unwrap();
    }
}

pub async fn connect(url: &str) -> AnyConnection {
    sqlx::any::install_default_drivers();
    let mut connection = AnyConnection::connect(url).await.unwrap();
    if url.starts_with("sqlite") {
        sqlx::query("PRAGMA busy_timeout = 5000")
            .execute(&mut connection)
            .await
            .unwrap();
    }
    connection
}

/// Makes two tests of each function that takes a [`Store`]: one for each database.
macro_rules! on_both {
    ($($(#[$attribute:meta])* $name:ident)*) => {
        mod sqlite {
            use crate::postgres::Store;
            $(
                $(#[$attribute])*
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$name(Store::sqlite()).await;
                }
            )*
        }
        mod postgres {
            use crate::postgres::Store;
            $(
                $(#[$attribute])*
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    if let Some(store) = Store::postgres().await {
                        super::$name(store).await;
                    }
                }
            )*
        }
    };
}
pub(crate) use on_both;
