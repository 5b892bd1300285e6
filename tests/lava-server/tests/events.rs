//! The WebSocket, and the jobs that go on by themselves.
#![allow(clippy::unwrap_used, missing_docs)]

mod peer;

use std::sync::mpsc;
use std::time::Duration;

use lava_stand_in::{Device, Job, LavaServer, Options};
use peer::{ADMIN, LONG, basic, get, logged_in, next, next_frames, submit, web_socket};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

#[tokio::test]
async fn a_refusal_comes_after_the_upgrade() {
    let lava = LavaServer::start().await;
    let wrong = basic("admin", "wrong");
    for (headers, error) in [
        (
            vec![("authorization", "Bearer x")],
            "Only Basic authentication is supported",
        ),
        (
            vec![("authorization", "basic eA==")],
            "Only Basic authentication is supported",
        ),
        (vec![("authorization", "Basic !")], "Invalid basic authentication"),
        (vec![("authorization", "Basic eA==")], "Invalid basic authentication"),
        (vec![("authorization", wrong.as_str())], "Unknown user"),
        (
            vec![
                ("authorization", wrong.as_str()),
                ("lava-token", "worker-token-0123456789"),
                ("lava-host", "worker-01"),
            ],
            "Unknown user",
        ),
        (vec![("lava-token", "x"), ("lava-host", "no")], "Unknown worker"),
        (
            vec![("lava-token", "x"), ("lava-host", "worker-01")],
            "Invalid worker token",
        ),
    ] {
        let mut socket = web_socket(&lava, &headers).await;
        assert_eq!(
            next(&mut socket).await,
            Message::text(format!("{{\"error\": \"{error}\"}}")),
            "{headers:?}"
        );
        match next(&mut socket).await {
            Message::Close(Some(frame)) => assert_eq!(frame.code, CloseCode::Normal),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn everyone_gets_what_he_may_see() {
    let lava = LavaServer::start().await;
    lava.add_user("alice", "alice-token");
    lava.add_user("bob", "bob-token");
    let public = lava.add_job(Job::default());
    let private = lava.add_job(Job {
        submitter: "alice".into(),
        private: true,
        ..Job::default()
    });
    lava.add_device(Device {
        hostname: "secret".into(),
        private: true,
        ..Device::default()
    });
    let mut anonymous = logged_in(&lava, &[]).await;
    let mut alice = logged_in(&lava, &[("authorization", &basic("alice", "alice-token"))]).await;
    let mut bob = logged_in(&lava, &[("authorization", &basic("bob", "bob-token"))]).await;
    let mut admin = logged_in(&lava, &[("authorization", &basic("admin", LavaServer::ADMIN_TOKEN))]).await;
    let mut worker = logged_in(
        &lava,
        &[("lava-token", "worker-token-0123456789"), ("lava-host", "worker-01")],
    )
    .await;

    let hidden = lava.set_job(&private, "Running", "Unknown");
    let secret = lava.set_device("secret", "Idle", "Bad");
    let device = lava.set_device("qemu-01", "Idle", "Good");
    let host = lava.set_worker("worker-01", "Online", "Active");
    let shown = lava.set_job(&public, "Running", "Unknown");

    let (hidden, secret, device, host, shown) = (&hidden, &secret, &device, &host, &shown);
    for (name, socket, expected) in [
        ("anonymous", &mut anonymous, vec![device, host, shown]),
        ("alice", &mut alice, vec![hidden, device, host, shown]),
        ("bob", &mut bob, vec![device, host, shown]),
        ("admin", &mut admin, vec![hidden, secret, device, host, shown]),
        ("worker", &mut worker, vec![hidden, shown]),
    ] {
        for frames in expected {
            assert_eq!(next_frames(socket).await, *frames, "{name}");
        }
    }
    assert!(
        shown[4].contains("\"device\": \"qemu-01\", \"worker\": \"worker-01\""),
        "{}",
        shown[4]
    );
}

#[tokio::test]
async fn sockets_are_closed_on_demand_and_at_the_end() {
    let lava = LavaServer::start().await;
    let mut first = logged_in(&lava, &[]).await;
    lava.close_web_sockets();
    assert!(matches!(next(&mut first).await, Message::Close(Some(frame)) if frame.code == CloseCode::Away));
    let mut second = web_socket(&lava, &[]).await;
    drop(lava);
    let ended = tokio::time::timeout(LONG, async {
        while let Some(Ok(message)) = futures_util::StreamExt::next(&mut second).await {
            assert!(message.is_close(), "{message:?}");
        }
    });
    ended.await.unwrap();
}

#[tokio::test]
async fn paths_of_the_web_socket() {
    let lava = LavaServer::start().await;
    assert_eq!(get(&lava, "/ws", None).await.status, 404);
    assert_eq!(get(&lava, "/ws/v1/healthz", None).await.body, "{\"health\": \"good\"}");
    assert!((400..500).contains(&get(&lava, "/ws/", None).await.status));
    let without = LavaServer::start_with(Options {
        web_socket: false,
        ..Options::default()
    })
    .await;
    assert_eq!(get(&without, "/ws/", None).await.status, 404);
}

#[tokio::test]
async fn an_unheard_change_is_a_change() {
    let lava = LavaServer::start_with(Options {
        topic: "org.example.lab".into(),
        ..Options::default()
    })
    .await;
    let (heard, events) = mpsc::channel();
    lava.on_event(move |frames| heard.send(frames.clone()).unwrap());
    let id = lava.add_job(Job::default());
    let lost = lava.set_job_quietly(&id, "Running", "Unknown");
    assert_eq!(lost[0], "org.example.lab.testjob");
    assert_eq!(lava.job(&id).state, "Running");
    let told = lava.set_job(&id, "Finished", "Complete");
    assert_eq!(events.try_iter().collect::<Vec<_>>(), [told]);
    let job = lava.job(&id);
    assert!(job.start_time.unwrap() <= job.end_time.unwrap());
}

/// States and healths of the events of one job, until it is Finished.
async fn walk(socket: &mut peer::Socket) -> Vec<(String, String)> {
    let mut seen = Vec::new();
    loop {
        let frames = next_frames(socket).await;
        let data: serde_json::Value = serde_json::from_str(&frames[4]).unwrap();
        let text = |key: &str| data[key].as_str().unwrap().to_owned();
        seen.push((text("state"), text("health")));
        if text("state") == "Finished" {
            return seen;
        }
    }
}

#[tokio::test]
async fn a_submitted_job_walks_by_itself() {
    let lava = LavaServer::start().await;
    let mut socket = logged_in(&lava, &[]).await;
    let step = Duration::from_millis(1);
    lava.auto_run(Some(&[
        (step, "Scheduled", "Unknown"),
        (step, "Running", "Unknown"),
        (step, "Finished", "Incomplete"),
    ]));
    submit(&lava, "{job_name: x, visibility: public}", Some(ADMIN)).await;
    let expected = [
        ("Submitted", "Unknown"),
        ("Scheduled", "Unknown"),
        ("Running", "Unknown"),
        ("Finished", "Incomplete"),
    ];
    assert_eq!(
        walk(&mut socket).await,
        expected.map(|(state, health)| (state.to_owned(), health.to_owned()))
    );
}

#[tokio::test]
async fn a_cancelled_job_does_not_walk_on() {
    let lava = LavaServer::start().await;
    let mut socket = logged_in(&lava, &[]).await;
    let id = lava.add_job(Job::default());
    lava.play(
        &id,
        &[
            (Duration::ZERO, "Running", "Unknown"),
            (Duration::from_secs(3_600), "Finished", "Complete"),
        ],
    );
    assert!(next_frames(&mut socket).await[4].contains("\"Running\""));
    get(&lava, &format!("/api/v0.2/jobs/{id}/cancel/"), Some(ADMIN)).await;
    let expected = [("Canceling", "Unknown"), ("Finished", "Canceled")];
    assert_eq!(
        walk(&mut socket).await,
        expected.map(|(state, health)| (state.to_owned(), health.to_owned()))
    );
}
