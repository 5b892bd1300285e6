//! How long services took: `.stage` events joined to passages.
//!
//! A passage is one request in one service, or in one part (source) of it: it begins with `received` and ends with
//! `success` or `error`; any other status only informs. A request may pass through a service again.

use std::collections::BTreeMap;

use lavabus_protocol::event::{Body, Stage};

use crate::projection::Told;
use crate::projection::stage::is_end;
use crate::projection::told::time_us;

/// One `.stage` event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageEvent {
    /// Its number: the order in which events arrived.
    pub seq: u64,
    /// From which lab.
    pub lab: String,
    /// When it was, by the service's clock, in µs since 1970.
    pub at_us: i64,
    /// What it says.
    pub stage: Stage,
}

impl StageEvent {
    /// Of an event that names service, request and status.
    pub(super) fn of(told: &Told<'_>) -> Option<StageEvent> {
        let Body::Stage(stage) = told.event.body() else {
            return None;
        };
        let is_whole = stage.service.is_some() && stage.request.is_some() && stage.status.is_some();
        is_whole.then(|| StageEvent {
            seq: told.row.seq,
            lab: told.row.lab.to_owned(),
            at_us: time_us(stage.date.as_deref()).unwrap_or_else(|| told.at_us()),
            stage: stage.as_ref().clone(),
        })
    }

    fn status(&self) -> &str {
        self.stage.status.as_deref().unwrap_or_default()
    }

    fn is_begin(&self) -> bool {
        self.status().eq_ignore_ascii_case("received")
    }

    /// In the order of time; of two at the same instant `received` is the first and an end the last.
    fn order(&self) -> (i64, u8, u64) {
        let rank = match self.status() {
            _ if self.is_begin() => 0,
            status if is_end(status) => 2,
            _ => 1,
        };
        (self.at_us, rank, self.seq)
    }
}

/// One request in one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// From which lab.
    pub lab: String,
    /// Which request.
    pub request: String,
    /// Which service.
    pub service: String,
    /// Which part of it; empty if that was not said.
    pub source: String,
    /// What it said last.
    pub status: String,
    /// When it was received, in µs since 1970; `None` if nobody said so.
    pub received_us: Option<i64>,
    /// When it ended, in µs since 1970.
    pub ended_us: Option<i64>,
    /// From the end of the service before to the beginning of this one, in µs, where that one had ended when this one
    /// began, in the order in which the events arrived. Below 0 the clocks of the two differ.
    pub gap_us: Option<i64>,
    /// What it said of it last.
    pub message: Option<String>,
    /// Its first event's time, for those that nobody said to be received.
    first_us: i64,
    last_us: i64,
    begin_seq: u64,
    end_seq: Option<u64>,
}

impl Passage {
    fn new(event: &StageEvent) -> Passage {
        let of = |text: &Option<String>| text.clone().unwrap_or_default();
        Passage {
            lab: event.lab.clone(),
            request: of(&event.stage.request),
            service: of(&event.stage.service),
            source: of(&event.stage.source),
            status: String::new(),
            received_us: None,
            ended_us: None,
            gap_us: None,
            message: None,
            first_us: event.at_us,
            last_us: event.at_us,
            begin_seq: event.seq,
            end_seq: None,
        }
    }

    fn add(&mut self, event: &StageEvent) {
        self.last_us = event.at_us;
        if let (true, Some(source)) = (self.source.is_empty(), &event.stage.source) {
            self.source.clone_from(source);
        }
        if self.ended_us.is_some() && !is_end(event.status()) {
            return;
        }
        event.status().clone_into(&mut self.status);
        if event.is_begin() {
            self.received_us = Some(event.at_us);
        }
        if is_end(event.status()) {
            self.ended_us = Some(event.at_us);
            self.end_seq = Some(event.seq);
        }
        self.message = event.stage.message.clone().or(self.message.take());
    }

    /// How long it was in the service, in µs, if it was received and has ended.
    pub fn duration_us(&self) -> Option<i64> {
        Some(self.ended_us? - self.received_us?)
    }

    /// Whether it ended with an error.
    pub fn is_error(&self) -> bool {
        self.ended_us.is_some() && self.status.eq_ignore_ascii_case("error")
    }

    /// Whether it was received and has not ended.
    pub fn is_open(&self) -> bool {
        self.received_us.is_some() && self.ended_us.is_none()
    }

    /// Whether it began before the service ahead of it had ended, which only clocks that differ can explain.
    pub fn is_skewed(&self) -> bool {
        self.gap_us.is_some_and(|gap| gap < 0)
    }

