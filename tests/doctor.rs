//! `lavabus doctor`: what it finds of a bus, what to try, and whether a wait from here can be trusted.

#![allow(clippy::unwrap_used)]

mod lab;

use lab::{CLOSED_PORT, Cli, Ended, Lab, PlainPublisher};
use lava_stand_in::LavaServer;

fn doctor(cli: &Cli, buses: &[&str]) -> Ended {
    let named = buses.iter().flat_map(|bus| ["--bus", *bus]);
    cli.run(["doctor"].into_iter().chain(named))
}

/// The findings of this subject: how it is, and the rest of the line.
fn found(ended: &Ended, subject: &str) -> Vec<(String, String)> {
    let lines = ended.stdout.lines().filter_map(|line| {
        let (health, rest) = line.split_once(char::is_whitespace)?;
        let text = rest.trim_start().strip_prefix(subject)?;
        Some((health.to_owned(), text.trim().to_owned()))
    });
    lines.collect()
}

#[track_caller]
fn assert_found(ended: &Ended, subject: &str, health: &str, text: &str) {
    let all = found(ended, subject);
    assert!(
        all.iter().any(|(found, said)| found == health && said.contains(text)),
        "not found: {health} {subject} {text}\n{ended:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_over_each_of_its_ways() {
    let publisher = Lab::new().journal().http().start().await;
    let (cli, zeromq) = (Cli::new(), publisher.publish().to_string());
    for bus in [&zeromq, &publisher.http_bus()] {
        let ended = doctor(&cli, &[bus]).with(0);
        assert_found(&ended, "bus", "good", bus);
        assert_found(&ended, "history", "good", "all that is kept");
    }
    let web_socket = format!("ws://{}", publisher.http());
    let ended = doctor(&cli, &[&web_socket]).with(0);
    assert_found(&ended, "bus", "warn", "cannot resume");
    // Each that was named is looked at.
    let plain = PlainPublisher::new().endpoint().to_string();
    let ended = doctor(&cli, &[&zeromq, &plain, CLOSED_PORT]).with(0);
    assert_eq!(found(&ended, "bus").len(), 3, "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_without_a_journal() {
    let publisher = Lab::new().http().start().await;
    let ended = doctor(&Cli::new(), &[&publisher.http_bus()]).with(0);
    assert_found(&ended, "history", "warn", "keeps no journal");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_port() {
    for bus in ["http://127.0.0.1:1", "ws://127.0.0.1:1", CLOSED_PORT] {
        let ended = doctor(&Cli::new(), &[bus]).with(20);
        assert_found(&ended, "bus", "BAD", "onnection refused");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_else() {
    let lava = LavaServer::start().await;
    let ended = doctor(&Cli::new(), &[&format!("http://{}", lava.address())]).with(20);
    assert_found(&ended, "bus", "BAD", "no answer of a publisher (status 404)");
    assert!(
        ended
            .stdout
            .contains("try: the address of lava-publisher's --http port"),
        "{ended:?}"
    );
    let ended = doctor(&Cli::new(), &[&format!("ws://{}/elsewhere", lava.address())]).with(20);
    assert_found(&ended, "bus", "BAD", "404");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_wants_a_token() {
    let publisher = Lab::new().journal().http().tokens().start().await;
    let (http, web_socket) = (publisher.http_bus(), format!("ws://{}", publisher.http()));
    let reader = |token: &str| {
        Cli::new()
            .variable("LAVABUS_USERNAME", "reader")
            .variable("LAVABUS_TOKEN", token)
    };
    let ended = doctor(&Cli::new(), &[&http]).with(21);
    assert_found(&ended, "bus", "REFUSED", &http);
    assert!(ended.stdout.contains("LAVABUS_TOKEN_FILE"), "{ended:?}");
    // As LAVA does it: whoever says no name is nobody, who sees what everybody may see.
    let ended = doctor(&Cli::new(), &[&web_socket]).with(0);
    assert_found(&ended, "bus", "warn", "without a token");
    for bus in [&http, &web_socket] {
        let ended = doctor(&reader("s3cret"), &[bus]).with(21).did_not_say("s3cret");
        assert_found(&ended, "bus", "REFUSED", bus);
        assert!(!ended.stdout.contains("s3cret"), "{ended:?}");
        let ended = doctor(&reader("reader-token"), &[bus]).with(0);
        let health = if bus == &http { "good" } else { "warn" };
        assert_found(&ended, "bus", health, "with a token");
    }
}
