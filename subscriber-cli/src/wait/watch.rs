//! The wait itself: hears, asks, and tells the tracker until there is a verdict.

use std::collections::VecDeque;
use std::time::Duration;

use lavabus_lava::{Server, ServerError};
use lavabus_protocol::{Kind, Record, SnapshotScope, SubscriptionOption};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::channel::{Heard, Wanted, hear_bus, hear_web_socket};
use super::contact::{Channel, Contact, Standing};
use super::inquiry::{self, Inquiry, Said};
use super::report::Report;
use super::tracker::{Object, Source, Tracker};
use super::trust::{Proof, Trust};
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::outlet::Outlet;

/// Between the channels and the wait. They wait when it is full.
const AHEAD: usize = 1024;
/// Events about jobs that are kept while a submission is on its way.
const HELD: usize = 10_000;
/// A job that LAVA has just made is believed to be gone after it was not there for so long.
const OWN_GONE: Duration = Duration::from_secs(30);

/// How patient a wait is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) connect_timeout: Duration,
    pub(crate) max_outage: Duration,
    /// A gap ends it.
    pub(crate) strict: bool,
}

/// Where events and answers come from.
#[derive(Clone, Debug)]
pub(crate) struct Sources {
    pub(crate) bus: Option<Outlet>,
    /// The bus was guessed from the server's address: the WebSocket may take its place.
    pub(crate) is_bus_guessed: bool,
    pub(crate) server: Option<Server>,
}

/// Somebody who hears and asks.
#[derive(Debug)]
pub(crate) struct Watch<'c> {
    context: &'c Context,
    patience: Patience,
    sources: Sources,
    contact: Contact,
    heard: Receiver<Heard>,
    sender: Sender<Heard>,
    /// They end with the watch.
    tasks: JoinSet<()>,
    inquiry: Option<Inquiry>,
    /// The publisher resumes what was missed, and answered or will answer for each object.
    is_known: bool,
    /// What it is to answer for, and has not yet.
    open_snapshots: Vec<String>,
    /// Objects of which LAVA says that they are not there, and since when.
    absent: Vec<(usize, Instant)>,
    /// LAVA has just made the objects: that it does not know them must last.
    is_own: bool,
    trust: Trust,
    /// The publisher has told all up to now, since it was connected to.
    is_caught_up: bool,
    /// Events may have been missed since the beginning.
    has_lapsed: bool,
    bus_task: Option<AbortHandle>,
    /// There was a connection to the bus, and then none.
    was_bus_lost: bool,
    is_web_socket_begun: bool,
    is_polling_told: bool,
    is_blind_told: bool,
    last_failure: Option<Failure>,
}

