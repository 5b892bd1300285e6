//! Runs the stand-in with a few jobs, to try things by hand: `lava-stand-in [PORT]`.

use std::process::ExitCode;
use std::time::Duration;

use lava_stand_in::{Job, LavaServer, Options};

#[tokio::main]
async fn main() -> ExitCode {
    let port = match std::env::args().nth(1).map(|port| port.parse::<u16>()) {
        None => 0,
        Some(Ok(port)) => port,
        Some(Err(_)) => {
            eprintln!("usage: lava-stand-in [PORT]");
            return ExitCode::from(2);
        }
    };
    let lava = LavaServer::start_with(Options {
        port,
        ..Options::default()
    })
    .await;
    let done = lava.add_job(Job {
        description: "boot".into(),
        device: Some("qemu-01".into()),
        ..Job::default()
    });
    lava.add_log(&done, "info", "start: 1 deploy");
    lava.add_log(&done, "target", "login:");
    lava.add_test(&done, "boot", "login", "pass");
    lava.add_test(&done, "boot", "network", "fail");
    lava.set_job(&done, "Finished", "Complete");
    let failed = lava.add_job(Job {
        description: "flash".into(),
        error_type: Some("Infrastructure".into()),
        error_msg: Some("no power".into()),
        ..Job::default()
    });
    lava.set_job(&failed, "Finished", "Incomplete");
    lava.add_job(Job {
        description: "waiting".into(),
        ..Job::default()
    });
    let step = Duration::from_secs(3);
    lava.auto_run(Some(&[
        (step, "Scheduled", "Unknown"),
        (step, "Running", "Unknown"),
        (step, "Finished", "Complete"),
    ]));
    println!("uri: {}", lava.uri());
    println!("username: admin");
    println!("token: {}", LavaServer::ADMIN_TOKEN);
    lava.on_event(|frames| println!("{}", frames.join(" ")));
    if tokio::signal::ctrl_c().await.is_err() {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
