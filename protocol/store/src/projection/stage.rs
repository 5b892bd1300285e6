//! What a service has received and not ended, so that what is stuck is found without looking at every request.

use lavabus_protocol::event::Body;
use rusqlite::Row as SqlRow;
use rusqlite::types::Value;

use super::rows::{Owner, Projection, Table};
use super::told::name;
use super::{Told, integer, text};

/// A request that a service has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenStage {
    /// In which lab; empty where there is only one.
    pub lab: String,
    /// Which request.
    pub request: String,
    /// Which service.
    pub service: String,
    /// Which part of it; empty if that was not said.
    pub source: String,
    /// The number of the event that said `received`, the last one if it was said again.
    pub first_seq: u64,
    /// The number of the last event that told of it.
    pub touched: u64,
    /// What the service said last.
    pub status: String,
    /// Whose request.
    pub account: Option<String>,
    /// The job behind it.
    pub job: Option<String>,
    /// When the service began with it, in µs since 1970, by its own clock.
    pub since_us: i64,
}

/// Whether a stage ends with this status.
pub fn is_end(status: &str) -> bool {
    ["success", "error"].iter().any(|end| end.eq_ignore_ascii_case(status))
}

fn is_begin(status: &str) -> bool {
    status.eq_ignore_ascii_case("received")
}

impl Projection for OpenStage {
    const TABLE: Table = Table {
        name: "stage",
        owner: &["lab", "request", "service"],
        rest: &["source", "status", "account", "job", "since_us"],
        // Nobody waits for a request whose beginning is gone.
        outlives: false,
    };

    fn owners(told: &Told<'_>) -> Vec<Owner> {
        let Body::Stage(stage) = told.event.body() else {
            return Vec::new();
        };
        let named = [&stage.request, &stage.service, &stage.status].map(|text| name(text.as_deref()));
        let [Some(request), Some(service), Some(_)] = named else {
            return Vec::new();
        };
        vec![vec![told.row.lab.to_owned(), request, service]]
    }

    fn apply(rows: &mut Vec<OpenStage>, owner: &Owner, told: &Told<'_>) {
        let (Body::Stage(stage), [lab, request, service]) = (told.event.body(), owner.as_slice()) else {
            return;
        };
        let Some(status) = &stage.status else { return };
        let source = name(stage.source.as_deref()).unwrap_or_default();
        // Who does not say from which part of the service it is means whatever is open.
        let is_meant = |row: &OpenStage| source.is_empty() || row.source.is_empty() || row.source == source;
        if is_end(status) {
            rows.retain(|row| !is_meant(row));
            return;
        }
        let job = stage.job.as_ref().map(ToString::to_string);
        if is_begin(status) {
            rows.retain(|row| row.source != source);
            rows.push(OpenStage {
                lab: lab.clone(),
                request: request.clone(),
                service: service.clone(),
                source,
                first_seq: told.row.seq,
                touched: told.row.seq,
                status: status.clone(),
                account: name(stage.account.as_deref()),
                job,
                since_us: told.time_us(stage.date.as_deref()).unwrap_or(told.at_us()),
            });
        } else if let Some(known) = rows.iter_mut().rev().find(|row| is_meant(row)) {
            known.touched = told.row.seq;
            known.status.clone_from(status);
            known.account = known.account.take().or(name(stage.account.as_deref()));
            known.job = known.job.take().or(job);
        }
    }

    fn first_seq(&self) -> u64 {
        self.first_seq
    }

    fn touched(&self) -> u64 {
        self.touched
    }

    fn read(row: &SqlRow<'_>) -> Result<OpenStage, rusqlite::Error> {
        Ok(OpenStage {
            lab: row.get(0)?,
            request: row.get(1)?,
            service: row.get(2)?,
            first_seq: row.get::<_, i64>(3)?.cast_unsigned(),
            touched: row.get::<_, i64>(4)?.cast_unsigned(),
            source: row.get(5)?,
            status: row.get(6)?,
            account: row.get(7)?,
            job: row.get(8)?,
            since_us: row.get(9)?,
        })
    }

    fn rest(&self) -> Vec<Value> {
        vec![
            text(Some(&self.source)),
            text(Some(&self.status)),
            text(self.account.as_deref()),
            text(self.job.as_deref()),
            integer(Some(self.since_us)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::rows::from_json_lines::fold;
    use super::*;

    #[test]
    fn what_was_received_is_open_until_its_end() {
        let lines = r#"
            stage {"service": "a", "request_id": "1", "status": "received", "date": "1970-01-01T00:00:30+00:00"}
            stage {"service": "a", "request_id": "1", "status": "processing", "account": "12"}
            stage {"service": "b", "request_id": "1", "status": "received"}
            stage {"service": "b", "request_id": "1", "status": "Error"}
            stage {"service": "c", "request_id": "1", "status": "received", "source": "x"}
            stage {"service": "c", "request_id": "1", "status": "success"}
            stage {"service": "c", "request_id": "1", "status": "received", "source": "y"}
            stage {"service": "c", "request_id": "1", "status": "success", "source": "other"}
            stage {"service": "d", "request_id": "1", "status": "processing"}
            stage {"service": "e", "status": "received"}
        "#;
        let open: Vec<String> = fold::<OpenStage>(lines)
            .iter()
            .flat_map(|(_, rows)| rows)
            .map(|row| {
                format!(
                    "{} {} {:?} {}",
                    row.service,
                    row.status,
                    row.account,
                    row.since_us / 1_000_000
                )
            })
            .collect();
        assert_eq!(open, ["a processing Some(\"12\") 30", "c received None 7"]);
    }
}
