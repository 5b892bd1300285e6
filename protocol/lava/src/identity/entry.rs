//! One identity as lavacli's file has it, and the addresses in it.

use std::path::Path;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use reqwest::Url;

use super::{EventsSettings, Identity, IdentityError};
use crate::token::Token;
use crate::yaml::Item;

/// One identity of a file, or its `events`.
pub(super) struct Entry<'a> {
    pub(super) path: &'a Path,
    pub(super) name: &'a str,
    pub(super) line: usize,
    pub(super) map: Item<'a>,
    pub(super) prefix: &'static str,
}

impl Entry<'_> {
    pub(super) fn read(&self) -> Result<Identity, IdentityError> {
        if !self.map.is_map() {
            return Err(self.bad(self.line, "", "a map with uri, username, token"));
        }
        let Some(uri) = self.text("uri")? else {
            return Err(self.bad(self.line, "uri", "the server's address"));
        };
        let line = self.map.get("uri").map_or(self.line, Item::line);
        let origin = format!("{}: line {line}: identity {:?}: uri", self.path.display(), self.name);
        let (uri, url_username, url_token) = server_address(uri, &origin)?;
        let events = match self.map.get("events") {
            None => EventsSettings::default(),
            Some(map) if map.is_map() => {
                let events = Entry {
                    map,
                    prefix: "events.",
                    line: map.line(),
                    ..*self
                };
                EventsSettings {
                    uri: events.text("uri")?.map(without_credentials),
                    socks_proxy: events.text("socks_proxy")?.map(str::to_owned),
                }
            }
            Some(other) => return Err(self.bad(other.line(), "events", "a map with uri, socks_proxy")),
        };
        Ok(Identity {
            name: self.name.to_owned(),
            uri,
            username: self.text("username")?.map(str::to_owned).or(url_username),
            token: self.text("token")?.map(Token::new).or(url_token),
            proxy: self.text("proxy")?.map(str::to_owned),
            timeout: self.seconds("timeout")?.unwrap_or(Identity::TIMEOUT),
            verify_certificate: self.truth("verify_ssl_cert")?.unwrap_or(true),
            events,
            warnings: Vec::new(),
        })
    }

    fn bad(&self, line: usize, key: &str, expected: &'static str) -> IdentityError {
        IdentityError::BadValue {
            path: self.path.to_owned(),
            line,
            identity: self.name.to_owned(),
            key: format!("{}{key}", self.prefix),
            expected,
        }
    }

    fn text(&self, key: &str) -> Result<Option<&str>, IdentityError> {
        let Some(value) = self.map.get(key) else {
            return Ok(None);
        };
        let text = value.text().ok_or_else(|| self.bad(value.line(), key, "text"))?;
        Ok(Some(text.trim()).filter(|text| !text.is_empty()))
    }

    fn seconds(&self, key: &str) -> Result<Option<Duration>, IdentityError> {
        let Some(value) = self.map.get(key) else {
            return Ok(None);
        };
        let seconds = value.text().and_then(|text| text.parse().ok());
        let seconds = seconds.filter(|seconds: &f64| *seconds > 0.0);
        let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let duration = duration.ok_or_else(|| self.bad(value.line(), key, "a number of seconds"))?;
        Ok(Some(duration))
    }

    fn truth(&self, key: &str) -> Result<Option<bool>, IdentityError> {
        let Some(value) = self.map.get(key) else {
            return Ok(None);
        };
        // YAML 1.1, which lavacli reads, has all of these.
        match value.text().map(str::to_ascii_lowercase).as_deref() {
            Some("true" | "yes" | "on") => Ok(Some(true)),
            Some("false" | "no" | "off") => Ok(Some(false)),
            _ => Err(self.bad(value.line(), key, "true or false")),
        }
    }
}

/// Splits `https://user:token@host/prefix/RPC2` into the server's root, the user and the token.
pub(super) fn server_address(text: &str, origin: &str) -> Result<(Url, Option<String>, Option<Token>), IdentityError> {
    let bad = || IdentityError::BadUri {
        origin: origin.to_owned(),
    };
    let mut uri = Url::parse(text.trim()).map_err(|_| bad())?;
    if !matches!(uri.scheme(), "http" | "https") || uri.host_str().is_none_or(str::is_empty) {
        return Err(bad());
    }
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let username = Some(decoded(uri.username())).filter(|name| !name.is_empty());
    let token = uri.password().map(|token| Token::new(decoded(token)));
    uri.set_username("")
        .and_then(|()| uri.set_password(None))
        .map_err(|()| bad())?;
    uri.set_query(None);
    uri.set_fragment(None);
    let path = uri.path().trim_end_matches('/');
    let path = path.strip_suffix("/RPC2").unwrap_or(path).trim_end_matches('/');
    let path = format!("{path}/");
    uri.set_path(&path);
    Ok((uri, username, token))
}

/// The token goes in a header: an address is shown and must hold none.
fn without_credentials(uri: &str) -> String {
    match Url::parse(uri) {
        Ok(mut url) if !url.username().is_empty() || url.password().is_some() => {
            // An address that had them can lose them.
            let _ = url.set_username("").and_then(|()| url.set_password(None));
            url.to_string()
        }
        _ => uri.to_owned(),
    }
}
