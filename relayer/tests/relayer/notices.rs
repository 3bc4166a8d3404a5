//! The subscription, by a websocket server that misbehaves.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use sluice_relayer::{
    chain::notices::{Notice, Notices, Pace},
    config::SecretUrl,
};
use sluice_sdk::PROGRAM_ID;
use solana_signature::Signature;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{WebSocketStream, accept_async, tungstenite::Message};
use tokio_util::sync::CancellationToken;

use crate::scene::{key, relayer};

/// Quick, so that a test of silence is not long.
const PACE: Pace = Pace {
    first_pause: Duration::from_millis(10),
    longest_pause: Duration::from_millis(40),
    silence: Duration::from_millis(300),
};

type Socket = WebSocketStream<TcpStream>;

struct Server {
    listener: TcpListener,
    notices: Notices,
    stop: CancellationToken,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn signature(seed: u8) -> Signature {
    Signature::from([seed; 64])
}

fn notice(seed: u8) -> Value {
    json!({"jsonrpc": "2.0", "method": "logsNotification", "params": {"subscription": 3, "result": {
        "context": {"slot": 42},
        "value": {
            "signature": signature(seed).to_string(),
            "err": null,
            "logs": [format!("Program return: {PROGRAM_ID} AAAD")],
        },
    }}})
}

impl Server {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/hush", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let notices = Notices::start_at(PACE, SecretUrl::from(url), vec![relayer()], stop.clone());
        Self {
            listener,
            notices,
            stop,
        }
    }

    /// The next connection, with what it asks for.
    async fn accept(&self) -> (Socket, Value) {
        loop {
            let (stream, _) = self.listener.accept().await.unwrap();
            // One that was not accepted in time is gone, and another comes.
            let Ok(mut socket) = accept_async(stream).await else {
                continue;
            };
            let Some(Ok(text)) = socket.next().await else {
                continue;
            };
            let asked = serde_json::from_str(text.to_text().unwrap()).unwrap();
            return (socket, asked);
        }
    }

    /// The next connection, subscribed.
    async fn subscribe(&self) -> Socket {
        let (mut socket, asked) = self.accept().await;
        assert_eq!(asked["method"], "logsSubscribe");
        assert_eq!(
            asked["params"],
            json!([{"mentions": [relayer().to_string()]}, {"commitment": "confirmed"}])
        );
        say(
            &mut socket,
            &json!({"jsonrpc": "2.0", "id": asked["id"], "result": 3}),
        )
        .await;
        socket
    }

    async fn hear(&mut self) -> Notice {
        self.notices.queue.recv().await.unwrap()
    }

