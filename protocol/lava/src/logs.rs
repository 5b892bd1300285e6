//! A job's log.
//!
//! ```text
//! - {"dt": "2026-11-21T05:01:05.123456", "lvl": "info", "msg": "start: 1 deploy"}\n      one line of the log, as files hold it
//! ```
//!
//! Servers that keep logs in a database send one YAML list in block form instead.

use crate::answer::LogLine;
use crate::yaml::{Document, Item};

/// The complete lines of a log. A last one without line end is still being written: it is left out. A line that is not
/// LAVA's is kept as its own message, so that lines can be counted.
pub(crate) fn read(text: &str) -> Vec<LogLine> {
    if !text.starts_with("- {")
        && let Ok(Some(document)) = Document::read(text)
        && let Some(lines) = document.root().items().map(entry).collect::<Option<Vec<LogLine>>>()
        && !lines.is_empty()
    {
        return lines;
    }
    let complete = text.rfind('\n').map_or("", |end| &text[..end]);
    if complete.is_empty() {
        return Vec::new();
    }
    complete.split('\n').map(line).collect()
}

fn line(text: &str) -> LogLine {
    let document = Document::read(text).ok().flatten();
    let read = document
        .as_ref()
        .and_then(|document| entry(document.root().items().next()?));
    read.unwrap_or_else(|| LogLine {
        at: String::new(),
        level: String::new(),
        message: text.to_owned(),
    })
}

fn entry(item: Item<'_>) -> Option<LogLine> {
    let text = |name: &str| item.get(name).and_then(Item::text).map(str::to_owned);
    Some(LogLine {
        at: text("dt")?,
        level: text("lvl")?,
        message: item.get("msg").map(Item::readable).unwrap_or_default(),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts(text: &str) -> Vec<(String, String, String)> {
        read(text)
            .into_iter()
            .map(|line| (line.at, line.level, line.message))
            .collect()
    }

    fn is(at: &str, level: &str, message: &str) -> (String, String, String) {
        (at.to_owned(), level.to_owned(), message.to_owned())
    }

    #[test]
    fn text_list_and_map() {
        let text = concat!(
            "- {\"dt\": \"2026-11-21T05:01:05.123456\", \"lvl\": \"info\", \"msg\": \"a: \\\"b\\\"\\tc\"}\n",
            "- {\"dt\": \"d\", \"lvl\": \"debug\", \"msg\": [\"one\", \"two\"]}\n",
            "- {\"dt\": \"d\", \"lvl\": \"results\", \"msg\": {\"case\": \"job\", \"extra\": !!bool \"true\", \"n\": !!int \"5\"}}\n",
            "- {\"dt\": \"d\", \"lvl\": \"debug\", \"msg\": !!null \"null\"}\n",
        );
        assert_eq!(
            texts(text),
            [
                is("2026-11-21T05:01:05.123456", "info", "a: \"b\"\tc"),
                is("d", "debug", "one\ntwo"),
                is("d", "results", "case: job, extra: true, n: 5"),
                is("d", "debug", "null"),
            ]
        );
    }

    #[test]
    fn an_unfinished_line_waits_and_a_broken_one_counts() {
        let good = "- {\"dt\": \"d\", \"lvl\": \"info\", \"msg\": \"x\"}\n";
        assert_eq!(read(&good[..good.len() - 1]), []);
        assert_eq!(
            texts(&format!("{good}broken\n- {{\"dt\"")),
            [is("d", "info", "x"), is("", "", "broken")]
        );
        assert_eq!(read(""), []);
    }

    #[test]
    fn a_block_list_as_databases_keep_it() {
        let text = "- dt: '2026'\n  lvl: info\n  msg: hello\n- dt: '2027'\n  lvl: results\n  msg:\n    case: job\n    result: pass\n";
        assert_eq!(
            texts(text),
            [
                is("2026", "info", "hello"),
                is("2027", "results", "case: job, result: pass")
            ]
        );
    }

    proptest! {
        #[test]
        fn as_many_lines_as_line_ends(lines in proptest::collection::vec("[^\n]{0,30}", 0..5), rest in "[^\n]{0,10}") {
            let mut text = String::from("- {\n");
            for line in &lines {
                text.push_str(line);
                text.push('\n');
            }
            text.push_str(&rest);
            prop_assert_eq!(read(&text).len(), lines.len() + 1);
        }
    }
}
