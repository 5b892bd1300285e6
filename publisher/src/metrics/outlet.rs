//! The ways out: who listens there, how far behind, and how much was delivered.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use crate::counters::Counter;
use crate::fan_out::FanOut;

/// A way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outlet {
    /// A publish endpoint.
    ZeroMq,
    /// A publish endpoint with what everybody may see.
    Public,
    /// `/ws/`.
    WebSocket,
    /// Server-sent events.
    Sse,
}

impl Outlet {
    pub(crate) const ALL: [Outlet; 4] = [Outlet::ZeroMq, Outlet::Public, Outlet::WebSocket, Outlet::Sse];

    /// Its label: public API.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Outlet::ZeroMq => "zeromq",
            Outlet::Public => "public",
            Outlet::WebSocket => "websocket",
            Outlet::Sse => "sse",
        }
    }
}

/// What there is to say of each outlet.
#[derive(Debug, Default)]
pub(crate) struct Outlets([Figures; Outlet::ALL.len()]);

impl Outlets {
    pub(crate) fn of(&self, outlet: Outlet) -> &Figures {
        &self.0[outlet as usize]
    }
}

/// What there is to say of one outlet.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    /// Events written to subscribers: one that goes to two of them counts twice.
    pub(crate) delivered: Counter,
    places: Mutex<Vec<Weak<Place>>>,
}

impl Figures {
    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Place>>> {
        self.places.lock().expect("no holder of this lock panics")
    }

    /// Makes a subscriber known, until it drops its place.
    pub(crate) fn join(&self, place: &Arc<Place>) {
        let mut places = self.lock();
        if places.len() == places.capacity() {
            places.retain(|place| place.strong_count() > 0);
        }
        places.push(Arc::downgrade(place));
    }

    /// How many subscribers there are, and how many events the one furthest behind has not had.
    pub(crate) fn subscribers(&self) -> (usize, u64) {
        let places = self.lock();
        let lags = places.iter().filter_map(Weak::upgrade).map(|place| place.lag());
        lags.fold((0, 0), |(count, furthest), lag| (count + 1, furthest.max(lag)))
    }
}

/// Has had everything that it wants.
const UP_TO_DATE: u64 = u64::MAX;

/// How far one subscriber is. Only its own task writes it.
#[derive(Debug)]
pub(crate) struct Place {
    fan_out: Arc<FanOut>,
    /// The number of the last event that it has had, or does not want.
    sequence: AtomicU64,
}

impl Place {
    pub(crate) fn new(fan_out: Arc<FanOut>) -> Arc<Place> {
        let sequence = UP_TO_DATE.into();
        Arc::new(Place { fan_out, sequence })
    }

    pub(crate) fn is_at(&self, sequence: u64) {
        self.sequence.store(sequence, Ordering::Relaxed);
    }

    pub(crate) fn is_up_to_date(&self) {
        self.sequence.store(UP_TO_DATE, Ordering::Relaxed);
    }

    /// In events.
    pub(crate) fn lag(&self) -> u64 {
        self.fan_out
            .head()
            .saturating_sub(self.sequence.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fan_out::ring::Limit;

    #[test]
    fn the_furthest_of_those_who_are_still_there_counts() {
        let fan_out = Arc::new(FanOut::new(100, Limit { usual: 1, most: 1 }));
        let figures = Figures::default();
        assert_eq!(figures.subscribers(), (0, 0));
        let places: Vec<Arc<Place>> = (0..20).map(|_| Place::new(fan_out.clone())).collect();
        places.iter().for_each(|place| figures.join(place));
        assert_eq!(figures.subscribers(), (20, 0));
        places[3].is_at(90);
        places[4].is_at(40);
        assert_eq!(figures.subscribers(), (20, 60));
        places[4].is_up_to_date();
        assert_eq!(figures.subscribers(), (20, 10));
        drop(places);
        assert_eq!(figures.subscribers(), (0, 0));
        for _ in 0..1000 {
            figures.join(&Place::new(fan_out.clone()));
        }
        assert!(figures.lock().len() < 100);
    }
}
