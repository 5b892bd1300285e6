//! Which identity is meant, by the command line, the environment and lavacli's file.

use std::path::{Path, PathBuf};

use reqwest::Url;

use super::entry::{Entry, server_address};
use super::{EventsSettings, Identity, IdentityError};
use crate::token::Token;
use crate::yaml::Document;

/// What the environment says. Values are passed in, so that a test needs no process of its own.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `LAVABUS_URI`. It may hold credentials, so it is not shown.
    pub uri: Option<Token>,
    /// `LAVABUS_USERNAME`.
    pub username: Option<String>,
    /// `LAVABUS_TOKEN`.
    pub token: Option<Token>,
    /// `LAVABUS_TOKEN_FILE`: its first line is the token. Not read if there is a `LAVABUS_TOKEN`.
    pub token_file: Option<PathBuf>,
    /// `LAVACLI_IDENTITY`: the identity to use where `-i` names none.
    pub lavacli_identity: Option<String>,
    /// `XDG_CONFIG_HOME`.
    pub config_home: Option<PathBuf>,
    /// `HOME`.
    pub home: Option<PathBuf>,
}

impl Environment {
    /// Reads this process's. A variable that is empty is not there.
    pub fn from_process() -> Environment {
        let path = |name: &str| {
            let value = std::env::var_os(name).filter(|value| !value.is_empty());
            value.map(PathBuf::from)
        };
        let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Environment {
            uri: text("LAVABUS_URI").map(Token::new),
            username: text("LAVABUS_USERNAME"),
            token: text("LAVABUS_TOKEN").map(Token::new),
            token_file: path("LAVABUS_TOKEN_FILE"),
            lavacli_identity: text("LAVACLI_IDENTITY"),
            config_home: path("XDG_CONFIG_HOME"),
            home: path("HOME"),
        }
    }
}

/// Where an identity is looked for.
#[derive(Clone, Debug, Default)]
pub struct IdentitySources {
    /// The file that `-c` names.
    pub file: Option<PathBuf>,
    /// The identity that `-i` names.
    pub name: Option<String>,
    /// What the environment says.
    pub environment: Environment,
}

impl IdentitySources {
    /// `-c` and `-i` with this process's environment.
    pub fn from_process(file: Option<PathBuf>, name: Option<String>) -> IdentitySources {
        IdentitySources {
            file,
            name,
            environment: Environment::from_process(),
        }
    }

    fn path(&self) -> Option<PathBuf> {
        let environment = &self.environment;
        self.file.clone().or_else(|| {
            let home = || environment.home.as_ref().map(|home| home.join(".config"));
            Some(environment.config_home.clone().or_else(home)?.join("lavacli.yaml"))
        })
    }
}

/// The identity to use. None: nothing names a server.
///
/// An identity named by [`IdentitySources::name`] is used as the file has it, whatever the environment says; only if it
/// has no token, the environment's (`LAVABUS_TOKEN`, `LAVABUS_TOKEN_FILE`) is used, unless `LAVABUS_URI` names another
/// scheme, host or port. A warning names the variables that are not used. Otherwise, also with `LAVACLI_IDENTITY`, the
/// environment counts before the file.
///
/// # Errors
///
/// [`IdentityError`] names the file, the identity, the key and, where known, the line.
pub fn load(sources: &IdentitySources) -> Result<Option<Identity>, IdentityError> {
    let mut identity = find(sources)?;
    if let Some(identity) = &mut identity {
        identity.warn_of_open_wire();
    }
    Ok(identity)
}

