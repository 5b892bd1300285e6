//! The command line of `lava-publisher`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use ipnet::IpNet;
use lavabus_lava::explain::Pace;
use lavabus_lava::{Identity, IdentityError};
use lavabus_protocol::parse_size;
use lavabus_store::{Options, Retention, Synchronous};
use lavabus_zmtp::{BindOptions, Endpoint};

use crate::authority::TokenName;
use crate::config::{AuthorityConfig, Config, ExplainConfig, HttpConfig, JournalConfig, LavaConfig};
use crate::lava_settings::LavaSettings;

/// LAVA's `INTERNAL_EVENT_SOCKET`, where its web processes push.
const DEFAULT_INTAKE: &str = "ipc:///tmp/lava.events";
/// LAVA's `EVENT_SOCKET`, for this machine only.
const DEFAULT_PUBLISH: &str = "tcp://127.0.0.1:5500";
/// LAVA's own second port, for this machine only.
const DEFAULT_HTTP: &str = "127.0.0.1:8001";
/// Where LAVA's packages put its settings.
const DEFAULT_LAVA_SETTINGS: &str = "/etc/lava-server";
/// File descriptors that are not connections: the database, listeners, logs, and some to spare.
const RESERVED_DESCRIPTORS: u64 = 64;
/// LAVA may take its time to say why a job failed: nobody waits for it.
const EXPLAIN_TIMEOUT: Duration = Duration::from_secs(60);

/// Publishes the events of a LAVA lab: receives them from LAVA and from test jobs, keeps them in a journal, and sends
/// them to every ZeroMQ subscriber, who can also ask for what it missed.
///
/// Without options it stands where LAVA's own publisher stood, for subscribers on this machine. To open it to the
/// network, say so: --publish tcp://*:5500 (events of private jobs included; the port has no login).
#[derive(Debug, Parser)]
#[command(name = "lava-publisher", version, max_term_width = 100)]
pub struct Arguments {
    /// Where LAVA and others push events (PULL): tcp://HOST:PORT or ipc://PATH. May be repeated.
    #[arg(long, value_name = "ENDPOINT", default_value = DEFAULT_INTAKE, num_args = 1..)]
    pub intake: Vec<Endpoint>,

    /// Where subscribers connect (PUB): tcp://HOST:PORT or ipc://PATH. `*` is every IPv4 address. May be repeated.
    #[arg(long, value_name = "ENDPOINT", default_value = DEFAULT_PUBLISH, num_args = 1..)]
    pub publish: Vec<Endpoint>,

    /// Where subscribers connect who get only what everybody may see by the authority (PUB): live, without a past. May
    /// be repeated.
    #[arg(long, value_name = "ENDPOINT", num_args = 1..)]
    pub publish_public: Vec<Endpoint>,

    /// The journal's database. Default: events.db under $STATE_DIRECTORY, else /var/lib/lava-publisher for root, else
    /// the user's state folder.
    #[arg(long, value_name = "PATH", conflicts_with = "no_journal")]
    pub db: Option<PathBuf>,

    /// Keep nothing: who misses an event has lost it, but for the newest ones in memory.
    #[arg(long)]
    pub no_journal: bool,

    /// When an event counts as kept: `full`, when it is on the disk; `normal`, when the system has it (survives the
    /// end of the process, not a loss of power).
    #[arg(long, value_name = "LEVEL", default_value = "full")]
    pub synchronous: SynchronousLevel,

    /// Keep events this long, such as 30d or 12h.
    #[arg(long, value_name = "DURATION", default_value = "30d", value_parser = duration)]
    pub retain: Duration,

    /// Keep events up to this size of the database, such as 4G or 500M. Whichever limit comes first counts.
    #[arg(long, value_name = "SIZE", default_value = "4G", value_parser = parse_size)]
    pub retain_size: u64,

    /// The second port, for HTTP: WebSocket at /ws/ as LAVA has it, and /readyz. ADDRESS:PORT such as 127.0.0.1:8001,
    /// *:8001 or `[::]:8001`; `off`: there is none. May be repeated.
    #[arg(long, value_name = "ADDRESS:PORT|off", default_value = DEFAULT_HTTP, num_args = 1.., value_parser = http)]
    pub http: Vec<Http>,

