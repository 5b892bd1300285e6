//! `lavabus` itself, as a process in a clean environment.
//!
//! Whoever waits for it blocks its thread, but not the other tasks of a multi-thread runtime.

use std::ffi::OsStr;
use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use lava_stand_in::LavaServer;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::task::block_in_place;

use super::LONG;

/// An endpoint at which nobody listens.
pub const CLOSED_PORT: &str = "tcp://127.0.0.1:1";

/// Where `lavabus` is run: a home of its own, and no variable of ours.
pub struct Cli {
    folder: Arc<TempDir>,
    environment: Vec<(String, String)>,
}

impl Cli {
    /// Nobody has told it of any server.
    pub fn new() -> Cli {
        Cli {
            folder: Arc::new(tempfile::tempdir().unwrap()),
            environment: Vec::new(),
        }
    }

    /// Its default identity is the stand-in's `admin`; the bus beside that server is a closed port.
    pub fn of(lava: &LavaServer) -> Cli {
        Cli::with_bus(lava, CLOSED_PORT)
    }

    /// Its default identity is the stand-in's `admin`; the bus beside that server is there.
    pub fn with_bus(lava: &LavaServer, bus: impl fmt::Display) -> Cli {
        Cli::new().identity("default", &lava.uri(), "admin", LavaServer::ADMIN_TOKEN, bus)
    }

    /// One more identity in `lavacli.yaml`.
    pub fn identity(self, name: &str, uri: &str, user: &str, token: &str, bus: impl fmt::Display) -> Cli {
        self.identity_text(&format!(
            "{name}:\n  uri: {uri}\n  username: {user}\n  token: {token}\n  events: {{uri: \"{bus}\"}}\n"
        ))
    }

    /// One more identity in `lavacli.yaml`, as it is written there.
    pub fn identity_text(self, text: &str) -> Cli {
        let mut options = std::fs::OpenOptions::new();
        let file = options.create(true).append(true).mode(0o600).open(self.identities());
        file.unwrap().write_all(text.as_bytes()).unwrap();
        self
    }

    /// The file of identities.
    pub fn identities(&self) -> PathBuf {
        self.folder.path().join("lavacli.yaml")
    }

    /// One variable.
    pub fn variable(mut self, name: &str, value: impl fmt::Display) -> Cli {
        self.environment.push((name.to_owned(), value.to_string()));
        self
    }

    /// Its home.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file into its home, which is also its working directory.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The command, for a test that starts it itself.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lavabus"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .env("HOME", self.folder.path())
            .env("XDG_CONFIG_HOME", self.folder.path())
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Starts it.
    pub fn start<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> RunningCli {
        self.start_command(self.command(arguments))
    }

    /// Starts a command of [`command`](Self::command). Standard output is only read if the test has not put it elsewhere.
    pub fn start_command(&self, command: Command) -> RunningCli {
        RunningCli::start(command, self.folder.clone())
    }

    /// Runs it to its end.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Ended {
        self.start(arguments).ended()
    }

    /// Runs it to its end with this on standard input.
    pub fn run_with_input<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>, input: &str) -> Ended {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped());
        let mut running = self.start_command(command);
        let mut stdin = running.child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        drop(stdin);
        running.ended()
    }
}

/// It runs. It is killed when this is dropped.
pub struct RunningCli {
    child: Child,
    what: String,
    stdout: Arc<Stream>,
    stderr: Arc<Stream>,
    /// It lives in there.
    _folder: Arc<TempDir>,
}

impl RunningCli {
    fn start(mut command: Command, folder: Arc<TempDir>) -> RunningCli {
        let words: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
        let what = words.join(" ");
        let mut child = command.spawn().unwrap();
        RunningCli {
            what,
            stdout: child.stdout.take().map_or_else(Stream::nothing, Stream::of),
            stderr: Stream::of(child.stderr.take().unwrap()),
            child,
            _folder: folder,
        }
    }

    /// Waits until standard error has a line with that text, and returns it.
    pub fn says(&self, text: &str) -> String {
        self.stderr.line_with(text, &self.what)
    }

    /// Waits until standard output has a line with that text, and returns it.
    pub fn prints(&self, text: &str) -> String {
        self.stdout.line_with(text, &self.what)
    }

