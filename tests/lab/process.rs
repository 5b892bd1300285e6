//! The real program, which can be killed.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use lavabus_zmtp::Endpoint;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{LONG, Lab};

/// `lava-publisher` as a process. It is killed when this is dropped.
#[derive(Debug)]
pub struct PublisherProcess {
    child: Child,
    log: Arc<Log>,
    publish: Endpoint,
    /// Behind the process, so that its folder is removed last.
    lab: Option<Lab>,
}

/// What the process has written to standard error so far.
#[derive(Debug, Default)]
struct Log {
    written: Mutex<Written>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Written {
    lines: Vec<String>,
    ended: bool,
}

impl PublisherProcess {
    pub(super) fn start(mut lab: Lab) -> PublisherProcess {
        let mut command = command(&lab);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Log::default());
        let (stderr, writer) = (child.stderr.take().unwrap(), log.clone());
        std::thread::spawn(move || writer.collect(BufReader::new(stderr)));
        log.wait_for(" ready ");
        let publish = log.wait_for(" publish endpoint=");
        let (_, endpoint) = publish.split_once(" publish endpoint=").unwrap();
        let endpoint: Endpoint = endpoint.trim().parse().unwrap();
        // After a restart it is where its peers look for it.
        lab.config.publish = vec![endpoint.clone()];
        if !lab.config.http.listen.is_empty() {
            let line = log.wait_for(" http address=");
            let (_, address) = line.split_once(" http address=").unwrap();
            lab.config.http.listen = vec![address.trim().parse().unwrap()];
        }
        PublisherProcess {
            child,
            log,
            publish: endpoint,
            lab: Some(lab),
        }
    }

    /// Where producers connect.
    pub fn intake(&self) -> &Endpoint {
        &self.lab().config.intake[0]
    }

    /// Where subscribers connect.
    pub fn publish(&self) -> &Endpoint {
        &self.publish
    }

    /// The second port.
    pub fn http(&self) -> std::net::SocketAddr {
        self.lab().config.http.listen[0]
    }

    /// The lab that it runs in.
    pub fn lab(&self) -> &Lab {
        self.lab.as_ref().expect("only taken at the end")
    }

    /// The journal's file.
    pub fn database(&self) -> PathBuf {
        self.lab().database()
    }

    /// The process's number.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    /// Sends SIGTERM and the like.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// `kill -9`. The lab that is returned can be started again, at the same endpoints.
    pub fn kill(mut self) -> Lab {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.lab.take().expect("only taken here")
    }

    /// Waits until it has ended by itself, `within` so long.
    pub fn wait(&mut self, within: Duration) -> ExitStatus {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "not ended within {within:?}:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends it with SIGTERM. The lab that is returned can be started again, at the same endpoints.
    pub fn terminate(mut self) -> Lab {
        self.signal(Signal::SIGTERM);
        assert!(self.wait(LONG).success(), "{}", self.log());
        self.lab.take().expect("only taken here")
    }

    /// Waits until the log has a line with that text, and returns the first such line.
    pub fn wait_for_log(&self, text: &str) -> String {
        self.log.wait_for(text)
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.log.written.lock().unwrap().lines.join("\n")
    }
}

impl Drop for PublisherProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The real program, as the lab is configured.
pub(super) fn command(lab: &Lab) -> Command {
    let program = env!("CARGO_BIN_EXE_lava-publisher");
    let mut command = match lab.descriptors {
        None => Command::new(program),
        Some(limit) => {
            let mut shell = Command::new("sh");
            shell
                .arg("-c")
                .arg(format!("ulimit -n {limit} && exec \"$0\" \"$@\""))
                .arg(program);
            shell
        }
    };
    for endpoint in &lab.config.intake {
        command.arg("--intake").arg(endpoint.to_string());
    }
    for endpoint in &lab.config.publish {
        command.arg("--publish").arg(endpoint.to_string());
    }
    match &lab.config.journal {
        Some(journal) => command.arg("--db").arg(&journal.path),
        None => command.arg("--no-journal"),
    };
    if !lab.arguments.iter().any(|argument| argument == "--lava-settings") {
        // A LAVA on the machine of the test would be asked.
        command.arg("--lava-settings").arg(lab.folder().join("no-lava"));
    }
    command.arg("--http");
    match lab.config.http.listen.as_slice() {
        [] => command.arg("off"),
        listen => command.args(listen.iter().map(ToString::to_string)),
    };
    command.args(&lab.arguments);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

impl Log {
    fn collect(&self, stderr: impl BufRead) {
        for line in stderr.lines().map_while(Result::ok) {
            self.written.lock().unwrap().lines.push(line);
            self.more.notify_all();
        }
        self.written.lock().unwrap().ended = true;
        self.more.notify_all();
    }

    fn wait_for(&self, text: &str) -> String {
        let found = |written: &Written| written.lines.iter().find(|line| line.contains(text)).cloned();
        let written = self.written.lock().unwrap();
        let (written, _) = self
            .more
            .wait_timeout_while(written, LONG, |written| found(written).is_none() && !written.ended)
            .unwrap();
        let log = || written.lines.join("\n");
        found(&written).unwrap_or_else(|| panic!("no line with {text:?} in the log:\n{}", log()))
    }
}
