//! LAVA's workers and their tokens, read from its PostgreSQL database: no API tells them to us.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use subtle::ConstantTimeEq;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Config, NoTls};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Refused;
use super::answers::GRACE;
use super::credentials::Secret;
use super::recent::Recent;
use super::tokens::{Digest, digest, warning};
use super::turns::{Crowded, Queue};
use crate::counters::Counter;

/// A question, with the connection that it may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Whether a worker's token is still good is asked this often.
const CONFIRM: Duration = Duration::from_secs(30);
/// Whether the database answers is looked at this often, and so is what it could not tell.
const LOOK: Duration = Duration::from_secs(5);
/// Questions at one time: of workers that come, and of those that are here.
const QUESTIONS: usize = 8;
/// What the database said of a worker refuses wrong tokens for this long: it is not asked for each.
const WRONG: Duration = Duration::from_secs(3);
/// Half of the workers of which that is remembered.
const REMEMBERED: usize = 1_000;
/// LAVA has no longer host names.
const LONGEST_NAME: usize = 255;

/// lava_scheduler_app/models.py: Worker
const TOKEN_OF: &str = "SELECT token FROM lava_scheduler_app_worker WHERE hostname = $1";

/// Why the database cannot be asked. No text in it holds the DSN, whose password is a secret.
#[derive(Debug, thiserror::Error)]
pub enum WorkersError {
    /// The file of the DSN cannot be read.
    #[error("{}: {cause}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// Its first line is no DSN.
    #[error("{}: line 1: expected how to reach PostgreSQL, such as host=/run/postgresql user=reader dbname=lavaserver", path.display())]
    NoDsn {
        /// The file.
        path: PathBuf,
    },
}

/// The DSN in the first line of a file. Whatever is asked by it, nothing can be written.
pub(crate) fn dsn(path: &Path) -> Result<Config, WorkersError> {
    let text = std::fs::read_to_string(path).map_err(|cause| WorkersError::Unreadable {
        path: path.to_owned(),
        cause,
    })?;
    let first = text.lines().next().unwrap_or_default().trim();
    let config: Result<Config, _> = first.parse();
    let no_dsn = || WorkersError::NoDsn { path: path.to_owned() };
    let mut config = config.map_err(|_| no_dsn())?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err(no_dsn());
    }
    let read_only = "-c default_transaction_read_only=on";
    let options = match config.get_options() {
        Some(options) => format!("{options} {read_only}"),
        None => read_only.to_owned(),
    };
    config.options(options).application_name("lava-publisher");
    Ok(config)
}

/// LAVA's workers.
#[derive(Debug)]
pub(super) struct Workers {
    config: Config,
    client: tokio::sync::Mutex<Option<Arc<Client>>>,
    arrivals: Queue,
    logins: Queue,
    /// Workers that got no turn.
    pub(super) refused: Counter,
    /// When the database was asked for a worker last, and the digest that it had.
    said: Mutex<Recent<String, (Instant, Option<Digest>)>>,
    /// Whether the database answers. None: not known yet.
    answers: watch::Sender<Option<bool>>,
}

/// A worker whose token was good.
#[derive(Debug)]
pub(super) struct WorkerLogin {
    pub(super) host: String,
    digest: Digest,
    /// When the database was asked last and had this token.
    confirmed: Mutex<Instant>,
    pub(super) withdrawn: CancellationToken,
}

/// Nobody can tell.
struct Unknown;

impl Workers {
    /// Makes ready, and looks from time to time whether the database answers while this lives.
    pub(super) fn open(path: &Path) -> Result<Arc<Workers>, WorkersError> {
        let config = dsn(path)?;
        if let Some(warning) = warning(path) {
            warn!("{warning}");
        }
        let workers = Arc::new(Workers {
            config,
            client: tokio::sync::Mutex::default(),
            arrivals: Queue::bounded(QUESTIONS),
            logins: Queue::new(QUESTIONS),
            refused: Counter::default(),
            said: Mutex::new(Recent::new(REMEMBERED)),
            answers: watch::Sender::new(None),
        });
        tokio::spawn(look(Arc::downgrade(&workers)));
        Ok(workers)
    }

    pub(super) fn is_available(&self) -> bool {
        *self.answers.borrow() == Some(true)
    }

    /// Lets a worker in whose token this is.
    pub(super) async fn log_in(self: &Arc<Self>, host: &str, token: &Secret) -> Result<Arc<WorkerLogin>, Refused> {
        if host.is_empty() || host.len() > LONGEST_NAME {
            return Err(Refused::UnknownWorker);
        }
        let digest = digest(token);
        if let Some(refused) = self.refusal(host, &digest) {
            return Err(refused);
        }
        if *self.answers.borrow() == Some(false) {
            return Err(Refused::Unavailable);
        }
        let turn = self.arrivals.turn().await.map_err(|Crowded| {
            self.refused.add(1);
            Refused::Unavailable
        })?;
        // Others came with a wrong one meanwhile.
        if let Some(refused) = self.refusal(host, &digest) {
            return Err(refused);
        }
        let asked = Instant::now();
        let known = self.token_of(host).await.map_err(|Unknown| Refused::Unavailable)?;
        drop(turn);
        self.remember(host, asked, known);
        if let Some(refused) = refusal(known.as_ref(), &digest) {
            return Err(refused);
        }
        let login = Arc::new(WorkerLogin {
            host: host.to_owned(),
            digest,
            confirmed: Mutex::new(asked),
            withdrawn: CancellationToken::new(),
        });
        tokio::spawn(confirm(Arc::downgrade(self), Arc::downgrade(&login)));
        Ok(login)
    }

