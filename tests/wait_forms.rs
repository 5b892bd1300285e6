//! Whatever the form of an id, the generation of an event, or the thing that is waited for: a wait understands it.

#![allow(clippy::unwrap_used)]

mod lab;

use std::time::Duration;

use jiff::Timestamp;
use lab::{CLOSED_PORT, Cli, Lab, Message, PlainPublisher, RunningPublisher, StockPush, push_events_of};
use lava_stand_in::{Device, Job, LavaServer, Options, Worker};
use serde_json::json;

struct Bus {
    publisher: RunningPublisher,
    push: StockPush,
    cli: Cli,
}

/// A publisher with a journal, and nobody who could be asked.
async fn bus() -> Bus {
    let publisher = Lab::new().journal().start().await;
    Bus {
        push: StockPush::connect(publisher.intake()),
        cli: Cli::new().variable("LAVABUS_BUS", publisher.publish()),
        publisher,
    }
}

impl Bus {
    /// Sends it, and returns when the publisher has it.
    async fn tell(&self, message: &Message) {
        let before = self.publisher.counters().published.get();
        self.push.send(message);
        self.publisher.published(before + 1).await;
    }
}

fn testjob(data: serde_json::Value) -> Message {
    Message::sent_at(Timestamp::now(), "testjob", &data)
}

