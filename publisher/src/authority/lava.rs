//! LAVA decides: its REST API is asked with the reader's own token.
//!
//! What an anonymous visitor may see is public: it is asked for once, for all readers. What is not public is asked for
//! with the token of the reader who wants it, and kept for him.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use lavabus_lava::{Identity, Server, ServerError};
use sha2::{Digest as _, Sha256};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::Refused;
use super::answers::{Answers, AnswersByLane, COMMIT, GRACE, Outcome};
use super::credentials::Secret;
use super::flights::Flights;
use super::reader::Sight;
use super::recent::Recent;
use super::subject::Subject;
use super::turns::{Crowded, Lane, Lanes, Queue, Turn};
use crate::counters::Counter;

/// A question, from when it has its turn.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Whether a token is still good is asked this often; together with a question less than 60 s.
const CONFIRM: Duration = Duration::from_secs(30);
/// When that could not be told, after this time.
const CONFIRM_AGAIN: Duration = Duration::from_secs(5);
/// A login that was confirmed within this time is taken as it is: a request needs no question of its own.
const LATELY_CONFIRMED: Duration = Duration::from_secs(45);
/// A login that nobody uses is kept this long, for the next request.
const KEPT: Duration = Duration::from_secs(60);
/// Wrong credentials are not asked for again within this time.
const WRONG: Duration = Duration::from_secs(3);
/// Whether LAVA answers at all is looked at this often, more often when it does not.
const LOOK: Duration = Duration::from_secs(15);
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// A question that failed makes it look at once, but not more often than this.
const LOOK_REST: Duration = Duration::from_millis(500);

/// A reader waits for a job that may come, but no more than once in this time.
const PATIENCE: Duration = Duration::from_secs(2);

/// Questions at one time, about what is live and in each other lane: for everybody, for readers, of a single reader.
const PUBLIC_QUESTIONS: (usize, usize) = (16, 8);
const READERS_QUESTIONS: (usize, usize) = (32, 16);
const READER_QUESTIONS: (usize, usize) = (8, 4);
/// Whether a token is somebody's, and whether one that was is still good: this many of each.
const LOGIN_QUESTIONS: usize = 8;

/// Half of the things that are remembered for everybody, of one reader, and wrong credentials.
const PUBLIC_THINGS: usize = 10_000;
const READER_THINGS: usize = 500;
const WRONG_LOGINS: usize = 1_000;
/// LAVA has no longer names.
const LONGEST_NAME: usize = 255;

/// Of user and token.
type Key = [u8; 32];

/// LAVA, and what it said.
#[derive(Debug)]
pub(super) struct Lava {
    /// As an anonymous visitor.
    server: Server,
    administrators: HashSet<String>,
    public: AnswersByLane,
    logins: Mutex<HashMap<Key, Arc<Login>>>,
    arrivals: Flights<Key, Result<Arc<Login>, Refused>>,
    wrong: Mutex<Recent<Key, Instant>>,
    turns: Turns,
    /// Questions and logins that got no turn.
    pub(super) refused: Counter,
    /// Whether LAVA answers. None: not known yet.
    answers: watch::Sender<Option<bool>>,
    /// To look whether it does.
    look: Arc<Notify>,
}

/// Bounds the questions in flight.
#[derive(Debug)]
struct Turns {
    public: Lanes,
    readers: Lanes,
    /// Of those who come with a token that is not known: anybody may.
    arrivals: Queue,
    /// Of those who came with a good one.
    logins: Queue,
}

/// A user with a token that LAVA knows, shared by all his connections.
#[derive(Debug)]
pub(super) struct Login {
    pub(super) user: String,
    is_administrator: bool,
    server: Server,
    own: AnswersByLane,
    turns: Lanes,
    times: Mutex<Times>,
    /// To ask it at once.
    doubt: Notify,
    pub(super) withdrawn: CancellationToken,
}

