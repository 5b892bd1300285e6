//! Who a request says that it comes from. Nothing is checked here but the form.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
pub use lavabus_lava::Token as Secret;

/// The headers of lava-worker.
const WORKER_TOKEN: &str = "lava-token";
const WORKER_HOST: &str = "lava-host";

/// What a request shows to be let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// Nothing.
    Anonymous,
    /// `Authorization: Basic`: a user and one of his API tokens.
    User {
        /// As it was sent.
        user: String,
        /// As it was sent.
        token: Secret,
    },
    /// `Authorization: Token` or `Bearer`: a token alone.
    Token(Secret),
    /// `LAVA-Host` and `LAVA-Token`.
    Worker {
        /// Its host name; empty if it was not sent.
        host: String,
        /// As it was sent.
        token: Secret,
    },
}

/// A header that cannot be read. The texts are LAVA's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// A scheme that is not known here.
    #[error("Only Basic authentication is supported")]
    OtherScheme,
    /// Not base64, or no colon in it.
    #[error("Invalid basic authentication")]
    InvalidBasic,
    /// `Token` or `Bearer` without a token, or with more than one word.
    #[error("Invalid token header")]
    InvalidToken,
}

impl Credentials {
    /// Of a request for `/ws/`, as LAVA reads it: `Basic` in this spelling only; it counts before a worker's headers.
    pub fn of_web_socket(headers: &HeaderMap) -> Result<Credentials, CredentialsError> {
        if let Some(value) = text(headers, AUTHORIZATION.as_str()) {
            let encoded = value.strip_prefix("Basic ").ok_or(CredentialsError::OtherScheme)?;
            return basic(encoded);
        }
        match text(headers, WORKER_TOKEN) {
            None => Ok(Credentials::Anonymous),
            Some(token) => Ok(Credentials::Worker {
                host: text(headers, WORKER_HOST).unwrap_or_default(),
                token: Secret::new(token),
            }),
        }
    }

    /// Of any other request: `Token`, `Bearer` or `Basic` in any case. Workers have nothing to ask there.
    pub fn of_request(headers: &HeaderMap) -> Result<Credentials, CredentialsError> {
        let Some(value) = text(headers, AUTHORIZATION.as_str()) else {
            return Ok(Credentials::Anonymous);
        };
        let (scheme, rest) = value.split_once(' ').unwrap_or((&value, ""));
        let is = |name: &str| scheme.eq_ignore_ascii_case(name);
        if is("basic") {
            return basic(rest);
        }
        if !is("token") && !is("bearer") {
            return Err(CredentialsError::OtherScheme);
        }
        let mut words = rest.split_ascii_whitespace();
        match (words.next(), words.next()) {
            (Some(token), None) => Ok(Credentials::Token(Secret::new(token))),
            _ => Err(CredentialsError::InvalidToken),
        }
    }
}

/// A header's text; none if it is empty. Bytes that are no UTF-8 fit nothing that is known.
fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?;
    let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
    (!text.is_empty()).then_some(text)
}

