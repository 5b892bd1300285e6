//! The figures of a run, as text and as JSON.

use std::fmt::{self, Display};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::count::Count;

/// The figures of a run. The keys of the JSON are public.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// What the topics of the run begin with.
    pub(super) topic: String,
    pub(super) sent: u64,
    /// Bytes of data of one event.
    pub(super) size: usize,
    /// Asked for, in events a second.
    pub(super) rate: Option<f64>,
    pub(super) subscribers: usize,
    pub(super) narrow: bool,
    /// By each subscriber.
    pub(super) received: Vec<u64>,
    /// All subscribers together, as the next two.
    pub(super) lost: u64,
    pub(super) repeated: u64,
    pub(super) out_of_order: u64,
    /// From the first event sent to the last one received.
    pub(super) seconds: f64,
    pub(super) events_per_second: f64,
    pub(super) deliveries_per_second: f64,
    pub(super) latency_us: Option<Latency>,
}

/// From handing an event to the intake's connection to having read it, in µs.
#[derive(Debug, Serialize)]
pub(super) struct Latency {
    p50: u64,
    p90: u64,
    p99: u64,
    max: u64,
}

impl Latency {
    /// `None` when nothing was received.
    pub(super) fn of(histogram: &Histogram<u64>) -> Option<Latency> {
        (!histogram.is_empty()).then(|| Latency {
            p50: histogram.value_at_quantile(0.5),
            p90: histogram.value_at_quantile(0.9),
            p99: histogram.value_at_quantile(0.99),
            max: histogram.max(),
        })
    }
}

impl Report {
    /// Sums up what each subscriber counted, in `time`.
    pub(super) fn count(&mut self, counts: &[Count], time: Duration) {
        let sum = |of: fn(&Count) -> u64| counts.iter().map(of).sum::<u64>();
        self.received = counts.iter().map(Count::received).collect();
        self.lost = sum(Count::lost);
        self.repeated = sum(Count::repeated);
        self.out_of_order = sum(Count::out_of_order);
        self.seconds = time.as_secs_f64();
        let per_second = |count: u64| {
            if time.is_zero() {
                0.0
            } else {
                count as f64 / self.seconds
            }
        };
        self.events_per_second = per_second(self.sent);
        self.deliveries_per_second = per_second(self.received.iter().sum());
    }

    pub(super) fn to_json_line(&self) -> String {
        let mut line = serde_json::to_string(self).expect("strings and numbers are always written");
        line.push('\n');
        line
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sent          {} events with {} bytes of data", self.sent, self.size)?;
        match self.rate {
            Some(rate) => writeln!(f, ", {rate} a second")?,
            None => writeln!(f, ", as fast as they were taken")?,
        }
        let (least, most) = (self.received.iter().min(), self.received.iter().max());
        let kind = if self.narrow { "a part each" } else { "all of them each" };
        writeln!(f, "subscribers   {}, {kind}", self.subscribers)?;
        match (least, most) {
            (Some(least), Some(most)) if least != most => writeln!(f, "received      {least} to {most} each")?,
            (least, _) => writeln!(f, "received      {} each", least.unwrap_or(&0))?,
        }
        writeln!(f, "lost          {}", self.lost)?;
        writeln!(f, "repeated      {}", self.repeated)?;
        writeln!(f, "out of order  {}", self.out_of_order)?;
        writeln!(
            f,
            "throughput    {:.0} events/s, {:.0} deliveries/s, {:.3} s",
            self.events_per_second, self.deliveries_per_second, self.seconds
        )?;
        match &self.latency_us {
            Some(Latency { p50, p90, p99, max }) => {
                let [p50, p90, p99, max] = [p50, p90, p99, max].map(|micros| Milliseconds(*micros));
                writeln!(f, "latency       p50 {p50}, p90 {p90}, p99 {p99}, max {max}")
            }
            None => writeln!(f, "latency       nothing was received"),
        }
    }
}

/// Microseconds, written as milliseconds with three digits that count.
struct Milliseconds(u64);

impl Display for Milliseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = self.0 as f64 / 1_000.0;
        match self.0 {
            0..10_000 => write!(f, "{milliseconds:.2} ms"),
            10_000..100_000 => write!(f, "{milliseconds:.1} ms"),
            _ => write!(f, "{milliseconds:.0} ms"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut histogram = Histogram::new_with_bounds(1, 600_000_000, 3).unwrap();
        for micros in 1..=1_000 {
            histogram.record(micros * 37).unwrap();
        }
        let mut report = Report {
            topic: "org.lavabus.bench.0000beef.".to_owned(),
            sent: 1_000,
            size: 300,
            rate: Some(500.0),
            subscribers: 2,
            narrow: false,
            received: Vec::new(),
            lost: 0,
            repeated: 0,
            out_of_order: 0,
            seconds: 0.0,
            events_per_second: 0.0,
            deliveries_per_second: 0.0,
            latency_us: Latency::of(&histogram),
        };
        let mut whole = Count::new(1_000, 0, 1);
        for index in 0..1_000 {
            whole.see(index);
        }
        let mut worse = Count::new(1_000, 0, 1);
        for index in (0..1_000).filter(|index| index % 100 != 7).chain([7, 8]) {
            worse.see(index);
        }
        report.count(&[whole, worse], Duration::from_millis(2_500));
        report
    }

    #[test]
    fn as_text() {
        insta::assert_snapshot!(report().to_string(), @r#"
    sent          1000 events with 300 bytes of data, 500 a second
    subscribers   2, all of them each
    received      991 to 1000 each
    lost          9
    repeated      1
    out of order  1
    throughput    400 events/s, 796 deliveries/s, 2.500 s
    latency       p50 18.5 ms, p90 33.3 ms, p99 36.6 ms, max 37.0 ms
    "#);
        let mut report = report();
        report.count(&[], Duration::ZERO);
        (report.rate, report.narrow, report.latency_us) = (None, true, None);
        insta::assert_snapshot!(report.to_string(), @r#"
    sent          1000 events with 300 bytes of data, as fast as they were taken
    subscribers   2, a part each
    received      0 each
    lost          0
    repeated      0
    out of order  0
    throughput    0 events/s, 0 deliveries/s, 0.000 s
    latency       nothing was received
    "#);
    }

    #[test]
    fn as_json() {
        insta::assert_snapshot!(report().to_json_line(), @r#"{"topic":"org.lavabus.bench.0000beef.","sent":1000,"size":300,"rate":500.0,"subscribers":2,"narrow":false,"received":[1000,991],"lost":9,"repeated":1,"out_of_order":1,"seconds":2.5,"events_per_second":400.0,"deliveries_per_second":796.4,"latency_us":{"p50":18511,"p90":33311,"p99":36639,"max":37023}}"#);
    }
}
