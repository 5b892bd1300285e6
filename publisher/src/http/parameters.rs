//! What a request names: `/devices/NAME`, `?kind=testjob&limit=10`. A parameter that is not known is an error: a filter that was misspelt
//! would let everything through.

use axum::extract::{FromRequestParts, Path, Query};
use http::StatusCode;
use http::request::Parts;
use jiff::Timestamp;
use lavabus_protocol::filter::{Field, Filter};
use lavabus_protocol::{Cursor, CursorError};

use crate::http::{Http, Problem};

/// Clauses of a filter that one request may have: each event is compared with all of them,
const MAX_CLAUSES: usize = 32;
/// and regular expressions among them: each may take half a MiB.
const MAX_EXPRESSIONS: usize = 8;

/// Name and value each, in the order of the request. Whoever reads one takes it out.
#[derive(Debug)]
pub(crate) struct Parameters(Vec<(String, String)>);

impl FromRequestParts<Http> for Parameters {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Http) -> Result<Parameters, Problem> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(pairs)) => Ok(Parameters(pairs)),
            Err(error) => Err(bad(format!("the parameters cannot be read: {error}"))),
        }
    }
}

/// The last part of the path, such as a device's name.
#[derive(Debug)]
pub(crate) struct Name(pub(crate) String);

impl FromRequestParts<Http> for Name {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, http: &Http) -> Result<Name, Problem> {
        match Path::from_request_parts(parts, http).await {
            Ok(Path(name)) => Ok(Name(name)),
            Err(_) => Err(bad("the name in the path cannot be read")),
        }
    }
}

fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, detail)
}

impl Parameters {
    /// The only value of this name.
    pub(crate) fn one(&mut self, name: &str) -> Result<Option<String>, Problem> {
        let mut values = self
            .0
            .extract_if(.., |(found, _)| found == name)
            .map(|(_, value)| value);
        let value = values.next();
        match values.next() {
            None => Ok(value),
            Some(_) => Err(bad(format!("the parameter {name} stands there twice"))),
        }
    }

    /// A cursor.
    pub(crate) fn cursor(&mut self, name: &str) -> Result<Option<Cursor>, Problem> {
        let value = self.one(name)?;
        let cursor = value.map(|value| value.parse().map_err(|error: CursorError| error.to_string()));
        cursor
            .transpose()
            .map_err(|error| bad(format!("the parameter {name}: {error}")))
    }

    /// A time, in µs since 1970.
    pub(crate) fn time(&mut self, name: &str) -> Result<Option<i64>, Problem> {
        let Some(value) = self.one(name)? else {
            return Ok(None);
        };
        match value.parse::<Timestamp>() {
            Ok(time) => Ok(Some(time.as_microsecond())),
            Err(_) => Err(bad(format!(
                "the parameter {name}: {value:?} is no time, expected RFC 3339 such as 2026-11-21T05:01:05Z (a + is written %2B)"
            ))),
        }
    }

    /// A number from 1 to `most`.
    pub(crate) fn number(&mut self, name: &str, otherwise: usize, most: usize) -> Result<usize, Problem> {
        let Some(value) = self.one(name)? else {
            return Ok(otherwise);
        };
        let digits = value.bytes().all(|byte| byte.is_ascii_digit());
        let number = value
            .parse()
            .ok()
            .filter(|number| digits && (1..=most).contains(number));
        number.ok_or_else(|| bad(format!("the parameter {name}: {value:?} is no number from 1 to {most}")))
    }

    /// `true` or `false`; the name alone is `true`.
    pub(crate) fn flag(&mut self, name: &str) -> Result<bool, Problem> {
        match self.one(name)?.as_deref() {
            None | Some("false") => Ok(false),
            Some("" | "true") => Ok(true),
            Some(value) => Err(bad(format!(
                "the parameter {name}: {value:?} is neither true nor false"
            ))),
        }
    }