#[derive(Clone, Copy, Debug)]
struct Times {
    /// When LAVA was asked last and said that the token is his.
    confirmed: Instant,
    /// When he came in last.
    used: Instant,
}

impl Lava {
    /// Makes ready, and looks from time to time whether LAVA answers while this lives.
    pub(super) fn new(identity: &Identity, administrators: &[String]) -> Result<Arc<Lava>, ServerError> {
        let identity = Identity {
            username: None,
            token: None,
            timeout: TIMEOUT,
            ..identity.clone()
        };
        if is_read_on_the_way(&identity) {
            warn!(
                "readers' tokens go to {} over plain http: everyone on the way can read them",
                identity.uri
            );
        }
        let lava = Arc::new(Lava {
            server: Server::new(&identity)?,
            administrators: administrators.iter().cloned().collect(),
            public: AnswersByLane::new(PUBLIC_THINGS),
            logins: Mutex::default(),
            arrivals: Flights::default(),
            wrong: Mutex::new(Recent::new(WRONG_LOGINS)),
            turns: Turns {
                public: Lanes::new(PUBLIC_QUESTIONS.0, PUBLIC_QUESTIONS.1),
                readers: Lanes::new(READERS_QUESTIONS.0, READERS_QUESTIONS.1),
                arrivals: Queue::bounded(LOGIN_QUESTIONS),
                logins: Queue::new(LOGIN_QUESTIONS),
            },
            refused: Counter::default(),
            answers: watch::Sender::new(None),
            look: Arc::default(),
        });
        tokio::spawn(look(Arc::downgrade(&lava), lava.look.clone()));
        Ok(lava)
    }

    pub(super) fn is_available(&self) -> bool {
        *self.answers.borrow() == Some(true)
    }

    fn is_known_to_be_down(&self) -> bool {
        *self.answers.borrow() == Some(false)
    }

    /// Completes when it is known that LAVA does not answer.
    async fn down(&self) {
        let mut answers = self.answers.subscribe();
        // The sender is ours: it does not go away meanwhile.
        let _ = answers.wait_for(|answers| *answers == Some(false)).await;
    }

    /// Lets an anonymous visitor in, if anything can be told at all.
    pub(super) async fn arrive(&self) -> Result<(), Refused> {
        let mut answers = self.answers.subscribe();
        let _ = timeout(TIMEOUT, answers.wait_for(Option::is_some)).await;
        if self.is_available() {
            Ok(())
        } else {
            Err(Refused::Unavailable)
        }
    }

    /// Lets a user in whose token this is. Without a name, whoever it belongs to.
    pub(super) async fn log_in(self: &Arc<Self>, user: Option<&str>, token: &Secret) -> Result<Arc<Login>, Refused> {
        let key = key(user, token);
        if let Some(known) = self.known(&key) {
            return known;
        }
        if self.is_known_to_be_down() {
            return Err(Refused::Unavailable);
        }
        tokio::select! {
            arrived = timeout(2 * TIMEOUT, self.arrival(key, user, token)) => arrived.unwrap_or(Err(Refused::Unavailable)),
            () = self.down() => Err(Refused::Unavailable),
        }
    }

    /// What needs no question.
    fn known(&self, key: &Key) -> Option<Result<Arc<Login>, Refused>> {
        if self.is_wrong(key) {
            return Some(Err(Refused::UnknownUser));
        }
        let login = self
            .login(key)
            .filter(|login| login.confirmed_within(LATELY_CONFIRMED))?;
        login.times().used = Instant::now();
        Some(Ok(login))
    }

    async fn arrival(self: &Arc<Self>, key: Key, user: Option<&str>, token: &Secret) -> Result<Arc<Login>, Refused> {
        let flight = match self.arrivals.find(&key) {
            Some(flight) => flight,
            None => {
                let queue = match self.login(&key) {
                    Some(_) => &self.turns.logins,
                    None => &self.turns.arrivals,
                };
                let turn = queue.turn().await.map_err(|Crowded| {
                    self.refused.add(1);
                    Refused::Unavailable
                })?;
                // Others came with the same meanwhile.
                if let Some(known) = self.known(&key) {
                    return known;
                }
                let (lava, user, token) = (self.clone(), user.map(str::to_owned), token.clone());
                let check = || async move { lava.check(key, user, token, turn).await };
                self.arrivals.find_or_begin(&key, check)
            }
        };
        flight.landed().await.unwrap_or(Err(Refused::Unavailable))
    }

