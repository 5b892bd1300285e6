//! Signals of LAVA's test shell in a console's bytes, found as LAVA's dispatcher finds them:
//! `<LAVA_SIGNAL_(\S+) ([^>]+)>`, white space collapsed. So a message ends at its first `>`, goes on over the end of a
//! line, and is not sent if nothing is left of it.

/// A signal's parameters are no longer, in bytes. LAVA knows no limit.
pub(super) const MAX_SIGNAL: usize = 16 * 1024;
/// Longer than the name of any signal that is of interest here.
const MAX_NAME: usize = 16;
const BEGIN: &[u8] = b"<LAVA_SIGNAL_";

/// One signal that becomes an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// `TESTEVENT`: the message, never empty.
    TestEvent(String),
    /// `TESTCASE`: its `KEY=VALUE`s.
    TestCase(Vec<(String, String)>),
}

/// Finds signals, however the bytes are cut into pieces. It holds [`MAX_SIGNAL`] bytes at most.
#[derive(Debug, Default)]
pub(super) struct Signals {
    place: Place,
    name: Vec<u8>,
    parameters: Vec<u8>,
    too_long: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// So many bytes of [`BEGIN`] have come.
    Begin(usize),
    Name,
    Parameters,
}

impl Default for Place {
    fn default() -> Place {
        Place::Begin(0)
    }
}

