//! The real publisher as a child process, and what the kernel says of it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use lavabus_zmtp::Endpoint;

/// A program of the target folder that this example is in.
pub(crate) fn built(name: &str) -> PathBuf {
    let example = std::env::current_exe().unwrap();
    let program = example.parent().and_then(Path::parent).unwrap().join(name);
    assert!(
        program.exists(),
        "{} is missing: cargo build --release",
        program.display()
    );
    program
}

pub(crate) struct Publisher {
    child: Child,
    intake: Endpoint,
    publish: Endpoint,
    http: Option<SocketAddr>,
}

impl Publisher {
    /// Starts it and waits until it is ready.
    pub(crate) fn start(folder: &Path, arguments: &[&str]) -> Publisher {
        Publisher::start_at(folder, "off", arguments)
    }

    /// The same with a second port.
    pub(crate) fn start_with_http(folder: &Path, arguments: &[&str]) -> Publisher {
        Publisher::start_at(folder, "127.0.0.1:0", arguments)
    }

    fn start_at(folder: &Path, http: &str, arguments: &[&str]) -> Publisher {
        let intake = format!("ipc://{}", folder.join("intake").display());
        let mut child = Command::new(built("lava-publisher"))
            .args(["--intake", &intake, "--publish", "tcp://127.0.0.1:0", "--http", http])
            .args(arguments)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut publish, mut http) = (None, None);
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while log.read_line(&mut line).unwrap() > 0 {
            if let Some((_, endpoint)) = line.trim_end().split_once("publish endpoint=") {
                publish = Some(endpoint.parse().unwrap());
            }
            if let Some((_, address)) = line.trim_end().split_once("http address=") {
                http = Some(address.parse().unwrap());
            }
            if line.contains(" ready ") {
                break;
            }
            line.clear();
        }
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Publisher {
            child,
            intake: intake.parse().unwrap(),
            publish: publish.expect("it says where it publishes"),
            http,
        }
    }

    pub(crate) fn intake(&self) -> &Endpoint {
        &self.intake
    }

    pub(crate) fn publish(&self) -> &Endpoint {
        &self.publish
    }

    pub(crate) fn http(&self) -> SocketAddr {
        self.http.expect("it was started with a second port")
    }

    fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).unwrap()
    }

    pub(crate) fn memory_mib(&self) -> f64 {
        let status = self.proc("status");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    }

    pub(crate) fn cpu_seconds(&self) -> f64 {
        let stat = self.proc("stat");
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        // utime and stime, in ticks of 10 ms.
        (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(self.child.id() as i32),
            nix::sys::signal::SIGTERM,
        )
        .unwrap();
        self.child.wait().unwrap();
    }
}
