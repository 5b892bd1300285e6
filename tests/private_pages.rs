//! A page of events tells nothing of those that are not shown: neither what it holds nor where it ends depends on them,
//! whatever it is filtered by.
#![allow(clippy::unwrap_used)]

mod lab;

use lab::{HttpClient, Lab, Message, RunningPublisher, StockPush};
use lava_publisher::{AuthorityConfig, LavaConfig};
use lava_stand_in::{Job, LavaServer};
use lavabus_lava::Identity;

const EVENTS: u64 = 300;

struct Scene {
    // In this order: it asks LAVA until its end.
    publisher: RunningPublisher,
    _lava: LavaServer,
    public: u64,
    private: u64,
}

/// Of three events one is of a public job, and the others are of a private one.
async fn scene() -> Scene {
    let lava = LavaServer::start().await;
    let public = lava.add_job(Job::default()).parse().unwrap();
    let private = Job {
        submitter: "ada".to_owned(),
        private: true,
        ..Job::default()
    };
    let private = lava.add_job(private).parse().unwrap();
    let authority = LavaConfig {
        identity: Identity::anonymous(&lava.uri()).unwrap(),
        administrators: Vec::new(),
        tokens: None,
        workers: None,
    };
    let publisher = Lab::new()
        .journal()
        .http()
        .configure(|config| config.authority = AuthorityConfig::Lava(Box::new(authority)))
        .start()
        .await;
    let events: Vec<Message> = (0..EVENTS)
        .map(|number| {
            let job = if number % 3 == 0 { public } else { private };
            let data = serde_json::json!({"message": format!("s3cret {number}"), "job": job});
            Message::sent_at(jiff::Timestamp::now(), "event", &data)
        })
        .collect();
    StockPush::connect(publisher.intake()).send_all(&events);
    publisher.published(EVENTS).await;
    Scene {
        publisher,
        _lava: lava,
        public,
        private,
    }
}

async fn page(client: &HttpClient, query: &str) -> String {
    let answer = client.get(&format!("/api/v1/events?{query}")).await;
    assert_eq!(answer.status, 200, "{query}: {}", answer.body);
    answer.body
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_finds_nothing_in_what_is_hidden() {
    let scene = scene().await;
    let client = scene.publisher.client();
    for rest in ["", "&limit=1", "&limit=1&reverse", "&limit=64"] {
        let nothing = page(&client, &format!("message=no+such{rest}")).await;
        assert!(nothing.starts_with(r#"{"events":[],"#), "{nothing}");
        let private = format!("job={}", scene.private);
        for filter in [
            "",
            "&message=~%5Es3cret",
            "&message=s3cret+100",
            "&not_message=s3cret+1",
        ] {
            let found = page(&client, &format!("{private}{filter}{rest}")).await;
            assert_eq!(found, nothing, "{filter}{rest}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_counts_what_is_shown() {
    let scene = scene().await;
    let client = scene.publisher.client();
    for (query, limit) in [
        ("limit=7", 7),
        ("limit=7&reverse", 7),
        ("limit=100", 100),
        ("job=~.&limit=64", 64),
    ] {
        let mut after = String::new();
        let mut seen = Vec::new();
        loop {
            let text = page(&client, &format!("{query}{after}")).await;
            let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
            let events = answer["events"].as_array().unwrap();
            seen.extend(events.iter().map(|event| event["data"]["job"].as_u64().unwrap()));
            let Some(next) = answer["next"].as_str() else { break };
            assert_eq!(events.len(), limit, "{query}");
            after = format!("&after={}", next.replace('/', "%2F"));
        }
        assert_eq!(seen, vec![scene.public; EVENTS as usize / 3], "{query}");
    }
}