    /// Connections of the second port that one address may have; this machine's own are not counted.
    #[arg(long, value_name = "N", default_value_t = HttpConfig::default().max_per_address)]
    pub http_per_address: usize,

    /// Proxies in front of the second port, which are believed when they say for whom they ask (X-Forwarded-For), such
    /// as 127.0.0.1/32. May be repeated.
    #[arg(long, value_name = "CIDR", num_args = 1..)]
    pub http_proxy: Vec<IpNet>,

    /// Web pages of this origin may use the second port from a browser, beside those of the port itself, such as
    /// `https://lab.example.org`: also the name by which a proxy shows this port. May be repeated.
    #[arg(long, value_name = "ORIGIN", num_args = 1.., value_parser = origin)]
    pub http_origin: Vec<String>,

    /// Subscribers from these networks may ask for all of the past, such as 10.0.0.0/8. Those of this machine always
    /// may; others get the last hour (see --resume-window). May be repeated.
    #[arg(long, value_name = "CIDR", num_args = 1..)]
    pub history_from: Vec<IpNet>,

    /// Everybody may ask for what was received within this time, so that an outage costs nothing.
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    pub resume_window: Duration,

    /// A subscriber that reads nothing is disconnected after this time.
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration)]
    pub stalled_timeout: Duration,

    /// Memory for the newest events, such as 16M; older ones are read from the journal. Readers of the second port add the
    /// forms that they read: up to five times as much.
    #[arg(long, value_name = "SIZE", default_value = "16M", value_parser = parse_size)]
    pub ring: u64,

    /// Access mode of ipc sockets, octal.
    #[arg(long, value_name = "MODE", default_value = "660", value_parser = mode)]
    pub ipc_mode: u32,

    /// Group of ipc sockets, so that LAVA's web processes may write to them.
    #[arg(long, value_name = "GROUP")]
    pub ipc_group: Option<String>,

    /// Ask this LAVA (`https://HOST/`) why jobs failed, and publish what it says as .attempt and .fault events: whoever
    /// hears the events reads it. One job a second at most.
    #[arg(long, value_name = "URI", value_parser = explain_from)]
    pub explain_from: Option<String>,

    /// A file whose first line is the API token to ask with; nobody else should be able to read it. Without it only
    /// what LAVA shows to everybody is told.
    #[arg(long, value_name = "FILE", requires = "explain_from")]
    pub explain_token_file: Option<PathBuf>,

    /// Who decides what a reader of the HTTP port may see: `open`, nobody, everyone sees all; `tokens`, the file of
    /// tokens; `lava`, LAVA, which is asked with the reader's own token. Default: `lava` with --lava or where LAVA's
    /// settings are, otherwise `open`, which a port that is open to the network takes only if it is said.
    #[arg(long, value_name = "KIND")]
    pub authority: Option<AuthorityKind>,

    /// The file of tokens: readers, workers, and who may hand in events over HTTP. Read again when it changes.
    /// --new-token makes an entry. With --authority lava its readers see what everybody may see; its administrators
    /// see all.
    #[arg(long, value_name = "FILE", required_if_eq("authority", "tokens"))]
    pub tokens: Option<PathBuf>,

    /// The LAVA (`https://HOST/`) that --authority lava asks. Default: the one of this machine, at http://127.0.0.1/, where
    /// LAVA's settings are.
    #[arg(long, value_name = "URI", value_parser = lava)]
    pub lava: Option<String>,

    /// Where LAVA's settings are if it is on this machine: settings.conf, settings.yaml and settings.d/*.yaml.
    #[arg(long, value_name = "FOLDER", default_value = DEFAULT_LAVA_SETTINGS)]
    pub lava_settings: PathBuf,

    /// A user of LAVA who sees all: all events, what was refused, the details of faults. May be repeated.
    #[arg(long, value_name = "NAME")]
    pub administrator: Vec<String>,

    /// A file whose first line tells how to reach LAVA's PostgreSQL database, such as `host=/run/postgresql user=reader
    /// dbname=lavaserver`: the tokens of LAVA's workers are read there. A role that may SELECT hostname and token of
    /// lava_scheduler_app_worker is enough.
    #[arg(long, value_name = "FILE")]
    pub workers_db: Option<PathBuf>,

    /// Print a new random token and its entry for the file of tokens, with the role `reader`; do nothing else.
    #[arg(long, value_name = "NAME")]
    pub new_token: Option<TokenName>,

    /// How much is logged.
    #[arg(short, long, value_name = "LEVEL", default_value = "INFO", ignore_case = true)]
    pub level: Level,

    /// Where the log goes; `-` is standard error.
    #[arg(short = 'o', long, value_name = "FILE|-", default_value = "-")]
    pub log_file: PathBuf,

    /// Check the options and print what would be done; do nothing.
    #[arg(long)]
    pub check: bool,
}

