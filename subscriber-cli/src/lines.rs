//! Lines of a file or of standard input, read beside everything else.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::Path;
use std::string::FromUtf8Error;

use lavabus_protocol::{Record, RecordError};
use tokio::sync::mpsc::{Receiver, Sender, channel, error::TryRecvError};

use crate::exit::Exit;
use crate::failure::Failure;

/// So many lines are read ahead.
const AHEAD: usize = 256;

/// No line is longer, in bytes: the largest event that a publisher takes by default, as JSON inside a string, and some.
const LONGEST: u64 = 8 << 20;

/// A line that is not empty.
#[derive(Debug)]
pub(crate) struct Line {
    /// From 1.
    pub(crate) number: u64,
    /// What cannot be read is no text.
    text: Result<String, LineError>,
}

/// Why a line is no event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LineError {
    #[error(transparent)]
    NotUtf8(#[from] FromUtf8Error),
    #[error("it is longer than {} MiB", LONGEST >> 20)]
    TooLong,
    #[error(transparent)]
    NoEvent(#[from] RecordError),
}

impl Line {
    /// What stands there.
    pub(crate) fn text(&self) -> Result<&str, LineError> {
        self.text.as_deref().map_err(Clone::clone)
    }

    /// The event that it is, and its text.
    pub(crate) fn record(&self) -> Result<(Record, &str), LineError> {
        let text = self.text()?;
        Ok((Record::from_json_line(text)?, text))
    }
}

/// The lines of a text up to its end or the first error.
pub(crate) fn numbered(mut input: impl BufRead) -> impl Iterator<Item = io::Result<Line>> {
    let mut next = move || -> io::Result<Option<Result<String, LineError>>> {
        let mut bytes = Vec::new();
        if input.by_ref().take(LONGEST + 1).read_until(b'\n', &mut bytes)? == 0 {
            return Ok(None);
        }
        if bytes.len() as u64 > LONGEST {
            if bytes.last() != Some(&b'\n') {
                input.skip_until(b'\n')?;
            }
            return Ok(Some(Err(LineError::TooLong)));
        }
        Ok(Some(String::from_utf8(bytes).map_err(LineError::NotUtf8)))
    };
    let mut is_over = false;
    let read = std::iter::from_fn(move || {
        if is_over {
            return None;
        }
        let line = next();
        is_over = line.is_err();
        line.transpose()
    });
    let lines = (1..).zip(read).map(|(number, text)| Ok(Line { number, text: text? }));
    lines.filter(|line| !matches!(line, Ok(Line { text: Ok(text), .. }) if text.trim().is_empty()))
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

fn send_lines(input: Box<dyn BufRead + Send>, sender: &Sender<io::Result<Line>>) {
    for line in numbered(input) {
        if sender.blocking_send(line).is_err() {
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Vec<(u64, Result<String, String>)> {
        let lines = numbered(text).map(Result::unwrap);
        let shown = |line: Line| {
            let text = line.text().map(str::to_owned);
            (line.number, text.map_err(|error| error.to_string()))
        };
        lines.map(shown).collect()
    }

    #[test]
    fn empty_lines_are_counted_and_left_out() {
        let of = |number, text: &str| (number, Ok(text.to_owned()));
        assert_eq!(read(b"a\n\n \t\nb\r\nc"), [of(1, "a\n"), of(4, "b\r\n"), of(5, "c")]);
        assert_eq!(read(b""), []);
    }

    #[test]
    fn what_is_no_text_is_said_and_the_next_line_is_read() {
        let longest = usize::try_from(LONGEST).unwrap();
        let mut text = b"a\xff\n".to_vec();
        text.extend(vec![b'x'; longest + 1]);
        text.extend(b"\n");
        text.extend(vec![b'x'; longest - 1]);
        text.extend(b"\n");
        text.extend(vec![b'x'; 2 * longest]);
        text.extend(b"\nb");
        let lines = read(&text);
        let said: Vec<_> = lines
            .iter()
            .map(|(number, text)| (*number, text.as_ref().err()))
            .collect();
        let [utf8, long] = [
            "invalid utf-8 sequence of 1 bytes from index 1",
            "it is longer than 8 MiB",
        ]
        .map(str::to_owned);
        assert_eq!(
            said,
            [
                (1, Some(&utf8)),
                (2, Some(&long)),
                (3, None),
                (4, Some(&long)),
                (5, None)
            ]
        );
        assert_eq!(lines[4].1.as_deref(), Ok("b"));
    }

    #[test]
    fn an_error_ends_it() {
        struct Broken;
        impl io::Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        let read: Vec<_> = numbered(BufReader::new(io::Read::chain(&b"a\n"[..], Broken))).collect();
        assert_eq!((read.len(), read[0].is_ok(), read[1].is_err()), (2, true, true));
    }
}