/// Who we are at a publisher's own port: `http(s)://…`, or `ws(s)://…`, whose address becomes
/// [`events.uri`](super::EventsSettings::uri). Anonymous, if nothing says otherwise.
///
/// The identity counts if [`IdentitySources::name`] names it or if it is of the same host, and the environment's token
/// in any case: a token that is known for one server goes to no other by itself.
///
/// # Errors
///
/// As [`load`]; [`IdentityError::NoUser`] for the environment's token at a WebSocket without `LAVABUS_USERNAME`.
pub fn load_for(sources: &IdentitySources, address: &Url) -> Result<Identity, IdentityError> {
    let environment = &sources.environment;
    let is_web_socket = matches!(address.scheme(), "ws" | "wss");
    let known = find(sources)?.filter(|identity| {
        let events = identity.events.uri.as_deref().and_then(|uri| Url::parse(uri).ok());
        let is_of_host = |url: &Url| url.host_str().is_some() && url.host_str() == address.host_str();
        sources.name.is_some() || is_of_host(&identity.uri) || events.as_ref().is_some_and(is_of_host)
    });
    let is_known = known.is_some();
    let mut identity = match known {
        Some(identity) => identity,
        None => {
            // `ws` is to `http` as `wss` is to `https`.
            let root = address.as_str().replacen("ws", "http", usize::from(is_web_socket));
            let mut identity = Identity::anonymous(&root)?;
            if let Some(token) = &environment.token {
                identity.token = Some(Token::new(token.expose().trim()));
            } else if let Some(path) = &environment.token_file {
                identity.token = Some(token_of(path, &mut identity.warnings)?);
            }
            identity.username.clone_from(&environment.username);
            if is_web_socket && identity.token.is_some() && identity.username.is_none() {
                return Err(IdentityError::NoUser);
            }
            identity
        }
    };
    identity.events = EventsSettings::default();
    if is_web_socket {
        identity.events.uri = Some(address.to_string());
        identity.warn_of_events();
    } else {
        identity.uri = address.clone();
    }
    // Behind a WebSocket it is only asked who we are, and that only where nobody says it.
    if !is_web_socket || (is_known && identity.username.is_none()) {
        identity.warn_of_server();
    }
    Ok(identity)
}

/// The identity to use, without what there is to warn of on its way.
fn find(sources: &IdentitySources) -> Result<Option<Identity>, IdentityError> {
    if sources.name.is_some() {
        return named(sources);
    }
    let environment = &sources.environment;
    let address = environment.uri.as_ref();
    let address = address
        .map(|uri| server_address(uri.expose(), "LAVABUS_URI"))
        .transpose()?;
    let mut warnings = Vec::new();
    let from_file = match from_file(sources) {
        // Whoever names a server in the environment need not have a good file.
        Err(error) if address.is_some() && sources.file.is_none() => {
            warnings.push(format!("{error}; LAVABUS_URI counts"));
            None
        }
        other => other?,
    };
    let mut identity = match (from_file, address) {
        (None, None) => return Ok(None),
        (Some(identity), None) => identity,
        (from_file, Some((uri, username, token))) => {
            // A token belongs to its server: with another address it stays at home.
            let same = from_file.filter(|identity| same_server(&identity.uri, &uri));
            let mut identity = match same {
                Some(identity) => Identity { uri, ..identity },
                None => Identity {
                    name: "LAVABUS_URI".to_owned(),
                    ..Identity::anonymous(uri.as_str())?
                },
            };
            if token.is_some() {
                identity.token = token;
                identity.username = username;
            }
            identity
        }
    };
    identity.warnings.extend(warnings);
    if let Some(token) = &environment.token {
        identity.token = Some(Token::new(token.expose().trim()));
    } else if let Some(path) = &environment.token_file {
        identity.token = Some(token_of(path, &mut identity.warnings)?);
    }
    if let Some(username) = &environment.username {
        identity.username = Some(username.clone());
    }
    Ok(Some(identity))
}

