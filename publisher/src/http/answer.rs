//! Answers that may be large. They go out in pieces; a client that does not take one in time is disconnected.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use hyper::body::{Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::http::{Connection, Http};

/// So much of it is handed to the connection at a time, in bytes.
const PIECE: usize = 16 * 1024;

/// One that is larger holds on to the room in which it was made until it is taken,
const LARGE: usize = 1 << 20;
/// for which there is so much time.
const TAKEN_WITHIN: Duration = Duration::from_secs(60);

/// A body that knows when the connection has taken all of it.
struct Pieces {
    rest: Bytes,
    _taken: DropGuard,
    _room: Option<OwnedSemaphorePermit>,
}

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let length = PIECE.min(self.rest.len());
        let piece = self.rest.split_to(length);
        Poll::Ready((!piece.is_empty()).then(|| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

/// 200 with this JSON.
pub(crate) fn json(http: &Http, connection: &Connection, body: String) -> Response {
    made_in(None, http, connection, body)
}

/// The same of an answer that was made where there is room for a few. A large one that is not taken keeps it.
pub(crate) fn made_in(
    room: Option<OwnedSemaphorePermit>,
    http: &Http,
    connection: &Connection,
    body: String,
) -> Response {
    let taken = CancellationToken::new();
    let room = room.filter(|_| body.len() > LARGE);
    let patience = match room {
        Some(_) => http.stalled_timeout.min(TAKEN_WITHIN),
        None => http.stalled_timeout,
    };
    let pieces = Pieces {
        rest: body.into(),
        _taken: taken.clone().drop_guard(),
        _room: room,
    };
    if pieces.rest.len() > PIECE {
        let (http, connection) = (http.clone(), connection.clone());
        let tasks = http.tasks.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = taken.cancelled() => {}
                () = tokio::time::sleep(patience) => {
                    http.counters.stalled_peers.add(1);
                    connection.abort();
                }
            }
        });
    }
    ([(CONTENT_TYPE, "application/json")], Body::new(pieces)).into_response()
}