/// `--synchronous`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SynchronousLevel {
    /// On the disk.
    Full,
    /// With the system.
    Normal,
}

/// `--level`, LAVA's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
#[value(rename_all = "UPPER")]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
}

/// `--authority`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AuthorityKind {
    /// Everyone sees all.
    Open,
    /// A file.
    Tokens,
    /// LAVA.
    Lava,
}

/// `--http`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http {
    /// No second port.
    Off,
    /// It listens here.
    At(SocketAddr),
}

/// Options that do not go together, or that cannot work here.
#[derive(Debug, thiserror::Error)]
pub enum ArgumentError {
    /// No place for the database.
    #[error(
        "no place for the journal's database: neither $STATE_DIRECTORY, $XDG_STATE_HOME nor $HOME is set; name one with --db PATH, or go without: --no-journal"
    )]
    NoDatabasePath,
    /// The token's file cannot be used.
    #[error("--explain-token-file: {0}")]
    ExplainToken(#[source] IdentityError),
    /// Nobody said who may see what at an address that others reach.
    #[error(
        "--http {0}: whoever reaches it would see private jobs; say who may see what: --lava URI, or --authority tokens --tokens FILE, or --authority open"
    )]
    OpenToTheNetwork(SocketAddr),
    /// `--authority tokens` without its file.
    #[error("--authority tokens needs its file: --tokens FILE")]
    NoTokens,
    /// `--authority lava` without its LAVA.
    #[error("--authority lava needs its LAVA, whose settings are not in {}: --lava URI", .0.display())]
    NoLava(PathBuf),
    /// Something is said of a LAVA that nobody would ask.
    #[error("{0}: LAVA is not asked who may see what: say --lava URI, and --authority lava or none")]
    LavaNotAsked(&'static str),
    /// The LAVA's address cannot be used.
    #[error("--lava: {0}")]
    Lava(#[source] IdentityError),
}

impl Arguments {
    /// The configuration that these options mean, on a machine with so many file descriptors.
    pub fn config(&self, descriptors: u64) -> Result<Config, ArgumentError> {
        let mut config = Config::new(self.intake.clone(), self.publish.clone());
        config.publish_public.clone_from(&self.publish_public);
        if !self.no_journal {
            let path = self
                .db
                .clone()
                .or_else(lavabus_store::location::default_path)
                .ok_or(ArgumentError::NoDatabasePath)?;
            let synchronous = match self.synchronous {
                SynchronousLevel::Full => Synchronous::Full,
                SynchronousLevel::Normal => Synchronous::Normal,
            };
            let options = Options {
                synchronous,
                ..Options::default()
            };
            let retention = Retention {
                max_age: Some(self.retain),
                max_bytes: Some(self.retain_size),
            };
            config.journal = Some(JournalConfig {
                path,
                options,
                retention,
            });
        }
        config.http = HttpConfig {
            listen: self
                .http
                .iter()
                .filter_map(|http| match http {
                    Http::Off => None,
                    Http::At(address) => Some(*address),
                })
                .collect(),
            max_per_address: self.http_per_address,
            proxies: self.http_proxy.clone(),
            origins: self.http_origin.clone(),
            ..HttpConfig::default()
        };
        config.ring_bytes = usize::try_from(self.ring).unwrap_or(usize::MAX);
        config.history_from = self.history_from.clone();
        config.resume_window = self.resume_window;
        config.heartbeat.stalled_timeout = self.stalled_timeout;
        let connections = usize::try_from(descriptors.saturating_sub(RESERVED_DESCRIPTORS)).unwrap_or(usize::MAX);
        config.max_connections = config.max_connections.min(connections.max(1));
        config.bind = BindOptions {
            ipc_mode: self.ipc_mode,
            ipc_group: self.ipc_group.clone(),
            ..config.bind
        };
        if let Some(uri) = &self.explain_from {
            let identity = match &self.explain_token_file {
                Some(file) => Identity::with_token_file(uri, file),
                None => Identity::anonymous(uri),
            };
            let mut identity = identity.map_err(ArgumentError::ExplainToken)?;
            identity.timeout = EXPLAIN_TIMEOUT;
            config.explain = Some(ExplainConfig {
                identity,
                pace: Pace::default(),
            });
        }
        (config.authority, config.authority_reason) = self.authority()?;
        Ok(config)
    }

    /// Who may see what, and why that.
    fn authority(&self) -> Result<(AuthorityConfig, String), ArgumentError> {
        let network = self.http.iter().find_map(|http| match http {
            Http::At(address) if !address.ip().is_loopback() => Some(*address),
            _ => None,
        });
        let settings = LavaSettings::read(&self.lava_settings);
        let folder = self.lava_settings.display();
        let (kind, reason) = match (self.authority, &self.lava, &settings, network) {
            (Some(kind), ..) => (kind, "--authority says so".to_owned()),
            (None, Some(_), ..) => (AuthorityKind::Lava, "--lava names one".to_owned()),
            (None, None, Some(_), _) => {
                let reason = format!("LAVA's settings are in {folder}; --authority and --lava say otherwise");
                (AuthorityKind::Lava, reason)
            }
            (None, None, None, Some(address)) => return Err(ArgumentError::OpenToTheNetwork(address)),
            (None, None, None, None) => {
                let reason = format!("the port is for this machine only, and no LAVA has its settings in {folder}");
                (AuthorityKind::Open, reason)
            }
        };
        if kind != AuthorityKind::Lava {
            for (option, is_said) in [
                ("--lava", self.lava.is_some()),
                ("--administrator", !self.administrator.is_empty()),
                ("--workers-db", self.workers_db.is_some()),
            ] {
                if is_said {
                    return Err(ArgumentError::LavaNotAsked(option));
                }
            }
        }
        let tokens = self.tokens.clone();
        let config = match kind {
            AuthorityKind::Open => AuthorityConfig::Open { tokens },
            AuthorityKind::Tokens => AuthorityConfig::Tokens {
                tokens: tokens.ok_or(ArgumentError::NoTokens)?,
            },
            AuthorityKind::Lava => AuthorityConfig::Lava(Box::new(LavaConfig {
                identity: self.asked(settings)?,
                administrators: self.administrator.clone(),
                tokens,
                workers: self.workers_db.clone(),
            })),
        };
        Ok((config, reason))
    }

    /// The LAVA that is asked: the one that is named, or that of this machine.
    fn asked(&self, settings: Option<LavaSettings>) -> Result<Identity, ArgumentError> {
        if let Some(uri) = &self.lava {
            return Identity::anonymous(uri).map_err(ArgumentError::Lava);
        }
        let mut settings = settings.ok_or_else(|| ArgumentError::NoLava(self.lava_settings.clone()))?;
        let mut identity = Identity::anonymous(&settings.address()).map_err(ArgumentError::Lava)?;
        if self.tokens.is_none() && self.workers_db.is_none() {
            let warning =
                "LAVA's workers are not let in on /ws/, since their tokens are not known: say --workers-db or --tokens";
            settings.warnings.push(warning.to_owned());
        }
        identity.warnings.append(&mut settings.warnings);
        Ok(identity)
    }
}

/// An address without a secret: everybody on this machine can read a command line.
fn explain_from(text: &str) -> Result<String, String> {
    match Identity::anonymous(text) {
        Ok(identity) if identity.token.is_some() => {
            Err("a token has no place in an address: put it into a file, --explain-token-file FILE".to_owned())
        }
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("expected the address of a LAVA server, such as https://lava.example.org/".to_owned()),
    }
}

/// The readers' own tokens are used, so none has a place here.
fn lava(text: &str) -> Result<String, String> {
    match Identity::anonymous(text) {
        Ok(identity) if identity.token.is_some() => {
            Err("a token has no place here: readers bring their own".to_owned())
        }
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("expected the address of a LAVA server, such as https://lava.example.org/".to_owned()),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    lavabus_protocol::time::parse_duration(text).map_err(|error| error.to_string())
}

fn mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err("expected an octal mode between 0 and 777, such as 660".to_owned()),
    }
}

