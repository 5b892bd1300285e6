#![allow(clippy::unwrap_used)]

use super::*;
use crate::arguments::{Arguments, Command};

fn console(flags: &[&str]) -> (ConsoleArguments, Sending) {
    let line = [&["lavabus", "emit", "--console"], flags].concat();
    let Command::Emit(emit) = Arguments::read(line).unwrap().command else {
        panic!()
    };
    (emit.console, emit.sending)
}

fn record(flags: &[&str], said: &str) -> Option<String> {
    let (console, sending) = console(flags);
    let signals = Signals::default().push(said.as_bytes());
    let record = match &signals[0] {
        Signal::TestEvent(message) => console.message(message, &sending).ok(),
        Signal::TestCase(parameters) => console.result(parameters, &sending),
    };
    record.map(|record| {
        crate::schemas::check(&record);
        format!("{} {}", record.topic, record.data)
    })
}

#[test]
fn signals_become_events_and_results() {
    let flags = ["--job", "1995", "--run", "r1", "--device", "d"];
    assert_eq!(
        record(&flags, "<LAVA_SIGNAL_TESTEVENT a b>").unwrap(),
        r#"org.lavasoftware.event {"message": "a b", "job": 1995}"#
    );
    assert_eq!(
        record(
            &flags,
            "<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=t RESULT=pass MEASUREMENT=1.50 UNITS=MB/s>"
        )
        .unwrap(),
        r#"org.lavasoftware.result {"testcase": "t", "outcome": "PASSED", "run": "r1", "job": 1995, "device": "d", "data": {"measurement": 1.5, "result": "pass", "units": "MB/s"}}"#
    );
    // What is not known is left out.
    for (result, outcome) in [("fail", "FAILED"), ("skip", "INFO"), ("unknown", "NEEDS_INSPECTION")] {
        let said = format!("<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=t RESULT={result}>");
        let expected = format!(
            r#"org.lavasoftware.result {{"testcase": "t", "outcome": "{outcome}", "data": {{"result": "{result}"}}}}"#
        );
        assert_eq!(record(&[], &said).unwrap(), expected);
    }
    assert_eq!(
        record(&[], "<LAVA_SIGNAL_TESTEVENT a>").unwrap(),
        r#"org.lavasoftware.event {"message": "a"}"#
    );
}

#[test]
fn a_test_case_without_name_or_known_result_is_none() {
    for said in [
        "TEST_CASE_ID=t",
        "TEST_CASE_ID=t RESULT=odd",
        "RESULT=pass",
        "TEST_CASE_ID= RESULT=pass",
        "x",
    ] {
        assert_eq!(record(&[], &format!("<LAVA_SIGNAL_TESTCASE {said}>")), None, "{said}");
    }
}

#[test]
fn the_flags_of_the_console_need_it() {
    for line in [
        "--job 1 --from x",
        "--run r --from x",
        "--device d --from x",
        "--console --from x",
    ] {
        let line = ["lavabus", "emit"].into_iter().chain(line.split(' '));
        assert!(Arguments::read(line.clone()).is_err(), "{:?}", line.collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_publisher_that_is_away_delays_nobody_and_what_has_no_room_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let to = format!("ipc://{}/none", folder.path().display());
    let (console, sending) = console(&["--to", &to, "--timeout", "10ms"]);
    let (queue, delivery) = Delivery::begin(&sending);
    let event = console.message("a", &sending).unwrap();
    let many = delivery::QUEUE as u64 + 500;
    let accepted = (0..many).filter(|_| queue.push(event.clone())).count() as u64;
    // One batch may have been taken out already.
    assert!((delivery::QUEUE as u64..many).contains(&accepted), "{accepted}");
    drop(queue);
    let unsent = delivery.end(sending.within).await;
    assert_eq!((unsent.sent, unsent.waiting), (0, accepted));

    let counts = Counts::default();
    counts.no_room.store(many - accepted, Ordering::Relaxed);
    let failure = counts.say(unsent, &to, &Context::default()).unwrap_err();
    assert_eq!(failure.exit(), Exit::NoConnection);
    assert!(
        failure
            .to_string()
            .contains(&format!("{many} of {many} events were not sent")),
        "{failure}"
    );
}
