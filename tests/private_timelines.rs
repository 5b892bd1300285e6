//! A timeline is made of the events that its reader may see, as if there were no others: however many others there are,
//! none of its own is missing, and it is not said to be cut.
#![allow(clippy::unwrap_used)]

mod lab;

use lab::{Lab, Message, StockPush};
use lava_publisher::{AuthorityConfig, LavaConfig};
use lava_stand_in::{Job, LavaServer};
use lavabus_lava::Identity;

/// More than one timeline holds.
const HIDDEN: u64 = 5_001;
const SHOWN: u64 = 10;

#[tokio::test(flavor = "multi_thread")]
async fn events_that_are_hidden_cut_no_timeline() {
    let lava = LavaServer::start().await;
    lava.add_user("root", "root-token");
    let public: u64 = lava.add_job(Job::default()).parse().unwrap();
    let private = Job {
        submitter: "ada".to_owned(),
        private: true,
        ..Job::default()
    };
    let private: u64 = lava.add_job(private).parse().unwrap();
    let authority = LavaConfig {
        identity: Identity::anonymous(&lava.uri()).unwrap(),
        administrators: vec!["root".to_owned()],
        tokens: None,
        workers: None,
    };
    let publisher = Lab::new()
        .journal()
        .http()
        .configure(|config| config.authority = AuthorityConfig::Lava(Box::new(authority)))
        .start()
        .await;
    let events: Vec<Message> = (0..SHOWN + HIDDEN)
        .map(|number| {
            let job = if number < SHOWN { public } else { private };
            let data = serde_json::json!({"device": "qemu-01", "job_id": job, "comment": number.to_string()});
            Message::sent_at(jiff::Timestamp::now(), "attempt", &data)
        })
        .collect();
    StockPush::connect(publisher.intake()).send_all(&events);
    publisher.published(SHOWN + HIDDEN).await;
    for path in ["timeline/device/qemu-01", "timeline/qemu-01"] {
        let timeline = async |client: lab::HttpClient| {
            let answer = client.get(&format!("/api/v1/{path}")).await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.body);
            let timeline = answer.json();
            let count = timeline["events"].as_array().unwrap().len() as u64;
            (count, timeline["cut"].as_bool().unwrap())
        };
        let nobody = timeline(publisher.client()).await;
        assert_eq!(nobody, (SHOWN, false), "{path}");
        // Who sees all of them is told.
        let root = timeline(publisher.client().with_token("root-token")).await;
        assert_eq!(root, (HIDDEN - 1, true), "{path}");
    }
}
