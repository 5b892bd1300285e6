//! The questions that a publisher's second port answers, without a database: the same as with one.

#![allow(clippy::unwrap_used)]

mod lab;

use lab::{Cli, HttpClient, Lab, Message, RunningPublisher, StockPush, captured};

async fn publisher() -> (RunningPublisher, Vec<Message>) {
    let publisher = Lab::new().journal().http().start().await;
    let sent = captured();
    StockPush::connect(publisher.intake()).send_all(&sent);
    publisher.published(sent.len() as u64).await;
    (publisher, sent)
}

fn over_http(publisher: &RunningPublisher) -> Cli {
    Cli::new().variable("LAVABUS_BUS", publisher.http_bus())
}

#[tokio::test(flavor = "multi_thread")]
async fn query_prints_what_it_prints_of_the_database() {
    let (publisher, sent) = publisher().await;
    let (remote, local) = (over_http(&publisher), Cli::new());
    let database = publisher.database();
    let database = database.to_str().unwrap();
    let after = ["--after", sent[3].uuid(), "--limit", "5"];
    let before = ["--before", sent[9].uuid(), "--limit", "4", "--reverse"];
    for arguments in [
        &["--limit", "0"][..],
        &["--limit", "7"],
        &["--limit", "7", "--reverse"],
        &["--kind", "device", "--limit", "3"],
        &["--kind", "job", "--count-only"],
        &["--jq", ".data.device", "--limit", "2"],
        &after,
        &before,
        &["--since", "-1h", "--until", "-30m"],
    ] {
        let arguments = [&["query", "-o", "json"][..], arguments].concat();
        let expected = local.run([&arguments[..], &["--db", database]].concat()).with(0);
        remote.run(&arguments).with(0).printed(&expected.stdout);
    }
    remote
        .run(["query", "--after", "8e503fbe-e568-41f1-8b37-02fc00000001"])
        .with(13);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_thing_is_shown_with_its_timeline() {
    let publisher = Lab::new().journal().http().start().await;
    let push = StockPush::connect(publisher.intake());
    push.send_all(&[
        Message::job(12, "Running", "Unknown"),
        Message::job(12, "Finished", "Incomplete"),
        Message::device("qemu-01", "Idle"),
        Message::worker("worker-01", "Online"),
    ]);
    publisher.published(4).await;
    let (remote, local) = (over_http(&publisher), Cli::new());
    // But for what goes by the clock of whoever reads the database.
    let by_clock = ["queued ", "elapsed ", "silent "];
    let told = |shown: &str| {
        let lines = shown
            .lines()
            .filter(|line| !by_clock.iter().any(|name| line.starts_with(name)));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let file = publisher.database();
    for words in [["job", "job/12"], ["device", "device/qemu-01"], ["worker", "worker-01"]] {
        let words = [&["show"], &words[..]].concat();
        let expected = local
            .run([&words[..], &["--db", file.to_str().unwrap()]].concat())
            .with(0);
        let shown = remote.run(&words).with(0);
        assert_eq!(told(&shown.stdout), told(&expected.stdout));
        let header = |ended: lab::Ended| ended.with(0).stdout.lines().next().unwrap().to_owned();
        let csv = [&words[..], &["-o", "csv"]].concat();
        assert_eq!(
            header(remote.run(&csv)),
            header(local.run([&csv[..], &["--db", file.to_str().unwrap()]].concat()))
        );
    }
    let json: serde_json::Value =
        serde_json::from_str(&remote.run(["show", "device", "qemu-01", "-o", "json"]).with(0).stdout).unwrap();
    assert_eq!(json["state"], "Idle");
    remote.run(["show", "worker", "nobody"]).with(13);
    let database = publisher.database();
    let database = database.to_str().unwrap();
    for format in ["plain", "csv", "markdown"] {
        let expected = local.run(["timeline", "12", "-o", format, "--db", database]).with(0);
        remote
            .run(["timeline", "12", "-o", format])
            .with(0)
            .printed(&expected.stdout);
    }
    remote.run(["timeline", "4711"]).with(13);
    let link = format!("http://{}/api/v1/timeline/12\n", publisher.http());
    let printed = remote.run(["timeline", "12", "--url"]).with(0).printed(&link);
    let path = printed
        .stdout
        .trim()
        .strip_prefix(&format!("http://{}", publisher.http()))
        .unwrap()
        .to_owned();
    let answer = HttpClient::new(publisher.http()).get(&path).await;
    assert_eq!(answer.status, 200);
    local
        .run(["timeline", "12", "--url"])
        .with(2)
        .said("--bus http://HOST:8001");
}

#[tokio::test(flavor = "multi_thread")]
async fn how_the_publisher_is_and_what_it_refused() {
    let publisher = Lab::new().journal().http().tokens().start().await;
    let push = StockPush::connect(publisher.intake());
    push.send(&Message::new(&["org.example.lab.event", "no uuid", "x", "y", "{}"]));
    push.send(&Message::test_event(1));
    publisher.published(1).await;
    let remote = || over_http(&publisher);
    let admin = remote().variable("LAVABUS_TOKEN", "admin-token");
    let status = admin.run(["status"]).with(0);
    for line in [
        ", ready\n",
        "events      1 kept\n",
        "retention   30 days or 4.0 GiB",
        "rejected    1\n",
    ] {
        assert!(status.stdout.contains(line), "{line}: {status:?}");
    }
    // For others there is less.
    let status = remote()
        .variable("LAVABUS_TOKEN", "reader-token")
        .run(["status"])
        .with(0);
    assert!(!status.stdout.contains("rejected"), "{status:?}");
    let database = publisher.database();
    for format in ["plain", "json"] {
        let expected = Cli::new()
            .run(["rejected", "-o", format, "--db", database.to_str().unwrap()])
            .with(0);
        assert!(expected.stdout.contains("uuid"), "{expected:?}");
        admin.run(["rejected", "-o", format]).with(0).printed(&expected.stdout);
    }
    remote()
        .variable("LAVABUS_TOKEN", "reader-token")
        .run(["rejected"])
        .with(21);
    // What no port answers needs a database, and that is said.
    admin.run(["stats"]).with(30).said("lavabus record");
}
