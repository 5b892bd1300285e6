//! One filter, used by the command line, the WebSocket and the rules.

mod candidate;
mod field;
mod pattern;

pub use self::candidate::Candidate;
pub use self::field::{Field, FieldError};
pub use self::pattern::{Pattern, PatternError};

use crate::topic::Kind;

/// Which events somebody wants.
///
/// Clauses about the same field are alternatives: one of them must match. Different fields must all be satisfied. No
/// negated clause may match. A field that an event does not have matches no clause, so a negated one lets it through.
/// The empty filter matches every event.
///
/// ```
/// use lavabus_protocol::filter::{Candidate, Field, Filter};
///
/// let mut filter = Filter::default();
/// filter.add(Field::Kind, false, "job")?;
/// filter.add(Field::State, false, "running")?;
/// filter.add(Field::State, false, "finished")?;
/// filter.add(Field::Device, true, "~^qemu-")?;
///
/// let matches = |data| filter.matches(&Candidate::new("org.example.testjob", "admin", data));
/// assert!(matches(r#"{"job": 1995, "state": "Running", "device": "bbb-01"}"#));
/// assert!(!matches(r#"{"job": 1995, "state": "Running", "device": "qemu-01"}"#));
/// assert!(!matches(r#"{"job": 1995, "state": "Submitted"}"#));
/// # Ok::<(), lavabus_protocol::filter::PatternError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// In the order of [`Field`], which puts what is cheap to know first.
    clauses: Vec<Clause>,
}

/// One condition of a [`Filter`].
#[derive(Clone, Debug)]
pub struct Clause {
    /// What it looks at.
    pub field: Field,
    /// Whether it must not match.
    pub negated: bool,
    /// What it looks for.
    pub pattern: Pattern,
}

impl Filter {
    /// Adds a clause; `text` is read by [`Pattern::parse`].
    ///
    /// # Errors
    ///
    /// [`PatternError`] if `text` is no pattern for this field.
    pub fn add(&mut self, field: Field, negated: bool, text: &str) -> Result<(), PatternError> {
        let pattern = Pattern::parse(field, text)?;
        let place = self.clauses.partition_point(|clause| clause.field <= field);
        self.clauses.insert(
            place,
            Clause {
                field,
                negated,
                pattern,
            },
        );
        Ok(())
    }

    /// Its clauses, those of one field beside each other.
    pub fn clauses(&self) -> &[Clause] {
        &self.clauses
    }

    /// How many of its clauses are regular expressions, which take memory as long as the filter lives: each at most half a
    /// MiB, and a quarter more for each thread that uses it.
    pub fn expressions(&self) -> usize {
        let is_expression = |clause: &&Clause| matches!(clause.pattern, Pattern::Regex(_));
        self.clauses.iter().filter(is_expression).count()
    }

    /// Whether it has no clause, and so matches everything.
    pub fn is_empty(&self) -> bool {
        self.clauses.is_empty()
    }

    /// Whether this event is wanted. Its data is read only if topic, user and lab do not decide.
    pub fn matches(&self, candidate: &Candidate<'_>) -> bool {
        let mut by_field = self.clauses.chunk_by(|one, other| one.field == other.field);
        by_field.all(|clauses| field_matches(clauses, candidate))
    }

    /// The ZeroMQ subscriptions that are enough to receive everything this filter can match, and seldom much more.
    ///
    /// With topics written out, these topics; otherwise one empty subscription, which is everything. Kinds are no help:
    /// they stand at a topic's end, and a subscription is its beginning.
    pub fn subscription_prefixes(&self) -> Vec<String> {
        let topics: Vec<&Clause> = self
            .clauses
            .iter()
            .filter(|clause| clause.field == Field::Topic && !clause.negated)
            .collect();
        let mut prefixes: Vec<String> = topics
            .iter()
            .map(|clause| clause.pattern.literal_prefix().to_owned())
            .collect();
        if prefixes.is_empty() {
            return vec![String::new()];
        }
        // Sorted, a prefix comes just before all that begin with it.
        prefixes.sort_unstable();
        prefixes.dedup_by(|later, kept| later.starts_with(kept.as_str()));
        prefixes
    }
}

fn field_matches(clauses: &[Clause], candidate: &Candidate<'_>) -> bool {
    let Some(field) = clauses.first().map(|clause| clause.field) else {
        return true;
    };
    let values = candidate.values(field);
    let matches = |clause: &Clause| values.iter().flatten().any(|value| clause.pattern.matches(value));
    let mut wanted = clauses.iter().filter(|clause| !clause.negated).peekable();
    if clauses.iter().any(|clause| clause.negated && matches(clause)) {
        return false;
    }
    wanted.peek().is_none() || wanted.any(matches)
}

