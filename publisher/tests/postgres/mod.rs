//! As much of a PostgreSQL server as a client needs that asks for workers (protocol 3.0, "Message Formats").
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{JoinHandle, JoinSet};

/// Hosts and their tokens.
pub(crate) type Table = Arc<Mutex<HashMap<String, String>>>;

/// The hosts that were asked for, by the bytes of the questions.
type Asked = Arc<Mutex<Vec<Vec<u8>>>>;

/// A server on a socket in a folder; it is gone when this is dropped.
pub(crate) struct Postgres {
    workers: Table,
    asked: Asked,
    serving: JoinHandle<()>,
    socket: PathBuf,
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.serving.abort();
        let _ = std::fs::remove_file(&self.socket);
    }
}

impl Postgres {
    pub(crate) fn start(folder: &Path) -> Postgres {
        let workers = Table::default();
        let socket = folder.join(".s.PGSQL.5432");
        let listener = UnixListener::bind(&socket).unwrap();
        let asked = Asked::default();
        let serving = tokio::spawn(accept(listener, workers.clone(), asked.clone()));
        Postgres {
            workers,
            asked,
            serving,
            socket,
        }
    }

    pub(crate) fn put(&self, host: &str, token: &str) {
        self.workers.lock().unwrap().insert(host.to_owned(), token.to_owned());
    }

    /// How often it was asked for a host.
    pub(crate) fn asked(&self, host: &str) -> usize {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|bind| is_bound(bind, host)).count()
    }
}

async fn accept(listener: UnixListener, workers: Table, asked: Asked) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (workers, asked) = (workers.clone(), asked.clone());
        connections.spawn(async move { serve(stream, workers, asked).await });
    }
}

/// Ends with an error when the client goes.
async fn serve(mut stream: UnixStream, workers: Table, asked: Asked) -> std::io::Result<()> {
    let length = stream.read_u32().await?;
    let mut startup = vec![0; length as usize - 4];
    stream.read_exact(&mut startup).await?;
    let startup = String::from_utf8_lossy(&startup).into_owned();
    // Whoever asks must not be able to change anything, and needs its password.
    assert!(startup.contains("default_transaction_read_only=on"), "{startup:?}");
    stream.write_all(&message(b'R', &3_u32.to_be_bytes())).await?;
    assert_eq!(stream.read_u8().await?, b'p');
    let length = stream.read_u32().await?;
    let mut password = vec![0; length as usize - 4];
    stream.read_exact(&mut password).await?;
    if password != b"s3cret\0" {
        let error = b"SFATAL\0C28P01\0Mpassword authentication failed for user \"reader\"\0\0";
        return stream.write_all(&message(b'E', error)).await;
    }
    stream.write_all(&message(b'R', &0_u32.to_be_bytes())).await?;
    stream.write_all(&message(b'Z', b"I")).await?;
    let mut found = None;
    loop {
        let kind = stream.read_u8().await?;
        let length = stream.read_u32().await?;
        let mut body = vec![0; length as usize - 4];
        stream.read_exact(&mut body).await?;
        let answer = match kind {
            b'P' => {
                let text = String::from_utf8_lossy(&body);
                assert!(
                    text.contains("FROM lava_scheduler_app_worker WHERE hostname = $1"),
                    "{text}"
                );
                message(b'1', b"")
            }
            b'D' => message(
                b'T',
                b"\0\x01token\0\0\0\0\0\0\0\0\0\x04\x13\xff\xff\xff\xff\xff\xff\0\x01",
            ),
            b'B' => {
                asked.lock().unwrap().push(body.clone());
                let workers = workers.lock().unwrap();
                found = workers
                    .iter()
                    .find(|(host, _)| is_bound(&body, host))
                    .map(|(_, token)| token.clone());
                message(b'2', b"")
            }
            b'E' => match found.take() {
                Some(token) => [message(b'D', &row(&token)), message(b'C', b"SELECT 1\0")].concat(),
                None => message(b'C', b"SELECT 0\0"),
            },
            b'S' => message(b'Z', b"I"),
            _ => return Ok(()),
        };
        stream.write_all(&answer).await?;
    }
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[kind], &length.to_be_bytes()[..], body].concat()
}

fn value(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap();
    [&length.to_be_bytes(), text.as_bytes()].concat()
}

fn row(token: &str) -> Vec<u8> {
    [&1_u16.to_be_bytes()[..], &value(token)].concat()
}

/// Whether the one parameter is this text.
fn is_bound(bind: &[u8], host: &str) -> bool {
    let parameter = [&1_u16.to_be_bytes()[..], &value(host)].concat();
    bind.windows(parameter.len()).any(|window| window == parameter)
}
