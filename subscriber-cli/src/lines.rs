//! Lines of a file or of standard input, read beside everything else.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use tokio::sync::mpsc::{Receiver, Sender, channel, error::TryRecvError};

use crate::exit::Exit;
use crate::failure::Failure;

/// So many lines are read ahead.
const AHEAD: usize = 256;

/// A line that is not empty.
#[derive(Debug)]
pub(crate) struct Line {
    /// From 1.
    pub(crate) number: u64,
    pub(crate) text: String,
}

/// The lines of one file.
#[derive(Debug)]
pub(crate) struct Lines {
    name: String,
    lines: Receiver<io::Result<Line>>,
}

/// Begins to read a file; `-` is standard input.
pub(crate) fn read(path: &Path) -> Result<Lines, Failure> {
    let (name, input): (String, Box<dyn BufRead + Send>) = if path == Path::new("-") {
        ("standard input".to_owned(), Box::new(BufReader::new(io::stdin())))
    } else {
        let name = path.display().to_string();
        let file = File::open(path).map_err(|error| {
            Failure::new(
                Exit::Usage,
                format!("cannot read {name}"),
                error,
                "--from FILE with JSON lines, or --from -",
            )
        })?;
        (name, Box::new(BufReader::new(file)))
    };
    let (sender, lines) = channel(AHEAD);
    tokio::task::spawn_blocking(move || send_lines(input, &sender));
    Ok(Lines { name, lines })
}

fn send_lines(mut input: Box<dyn BufRead + Send>, sender: &Sender<io::Result<Line>>) {
    for number in 1.. {
        let mut bytes = Vec::new();
        let line = match input.read_until(b'\n', &mut bytes) {
            Ok(0) => return,
            Ok(_) => match String::from_utf8(bytes) {
                Ok(text) if text.trim().is_empty() => continue,
                Ok(text) => Ok(Line { number, text }),
                Err(error) => Ok(Line {
                    number,
                    text: String::from_utf8_lossy(error.as_bytes()).into_owned(),
                }),
            },
            Err(error) => Err(error),
        };
        let is_end = line.is_err();
        if sender.blocking_send(line).is_err() || is_end {
            return;
        }
    }
}

impl Lines {
    /// What the file is called.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The next line, or the end, if it is there already.
    pub(crate) fn try_next(&mut self) -> Option<Result<Option<Line>, Failure>> {
        match self.lines.try_recv() {
            Ok(line) => Some(self.check(line).map(Some)),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Ok(None)),
        }
    }

    /// The next line; `None` is the end. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<Option<Line>, Failure> {
        match self.lines.recv().await {
            Some(line) => self.check(line).map(Some),
            None => Ok(None),
        }
    }

    fn check(&self, line: io::Result<Line>) -> Result<Line, Failure> {
        line.map_err(|error| {
            Failure::new(
                Exit::Usage,
                format!("cannot read {}", self.name),
                error,
                "see that it is a file of JSON lines",
            )
        })
    }
}