    async fn check(
        self: &Arc<Self>,
        key: Key,
        user: Option<String>,
        token: Secret,
        _turn: Turn,
    ) -> Result<Arc<Login>, Refused> {
        // A token that can stand in no header is nobody's.
        let server = |user| {
            self.server
                .seen_by(user, token.clone())
                .map_err(|_| Refused::UnknownUser)
        };
        let asked = Instant::now();
        let owner = match self.owner(&server(user.clone())?).await {
            Owner::Known(owner) => owner,
            Owner::Nobody => return Err(self.is_nobodys(key)),
            Owner::Unknown => return Err(Refused::Unavailable),
        };
        if user.is_some_and(|user| user != owner) {
            return Err(self.is_nobodys(key));
        }
        if let Some(login) = self.login(&key) {
            if login.user == owner {
                login.confirm(asked);
                login.times().used = Instant::now();
                return Ok(login);
            }
            self.withdraw(&key);
        }
        debug!(user = owner, "logged in");
        let login = Arc::new(Login {
            is_administrator: self.administrators.contains(&owner),
            server: server(Some(owner.clone()))?,
            user: owner,
            own: AnswersByLane::new(READER_THINGS),
            turns: Lanes::new(READER_QUESTIONS.0, READER_QUESTIONS.1),
            times: Mutex::new(Times {
                confirmed: asked,
                used: asked,
            }),
            doubt: Notify::new(),
            withdrawn: CancellationToken::new(),
        });
        let mut logins = self.logins.lock().expect("no holder of this lock panics");
        logins.insert(key, login.clone());
        tokio::spawn(confirm(
            Arc::downgrade(self),
            key,
            login.clone(),
            self.answers.subscribe(),
        ));
        Ok(login)
    }

    /// Notes that these credentials are wrong; whoever came in with them goes.
    fn is_nobodys(&self, key: Key) -> Refused {
        self.withdraw(&key);
        let mut wrong = self.wrong.lock().expect("no holder of this lock panics");
        *wrong.entry(&key, Instant::now) = Instant::now();
        Refused::UnknownUser
    }

    fn withdraw(&self, key: &Key) {
        let mut logins = self.logins.lock().expect("no holder of this lock panics");
        if let Some(login) = logins.remove(key) {
            login.withdrawn.cancel();
        }
    }

    /// Forgets a login that nobody has used for some time. Whether it did.
    fn forget_unused(&self, key: &Key, login: &Arc<Login>) -> bool {
        // Under this lock nobody comes in with it.
        let mut logins = self.logins.lock().expect("no holder of this lock panics");
        // One is here, one is the caller's.
        let is_unused = Arc::strong_count(login) <= 2 && login.times().used.elapsed() >= KEPT;
        if is_unused {
            logins.remove(key);
        }
        is_unused
    }

    fn is_wrong(&self, key: &Key) -> bool {
        let wrong = self.wrong.lock().expect("no holder of this lock panics");
        wrong.get(key).is_some_and(|since| since.elapsed() < WRONG)
    }

    fn login(&self, key: &Key) -> Option<Arc<Login>> {
        let logins = self.logins.lock().expect("no holder of this lock panics");
        logins.get(key).cloned()
    }

