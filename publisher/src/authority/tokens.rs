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
//! Where LAVA decides who sees what, a `reader` sees what everybody may see: such a token is for handing in.
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
    /// Sees all events; where LAVA decides, what everybody may see.
    Reader,
    /// Sees all events, whoever decides, what was refused, and the details of faults.
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
        let said = error.without_snippet().to_string();
        // The line stands in front already.
        invalid(path, line, said.split(" at line ").next().unwrap_or_default())
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// SHA-256 of `one`, `two` and `three`.
    const ONE: &str = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed";
    const TWO: &str = "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3";
    const THREE: &str = "8b5b9db0c13db24256c829aa364aa90c6d2eba318b9232a4ab9313b954d3555f";

    fn entry(name: &str, sha256: &str, more: &str) -> String {
        format!("- name: {name}\n  sha256: {sha256}\n  {more}\n")
    }

    fn entries(text: &str) -> Result<Vec<Entry>, TokensError> {
        read(Path::new("tokens.yaml"), text)
    }

    /// Without the task that reads it again.
    fn tokens(path: &Path) -> Tokens {
        let text = text_of(path).unwrap();
        Tokens {
            path: path.to_owned(),
            entries: RwLock::new(read(path, &text).unwrap().into_iter().map(Arc::new).collect()),
            last: Mutex::new(Ok(text)),
        }
    }

    fn secret(text: &str) -> Secret {
        Secret::new(text)
    }

    #[test]
    fn an_entry_says_who_and_what_for() {
        let text = entry("ci", ONE, "role: reader\n  emit: [stage, forge]") + &entry("w", TWO, "role: worker");
        let entries = entries(&text).unwrap();
        assert_eq!((entries[0].name.as_str(), entries[0].role), ("ci", Role::Reader));
        assert_eq!(entries[0].digest, digest(&secret("one")));
        let may: Vec<Kind> = Kind::ALL
            .into_iter()
            .filter(|kind| entries[0].may_emit(*kind))
            .collect();
        assert_eq!(may, [Kind::Device, Kind::Testjob, Kind::Worker, Kind::Stage]);
        assert_eq!(entries[1].role, Role::Worker);
        assert!(Kind::ALL.iter().all(|kind| !entries[1].may_emit(*kind)));
    }

    #[test]
    fn an_empty_file_has_no_entries_and_a_hash_may_look_like_a_number() {
        for empty in ["", "# nobody yet\n", "[]\n"] {
            assert!(entries(empty).unwrap().is_empty(), "{empty}");
        }
        for hash in [
            "1".repeat(64),
            format!("1e{}", "2".repeat(62)),
            format!("0x{}", "3".repeat(62)),
        ] {
            let read = entries(&entry("a", &hash, "role: reader")).map(|entries| entries.len());
            assert_eq!(read.is_ok(), !hash.contains('x'), "{hash}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let good = entry("a", ONE, "role: reader");
        for (text, line, expected) in [
            (
                format!("{good}{}", entry("b", "123", "role: reader")),
                5,
                "64 hexadecimal digits",
            ),
            (
                format!("{good}{}", entry("b", &"x".repeat(64), "role: reader")),
                5,
                "64 hexadecimal",
            ),
            (
                format!("{good}{}", entry("b", ONE, "role: reader")),
                5,
                "the same as in line 2",
            ),
            (format!("{good}{}", entry("b", TWO, "role: king")), 6, "king"),
            (format!("{good}{}", entry("b", TWO, "rolle: reader")), 6, "rolle"),
            (
                format!("{good}{}", entry("b:c", TWO, "role: reader")),
                4,
                "without a colon",
            ),
            (
                format!("{good}{}", entry("b", TWO, "role: worker\n  emit: [stage]")),
                7,
                "hands in no events",
            ),
            (
                format!("{good}{}", entry("b", TWO, "role: reader\n  emit: [device]")),
                7,
                "device",
            ),
            (format!("{good}- name: b\n  role: reader\n"), 5, "sha256"),
            ("name: a\n".to_owned(), 1, ""),
            ("- [\n".to_owned(), 1, ""),
        ] {
            let error = entries(&text).map(|_| text.clone()).unwrap_err();
            let TokensError::Invalid { line: found, .. } = &error else {
                panic!("{error}")
            };
            let said = error.to_string();
            assert!(*found == line && said.contains(expected), "{text}\n{said}");
            assert!(said.starts_with(&format!("tokens.yaml: line {line}: ")), "{said}");
        }
    }

    #[test]
    fn a_token_that_was_written_instead_of_its_hash_is_not_told() {
        let error = entries(&entry("b", "s3cret", "role: reader")).map(drop).unwrap_err();
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }

    #[test]
    fn a_token_is_good_for_what_it_was_made_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.yaml");
        let text = entry("ada", ONE, "role: reader") + &entry("ada", TWO, "role: administrator");
        std::fs::write(&path, text + &entry("w", THREE, "role: worker")).unwrap();
        let tokens = tokens(&path);
        let role = |user: Option<&str>, token: &str| tokens.find(user, &secret(token)).map(|entry| entry.role);
        assert_eq!(role(None, "one"), Some(Role::Reader));
        assert_eq!(role(Some("ada"), "two"), Some(Role::Administrator));
        for (user, token) in [
            (Some("bob"), "one"),
            (Some(""), "one"),
            (None, "three"),
            (Some("w"), "three"),
            (None, ""),
            (None, ONE),
        ] {
            assert_eq!(role(user, token), None, "{user:?} {token}");
        }
        let worker = |host: &str, token: &str| tokens.find_worker(host, &secret(token)).map(|entry| entry.name.clone());
        assert_eq!(worker("w", "three"), Ok("w".to_owned()));
        assert_eq!(worker("w", "one"), Err(Refused::InvalidWorkerToken));
        for host in ["ada", "", "W"] {
            assert_eq!(worker(host, "one"), Err(Refused::UnknownWorker));
        }
    }

    #[test]
    fn a_change_of_the_file_takes_back_what_is_not_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.yaml");
        let (one, two) = (entry("a", ONE, "role: reader"), entry("b", TWO, "role: reader"));
        std::fs::write(&path, format!("{one}{two}")).unwrap();
        let tokens = tokens(&path);
        let find = |token: &str| tokens.find(None, &secret(token));
        let (a, b) = (find("one").unwrap(), find("two").unwrap());
        let are_withdrawn = || (a.withdrawn.is_cancelled(), b.withdrawn.is_cancelled());

        // Another order, another comment: nothing has changed.
        std::fs::write(&path, format!("# two\n{two}{one}")).unwrap();
        tokens.reload();
        assert_eq!(are_withdrawn(), (false, false));
        assert!(Arc::ptr_eq(&find("one").unwrap(), &a));

        // What cannot be read changes nothing.
        std::fs::write(&path, "- nobody").unwrap();
        tokens.reload();
        std::fs::remove_file(&path).unwrap();
        tokens.reload();
        assert_eq!(are_withdrawn(), (false, false));
        assert!(find("two").is_some());

        // One goes, the other gets another role.
        std::fs::write(&path, entry("b", TWO, "role: administrator")).unwrap();
        tokens.reload();
        assert_eq!(are_withdrawn(), (true, true));
        assert!(find("one").is_none());
        assert_eq!(find("two").unwrap().role, Role::Administrator);
    }

    #[test]
    fn a_new_token_fits_its_entry() {
        let (token, entry) = new_token(&"lab's é #1".parse().unwrap());
        let (other, _) = new_token(&"x".parse().unwrap());
        assert_ne!(token, other);
        assert_eq!(token.expose().len(), 43);
        let entries = entries(&entry).unwrap();
        assert_eq!(entries[0].name, "lab's é #1");
        assert_eq!(entries[0].digest, digest(&token));
        assert!(!entry.contains(token.expose()));
        for odd in ["", "a:b", "a\"b", "a\\b", "a\nb"] {
            assert!(odd.parse::<TokenName>().is_err(), "{odd:?}");
        }
    }

    #[test]
    fn a_file_that_others_can_read_is_told_of() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.yaml");
        std::fs::write(&path, "").unwrap();
        for (mode, expected) in [
            (0o600, None),
            (0o640, None),
            (0o644, Some("read")),
            (0o666, Some("write")),
        ] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let warning = warning(&path);
            assert_eq!(warning.is_some(), expected.is_some(), "{mode:o}");
            assert!(warning.is_none_or(|warning| warning.contains(expected.unwrap())));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(- )?[a-z0-9{}\\[\\]:,&*#\n -]{0,60}|\\PC{0,40}") {
            let _ = entries(&text).map_err(|error| error.to_string());
        }
    }
}
