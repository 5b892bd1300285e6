//! A private job leaves by no way out: every way, with every kind of reader, and with every kind of event that names it.
//!
//! Row 9 of LAVA-CONTRACT §6 for the second port and the public endpoint.

#![allow(clippy::unwrap_used)]

mod lab;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use jiff::Timestamp;
use lab::{HttpClient, LONG, Lab, Message, RunningPublisher, StockPush, StockSub, WebSocket};
use lava_publisher::{AuthorityConfig, LavaConfig};
use lava_stand_in::{Device, Job, LavaServer};
use lavabus_lava::Identity;
use reqwest::Response;
use serde_json::{Value, json};

/// Stands in everything that comes out of the private job.
const SECRET: &str = "s3cret-project";
/// Stands in what is about nothing that LAVA could be asked for.
const UNBOUND: &str = "unbound-service";
/// Stands in the last event, which is public.
const LAST: &str = "the-last-one";

/// Whoever asks: how it logs in on `/ws/`, and at the other paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Anonymous,
    /// Whose job it is.
    Ada,
    Bob,
    /// An administrator.
    Root,
    /// Who hands in events: in the file of tokens, and nobody to LAVA.
    Ci,
    /// On which it runs,
    Worker1,
    /// and another one.
    Worker2,
}

impl Who {
    const ALL: [Who; 7] = [
        Who::Anonymous,
        Who::Ada,
        Who::Bob,
        Who::Root,
        Who::Ci,
        Who::Worker1,
        Who::Worker2,
    ];
    /// Those who may ask elsewhere than at `/ws/`.
    const PEOPLE: [Who; 5] = [Who::Anonymous, Who::Ada, Who::Bob, Who::Root, Who::Ci];

    fn web_socket(self) -> Vec<(&'static str, &'static str)> {
        match self {
            Who::Anonymous => vec![],
            // ada:ada-token, bob:bob-token, root:root-token, ci:three
            Who::Ada => vec![("authorization", "Basic YWRhOmFkYS10b2tlbg==")],
            Who::Bob => vec![("authorization", "Basic Ym9iOmJvYi10b2tlbg==")],
            Who::Root => vec![("authorization", "Basic cm9vdDpyb290LXRva2Vu")],
            Who::Ci => vec![("authorization", "Basic Y2k6dGhyZWU=")],
            Who::Worker1 => vec![("lava-host", "worker-1"), ("lava-token", "one")],
            Who::Worker2 => vec![("lava-host", "worker-2"), ("lava-token", "two")],
        }
    }

    fn token(self) -> Option<&'static str> {
        match self {
            Who::Ada => Some("ada-token"),
            Who::Bob => Some("bob-token"),
            Who::Root => Some("root-token"),
            Who::Ci => Some("three"),
            _ => None,
        }
    }

    fn sees_the_secret(self) -> bool {
        matches!(self, Who::Ada | Who::Root)
    }
}

struct Scene {
    // In this order: it asks LAVA until its end.
    publisher: RunningPublisher,
    lava: LavaServer,
    private: String,
    public: String,
}

impl Scene {
    async fn start() -> Scene {
        let lava = LavaServer::start().await;
        for name in ["ada", "bob", "root"] {
            lava.add_user(name, &format!("{name}-token"));
        }
        lava.add_device(Device {
            hostname: "qemu-01".to_owned(),
            ..Device::default()
        });
        let public = lava.add_job(Job::default());
        let private = lava.add_job(Job {
            submitter: "ada".to_owned(),
            private: true,
            ..Job::default()
        });
        let lab = Lab::new().journal().http();
        let tokens = lab.folder().join("tokens.yaml");
        // The tokens are `one`, `two` and `three`.
        let entries = "\
- name: worker-1
  sha256: 7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed
  role: worker
- name: worker-2
  sha256: 3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3
  role: worker
- name: ci
  sha256: 8b5b9db0c13db24256c829aa364aa90c6d2eba318b9232a4ab9313b954d3555f
  role: reader
  emit: [stage]
";
        std::fs::write(&tokens, entries).unwrap();
        let authority = LavaConfig {
            identity: Identity::anonymous(&lava.uri()).unwrap(),
            administrators: vec!["root".to_owned()],
            tokens: Some(tokens),
            workers: None,
        };
        let publisher = lab
            .configure(|config| {
                config.authority = AuthorityConfig::Lava(Box::new(authority));
                config.publish_public = vec!["tcp://127.0.0.1:0".parse().unwrap()];
            })
            .start()
            .await;
        Scene {
            publisher,
            lava,
            private,
            public,
        }
    }

