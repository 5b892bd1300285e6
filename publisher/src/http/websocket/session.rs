//! One client: what it gets, and how it ends.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use lavabus_store::Event;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tracing::{debug, warn};
use tungstenite::protocol::frame::coding::CloseCode;

use super::frames::{self, ClientFrames, Malformed, Said, TextFrames};
use crate::authority::Reader;
use crate::fan_out::batch::Batch;
use crate::http::end::{End, FLUSH};
use crate::http::following::{Following, Next};
use crate::http::{Connection, Http};
use crate::metrics::outlet::Outlet;
use crate::visible::{sees_all, visible_in, visible_of};

/// Answers to pings that may wait; a client that sends more meanwhile does without.
const PONGS: usize = 4;
/// After the last frame the client has so long to answer it.
const GRACE: Duration = Duration::from_secs(5);
/// So much of what a client sends is read in one go, in bytes.
const READ: usize = 4096;

/// A connection that is a WebSocket now.
pub(super) struct Session {
    http: Http,
    connection: Connection,
    stream: TcpStream,
    deflated: bool,
}

impl Session {
    pub(super) fn new(http: Http, connection: Connection, stream: TcpStream, deflated: bool) -> Session {
        Session {
            http,
            connection,
            stream,
            deflated,
        }
    }

    /// Says why it may not listen, as LAVA does, and ends.
    pub(super) async fn refuse(self, error: &str) {
        debug!(peer = %self.connection.address(), error, "WebSocket refused");
        let told = serde_json::json!({ "error": error }).to_string();
        let last = [frames::text(&told), frames::close(CloseCode::Normal, "")].concat();
        let (mut read, write) = self.stream.into_split();
        let mut out = Out {
            stream: write,
            rest: last[..].into(),
            is_full: false,
            stalled: GRACE,
        };
        if out.write_rest().await.is_ok() {
            linger(&mut read, &mut ClientFrames::default()).await;
        }
    }

    /// Sends this reader what it may see until one of them ends it. `read` was read with the request.
    pub(super) async fn run(self, reader: Reader, read: &[u8]) {
        let Session {
            http,
            connection,
            stream,
            deflated,
        } = self;
        let mut following = match Following::live(&http.fan_out, http.replays.as_ref(), &http.counters) {
            Ok(following) => following,
            Err(_) => {
                http.counters.too_many_subscriptions.add(1);
                let last = frames::close(CloseCode::Again, "too many readers");
                let _ = stream.try_write(&last);
                return warn!(peer = %connection.address(), "WebSocket closed: too many readers");
            }
        };
        http.counters.websockets.add(1);
        following.joins(Outlet::WebSocket);
        let (mut from, write) = stream.into_split();
        let (pongs, waiting) = mpsc::channel(PONGS);
        let mut client = ClientFrames::default();
        client.buffer().extend_from_slice(read);
        let mut sending = Sending {
            out: Out {
                stream: write,
                rest: BytesMut::new(),
                is_full: false,
                stalled: http.stalled_timeout,
            },
            following,
            reader: reader.clone(),
            deflated,
        };
        // Each branch ends the connection, so that none needs to be taken up again.
        let end = tokio::select! {
            end = listen(&mut from, &mut client, pongs) => end,
            end = sending.run(waiting) => end,
            () = http.drain.cancelled() => End::Drained,
            () = reader.withdrawn() => End::Withdrawn,
        };
        end.record("WebSocket", &connection, &http.counters);
        if matches!(end, End::Drained) {
            sending.flush().await;
        }
        if let Some((code, reason)) = code(&end) {
            sending.out.rest.extend(frames::close(code, reason));
            sending.out.stalled = GRACE;
            let is_said = sending.out.write_rest().await.is_ok();
            if is_said && !matches!(end, End::Gone) {
                linger(&mut from, &mut client).await;
            }
        }
    }
}