    /// Whose token a server is seen with.
    async fn owner(&self, server: &Server) -> Owner {
        match timeout(TIMEOUT, server.whoami()).await {
            Ok(Ok(Some(owner))) => Owner::Known(owner),
            // LAVA took it for an anonymous visitor.
            Ok(Ok(None)) | Ok(Err(ServerError::Refused { .. })) => Owner::Nobody,
            Ok(Err(error)) => {
                debug!(%error, "a token's owner is not known");
                self.look.notify_one();
                Owner::Unknown
            }
            Err(_) => {
                self.look.notify_one();
                Owner::Unknown
            }
        }
    }

    /// What is known of a subject, for an anonymous visitor or a user. Never waits.
    pub(super) fn sight(&self, subject: &Subject, login: Option<&Login>, lane: Lane) -> Sight {
        if let Some(sight) = of_reader(subject, login) {
            return sight;
        }
        let own = login.map_or(Sight::Hidden, |login| login.own.of(lane).sight(subject));
        match (self.public.of(lane).sight(subject), own) {
            (Sight::Shown, _) | (_, Sight::Shown) => Sight::Shown,
            (Sight::Hidden, Sight::Hidden) => Sight::Hidden,
            (Sight::Ask, Sight::Hidden) if !asks_for_all(login, lane) => Sight::Hidden,
            _ if self.is_known_to_be_down() => self.without_asking(subject, login, lane),
            _ => Sight::Ask,
        }
    }

    /// The same, where nobody can be asked: never [`Sight::Ask`].
    pub(super) fn without_asking(&self, subject: &Subject, login: Option<&Login>, lane: Lane) -> Sight {
        if let Some(sight) = of_reader(subject, login) {
            return sight;
        }
        let own = login.map_or(Sight::Hidden, |login| login.own.of(lane).without_asking(subject));
        match (self.public.of(lane).without_asking(subject), own) {
            (Sight::Hidden, Sight::Hidden) => Sight::Hidden,
            _ => Sight::Shown,
        }
    }

    /// Asks what is not known.
    pub(super) async fn ask(
        self: &Arc<Self>,
        subject: &Subject,
        login: Option<&Arc<Login>>,
        patience: &Patience,
        lane: Lane,
    ) -> Result<Sight, Crowded> {
        let user = login.map(Arc::as_ref);
        let asking = async {
            let is_due = |answers: &Answers| answers.sight(subject) == Sight::Ask && !answers.is_awaited(subject);
            self.ask_if(is_due, subject, login, lane).await?;
            let first = match login {
                Some(login) if !asks_for_all(user, lane) => &login.own,
                _ => &self.public,
            };
            let may_come = matches!(subject, Subject::Job(_)) && first.of(lane).is_awaited(subject);
            if may_come && self.sight(subject, user, lane) != Sight::Shown && patience.take() {
                tokio::time::sleep(COMMIT).await;
                self.ask_if(|_| true, subject, login, lane).await?;
            }
            Ok(())
        };
        let asked = tokio::select! {
            asked = asking => asked,
            () = self.down() => Ok(()),
        };
        match (self.sight(subject, user, lane), asked) {
            (Sight::Ask, Ok(())) => Ok(self.without_asking(subject, user, lane)),
            (Sight::Ask, Err(crowded)) => {
                self.refused.add(1);
                Err(crowded)
            }
            (known, _) => Ok(known),
        }
    }

    /// First for everybody, then for this reader, where it is due.
    async fn ask_if(
        self: &Arc<Self>,
        is_due: impl Fn(&Answers) -> bool,
        subject: &Subject,
        login: Option<&Arc<Login>>,
        lane: Lane,
    ) -> Result<(), Crowded> {
        let public = self.public.of(lane);
        if asks_for_all(login.map(Arc::as_ref), lane) && is_due(public) {
            self.ask_for_all(subject, lane).await?;
        }
        if let Some(login) = login
            && public.sight(subject) != Sight::Shown
            && is_due(login.own.of(lane))
        {
            self.ask_for(subject, login, lane).await?;
        }
        Ok(())
    }

