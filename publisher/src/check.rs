//! `--check`: what would be done, and what of it cannot work. Nothing is made, locked or changed.

use std::fs;
use std::io;
use std::path::Path;

use lavabus_lava::Server;
use lavabus_store::{OpenError, Reader, Retention, Synchronous};
use lavabus_zmtp::Endpoint;
use nix::unistd::{AccessFlags, Group, access};

use crate::authority;
use crate::config::{AuthorityConfig, Config};

/// What the configuration means, for a person.
pub(crate) fn describe(config: &Config) -> String {
    let mut lines = Vec::new();
    for endpoint in &config.intake {
        lines.push(format!("intake   {endpoint}"));
    }
    for endpoint in &config.publish {
        let open = if endpoint.is_loopback_or_ipc() {
            "this machine"
        } else {
            "OPEN TO THE NETWORK, without login"
        };
        lines.push(format!("publish  {endpoint} ({open})"));
    }
    for endpoint in &config.publish_public {
        lines.push(format!("public   {endpoint} (what everybody may see)"));
    }
    for address in &config.http.listen {
        let open = if address.ip().is_loopback() {
            "this machine"
        } else {
            "open to the network"
        };
        lines.push(format!("http     {address} ({open})"));
    }
    if !config.http.listen.is_empty() {
        lines.extend(readers(&config.authority));
        if !config.authority_reason.is_empty() {
            lines.push(format!("because  {}", config.authority_reason));
        }
    }
    match &config.journal {
        Some(journal) => {
            let level = match journal.options.synchronous {
                Synchronous::Full => "full",
                Synchronous::Normal => "normal",
            };
            lines.push(format!("journal  {} (synchronous: {level})", journal.path.display()));
            lines.push(format!("retained {}", retained(&journal.retention)));
        }
        None => lines.push("journal  none: nothing is kept".to_owned()),
    }
    let networks: Vec<String> = config.history_from.iter().map(ToString::to_string).collect();
    let networks = match networks.as_slice() {
        [] => "this machine only".to_owned(),
        networks => format!("this machine, {}", networks.join(", ")),
    };
    lines.push(format!(
        "history  {networks}; others: the last {:?}",
        config.resume_window
    ));
    if let Some(explain) = &config.explain {
        let identity = &explain.identity;
        let whom = match identity.token {
            Some(_) => "with a token",
            None => "without a token: public jobs only",
        };
        lines.push(format!("explain  asks {} ({whom})", identity.uri));
        lines.extend(identity.warnings.iter().map(|warning| format!("warning  {warning}")));
    }
    lines.push(String::new());
    lines.join("\n")
}

fn readers(config: &AuthorityConfig) -> Vec<String> {
    let (who, tokens, workers) = match config {
        AuthorityConfig::Open { tokens } => ("everyone sees all".to_owned(), tokens.as_ref(), None),
        AuthorityConfig::Tokens { tokens } => ("who has a token sees all".to_owned(), Some(tokens), None),
        AuthorityConfig::Lava(lava) => {
            let administrators = match lava.administrators.as_slice() {
                [] => "no administrators".to_owned(),
                names => format!("administrators: {}", names.join(", ")),
            };
            let who = format!("what {} shows to each ({administrators})", lava.identity.uri);
            (who, lava.tokens.as_ref(), lava.workers.as_ref())
        }
    };
    let mut lines = vec![format!("readers  {who}")];
    if let AuthorityConfig::Lava(lava) = config {
        let warnings = lava.identity.warnings.iter();
        lines.extend(warnings.map(|warning| format!("warning  {warning}")));
    }
    for (what, file) in [("tokens ", tokens), ("workers", workers)] {
        if let Some(file) = file {
            lines.push(format!("{what}  {}", file.display()));
            lines.extend(authority::warning(file).map(|warning| format!("warning  {warning}")));
        }
    }
    lines
}

fn retained(retention: &Retention) -> String {
    let age = retention
        .max_age
        .map(|age| format!("{} days", age.as_secs_f64() / 86_400.0));
    let bytes = retention
        .max_bytes
        .map(|bytes| format!("{} MiB", bytes.div_ceil(1 << 20)));
    match (age, bytes) {
        (Some(age), Some(bytes)) => format!("{age} or {bytes}, whichever is first"),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => "for ever".to_owned(),
    }
}

/// What would fail the start, each with the option that it comes from.
pub(crate) fn problems(config: &Config, log_file: &Path) -> Vec<String> {
    let mut problems = Vec::new();
    let mut check = |option: &str, result: Result<(), String>| {
        if let Err(cause) = result {
            problems.push(format!("{option}: {cause}"));
        }
    };
    if let Some(group) = &config.bind.ipc_group {
        check("--ipc-group", group_exists(group));
    }
    for (option, endpoints) in [
        ("--intake", &config.intake),
        ("--publish", &config.publish),
        ("--publish-public", &config.publish_public),
    ] {
        for endpoint in endpoints {
            if let Endpoint::Ipc { path } = endpoint {
                check(option, folder_is_writable(path));
            }
        }
    }
    if let Some(journal) = &config.journal {
        check("--db", database_is_good(&journal.path));
    }
    if let Some(explain) = &config.explain {
        let server = Server::new(&explain.identity).map(drop);
        check("--explain-from", server.map_err(|error| error.to_string()));
    }
    let (tokens, lava) = match &config.authority {
        AuthorityConfig::Open { tokens } => (tokens.as_ref(), None),
        AuthorityConfig::Tokens { tokens } => (Some(tokens), None),
        AuthorityConfig::Lava(lava) => (lava.tokens.as_ref(), Some(lava)),
    };
    if let Some(tokens) = tokens {
        check("--tokens", authority::check(tokens).map_err(|error| error.to_string()));
    }
    if let Some(lava) = lava {
        let server = Server::new(&lava.identity).map(drop);
        check("--lava", server.map_err(|error| error.to_string()));
        if let Some(file) = &lava.workers {
            check(
                "--workers-db",
                authority::dsn(file).map(drop).map_err(|error| error.to_string()),
            );
        }
    }
    if log_file != Path::new("-") {
        check("--log-file", file_is_writable(log_file));
    }
    problems
}