/// What the client is told.
fn code(end: &End) -> Option<(CloseCode, &'static str)> {
    match end {
        End::Io(_) => None,
        End::Gone => Some((CloseCode::Normal, "")),
        End::Drained => Some((CloseCode::Away, "the publisher ends")),
        End::Stalled => Some((CloseCode::Again, "too slow")),
        End::Lost => Some((CloseCode::Again, "events were lost")),
        End::Withdrawn => Some((CloseCode::Policy, "the login is no longer good")),
        End::Malformed(Malformed::TooBig) => Some((CloseCode::Size, "too big")),
        End::Malformed(Malformed::Protocol) => Some((CloseCode::Protocol, "")),
        End::Journal(_) => Some((CloseCode::Error, "")),
    }
}

/// A connection that is closed with something unread is reset, and the client may not see the last frame: waits for its
/// own last one.
async fn linger(from: &mut OwnedReadHalf, client: &mut ClientFrames) {
    let (nobody, _) = mpsc::channel(1);
    let _ = tokio::time::timeout(GRACE, listen(from, client, nobody)).await;
}

async fn listen(from: &mut OwnedReadHalf, client: &mut ClientFrames, pongs: mpsc::Sender<Vec<u8>>) -> End {
    loop {
        loop {
            match client.next() {
                Ok(None) => break,
                Ok(Some(Said::Close)) => return End::Gone,
                Ok(Some(Said::Ping(payload))) => {
                    // One that finds no room is as good as answered by those before it.
                    let _ = pongs.try_send(frames::pong(&payload));
                }
                Err(malformed) => return malformed.into(),
            }
        }
        let buffer: &mut BytesMut = client.buffer();
        buffer.reserve(READ);
        match from.read_buf(buffer).await {
            Ok(0) => return End::Gone,
            Ok(_) => {}
            Err(error) => return error.into(),
        }
    }
}

/// Bytes on their way.
struct Out {
    stream: OwnedWriteHalf,
    /// What must go out before anything else.
    rest: BytesMut,
    /// The client's window is full: also where nothing is left of a message.
    is_full: bool,
    /// A client that takes nothing for so long is given up.
    stalled: Duration,
}

impl Out {
    /// Waits until the rest has gone and the client takes more. Cancel-safe.
    async fn write_rest(&mut self) -> Result<(), End> {
        while self.is_full || !self.rest.is_empty() {
            if self.is_full {
                let ready = tokio::time::timeout(self.stalled, self.stream.writable()).await;
                ready.map_err(|_| End::Stalled)??;
                self.is_full = false;
            }
            if self.rest.is_empty() {
                break;
            }
            match self.stream.try_write(&self.rest) {
                Ok(0) => return Err(End::Gone),
                // At once: the wait above may be given up.
                Ok(written) => self.rest.advance(written),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.is_full = true,
                Err(error) => return Err(error.into()),
            }
        }
        self.rest = BytesMut::new();
        Ok(())
    }

