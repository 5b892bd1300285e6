//! The tokens of LAVA's workers are read from its database, which may be away.
#![allow(clippy::unwrap_used)]

mod lab;
mod postgres;

use std::time::Duration;

use lava_publisher::authority::{Authority, Credentials, Reader, Refused, Sight, Subject};
use lava_publisher::{AuthorityConfig, LavaConfig};
use lava_stand_in::LavaServer;
use tempfile::TempDir;

use crate::lab::{advance, available, worker};
use crate::postgres::Postgres;

fn authority(lava: &LavaServer, folder: &TempDir, password: &str) -> Authority {
    let dsn = folder.path().join("dsn");
    let host = folder.path().display();
    let text = format!("host={host} user=reader dbname=lavaserver password={password}\n");
    std::fs::write(&dsn, text).unwrap();
    lab::authority(LavaConfig {
        workers: Some(dsn),
        ..lab::config(lava)
    })
}

async fn try_in(authority: &Authority, host: &str, token: &str) -> Result<Reader, Refused> {
    authority.authenticate(&worker(host, token)).await
}

fn sight(reader: &Reader, worker: &str) -> Sight {
    let (topic, data) = ("x.testjob", format!(r#"{{"job": 1, "worker": "{worker}"}}"#));
    reader.sight_of_event(&Subject::of(topic, &data), topic, &data)
}

#[tokio::test]
async fn a_worker_comes_in_with_its_token_and_goes_when_that_is_changed() {
    let (lava, folder) = (LavaServer::start().await, TempDir::new().unwrap());
    let postgres = Postgres::start(folder.path());
    postgres.put("worker-01", "token-1");
    postgres.put("worker-02", "token-2");
    postgres.put("worker-03", "");
    let authority = authority(&lava, &folder, "s3cret");
    let reader = try_in(&authority, "worker-01", "token-1").await.unwrap();
    assert_eq!((reader.worker(), reader.name()), (Some("worker-01"), None));
    assert_eq!(
        (sight(&reader, "worker-01"), sight(&reader, "worker-02")),
        (Sight::Shown, Sight::Hidden)
    );
    assert_eq!(reader.sight(&Subject::Worker("worker-01".to_owned())), Sight::Hidden);
    for (host, token, expected) in [
        ("worker-01", "token-2", Refused::InvalidWorkerToken),
        ("worker-01", "", Refused::InvalidWorkerToken),
        ("worker-03", "", Refused::UnknownWorker),
        ("no-worker", "token-1", Refused::UnknownWorker),
        ("", "", Refused::UnknownWorker),
        ("' OR ''='", "token-1", Refused::UnknownWorker),
    ] {
        assert_eq!(
            try_in(&authority, host, token).await.map(drop),
            Err(expected),
            "{host} {token}"
        );
    }
    let other = try_in(&authority, "worker-02", "token-2").await.unwrap();
    tokio::task::yield_now().await;
    postgres.put("worker-01", "changed");
    advance(Duration::from_secs(31)).await;
    reader.withdrawn().await;
    assert_eq!(sight(&reader, "worker-01"), Sight::Hidden);
    assert_eq!(sight(&other, "worker-02"), Sight::Shown);
}

#[tokio::test]
async fn without_the_database_no_worker_is_let_in_and_after_a_minute_nothing_is_shown() {
    let (lava, folder) = (LavaServer::start().await, TempDir::new().unwrap());
    let postgres = Postgres::start(folder.path());
    postgres.put("worker-01", "token-1");
    let authority = authority(&lava, &folder, "s3cret");
    available(&authority, true).await;
    let reader = try_in(&authority, "worker-01", "token-1").await.unwrap();
    tokio::task::yield_now().await;
    drop(postgres);
    let refused = try_in(&authority, "worker-01", "token-1").await.map(drop);
    assert_eq!(refused, Err(Refused::Unavailable));
    assert!(!authority.is_available());
    assert_eq!(sight(&reader, "worker-01"), Sight::Shown);
    // Others do not need it.
    assert!(authority.authenticate(&Credentials::Anonymous).await.is_ok());
    advance(Duration::from_secs(60)).await;
    assert_eq!(sight(&reader, "worker-01"), Sight::Hidden);
    assert!(!reader.is_withdrawn());

    let postgres = Postgres::start(folder.path());
    postgres.put("worker-01", "token-1");
    available(&authority, true).await;
    while sight(&reader, "worker-01") != Sight::Shown {
        advance(Duration::from_millis(100)).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(try_in(&authority, "worker-01", "token-1").await.is_ok());
}

#[tokio::test]
async fn a_database_that_refuses_us_lets_nobody_in() {
    let (lava, folder) = (LavaServer::start().await, TempDir::new().unwrap());
    let postgres = Postgres::start(folder.path());
    postgres.put("worker-01", "token-1");
    let authority = authority(&lava, &folder, "wrong");
    let refused = try_in(&authority, "worker-01", "token-1").await.map(drop);
    assert_eq!(refused, Err(Refused::Unavailable));
    assert!(!authority.is_available());
}

#[tokio::test]
async fn a_dsn_is_never_told() {
    let (lava, folder) = (LavaServer::start().await, TempDir::new().unwrap());
    let dsn = folder.path().join("dsn");
    for text in [
        "",
        "password=s3cret",
        "host=/run s3cret",
        "postgresql://reader:s3cret",
        "port=s3cret host=x",
    ] {
        std::fs::write(&dsn, text).unwrap();
        let config = LavaConfig {
            workers: Some(dsn.clone()),
            ..lab::config(&lava)
        };
        let config = AuthorityConfig::Lava(Box::new(config));
        let error = match Authority::new(&config) {
            Ok(authority) => panic!("{text}: {authority:?}"),
            Err(error) => error.to_string(),
        };
        assert!(
            error.contains("line 1: expected how to reach PostgreSQL"),
            "{text}: {error}"
        );
        assert!(!error.contains("s3cret"), "{error}");
    }
    let authority = authority(&lava, &folder, "s3cret");
    assert!(!format!("{authority:?}").contains("s3cret"));
}

#[tokio::test]
async fn a_workers_wrong_tokens_are_one_question() {
    let (lava, folder) = (LavaServer::start().await, TempDir::new().unwrap());
    let postgres = Postgres::start(folder.path());
    postgres.put("worker-01", "token-1");
    let authority = authority(&lava, &folder, "s3cret");
    let mut guessing = tokio::task::JoinSet::new();
    for number in 0..50 {
        let authority = authority.clone();
        guessing.spawn(async move { try_in(&authority, "worker-01", &number.to_string()).await.map(drop) });
    }
    let guessed = guessing.join_all().await;
    assert!(guessed.iter().all(|guess| *guess == Err(Refused::InvalidWorkerToken)));
    // Those that had their turn before the first answer.
    assert!(postgres.asked("worker-01") <= 8, "{}", postgres.asked("worker-01"));
    for _ in 0..3 {
        assert_eq!(
            try_in(&authority, "no-worker", "x").await.map(drop),
            Err(Refused::UnknownWorker)
        );
    }
    assert_eq!(postgres.asked("no-worker"), 1);
    // The right one is let in, and a wrong one that has become right a moment later.
    assert!(try_in(&authority, "worker-01", "token-1").await.is_ok());
    postgres.put("worker-01", "token-2");
    let refused = try_in(&authority, "worker-01", "token-2").await.map(drop);
    assert_eq!(refused, Err(Refused::InvalidWorkerToken));
    advance(Duration::from_secs(3)).await;
    assert!(try_in(&authority, "worker-01", "token-2").await.is_ok());
}
