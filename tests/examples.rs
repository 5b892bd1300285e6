//! What `examples/` and `docs/test-events.md` tell a user to do is done here, with the real programs.

#![allow(clippy::unwrap_used)]

mod lab;

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use lab::{CLOSED_PORT, Cli, Ended, LONG, Lab, Message, RunningCli, StockPush, eventually, push_events_of};
use lava_stand_in::{Failure, LavaServer};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::Value;

const JOB: &str = include_str!("../examples/ci/job.yaml");
const DOCUMENT: &str = include_str!("../docs/test-events.md");

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// A command in the home of `cli`, with `lavabus` and what is in that home on its PATH.
fn command(cli: &Cli, program: impl Into<OsString>, arguments: &[&str]) -> Command {
    let ours = Path::new(env!("CARGO_BIN_EXE_lavabus")).parent().unwrap();
    let system = std::env::var_os("PATH").unwrap();
    let folders = [cli.folder().to_owned(), ours.to_owned()];
    let folders = folders.into_iter().chain(std::env::split_paths(&system));
    let mut command = Command::new(program.into());
    command
        .args(arguments)
        .current_dir(cli.folder())
        .env_clear()
        .env("HOME", cli.folder())
        .env("XDG_CONFIG_HOME", cli.folder())
        .env("PATH", std::env::join_paths(folders).unwrap())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn script(cli: &Cli, name: &str, arguments: &[&str]) -> Command {
    let path = path("examples/ci").join(name);
    let mut words = vec![path.to_str().unwrap()];
    words.extend(arguments);
    command(cli, "sh", &words)
}

/// A home with the job's definition in it.
fn home(cli: Cli) -> Cli {
    cli.file("job.yaml", JOB);
    cli
}

/// A program of that name for the shell.
fn program(cli: &Cli, name: &str, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    let path = cli.file(name, text);
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Runs `submit-and-wait.sh` while its job goes to that end with one test of that result.
async fn submit_and_wait(health: &str, result: &str) -> (Ended, String) {
    let lava = LavaServer::start().await;
    let cli = home(Cli::of(&lava));
    let running = cli.start_command(script(&cli, "submit-and-wait.sh", &[]));
    running.prints("1");
    lava.add_test("1", "0_flash", "read-back", result);
    lava.change_job("1", |job| job.error_msg = Some("no boot prompt".to_owned()));
    lava.set_job("1", "Running", "Unknown");
    lava.set_job("1", "Finished", health);
    let ended = running.ended().printed("1\n");
    assert_eq!(lava.submissions(), 1);
    (ended, std::fs::read_to_string(cli.folder().join("report.xml")).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn submit_and_wait_gives_the_outcome_of_the_job() {
    let (ended, report) = submit_and_wait("Complete", "pass").await;
    ended.with(0).said("job.yaml: passed");
    assert!(report.contains("read-back"), "{report}");

    let (ended, report) = submit_and_wait("Complete", "fail").await;
    ended.with(14).said("read-back").said("job.yaml: tests failed");
    assert!(report.contains("<failure"), "{report}");

    let (ended, _) = submit_and_wait("Incomplete", "pass").await;
    ended
        .with(10)
        .said("no boot prompt")
        .said("job.yaml: the job is Incomplete");

    let (ended, _) = submit_and_wait("Canceled", "pass").await;
    ended.with(11).said("job.yaml: somebody has cancelled");
}

#[tokio::test(flavor = "multi_thread")]
async fn submit_and_wait_when_nothing_comes_of_it() {
    let lava = LavaServer::start().await;

    let cli = Cli::of(&lava);
    cli.file("job.yaml", "job_name: 3\n");
    let refused = cli.start_command(script(&cli, "submit-and-wait.sh", &[])).ended();
    refused.with(15).said("job.yaml: LAVA refuses job.yaml").printed("");

    let stranger = home(Cli::new().identity("default", &lava.uri(), "admin", "wrong", CLOSED_PORT));
    let refused = stranger
        .start_command(script(&stranger, "submit-and-wait.sh", &[]))
        .ended();
    refused.with(21).said("job.yaml: LAVA does not accept").printed("");

    let cli = home(Cli::of(&lava));
    let late = cli
        .start_command(script(&cli, "submit-and-wait.sh", &["job.yaml", "100ms"]))
        .ended();
    late.with(124)
        .said("job.yaml: not finished within 100ms")
        .printed("1\n");
    assert_eq!(lava.cancelled(), ["1"]);
}

/// `lavabus` looks for the job for a while before it gives up.
#[tokio::test(flavor = "multi_thread")]
async fn submit_and_wait_does_not_submit_again_what_may_be_there() {
    let lava = LavaServer::start().await;
    let cli = home(Cli::of(&lava));
    lava.fail(Failure::CloseBefore, "POST /api/v0.2/jobs/", 1);
    let running = cli.start_command(script(&cli, "submit-and-wait.sh", &[]));
    let ended = running.ended_within(2 * LONG).with(20);
    ended
        .said("seems not to be submitted")
        .said("job.yaml: LAVA cannot be reached");
    let requests = lava.requests();
    let posted = requests.iter().filter(|request| *request == "POST /api/v0.2/jobs/");
    assert_eq!((posted.count(), lava.submissions()), (1, 0));
}

/// A runner signals the shell alone, or all that it started.
#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_that_is_cancelled_cancels_its_job() {
    for to_all in [false, true] {
        let lava = LavaServer::start().await;
        let cli = home(Cli::of(&lava));
        let path = path("examples/ci/submit-and-wait.sh");
        let words = ["-c", "echo $$ >pid; exec sh \"$0\"", path.to_str().unwrap()];
        let mut command = command(&cli, "sh", &words);
        command.process_group(0);
        let running = cli.start_command(command);
        running.prints("1");
        lava.set_job("1", "Running", "Unknown");
        running.says("Running");
        // A second signal that comes too early would cut this short.
        lava.fail(
            Failure::Delay(Duration::from_millis(500)),
            "/api/v0.2/jobs/1/cancel/",
            1,
        );
        if to_all {
            let pid = std::fs::read_to_string(cli.folder().join("pid")).unwrap();
            killpg(Pid::from_raw(pid.trim().parse().unwrap()), Signal::SIGTERM).unwrap();
        } else {
            running.signal(Signal::SIGTERM);
        }
        running.ended().with(143).said("job.yaml: stopped by a signal");
        assert_eq!(lava.cancelled(), ["1"], "signal to all: {to_all}");
    }
}

/// Every code goes through as it is, and has a text of its own. `lavabus` itself is not asked here.
#[tokio::test(flavor = "multi_thread")]
async fn submit_and_wait_tells_all_codes_apart() {
    let cli = Cli::new();
    let mut texts = Vec::new();
    for code in [0, 10, 11, 14, 15, 20, 21, 124, 143, 1] {
        program(&cli, "lavabus", &format!("#!/bin/sh\nexit {code}\n"));
        let ended = cli
            .start_command(script(&cli, "submit-and-wait.sh", &[]))
            .ended()
            .with(code);
        texts.push(ended.last_line().to_owned());
    }
    let count = texts.len();
    texts.sort_unstable();
    texts.dedup();
    assert_eq!(texts.len(), count, "{texts:?}");
}

fn event(job: u64, message: &str) -> Message {
    let data = serde_json::json!({"message": message, "job": job});
    Message::sent_at(jiff::Timestamp::now(), "event", &data)
}

#[tokio::test(flavor = "multi_thread")]
async fn wait_for_event_goes_on_with_the_event_of_its_job() {
    let publisher = Lab::new().journal().start().await;
    let lava = LavaServer::start().await;
    push_events_of(&lava, publisher.intake());
    let push = StockPush::connect(publisher.intake());
    let cli = home(Cli::with_bus(&lava, publisher.publish()));

    let running = cli.start_command(script(&cli, "wait-for-event.sh", &[]));
    eventually("the job is submitted", || lava.submissions() == 1).await;
    lava.set_job("1", "Running", "Unknown");
    push.send(&event(77, "flashed of another job"));
    push.send(&event(1, "flashed ok"));
    running.prints("job 1 has flashed");
    lava.set_job("1", "Finished", "Complete");
    let ended = running.ended().with(0);
    assert!(
        ended.stdout.contains("flashed ok") && !ended.stdout.contains("another"),
        "{ended:?}"
    );

    let running = cli.start_command(script(&cli, "wait-for-event.sh", &[]));
    eventually("the job is submitted", || lava.submissions() == 2).await;
    lava.set_job("2", "Finished", "Complete");
    running.ended().with(12).printed("");
}

/// Its one event, and its one test case.
#[test]
fn the_definition_says_what_the_command_beside_it_waits_for() {
    let job: Value = serde_saphyr::from_str(JOB).unwrap();
    let steps = job
        .pointer("/actions/2/test/definitions/0/repository/run/steps")
        .unwrap();
    let steps: Vec<&str> = steps
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step.as_str().unwrap())
        .collect();
    assert!(steps.contains(&r#"lava-test-event "flashed ok""#), "{steps:?}");
    for waiting in [JOB, include_str!("../examples/ci/wait-for-event.sh"), DOCUMENT] {
        assert!(waiting.contains("--message '~^flashed'"));
    }
}

/// Runs a line of a pipeline as its runner does, in a shell that ends with the first failure.
async fn run_line(line: &str, shell: &str) {
    let lava = LavaServer::start().await;
    let cli = home(Cli::of(&lava));
    let running = cli.start_command(command(&cli, shell, &["-e", "-c", line]));
    running.prints("1");
    lava.add_test("1", "0_flash", "read-back", "fail");
    lava.set_job("1", "Finished", "Complete");
    running.ended().with(14);
    let report = std::fs::read_to_string(cli.folder().join("report.xml")).unwrap();
    assert!(report.contains("read-back"), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_github_snippet_runs_the_job_and_keeps_the_report() {
    let text = include_str!("../examples/ci/github.yml");
    let workflow: Value = serde_saphyr::from_str(text).unwrap();
    let steps = workflow.pointer("/jobs/board/steps").unwrap().as_array().unwrap();
    let run = steps.iter().find_map(|step| step.get("run")).unwrap().as_str().unwrap();
    run_line(run, "bash").await;
    let kept = steps.last().unwrap();
    assert_eq!(kept.pointer("/with/path").unwrap(), "report.xml");
    assert_eq!(kept["if"], "${{ !cancelled() }}");

    // A cancelled workflow: SIGINT for the step's first process, and for no other.
    let lava = LavaServer::start().await;
    let cli = home(Cli::of(&lava));
    cli.file("step.sh", &format!("{run}\n"));
    let running = cli.start_command(command(&cli, "bash", &["-e", "step.sh"]));
    running.prints("1");
    running.signal(Signal::SIGINT);
    running.ended().with(130);
    assert_eq!(lava.cancelled(), ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gitlab_snippet_runs_the_job_and_keeps_the_report() {
    let text = include_str!("../examples/ci/gitlab.yml");
    let pipeline: Value = serde_saphyr::from_str(text).unwrap();
    let run = pipeline.pointer("/board/script/0").unwrap().as_str().unwrap();
    run_line(run, "sh").await;
    assert_eq!(
        pipeline.pointer("/board/artifacts/reports/junit").unwrap(),
        "report.xml"
    );
    assert_eq!(pipeline.pointer("/board/artifacts/when").unwrap(), "always");
}

/// The block of the document that has this text in it.
fn block(language: &str, text: &str) -> &'static str {
    let begin = format!("```{language}\n");
    let mut blocks = DOCUMENT
        .split(&begin)
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap());
    blocks
        .find(|block| block.contains(text))
        .unwrap_or_else(|| panic!("no {language} block with {text:?}"))
}

/// What LAVA makes of what stands on the console: `<LAVA_SIGNAL_(\S+) ([^>]+)>`, white space collapsed.
fn message_of(console: &str) -> Option<String> {
    let (_, rest) = console.split_once("<LAVA_SIGNAL_TESTEVENT ")?;
    let (message, _) = rest.split_once('>')?;
    let words: Vec<&str> = message.split_whitespace().collect();
    Some(words.join(" ")).filter(|message| !message.is_empty())
}

/// Prints as LAVA's own does, and refuses a second argument.
const LAVA_TEST_EVENT: &str = "#!/bin/sh\n[ $# = 1 ] || exit 1\nprintf '<LAVA_SIGNAL_TESTEVENT %s>\\n' \"$1\"\n";

/// What a step of a test shell puts on the console.
fn step(cli: &Cli, step: &str) -> Ended {
    program(cli, "lava-test-event", LAVA_TEST_EVENT);
    cli.start_command(command(cli, "sh", &["-c", step])).ended()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_is_right_about_quotes() {
    let cli = Cli::new();
    let shell: Value = serde_saphyr::from_str(block("yaml", "a block keeps all")).unwrap();
    let steps = shell["steps"].as_array().unwrap();
    let messages = steps
        .iter()
        .map(|line| message_of(&step(&cli, line.as_str().unwrap()).with(0).stdout).unwrap());
    let messages: Vec<String> = messages.collect();
    assert_eq!(messages[0], "flashed ok");
    assert!(
        messages[1].starts_with("kernel ") && messages[1].len() > 8,
        "{messages:?}"
    );
    assert_eq!(messages[2], "stage: boot");
    assert_eq!(messages[3], "a block keeps all: even ' and # and \" reach the shell");
    let not_quoted: Value = serde_saphyr::from_str("- lava-test-event \"stage: boot\"\n").unwrap();
    assert!(not_quoted[0].is_object(), "a map, and no command: {not_quoted}");

    let arrives = |line: &str| message_of(&step(&cli, line).with(0).stdout);
    assert_eq!(arrives("lava-test-event 'rate > 10'").unwrap(), "rate");
    assert_eq!(arrives("lava-test-event 'a    b'").unwrap(), "a b");
    assert_eq!(arrives("lava-test-event ''"), None);
    step(&cli, "lava-test-event flashed ok").with(1);
    assert_eq!(arrives(block("sh", "sed 's/%/")).unwrap(), "rate%20%20%255 %3E 10");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_text_arrives_whole_as_the_document_says() {
    let publisher = Lab::new().journal().start().await;
    let lava = LavaServer::start().await;
    push_events_of(&lava, publisher.intake());
    let cli = home(Cli::with_bus(&lava, publisher.publish()));
    assert_eq!(cli.run(["submit", "job.yaml"]).with(0).stdout, "1\n");

    let console = step(&cli, block("sh", "base64 | tr")).with(0).stdout;
    let to = publisher.intake().to_string();
    let emit = ["emit", "event", "--to", &to, "--job", "1"];
    cli.run(emit.into_iter().chain([message_of(&console).unwrap().as_str()]))
        .with(0);
    let read = format!("id=1\n{}", block("sh", "base64 -d"));
    let read = cli.start_command(command(&cli, "sh", &["-c", &read])).ended().with(0);
    assert_eq!(read.stdout, r#"{"rate": "> 10 MB/s",   "note": "two  blanks"}"#);

    let emit = block("sh", "lavabus emit event").trim_end();
    let emit = format!("id=1\n{emit} --to {to}");
    cli.start_command(command(&cli, "sh", &["-c", &emit])).ended().with(0);
    let read = [
        "wait",
        "event",
        "--job",
        "1",
        "--message",
        "~^flashed",
        "-o",
        "template={{ message }}",
    ];
    cli.run(read).with(0).printed("flashed in 12 s \"ok\" > 10\n");
}

/// `sh -n`: what cannot be run here is at least a shell script.
#[test]
fn shell_scripts_are_of_any_posix_shell() {
    for script in ["submit-and-wait.sh", "wait-for-event.sh"] {
        let checked = Command::new("sh")
            .arg("-n")
            .arg(path("examples/ci").join(script))
            .output()
            .unwrap();
        assert!(
            checked.status.success(),
            "{script}: {}",
            String::from_utf8_lossy(&checked.stderr)
        );
    }
}

/// An example that cargo has built beside this test.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    let built = profile.join("examples").join(name);
    let time = |path: &Path| path.metadata().and_then(|metadata| metadata.modified());
    let source = path("examples").join(name).with_extension("rs");
    assert!(
        time(&built).is_ok_and(|built| built >= time(&source).unwrap()),
        "{} is not there or older than its source: `cargo test` builds it, `cargo test --test examples` does not; \
         run `cargo build --examples`",
        built.display()
    );
    built
}

/// The UUIDs of what a follower printed, in order.
fn uuids(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(Message::uuid).collect()
}

/// A follower prints what happens, is stopped, is started again, and hears through a restart of the publisher: nothing
/// is missing and nothing comes twice.
async fn follow(
    cli: &Cli,
    start: impl Fn(&str) -> RunningCli,
    end: impl AsyncFn(RunningCli, &Message) -> String,
    mark: fn(&Message) -> String,
) -> (Vec<Message>, String) {
    let publisher = Lab::new().journal().start().await;
    let messages: Vec<Message> = (1..=30)
        .map(|number| Message::job(number, "Running", "Unknown"))
        .collect();
    let push = StockPush::connect(publisher.intake());
    let endpoint = publisher.publish().to_string();

    let follower = start(&endpoint);
    publisher.subscribers(1).await;
    push.send_all(&messages[..10]);
    follower.prints(&mark(&messages[9]));
    let mut printed = end(follower, &messages[9]).await;

    push.send_all(&messages[10..20]);
    publisher.published(20).await;
    let follower = start(&endpoint);
    follower.prints(&mark(&messages[19]));

    let publisher = publisher.stop().await.start().await;
    publisher.subscribers(1).await;
    push.send_all(&messages[20..]);
    follower.prints(&mark(&messages[29]));
    printed += &end(follower, &messages[29]).await;
    assert!(cli.folder().join("place").exists());
    (messages, printed)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_script_resumes() {
    let test = "the_python_script_resumes";
    let has_zmq = Command::new("python3").args(["-c", "import zmq"]).output();
    if !has_zmq.is_ok_and(|python| python.status.success()) {
        eprintln!("SKIPPED {test}: it needs python3 and `pip install pyzmq`");
        return;
    }
    let script = path("examples/resume.py");
    let script = script.to_str().unwrap();
    for options in [&[][..], &["--seq"][..]] {
        let cli = Cli::new();
        let start = |endpoint: &str| {
            // With the user's own environment: pip may have put pyzmq there.
            let mut python = Command::new("python3");
            python
                .args([script, "place", "--endpoint", endpoint])
                .args(["--topic", "org.example.lab.testjob"])
                .args(options)
                .current_dir(cli.folder())
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            cli.start_command(python)
        };
        let end = async |follower: RunningCli, last: &Message| {
            // Printed, then kept.
            let kept =
                || std::fs::read_to_string(cli.folder().join("place")).is_ok_and(|kept| kept.trim() == last.uuid());
            eventually("the last UUID is kept", kept).await;
            follower.signal(Signal::SIGINT);
            follower.ended().with(0).stdout
        };
        let (messages, printed) = follow(&cli, start, end, |message| message.uuid().to_owned()).await;
        let printed: Vec<&str> = printed.lines().filter_map(|line| line.split(' ').nth(1)).collect();
        assert_eq!(printed, uuids(&messages), "{options:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rust_example_with_our_client_resumes() {
    let program = example("follow_jobs");
    let cli = Cli::new();
    let start = |endpoint: &str| cli.start_command(command(&cli, &program, &["place", endpoint]));
    let end = async |follower: RunningCli, _: &Message| {
        follower.signal(Signal::SIGINT);
        follower.ended().with(0).stdout
    };
    let line = |message: &Message| {
        let data: Value = serde_json::from_str(message.text(4)).unwrap();
        format!("{} job {} on -: Running Unknown", message.text(2), data["job"])
    };
    let (messages, printed) = follow(&cli, start, end, line).await;
    let expected: Vec<String> = messages.iter().map(line).collect();
    assert_eq!(printed.lines().collect::<Vec<_>>(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stock_rust_client_prints_the_five_frames() {
    let publisher = Lab::new().journal().start().await;
    let cli = Cli::new();
    let endpoint = publisher.publish().to_string();
    let arguments = ["org.example.lab.testjob", &endpoint];
    let client = cli.start_command(command(&cli, example("stock_client"), &arguments));
    publisher.subscribers(1).await;
    let push = StockPush::connect(publisher.intake());
    let messages = [
        Message::job(1, "Running", "Unknown"),
        Message::worker("worker-01", "Online"),
    ];
    push.send_all(&messages);
    client.prints(messages[0].text(4));

    // It connects again by itself.
    let publisher = publisher.stop().await.start().await;
    publisher.subscribers(1).await;
    let after = Message::job(1, "Finished", "Complete");
    push.send(&after);
    client.prints(after.text(4));

    client.signal(Signal::SIGINT);
    let names = ["topic", "uuid", "datetime", "username", "data"];
    let paragraph = |message: &Message| {
        let frames = names
            .iter()
            .enumerate()
            .map(|(index, name)| format!("{name:>8}  {}\n", message.text(index)));
        frames.collect::<String>() + "\n"
    };
    client
        .ended()
        .with(0)
        .printed(&(paragraph(&messages[0]) + &paragraph(&after)));
}
