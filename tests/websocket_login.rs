//! The login of `/ws/`: every row of LAVA-CONTRACT §3's table, with LAVA as the authority.

#![allow(clippy::unwrap_used)]

mod lab;

use lab::{Lab, Message, RunningPublisher, StockPush, WebSocket};
use lava_publisher::{AuthorityConfig, LavaConfig};
use lava_stand_in::{Failure, Job, LavaServer};
use lavabus_lava::Identity;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

/// `ada:ada-token`
const ADA: (&str, &str) = ("authorization", "Basic YWRhOmFkYS10b2tlbg==");
/// The token is `one`.
const TOKENS: &str = "\
- name: worker-1
  sha256: 7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed
  role: worker
";

async fn start() -> (LavaServer, RunningPublisher) {
    let lava = LavaServer::start().await;
    lava.add_user("ada", "ada-token");
    lava.add_user("bob", "bob-token");
    lava.add_job(Job::default());
    let lab = Lab::new().journal().http();
    let tokens = lab.folder().join("tokens.yaml");
    std::fs::write(&tokens, TOKENS).unwrap();
    let authority = LavaConfig {
        identity: Identity::anonymous(&lava.uri()).unwrap(),
        administrators: Vec::new(),
        tokens: Some(tokens),
        workers: None,
    };
    let lab = lab.configure(|config| config.authority = AuthorityConfig::Lava(Box::new(authority)));
    (lava, lab.start().await)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_let_in_is_told_in_lavas_words() {
    let (_lava, publisher) = start().await;
    let host = |host: &'static str| ("lava-host", host);
    let token = |token: &'static str| ("lava-token", token);
    let basic = |encoded: &'static str| ("authorization", encoded);
    for (headers, expected) in [
        (
            vec![basic("Bearer ada-token")],
            "Only Basic authentication is supported",
        ),
        (vec![basic("Token ada-token")], "Only Basic authentication is supported"),
        (
            vec![basic("basic YWRhOmFkYS10b2tlbg==")],
            "Only Basic authentication is supported",
        ),
        (vec![basic("Basic %%%")], "Invalid basic authentication"),
        (vec![basic("Basic YWRh")], "Invalid basic authentication"),
        // ada:wrong, nobody:ada-token, and bob's token as ada's.
        (vec![basic("Basic YWRhOndyb25n")], "Unknown user"),
        (vec![basic("Basic bm9ib2R5OmFkYS10b2tlbg==")], "Unknown user"),
        (vec![basic("Basic YWRhOmJvYi10b2tlbg==")], "Unknown user"),
        (vec![host("worker-9"), token("one")], "Unknown worker"),
        (vec![token("one")], "Unknown worker"),
        (vec![host("worker-1"), token("two")], "Invalid worker token"),
        // Basic counts before the other two.
        (
            vec![basic("Basic YWRhOndyb25n"), host("worker-1"), token("one")],
            "Unknown user",
        ),
    ] {
        let mut client = WebSocket::connect(publisher.http(), &headers).await;
        let said: serde_json::Value = serde_json::from_str(&client.text().await).unwrap();
        assert_eq!(said, serde_json::json!({"error": expected}), "{headers:?}");
        assert_eq!(client.closed().await.unwrap().code, CloseCode::Normal, "{headers:?}");
    }
    assert_eq!(publisher.counters().authentication_failures.get(), 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_a_worker_and_nobody_get_what_is_theirs() {
    let (_lava, publisher) = start().await;
    let mut anonymous = WebSocket::connect(publisher.http(), &[]).await;
    let mut ada = WebSocket::connect(publisher.http(), &[ADA]).await;
    let worker = [("lava-host", "worker-1"), ("lava-token", "one")];
    let mut worker_1 = WebSocket::connect(publisher.http(), &worker).await;
    let mut ada_there = WebSocket::connect(publisher.http(), &[&[ADA], &worker[..]].concat()).await;
    publisher.websockets(4).await;
    let push = StockPush::connect(publisher.intake());
    let job = |worker: &str, state: &str| {
        let data = serde_json::json!({"job": 1, "state": state, "health": "Unknown", "worker": worker,
            "description": "boot", "submitter": "admin", "priority": 50, "health_check": false,
            "submit_time": "2026-11-21T05:01:05+00:00"});
        Message::sent_at(jiff::Timestamp::now(), "testjob", &data)
    };
    let sent = [
        job("worker-2", "Scheduled"),
        job("worker-1", "Running"),
        Message::test_event(1),
        job("worker-1", "Finished"),
    ];
    // The event of the test shell is about a job that is not there.
    push.send_all(&sent);
    let public = [sent[0].clone(), sent[1].clone(), sent[3].clone()];
    for client in [&mut anonymous, &mut ada, &mut ada_there] {
        assert_eq!(client.take(3).await, public);
    }
    assert_eq!(worker_1.take(2).await, [sent[1].clone(), sent[3].clone()]);
}

/// Rather nobody than somebody who may not: and it can be tried again.
#[tokio::test(flavor = "multi_thread")]
async fn while_lava_is_away_nobody_who_says_his_name_is_let_in() {
    let (lava, publisher) = start().await;
    lava.fail(Failure::Status(502), "/api", usize::MAX);
    match WebSocket::try_connect(publisher.http(), &[ADA]).await {
        Err(Error::Http(response)) => {
            assert_eq!(response.status(), 503);
            assert!(response.headers().contains_key("retry-after"));
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("let in"),
    }
    // LAVA-CONTRACT §6, row 5: the stream of those who need nobody's answer goes on.
    let sub = lab::StockSub::connect(publisher.publish(), &[""]);
    publisher.subscribers(1).await;
    let push = StockPush::connect(publisher.intake());
    let device = Message::device("qemu-01", "Running");
    push.send(&device);
    assert_eq!(sub.next(), device);
    assert!(publisher.health().is_ready());
    lava.heal();
    let mut ada = loop {
        if let Ok(client) = WebSocket::try_connect(publisher.http(), &[ADA]).await {
            break client;
        }
    };
    publisher.websockets(1).await;
    let job = Message::job(1, "Running", "Unknown");
    push.send(&job);
    assert_eq!(ada.next().await, job);
}