    /// Writes as many of these messages as the client takes now, and keeps the rest of one that it took in part. Returns
    /// how many are behind.
    fn write(&mut self, bytes: &[u8], start: usize, ends: &[u32]) -> Result<usize, End> {
        let mut at = start;
        while at < bytes.len() {
            match self.stream.try_write(&bytes[at..]) {
                Ok(0) => return Err(End::Gone),
                Ok(written) => at += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.is_full = true;
                    let whole = ends.partition_point(|end| *end as usize <= at);
                    let begin = whole.checked_sub(1).map_or(start, |before| ends[before] as usize);
                    if at == begin {
                        return Ok(whole);
                    }
                    self.rest.extend_from_slice(&bytes[at..ends[whole] as usize]);
                    return Ok(whole + 1);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(ends.len())
    }
}

/// What one reader gets.
struct Sending {
    out: Out,
    following: Following,
    reader: Reader,
    deflated: bool,
}

impl Sending {
    /// Ends only with a failure.
    async fn run(&mut self, mut pongs: mpsc::Receiver<Vec<u8>>) -> End {
        loop {
            if let Err(end) = self.out.write_rest().await {
                return end;
            }
            // Both are cancel-safe.
            let next = tokio::select! {
                biased;
                Some(pong) = pongs.recv() => {
                    self.out.rest.extend(pong);
                    continue;
                }
                next = self.following.next() => next,
            };
            let sent = match next {
                Ok(next) => self.send(next).await,
                Err(error) => return error.into(),
            };
            if let Err(end) = sent {
                return end;
            }
            // Whoever else is ready goes first: under load that is more events, and fewer and larger writes.
            tokio::task::yield_now().await;
        }
    }

    async fn send(&mut self, next: Next) -> Result<(), End> {
        match next {
            Next::Batch(batch, from) => self.send_batch(&batch, from).await,
            Next::Events(events, upto) => self.send_events(&events, upto).await,
            // LAVA's dialect has no word for it: the client comes again, and knows that it missed something.
            Next::Gap(..) => Err(End::Lost),
        }
    }

    async fn send_batch(&mut self, batch: &Arc<Batch>, from: usize) -> Result<(), End> {
        let frames = batch.text_frames(self.deflated);
        if sees_all(&self.reader) {
            let behind = self.out.write(&frames.bytes, frames.start_of(from), &frames.ends)?;
            // Those before `from` are counted too, since their ends lie before the start.
            let behind = behind.max(from);
            self.following.delivered(behind - from);
            self.following.passed(batch, behind);
            return Ok(());
        }
        let shown = visible_in(&self.reader, self.following.lane(), batch, from..batch.messages.len()).await;
        let mut chosen = Chosen::default();
        for (message, _) in (from..).zip(shown).filter(|(_, shown)| *shown) {
            chosen.push(message, frames);
        }
        let behind = self.out.write(&chosen.bytes, 0, &chosen.ends)?;
        self.following.delivered(behind);
        let passed = match chosen.messages.get(behind) {
            Some(next) => *next,
            None => batch.messages.len(),
        };
        self.following.passed(batch, passed);
        Ok(())
    }

    /// Events that find no room are let go, and read again when there is some.
    async fn send_events(&mut self, events: &[Event], upto: u64) -> Result<(), End> {
        let all: Vec<&Event> = events.iter().collect();
        let shown = visible_of(&self.reader, &all).await;
        for (event, shown) in events.iter().zip(shown) {
            if shown {
                let uuid = event.id.to_string();
                let message = [&*event.topic, &*uuid, &*event.sent, &*event.user, &*event.data];
                let frames = TextFrames::of(std::iter::once(message), self.deflated);
                if self.out.write(&frames.bytes, 0, &frames.ends)? == 0 {
                    return Ok(());
                }
                self.following.delivered(1);
            }
            self.following.covers(event.seq);
            if self.out.is_full {
                return Ok(());
            }
        }
        self.following.covers(upto);
        Ok(())
    }

    /// What was published before the end goes out, as far as the client takes it in time.
    async fn flush(&mut self) {
        let upto = self.following.head();
        let rest = async {
            while self.following.sequence() < upto {
                self.out.write_rest().await?;
                let next = self.following.next().await?;
                self.send(next).await?;
            }
            self.out.write_rest().await
        };
        let _: Result<Result<(), End>, _> = tokio::time::timeout(FLUSH, rest).await;
    }
}

/// Some messages of a batch.
#[derive(Default)]
struct Chosen {
    bytes: Vec<u8>,
    ends: Vec<u32>,
    messages: Vec<usize>,
}

impl Chosen {
    fn push(&mut self, message: usize, frames: &TextFrames) {
        let bytes = &frames.bytes[frames.start_of(message)..frames.ends[message] as usize];
        self.bytes.extend_from_slice(bytes);
        self.ends
            .push(u32::try_from(self.bytes.len()).expect("no more than its batch"));
        self.messages.push(message);
    }
}
