//! The file of tokens.
//!
//! ```yaml
//! - name: dashboard
//!   sha256: 2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b
//!   role: reader
//! - name: ci
//!   sha256: …
//!   role: reader
//!   emit: [stage, fault, result]
//! - name: worker-01.example.org
//!   sha256: …
//!   role: worker
//! ```
//!
//! `lava-publisher --new-token NAME` makes an entry. A name may have several, so that a token can be changed without a
//! moment in which none is good. Tokens are long and random, so a plain hash does: there is nothing to guess.

use std::collections::HashMap;
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock, Weak};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use lavabus_protocol::Kind;
use serde::Deserialize;
use serde_saphyr::Spanned;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Refused;
use super::credentials::Secret;

/// The file is read again this often.
pub(super) const RELOAD: Duration = Duration::from_secs(5);
/// A longer file is none.
const LONGEST: u64 = 1 << 20;

pub(super) type Digest = [u8; 32];

/// SHA-256 of a token.
pub(super) fn digest(token: &Secret) -> Digest {
    Sha256::digest(token.expose().as_bytes()).into()
}

/// What a token of the file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Sees all events.
    Reader,
    /// Sees also what was refused, and the details of faults.
    Administrator,
    /// A worker by its host name: receives the events of its own jobs.
    Worker,
}

/// Kinds of events that a token may hand in. `forge` is for device, testjob and worker: whoever has it can turn
/// somebody's pipeline green.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Scope {
    Event,
    Attempt,
    Stage,
    Fault,
    Result,
    Other,
    Forge,
}

impl Scope {
    fn of(kind: Kind) -> Scope {
        match kind {
            Kind::Device | Kind::Testjob | Kind::Worker => Scope::Forge,
            Kind::Event => Scope::Event,
            Kind::Attempt => Scope::Attempt,
            Kind::Stage => Scope::Stage,
            Kind::Fault => Scope::Fault,
            Kind::Result => Scope::Result,
            Kind::Other => Scope::Other,
        }
    }
}

/// An entry of the file. One that changes is withdrawn, and another takes its place.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    digest: Digest,
    pub(super) role: Role,
    emit: Vec<Scope>,
    pub(super) withdrawn: CancellationToken,
}

impl Entry {
    pub(super) fn may_emit(&self, kind: Kind) -> bool {
        self.emit.contains(&Scope::of(kind))
    }

    fn says_the_same_as(&self, other: &Entry) -> bool {
        (&self.name, self.digest, self.role, &self.emit) == (&other.name, other.digest, other.role, &other.emit)
    }
}

/// Why a file of tokens cannot be used. No text in it holds a token.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// It cannot be read.
    #[error("{}: {cause}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// It holds something else than entries.
    #[error("{}: line {line}: {cause}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// From 1; 0 if it is not known.
        line: u64,
        /// What is wrong.
        cause: String,
    },
}

/// The entries of a file, kept up to date while this lives.
#[derive(Debug)]
pub(super) struct Tokens {
    path: PathBuf,
    entries: RwLock<Vec<Arc<Entry>>>,
    /// The text that was read last, and whether it was any good, so that each is told of once.
    last: Mutex<Result<String, String>>,
}

impl Tokens {
    /// Reads the file, and again every few seconds.
    pub(super) fn open(path: &Path) -> Result<Arc<Tokens>, TokensError> {
        let text = text_of(path)?;
        let entries = read(path, &text)?;
        if let Some(warning) = warning(path) {
            warn!("{warning}");
        }
        let tokens = Arc::new(Tokens {
            path: path.to_owned(),
            entries: RwLock::new(entries.into_iter().map(Arc::new).collect()),
            last: Mutex::new(Ok(text)),
        });
        tokio::spawn(keep_up_to_date(Arc::downgrade(&tokens)));
        Ok(tokens)
    }

    fn entries(&self) -> Vec<Arc<Entry>> {
        self.entries.read().expect("no holder of this lock panics").clone()
    }

    /// The entry of this token that is no worker's; of a user named, only his.
    pub(super) fn find(&self, user: Option<&str>, token: &Secret) -> Option<Arc<Entry>> {
        let digest = digest(token);
        let mut found = None;
        // All are compared, so that the time tells nothing of which one it was.
        for entry in self.entries() {
            let is_named = user.is_none_or(|user| user == entry.name);
            if bool::from(entry.digest.ct_eq(&digest)) && is_named && entry.role != Role::Worker {
                found = Some(entry);
            }
        }
        found
    }

    /// The entry of a worker.
    pub(super) fn find_worker(&self, host: &str, token: &Secret) -> Result<Arc<Entry>, Refused> {
        let digest = digest(token);
        let mut found = Err(Refused::UnknownWorker);
        for entry in self.entries() {
            if entry.role != Role::Worker || entry.name != host {
                continue;
            }
            if bool::from(entry.digest.ct_eq(&digest)) {
                return Ok(entry);
            }
            found = Err(Refused::InvalidWorkerToken);
        }
        found
    }