fn group_exists(name: &str) -> Result<(), String> {
    match Group::from_name(name) {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(format!("there is no group {name}")),
        Err(error) => Err(format!("cannot look up the group {name}: {error}")),
    }
}

/// A database that is there is opened for reading; for one that is not, a place is looked for.
fn database_is_good(path: &Path) -> Result<(), String> {
    if path.exists() {
        return match Reader::open(path) {
            // Empty, or older: the start makes it good.
            Ok(_) | Err(OpenError::NotFound { .. } | OpenError::OlderSchema { .. }) => file_is_writable(path),
            Err(error) => Err(error.to_string()),
        };
    }
    let folder = path.ancestors().skip(1).find(|folder| folder.exists());
    let folder = folder.unwrap_or(Path::new("."));
    writable(folder, "a folder", fs::Metadata::is_dir)
}

fn file_is_writable(path: &Path) -> Result<(), String> {
    match path.exists() {
        // Devices and pipes can be written too.
        true => writable(path, "a file", |metadata| !metadata.is_dir()),
        false => folder_is_writable(path),
    }
}

fn folder_is_writable(path: &Path) -> Result<(), String> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    writable(folder.unwrap_or(Path::new(".")), "a folder", fs::Metadata::is_dir)
}

fn writable(path: &Path, what: &str, is_right: impl Fn(&fs::Metadata) -> bool) -> Result<(), String> {
    let look = || -> io::Result<bool> {
        let metadata = fs::metadata(path)?;
        access(path, AccessFlags::W_OK)?;
        Ok(is_right(&metadata))
    };
    match look() {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!("{} is not {what}", path.display())),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn config(database: &Path) -> Config {
        Config::new(
            vec!["ipc:///tmp/x".parse().unwrap()],
            vec!["tcp://127.0.0.1:0".parse().unwrap()],
        )
        .with_journal(database)
    }

    #[test]
    fn what_cannot_work_is_named_by_its_option() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let good = config(&path("a/b/events.db"));
        assert_eq!(problems(&good, Path::new("-")), [""; 0]);
        assert!(!path("a").exists(), "nothing is made");

        fs::write(path("text"), "something else").unwrap();
        let mut bad = config(&path("text"));
        bad.bind.ipc_group = Some("no-such-group".into());
        bad.intake = vec!["ipc:///no-such-folder/intake".parse().unwrap()];
        let problems = problems(&bad, &path("no-such-folder/log"));
        let options: Vec<_> = problems
            .iter()
            .filter_map(|text| text.split_once(':'))
            .map(|(option, _)| option)
            .collect();
        assert_eq!(
            options,
            ["--ipc-group", "--intake", "--db", "--log-file"],
            "{problems:?}"
        );
        assert!(
            database_is_good(&path("text/events.db"))
                .unwrap_err()
                .contains("not a folder")
        );
        assert!(database_is_good(folder.path()).unwrap_err().contains("not a file"));
    }

    #[test]
    fn what_would_be_done_is_said() {
        let text = describe(&config(Path::new("/tmp/events.db")));
        assert_eq!(
            text,
            "intake   ipc:///tmp/x\n\
             publish  tcp://127.0.0.1:0 (this machine)\n\
             journal  /tmp/events.db (synchronous: full)\n\
             retained 30 days or 4096 MiB, whichever is first\n\
             history  this machine only; others: the last 3600s\n"
        );
        let mut config = config(Path::new("/tmp/events.db"));
        config.explain = Some(crate::config::ExplainConfig {
            identity: lavabus_lava::Identity::anonymous("https://lava.example.org/RPC2").unwrap(),
            pace: lavabus_lava::explain::Pace::default(),
        });
        let text = describe(&config);
        let line = "explain  asks https://lava.example.org/ (without a token: public jobs only)\n";
        assert!(text.ends_with(line), "{text}");
    }

    #[test]
    fn who_may_see_what_is_said_with_its_file() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let tokens = folder.path().join("tokens.yaml");
        fs::write(&tokens, "- name: a\n").unwrap();
        fs::set_permissions(&tokens, fs::Permissions::from_mode(0o644)).unwrap();
        let mut config = config(&folder.path().join("events.db"));
        config.http.listen = vec!["127.0.0.1:0".parse().unwrap()];
        config.authority = AuthorityConfig::Lava(Box::new(crate::config::LavaConfig {
            identity: lavabus_lava::Identity::anonymous("https://lava.example.org/RPC2").unwrap(),
            administrators: vec!["ada".to_owned()],
            tokens: Some(tokens),
            workers: None,
        }));
        let text = describe(&config);
        let line = "readers  what https://lava.example.org/ shows to each (administrators: ada)\ntokens   /";
        assert!(
            text.contains(line) && text.contains("others can read it: chmod 600"),
            "{text}"
        );
        let problems = problems(&config, Path::new("-"));
        assert!(
            problems[0].starts_with("--tokens: /") && problems[0].contains("line 1"),
            "{problems:?}"
        );
    }
}
