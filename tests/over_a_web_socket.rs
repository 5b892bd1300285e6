//! `--bus ws://…`: LAVA's own WebSocket, or our publisher's. Nothing of the past and no resume, and that is said.

#![allow(clippy::unwrap_used)]

mod lab;

use lab::{Cli, Lab, Message, Relay, StockPush, captured, eventually};
use lava_publisher::{AuthorityConfig, LavaConfig};
use lava_stand_in::{Job, LavaServer};
use lavabus_lava::Identity;

/// Jobs whose events are told by LAVA's own publisher.
struct Stock {
    lava: LavaServer,
    relay: Relay,
    cli: Cli,
    bus: String,
}

impl Stock {
    async fn start() -> Stock {
        let lava = LavaServer::start().await;
        let relay = Relay::to(lava.address()).await;
        Stock {
            cli: Cli::new(),
            bus: format!("ws://{}/ws/", relay.address()),
            relay,
            lava,
        }
    }

    fn job(&self) -> String {
        self.lava.add_job(Job {
            state: "Running".into(),
            ..Job::default()
        })
    }

    /// Somebody who hears it, when nobody else does any more.
    async fn start_cli(&self, words: &[&str]) -> lab::RunningCli {
        self.is_left().await;
        let running = self.cli.start([&["-v", "--bus", &self.bus], words].concat());
        self.hears().await;
        running
    }

    async fn hears(&self) {
        eventually("a WebSocket", || self.lava.web_sockets() == 1).await;
    }

    async fn is_left(&self) {
        eventually("nobody hears", || self.lava.web_sockets() == 0).await;
    }