fn http(text: &str) -> Result<Http, String> {
    if text == "off" {
        return Ok(Http::Off);
    }
    // ZeroMQ's word for every IPv4 address, which LAVA's publisher knows too.
    let address = match text.strip_prefix("*:") {
        Some(port) => format!("0.0.0.0:{port}"),
        None => text.to_owned(),
    };
    let expected = "expected ADDRESS:PORT, such as 127.0.0.1:8001, or off";
    address.parse().map(Http::At).map_err(|_| expected.to_owned())
}

fn origin(text: &str) -> Result<String, String> {
    let authority = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    match authority {
        Some(authority) if !authority.is_empty() && !authority.contains(['/', '@', '?']) => {
            Ok(text.to_ascii_lowercase())
        }
        _ => Err("expected what browsers send: http:// or https://, a host, and a port if it has one".to_owned()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Arguments, clap::Error> {
        let elsewhere: &[&str] = match arguments.contains(&"--lava-settings") {
            true => &[],
            false => &["--lava-settings", "/no-lava-here"],
        };
        Arguments::try_parse_from([&["lava-publisher"], elsewhere, arguments].concat())
    }

    #[test]
    fn without_options_it_stands_where_lavas_stood() {
        let config = parse(&["--db", "/tmp/x.db"]).unwrap().config(1024).unwrap();
        assert_eq!(config.intake, ["ipc:///tmp/lava.events".parse().unwrap()]);
        assert_eq!(config.publish, ["tcp://127.0.0.1:5500".parse().unwrap()]);
        assert_eq!(config.journal.unwrap().retention, Retention::default());
        assert_eq!(config.max_connections, 1024 - 64);
        assert_eq!(config.http.listen, ["127.0.0.1:8001".parse().unwrap()]);
    }

    #[test]
    fn the_second_port_is_where_it_is_said_or_nowhere() {
        let listen = |http: &str| {
            parse(&["--no-journal", "--authority", "open", "--http", http])
                .unwrap()
                .config(1024)
                .unwrap()
                .http
                .listen
        };
        assert_eq!(listen("*:80"), ["0.0.0.0:80".parse().unwrap()]);
        assert_eq!(listen("[::1]:80"), ["[::1]:80".parse().unwrap()]);
        assert!(listen("off").is_empty());
    }

    #[test]
    fn bad_values_name_the_option_and_the_way_out() {
        for (arguments, expected) in [
            (["--http", "8001"], "127.0.0.1:8001"),
            (["--http-origin", "lab.example.org"], "what browsers send"),
            (["--http-proxy", "proxy"], "--http-proxy"),
            (["--ring", "12 parsecs"], "use K, M or G"),
            (["--retain-size", "0"], "a size between"),
            (["--ipc-mode", "999"], "octal mode"),
            (["--publish", "http://x"], "tcp://"),
            (["--retain", "soon"], "--retain"),
            (["--history-from", "10.0.0.0/99"], "--history-from"),
            (["--level", "LOUD"], "DEBUG"),
            (["--explain-from", "lava.example.org"], "https://lava.example.org/"),
            (["--explain-token-file", "x"], "--explain-from"),
            (["--authority", "nobody"], "open, tokens, lava"),
            (["--lava", "lava.example.org"], "https://lava.example.org/"),
            (["--lava", "https://ada:s3cret@lava/"], "readers bring their own"),
            (["--new-token", "a:b"], "without colon"),
        ] {
            let error = parse(&arguments).unwrap_err().to_string();
            assert!(error.contains(arguments[0]) && error.contains(expected), "{error}");
        }
        assert!(parse(&["--db", "x", "--no-journal"]).is_err());
    }

    #[test]
    fn an_authority_needs_what_it_asks() {
        let config = |line: &str| {
            let words: Vec<&str> = line.split(' ').collect();
            Ok(parse(&[&["--no-journal"], &*words].concat())?.config(1024)?.authority)
        };
        let error = |line: &str| {
            let error: Box<dyn std::error::Error> = config(line).unwrap_err();
            error.to_string()
        };
        assert!(error("--authority tokens").contains("--tokens <FILE>"));
        assert!(error("--authority lava").contains("settings are not in /no-lava-here: --lava URI"));
        assert!(error("--administrator ada").starts_with("--administrator: LAVA is not asked"));
        assert!(error("--workers-db f").starts_with("--workers-db: LAVA is not asked"));
        assert!(error("--authority open --lava http://l/").starts_with("--lava: LAVA is not asked"));
        assert!(matches!(config("--lava http://l/"), Ok(AuthorityConfig::Lava(_))));
        assert!(error("--http *:8001").contains("0.0.0.0:8001: whoever reaches it would see private jobs"));
        assert!(matches!(
            config("--http *:8001 --authority open"),
            Ok(AuthorityConfig::Open { .. })
        ));
        let tokens = config("--tokens t --authority tokens").unwrap();
        assert!(matches!(tokens, AuthorityConfig::Tokens { tokens } if tokens.ends_with("t")));
        let line = "--authority lava --lava https://l/RPC2 --administrator ada --administrator bob";
        let AuthorityConfig::Lava(lava) = config(line).unwrap() else {
            panic!("not LAVA")
        };
        assert_eq!(lava.identity.uri.as_str(), "https://l/");
        assert_eq!((lava.administrators.len(), lava.tokens), (2, None));
    }

    #[test]
    fn where_lava_has_its_settings_lava_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("settings.yaml"), "MOUNT_POINT: lava\n").unwrap();
        let config = |more: &[&str]| {
            let flags = ["--no-journal", "--lava-settings", folder.path().to_str().unwrap()];
            parse(&[&flags, more].concat()).unwrap().config(1024)
        };
        let asked = |more: &[&str]| {
            let config = config(more).unwrap();
            match config.authority {
                AuthorityConfig::Lava(lava) => (*lava, config.authority_reason),
                other => panic!("{more:?}: {other:?}"),
            }
        };
        // At an address that others reach too.
        for http in ["127.0.0.1:8001", "*:8001", "off"] {
            let (lava, reason) = asked(&["--http", http]);
            assert_eq!(lava.identity.uri.as_str(), "http://127.0.0.1/lava/");
            assert!(reason.starts_with("LAVA's settings are in /"), "{reason}");
            assert!(
                lava.identity.warnings[0].contains("--workers-db"),
                "{:?}",
                lava.identity.warnings
            );
        }
        let (lava, reason) = asked(&["--authority", "lava", "--administrator", "ada", "--workers-db", "f"]);
        assert_eq!((lava.administrators.len(), &*reason), (1, "--authority says so"));
        assert_eq!(lava.identity.warnings, [""; 0]);
        let (lava, reason) = asked(&["--lava", "https://lava.example.org/"]);
        assert_eq!(
            (lava.identity.uri.as_str(), &*reason),
            ("https://lava.example.org/", "--lava names one")
        );
        for kind in ["open", "tokens"] {
            let config = config(&["--authority", kind, "--tokens", "t"]).unwrap();
            assert!(!matches!(config.authority, AuthorityConfig::Lava(_)), "{kind}");
        }
    }

    #[test]
    fn a_token_comes_from_a_file_and_is_never_shown() {
        use std::os::unix::fs::PermissionsExt;

        let error = parse(&["--explain-from", "https://ada:s3cret@lava/"]).unwrap_err();
        assert!(error.to_string().contains("--explain-token-file FILE"), "{error}");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let config = || {
            let name = file.to_str().unwrap();
            let flags = [
                "--no-journal",
                "--explain-from",
                "http://127.0.0.1/",
                "--explain-token-file",
                name,
            ];
            parse(&flags).unwrap().config(1024)
        };
        let error = config().unwrap_err().to_string();
        assert!(
            error.starts_with("--explain-token-file: ") && error.contains("token: No such file"),
            "{error}"
        );
        std::fs::write(&file, "s3cret\n").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        let config = config().unwrap();
        assert!(!format!("{config:?}").contains("s3cret"));
        let identity = config.explain.unwrap().identity;
        assert_eq!(identity.token.unwrap().expose(), "s3cret");
        assert!(
            identity.warnings[0].ends_with("others can read it: chmod 600"),
            "{:?}",
            identity.warnings
        );
    }
}
