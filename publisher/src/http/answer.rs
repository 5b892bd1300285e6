//! Answers that may be large. They go out in pieces; a client that does not take one in time is disconnected.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use hyper::body::{Frame, SizeHint};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::http::{Connection, Http};

/// So much of it is handed to the connection at a time, in bytes.
const PIECE: usize = 16 * 1024;

/// A body that knows when the connection has taken all of it.
struct Pieces {
    rest: Bytes,
    _taken: DropGuard,
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
    let taken = CancellationToken::new();
    let pieces = Pieces {
        rest: body.into(),
        _taken: taken.clone().drop_guard(),
    };
    if pieces.rest.len() > PIECE {
        let (http, connection) = (http.clone(), connection.clone());
        let tasks = http.tasks.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = taken.cancelled() => {}
                () = tokio::time::sleep(http.stalled_timeout) => {
                    http.counters.stalled_peers.add(1);
                    connection.abort();
                }
            }
        });
    }
    ([(CONTENT_TYPE, "application/json")], Body::new(pieces)).into_response()
}