    async fn cut(&self) {
        self.relay.cut();
        self.is_left().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_is_heard() {
    let publisher = Lab::new().journal().http().start().await;
    let bus = format!("ws://{}", publisher.http());
    let running = Cli::new().start(["listen", "--bus", &bus, "-o", "raw", "--count", "2"]);
    publisher.websockets(1).await;
    let sent = captured();
    StockPush::connect(publisher.intake()).send_all(&sent[..2]);
    let ended = running.ended().with(0);
    for (line, sent) in ended.stdout.lines().zip(&sent[..2]) {
        let line: Vec<String> = serde_json::from_str(line).unwrap();
        assert_eq!(Message::new(&line), *sent);
    }
    assert_eq!(ended.stdout.lines().count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_hears_what_is_his() {
    let lava = LavaServer::start().await;
    lava.add_user("ada", "ada-token");
    let private = Job {
        submitter: "ada".into(),
        private: true,
        ..Job::default()
    };
    let (private, public) = (lava.add_job(private), lava.add_job(Job::default()));
    let lab = Lab::new().journal().http().configure(|config| {
        config.authority = AuthorityConfig::Lava(Box::new(LavaConfig {
            identity: Identity::anonymous(&lava.uri()).unwrap(),
            administrators: Vec::new(),
            tokens: None,
            workers: None,
        }));
    });
    let publisher = lab.start().await;
    let bus = format!("ws://{}", publisher.http());
    let listen = ["listen", "--bus", &bus, "-o", "template={{ data.job }}", "--count", "1"];
    let ada = || Cli::new().variable("LAVABUS_USERNAME", "ada");
    let token = |cli: Cli| cli.variable("LAVABUS_TOKEN", "ada-token");
    let named = Cli::new().identity("default", &lava.uri(), "ada", "ada-token", "");
    // Nobody names the user: LAVA, which is of this host, says whose token it is.
    let nameless = Cli::new().identity_text(&format!("default: {{uri: {}, token: ada-token}}\n", lava.uri()));
    let running = [
        (Cli::new().start(listen), &public),
        (token(ada()).start(listen), &private),
        (named.start(listen), &private),
        (nameless.start(listen), &private),
    ];
    publisher.websockets(running.len() as u64).await;
    let push = StockPush::connect(publisher.intake());
    for job in [&private, &public] {
        push.send(&Message::job(job.parse().unwrap(), "Running", "Unknown"));
    }
    for (running, job) in running {
        running.ended().with(0).printed(&format!("{job}\n"));
    }
    let wrong = ada().variable("LAVABUS_TOKEN", "s3cret").run(listen).with(21);
    wrong
        .said("Unknown user")
        .said("LAVABUS_TOKEN_FILE")
        .did_not_say("s3cret");
    let wrong = ada().variable("LAVABUS_TOKEN", "s3cret");
    wrong.run(["wait", "job", &private, "--bus", &bus]).with(21);
}

/// A publisher with tokens of its own is not LAVA: nobody there says whose token it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_without_its_user_is_said() {
    let publisher = Lab::new().journal().http().tokens().start().await;
    let bus = format!("ws://{}", publisher.http());
    let reader = || Cli::new().variable("LAVABUS_TOKEN", "reader-token");
    let listen = ["listen", "--bus", &bus, "--count", "1"];
    reader().run(listen).with(2).said("LAVABUS_USERNAME");
    let running = reader().variable("LAVABUS_USERNAME", "reader").start(listen);
    publisher.websockets(1).await;
    StockPush::connect(publisher.intake()).send(&Message::test_event(1));
    running.ended().with(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stock_publisher_tells_nothing_of_the_past() {
    let stock = Stock::start().await;
    let job = stock.job();
    let words = [
        "listen",
        "--last",
        "5",
        "-o",
        "template={{ data.state }}",
        "--count",
        "2",
    ];
    let running = stock.start_cli(&words).await;
    running.says("cannot go back: only what happens from now on is shown");
    stock.lava.set_job(&job, "Canceling", "Unknown");
    running.prints("Canceling");
    stock.cut().await;
    stock.relay.mend();
    stock.hears().await;
    running.says("it cannot resume after an outage");
    stock.lava.set_job(&job, "Finished", "Canceled");
    running.ended().with(0).printed("Canceling\nFinished\n");
    let strict = stock.start_cli(&["listen", "--strict"]).await;
    stock.cut().await;
    stock.relay.mend();
    strict.ended().with(22).said("plain_publisher");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_sees_what_happens_from_now_on() {
    let stock = Stock::start().await;
    let (job, over) = (stock.job(), stock.job());
    stock.lava.set_job(&over, "Finished", "Complete");
    // Nobody is there who could be asked.
    let mut waiting = stock.start_cli(&["wait", "job", &over]).await;
    waiting.says("only what happens from now on is seen, and what an outage hides is lost");
    assert!(waiting.is_running());
    drop(waiting);
    let waiting = stock.start_cli(&["wait", "job", &job]).await;
    stock.cut().await;
    stock.relay.mend();
    stock.hears().await;
    stock.lava.set_job(&job, "Finished", "Incomplete");
    waiting.ended().with(10);
    let job = stock.job();
    let strict = stock.start_cli(&["wait", "job", &job, "--strict"]).await;
    stock.cut().await;
    stock.relay.mend();
    strict.ended().with(22);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_an_identity_lava_is_asked_for_what_a_web_socket_does_not_tell() {
    let mut stock = Stock::start().await;
    stock.cli = Cli::of(&stock.lava);
    let over = stock.lava.add_job(Job {
        state: "Finished".into(),
        health: "Canceled".into(),
        ..Job::default()
    });
    stock.cli.run(["wait", "job", &over, "--bus", &stock.bus]).with(11);
    stock.cli.run(["wait", "job", "999", "--bus", &stock.bus]).with(13);
    // And for what a break hid.
    let job = stock.job();
    let waiting = stock.start_cli(&["wait", "job", &job]).await;
    waiting.says("Running");
    stock.relay.cut();
    waiting.says("no connection");
    stock.lava.set_job(&job, "Finished", "Incomplete");
    waiting.ended().with(10);
}
