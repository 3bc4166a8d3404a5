//! A Postgres server that a test has for itself, to stop, kill and starve; and a line to it that can be cut.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Stdio},
    sync::{Arc, Mutex},
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, UnixStream},
    task::{JoinHandle, JoinSet},
};

use crate::postgres::{Store, as_server, newest};

/// Obeys a word a line, and answers each with a line; ends the server when there are no more.
const SCRIPT: &str = r#"
set -u
cd /
umask 077
dir=$(mktemp -d "$1/sluice-postgres.XXXXXX")
server=
end() {
    [ -z "$server" ] || kill -QUIT "$server" 2>/dev/null
    wait
    rm -rf "$dir"
}
trap end EXIT
"$0/initdb" -D "$dir/data" -U postgres -A trust -E UTF8 --locale=C --wal-segsize=1 >"$dir/log" 2>&1 ||
    { cat "$dir/log" >&2; exit 1; }
up() {
    # After a kill the last of the old processes may still be leaving.
    tries=0
    until "$0/pg_isready" -q -h "$dir" -U postgres; do
        tries=$((tries + 1))
        if [ "$tries" -gt 300 ]; then tail -n 50 "$dir/log" >&2; exit 1; fi
        if [ -z "$server" ] || ! kill -0 "$server" 2>/dev/null; then
            "$0/postgres" -D "$dir/data" -k "$dir" -h '' -c shared_buffers=8MB -c min_wal_size=2MB \
                -c max_wal_size=8MB >>"$dir/log" 2>&1 &
            server=$!
        fi
        sleep 0.1
    done
}
up
echo "$dir"
while read -r word; do
    case $word in
        # What an operator does, what a crash does, and what the kernel does.
        restart) kill -INT "$server"; wait "$server"; server= ;;
        crash) kill -QUIT "$server"; wait "$server"; server= ;;
        kill) kill -KILL "$server"; wait "$server" 2>/dev/null; server= ;;
        up) up ;;
    esac
    echo "$word"
done
"#;

pub struct Server {
    directory: String,
    words: Option<ChildStdin>,
    answers: Mutex<BufReader<ChildStdout>>,
    shell: Child,
}

impl Server {
    /// A server with its data under `folder`; `None` where there is no Postgres.
    pub async fn start(folder: &Path) -> Option<Self> {
        // Whoever cannot start one there has said so.
        Store::postgres().await?;
        let mut shell = as_server()
            .args(["-c", SCRIPT])
            .arg(newest()?)
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let words = shell.stdin.take().unwrap();
        let mut answers = BufReader::new(shell.stdout.take().unwrap());
        let mut directory = String::new();
        answers.read_line(&mut directory).unwrap();
        assert!(!directory.is_empty(), "the server did not start");
        Some(Self {
            directory: directory.trim().to_owned(),
            words: Some(words),
            answers: Mutex::new(answers),
            shell,
        })
    }

    /// Has it do a word of the script, and waits until it is done.
    pub fn obey(&mut self, word: &str) {
        writeln!(self.words.as_mut().unwrap(), "{word}").unwrap();
        let mut answer = String::new();
        let answers = self.answers.get_mut().unwrap();
        answers.read_line(&mut answer).unwrap();
        assert_eq!(answer.trim(), word);
    }

    pub fn store(&self) -> Store {
        Store::at(format!(
            "postgres://postgres@localhost/postgres?host={}",
            self.directory
        ))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It ends when it hears no more words.
        drop(self.words.take());
        let _ = self.shell.wait();
    }
}

/// A line to a Postgres database that can be cut while the server works on.
pub struct Line {
    port: u16,
    database: String,
    calls: Arc<Mutex<JoinSet<()>>>,
    listener: JoinHandle<()>,
}

impl Line {
    pub async fn to(store: &Store) -> Self {
        let (head, directory) = store.url().split_once("?host=").unwrap();
        let database = head.rsplit_once('/').unwrap().1.to_owned();
        let socket = format!("{directory}/.s.PGSQL.5432");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let calls: Arc<Mutex<JoinSet<()>>> = Arc::default();
        let open = Arc::clone(&calls);
        let listener = tokio::spawn(async move {
            loop {
                let (mut caller, _) = listener.accept().await.unwrap();
                let socket = socket.clone();
                open.lock().unwrap().spawn(async move {
                    if let Ok(mut server) = UnixStream::connect(socket).await {
                        let _ = copy_bidirectional(&mut caller, &mut server).await;
                    }
                });
            }
        });
        Self {
            port,
            database,
            calls,
            listener,
        }
    }

    pub fn url(&self) -> String {
        format!(
            "postgres://postgres@127.0.0.1:{}/{}?sslmode=disable",
            self.port, self.database
        )
    }

    /// Breaks every connection. The next one is let through.
    pub fn cut(&self) {
        self.calls.lock().unwrap().abort_all();
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.listener.abort();
        self.cut();
    }
}