    fn http(&self) -> SocketAddr {
        self.publisher.http()
    }

    /// Every kind of event out of the private job, what nobody can be asked for, and public ones around them.
    fn events(&self) -> Vec<Message> {
        let (private, public): (u64, u64) = (self.private.parse().unwrap(), self.public.parse().unwrap());
        let event = |kind: &str, data: serde_json::Value| Message::sent_at(Timestamp::now(), kind, &data);
        let job = |id: u64, state: &str, description: &str, worker: &str| {
            event(
                "testjob",
                serde_json::json!({"job": id, "state": state, "health": "Unknown", "description": description,
                    "submitter": "ada", "priority": 50, "health_check": false, "device": "qemu-01", "worker": worker,
                    "submit_time": "2026-11-21T05:01:05+00:00"}),
            )
        };
        vec![
            job(public, "Running", "public", "worker-2"),
            job(private, "Running", SECRET, "worker-1"),
            event("event", serde_json::json!({"message": SECRET, "job": private})),
            event(
                "attempt",
                serde_json::json!({"device": "qemu-01", "job_id": private, "status": "Failed", "comment": SECRET,
                    "error_msg": SECRET}),
            ),
            event(
                "fault",
                serde_json::json!({"subject": format!("job/{private}"), "message": SECRET, "details": SECRET}),
            ),
            event(
                "fault",
                serde_json::json!({"subject": "device/qemu-01", "job": private, "message": SECRET}),
            ),
            event(
                "result",
                serde_json::json!({"job": private, "testcase": SECRET, "outcome": "FAILED"}),
            ),
            event(
                "stage",
                serde_json::json!({"service": SECRET, "job": private, "request_id": SECRET, "status": "received"}),
            ),
            event(
                "stage",
                serde_json::json!({"service": UNBOUND, "request_id": "r-1", "status": "received"}),
            ),
            // An object that does not exist.
            job(999_999, "Submitted", SECRET, "worker-9"),
            Message::device("qemu-01", "Running"),
            job(public, "Finished", LAST, "worker-2"),
            job(private, "Finished", SECRET, "worker-1"),
            event("event", serde_json::json!({"message": LAST, "job": public})),
        ]
    }