    /// When it was heard of first, in µs since 1970.
    pub fn first_us(&self) -> i64 {
        self.first_us
    }

    /// When it was heard of last, in µs since 1970.
    pub fn last_us(&self) -> i64 {
        self.last_us
    }
}

/// Which of the passages through one service an event belongs to. Who does not say from which part of the service it is
/// means the one that is open.
fn place(known: &[Passage], event: &StageEvent) -> Option<usize> {
    let source = event.stage.source.as_deref().unwrap_or_default();
    let same = known.iter().rposition(|passage| passage.source == source);
    if event.is_begin() {
        return same.filter(|at| known[*at].received_us.is_none() && known[*at].ended_us.is_none());
    }
    let open = || known.iter().rposition(Passage::is_open);
    match source {
        "" => same.filter(|at| known[*at].is_open()).or_else(open).or(same),
        _ => same.or_else(|| {
            known
                .iter()
                .rposition(|passage| passage.source.is_empty() && passage.is_open())
        }),
    }
}

/// All passages, in the order in which they began.
pub fn passages(events: &[StageEvent]) -> Vec<Passage> {
    let mut sorted: Vec<&StageEvent> = events.iter().collect();
    sorted.sort_by_key(|event| event.order());
    let mut by_service: BTreeMap<_, Vec<Passage>> = BTreeMap::new();
    for event in sorted {
        let stage = &event.stage;
        let known = by_service
            .entry((&event.lab, &stage.request, &stage.service))
            .or_default();
        let at = place(known, event).unwrap_or_else(|| {
            known.push(Passage::new(event));
            known.len() - 1
        });
        known[at].add(event);
    }
    let mut passages: Vec<Passage> = by_service.into_values().flatten().collect();
    passages.sort_by_key(|passage| (passage.first_us, passage.begin_seq));
    find_gaps(&mut passages);
    passages
}