impl Signals {
    /// The signals that end in these bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<Signal> {
        let mut found = Vec::new();
        for byte in bytes {
            found.extend(self.step(*byte));
        }
        found
    }

    /// How many were given up because of their length.
    pub(super) fn too_long(&self) -> u64 {
        self.too_long
    }

    fn step(&mut self, byte: u8) -> Option<Signal> {
        match self.place {
            Place::Begin(come) => {
                self.place = match byte {
                    _ if byte == BEGIN[come] && come + 1 == BEGIN.len() => Place::Name,
                    _ if byte == BEGIN[come] => Place::Begin(come + 1),
                    // It stands at the beginning only.
                    b'<' => Place::Begin(1),
                    _ => Place::Begin(0),
                };
                if self.place == Place::Name {
                    self.name.clear();
                    self.parameters.clear();
                }
            }
            Place::Name if byte == b' ' && !self.name.is_empty() => self.place = Place::Parameters,
            // Whatever began inside of the name ends here too.
            Place::Name if byte.is_ascii_whitespace() || byte == b'\x0b' => self.place = Place::Begin(0),
            Place::Name => {
                if self.name.len() < MAX_NAME {
                    self.name.push(byte);
                }
            }
            Place::Parameters if byte == b'>' => {
                self.place = Place::Begin(0);
                return self.signal();
            }
            Place::Parameters if self.parameters.len() == MAX_SIGNAL => self.give_up(byte),
            Place::Parameters => self.parameters.push(byte),
        }
        None
    }

    fn signal(&self) -> Option<Signal> {
        let text = String::from_utf8_lossy(&self.parameters);
        // Python's white space: beside what Unicode calls so, the four separators.
        let is_white = |character: char| character.is_whitespace() || matches!(character, '\x1c'..='\x1f');
        let words = text.split(is_white).filter(|word| !word.is_empty());
        match self.name.as_slice() {
            b"TESTEVENT" => {
                let message = words.collect::<Vec<_>>().join(" ");
                (!message.is_empty()).then_some(Signal::TestEvent(message))
            }
            b"TESTCASE" => {
                let parameters = words.filter_map(|word| word.split_once('='));
                let parameters = parameters.map(|(key, value)| (key.to_owned(), value.to_owned()));
                Some(Signal::TestCase(parameters.collect()))
            }
            _ => None,
        }
    }

    /// The signal has no end that could be waited for. Another one may have begun inside of it.
    fn give_up(&mut self, byte: u8) {
        if matches!(self.name.as_slice(), b"TESTEVENT" | b"TESTCASE") {
            self.too_long += 1;
        }
        let held = std::mem::take(&mut self.parameters);
        let last = held.windows(BEGIN.len()).rposition(|window| window == BEGIN);
        // Where none began as a whole, the end may still be the first half of one.
        let from = last.unwrap_or(held.len() - BEGIN.len());
        self.place = Place::Begin(0);
        for byte in held[from..].iter().chain([&byte]) {
            // It is shorter than what was given up, and has no `>`: so nothing ends here.
            self.step(*byte);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use regex::bytes::Regex;

    fn events(bytes: &[u8]) -> Vec<String> {
        let signals = Signals::default().push(bytes);
        let message = |signal| match signal {
            Signal::TestEvent(message) => message,
            Signal::TestCase(parameters) => format!("{parameters:?}"),
        };
        signals.into_iter().map(message).collect()
    }

    #[test]
    fn messages_arrive_as_lava_sends_them() {
        for (console, expected) in [
            ("<LAVA_SIGNAL_TESTEVENT flashed ok>\r\n", vec!["flashed ok"]),
            ("# <LAVA_SIGNAL_TESTEVENT a><LAVA_SIGNAL_TESTEVENT b>\n", vec!["a", "b"]),
            ("<LAVA_SIGNAL_TESTEVENT rate > 10>", vec!["rate"]),
            ("<LAVA_SIGNAL_TESTEVENT  a \t b\r\n c >", vec!["a b c"]),
            ("<LAVA_SIGNAL_TESTEVENT >", vec![]),
            ("<LAVA_SIGNAL_TESTEVENT    >", vec![]),
            ("<LAVA_SIGNAL_TESTEVENT\tx>", vec![]),
            ("<LAVA_SIGNAL_ x>", vec![]),
            ("<LAVA_SIGNAL_STARTRUN 0_x 1>", vec![]),
            ("<LAVA_SIGNAL_TESTEVENTS x>", vec![]),
            ("<LAVA_<LAVA_SIGNAL_TESTEVENT x>", vec!["x"]),
            ("<<LAVA_SIGNAL_TESTEVENT x>", vec!["x"]),
            ("<LAVA_SIGNAL_X <LAVA_SIGNAL_TESTEVENT x>", vec![]),
            ("<LAVA_SIGNAL_A>B <LAVA_SIGNAL_TESTEVENT x>", vec![]),
        ] {
            assert_eq!(events(console.as_bytes()), expected, "{console}");
        }
        assert_eq!(events(b"\xff<LAVA_SIGNAL_TESTEVENT a\xff\x1cb>\xfe"), ["a\u{fffd} b"]);
    }

    #[test]
    fn test_cases_are_taken_apart() {
        let found = Signals::default().push(b"<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=a=b RESULT=pass odd MEASUREMENT=1.5>");
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let expected = vec![
            pair("TEST_CASE_ID", "a=b"),
            pair("RESULT", "pass"),
            pair("MEASUREMENT", "1.5"),
        ];
        assert_eq!(found, [Signal::TestCase(expected)]);
    }

    #[test]
    fn what_never_ends_is_given_up_and_holds_little() {
        let mut signals = Signals::default();
        let long = [b"<LAVA_SIGNAL_TESTEVENT ".as_slice(), &[b'x'; 10 * MAX_SIGNAL]].concat();
        assert_eq!(signals.push(&long), []);
        assert_eq!(signals.too_long(), 1);
        assert!(signals.parameters.capacity() <= 2 * MAX_SIGNAL && signals.name.capacity() <= 2 * MAX_NAME);
        // The longest one, and one that began in what was given up.
        let longest = [b"<LAVA_SIGNAL_TESTEVENT ".as_slice(), &[b'x'; MAX_SIGNAL], b">"].concat();
        assert_eq!(signals.push(&longest).len(), 1);
        for part in ["<LAVA_SIGNAL_TESTEVENT in", "<LAVA_SI"] {
            let filler = MAX_SIGNAL - part.len() + 1;
            let cut = [
                b"<LAVA_SIGNAL_TESTEVENT ".as_slice(),
                &vec![b'x'; filler],
                part.as_bytes(),
            ]
            .concat();
            let rest = &b"<LAVA_SIGNAL_TESTEVENT in>"[part.len()..];
            let mut signals = Signals::default();
            assert_eq!(signals.push(&cut), []);
            assert_eq!(signals.push(rest), [Signal::TestEvent("in".to_owned())], "{part}");
            assert_eq!(signals.too_long(), 1);
        }
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_as_the_dispatchers_rule(
            parts in proptest::collection::vec("<LAVA_SIGNAL_(TESTEVENT|X)? ?|[a-z<> \\r\\n\u{e9}]{0,9}|<|LAVA_SIGNAL_|>", 0..12),
            size in 1..9_usize,
        ) {
            let console = parts.concat();
            let mut signals = Signals::default();
            let found: Vec<Signal> = console.as_bytes().chunks(size).flat_map(|chunk| signals.push(chunk)).collect();
            let rule = Regex::new(r"<LAVA_SIGNAL_(\S+) ([^>]+)>").unwrap();
            let expected: Vec<Signal> = rule
                .captures_iter(console.as_bytes())
                .filter(|captures| captures[1] == *b"TESTEVENT")
                .map(|captures| String::from_utf8_lossy(&captures[2]).split_whitespace().collect::<Vec<_>>().join(" "))
                .filter(|message| !message.is_empty())
                .map(Signal::TestEvent)
                .collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Signals::default().push(&bytes);
        }
    }
}