    async fn get(&self, who: Who, path: &str) -> (u16, String) {
        let mut request = reqwest::Client::new().get(format!("http://{}{path}", self.http()));
        if let Some(token) = who.token() {
            request = request.header("authorization", format!("Token {token}"));
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// Opens a stream: what is published from now on comes by it.
    async fn open(&self, who: Who, path: &str) -> Response {
        let mut request = reqwest::Client::new().get(format!("http://{}{path}", self.http()));
        if let Some(token) = who.token() {
            request = request.header("authorization", format!("Token {token}"));
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200, "{who:?} {path}");
        answer
    }

    async fn stream(&self, who: Who, path: &str) -> String {
        until_the_last(self.open(who, path).await).await
    }
}

/// What comes by a stream until the last event.
async fn until_the_last(mut stream: Response) -> String {
    let mut text = Vec::new();
    let read = async {
        while !is_over(&String::from_utf8_lossy(&text)) {
            text.extend(stream.chunk().await.unwrap().expect("the stream goes on"));
        }
    };
    tokio::time::timeout(LONG, read).await.expect("the last event");
    String::from_utf8(text).unwrap()
}

fn is_over(text: &str) -> bool {
    text.matches(LAST).count() == 2 && text.ends_with("\n\n")
}

/// What a way out has shown.
fn check(way: &str, who: Who, shown: &str) {
    assert_eq!(shown.contains(SECRET), who.sees_the_secret(), "{way}, {who:?}: {shown}");
    assert_eq!(shown.contains(UNBOUND), who == Who::Root, "{way}, {who:?}: {shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_job_leaves_by_no_way_out() {
    let scene = Scene::start().await;
    let mut web_sockets = Vec::new();
    for who in Who::ALL {
        web_sockets.push((who, WebSocket::connect(scene.http(), &who.web_socket()).await));
    }
    scene.publisher.websockets(Who::ALL.len() as u64).await;
    let mut streams = Vec::new();
    for who in Who::PEOPLE {
        for path in ["/api/v1/stream", "/api/v1/stream?not_kind=device"] {
            streams.push((who, path, scene.open(who, path).await));
        }
    }
    let public = StockSub::connect(scene.publisher.publish_public(), &[""]);
    scene.publisher.subscribers(1).await;
    let push = StockPush::connect(scene.publisher.intake());
    let sent = scene.events();
    push.send_all(&sent);
    scene.publisher.published(sent.len() as u64).await;

    // WebSocket, live.
    for (who, mut client) in web_sockets {
        let mut shown = Vec::new();
        let is_last = |shown: &[Message]| match who {
            Who::Worker1 => shown.len() == 2,
            Who::Worker2 => shown.len() == 2,
            _ => shown
                .last()
                .is_some_and(|message| message.topic().ends_with(".event") && message.text(4).contains(LAST)),
        };
        while !is_last(&shown) {
            shown.push(client.next().await);
        }
        match who {
            // A worker gets the testjob events of its own jobs, no others.
            Who::Worker1 => assert_eq!(shown, [sent[1].clone(), sent[12].clone()]),
            Who::Worker2 => assert_eq!(shown, [sent[0].clone(), sent[11].clone()]),
            Who::Root => assert_eq!(shown, sent),
            who => {
                let all: String = shown.iter().map(|message| format!("{message:?}")).collect();
                check("WebSocket", who, &all);
                let topics: BTreeSet<&str> = shown.iter().map(Message::topic).collect();
                assert_eq!(topics.len(), if who == Who::Ada { 7 } else { 3 }, "{who:?}: {topics:?}");
            }
        }
    }

    // The public endpoint shows what anonymous sees.
    let mut shown = Vec::new();
    while shown.len() < 4 {
        shown.push(public.next());
    }
    assert_eq!(
        shown,
        [sent[0].clone(), sent[10].clone(), sent[11].clone(), sent[13].clone()]
    );

    // Server-sent events, live,
    for (who, path, stream) in streams {
        check(path, who, &until_the_last(stream).await);
    }
    // and from the journal.
    let before = "00000000-0000-1000-8000-000000000000";
    for who in Who::PEOPLE {
        check(
            "stream",
            who,
            &scene.stream(who, &format!("/api/v1/stream?after={before}")).await,
        );
        let filtered = format!("/api/v1/stream?after={before}&not_kind=device");
        check("filtered stream", who, &scene.stream(who, &filtered).await);
    }

    // Metrics: the services that stages name, to whoever sees all.
    for who in Who::PEOPLE {
        let counted = async {
            loop {
                let (status, shown) = scene.get(who, "/metrics").await;
                assert_eq!(status, 200);
                let stages = shown.lines().filter(|line| line.starts_with("lavabus_stages_total"));
                let numbers = stages.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
                if numbers.sum::<u64>() == 2 {
                    return shown;
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        let shown = tokio::time::timeout(LONG, counted).await.expect("both stages");
        for service in [SECRET, UNBOUND] {
            assert_eq!(shown.contains(service), who == Who::Root, "metrics, {who:?}: {shown}");
        }
    }

    // Pages of the journal.
    for who in Who::PEOPLE {
        let (status, shown) = scene.get(who, "/api/v1/events?limit=1000").await;
        assert_eq!(status, 200);
        check("events", who, &shown);
        let (status, shown) = scene.get(who, &format!("/api/v1/events?job={}", scene.private)).await;
        assert_eq!(
            (status, shown.contains(SECRET)),
            (200, who.sees_the_secret()),
            "{who:?}: {shown}"
        );
    }
    // Objects and timelines. The same text for what may not be seen and for what does not exist.
    let nothing = scene.get(Who::Bob, "/api/v1/jobs/888888").await;
    assert_eq!(nothing.0, 404);
    for who in Who::PEOPLE {
        let job = scene.get(who, &format!("/api/v1/jobs/{}", scene.private)).await;
        match who.sees_the_secret() {
            true => assert!(job.0 == 200 && job.1.contains(SECRET), "{who:?}: {}", job.1),
            false => assert_eq!(job, nothing, "{who:?}"),
        }
        let (status, shown) = scene.get(who, &format!("/api/v1/jobs/{}", scene.public)).await;
        assert!(status == 200 && shown.contains(LAST), "{who:?}: {shown}");
        for path in ["devices/qemu-01", "timeline/device/qemu-01", "timeline/qemu-01"] {
            let (status, shown) = scene.get(who, &format!("/api/v1/{path}")).await;
            let is_shown = shown.contains(SECRET);
            assert_eq!(
                (status, is_shown),
                (200, who.sees_the_secret()),
                "{path}, {who:?}: {shown}"
            );
        }
        for path in [format!("job/{}", scene.private), format!("request/{SECRET}")] {
            let (status, shown) = scene.get(who, &format!("/api/v1/timeline/{path}")).await;
            let expected = if who.sees_the_secret() { 200 } else { 404 };
            assert_eq!(
                (status, shown.contains(SECRET)),
                (expected, who.sees_the_secret()),
                "{path}, {who:?}: {shown}"
            );
        }
    }

    // Objects and timelines: whoever may not see one gets what he gets of one that does not exist.
    for who in Who::PEOPLE {
        for way in ["jobs/", "timeline/", "timeline/job/"] {
            let (status, shown) = scene.get(who, &format!("/api/v1/{way}{}", scene.private)).await;
            if who.sees_the_secret() {
                assert!(
                    status == 200 && shown.contains(SECRET),
                    "{way}, {who:?}: {status} {shown}"
                );
            } else {
                let unknown = scene.get(who, &format!("/api/v1/{way}999998")).await;
                assert_eq!((status, shown), unknown, "{way}, {who:?}");
                assert_eq!(status, 404, "{way}, {who:?}");
            }
        }
        for way in [
            "devices/qemu-01",
            "timeline/device/qemu-01",
            "timeline/qemu-01",
            "status",
            "openapi.json",
        ] {
            let (status, shown) = scene.get(who, &format!("/api/v1/{way}")).await;
            assert_eq!(status, 200, "{way}, {who:?}: {shown}");
            assert!(
                who.sees_the_secret() || !shown.contains(SECRET),
                "{way}, {who:?}: {shown}"
            );
            assert!(who == Who::Root || !shown.contains(UNBOUND), "{way}, {who:?}: {shown}");
        }
        let (status, shown) = scene.get(who, "/metrics").await;
        assert_eq!(status, 200);
        assert!(
            who.sees_the_secret() || !shown.contains(SECRET),
            "metrics, {who:?}: {shown}"
        );
        assert!(
            who == Who::Root || !shown.contains(UNBOUND),
            "metrics, {who:?}: {shown}"
        );
        let (status, _) = scene.get(who, "/api/v1/rejected").await;
        let expected = match who {
            Who::Root => 200,
            Who::Anonymous => 401,
            _ => 403,
        };
        assert_eq!(status, expected, "rejected, {who:?}");
    }
}

/// Hands in one event; the answer without what is different each time.
async fn post(client: &HttpClient, event: &Value) -> (u16, String) {
    let answer = client.post("/api/v1/events", event).await;
    match answer.status {
        201 => (201, String::new()),
        status => (status, answer.problem(status)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_tell_nothing_of_what_is_hidden() {
    let scene = Scene::start().await;
    scene.lava.add_device(Device {
        hostname: "secret-01".to_owned(),
        private: true,
        ..Device::default()
    });
    // A device that everybody may see, and whose name is the private job's number.
    scene.lava.add_device(Device {
        hostname: scene.private.clone(),
        ..Device::default()
    });
    let push = StockPush::connect(scene.publisher.intake());
    let mut sent = scene.events();
    sent.extend([
        Message::device("secret-01", "Idle"),
        Message::device(&scene.private, "Idle"),
    ]);
    push.send_all(&sent);
    scene.publisher.published(sent.len() as u64).await;

    let anyone = scene.publisher.client();
    let bob = anyone.clone().with_token("bob-token");
    let unknown = 888_888;
    for client in [&anyone, &bob] {
        for (hidden, missing) in [
            ("devices/secret-01".to_owned(), "devices/no-device"),
            ("timeline/device/secret-01".to_owned(), "timeline/device/no-device"),
            ("timeline/secret-01".to_owned(), "timeline/no-device"),
            (format!("jobs/{}", scene.private), "jobs/888888"),
            (format!("jobs/{}?x=1", scene.private), "jobs/888888?x=1"),
            (
                format!("timeline/job/{}?since=x", scene.private),
                "timeline/job/888888?since=x",
            ),
        ] {
            let [hidden, missing] = [&hidden, missing].map(|path| format!("/api/v1/{path}"));
            let (hidden, missing) = (client.get(&hidden).await, client.get(&missing).await);
            assert_eq!((hidden.status, &hidden.body), (missing.status, &missing.body));
            assert!(hidden.status == 404 || hidden.status == 400, "{hidden:?}");
        }
        // Only one of the two is there for them.
        let timeline = client.get(&format!("/api/v1/timeline/{}", scene.private)).await;
        assert_eq!(timeline.json()["subject"], format!("device/{}", scene.private));
    }

    // Whoever hands in an event is told the same of a job that is hidden and of one that is not there,
    let ci = anyone.clone().with_token("three");
    let (hidden, public) = (sent[1].uuid(), sent[0].uuid());
    for (client, expected) in [(&anyone, 401), (&bob, 403), (&ci, 201)] {
        let stage =
            |job: &Value| json!({"topic": "x.stage", "data": {"service": "s", "status": "received", "job": job}});
        let of_hidden = post(client, &stage(&json!(scene.private))).await;
        assert_eq!(of_hidden, post(client, &stage(&json!(unknown))).await);
        assert_eq!(of_hidden.0, expected, "{of_hidden:?}");
        // and of a kind that it may not hand in,
        let job = |job: &Value| json!({"topic": "x.testjob", "data": {"job": job, "state": "Finished"}});
        let of_hidden = post(client, &job(&json!(scene.private))).await;
        assert_eq!(of_hidden, post(client, &job(&json!(unknown))).await);
        assert_eq!(
            of_hidden.0,
            if expected == 201 { 403 } else { expected },
            "{of_hidden:?}"
        );
        // and where an event's UUID is taken, whoever may see that event.
        let stage = |uuid: &str| json!({"uuid": uuid, "topic": "x.stage", "data": {"service": "s"}});
        let of_hidden = post(client, &stage(hidden)).await;
        assert_eq!(of_hidden, post(client, &stage(public)).await);
        assert_eq!(
            of_hidden.0,
            if expected == 201 { 409 } else { expected },
            "{of_hidden:?}"
        );
        assert!(!of_hidden.1.contains(SECRET), "{of_hidden:?}");
    }
}