impl<'c> Watch<'c> {
    /// Begins to hear. The bus is asked for the objects' states.
    pub(crate) fn begin(sources: Sources, objects: &[Object], patience: Patience, context: &'c Context) -> Watch<'c> {
        let snapshots: Vec<SnapshotScope> = objects
            .iter()
            .map(|object| SnapshotScope::One {
                kind: object.kind,
                id: object.id.clone(),
            })
            .collect();
        let wanted = Wanted {
            snapshots,
            ..Wanted::default()
        };
        Watch::begin_with(sources, wanted, patience, context)
    }

    /// Begins to hear what is wanted.
    pub(crate) fn begin_with(sources: Sources, wanted: Wanted, patience: Patience, context: &'c Context) -> Watch<'c> {
        let (sender, heard) = channel(AHEAD);
        let open = |scope: &SnapshotScope| SubscriptionOption::Snapshot(scope.clone()).to_string();
        let mut watch = Watch {
            context,
            patience,
            contact: Contact::new(Instant::now(), patience.connect_timeout, patience.max_outage),
            heard,
            sender,
            tasks: JoinSet::new(),
            inquiry: sources.server.clone().map(Inquiry::new),
            is_known: false,
            open_snapshots: wanted.snapshots.iter().map(open).collect(),
            absent: Vec::new(),
            is_own: false,
            trust: Trust::new(sources.is_bus_guessed && sources.server.is_some()),
            is_caught_up: false,
            has_lapsed: false,
            bus_task: None,
            was_bus_lost: false,
            is_web_socket_begun: false,
            is_polling_told: false,
            is_blind_told: false,
            last_failure: None,
            sources,
        };
        match watch.sources.bus.clone() {
            Some(bus) => watch.bus_task = Some(watch.tasks.spawn(hear_bus(bus, wanted, watch.sender.clone()))),
            None => watch.begin_web_socket(),
        }
        watch
    }

    pub(crate) fn server(&self) -> Option<&Server> {
        self.inquiry.as_ref().map(Inquiry::server)
    }

    fn begin_web_socket(&mut self) {
        if !self.is_web_socket_begun
            && let Some(server) = self.sources.server.clone()
        {
            self.is_web_socket_begun = true;
            self.tasks.spawn(hear_web_socket(server, self.sender.clone()));
        }
    }

    /// Until somebody is heard, or nobody can be: then LAVA will be asked. For what is submitted after it.
    pub(crate) async fn ready(&mut self) -> Result<(), Failure> {
        while !self.contact.is_pushed() && !self.is_unheard() {
            if let Some(heard) = self.heard.recv().await {
                self.take(heard)?;
            }
        }
        Ok(())
    }

    /// Each channel was tried, and none works.
    pub(crate) fn is_unheard(&self) -> bool {
        let is_down = |channel| self.contact.standing(channel) == Standing::Down;
        (self.sources.bus.is_none() || is_down(Channel::Bus))
            && (!self.is_web_socket_begun || is_down(Channel::WebSocket))
    }

    /// LAVA has just made what is tracked.
    pub(crate) fn objects_are_own(&mut self) {
        self.is_own = true;
    }

    /// Sources of which the bus is known to be the server's, or left out.
    pub(crate) fn sources(&self) -> Sources {
        Sources {
            is_bus_guessed: !self.trust.is_proven(),
            ..self.sources.clone()
        }
    }

    /// Hears and holds while `work` is being done; what was heard of jobs is given back.
    pub(crate) async fn hold_while<T>(
        &mut self,
        work: impl Future<Output = T>,
    ) -> Result<(T, VecDeque<(Channel, Record)>), Failure> {
        let mut held = VecDeque::new();
        tokio::pin!(work);
        loop {
            // `recv` is cancel-safe, and the work lives on.
            tokio::select! {
                done = &mut work => return Ok((done, held)),
                Some(heard) = self.heard.recv() => match heard {
                    Heard::Event { channel, record, .. } => {
                        if record.event().kind() == Kind::Testjob {
                            held.push_back((channel, record));
                            if held.len() > HELD {
                                held.pop_front();
                            }
                        }
                    }
                    heard => self.take(heard)?,
                },
            }
        }
    }

    /// Hears and asks until the tracker has decided; `None` when the time was over before.
    pub(crate) async fn decide(
        &mut self,
        tracker: &mut Tracker,
        deadline: Option<Instant>,
        report: &mut Report,
    ) -> Result<bool, Failure> {
        loop {
            report.show(tracker, self.context);
            if tracker.decider().is_some() {
                return Ok(true);
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Ok(false);
            }
            if let Some((record, _)) = self.step(tracker, deadline).await? {
                self.tell(tracker, &record);
            }
        }
    }

    fn tell(&mut self, tracker: &mut Tracker, record: &Record) {
        if !tracker.tell(record, Source::Event).is_empty()
            && let Some(inquiry) = &mut self.inquiry
        {
            inquiry.is_lively();
        }
    }

    /// Tells what was held before there was a tracker.
    pub(crate) fn tell_held(&mut self, tracker: &mut Tracker, held: Vec<(Channel, Record)>) {
        for (channel, record) in held {
            if let Some(record) = self.trusted(channel, record, tracker) {
                self.tell(tracker, &record);
            }
        }
    }

    /// An event that counts; one about what is tracked, of a bus that may be another lab's, waits for LAVA's word.
    fn trusted(&mut self, channel: Channel, record: Record, tracker: &Tracker) -> Option<Record> {
        if channel == Channel::Bus && self.sources.bus.is_none() {
            // Of a bus that is left.
            return None;
        }
        if channel != Channel::Bus || self.trust.is_proven() {
            return Some(record);
        }
        let told_of = tracker.told_of(&record);
        if told_of.is_empty() {
            return Some(record);
        }
        for index in told_of {
            self.trust.hold(index, record.clone());
        }
        if let Some(inquiry) = &mut self.inquiry {
            inquiry.ask_at(Instant::now());
        }
        None
    }

    /// One thing that is heard, answered or due. An event is given back, with whether it is of a snapshot; answers are
    /// told to the tracker. Cancel-safe.
    pub(crate) async fn step(
        &mut self,
        tracker: &mut Tracker,
        deadline: Option<Instant>,
    ) -> Result<Option<(Record, bool)>, Failure> {
        let give_up = self.contact.gives_up(self.trust.is_proven());
        let due = self.inquiry.as_ref().and_then(Inquiry::due);
        let answer = async {
            match &mut self.inquiry {
                Some(inquiry) => inquiry.next().await,
                None => std::future::pending().await,
            }
        };
        // Each of these is cancel-safe.
        tokio::select! {
            biased;
            Some(heard) = self.heard.recv() => match heard {
                Heard::Event { channel, record, in_snapshot } => {
                    return Ok(self.trusted(channel, record, tracker).map(|record| (record, in_snapshot)));
                }
                Heard::Answer(record) => {
                    tracker.tell(&record, Source::Answer);
                }
                heard => self.take(heard)?,
            },
            (index, answer) = answer => self.take_answer(index, answer, tracker)?,
            () = until(due) => self.ask(tracker),
            () = until(deadline) => {}
            () = until(give_up) => return Err(self.give_up()),
        }
        self.tell_absent(tracker);
        Ok(None)
    }

    fn take(&mut self, heard: Heard) -> Result<(), Failure> {
        match heard {
            Heard::Event { .. } | Heard::Answer(_) => {}
            Heard::CaughtUp => self.is_caught_up = true,
            Heard::Up { channel, is_known } => {
                self.contact.up(channel);
                self.last_failure = None;
                self.is_known = match channel {
                    Channel::Bus => is_known,
                    _ => self.is_known && self.contact.standing(Channel::Bus) == Standing::Up,
                };
                self.context.detail(format_args!("{} works", self.name(channel)));
                if self.is_known && channel == Channel::Bus && std::mem::take(&mut self.was_bus_lost) {
                    // What was on its way to the publisher when it ended is in no journal.
                    self.look_now();
                }
                if channel == Channel::Bus && !is_known && self.sources.is_bus_guessed {
                    // It may not be LAVA's at all.
                    self.begin_web_socket();
                }
                if !self.is_known {
                    self.look_now();
                    if self.inquiry.is_none() && !self.is_blind_told {
                        self.is_blind_told = true;
                        self.context.notice(format_args!(
                            "{} is a plain publisher and there is no identity: only what happens from now on is seen, and what an outage hides is lost",
                            self.name(channel)
                        ));
                    }
                }
            }
            Heard::Down { channel, cause } => {
                self.lost(channel, cause);
            }
            Heard::Gone {
                channel,
                cause,
                failure,
            } => {
                self.lost(channel, cause);
                if channel == Channel::Bus {
                    // Nobody else is there who could be heard.
                    if !self.is_web_socket_begun && self.inquiry.is_none() {
                        return Err(failure);
                    }
                }
                // LAVA's answer clears it: a token that it takes is a good one.
                self.last_failure = Some(failure);
            }
            Heard::Refused(failure) => return Err(failure),
            Heard::Snapshot { subscription, count } => {
                self.open_snapshots.retain(|open| *open != subscription);
                let object = subscription
                    .split_once(':')
                    .map_or(subscription.as_str(), |(_, object)| object);
                if count == 0 {
                    let is_over_http = self.sources.bus.as_ref().is_some_and(|bus| bus.second_port().is_some());
                    // It says the same of what does not exist and of what is private.
                    let or_private = if is_over_http { ", or it is private" } else { "" };
                    match &mut self.inquiry {
                        Some(inquiry) => inquiry.ask_at(Instant::now()),
                        None => self.context.notice(format_args!(
                            "nothing was heard of {object} yet{or_private}: it is waited for its first event (with an identity, by -i or LAVABUS_URI, LAVA could be asked)"
                        )),
                    }
                }
            }
            Heard::NoSnapshot => {
                self.has_lapsed = true;
                self.is_known = false;
                self.open_snapshots.clear();
                self.look_now();
                if self.inquiry.is_none() {
                    self.context.notice(format_args!(
                        "{} keeps no journal: only what happens from now on is seen",
                        self.name(Channel::Bus)
                    ));
                }
            }
            Heard::Gap(text) => {
                self.has_lapsed = true;
                if self.patience.strict {
                    return Err(Failure::new(
                        Exit::Gap,
                        "events are missing",
                        text,
                        "without --strict it goes on with the states of now",
                    ));
                }
                self.context.detail(format_args!("gap: {text}"));
                self.look_now();
            }
        }
        Ok(())
    }

    fn name(&self, channel: Channel) -> String {
        match (channel, &self.sources.bus, &self.sources.server) {
            (Channel::Bus, Some(bus), _) => bus.to_string(),
            (Channel::WebSocket, _, Some(server)) => format!("the WebSocket of {}", server.uri()),
            (_, _, Some(server)) => server.uri().to_string(),
            _ => "the bus".to_owned(),
        }
    }

    /// Events may have been missed: LAVA is asked now, and a moment later.
    pub(crate) fn look_now(&mut self) {
        if let Some(inquiry) = &mut self.inquiry {
            inquiry.look_twice(Instant::now());
        }
    }

    fn lost(&mut self, channel: Channel, cause: String) {
        let was_up = self.contact.standing(channel) == Standing::Up;
        let told = format!("no connection to {}: {cause}", self.name(channel));
        // A port that was only guessed may well be closed.
        match was_up || channel == Channel::Bus && !self.sources.is_bus_guessed {
            true => self.context.notice(&told),
            false => self.context.detail(&told),
        }
        self.contact.down(channel, Instant::now(), cause);
        if channel == Channel::Bus {
            // A plain publisher cannot tell what was missed.
            self.has_lapsed |= was_up && !self.is_known;
            (self.is_known, self.is_caught_up) = (false, false);
            self.was_bus_lost |= was_up;
            if self.sources.is_bus_guessed || was_up {
                self.begin_web_socket();
            }
        }
        self.look_now();
    }

    fn ask(&mut self, tracker: &Tracker) {
        let Some(inquiry) = &mut self.inquiry else { return };
        let undecided = tracker.tracked().iter().enumerate();
        let undecided = undecided.filter(|(_, tracked)| tracked.verdict.is_none());
        inquiry.ask(undecided.map(|(index, tracked)| (index, tracked.object.clone())));
        if !self.is_polling_told && self.is_unheard() {
            self.is_polling_told = true;
            self.context.notice(format_args!(
                "no events can be heard: {} is asked again and again",
                self.name(Channel::Server)
            ));
        }
    }

    fn take_answer(
        &mut self,
        index: usize,
        answer: Result<Said, ServerError>,
        tracker: &mut Tracker,
    ) -> Result<(), Failure> {
        match answer {
            Ok(said) => {
                self.contact.up(Channel::Server);
                self.last_failure = None;
                self.absent.retain(|(absent, _)| *absent != index);
                let Said(record) = said;
                match self.trust.compare(index, &record) {
                    Proof::Same(held) => held.iter().for_each(|held| self.tell(tracker, held)),
                    Proof::Other(difference) => self.distrust(&difference),
                    Proof::None => {}
                }
                if !tracker.tell(&record, Source::Answer).is_empty()
                    && let Some(inquiry) = &mut self.inquiry
                {
                    inquiry.is_lively();
                }
            }
            Err(ServerError::NotFound { .. }) => {
                self.contact.up(Channel::Server);
                if !self.absent.iter().any(|(absent, _)| *absent == index) {
                    self.absent.push((index, Instant::now()));
                }
            }
            Err(error @ ServerError::Refused { .. }) => {
                return Err(match &self.sources.server {
                    Some(server) => inquiry::failure(server, &error),
                    None => Failure::new(
                        Exit::CredentialsRefused,
                        "the credentials are refused",
                        error,
                        "another token",
                    ),
                });
            }
            Err(error) => {
                let was_up = self.contact.standing(Channel::Server) != Standing::Down;
                if was_up {
                    let told = format!(
                        "{} does not answer, it is asked again: {error}",
                        self.name(Channel::Server)
                    );
                    match self.contact.is_pushed() {
                        true => self.context.detail(told),
                        false => self.context.notice(told),
                    }
                }
                if !error.is_temporary()
                    && let Some(server) = &self.sources.server
                {
                    self.last_failure = Some(inquiry::failure(server, &error));
                }
                self.contact.down(Channel::Server, Instant::now(), error.to_string());
            }
        }
        let (is_pushed, is_known) = (self.contact.is_pushed(), self.is_settled());
        if let Some(inquiry) = &mut self.inquiry {
            inquiry.schedule(is_pushed, is_known);
        }
        Ok(())
    }

    /// Every event since the beginning was heard, and what was before it was told or replayed if `is_known`.
    pub(crate) fn has_heard_all(&self) -> bool {
        self.contact.standing(Channel::Bus) == Standing::Up && !self.has_lapsed
    }

    /// The publisher resumes and replays.
    pub(crate) fn is_known(&self) -> bool {
        self.is_known
    }

    /// What was asked for of the past is told.
    pub(crate) fn is_caught_up(&self) -> bool {
        self.is_known && self.is_caught_up
    }

    /// Events come, but what was before is not told.
    pub(crate) fn is_without_past(&self) -> bool {
        !self.is_known && (self.contact.is_pushed() || self.is_unheard())
    }

    /// The publisher has told all that it was asked for.
    pub(crate) fn is_told(&self) -> bool {
        self.is_settled() && self.open_snapshots.is_empty()
    }

    /// The publisher tells everything: LAVA need not be asked.
    fn is_settled(&self) -> bool {
        self.is_known && self.trust.is_proven() && self.contact.standing(Channel::Bus) == Standing::Up
    }

    /// What LAVA does not know is not there, if the bus has not heard of it either.
    fn tell_absent(&mut self, tracker: &mut Tracker) {
        let bus_may_know = match self.contact.standing(Channel::Bus) {
            Standing::Unknown => self.sources.bus.is_some(),
            Standing::Up => self.is_known && !self.open_snapshots.is_empty(),
            Standing::Down => false,
        };
        if bus_may_know {
            return;
        }
        let is_believed = |since: Instant| !self.is_own || since.elapsed() >= OWN_GONE;
        for (index, since) in &self.absent {
            if is_believed(*since) {
                tracker.tell_absent(*index);
            }
        }
    }

    /// The bus that was guessed is another lab's: it is left.
    fn distrust(&mut self, difference: &str) {
        if let Some(task) = self.bus_task.take() {
            task.abort();
        }
        let bus = self.name(Channel::Bus);
        self.sources.bus = None;
        self.open_snapshots.clear();
        self.context.notice(format_args!(
            "{bus} is not the bus of {}, and is not heard any more: {difference}",
            self.name(Channel::Server)
        ));
        self.lost(Channel::Bus, "it is another lab's".to_owned());
    }

    fn give_up(&mut self) -> Failure {
        if let Some(failure) = self.last_failure.take() {
            return failure;
        }
        let (what, cause) = self.contact.why(self.trust.is_proven());
        let beside = self.sources.bus.as_ref().and_then(|outlet| outlet.bus().http_beside());
        let hint = match (&self.sources.server, beside) {
            (Some(_), _) => "`lavabus doctor` says what works; a longer --connect-timeout or --max-outage".to_owned(),
            (None, Some(url)) => {
                format!(
                    "--bus {url} if only its HTTP port is open, an identity (-i, LAVABUS_URI), or a longer --connect-timeout or --max-outage"
                )
            }
            (None, None) => {
                "another --bus ADDRESS, an identity (-i, LAVABUS_URI), or a longer --connect-timeout or --max-outage"
                    .to_owned()
            }
        };
        Failure::new(Exit::NoConnection, what, cause, hint)
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