    async fn ask_for_all(self: &Arc<Self>, subject: &Subject, lane: Lane) -> Result<(), Crowded> {
        let (answers, since) = (self.public.of(lane), Instant::now());
        let flight = match answers.questions.find(subject) {
            Some(flight) => flight,
            None => {
                let turn = self.turns.public.turn(lane).await?;
                if answers.is_answered_since(subject, since) {
                    return Ok(());
                }
                let (lava, subject) = (self.clone(), subject.clone());
                answers.questions.find_or_begin(&subject.clone(), || async move {
                    let (asked, answer) = question(&lava.server, &subject).await;
                    lava.learn(lava.public.of(lane), &subject, asked, answer);
                    drop(turn);
                })
            }
        };
        flight.landed().await;
        Ok(())
    }

    async fn ask_for(self: &Arc<Self>, subject: &Subject, login: &Arc<Login>, lane: Lane) -> Result<(), Crowded> {
        let (answers, since) = (login.own.of(lane), Instant::now());
        let flight = match answers.questions.find(subject) {
            Some(flight) => flight,
            None => {
                let turns = (login.turns.turn(lane).await?, self.turns.readers.turn(lane).await?);
                if answers.is_answered_since(subject, since) {
                    return Ok(());
                }
                let (lava, login, subject) = (self.clone(), login.clone(), subject.clone());
                answers.questions.find_or_begin(&subject.clone(), || async move {
                    let (asked, answer) = question(&login.server, &subject).await;
                    if matches!(answer, Err(ServerError::Refused { .. })) {
                        login.doubt.notify_one();
                    }
                    lava.learn(login.own.of(lane), &subject, asked, answer);
                    drop(turns);
                })
            }
        };
        flight.landed().await;
        Ok(())
    }

    fn learn(&self, answers: &Answers, subject: &Subject, asked: Instant, answer: Result<(), ServerError>) {
        let outcome = match answer {
            Ok(()) => Outcome::Seen,
            Err(ServerError::NotFound { .. } | ServerError::Refused { .. }) => Outcome::Absent,
            Err(error) => {
                debug!(?subject, %error, "not known who may see it");
                self.look.notify_one();
                Outcome::Failed
            }
        };
        answers.learn(subject, asked, outcome);
    }
}

/// Whether what is sent leaves this machine in the clear.
fn is_read_on_the_way(identity: &Identity) -> bool {
    let host = identity.uri.host_str().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    let is_here = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    identity.uri.scheme() == "http" && !is_here
}

/// Whose a token is.
enum Owner {
    Known(String),
    Nobody,
    /// LAVA cannot be asked.
    Unknown,
}

/// What does not depend on what LAVA says of the subject.
fn of_reader(subject: &Subject, login: Option<&Login>) -> Option<Sight> {
    if login.is_some_and(|login| login.withdrawn.is_cancelled()) {
        return Some(Sight::Hidden);
    }
    if let Some(login) = login
        && login.is_administrator
    {
        let is_he = login.is_administrator_now();
        return Some(if is_he { Sight::Shown } else { Sight::Hidden });
    }
    let name = match subject {
        Subject::Job(id) => id.as_str(),
        Subject::Device(name) | Subject::Worker(name) => name,
        Subject::Unbound => return Some(Sight::Hidden),
    };
    (name.len() > LONGEST_NAME).then_some(Sight::Hidden)
}

/// Whether it is asked first what everybody may see, once for all. Somebody's own request is not: it would wait with
/// those of everybody else.
fn asks_for_all(login: Option<&Login>, lane: Lane) -> bool {
    login.is_none() || lane != Lane::Request
}

/// One question, and when it was asked.
async fn question(server: &Server, subject: &Subject) -> (Instant, Result<(), ServerError>) {
    let asked = Instant::now();
    let asking = async {
        match subject {
            Subject::Job(id) => server.job(id.as_str()).await.map(drop),
            Subject::Device(name) => server.device(name).await.map(drop),
            Subject::Worker(name) => server.worker(name).await.map(drop),
            Subject::Unbound => Err(ServerError::NotFound {
                what: "nothing".to_owned(),
            }),
        }
    };
    let answer = timeout(TIMEOUT, asking).await;
    let answer = answer.unwrap_or_else(|_| {
        Err(ServerError::Unavailable {
            cause: "no answer in time".to_owned(),
        })
    });
    (asked, answer)
}

