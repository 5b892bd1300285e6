//! How long each question takes: `cargo run --release -p lavabus-store --example ask -- PATH`, on a database that the
//! example `history` of the workspace has made.

use std::ops::ControlFlow;
use std::time::Instant;

use lavabus_protocol::Filter;
use lavabus_protocol::filter::Field;
use lavabus_store::Reader;
use lavabus_store::question::Selection;
use lavabus_store::question::stats::Scope;
use lavabus_store::question::timeline::{Subject, timeline};

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> Outcome {
    let path = std::env::args().nth(1).ok_or("which database?")?;
    let reader = Reader::open(&path)?;
    let status = reader.status()?;
    println!(
        "{} events, {} of them projected",
        status.events, status.history_projected
    );
    let newest_us = status.newest_received_us.unwrap_or(0);
    let day_us = newest_us - 24 * 3_600 * 1_000_000;
    for words in [
        &[][..],
        &["kind=testjob", "state=finished"],
        &["kind=testjob", "health=canceled"],
        &["job=1234"],
        &["device=qemu-01"],
        &["device=~^qemu", "kind=device"],
        &["worker=worker-02", "kind=worker"],
        &["submitter=lkft", "health=incomplete"],
    ] {
        query(&path, words)?;
    }
    for id in ["job/1234", "device/qemu-01", "worker/worker-02", "request/none"] {
        timed(&format!("timeline {id}, of the last day if it is no job"), || {
            let reader = Reader::open(&path)?;
            let subject = Subject::meant_by(id).remove(0);
            let after = match id.starts_with("job") {
                true => 0,
                false => reader.seq_received_since(day_us)? - 1,
            };
            let story = reader.mentions()?.story(&subject, after)?;
            Ok(timeline(&subject, story.events, newest_us).events.len())
        })?;
    }
    let scopes = [
        ("stats of the last day", day_us, None),
        ("stats of everything", 0, None),
        ("stats of one device, the last day", day_us, Some("qemu-01".to_owned())),
    ];
    for (what, since_us, device) in scopes {
        let scope = Scope {
            since_us,
            until_us: newest_us + 1,
            device,
            device_type: None,
        };
        timed(what, || Ok(Reader::open(&path)?.stats(&scope)?.jobs.pass))?;
    }
    Ok(())
}

fn query(path: &str, words: &[&str]) -> Outcome {
    let mut filter = Filter::default();
    for word in words {
        let (field, text) = word.split_once('=').ok_or("FIELD=VALUE")?;
        filter.add(field.parse::<Field>()?, false, text)?;
    }
    timed(&format!("query {}, the newest 100", words.join(" ")), || {
        let mut found = 0;
        let selection = Selection {
            filter: &filter,
            after: 0,
            upto: u64::MAX,
            newest_first: true,
        };
        Reader::open(path)?.select(selection, |_| {
            found += 1;
            match found < 100 {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        })?;
        Ok(found)
    })
}

/// The time of the processor and the time on the clock of the second of two runs, in ms.
fn timed(what: &str, ask: impl Fn() -> Result<usize, Box<dyn std::error::Error>>) -> Outcome {
    ask()?;
    let (began, cpu) = (Instant::now(), cpu_ms()?);
    let found = ask()?;
    let (wall, cpu) = (began.elapsed().as_secs_f64() * 1e3, cpu_ms()? - cpu);
    println!("{cpu:>7.1} ms of processor, {wall:>7.1} ms  {what}: {found}");
    Ok(())
}

/// Of this thread (proc_pid_schedstat): what others do on the machine does not count.
fn cpu_ms() -> Result<f64, Box<dyn std::error::Error>> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds = text.split(' ').next().ok_or("no figure")?;
    Ok(nanoseconds.parse::<f64>()? / 1e6)
}