/// The identity that `-i` names, as the file has it: what is said on the command line counts before the environment.
fn named(sources: &IdentitySources) -> Result<Option<Identity>, IdentityError> {
    let environment = &sources.environment;
    let Some(mut identity) = from_file(sources)? else {
        return Ok(None);
    };
    let address = environment.uri.as_ref();
    let address = address.map(|uri| server_address(uri.expose(), "LAVABUS_URI"));
    // Its token belongs to the server that it names.
    let may_have_token = match &address {
        None => true,
        Some(Ok((uri, ..))) => same_server(uri, &identity.uri),
        Some(Err(_)) => false,
    };
    let mut unused = Vec::new();
    if address.is_some_and(|address| address.is_err() || address.is_ok_and(|(uri, ..)| uri != identity.uri)) {
        unused.push("LAVABUS_URI");
    }
    if environment.username.is_some() && environment.username != identity.username {
        unused.push("LAVABUS_USERNAME");
    }
    let takes_token = may_have_token && identity.token.is_none();
    if let Some(token) = &environment.token {
        let token = Token::new(token.expose().trim());
        if takes_token {
            identity.token = Some(token);
        } else if identity.token.as_ref() != Some(&token) {
            unused.push("LAVABUS_TOKEN");
        }
    } else if let Some(path) = &environment.token_file {
        if takes_token {
            identity.token = Some(token_of(path, &mut identity.warnings)?);
        } else {
            unused.push("LAVABUS_TOKEN_FILE");
        }
    }
    if !unused.is_empty() {
        identity.warnings.push(format!(
            "identity {:?} is named, so the environment is not used: {}",
            identity.name,
            unused.join(", ")
        ));
    }
    Ok(Some(identity))
}

fn same_server(one: &Url, other: &Url) -> bool {
    one.host_str() == other.host_str()
        && one.port_or_known_default() == other.port_or_known_default()
        && one.scheme() == other.scheme()
}

fn from_file(sources: &IdentitySources) -> Result<Option<Identity>, IdentityError> {
    let named = sources.name.as_ref().or(sources.environment.lavacli_identity.as_ref());
    let Some(path) = sources.path() else {
        return match &sources.name {
            Some(name) => Err(IdentityError::NoFile {
                path: PathBuf::from("~/.config/lavacli.yaml"),
                name: name.clone(),
            }),
            None => Ok(None),
        };
    };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && sources.file.is_none() => {
            return match named {
                Some(name) => Err(IdentityError::NoFile {
                    path,
                    name: name.clone(),
                }),
                None => Ok(None),
            };
        }
        Err(cause) => return Err(IdentityError::Unreadable { path, cause }),
    };
    let document = Document::read(&text).map_err(|place| IdentityError::NotYaml {
        path: path.clone(),
        line: place.line,
        column: place.column,
    })?;
    let name = named.map_or("default", String::as_str);
    let identity = document.as_ref().and_then(|document| document.root().member(name));
    let Some((key, value)) = identity else {
        if named.is_none() && sources.file.is_none() {
            return Ok(None);
        }
        let keys = document.iter().flat_map(|document| document.root().members());
        return Err(IdentityError::NoSuchIdentity {
            known: keys.filter_map(|(key, _)| key.text().map(str::to_owned)).collect(),
            name: name.to_owned(),
            path,
        });
    };
    let entry = Entry {
        path: &path,
        name,
        line: key.line(),
        map: value,
        prefix: "",
    };
    let mut identity = entry.read()?;
    if identity.token.is_some() && others_may_read(&path) {
        identity.warnings.push(format!(
            "{} holds a token and others can read it: chmod 600",
            path.display()
        ));
    }
    Ok(Some(identity))
}

pub(super) fn token_of(path: &Path, warnings: &mut Vec<String>) -> Result<Token, IdentityError> {
    let text = std::fs::read_to_string(path).map_err(|cause| IdentityError::Unreadable {
        path: path.to_owned(),
        cause,
    })?;
    let token = text.lines().next().unwrap_or_default().trim();
    if token.is_empty() {
        return Err(IdentityError::NoToken { path: path.to_owned() });
    }
    if others_may_read(path) {
        warnings.push(format!(
            "{} holds a token and others can read it: chmod 600",
            path.display()
        ));
    }
    Ok(Token::new(token))
}

