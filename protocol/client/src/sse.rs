//! Server-sent events, as they are read (WHATWG HTML, "Interpreting an event stream"). Pure: bytes in, messages out.

use std::collections::VecDeque;

/// A line, and the data of a message, hold no more bytes: an event has 1 MiB at most.
const MOST: usize = 4 << 20;
const MARK: &[u8] = "\u{feff}".as_bytes();

/// One message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    /// Empty where it was not said.
    pub(crate) event: String,
    pub(crate) data: String,
    /// As this message said it, if it did.
    pub(crate) id: Option<String>,
    /// It was larger than is taken: its data is cut.
    pub(crate) is_cut: bool,
}

/// What was not told yet.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    /// The bytes of a line whose end has not come.
    line: Vec<u8>,
    /// The line is longer than what is kept of it.
    is_line_cut: bool,
    /// The last line ended with CR: an LF that follows belongs to it.
    after_cr: bool,
    /// The first line may begin with a byte order mark.
    is_begun: bool,
    message: Message,
    has_data: bool,
}

impl Parser {
    /// Takes what came, and gives the messages that are complete.
    pub(crate) fn push(&mut self, mut bytes: &[u8], out: &mut VecDeque<Message>) {
        if std::mem::take(&mut self.after_cr) && !bytes.is_empty() {
            bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
        }
        while let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            self.extend(&bytes[..end]);
            self.end_line(out);
            let is_cr = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            if is_cr {
                self.after_cr = bytes.is_empty();
                bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
            }
        }
        self.extend(bytes);
    }

    fn extend(&mut self, bytes: &[u8]) {
        let room = MOST - self.line.len();
        self.is_line_cut |= bytes.len() > room;
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn end_line(&mut self, out: &mut VecDeque<Message>) {
        let line = std::mem::take(&mut self.line);
        let is_cut = std::mem::take(&mut self.is_line_cut);
        let mut line = line.as_slice();
        if !std::mem::replace(&mut self.is_begun, true) {
            line = line.strip_prefix(MARK).unwrap_or(line);
        }
        if line.is_empty() {
            let message = std::mem::take(&mut self.message);
            // Without data there is no message, whatever else was said.
            if std::mem::take(&mut self.has_data) {
                out.push_back(message);
            }
            return;
        }
        let (name, value) = match line.iter().position(|byte| *byte == b':') {
            // A comment.
            Some(0) => return,
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &line[line.len()..]),
        };
        let value = String::from_utf8_lossy(value.strip_prefix(b" ").unwrap_or(value));
        let message = &mut self.message;
        match name {
            b"data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    message.data.push('\n');
                }
                let has_room = message.data.len() + value.len() <= MOST;
                message.is_cut |= is_cut || !has_room;
                if has_room {
                    message.data.push_str(&value);
                }
            }
            b"event" => message.event = value.into_owned(),
            b"id" if !value.contains('\0') => message.id = Some(value.into_owned()),
            // `retry`, and what this version does not know.
            _ => {}
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(chunks: &[&[u8]]) -> Vec<Message> {
        let (mut parser, mut out) = (Parser::default(), VecDeque::new());
        for chunk in chunks {
            parser.push(chunk, &mut out);
        }
        out.into()
    }

    fn message(event: &str, data: &str, id: Option<&str>) -> Message {
        Message {
            event: event.to_owned(),
            data: data.to_owned(),
            id: id.map(str::to_owned),
            is_cut: false,
        }
    }

    #[test]
    fn a_message_ends_with_an_empty_line() {
        let text = b":\n\nid: 5f0e11d2/7\nevent: testjob\ndata: {\"a\":1}\n\n: still there\n\ndata: half";
        assert_eq!(read(&[text]), [message("testjob", "{\"a\":1}", Some("5f0e11d2/7"))]);
    }

    #[test]
    fn fields_are_read_as_the_standard_says() {
        let text =
            "\u{feff}data\ndata:x\ndata:  y\nother: z\nretry: 5\n\nevent: lost\n\ndata:\n\nid: a\0b\ndata: 1\n\n";
        assert_eq!(
            read(&[text.as_bytes()]),
            [
                message("", "\nx\n y", None),
                message("", "", None),
                message("", "1", None)
            ]
        );
    }

    #[test]
    fn what_is_too_large_is_cut_and_the_next_one_is_whole() {
        let mut text = b"id: 7\ndata: ".to_vec();
        text.resize(text.len() + MOST + 1, b'x');
        text.extend_from_slice(b"\n\ndata: ");
        text.resize(text.len() + MOST - 6, b'y');
        text.extend_from_slice(b"\ndata: zzzzzzzzzz\n\ndata: 2\n\n");
        let messages = read(&[&text]);
        let seen: Vec<_> = messages.iter().map(|read| (read.id.as_deref(), read.is_cut)).collect();
        assert_eq!(seen, [(Some("7"), true), (None, true), (None, false)]);
        assert!(messages.iter().all(|read| read.data.len() <= MOST + 1));
        assert_eq!(messages[2].data, "2");
    }

    proptest! {
        #[test]
        fn lines_may_be_split_anywhere_and_end_in_any_way(
            messages in proptest::collection::vec(("[a-z]{0,5}", "[a-z :{}\"ä]{0,12}(\n[a-z :]{0,5}){0,3}", proptest::option::of("[0-9a-f/]{1,9}")), 0..6),
            ends in proptest::collection::vec(0_usize..3, 40),
            cuts in proptest::collection::vec(1_usize..9, 1..60),
        ) {
            let mut ends = ends.iter().cycle().map(|end| ["\n", "\r", "\r\n"][*end]);
            let mut end = || ends.next().unwrap();
            let mut text = String::new();
            for (event, data, id) in &messages {
                text += &format!(":{event}{}", end());
                if let Some(id) = id {
                    text += &format!("id: {id}{}", end());
                }
                text += &format!("event: {event}{}unknown: 1{}", end(), end());
                for line in data.split('\n') {
                    text += &format!("data: {line}{}", end());
                }
                // CR LF would end one line, not two.
                text += if text.ends_with('\r') { "\r" } else { "\n" };
            }
            let mut rest = text.as_bytes();
            let mut chunks = Vec::new();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (chunk, after) = rest.split_at((*cut).min(rest.len()));
                chunks.push(chunk);
                rest = after;
            }
            let expected: Vec<Message> = messages.iter().map(|(event, data, id)| message(event, data, id.as_deref())).collect();
            prop_assert_eq!(read(&chunks), expected);
        }

        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0_usize..200) {
            let (first, second) = bytes.split_at(at.min(bytes.len()));
            prop_assert_eq!(read(&[first, second]), read(&[&bytes]));
        }
    }
}