impl Login {
    /// Whether he is one of our administrators, and LAVA said not long ago that it is he.
    pub(super) fn is_administrator_now(&self) -> bool {
        self.is_administrator && self.confirmed_within(GRACE)
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        self.times.lock().expect("no holder of this lock panics")
    }

    fn confirm(&self, asked: Instant) {
        let mut times = self.times();
        times.confirmed = asked.max(times.confirmed);
    }

    fn confirmed_within(&self, time: Duration) -> bool {
        self.times().confirmed.elapsed() < time
    }
}

/// Of one reader: how often it waits for a job that may not be there yet.
#[derive(Debug, Default)]
pub(super) struct Patience(Mutex<Option<Instant>>);

impl Patience {
    fn take(&self) -> bool {
        let mut last = self.0.lock().expect("no holder of this lock panics");
        if last.is_some_and(|last| last.elapsed() < PATIENCE) {
            return false;
        }
        *last = Some(Instant::now());
        true
    }
}

fn key(user: Option<&str>, token: &Secret) -> Key {
    let mut hash = Sha256::new();
    match user {
        // Lengths, so that no two pairs are one text.
        Some(user) => {
            hash.update([1]);
            hash.update((user.len() as u64).to_le_bytes());
            hash.update(user);
        }
        None => hash.update([0]),
    }
    hash.update(token.expose());
    hash.finalize().into()
}

/// Asks whether a login's token is still his, while it is in use.
async fn confirm(lava: Weak<Lava>, key: Key, login: Arc<Login>, mut answers: watch::Receiver<Option<bool>>) {
    let mut pause = CONFIRM;
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = login.doubt.notified() => {}
            // It was found out by somebody who came.
            () = login.withdrawn.cancelled() => return,
        }
        // While LAVA is down there is nobody to ask. The sender goes with the authority.
        if answers.wait_for(|answers| *answers != Some(false)).await.is_err() {
            return;
        }
        let Some(lava) = lava.upgrade() else { return };
        if lava.forget_unused(&key, &login) {
            return;
        }
        let Ok(_turn) = lava.turns.logins.turn().await else {
            continue;
        };
        let asked = Instant::now();
        pause = match lava.owner(&login.server).await {
            Owner::Known(owner) if owner == login.user => {
                login.confirm(asked);
                CONFIRM
            }
            Owner::Known(_) | Owner::Nobody => {
                info!(user = login.user, "the token is not good any more");
                lava.withdraw(&key);
                return;
            }
            Owner::Unknown => CONFIRM_AGAIN,
        };
    }
}

/// Looks whether LAVA answers.
async fn look(lava: Weak<Lava>, wanted: Arc<Notify>) {
    loop {
        let Some(lava) = lava.upgrade() else { return };
        let answer = timeout(TIMEOUT, lava.server.whoami()).await;
        let cause = match answer {
            // A refusal is an answer.
            Ok(Ok(_) | Err(ServerError::Refused { .. })) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("no answer in time".to_owned()),
        };
        let answers = cause.is_none();
        let before = lava.answers.send_replace(Some(answers));
        match cause {
            Some(cause) if before != Some(false) => {
                warn!(server = %lava.server.uri(), cause, "LAVA cannot be asked who may see what: nothing new is shown");
            }
            None if before == Some(false) => {
                info!(server = %lava.server.uri(), "LAVA can be asked again who may see what")
            }
            _ => {}
        }
        drop(lava);
        tokio::time::sleep(LOOK_REST).await;
        let pause = if answers { LOOK } else { LOOK_AGAIN } - LOOK_REST;
        // When it is down, each question would wake it.
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = wanted.notified(), if answers => {}
        }
    }
}
