//! Whatever is asked for, and by however many: who follows the stream loses nothing by it.

#![allow(clippy::unwrap_used)]

mod lab;

use std::time::Duration;

use lab::{Exposition, HttpClient, LONG, Lab, Message, RunningPublisher, StockPush, StockSub, WebSocket, eventually};
use lava_publisher::{AuthorityConfig, LavaConfig};
use lava_stand_in::{Failure, Job, LavaServer};
use lavabus_lava::Identity;
use tokio::task::JoinSet;

/// `ada:ada-token`
const ADA: (&str, &str) = ("authorization", "Basic YWRhOmFkYS10b2tlbg==");
/// More than LAVA answers within 5 s, if it is asked 16 at a time.
const FLOOD: usize = 200;

/// A publisher, with these public endpoints, and its LAVA, which has a public job, 1, and a private one of ada's, 2.
async fn start(public: &[&str]) -> (RunningPublisher, LavaServer) {
    let lava = LavaServer::start().await;
    lava.add_user("ada", "ada-token");
    lava.add_job(Job::default());
    lava.add_job(Job {
        submitter: "ada".to_owned(),
        private: true,
        ..Job::default()
    });
    let authority = LavaConfig {
        identity: Identity::anonymous(&lava.uri()).unwrap(),
        administrators: Vec::new(),
        tokens: None,
        workers: None,
    };
    let lab = Lab::new().journal().http().configure(|config| {
        config.authority = AuthorityConfig::Lava(Box::new(authority));
        config.publish_public = public.iter().map(|endpoint| endpoint.parse().unwrap()).collect();
    });
    (lab.start().await, lava)
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_about_unknown_jobs_take_no_event_from_who_is_logged_in() {
    let (publisher, lava) = start(&["tcp://127.0.0.1:0"]).await;
    let mut ada = WebSocket::connect(publisher.http(), &[ADA]).await;
    publisher.websockets(1).await;
    let public = StockSub::connect(publisher.publish_public(), &[""]);
    publisher.subscribers(1).await;
    let push = StockPush::connect(publisher.intake());
    lava.fail(Failure::Delay(Duration::from_secs(1)), "/api/v0.2/jobs/", usize::MAX);

    let (anonymous, mut flood) = (publisher.client(), JoinSet::new());
    for id in 0..FLOOD {
        let client = anonymous.clone();
        flood.spawn(async move { client.get(&format!("/api/v1/jobs/{}", 1_000 + id)).await });
    }
    let is_flooded = || lava.requests().iter().any(|request| request.contains("/jobs/1"));
    eventually("LAVA is asked about them", is_flooded).await;
    // Those that found no room: nobody waits for them.
    let mut refused = 0;
    while refused < FLOOD / 4 {
        let answer = flood.join_next().await.expect("some are refused").unwrap();
        if answer.status != 404 {
            assert_eq!(answer.problem(503), "too many ask at once: try again");
            refused += 1;
        }
    }
    let figures = Exposition::of(publisher.http()).await;
    assert!(figures.value("lavabus_lookups_refused_total", &[]) >= refused as f64);
    let sent = [
        Message::job(1, "Running", "Unknown"),
        Message::job(2, "Running", "Unknown"),
        Message::device("qemu-01", "Running"),
    ];
    push.send_all(&sent);
    assert_eq!(ada.take(3).await, sent);
    assert_eq!([public.next(), public.next()], [sent[0].clone(), sent[2].clone()]);
    // Nor does she wait with them for what she requests herself.
    let client = publisher.client().with_token("ada-token");
    let page = client.get("/api/v1/events?kind=testjob").await.json();
    assert_eq!(page["events"].as_array().map(Vec::len), Some(2), "{page}");
}

/// Who begins long ago has other questions than who hears what comes now.
#[tokio::test(flavor = "multi_thread")]
async fn streams_of_the_past_delay_no_news() {
    let (publisher, lava) = start(&[]).await;
    let push = StockPush::connect(publisher.intake());
    let past: Vec<Message> = (0..400)
        .map(|id| Message::job(1_000 + id, "Running", "Unknown"))
        .collect();
    push.send_all(&past);
    publisher.published(400).await;
    let mut ada = WebSocket::connect(publisher.http(), &[ADA]).await;
    publisher.websockets(1).await;
    // LAVA is not done with all of them before the test gives up.
    lava.fail(Failure::Delay(Duration::from_secs(3)), "/api/v0.2/jobs/", usize::MAX);
    let (client, mut streams) = (publisher.client(), Vec::new());
    for _ in 0..60 {
        let path = "/api/v1/stream?after=00000000-0000-1000-8000-000000000000";
        streams.push(client.stream(path, None).await);
    }
    let asked = || {
        lava.requests()
            .iter()
            .filter(|request| request.contains("/jobs/1"))
            .count()
    };
    // It has answered the first of them: by now all streams have theirs.
    eventually("LAVA is asked about them", || asked() > 16).await;
    let sent = [
        Message::job(1, "Running", "Unknown"),
        Message::device("qemu-01", "Running"),
    ];
    push.send_all(&sent);
    let taken = tokio::time::timeout(LONG, ada.take(2)).await.expect("both");
    assert_eq!(taken, sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_a_job_that_is_to_come_does_not_hide_it() {
    let (publisher, lava) = start(&[]).await;
    let mut anonymous = WebSocket::connect(publisher.http(), &[]).await;
    publisher.websockets(1).await;
    let push = StockPush::connect(publisher.intake());
    // That it is not there is remembered, the longer the more often it was asked for.
    let client: HttpClient = publisher.client();
    assert_eq!(client.get("/api/v1/jobs/3").await.status, 404);
    lava.add_job(Job {
        id: "3".to_owned(),
        ..Job::default()
    });
    let sent = [
        Message::job(3, "Submitted", "Unknown"),
        Message::job(1, "Running", "Unknown"),
    ];
    push.send_all(&sent);
    assert_eq!(anonymous.take(2).await, sent);
}
