//! A file of tokens decides who may see what; so does nobody, where all is open.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::Duration;

use lava_publisher::AuthorityConfig;
use lava_publisher::authority::{Authority, Credentials, Reader, Refused, Secret, Sight, Subject};
use lavabus_protocol::Kind;

/// The tokens are `one`, `two` and `three`.
const TOKENS: &str = "\
- name: ci
  sha256: 7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed
  role: reader
  emit: [stage]
- name: boss
  sha256: 3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3
  role: administrator
- name: worker-01
  sha256: 8b5b9db0c13db24256c829aa364aa90c6d2eba318b9232a4ab9313b954d3555f
  role: worker
";

fn token(text: &str) -> Credentials {
    Credentials::Token(Secret::new(text))
}

fn worker(host: &str, token: &str) -> Credentials {
    Credentials::Worker {
        host: host.to_owned(),
        token: Secret::new(token),
    }
}

fn file(folder: &tempfile::TempDir) -> std::path::PathBuf {
    let path = folder.path().join("tokens.yaml");
    std::fs::write(&path, TOKENS).unwrap();
    path
}

fn sight_of_job(reader: &Reader, worker: &str) -> Sight {
    let (topic, data) = ("x.testjob", format!(r#"{{"job": 1, "worker": "{worker}"}}"#));
    reader.sight_of_event(&Subject::of(topic, &data), topic, &data)
}

#[tokio::test]
async fn who_has_a_token_sees_all_and_others_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(&AuthorityConfig::Tokens { tokens: file(&folder) }).unwrap();
    let nobody = authority.authenticate(&Credentials::Anonymous).await.unwrap();
    let ci = authority.authenticate(&token("one")).await.unwrap();
    let boss = Credentials::User {
        user: "boss".to_owned(),
        token: Secret::new("two"),
    };
    let boss = authority.authenticate(&boss).await.unwrap();
    for subject in [Subject::Unbound, Subject::Device("d".to_owned())] {
        assert_eq!(nobody.sight(&subject), Sight::Hidden);
        assert_eq!(nobody.ask(&subject).await, Sight::Hidden);
        assert_eq!(ci.sight(&subject), Sight::Shown);
        assert_eq!(boss.sight(&subject), Sight::Shown);
    }
    assert!(!nobody.is_administrator() && !ci.is_administrator() && boss.is_administrator());
    assert!(ci.may_emit(Kind::Stage) && !ci.may_emit(Kind::Fault) && !ci.may_emit(Kind::Testjob));
    assert!(!nobody.may_emit(Kind::Stage) && !boss.may_emit(Kind::Stage));
    assert_eq!(
        (nobody.name(), ci.name(), boss.name()),
        (None, Some("ci"), Some("boss"))
    );
    assert!(authority.is_available());
    for wrong in [token("three"), token(""), token("no")] {
        let refused = authority.authenticate(&wrong).await.map(drop);
        assert_eq!(refused, Err(Refused::UnknownUser));
    }
}

#[tokio::test]
async fn a_worker_sees_its_own_jobs() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(&AuthorityConfig::Tokens { tokens: file(&folder) }).unwrap();
    let reader = authority.authenticate(&worker("worker-01", "three")).await.unwrap();
    assert_eq!((reader.worker(), reader.name()), (Some("worker-01"), None));
    assert_eq!(sight_of_job(&reader, "worker-01"), Sight::Shown);
    assert_eq!(sight_of_job(&reader, "worker-02"), Sight::Hidden);
    assert_eq!(reader.sight(&Subject::Unbound), Sight::Hidden);
    assert!(!reader.is_administrator() && !reader.may_emit(Kind::Stage));
    for (host, token, expected) in [
        ("worker-02", "three", Refused::UnknownWorker),
        ("ci", "one", Refused::UnknownWorker),
        ("worker-01", "one", Refused::InvalidWorkerToken),
    ] {
        let refused = authority.authenticate(&worker(host, token)).await.map(drop);
        assert_eq!(refused, Err(expected), "{host} {token}");
    }
}

#[tokio::test]
async fn a_token_taken_out_of_the_file_ends_its_connections() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder);
    let authority = Authority::new(&AuthorityConfig::Tokens { tokens: path.clone() }).unwrap();
    let (ci, boss, w) = (
        authority.authenticate(&token("one")).await.unwrap(),
        authority.authenticate(&token("two")).await.unwrap(),
        authority.authenticate(&worker("worker-01", "three")).await.unwrap(),
    );
    let (_, only_boss) = TOKENS.split_once("- name: boss").unwrap();
    let (only_boss, _) = only_boss.split_once("- name: worker").unwrap();
    std::fs::write(&path, format!("- name: boss{only_boss}")).unwrap();
    // So that who reads the file has begun to wait.
    tokio::task::yield_now().await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(6)).await;
    tokio::time::resume();
    ci.withdrawn().await;
    w.withdrawn().await;
    assert!(ci.is_withdrawn() && w.is_withdrawn() && !boss.is_withdrawn());
    assert_eq!(ci.sight(&Subject::Unbound), Sight::Hidden);
    assert!(!ci.may_emit(Kind::Stage));
    assert_eq!(sight_of_job(&w, "worker-01"), Sight::Hidden);
    let refused = authority.authenticate(&token("one")).await.map(drop);
    assert_eq!(refused, Err(Refused::UnknownUser));
}

#[tokio::test]
async fn where_all_is_open_nobody_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    for tokens in [None, Some(file(&folder))] {
        let has_file = tokens.is_some();
        let authority = Authority::new(&AuthorityConfig::Open { tokens }).unwrap();
        for credentials in [Credentials::Anonymous, token("no"), token("one")] {
            let reader = authority.authenticate(&credentials).await.unwrap();
            assert_eq!(reader.sight(&Subject::Unbound), Sight::Shown);
            assert!(reader.is_administrator());
            // To hand in an event takes a token.
            assert_eq!(reader.may_emit(Kind::Stage), has_file && credentials == token("one"));
        }
        let worker = authority.authenticate(&worker("w", "no")).await.unwrap();
        assert_eq!(sight_of_job(&worker, "w"), Sight::Shown);
        assert_eq!(sight_of_job(&worker, "worker-02"), Sight::Hidden);
        assert!(!worker.is_administrator());
    }
}

#[tokio::test]
async fn a_file_that_is_not_good_is_said_at_the_start() {
    let tokens = Path::new("/no/such/tokens.yaml").to_owned();
    let error = Authority::new(&AuthorityConfig::Tokens { tokens })
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("--tokens: /no/such/tokens.yaml: No such file"),
        "{error}"
    );
}