    /// What is on standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// What is on standard output so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Sends SIGINT and the like.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// Waits for its end.
    pub fn ended(self) -> Ended {
        self.ended_within(LONG)
    }

    /// Waits for its end, `within` so long.
    pub fn ended_within(mut self, within: Duration) -> Ended {
        let status = block_in_place(|| self.wait(within));
        self.stdout.wait_for_end();
        self.stderr.wait_for_end();
        Ended {
            what: self.what.clone(),
            code: status.code(),
            stdout: self.stdout.text(),
            stderr: self.stderr.text(),
        }
    }

    fn wait(&mut self, within: Duration) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                began.elapsed() < within,
                "`lavabus {}` has not ended within {within:?}; it said:\n{}{}",
                self.what,
                self.stderr.text(),
                self.stdout.text()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for RunningCli {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What came of it.
pub struct Ended {
    what: String,
    /// The exit code; `None` where a signal killed it.
    pub code: Option<i32>,
    /// All that it printed.
    pub stdout: String,
    /// All that it said.
    pub stderr: String,
}

impl Ended {
    /// It ended so.
    #[track_caller]
    pub fn with(self, code: i32) -> Ended {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    /// It said this.
    #[track_caller]
    pub fn said(self, text: &str) -> Ended {
        assert!(self.stderr.contains(text), "not said: {text:?}\n{self:?}");
        self
    }

    /// It said nothing of this.
    #[track_caller]
    pub fn did_not_say(self, text: &str) -> Ended {
        assert!(!self.stderr.contains(text), "said: {text:?}\n{self:?}");
        self
    }

    /// It printed exactly this.
    #[track_caller]
    pub fn printed(self, text: &str) -> Ended {
        assert_eq!(self.stdout, text, "{self:?}");
        self
    }

    /// The last line of standard error.
    pub fn last_line(&self) -> &str {
        self.stderr.lines().last().unwrap_or_default()
    }
}

/// Failed assertions shall be readable.
impl fmt::Debug for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`lavabus {}` ended with {:?}\nit printed:\n{}it said:\n{}",
            self.what, self.code, self.stdout, self.stderr
        )
    }
}

/// A stream of the process, as far as it was read.
#[derive(Default)]
struct Stream {
    read: Mutex<Read>,
    more: Condvar,
}

#[derive(Default)]
struct Read {
    text: String,
    is_ended: bool,
}

impl Stream {
    fn of(from: impl std::io::Read + Send + 'static) -> Arc<Stream> {
        let stream = Arc::new(Stream::default());
        let writer = stream.clone();
        std::thread::spawn(move || {
            let mut from = BufReader::new(from);
            let mut line = Vec::new();
            while from.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
                writer.read.lock().unwrap().text += &String::from_utf8_lossy(&line);
                writer.more.notify_all();
                line.clear();
            }
            writer.read.lock().unwrap().is_ended = true;
            writer.more.notify_all();
        });
        stream
    }

    /// It goes somewhere else.
    fn nothing() -> Arc<Stream> {
        Stream::of(std::io::empty())
    }

    fn text(&self) -> String {
        self.read.lock().unwrap().text.clone()
    }

    fn line_with(&self, text: &str, what: &str) -> String {
        let found = |read: &Read| read.text.lines().find(|line| line.contains(text)).map(str::to_owned);
        let read = self.wait_while(|read| found(read).is_none() && !read.is_ended);
        let line = found(&read);
        let all = read.text.clone();
        drop(read);
        line.unwrap_or_else(|| panic!("`lavabus {what}`: no line with {text:?} in:\n{all}"))
    }

    fn wait_while(&self, mut is_waiting: impl FnMut(&Read) -> bool) -> MutexGuard<'_, Read> {
        block_in_place(|| {
            let read = self.read.lock().unwrap();
            let waited = self.more.wait_timeout_while(read, LONG, |read| is_waiting(read));
            waited.unwrap().0
        })
    }

    fn wait_for_end(&self) {
        let read = self.wait_while(|read| !read.is_ended);
        assert!(read.is_ended, "a stream of a process that ended does not end");
    }
}
