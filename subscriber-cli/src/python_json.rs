//! JSON as LAVA writes it: Python's separators, ASCII only.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter, Serializer};

/// `{"key": value, …}` with all characters beyond ASCII escaped, as Python's `json.dumps` does.
pub(crate) fn to_text(data: &impl Serialize) -> String {
    let mut bytes = Vec::with_capacity(384);
    let mut serializer = Serializer::with_formatter(&mut bytes, LikePython);
    data.serialize(&mut serializer)
        .expect("texts, numbers, bools, lists and maps of them are always representable as JSON");
    String::from_utf8(bytes).expect("it is ASCII")
}

struct LikePython;

impl Formatter for LikePython {
    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }

    /// The parts of a text that need no escape in plain JSON.
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        // 0x7f is ASCII, and Python leaves it as it is.
        if fragment.is_ascii() {
            return writer.write_all(fragment.as_bytes());
        }
        for unit in fragment.encode_utf16() {
            match u8::try_from(unit) {
                Ok(byte) if byte.is_ascii() => writer.write_all(&[byte])?,
                _ => write!(writer, "\\u{unit:04x}")?,
            }
        }
        Ok(())
    }

    fn write_char_escape<W: ?Sized + Write>(&mut self, writer: &mut W, escape: CharEscape) -> io::Result<()> {
        serde_json::ser::CompactFormatter.write_char_escape(writer, escape)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn as_python_writes_it() {
        let text = "smoke – é \"quoted\" <b> 😀\n\u{7f}";
        assert_eq!(
            to_text(&json!({"job": [7, 8], "message": text})),
            // json.dumps(…) of Python 3.
            "{\"job\": [7, 8], \"message\": \"smoke \\u2013 \\u00e9 \\\"quoted\\\" <b> \\ud83d\\ude00\\n\u{7f}\"}"
        );
    }
}
