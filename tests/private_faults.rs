//! A fault that was told of several jobs shows nothing of those that are private.
#![allow(clippy::unwrap_used)]

mod lab;

use lab::{Lab, Message, StockPush};
use lava_publisher::{AuthorityConfig, LavaConfig};
use lava_stand_in::{Device, Job, LavaServer};
use lavabus_lava::Identity;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_told_of_two_jobs_is_shown_of_one() {
    let lava = LavaServer::start().await;
    lava.add_device(Device {
        hostname: "qemu-01".to_owned(),
        ..Device::default()
    });
    let public: u64 = lava.add_job(Job::default()).parse().unwrap();
    let private = Job {
        submitter: "ada".to_owned(),
        private: true,
        ..Job::default()
    };
    let private: u64 = lava.add_job(private).parse().unwrap();
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
    let event = |kind: &str, data: serde_json::Value| Message::sent_at(jiff::Timestamp::now(), kind, &data);
    let fault = |subject: String, job: u64, message: &str, origin: Option<&str>| {
        event(
            "fault",
            serde_json::json!({"subject": subject, "job": job, "message": message, "origin": origin}),
        )
    };
    let device = || "device/qemu-01".to_owned();
    let events = [
        Message::device("qemu-01", "Idle"),
        Message::job(public, "Running", "Unknown"),
        fault(format!("job/{public}"), private, "s3cret", None),
        fault(device(), private, "no prompt", Some("s3cret")),
        fault(device(), public, "no prompt", None),
    ];
    StockPush::connect(publisher.intake()).send_all(&events);
    publisher.published(events.len() as u64).await;

    let client = publisher.client();
    let job = client.get(&format!("/api/v1/jobs/{public}")).await;
    assert_eq!(job.status, 200);
    assert!(!job.body.contains("s3cret"), "{}", job.body);
    assert!(
        job.json()["cause"].is_null() && job.json()["fault"].is_null(),
        "{}",
        job.body
    );

    let device = client.get("/api/v1/devices/qemu-01").await;
    let fault = &device.json()["fault"];
    assert_eq!(
        (&fault["message"], &fault["job"]),
        (&"no prompt".into(), &public.to_string().into())
    );
    assert!(!device.body.contains("s3cret"), "{}", device.body);
    for member in ["first", "count", "origin"] {
        assert!(fault.get(member).is_none(), "{member}: {fault}");
    }
}
