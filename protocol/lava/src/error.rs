//! What can go wrong between us and a server, by what the caller can do about it.

/// Why a question got no answer. No text in it holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerError {
    /// The server knows us not, or allows it not: 401, 403, an XML-RPC fault of these numbers (but 403 about a job that
    /// is looked at: [`NotFound`](ServerError::NotFound)), the WebSocket's error object. Another token is needed.
    #[error("refused: {message}")]
    Refused {
        /// HTTP status or XML-RPC fault code; none from a WebSocket.
        status: Option<u16>,
        /// The server's own words.
        message: String,
    },
    /// The server has no such thing, or does not show it to us: it tells no difference. Only LAVA's own word counts: REST's
    /// 404 with a `detail`, a fault 404 of XML-RPC.
    #[error("{what} is not there, or not visible with this token")]
    NotFound {
        /// What was asked for, such as `job 1995`.
        what: String,
    },
    /// Nothing was answered, or something in the way answered: no connection, a timeout, 429, 5xx, an answer cut off,
    /// a 404 that is not LAVA's. Worth another try.
    #[error("unavailable: {cause}")]
    Unavailable {
        /// What happened.
        cause: String,
    },
    /// An answer, but none of LAVA's, such as 404 at `/RPC2` or a status other than 101 where a WebSocket should be.
    /// Another try brings the same.
    #[error("not an answer of LAVA{}: {excerpt:?}", status_text(*.status))]
    Unexpected {
        /// HTTP status, if there was one.
        status: Option<u16>,
        /// What was wrong, or the first 200 characters of the answer.
        excerpt: String,
    },
    /// TLS refused the server's certificate. Another try brings the same.
    #[error("certificate refused: {cause}")]
    Certificate {
        /// What the verifier said.
        cause: String,
    },
}

fn status_text(status: Option<u16>) -> String {
    status.map(|status| format!(" (status {status})")).unwrap_or_default()
}

impl ServerError {
    /// Whether the same question may be answered later.
    pub fn is_temporary(&self) -> bool {
        matches!(self, ServerError::Unavailable { .. })
    }
}

/// Why a submission is not known to have made a job.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The server looked at the definition and declined it, or it is too large (413). [`locate`](crate::locate) finds the
    /// line.
    #[error("definition declined: {message}")]
    Rejected {
        /// The server's own words; ours for 413.
        message: String,
    },
    /// Not with this token. No job was made.
    #[error("refused: {message}")]
    Refused {
        /// HTTP status or XML-RPC fault code.
        status: Option<u16>,
        /// The server's own words.
        message: String,
    },
    /// The definition did not reach the server: it may be sent again, if [`ServerError::is_temporary`].
    #[error("not sent: {0}")]
    NotSent(#[source] ServerError),
    /// The definition went out, or may have gone out, and what became of it is not known. Sending it again may make a
    /// second job: look with [`submitted_since`](crate::Server::submitted_since) first.
    #[error("the answer was lost: {cause}")]
    AnswerLost {
        /// What happened.
        cause: String,
    },
    /// An answer, but none of LAVA's; no job was made.
    #[error("not an answer of LAVA{}: {excerpt:?}", status_text(*.status))]
    Unexpected {
        /// HTTP status, if there was one.
        status: Option<u16>,
        /// The first 200 characters of the answer.
        excerpt: String,
    },
}

/// The first 200 characters of an answer.
pub(crate) fn excerpt(text: &str) -> String {
    let text = text.trim();
    let mut excerpt: String = text.chars().take(200).collect();
    if excerpt.len() < text.len() {
        excerpt.push('…');
    }
    excerpt
}
