//! A line of a job's log, as `lava_common/log.py` writes it: a YAML list item with a flow map, all text in double quotes.

use std::fmt::Write as _;

use jiff::Timestamp;

use crate::time;

/// One line, with its end.
pub(crate) fn written(at: Timestamp, level: &str, message: &str) -> String {
    let (at, level, message) = (quoted(&time::iso(at)), quoted(level), quoted(message));
    format!("- {{\"dt\": {at}, \"lvl\": {level}, \"msg\": {message}}}\n")
}

/// YAML 1.1 double-quoted style, §5.7: not the escapes of JSON.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\0' => out.push_str("\\0"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            '\u{1b}' => out.push_str("\\e"),
            '\u{85}' => out.push_str("\\N"),
            '\u{a0}' => out.push_str("\\_"),
            '\u{2028}' => out.push_str("\\L"),
            '\u{2029}' => out.push_str("\\P"),
            ' '..='~' => out.push(character),
            _ => {
                let code = u32::from(character);
                let written = match code {
                    0..=0xff => write!(out, "\\x{code:02X}"),
                    0x100..=0xffff => write!(out, "\\u{code:04X}"),
                    _ => write!(out, "\\U{code:08X}"),
                };
                written.expect("a string takes all");
            }
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_line_is_one_line_of_yaml() {
        let message = "\u{1b}[1m\"caf\u{e9}\" \u{2713} \u{1f600}\tC:\\ \u{1}\nnext";
        let line = written("2026-11-21T05:01:05Z".parse().unwrap(), "info", message);
        assert_eq!(line.matches('\n').count(), 1);
        assert!(
            line.starts_with("- {\"dt\": \"2026-11-21T05:01:05+00:00\", \"lvl\": \"info\", \"msg\": "),
            "{line}"
        );
        let back: Vec<serde_json::Value> = serde_saphyr::from_str(&line).unwrap();
        assert_eq!(back[0]["msg"], message);
    }
}
