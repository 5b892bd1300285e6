//! A timeline as text, markdown, one JSON object, or a row an event.

use lavabus_protocol::Epoch;
use lavabus_protocol::event::Body;
use lavabus_store::question::timeline::{Entry, Timeline, Verdict};

use crate::format::plain::{message, printable};
use crate::table::{Cell, Table, duration_text, time_text};

/// How it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Plain { color: bool },
    Markdown,
    Json,
    Csv,
}

const STATES: &[&str] = &["state", "health", "from", "duration"];
const SERVICES: &[&str] = &[
    "service", "source", "status", "received", "ended", "duration", "gap", "skew", "message",
];
const EVENTS: &[&str] = &["time", "after", "kind", "what"];
const EVENT_COLUMNS: &[&str] = &[
    "time", "after", "kind", "job", "device", "service", "source", "state", "health", "what", "uuid", "cursor", "lab",
];

/// The whole answer. Of several timelines only the first has a header in CSV.
pub(super) fn text(timeline: &Timeline, epoch: Epoch, style: Style, is_first: bool) -> String {
    match style {
        Style::Json => timeline.to_json(epoch, Some(&verdict_text(timeline))) + "\n",
        Style::Csv => {
            let text = events_in_full(timeline, epoch).to_csv();
            match (is_first, text.split_once('\n')) {
                (false, Some((_, rows))) => rows.to_owned(),
                _ => text,
            }
        }
        Style::Plain { color } => {
            let mut text = if is_first { String::new() } else { "\n".to_owned() };
            let head = format!(
                "{}: {}",
                printable(&timeline.subject.to_string()),
                verdict_text(timeline)
            );
            text += &match color {
                true => format!("\u{1b}[1m{head}\u{1b}[0m\n"),
                false => format!("{head}\n"),
            };
            for line in about_lines(timeline) {
                text += &format!("  {line}\n");
            }
            for table in tables(timeline) {
                text += &format!("\n{}", table.to_plain(color));
            }
            text
        }
        Style::Markdown => {
            let mut text = if is_first { String::new() } else { "\n".to_owned() };
            let subject = markdown(&timeline.subject.to_string());
            text += &format!("**{subject}**: {}\n", markdown(&verdict_text(timeline)));
            let lines = about_lines(timeline);
            if !lines.is_empty() {
                text += "\n";
            }
            for line in lines {
                text += &format!("- {}\n", markdown(&line));
            }
            for table in tables(timeline) {
                text += &format!("\n{}", table.to_markdown());
            }
            text
        }
    }
}

/// No text of others shall become a heading, a link or HTML.
fn markdown(text: &str) -> String {
    crate::table::markdown(&printable(text))
}

/// One line: what came of it.
pub(super) fn verdict_text(timeline: &Timeline) -> String {
    let text = match &timeline.verdict {
        Verdict::Success { services } => format!("through {}: success", counted(*services, "service")),
        Verdict::Failed { service, because } => match because {
            Some(because) => format!("failed at {service} because {because}"),
            None => format!("failed at {service}, which said no reason"),
        },
        Verdict::Running { for_us, at, device } => {
            let on = device.as_ref().map(|device| format!(" on {device}"));
            format!(
                "still running for {}, last at {at}{}",
                duration_text(*for_us),
                on.unwrap_or_default()
            )
        }
        Verdict::Requests {
            success,
            failed,
            running,
        } => format!(
            "{}: {success} success, {failed} failed, {running} still running",
            counted(success + failed + running, "request")
        ),
        Verdict::Finished {
            health,
            ran_us,
            queued_us,
            device,
            because,
            error_type,
        } => {
            let health = health.as_deref().unwrap_or("Finished");
            let place = device
                .as_ref()
                .map(|device| format!(" on {device}"))
                .unwrap_or_default();
            let class = error_type
                .as_ref()
                .map(|class| format!(" ({class})"))
                .unwrap_or_default();
            let time = |word: &str| ran_us.map(|ran_us| format!(" {word} {}", duration_text(ran_us)));
            match because {
                _ if health.eq_ignore_ascii_case("Complete") => {
                    let queued = queued_us.map(|queued_us| format!(", queued {} before", duration_text(queued_us)));
                    format!(
                        "{health}{}{place}{}",
                        time("in").unwrap_or_default(),
                        queued.unwrap_or_default()
                    )
                }
                Some(because) => format!("{health} because {because}{class}"),
                None => format!("{health}{}{place}{class}", time("after").unwrap_or_default()),
            }
        }
        Verdict::State {
            state,
            health,
            since_us,
        } => {
            let or_unknown = |text: &Option<String>| text.clone().unwrap_or_else(|| "??".to_owned());
            let (state, health) = (or_unknown(state), or_unknown(health));
            format!(
                "{state}, {health}, since {}{}",
                time_text(*since_us),
                jobs_text(timeline)
            )
        }
        Verdict::Results { .. } => results_text(timeline),
        Verdict::Mentioned => format!("{}{}", counted(timeline.events.len(), "event"), jobs_text(timeline)),
    };
    printable(&text)
}

fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

fn jobs_text(timeline: &Timeline) -> String {
    let total: usize = timeline.jobs.values().sum();
    if total == 0 {
        return String::new();
    }
    let parts: Vec<String> = timeline
        .jobs
        .iter()
        .map(|(health, count)| format!("{count} {health}"))
        .collect();
    format!("; {} ended: {}", counted(total, "job"), parts.join(", "))
}