    async fn until_connected(&self, connected: bool) {
        while self.notices.connected() != connected {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

async fn say(socket: &mut Socket, value: &Value) {
    socket.send(Message::text(value.to_string())).await.unwrap();
}

#[tokio::test]
async fn what_landed_is_told_with_what_it_did() {
    let mut server = Server::new().await;
    assert!(!server.notices.connected());
    let mut socket = server.subscribe().await;
    server.until_connected(true).await;
    say(&mut socket, &notice(1)).await;
    let heard = server.hear().await;
    assert_eq!((heard.signature, heard.slot), (signature(1), 42));
    assert_eq!((heard.error, heard.codes), (None, Some(vec![0, 0, 3])));
    let mut failed = notice(2);
    failed["params"]["result"]["value"]["err"] =
        json!({"InstructionError": [2, {"Custom": 6_011}]});
    failed["params"]["result"]["value"]["logs"] = json!([]);
    say(&mut socket, &failed).await;
    let heard = server.hear().await;
    assert_eq!(heard.signature, signature(2));
    assert!(heard.error.is_some());
    assert_eq!(heard.codes, None);
}

#[tokio::test]
async fn a_connection_that_ends_is_made_again() {
    let mut server = Server::new().await;
    for seed in 1..4 {
        let mut socket = server.subscribe().await;
        say(&mut socket, &notice(seed)).await;
        assert_eq!(server.hear().await.signature, signature(seed));
        // Once with a word, once without, once with half a frame.
        match seed {
            1 => socket.close(None).await.unwrap(),
            2 => drop(socket),
            _ => {
                use tokio::io::AsyncWriteExt;
                let stream = socket.get_mut();
                stream.write_all(&[0x81, 0x7e, 0xff]).await.unwrap();
                stream.shutdown().await.unwrap();
            }
        }
        server.until_connected(false).await;
    }
    server.subscribe().await;
}

#[tokio::test]
async fn garbage_is_passed_over() {
    let mut server = Server::new().await;
    let mut socket = server.subscribe().await;
    for text in [
        "",
        "{",
        "null",
        "[]",
        "{\"id\": 2, \"result\": 5}",
        "{\"method\": \"logsNotification\"}",
        "{\"params\": {\"result\": {\"value\": {\"logs\": 5}}}}",
    ] {
        socket.send(Message::text(text)).await.unwrap();
    }
    let mut broken = notice(1);
    broken["params"]["result"]["value"]["signature"] = json!("not one");
    say(&mut socket, &broken).await;
    let mut nowhere = notice(1);
    nowhere["params"]["result"]["context"] = json!({"slot": -1});
    say(&mut socket, &nowhere).await;
    socket
        .send(Message::binary(vec![0xff; 1_000]))
        .await
        .unwrap();
    socket.send(Message::Ping(Vec::new().into())).await.unwrap();
    say(&mut socket, &notice(9)).await;
    assert_eq!(server.hear().await.signature, signature(9));
    assert!(server.notices.connected());
    // Not text: the connection ends there, and another is made.
    use tokio::io::AsyncWriteExt;
    socket
        .get_mut()
        .write_all(&[0x81, 2, 0xff, 0xfe])
        .await
        .unwrap();
    server.until_connected(false).await;
    let _socket = server.subscribe().await;
    server.until_connected(true).await;
}

#[tokio::test]
async fn a_message_without_end_is_not_kept() {
    let mut server = Server::new().await;
    let mut socket = server.subscribe().await;
    server.until_connected(true).await;
    let huge = Message::text("x".repeat(5 * 1024 * 1024));
    // It may be refused while it is being sent.
    let _ = socket.send(huge).await;
    let mut socket = server.subscribe().await;
    say(&mut socket, &notice(1)).await;
    assert_eq!(server.hear().await.signature, signature(1));
}

#[tokio::test]
async fn a_subscription_that_is_refused_is_no_connection() {
    let mut server = Server::new().await;
    let refusal = json!({"code": -32_601, "message": "Method not found: hush"});
    for answer in [
        json!({"error": refusal}),
        json!({}),
        json!({"result": null}),
        json!({"result": "no"}),
    ] {
        let (mut socket, asked) = server.accept().await;
        let mut answer = answer;
        answer["id"] = asked["id"].clone();
        say(&mut socket, &answer).await;
        // It is ended from the other side, and tried again.
        while let Some(Ok(_)) = socket.next().await {}
        assert!(!server.notices.connected(), "{answer}");
    }
    let mut socket = server.subscribe().await;
    say(&mut socket, &notice(1)).await;
    assert_eq!(server.hear().await.signature, signature(1));
}

#[tokio::test]
async fn every_fee_payer_has_a_subscription_and_one_refused_is_all() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    let keys = vec![relayer(), key(10)];
    let notices = Notices::start_at(PACE, SecretUrl::from(url), keys, stop.clone());
    let mut server = Server {
        listener,
        notices,
        stop,
    };
    for refused in [true, false] {
        let (mut socket, first) = server.accept().await;
        let text = socket.next().await.unwrap().unwrap();
        let second: Value = serde_json::from_str(text.to_text().unwrap()).unwrap();
        let mentioned = |asked: &Value| asked["params"][0]["mentions"][0].clone();
        assert_eq!(mentioned(&first), relayer().to_string());
        assert_eq!(mentioned(&second), key(10).to_string());
        say(&mut socket, &json!({"id": second["id"], "result": 4})).await;
        // Half of it is nothing.
        say(&mut socket, &notice(1)).await;
        assert_eq!(server.hear().await.signature, signature(1));
        assert!(!server.notices.connected());
        if refused {
            say(
                &mut socket,
                &json!({"id": first["id"], "error": {"code": 1}}),
            )
            .await;
            while let Some(Ok(_)) = socket.next().await {}
            assert!(!server.notices.connected());
        } else {
            say(&mut socket, &json!({"id": first["id"], "result": 5})).await;
            server.until_connected(true).await;
        }
    }
}

#[tokio::test]
async fn a_subscription_that_is_not_answered_is_given_up() {
    let server = Server::new().await;
    let (mut socket, _) = server.accept().await;
    // It lives, and talks of other things.
    loop {
        let said = socket.send(Message::text("{\"id\": 7}")).await;
        if said.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!server.notices.connected());
    }
    let _socket = server.subscribe().await;
    server.until_connected(true).await;
}

#[tokio::test]
async fn a_connection_that_is_dead_is_noticed() {
    let server = Server::new().await;
    // Nobody reads it, so no ping is answered.
    let _dead = server.subscribe().await;
    server.until_connected(true).await;
    server.until_connected(false).await;
    let mut live = server.subscribe().await;
    server.until_connected(true).await;
    // One that answers pings stays, however long nothing happens.
    let pinged = async {
        let mut pings = 0;
        while pings < 3 {
            if let Some(Ok(Message::Ping(_))) = live.next().await {
                pings += 1;
            }
        }
    };
    pinged.await;
    assert!(server.notices.connected());
}

#[tokio::test]
async fn what_is_no_websocket_is_tried_again() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let server = Server::new().await;
    for answer in [
        &b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n"[..],
        b"hush\r\n\r\n",
        b"",
    ] {
        let (mut stream, _) = server.listener.accept().await.unwrap();
        let mut buffer = [0; 1_024];
        let _ = stream.read(&mut buffer).await.unwrap();
        stream.write_all(answer).await.unwrap();
        drop(stream);
        assert!(!server.notices.connected());
    }
    // One that takes the connection and says nothing.
    let (_silent, _) = server.listener.accept().await.unwrap();
    let _socket = server.subscribe().await;
    server.until_connected(true).await;
}

#[tokio::test]
async fn it_ends_when_it_is_told_to() {
    let mut server = Server::new().await;
    let mut socket = server.subscribe().await;
    server.until_connected(true).await;
    server.stop.cancel();
    assert_eq!(server.notices.queue.recv().await, None);
    while let Some(Ok(_)) = socket.next().await {}
    // And one that was never begun waits, and does not end.
    let mut none = Notices::none();
    assert!(!none.connected());
    let waited = tokio::time::timeout(Duration::from_millis(50), none.queue.recv()).await;
    assert!(waited.is_err());
}