fn others_may_read(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    const FILE: &str = "\
default:
  uri: https://lava.example.com/RPC2/
  username: ada
  token: s3cret-default
staging:
  uri: http://bob:s3cret%2Furl@staging.example.com:8080/lava/RPC2
  proxy: http://u:s3cret-proxy@proxy:3128
  timeout: 1.5
  verify_ssl_cert: no
  unknown: [1, 2]
  events: {uri: 'ws://bob:s3cret@staging.example.com/ws/', socks_proxy: localhost:9050}
broken:
  uri: https://x/
  timeout: s3cret-soon
";

    fn sources(dir: &tempfile::TempDir, text: &str) -> IdentitySources {
        let path = dir.path().join("lavacli.yaml");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        IdentitySources {
            environment: Environment {
                config_home: Some(dir.path().to_owned()),
                ..Environment::default()
            },
            ..IdentitySources::default()
        }
    }

    fn named(dir: &tempfile::TempDir, name: &str) -> IdentitySources {
        IdentitySources {
            name: Some(name.to_owned()),
            ..sources(dir, FILE)
        }
    }

    #[test]
    fn the_default_identity() {
        let dir = tempfile::tempdir().unwrap();
        let identity = load(&sources(&dir, FILE)).unwrap().unwrap();
        assert_eq!(identity.uri.as_str(), "https://lava.example.com/");
        assert_eq!(identity.username.as_deref(), Some("ada"));
        assert_eq!(identity.token.as_ref().unwrap().expose(), "s3cret-default");
        assert_eq!(
            (identity.timeout, identity.verify_certificate),
            (Identity::TIMEOUT, true)
        );
        assert_eq!(identity.warnings, [""; 0]);
    }

    #[test]
    fn every_key_and_credentials_in_the_address() {
        let dir = tempfile::tempdir().unwrap();
        let identity = load(&named(&dir, "staging")).unwrap().unwrap();
        assert_eq!(identity.uri.as_str(), "http://staging.example.com:8080/lava/");
        assert_eq!(identity.username.as_deref(), Some("bob"));
        assert_eq!(identity.token.as_ref().unwrap().expose(), "s3cret/url");
        assert_eq!(identity.timeout, Duration::from_millis(1500));
        assert!(!identity.verify_certificate);
        assert_eq!(identity.events.uri.as_deref(), Some("ws://staging.example.com/ws/"));
        assert_eq!(identity.events.socks_proxy.as_deref(), Some("localhost:9050"));
        assert_eq!(identity.warnings.len(), 3, "{:?}", identity.warnings);
        let shown = format!("{identity:?}");
        assert!(!shown.contains("s3cret"), "{shown}");
    }

    #[test]
    fn lavacli_identity_names_one_and_the_option_wins() {
        let dir = tempfile::tempdir().unwrap();
        let mut sources = sources(&dir, FILE);
        sources.environment.lavacli_identity = Some("staging".to_owned());
        assert_eq!(load(&sources).unwrap().unwrap().name, "staging");
        sources.name = Some("default".to_owned());
        assert_eq!(load(&sources).unwrap().unwrap().name, "default");
    }

    #[test]
    fn the_home_directory_and_the_option_for_the_file() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(".config")).unwrap();
        std::fs::write(
            dir.path().join(".config/lavacli.yaml"),
            "default: {uri: 'http://localhost'}",
        )
        .unwrap();
        let mut sources = IdentitySources::default();
        sources.environment.home = Some(dir.path().to_owned());
        assert_eq!(load(&sources).unwrap().unwrap().uri.as_str(), "http://localhost/");
        let other = dir.path().join("other.yaml");
        std::fs::write(&other, "default: {uri: 'http://[::1]:8000/RPC2', token: t}").unwrap();
        sources.file = Some(other.clone());
        let identity = load(&sources).unwrap().unwrap();
        assert_eq!(identity.uri.as_str(), "http://[::1]:8000/");
        let text = format!("{} holds a token and others can read it: chmod 600", other.display());
        std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(load(&sources).unwrap().unwrap().warnings, [text]);
    }

    #[test]
    fn nothing_names_a_server() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(&IdentitySources::default()).unwrap(), None);
        assert_eq!(load(&sources(&dir, "")).unwrap(), None);
        assert_eq!(load(&sources(&dir, "other: {uri: 'http://x'}")).unwrap(), None);
    }

    #[test]
    fn the_environment_alone() {
        let dir = tempfile::tempdir().unwrap();
        let token = dir.path().join("token");
        std::fs::write(&token, "  s3cret-file \nmore\n").unwrap();
        std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o644)).unwrap();
        let mut sources = IdentitySources::default();
        sources.environment.uri = Some(Token::new("http://lab.example.com/RPC2"));
        sources.environment.username = Some("eve".to_owned());
        sources.environment.token_file = Some(token.clone());
        let identity = load(&sources).unwrap().unwrap();
        assert_eq!(identity.token.unwrap().expose(), "s3cret-file");
        assert_eq!(identity.username.as_deref(), Some("eve"));
        assert_eq!(
            identity.warnings,
            [
                format!("{} holds a token and others can read it: chmod 600", token.display()),
                "the token goes to http://lab.example.com/ over plain http: everyone on the way can read it".to_owned()
            ]
        );
        std::fs::write(&token, "\nsecond").unwrap();
        assert!(matches!(load(&sources), Err(IdentityError::NoToken { .. })));
    }

    #[test]
    fn a_token_of_the_file_stays_with_its_server() {
        let dir = tempfile::tempdir().unwrap();
        let mut sources = sources(&dir, FILE);
        sources.environment.uri = Some(Token::new("https://elsewhere.example.com/"));
        let identity = load(&sources).unwrap().unwrap();
        assert_eq!((identity.token, identity.username), (None, None));
        sources.environment.uri = Some(Token::new("https://lava.example.com"));
        let identity = load(&sources).unwrap().unwrap();
        assert_eq!(identity.token.unwrap().expose(), "s3cret-default");
        sources.environment.token = Some(Token::new("s3cret-env"));
        assert_eq!(load(&sources).unwrap().unwrap().token.unwrap().expose(), "s3cret-env");
    }

    #[test]
    fn an_identity_that_is_named_counts_before_the_environment() {
        let dir = tempfile::tempdir().unwrap();
        let mut sources = named(&dir, "default");
        sources.environment.uri = Some(Token::new("https://eve:s3cret-url@elsewhere.example.com/"));
        sources.environment.username = Some("eve".to_owned());
        sources.environment.token = Some(Token::new("s3cret-env"));
        let identity = load(&sources).unwrap().unwrap();
        assert_eq!(identity.name, "default");
        assert_eq!(identity.uri.as_str(), "https://lava.example.com/");
        assert_eq!(identity.username.as_deref(), Some("ada"));
        assert_eq!(identity.token.unwrap().expose(), "s3cret-default");
        let unused = "identity \"default\" is named, so the environment is not used: ";
        assert_eq!(
            identity.warnings,
            [format!("{unused}LAVABUS_URI, LAVABUS_USERNAME, LAVABUS_TOKEN")]
        );
        // What is not used need not be good.
        sources.environment.uri = Some(Token::new("lava:s3cret@x"));
        sources.environment.token = None;
        sources.environment.token_file = Some(dir.path().join("none"));
        let identity = load(&sources).unwrap().unwrap();
        assert_eq!(
            identity.warnings,
            [format!("{unused}LAVABUS_URI, LAVABUS_USERNAME, LAVABUS_TOKEN_FILE")]
        );
        // LAVACLI_IDENTITY is itself of the environment.
        sources.name = None;
        sources.environment.lavacli_identity = Some("default".to_owned());
        sources.environment.uri = Some(Token::new("https://elsewhere.example.com/"));
        sources.environment.token_file = None;
        assert_eq!(
            load(&sources).unwrap().unwrap().uri.as_str(),
            "https://elsewhere.example.com/"
        );
        // No file to look in: the environment's server is not what was asked for.
        sources.name = Some("default".to_owned());
        sources.environment.config_home = None;
        assert!(matches!(load(&sources), Err(IdentityError::NoFile { .. })));
    }

    #[test]
    fn an_identity_without_token_takes_that_of_the_environment_for_its_own_server_only() {
        let dir = tempfile::tempdir().unwrap();
        let token = dir.path().join("token");
        std::fs::write(&token, "s3cret-file\n").unwrap();
        std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
        let text = "lab: {uri: 'https://lab.example.com/lava/RPC2', username: ada}\n";
        let mut sources = IdentitySources {
            name: Some("lab".to_owned()),
            ..sources(&dir, text)
        };
        for (uri, is_used) in [
            (None, true),
            (Some("https://lab.example.com"), true),
            (Some("https://lab.example.com:443/other"), true),
            (Some("https://lab.example.com:8443/"), false),
            (Some("http://lab.example.com/"), false),
            (Some("https://elsewhere.example.com/"), false),
            (Some("no address"), false),
        ] {
            sources.environment.uri = uri.map(Token::new);
            sources.environment.token_file = Some(token.clone());
            sources.environment.token = None;
            let identity = load(&sources).unwrap().unwrap();
            assert_eq!(identity.uri.as_str(), "https://lab.example.com/lava/");
            let expected = is_used.then(|| Token::new("s3cret-file"));
            assert_eq!(identity.token, expected, "{uri:?}");
            assert_eq!(identity.warnings.len(), usize::from(uri.is_some()), "{uri:?}");
            sources.environment.token = Some(Token::new(" s3cret-env\n"));
            let identity = load(&sources).unwrap().unwrap();
            let expected = is_used.then(|| Token::new("s3cret-env"));
            assert_eq!(identity.token, expected, "{uri:?}");
        }
    }

    #[test]
    fn a_broken_file_counts_only_where_it_is_needed() {
        let dir = tempfile::tempdir().unwrap();
        let mut sources = sources(&dir, "default: {uri: [}");
        assert!(matches!(load(&sources), Err(IdentityError::NotYaml { line: 1, .. })));
        sources.environment.uri = Some(Token::new("https://a/"));
        assert_eq!(load(&sources).unwrap().unwrap().warnings.len(), 1);
    }

    #[test]
    fn errors_name_the_place_and_no_secret() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lavacli.yaml");
        let path = path.display();
        let said = |sources: &IdentitySources| load(sources).unwrap_err().to_string();
        assert_eq!(
            said(&named(&dir, "nobody")),
            format!("{path}: no identity \"nobody\"; there are default, staging, broken")
        );
        assert_eq!(
            said(&named(&dir, "broken")),
            format!("{path}: line 14: identity \"broken\": timeout: expected a number of seconds")
        );
        assert_eq!(
            said(&sources(&dir, "default:\n  token: s3cret\n")),
            format!("{path}: line 1: identity \"default\": uri: expected the server's address")
        );
        assert_eq!(
            said(&sources(&dir, "default:\n  uri: 'ftp://a:s3cret@b/'\n")),
            format!("{path}: line 2: identity \"default\": uri is no address of a server, expected https://HOST/")
        );
        assert_eq!(
            said(&sources(&dir, "default:\n  uri: 'http://a'\n  token: [s3cret]\n")),
            format!("{path}: line 3: identity \"default\": token: expected text")
        );
        assert_eq!(
            said(&sources(&dir, "default: s3cret\n")),
            format!("{path}: line 1: identity \"default\": : expected a map with uri, username, token")
        );
        let mut sources = IdentitySources::default();
        sources.environment.uri = Some(Token::new("lava:s3cret@x"));
        assert_eq!(
            said(&sources),
            "LAVABUS_URI is no address of a server, expected https://HOST/"
        );
        sources.environment.uri = None;
        sources.file = Some(dir.path().join("none.yaml"));
        assert!(matches!(load(&sources), Err(IdentityError::Unreadable { .. })));
    }
}