/// The service before is the last one of the same request that had ended, as the events arrived, when this one began.
fn find_gaps(passages: &mut [Passage]) {
    let mut ends: BTreeMap<(String, String), BTreeMap<u64, i64>> = BTreeMap::new();
    for passage in passages.iter() {
        if let (Some(seq), Some(at_us)) = (passage.end_seq, passage.ended_us) {
            let request = (passage.lab.clone(), passage.request.clone());
            ends.entry(request).or_default().insert(seq, at_us);
        }
    }
    for passage in passages {
        let ends = ends.get(&(passage.lab.clone(), passage.request.clone()));
        let mut before = ends.into_iter().flat_map(|ends| ends.range(..passage.begin_seq).rev());
        // Its own end may have arrived before its beginning.
        let before = before.find(|(seq, _)| Some(**seq) != passage.end_seq);
        passage.gap_us = before.map(|(_, ended_us)| passage.first_us - ended_us);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::reader::Event;

    fn event(seq: u64, at_s: i64, service: &str, source: Option<&str>, status: &str) -> StageEvent {
        StageEvent {
            seq,
            lab: String::new(),
            at_us: at_s * 1_000_000,
            stage: Stage {
                service: Some(service.to_owned()),
                request: Some("r".to_owned()),
                status: Some(status.to_owned()),
                source: source.map(str::to_owned),
                ..Stage::default()
            },
        }
    }

    /// Service, source, status, seconds in it, gap in seconds.
    type Row = (String, String, String, Option<i64>, Option<i64>);

    fn rows(events: &[StageEvent]) -> Vec<Row> {
        let seconds = |us: Option<i64>| us.map(|us| us / 1_000_000);
        let passages = passages(events);
        let row = |passage: &Passage| {
            let text = [&passage.service, &passage.source, &passage.status].map(Clone::clone);
            let [service, source, status] = text;
            (
                service,
                source,
                status,
                seconds(passage.duration_us()),
                seconds(passage.gap_us),
            )
        };
        passages.iter().map(row).collect()
    }

    fn row(service: &str, source: &str, status: &str, duration: Option<i64>, gap: Option<i64>) -> Row {
        (service.to_owned(), source.to_owned(), status.to_owned(), duration, gap)
    }

    #[test]
    fn received_to_its_end() {
        let events = [
            event(1, 10, "ingress", None, "received"),
            event(2, 11, "ingress", None, "processing"),
            event(3, 12, "ingress", None, "success"),
            event(4, 15, "puptoo", Some("a"), "received"),
            event(5, 15, "puptoo", Some("b"), "received"),
            event(6, 18, "puptoo", Some("b"), "Error"),
        ];
        assert_eq!(
            rows(&events),
            [
                row("ingress", "", "success", Some(2), None),
                row("puptoo", "a", "received", None, Some(3)),
                row("puptoo", "b", "Error", Some(3), Some(3)),
            ]
        );
    }

    #[test]
    fn two_statuses_at_the_same_instant_are_in_order_whichever_arrives_first() {
        let events = [event(1, 10, "a", None, "success"), event(2, 10, "a", None, "received")];
        assert_eq!(rows(&events), [row("a", "", "success", Some(0), None)]);
    }

    #[test]
    fn a_service_that_is_gone_through_again_has_two_rows() {
        let events = [
            event(1, 1, "a", None, "received"),
            event(2, 3, "a", None, "error"),
            event(3, 10, "a", None, "received"),
            event(4, 11, "a", None, "success"),
        ];
        assert_eq!(
            rows(&events),
            [
                row("a", "", "error", Some(2), None),
                row("a", "", "success", Some(1), Some(7)),
            ]
        );
    }

    #[test]
    fn an_end_without_a_source_ends_what_is_open() {
        let stage = |seq: u64, source: &str, status: &str| {
            let source = if source.is_empty() {
                String::new()
            } else {
                format!(r#""source": "{source}","#)
            };
            let data = format!(r#"{{"service": "s", {source} "request_id": "q", "status": "{status}"}}"#);
            let event = Event {
                seq,
                id: lavabus_protocol::EventId([0; 16]),
                received_us: seq.cast_signed(),
                topic: "lab.stage".to_owned(),
                sent: String::new(),
                user: String::new(),
                data,
                lab: String::new(),
            };
            StageEvent::of(&Told::read(event.row())).unwrap()
        };
        let one = passages(&[stage(1, "a", "received"), stage(2, "", "success")]);
        assert_eq!(
            (one.len(), one[0].duration_us(), one[0].source.as_str()),
            (1, Some(1), "a")
        );
        let one = passages(&[stage(1, "", "received"), stage(2, "a", "success")]);
        assert_eq!(
            (one.len(), one[0].duration_us(), one[0].source.as_str()),
            (1, Some(1), "a")
        );
        let two = passages(&[
            stage(1, "a", "received"),
            stage(2, "b", "received"),
            stage(3, "a", "success"),
        ]);
        assert_eq!((two.len(), two[0].is_open(), two[1].is_open()), (2, false, true));
    }

    #[test]
    fn clocks_that_differ_show_as_a_gap_below_zero() {
        let events = [
            event(1, 10, "a", None, "received"),
            event(2, 20, "a", None, "success"),
            event(3, 17, "b", None, "received"),
            event(4, 19, "b", None, "success"),
        ];
        let passages = passages(&events);
        let b = passages.iter().find(|passage| passage.service == "b").unwrap();
        assert_eq!((b.gap_us, b.is_skewed()), (Some(-3_000_000), true));
        // A service that begins while the one before is still at it is no sign of that.
        let parallel = [
            event(1, 10, "a", None, "received"),
            event(2, 17, "b", None, "received"),
            event(3, 20, "a", None, "success"),
        ];
        assert!(super::passages(&parallel).iter().all(|passage| !passage.is_skewed()));
    }

    #[test]
    fn an_end_that_nobody_began_has_no_duration() {
        let events = [event(1, 10, "a", None, "success")];
        assert_eq!(rows(&events), [row("a", "", "success", None, None)]);
    }

    proptest! {
        /// No event is lost, in whatever order they come: each end and each beginning is one passage's.
        #[test]
        fn the_order_in_which_they_are_read_does_not_matter(
            events in prop::collection::vec((0_i64..5, 0_usize..2, 0_usize..2, 0_usize..4), 0..20),
            turn in any::<prop::sample::Index>(),
        ) {
            let statuses = ["received", "success", "error", "working"];
            let sources = [None, Some("x")];
            let events: Vec<StageEvent> = events
                .iter()
                .zip(1..)
                .map(|((at, service, source, status), seq)| {
                    event(seq, *at, ["a", "b"][*service], sources[*source], statuses[*status])
                })
                .collect();
            let mut turned = events.clone();
            if !turned.is_empty() {
                let at = turn.index(turned.len());
                turned.rotate_left(at);
            }
            prop_assert_eq!(passages(&events), passages(&turned));
            let begins = events.iter().filter(|event| event.is_begin()).count();
            let begun = passages(&events).iter().filter(|passage| passage.received_us.is_some()).count();
            prop_assert_eq!(begins, begun);
            for passage in passages(&events) {
                prop_assert!(passage.duration_us().is_none_or(|duration| duration >= 0));
            }
        }
    }
}