fn basic(encoded: &str) -> Result<Credentials, CredentialsError> {
    let decoded = STANDARD.decode(encoded.trim());
    let decoded = decoded.map_err(|_| CredentialsError::InvalidBasic)?;
    let decoded = String::from_utf8(decoded).map_err(|_| CredentialsError::InvalidBasic)?;
    let (user, token) = decoded.split_once(':').ok_or(CredentialsError::InvalidBasic)?;
    Ok(Credentials::User {
        user: user.to_owned(),
        token: Secret::new(token),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            )
        };
        pairs.iter().map(pair).collect()
    }

    fn ada() -> Credentials {
        Credentials::User {
            user: "ada".to_owned(),
            token: Secret::new("s3:cret"),
        }
    }

    /// base64 of `ada:s3:cret`.
    const ADA: &str = "YWRhOnMzOmNyZXQ=";

    #[test]
    fn the_web_socket_reads_as_lava_does() {
        use CredentialsError::{InvalidBasic, OtherScheme};
        let read = |value: &str| Credentials::of_web_socket(&headers(&[("authorization", value)]));
        assert_eq!(read(&format!("Basic {ADA}")), Ok(ada()));
        for other in ["basic YWRhOng=", "BASIC YWRhOng=", "Token x", "Bearer x", "Basic", "x"] {
            assert_eq!(read(other), Err(OtherScheme), "{other}");
        }
        // Not base64; no colon; no UTF-8; nothing.
        for invalid in ["Basic ***", "Basic YWRh", "Basic /zo6", "Basic "] {
            assert_eq!(read(invalid), Err(InvalidBasic), "{invalid}");
        }
        assert_eq!(read(""), Ok(Credentials::Anonymous));
        assert_eq!(OtherScheme.to_string(), "Only Basic authentication is supported");
        assert_eq!(InvalidBasic.to_string(), "Invalid basic authentication");
    }

    #[test]
    fn a_worker_comes_after_basic() {
        let worker = [("lava-token", "t"), ("lava-host", "w")];
        let read = |pairs: &[(&'static str, &str)]| Credentials::of_web_socket(&headers(pairs));
        let expected = |host: &str| Credentials::Worker {
            host: host.to_owned(),
            token: Secret::new("t"),
        };
        assert_eq!(read(&worker), Ok(expected("w")));
        assert_eq!(read(&worker[..1]), Ok(expected("")));
        assert_eq!(read(&worker[1..]), Ok(Credentials::Anonymous));
        let basic = format!("Basic {ADA}");
        let both = [worker[0], worker[1], ("authorization", &basic)];
        assert_eq!(read(&both), Ok(ada()));
        let bad = [worker[0], worker[1], ("authorization", "Token t")];
        assert_eq!(read(&bad), Err(CredentialsError::OtherScheme));
    }

    #[test]
    fn other_requests_take_a_token_alone() {
        use CredentialsError::{InvalidToken, OtherScheme};
        let read = |value: &str| Credentials::of_request(&headers(&[("authorization", value)]));
        for good in ["Token x", "token x", "Bearer x", "bearer  x "] {
            assert_eq!(read(good), Ok(Credentials::Token(Secret::new("x"))), "{good}");
        }
        assert_eq!(read(&format!("basic {ADA}")), Ok(ada()));
        for invalid in ["Token", "Token ", "Bearer a b"] {
            assert_eq!(read(invalid), Err(InvalidToken), "{invalid}");
        }
        assert_eq!(read("Digest x"), Err(OtherScheme));
        let worker = headers(&[("lava-token", "t"), ("lava-host", "w")]);
        assert_eq!(Credentials::of_request(&worker), Ok(Credentials::Anonymous));
    }

    #[test]
    fn no_secret_is_printed() {
        let worker = Credentials::Worker {
            host: "w".to_owned(),
            token: Secret::new("s3cret"),
        };
        let text = format!("{:?} {:?} {worker:?}", ada(), Credentials::Token(Secret::new("s3cret")));
        assert!(!text.contains("s3"), "{text}");
    }

    proptest! {
        #[test]
        fn any_header_is_read_or_refused(value in "((Basic|Token|Bearer|x) )?[ -~]{0,40}", token in "[ -~]{0,9}") {
            let headers = headers(&[("authorization", &value), ("lava-token", &token)]);
            let _ = (Credentials::of_web_socket(&headers), Credentials::of_request(&headers));
        }

        #[test]
        fn what_is_encoded_comes_back(user in "[^:]{0,12}", token in "\\PC{0,12}") {
            let value = format!("Basic {}", STANDARD.encode(format!("{user}:{token}")));
            let read = Credentials::of_web_socket(&headers(&[("authorization", &value)]));
            prop_assert_eq!(read, Ok(Credentials::User { user, token: Secret::new(token) }));
        }
    }
}