fn results_text(timeline: &Timeline) -> String {
    let parts: Vec<String> = timeline
        .results
        .iter()
        .map(|(outcome, count)| format!("{count} {outcome}"))
        .collect();
    parts.join(", ")
}

fn about_lines(timeline: &Timeline) -> Vec<String> {
    let about = &timeline.about;
    let joined = |ids: &std::collections::BTreeSet<String>| {
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        Some(ids.join(", ")).filter(|ids| !ids.is_empty())
    };
    let is_itself = about.job.len() == 1 && about.job.contains(&timeline.subject.id);
    let known = [
        ("job", joined(&about.job).filter(|_| !is_itself)),
        ("device", about.device.clone()),
        ("type", about.device_type.clone()),
        ("worker", about.worker.clone()),
        ("submitter", about.submitter.clone()),
        ("account", joined(&about.account)),
        ("inventory", joined(&about.inventory)),
        ("system", joined(&about.system)),
    ];
    let known: Vec<String> = known
        .into_iter()
        .filter_map(|(name, value)| Some(format!("{name} {}", printable(&value?))))
        .collect();
    let mut lines = Vec::new();
    if !known.is_empty() {
        lines.push(known.join("; "));
    }
    if let Some(description) = &about.description {
        lines.push(printable(description));
    }
    if !timeline.results.is_empty() && !matches!(timeline.verdict, Verdict::Results { .. }) {
        lines.push(format!("results: {}", results_text(timeline)));
    }
    if let Some(wall_us) = timeline.wall_time_us {
        let in_services = timeline.service_time_us.map_or("unknown".to_owned(), duration_text);
        lines.push(format!(
            "time in services {in_services}, wall time {}",
            duration_text(wall_us)
        ));
    }
    let skewed: Vec<&str> = timeline
        .services
        .iter()
        .filter(|passage| passage.is_skewed())
        .map(|passage| passage.service.as_str())
        .collect();
    if !skewed.is_empty() {
        lines.push(format!(
            "clocks differ: {} began before the service ahead had ended",
            printable(&skewed.join(", "))
        ));
    }
    lines
}

fn tables(timeline: &Timeline) -> Vec<Table> {
    let mut states = Table::new(STATES);
    for span in &timeline.states {
        states.push(vec![
            span.state.as_str().into(),
            span.health.as_deref().into(),
            Cell::Time(Some(span.from_us)),
            Cell::Duration(span.to_us.map(|to_us| to_us - span.from_us)),
        ]);
    }
    let mut services = Table::new(SERVICES);
    for passage in &timeline.services {
        services.push(vec![
            passage.service.as_str().into(),
            Some(passage.source.as_str()).filter(|source| !source.is_empty()).into(),
            passage.status.as_str().into(),
            Cell::Time(passage.received_us),
            Cell::Time(passage.ended_us),
            Cell::Duration(passage.duration_us()),
            Cell::Duration(passage.gap_us),
            Cell::Flag(passage.is_skewed()),
            passage.message.as_deref().into(),
        ]);
    }
    let mut events = Table::new(EVENTS);
    for (entry, after_us) in with_gaps(timeline) {
        events.push(vec![
            Cell::Time(Some(entry.at_us)),
            Cell::Duration(after_us),
            lavabus_protocol::topic::last_part(&entry.event.topic).into(),
            what(entry).into(),
        ]);
    }
    let tables = [states, services, events];
    tables.into_iter().filter(|table| !table.is_empty()).collect()
}

/// Each event with the time since the one before.
fn with_gaps(timeline: &Timeline) -> impl Iterator<Item = (&Entry, Option<i64>)> {
    let before = std::iter::once(None).chain(timeline.events.iter().map(|entry| Some(entry.at_us)));
    let events = timeline.events.iter().zip(before);
    events.map(|(entry, before)| (entry, before.map(|before| entry.at_us - before)))
}

fn what(entry: &Entry) -> String {
    message(&entry.event.row().envelope().into())
}

fn events_in_full(timeline: &Timeline, epoch: Epoch) -> Table {
    let mut table = Table::new(EVENT_COLUMNS);
    for (entry, after_us) in with_gaps(timeline) {
        let typed = &entry.typed;
        let source = match typed.body() {
            Body::Stage(stage) => stage.source.as_deref(),
            _ => None,
        };
        let outcome = match typed.body() {
            Body::Attempt(attempt) => attempt.outcome.as_deref(),
            Body::Result(result) => result.outcome.as_deref(),
            _ => None,
        };
        let record = entry.event.row().to_record(epoch);
        table.push(vec![
            Cell::Time(Some(entry.at_us)),
            Cell::Duration(after_us),
            lavabus_protocol::topic::last_part(&entry.event.topic).into(),
            typed.job().map(|job| job.as_str()).into(),
            typed.device().into(),
            typed.service().into(),
            source.into(),
            typed.state().or(typed.status()).or(outcome).into(),
            typed.health().into(),
            message(&record).into(),
            record.uuid.to_string().into(),
            record.cursor.map(|cursor| cursor.to_string()).into(),
            record.lab.into(),
        ]);
    }
    table
}