    /// Whether what was said of a worker a moment ago refuses this token.
    fn refusal(&self, host: &str, digest: &Digest) -> Option<Refused> {
        let said = self.said.lock().expect("no holder of this lock panics");
        let (asked, known) = said.get(&host.to_owned())?;
        refusal(known.as_ref(), digest).filter(|_| asked.elapsed() < WRONG)
    }

    fn remember(&self, host: &str, asked: Instant, known: Option<Digest>) {
        let mut said = self.said.lock().expect("no holder of this lock panics");
        *said.entry(&host.to_owned(), || (asked, known)) = (asked, known);
    }

    /// The digest of a worker's token; none if there is no such worker, or it has no token.
    async fn token_of(&self, host: &str) -> Result<Option<Digest>, Unknown> {
        let question = async {
            let client = self.client().await?;
            client.query_typed(TOKEN_OF, &[(&host, Type::TEXT)]).await
        };
        let answer = timeout(TIMEOUT, question).await;
        let cause = match &answer {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(match error.as_db_error() {
                Some(error) => error.message().to_owned(),
                None => error.to_string(),
            }),
            Err(_) => Some("no answer in time".to_owned()),
        };
        self.answered(cause.as_deref());
        // It may hang: the next question takes another connection. Who holds the lock makes one.
        if cause.is_some()
            && let Ok(mut client) = self.client.try_lock()
        {
            client.take();
        }
        let Ok(Ok(rows)) = answer else { return Err(Unknown) };
        let token = rows
            .first()
            .and_then(|row| row.try_get::<_, Option<String>>(0).ok().flatten());
        Ok(token
            .filter(|token| !token.is_empty())
            .map(|token| digest(&Secret::new(token))))
    }

    async fn client(&self) -> Result<Arc<Client>, tokio_postgres::Error> {
        let mut client = self.client.lock().await;
        if let Some(client) = client.as_ref().filter(|client| !client.is_closed()) {
            return Ok(client.clone());
        }
        let (new, connection) = self.config.connect(NoTls).await?;
        // It ends with its last client; what ended it is told to whoever asks next.
        tokio::spawn(async { drop(connection.await) });
        let new = Arc::new(new);
        *client = Some(new.clone());
        Ok(new)
    }

    fn answered(&self, cause: Option<&str>) {
        let before = self.answers.send_replace(Some(cause.is_none()));
        match cause {
            Some(cause) if before != Some(false) => {
                warn!(cause, "LAVA's database cannot be asked for workers: none is let in");
            }
            None if before == Some(false) => info!("LAVA's database can be asked for workers again"),
            _ => {}
        }
    }
}

/// Whether a token is not the worker's whose token's digest is known, if it has one.
fn refusal(known: Option<&Digest>, digest: &Digest) -> Option<Refused> {
    match known {
        None => Some(Refused::UnknownWorker),
        Some(known) if bool::from(known.ct_eq(digest)) => None,
        Some(_) => Some(Refused::InvalidWorkerToken),
    }
}

impl WorkerLogin {
    /// Whether its token was good not long ago.
    pub(super) fn is_good(&self) -> bool {
        let confirmed = self.confirmed.lock().expect("no holder of this lock panics");
        confirmed.elapsed() < GRACE && !self.withdrawn.is_cancelled()
    }
}

/// Asks whether a worker's token is still its own, while it is connected.
async fn confirm(workers: Weak<Workers>, login: Weak<WorkerLogin>) {
    let mut pause = CONFIRM;
    loop {
        tokio::time::sleep(pause).await;
        let (Some(workers), Some(login)) = (workers.upgrade(), login.upgrade()) else {
            return;
        };
        let Ok(_turn) = workers.logins.turn().await else {
            continue;
        };
        let asked = Instant::now();
        pause = match workers.token_of(&login.host).await {
            Ok(Some(known)) if bool::from(known.ct_eq(&login.digest)) => {
                *login.confirmed.lock().expect("no holder of this lock panics") = asked;
                CONFIRM
            }
            Ok(_) => {
                info!(worker = login.host, "the worker's token is not good any more");
                login.withdrawn.cancel();
                return;
            }
            Err(Unknown) => LOOK,
        };
    }
}

/// Looks whether the database answers.
async fn look(workers: Weak<Workers>) {
    loop {
        let Some(workers) = workers.upgrade() else { return };
        // Of nobody: whether there is an answer is all that counts.
        let _ = workers.token_of("").await;
        drop(workers);
        tokio::time::sleep(LOOK).await;
    }
}