fn job(lava: &LavaServer, state: &str, health: &str) -> String {
    lava.add_job(Job {
        state: state.into(),
        health: health.into(),
        ..Job::default()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_four_forms_of_an_id_are_one_job_on_the_command_line_and_in_events() {
    let bus = bus().await;
    let written = |id: u64, form: usize| match form {
        0 => json!(id),
        1 => json!(id.to_string()),
        2 => json!(format!("http://lava.example.org/scheduler/job/{id}")),
        _ => json!(format!("/scheduler/job/{id}")),
    };
    for form in 0..4_u64 {
        let id = 100 + form;
        let data = json!({"job": written(id, form as usize), "state": "Finished", "health": "Incomplete"});
        bus.tell(&testjob(data)).await;
        let id = id.to_string();
        for asked in [
            id.clone(),
            format!("job/{id}"),
            format!("testjob/{id}"),
            format!("https://lava.example.org/scheduler/job/{id}"),
            format!("https://lava.example.org/scheduler/job/{id}/"),
        ] {
            bus.cli
                .run(["wait", "job", &asked])
                .with(10)
                .said(&format!("job {id}: Incomplete"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_form_ends_a_wait_that_has_begun() {
    let bus = bus().await;
    for (number, form) in [
        json!(201),
        json!("202"),
        json!("http://lava.example.org/scheduler/job/203"),
    ]
    .into_iter()
    .enumerate()
    {
        let id = (201 + number).to_string();
        let waiting = bus.cli.start(["wait", "job", &id]);
        waiting.says("nothing was heard of");
        bus.tell(&testjob(
            json!({"job": form, "state": "Finished", "health": "Canceled"}),
        ))
        .await;
        waiting.ended().with(11);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_of_2018_are_understood() {
    let bus = bus().await;
    bus.tell(&testjob(json!({
        "job": "http://lava.example.org/scheduler/job/12", "status": "Incomplete", "pipeline": true,
        "submitter": "admin", "visibility": "Publicly visible",
    })))
    .await;
    bus.cli.run(["wait", "job", "12"]).with(10);
    let device = Message::sent_at(
        Timestamp::now(),
        "device",
        &json!({"device": "bbb-01", "device_type": "bbb", "status": "Idle", "health_status": "Good", "pipeline": true}),
    );
    bus.tell(&device).await;
    bus.cli
        .run(["wait", "device", "bbb-01", "--state", "idle", "--health", "GOOD"])
        .with(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_habits_of_lavacli_work() {
    let bus = bus().await;
    bus.tell(&Message::job(12, "Finished", "Incomplete")).await;
    bus.tell(&Message::device("qemu-01", "Idle")).await;
    bus.cli.run(["wait", "job", "12", "--state", "FINISHED"]).with(0);
    bus.cli.run(["wait", "testjob", "12", "--state", "finished"]).with(0);
    bus.cli
        .run(["wait", "job", "12", "--state", "FINISHED", "--health", "COMPLETE"])
        .with(12);
    bus.cli
        .run(["wait", "device", "qemu-01", "--state", "IDLE", "--health", "good"])
        .with(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_a_multinode_job_is_found_by_its_sub_id() {
    for options in [
        Options::default(),
        Options {
            rest: false,
            ..Options::default()
        },
    ] {
        let lava = LavaServer::start_with(options).await;
        let publisher = Lab::new().journal().start().await;
        push_events_of(&lava, publisher.intake());
        for part in 0..2 {
            lava.add_job(Job {
                id: (4000 + part).to_string(),
                sub_id: Some(format!("4000.{part}")),
                ..Job::default()
            });
        }
        lava.set_job("4000.0", "Finished", "Complete");
        lava.set_job("4000.1", "Finished", "Incomplete");
        publisher.published(2).await;
        for (id, code) in [("4000.0", 0), ("4000.1", 10), ("4001", 10)] {
            let bus = publisher.publish().to_string();
            Cli::new().run(["--bus", &bus, "wait", "job", id]).with(code);
            Cli::of(&lava).run(["wait", "job", id]).with(code);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_and_workers_are_waited_for_over_each_channel() {
    let lava = LavaServer::start().await;
    let publisher = Lab::new().journal().start().await;
    push_events_of(&lava, publisher.intake());
    let plain = PlainPublisher::of(&lava);
    let with_journal = Cli::new().variable("LAVABUS_BUS", publisher.publish());
    let with_plain = Cli::with_bus(&lava, plain.endpoint());
    let with_web_socket = Cli::of(&lava);
    for (number, cli) in [with_journal, with_plain, with_web_socket].iter().enumerate() {
        let device = format!("device-{number}");
        let worker = format!("worker-{number}");
        lava.add_device(Device {
            hostname: device.clone(),
            ..Device::default()
        });
        lava.add_worker(Worker {
            hostname: worker.clone(),
            state: "Offline".into(),
            ..Worker::default()
        });
        lava.set_device(&device, "Running", "Good");
        lava.set_worker(&worker, "Offline", "Active");
        publisher.published(4 * number as u64 + 2).await;
        let idle = cli.start(["wait", "device", &device, "--for", "state=Idle"]);
        let online = cli.start(["wait", "worker", &format!("worker/{worker}"), "--for", "state=online"]);
        idle.says(&format!("device {device}: Running"));
        online.says(&format!("worker {worker}: Offline"));
        lava.set_device(&device, "Idle", "Good");
        lava.set_worker(&worker, "Online", "Active");
        idle.ended().with(0).said("Idle Good");
        online.ended().with(0).said("Online Active");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_jobs_the_worst_or_the_first_decides() {
    let lava = LavaServer::start().await;
    let complete = job(&lava, "Finished", "Complete");
    let incomplete = job(&lava, "Finished", "Incomplete");
    let canceled = job(&lava, "Finished", "Canceled");
    let open = job(&lava, "Running", "Unknown");
    let cli = Cli::of(&lava);
    cli.run(["wait", "job", &complete, &canceled]).with(11);
    cli.run(["wait", "job", &complete, &canceled, &incomplete, "--all"])
        .with(10)
        .said(&format!("job {incomplete}"));
    cli.run(["wait", "job", &complete, &canceled, &incomplete, "999"])
        .with(13);
    cli.run(["wait", "job", &open, &complete, "--any"]).with(0);
    cli.run(["wait", "job", &open, &incomplete, "--any"]).with(10);
    cli.run(["wait", "job", &complete, &open, "--timeout", "1s"])
        .with(124)
        .said(&format!("job {open}"));
    cli.run(["wait", "job", &complete, &complete]).with(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_conditions_hold_at_the_same_time() {
    let bus = bus().await;
    bus.tell(&Message::device("qemu-01", "Running")).await;
    let waiting = bus.cli.start([
        "wait",
        "device",
        "qemu-01",
        "--for",
        "state=Idle",
        "--for",
        "health=Good",
        "--for",
        "jq=.data.worker == \"worker-02\"",
    ]);
    waiting.says("Running");
    bus.tell(&Message::device("qemu-01", "Idle")).await;
    let moved = json!({
        "health": "Good", "state": "Idle", "device": "qemu-01", "device_type": "qemu", "worker": "worker-02",
    });
    waiting.says("Idle");
    bus.tell(&Message::sent_at(Timestamp::now(), "device", &moved)).await;
    waiting.ended().with(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deciding_event_is_printed_if_asked_for() {
    let bus = bus().await;
    let event = Message::job(12, "Finished", "Complete");
    bus.tell(&event).await;
    let ended = bus.cli.run(["-o", "json", "wait", "job", "12"]).with(0);
    let printed: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(printed["uuid"], event.uuid());
    bus.cli
        .run(["-o", "template={{ job }} {{ health }}", "wait", "job", "12"])
        .with(0)
        .printed("12 Complete\n");
}

fn test_event(job: u64, message: &str) -> Message {
    Message::sent_at(Timestamp::now(), "event", &json!({"job": job, "message": message}))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_waited_for() {
    let bus = bus().await;
    bus.tell(&test_event(7, "ready of before")).await;
    let words = [
        "-v",
        "-o",
        "json",
        "wait",
        "event",
        "--kind",
        "event",
        "--message",
        "~^ready",
    ];
    let waiting = bus.cli.start(words);
    waiting.says("works");
    bus.tell(&test_event(7, "not yet")).await;
    let wanted = test_event(8, "ready");
    bus.tell(&wanted).await;
    let ended = waiting.ended().with(0);
    let printed: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(
        printed["uuid"],
        wanted.uuid(),
        "events of before are not looked at: {ended:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_before_is_found_by_time_and_by_cursor() {
    let bus = bus().await;
    let first = test_event(7, "first");
    bus.tell(&first).await;
    bus.tell(&test_event(7, "second")).await;
    let wait = |arguments: &[&str]| {
        bus.cli
            .run([&["-o", "template={{ message }}", "wait", "event"], arguments].concat())
    };
    wait(&["--since", "-1m"]).with(0).printed("first\n");
    wait(&["--after", first.uuid()]).with(0).printed("second\n");
    wait(&["--since", "-1m", "--message", "second"])
        .with(0)
        .printed("second\n");
    wait(&["--since", "-1m", "--message", "third", "--timeout", "500ms"]).with(124);
    wait(&["--after", first.uuid(), "--message", "first", "--timeout", "500ms"]).with(124);
}

/// A job's event, with the time of its submission.
fn since_now(id: u64, state: &str) -> Message {
    let now = lavabus_client::datetime_text(Timestamp::now());
    testjob(json!({"job": id, "state": state, "health": "Unknown", "submit_time": now, "submitter": "admin"}))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jobs_event_is_found_though_it_came_before_the_wait() {
    let bus = bus().await;
    let submitted = since_now(7, "Submitted");
    bus.tell(&submitted).await;
    bus.tell(&test_event(7, "ready")).await;
    bus.tell(&Message::job(7, "Running", "Unknown")).await;
    let wait = |job: &str| {
        bus.cli.run([
            "-o",
            "template={{ message }}",
            "wait",
            "event",
            "--job",
            job,
            "--message",
            "ready",
        ])
    };
    wait("7").with(0).printed("ready\n");
    wait("job/7").with(0).printed("ready\n");
    wait("https://lava.example.org/scheduler/job/7")
        .with(0)
        .printed("ready\n");
    // It is over, and had it.
    bus.tell(&Message::job(7, "Finished", "Complete")).await;
    wait("7").with(0).printed("ready\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_over_without_its_event_ends_the_wait() {
    let bus = bus().await;
    let submitted = since_now(7, "Submitted");
    bus.tell(&submitted).await;
    bus.tell(&test_event(7, "something else")).await;
    bus.tell(&test_event(8, "ready")).await;
    let words = ["-v", "wait", "event", "--job", "7", "--message", "ready"];
    let waiting = bus.cli.start(words);
    waiting.says("works");
    bus.tell(&Message::job(7, "Finished", "Incomplete")).await;
    waiting.ended().with(12).said("job 7 is over (Incomplete)");
    bus.cli.run(words).with(12);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jobs_event_over_a_plain_publisher_and_the_server() {
    let lava = LavaServer::start().await;
    let plain = PlainPublisher::of(&lava);
    let cli = Cli::with_bus(&lava, plain.endpoint());
    let id = job(&lava, "Running", "Unknown");
    let words = ["-v", "wait", "event", "--job", &id, "--message", "ready"];
    let waiting = cli.start(words);
    waiting.says("works");
    plain.send(&test_event(id.parse().unwrap(), "ready"));
    waiting.ended().with(0);

    let waiting = cli.start(words);
    waiting.says("works");
    lava.set_job(&id, "Finished", "Complete");
    waiting.ended().with(12);
    // It was over before: nobody can say what was.
    cli.run(words).with(20).said("could not be heard");
    cli.run([&words[..], &["--strict"]].concat()).with(22);
    cli.run(["wait", "event", "--job", "999", "--message", "ready"])
        .with(13);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_job_is_not_there_for_who_is_not_logged_in() {
    let lava = LavaServer::start().await;
    let id = job(&lava, "Finished", "Complete");
    lava.change_job(&id, |job| job.private = true);
    lava.add_user("bob", "bob-token");
    let anonymous = Cli::new().identity_text(&format!(
        "default: {{uri: {}, events: {{uri: {CLOSED_PORT}}}}}\n",
        lava.uri()
    ));
    anonymous.run(["wait", "job", &id]).with(13).said("private");
    Cli::new()
        .identity("default", &lava.uri(), "bob", "bob-token", CLOSED_PORT)
        .run(["wait", "job", &id])
        .with(13);
    Cli::of(&lava).run(["wait", "job", &id]).with(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn states_that_come_in_the_wrong_order_or_twice_change_nothing() {
    let bus = bus().await;
    let now = Timestamp::now();
    let at = |ago: u64, state: &str, health: &str| {
        let data = json!({"job": 12, "state": state, "health": health});
        Message::sent_at(now - Duration::from_secs(ago), "testjob", &data)
    };
    bus.tell(&at(1, "Finished", "Complete")).await;
    bus.tell(&at(2, "Running", "Unknown")).await;
    bus.tell(&at(3, "Submitted", "Unknown")).await;
    bus.cli.run(["wait", "job", "12"]).with(0);
    let device = |ago: u64, state: &str| {
        let data = json!({"device": "d", "device_type": "qemu", "worker": "w", "state": state, "health": "Good"});
        Message::sent_at(now - Duration::from_secs(ago), "device", &data)
    };
    bus.tell(&device(1, "Idle")).await;
    bus.tell(&device(2, "Running")).await;
    bus.cli.run(["wait", "device", "d", "--state", "Idle"]).with(0);
    bus.cli
        .run(["wait", "device", "d", "--state", "Running", "--timeout", "500ms"])
        .with(124);
}