    /// `kind=`, `not_kind=` and so on, as the command line's `--kind` and `--not-kind`.
    pub(crate) fn filter(&mut self) -> Result<Filter, Problem> {
        let mut filter = Filter::default();
        let clauses = self.0.extract_if(.., |(name, _)| clause(name).is_some());
        for (name, value) in clauses {
            let (field, negated) = clause(&name).expect("taken out because it is one");
            filter
                .add(field, negated, &value)
                .map_err(|error| bad(format!("the parameter {name}: {error}")))?;
            if filter.clauses().len() > MAX_CLAUSES {
                return Err(bad(format!("more than {MAX_CLAUSES} values to filter by")));
            }
            if filter.expressions() > MAX_EXPRESSIONS {
                return Err(bad(format!("more than {MAX_EXPRESSIONS} regular expressions")));
            }
        }
        Ok(filter)
    }

    /// To be called last.
    pub(crate) fn nothing_else(self) -> Result<(), Problem> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(bad(format!("there is no parameter {name:?} here"))),
        }
    }
}

fn clause(name: &str) -> Option<(Field, bool)> {
    let (negated, name) = match name.strip_prefix("not_") {
        Some(name) => (true, name),
        None => (false, name),
    };
    Field::ALL
        .into_iter()
        .find(|field| parameter(*field) == name)
        .map(|field| (field, negated))
}

/// `device_type`, where the command line has `--device-type`.
fn parameter(field: Field) -> String {
    field.as_str().replace('-', "_")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use lavabus_protocol::filter::Candidate;
    use proptest::prelude::*;

    fn parameters(query: &str) -> Parameters {
        let uri: http::Uri = format!("/x?{query}").parse().unwrap();
        let Query(pairs) = Query::try_from_uri(&uri).unwrap();
        Parameters(pairs)
    }

    #[test]
    fn filters_are_those_of_the_command_line() {
        let mut read = parameters("kind=job&not_device=~%5Eqemu-&state=running&state=finished&device_type=bbb");
        let filter = read.filter().unwrap();
        read.nothing_else().unwrap();
        let matches = |state: &str, device: &str| {
            let data = format!(r#"{{"job":1,"state":"{state}","device":"{device}","device_type":"bbb"}}"#);
            filter.matches(&Candidate::new("x.testjob", "u", &data))
        };
        assert!(matches("Running", "bbb-01") && matches("Finished", "bbb-01"));
        assert!(!matches("Submitted", "bbb-01") && !matches("Running", "qemu-01"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for query in [
            "device-type=x",
            "device=~%5B",
            "job=/",
            "topic=@seq",
            "not_x=1",
            "Kind=job",
            "=",
            "not_=1",
        ] {
            let mut read = parameters(query);
            let is_refused = read.filter().is_err() || read.nothing_else().is_err();
            assert!(is_refused, "{query}");
        }
        assert!(parameters(&"device=~a&".repeat(9)).filter().is_err());
        assert!(parameters(&"device=a&".repeat(33)).filter().is_err());
        assert!(parameters(&"device=a&".repeat(32)).filter().is_ok());
        for query in [
            "limit=0",
            "limit=1001",
            "limit=x",
            "limit=%2B1",
            "limit=",
            "limit=1&limit=2",
        ] {
            assert!(parameters(query).number("limit", 1, 1000).is_err(), "{query}");
        }
        assert_eq!(parameters("limit=1000").number("limit", 1, 1000).unwrap(), 1000);
        assert!(parameters("reverse=yes").flag("reverse").is_err());
        assert!(parameters("reverse").flag("reverse").unwrap());
        assert!(parameters("since=yesterday").time("since").is_err());
        assert!(parameters("after=7").cursor("after").is_err());
    }

    proptest! {
        #[test]
        fn any_query_is_read_or_refused(query in "[a-z_=&%~0-9.*-]{0,60}") {
            if let Ok(uri) = format!("/x?{query}").parse::<http::Uri>() && let Ok(Query(pairs)) = Query::try_from_uri(&uri) {
                let mut read = Parameters(pairs);
                let _ = (read.filter(), read.cursor("after"), read.time("since"), read.number("limit", 1, 9), read.nothing_else());
            }
        }
    }
}