/// How a value is compared depends on the field: names in LAVA are case-sensitive, its words are not.
fn ignores_case(field: Field) -> bool {
    matches!(field, Field::Kind | Field::State | Field::Health | Field::Status)
}

/// A kind that is not known is looked for as it was written, as the end of a topic.
fn canonical_kind(text: &str) -> &str {
    match text.parse() {
        Ok(Kind::Other) | Err(_) => text,
        Ok(kind) => kind.as_str(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filter(clauses: &[(Field, bool, &str)]) -> Filter {
        let mut filter = Filter::default();
        for (field, negated, text) in clauses {
            filter.add(*field, *negated, text).unwrap();
        }
        filter
    }

    const JOB: &str = r#"{"job": 8, "sub_id": "7.1", "state": "Finished", "health": "Incomplete", "submitter": "admin",
        "device": "qemu-03", "device_type": "qemu", "worker": "worker-01"}"#;

    fn job_matches(clauses: &[(Field, bool, &str)]) -> bool {
        filter(clauses).matches(&Candidate::new("org.example.lab.testjob", "admin", JOB).with_lab("main"))
    }

    #[test]
    fn the_empty_filter_matches_everything() {
        assert!(Filter::default().matches(&Candidate::new("x", "", "no json at all")));
        assert!(Filter::default().is_empty());
    }

    #[test]
    fn every_field_finds_its_value_and_no_other() {
        let stage = r#"{"service": "advisor", "status": "received", "account": "12", "message": "hello"}"#;
        let job = Candidate::new("org.example.lab.testjob", "user", JOB).with_lab("main");
        let stage = Candidate::new("org.example.lab.stage", "user", stage);
        for (field, value, candidate) in [
            (Field::Kind, "testjob", &job),
            (Field::Topic, "org.example.lab.testjob", &job),
            (Field::User, "user", &job),
            (Field::Lab, "main", &job),
            (Field::Job, "8", &job),
            (Field::Device, "qemu-03", &job),
            (Field::DeviceType, "qemu", &job),
            (Field::Worker, "worker-01", &job),
            (Field::Submitter, "admin", &job),
            (Field::State, "Finished", &job),
            (Field::Health, "Incomplete", &job),
            (Field::Message, "hello", &stage),
            (Field::Service, "advisor", &stage),
            (Field::Status, "received", &stage),
            (Field::Account, "12", &stage),
        ] {
            assert!(filter(&[(field, false, value)]).matches(candidate), "{field}");
            assert!(!filter(&[(field, true, value)]).matches(candidate), "{field}");
            let other = format!("{value}x");
            assert!(!filter(&[(field, false, &other)]).matches(candidate), "{field}");
            assert!(filter(&[(field, true, &other)]).matches(candidate), "{field}");
            let regex = format!("~^{}$", regex::escape(value));
            assert!(filter(&[(field, false, &regex)]).matches(candidate), "{field}");
            assert!(!filter(&[(field, false, "~^$")]).matches(candidate), "{field}");
        }
    }

    #[test]
    fn one_field_is_or_different_fields_are_and() {
        use Field::{Device, Kind, State};
        assert!(job_matches(&[(State, false, "running"), (State, false, "finished")]));
        assert!(!job_matches(&[(State, false, "running"), (State, false, "submitted")]));
        assert!(job_matches(&[
            (State, false, "finished"),
            (Device, false, "qemu-03"),
            (Kind, false, "job")
        ]));
        assert!(!job_matches(&[(State, false, "finished"), (Device, false, "qemu-04")]));
    }

    #[test]
    fn no_negated_clause_may_match() {
        use Field::{Device, State};
        assert!(!job_matches(&[(State, true, "finished"), (State, true, "running")]));
        assert!(job_matches(&[(State, true, "submitted"), (State, true, "running")]));
        assert!(!job_matches(&[(Device, false, "~qemu"), (Device, true, "qemu-03")]));
        assert!(job_matches(&[(Device, false, "~qemu"), (Device, true, "qemu-04")]));
    }

    #[test]
    fn a_missing_field_matches_no_clause() {
        assert!(!job_matches(&[(Field::Message, false, "~")]));
        assert!(job_matches(&[(Field::Message, true, "~")]));
        let no_lab = Candidate::new("x.device", "u", "{}");
        assert!(!filter(&[(Field::Lab, false, "main")]).matches(&no_lab));
        assert!(filter(&[(Field::Lab, true, "main")]).matches(&no_lab));
    }

    #[test]
    fn a_job_is_found_by_every_form_and_by_its_sub_id() {
        for id in [
            "8",
            "7.1",
            "job/8",
            "http://lava/scheduler/job/8",
            "https://lava/scheduler/job/7.1/",
        ] {
            assert!(job_matches(&[(Field::Job, false, id)]), "{id}");
            assert!(!job_matches(&[(Field::Job, true, id)]), "{id}");
        }
        assert!(!job_matches(&[(Field::Job, false, "7")]));
    }

    #[test]
    fn case_counts_in_names_and_not_in_words() {
        assert!(job_matches(&[(Field::State, false, "FINISHED")]));
        assert!(job_matches(&[(Field::Health, false, "~^incomp")]));
        assert!(job_matches(&[(Field::Kind, false, "JOB")]));
        assert!(!job_matches(&[(Field::Device, false, "QEMU-03")]));
        assert!(!job_matches(&[(Field::Device, false, "~QEMU")]));
    }

    #[test]
    fn an_unknown_kind_is_the_end_of_a_topic() {
        let candidate = Candidate::new("org.example.power", "u", "{}");
        assert!(filter(&[(Field::Kind, false, "power")]).matches(&candidate));
        assert!(filter(&[(Field::Kind, true, "device")]).matches(&candidate));
    }

    #[test]
    fn a_topic_is_the_whole_or_begins_with_what_stands_before_the_star() {
        assert!(job_matches(&[(Field::Topic, false, "org.example.*")]));
        assert!(job_matches(&[(Field::Topic, false, "*")]));
        assert!(!job_matches(&[(Field::Topic, false, "org.example")]));
        assert!(!job_matches(&[(Field::Topic, false, "org.other.*")]));
        assert!(!job_matches(&[(Field::Topic, true, "org.example.*")]));
    }

    #[test]
    fn data_is_not_read_where_other_fields_decide() {
        let candidate = Candidate::new("org.example.device", "admin", JOB);
        let filter = filter(&[(Field::State, false, "finished"), (Field::Kind, false, "worker")]);
        assert!(!filter.matches(&candidate));
        assert!(!candidate.is_read());
    }

    #[test]
    fn prefixes() {
        use Field::{Kind, Topic};
        let prefixes = |clauses: &[(Field, bool, &str)]| filter(clauses).subscription_prefixes();
        assert_eq!(prefixes(&[]), [""]);
        assert_eq!(prefixes(&[(Kind, false, "device")]), [""]);
        assert_eq!(prefixes(&[(Topic, true, "a")]), [""]);
        assert_eq!(prefixes(&[(Topic, false, "a"), (Topic, false, "~b")]), [""]);
        assert_eq!(
            prefixes(&[(Topic, false, "b.x"), (Topic, false, "a.y"), (Topic, false, "a.y")]),
            ["a.y", "b.x"]
        );
        assert_eq!(
            prefixes(&[(Topic, false, "a.x"), (Topic, false, "a.*"), (Topic, true, "b")]),
            ["a."]
        );
        assert_eq!(prefixes(&[(Topic, false, "a"), (Topic, false, "*")]), [""]);
    }

    fn clauses() -> impl Strategy<Value = Vec<(Field, bool, String)>> {
        let field = proptest::sample::select(vec![Field::Kind, Field::Topic, Field::State, Field::Job]);
        let text = "(a\\.|b\\.|)(device|testjob|\\*)|~\\^a|Idle|running|[12]|~[ab]";
        proptest::collection::vec((field, any::<bool>(), text), 0..5)
    }

    proptest! {
        /// The rule as it is documented, written a second time without regard to speed or order.
        #[test]
        fn matching_is_as_documented_and_within_the_prefixes(
            clauses in clauses(),
            topic in "(a\\.|b\\.|)(device|testjob)",
            state in "Idle|Running",
            job in "[12]",
        ) {
            let data = format!("{{\"state\": \"{state}\", \"job\": {job}}}");
            let candidate = Candidate::new(&topic, "u", &data);
            let single = |field, text: &str| filter(&[(field, false, text)]).matches(&candidate);
            let expected = clauses.iter().all(|(field, negated, text)| {
                if *negated {
                    !single(*field, text)
                } else {
                    clauses.iter().any(|(other, negated, text)| other == field && !negated && single(*field, text))
                }
            });
            let borrowed: Vec<_> = clauses.iter().map(|(field, negated, text)| (*field, *negated, text.as_str())).collect();
            let filter = filter(&borrowed);
            prop_assert_eq!(filter.matches(&candidate), expected);
            if expected {
                prop_assert!(filter.subscription_prefixes().iter().any(|prefix| topic.starts_with(prefix.as_str())));
            }
        }

        #[test]
        fn any_pattern_is_taken_or_refused(text in "\\PC{0,20}|~[\\[\\](){}*+?a-z\\\\|^$.]{0,16}") {
            for field in Field::ALL {
                let _ = Filter::default().add(field, false, &text);
            }
        }
    }
}