    /// Reads the file again. What is not in it any more is withdrawn; a file that cannot be read changes nothing.
    pub(super) fn reload(&self) {
        let mut last = self.last.lock().expect("no holder of this lock panics");
        let read = text_of(&self.path).and_then(|text| {
            if last.as_ref() == Ok(&text) {
                return Ok(None);
            }
            let entries = read(&self.path, &text)?;
            Ok(Some((text, entries)))
        });
        match read {
            Ok(None) => {}
            Ok(Some((text, entries))) => {
                info!(file = %self.path.display(), entries = entries.len(), "tokens read");
                *last = Ok(text);
                self.replace(entries);
            }
            Err(error) => {
                let error = error.to_string();
                if last.as_ref() != Err(&error) {
                    warn!("{error}; the tokens read before stay good");
                    *last = Err(error);
                }
            }
        }
    }

    fn replace(&self, new: Vec<Entry>) {
        let mut entries = self.entries.write().expect("no holder of this lock panics");
        let mut before: HashMap<Digest, Arc<Entry>> = entries.drain(..).map(|entry| (entry.digest, entry)).collect();
        for entry in new {
            match before.remove(&entry.digest) {
                Some(same) if same.says_the_same_as(&entry) => entries.push(same),
                other => {
                    entries.push(Arc::new(entry));
                    before.extend(other.map(|other| (other.digest, other)));
                }
            }
        }
        for gone in before.into_values() {
            gone.withdrawn.cancel();
        }
    }
}

async fn keep_up_to_date(tokens: Weak<Tokens>) {
    loop {
        tokio::time::sleep(RELOAD).await;
        let Some(tokens) = tokens.upgrade() else { return };
        // It ends with the runtime, and panics with a defect only, which is told where it happens.
        let _ = tokio::task::spawn_blocking(move || tokens.reload()).await;
    }
}

fn text_of(path: &Path) -> Result<String, TokensError> {
    let unreadable = |cause| TokensError::Unreadable {
        path: path.to_owned(),
        cause,
    };
    if std::fs::metadata(path).map_err(unreadable)?.len() > LONGEST {
        return Err(invalid(path, 0, format!("longer than {} MiB", LONGEST >> 20)));
    }
    std::fs::read_to_string(path).map_err(unreadable)
}

/// Whether a file is good.
pub(crate) fn check(path: &Path) -> Result<(), TokensError> {
    read(path, &text_of(path)?).map(drop)
}

/// What a person should know of the file.
pub(crate) fn warning(path: &Path) -> Option<String> {
    let mode = std::fs::metadata(path).ok()?.permissions().mode();
    let warning = |what: &str, chmod: &str| Some(format!("{}: others can {what} it: chmod {chmod}", path.display()));
    // Who can write it lets himself in.
    if mode & 0o002 != 0 {
        return warning("write", "600");
    }
    if mode & 0o004 != 0 {
        return warning("read", "600");
    }
    None
}

fn invalid(path: &Path, line: u64, cause: impl fmt::Display) -> TokensError {
    TokensError::Invalid {
        path: path.to_owned(),
        line,
        cause: cause.to_string(),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: Spanned<String>,
    sha256: Spanned<String>,
    role: Role,
    #[serde(default)]
    emit: Vec<Spanned<Scope>>,
}

/// The entries in a file's text.
fn read(path: &Path, text: &str) -> Result<Vec<Entry>, TokensError> {
    let written: Option<Vec<Written>> = serde_saphyr::from_str(text).map_err(|error| {
        let line = error.location().map_or(0, |location| location.line());
        invalid(path, line, error.without_snippet())
    })?;
    let mut entries: Vec<Entry> = Vec::new();
    let mut lines: HashMap<Digest, u64> = HashMap::new();
    for Written {
        name,
        sha256,
        role,
        emit,
    } in written.unwrap_or_default()
    {
        if name.value.is_empty() || name.value.contains(':') {
            return Err(invalid(
                path,
                name.defined.line(),
                "name: expected a text without a colon",
            ));
        }
        let line = sha256.defined.line();
        let digest = from_hex(&sha256.value).ok_or_else(|| {
            invalid(
                path,
                line,
                "sha256: expected 64 hexadecimal digits, the SHA-256 of the token",
            )
        })?;
        if let Some(first) = lines.insert(digest, line) {
            return Err(invalid(path, line, format!("sha256: the same as in line {first}")));
        }
        if let (Role::Worker, Some(emit)) = (role, emit.first()) {
            return Err(invalid(path, emit.defined.line(), "emit: a worker hands in no events"));
        }
        entries.push(Entry {
            name: name.value,
            digest,
            role,
            emit: emit.into_iter().map(|scope| scope.value).collect(),
            withdrawn: CancellationToken::new(),
        });
    }
    Ok(entries)
}

fn from_hex(text: &str) -> Option<Digest> {
    let mut digest = Digest::default();
    if text.len() != 2 * digest.len() || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(digest)
}

/// A new random token, and its entry for the file.
pub(crate) fn new_token(name: &TokenName) -> (Secret, String) {
    let token = Secret::new(URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()));
    let hex: String = digest(&token).iter().map(|byte| format!("{byte:02x}")).collect();
    let TokenName(name) = name;
    let entry = format!("- name: \"{name}\"\n  sha256: {hex}\n  role: reader\n  emit: []\n");
    (token, entry)
}

/// A name for a token, as it can stand in the file and in a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenName(String);

impl std::str::FromStr for TokenName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<TokenName, &'static str> {
        let is_odd = |c: char| c.is_control() || matches!(c, ':' | '"' | '\\');
        if text.is_empty() || text.contains(is_odd) {
            return Err("expected a name without colon, quote and backslash");
        }
        Ok(TokenName(text.to_owned()))
    }
}
