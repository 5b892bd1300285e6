//! Bytes of strangers as text that does nothing to a terminal.

use std::fmt::Write as _;

/// At most `most` characters of `bytes`, and whether that is all of them.
///
/// What is neither a letter, a sign nor a blank is written as Rust writes it: `\n`, `\u{1b}`, bytes that are no UTF-8
/// as `\xff`, and a backslash as `\\`, so that nothing can pretend to be something else.
pub(super) fn printable(bytes: &[u8], most: usize) -> (String, bool) {
    let mut text = String::new();
    let mut left = most;
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if left == 0 {
                return (text, false);
            }
            left -= 1;
            match character {
                '"' | '\'' => text.push(character),
                _ => text.extend(character.escape_debug()),
            }
        }
        for byte in chunk.invalid() {
            if left == 0 {
                return (text, false);
            }
            left -= 1;
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    (text, true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn examples() {
        let text = |bytes: &[u8]| printable(bytes, 20).0;
        assert_eq!(text(br#"{"a": 'b'}"#), r#"{"a": 'b'}"#);
        assert_eq!(text("\u{1b}[2J\u{7}".as_bytes()), r"\u{1b}[2J\u{7}");
        assert_eq!(text("é\u{202e}✓".as_bytes()), r"é\u{202e}✓");
        assert_eq!(text(b"\xff\\\r\n"), r"\xff\\\r\n");
        assert_eq!(printable(b"abc", 3), ("abc".to_owned(), true));
        assert_eq!(printable(b"abc", 2), ("ab".to_owned(), false));
        assert_eq!(printable(b"a\xff", 1), ("a".to_owned(), false));
    }

    proptest! {
        #[test]
        fn nothing_reaches_the_terminal_but_what_can_be_seen(bytes: Vec<u8>, most in 0..50_usize) {
            let (text, _) = printable(&bytes, most);
            prop_assert!(!text.chars().any(char::is_control));
            let hidden = |c: char| matches!(u32::from(c), 0x200b..=0x200f | 0x202a..=0x202e | 0x2066..=0x2069);
            prop_assert!(!text.chars().any(hidden));
        }

        #[test]
        fn two_messages_that_differ_look_different(one: Vec<u8>, other: Vec<u8>) {
            let look = |bytes: &[u8]| printable(bytes, usize::MAX).0;
            prop_assert_eq!(look(&one) == look(&other), one == other);
        }
    }
}
