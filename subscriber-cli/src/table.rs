//! An answer as rows: an aligned table for people, JSON lines or CSV for programs.
//!
//! | value | plain | JSON | CSV |
//! |---|---|---|---|
//! | a time | `2026-11-21 05:01:05`, in UTC | RFC 3339 with microseconds | as JSON |
//! | a duration | `1h 2m`, with a minus if it is negative | seconds | as JSON |
//! | a share | `97 %` | 0.97 | as JSON |
//! | a streak | `fail 3` | `{"outcome": "fail", "count": 3}` | as plain |
//! | nothing | `-` | null | empty |

use comfy_table::{CellAlignment, ContentArrangement, Table as Aligned, presets};
use jiff::Timestamp;
use lavabus_store::question::history::Streak;
use serde_json::{Value, json};

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::format::Format;
use crate::format::plain::printable;
use crate::status::{Micros, print};

/// One value of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    /// A text, or nothing.
    Text(Option<String>),
    /// A count.
    Number(i64),
    /// A figure that need not be whole.
    Decimal(Option<f64>),
    /// Between 0 and 1; `None` where there is no data.
    Share(Option<f64>),
    /// In µs since 1970.
    Time(Option<i64>),
    /// In µs.
    Duration(Option<i64>),
    /// Yes or no; plain shows nothing for no.
    Flag(bool),
    /// The same outcome several times in a row: `fail 3`; as JSON an object.
    Streak(Option<Streak>),
}

/// Rows under the names of their columns: stable, lower case, words joined by `_`.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    columns: &'static [&'static str],
    rows: Vec<Vec<Cell>>,
    /// Plain leaves out those of them that have nothing in any row.
    optional: &'static [&'static str],
}

impl From<&str> for Cell {
    fn from(text: &str) -> Cell {
        Cell::Text(Some(text.to_owned()))
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Cell {
        Cell::Text(Some(text))
    }
}

impl From<Option<String>> for Cell {
    fn from(text: Option<String>) -> Cell {
        Cell::Text(text.filter(|text| !text.is_empty()))
    }
}

impl From<Option<&str>> for Cell {
    fn from(text: Option<&str>) -> Cell {
        Cell::from(text.map(str::to_owned))
    }
}

impl Table {
    pub(crate) fn new(columns: &'static [&'static str]) -> Table {
        Table {
            columns,
            rows: Vec::new(),
            optional: &[],
        }
    }

    /// For people, these columns are left out when they have nothing in any row.
    pub(crate) fn optional(mut self, columns: &'static [&'static str]) -> Table {
        self.optional = columns;
        self
    }

    /// Appends a row, with a cell for each column.
    pub(crate) fn push(&mut self, row: Vec<Cell>) {
        debug_assert_eq!(row.len(), self.columns.len(), "a cell for each of {:?}", self.columns);
        self.rows.push(row);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Writes the answer to standard output, as the command line asks.
    ///
    /// # Errors
    ///
    /// [`Exit::Usage`] for a format that is for events only.
    pub(crate) fn print(&self, context: &Context, command: &str) -> Result<(), Failure> {
        print(&self.to_text(context.format.as_ref(), context.color, command)?)
    }

    /// The text of [`print`](Table::print).
    pub(crate) fn to_text(&self, format: Option<&Format>, color: bool, command: &str) -> Result<String, Failure> {
        match format {
            None | Some(Format::Plain) => Ok(self.to_plain(color)),
            Some(Format::Json) => Ok(self.to_json_lines()),
            Some(Format::Csv) => Ok(self.to_csv()),
            Some(Format::Raw | Format::Template(_) | Format::Markdown) => Err(Failure::new(
                Exit::Usage,
                format!("`lavabus {command}` cannot be written like this"),
                "-o raw, template and markdown are for others",
                "-o plain, json or csv",
            )),
        }
    }

    /// Aligned, for people.
    pub(crate) fn to_plain(&self, color: bool) -> String {
        let is_shown = |index: &usize| {
            let is_optional = self.optional.contains(&self.columns[*index]);
            !is_optional || self.rows.iter().any(|row| !row[*index].is_nothing())
        };
        let shown: Vec<usize> = (0..self.columns.len()).filter(is_shown).collect();
        let mut aligned = Aligned::new();
        aligned.load_style(presets::NOTHING);
        aligned.set_content_arrangement(ContentArrangement::Disabled);
        aligned.set_header(shown.iter().map(|index| words(self.columns[*index]).to_uppercase()));
        for row in &self.rows {
            aligned.add_row(shown.iter().map(|index| row[*index].to_plain()));
        }
        for (column, index) in aligned.column_iter_mut().zip(shown) {
            column.set_padding((0, 2));
            let cells = self.rows.iter().filter_map(|row| row.get(index));
            if self.rows.is_empty() || !cells.clone().all(Cell::is_figure) {
                continue;
            }
            column.set_cell_alignment(CellAlignment::Right);
        }
        let mut text = String::new();
        for (index, line) in aligned.lines().enumerate() {
            let line = line.trim_end();
            match index {
                0 if color => text.push_str(&format!("\u{1b}[1m{line}\u{1b}[0m\n")),
                _ => {
                    text.push_str(line);
                    text.push('\n');
                }
            }
        }
        text
    }

    /// Each row as lines of its own, what it has under its name; for other formats the same as
    /// [`to_text`](Table::to_text).
    pub(crate) fn to_records(&self, format: Option<&Format>, color: bool, command: &str) -> Result<String, Failure> {
        if !matches!(format, None | Some(Format::Plain)) {
            return self.to_text(format, color, command);
        }
        let width = self.columns.iter().map(|column| column.len()).max().unwrap_or(0);
        let (bold, normal) = if color { ("\u{1b}[1m", "\u{1b}[0m") } else { ("", "") };
        let mut text = String::new();
        for (index, row) in self.rows.iter().enumerate() {
            if index > 0 {
                text.push('\n');
            }
            for (column, cell) in self.columns.iter().zip(row).filter(|(_, cell)| !cell.is_nothing()) {
                let name = words(column);
                text.push_str(&format!("{bold}{name:width$}{normal}  {}\n", cell.to_plain()));
            }
        }
        Ok(text)
    }

    fn to_json_lines(&self) -> String {
        let mut text = String::new();
        for row in &self.rows {
            // In the order of the columns, which a map would not keep.
            let members = self.columns.iter().zip(row);
            let members: Vec<String> = members
                .map(|(column, cell)| format!("{}:{}", json!(column), cell.to_json()))
                .collect();
            text.push_str(&format!("{{{}}}\n", members.join(",")));
        }
        text
    }

    /// A table in GitHub's markdown.
    pub(crate) fn to_markdown(&self) -> String {
        let row = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let mut text = row(self.columns.iter().map(|column| column.replace('_', " ")).collect());
        text += &row(vec!["---".to_owned(); self.columns.len()]);
        for cells in &self.rows {
            text += &row(cells.iter().map(|cell| markdown(&cell.to_plain())).collect());
        }
        text
    }

    /// With a header.
    pub(crate) fn to_csv(&self) -> String {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let mut write = |row: Vec<String>| {
            writer
                .write_record(row)
                .expect("a vector takes all, and all rows have the same length");
        };
        write(self.columns.iter().map(|column| (*column).to_owned()).collect());
        for row in &self.rows {
            write(row.iter().map(Cell::to_csv).collect());
        }
        let bytes = writer.into_inner().expect("a vector takes all");
        String::from_utf8(bytes).expect("made of texts")
    }
}

fn words(column: &str) -> String {
    column.replace('_', " ")
}

impl Cell {
    /// Whether there is nothing to show; that there is no data for a share is something.
    fn is_nothing(&self) -> bool {
        matches!(
            self,
            Cell::Text(None) | Cell::Time(None) | Cell::Duration(None) | Cell::Flag(false) | Cell::Streak(None)
        )
    }

    fn is_figure(&self) -> bool {
        matches!(
            self,
            Cell::Number(_) | Cell::Decimal(_) | Cell::Share(_) | Cell::Duration(_)
        )
    }

    fn to_plain(&self) -> String {
        let shown = match self {
            Cell::Text(text) => text.as_deref().map(printable),
            Cell::Number(number) => Some(number.to_string()),
            Cell::Decimal(number) => number.map(|number| format!("{number:.1}")),
            Cell::Share(share) => Some(share.map_or("n/a".to_owned(), |share| format!("{:.0} %", share * 100.0))),
            Cell::Time(time) => time.map(time_text),
            Cell::Duration(duration) => duration.map(duration_text),
            Cell::Flag(flag) => flag.then(|| "yes".to_owned()),
            Cell::Streak(streak) => streak.map(|streak| streak.to_string()),
        };
        shown.unwrap_or_else(|| "-".to_owned())
    }

    fn to_json(&self) -> Value {
        match self {
            Cell::Text(text) => json!(text),
            Cell::Number(number) => json!(number),
            Cell::Decimal(number) => json!(number),
            Cell::Share(share) => json!(share),
            Cell::Time(time) => json!(time.map(|time| Micros(time).to_string())),
            Cell::Duration(duration) => json!(duration.map(|duration| duration as f64 / 1e6)),
            Cell::Flag(flag) => json!(flag),
            Cell::Streak(streak) => streak_json(*streak),
        }
    }

    fn to_csv(&self) -> String {
        if let Cell::Streak(Some(streak)) = self {
            return streak.to_string();
        }
        match self.to_json() {
            Value::Null => String::new(),
            Value::String(text) => text,
            other => other.to_string(),
        }
    }
}

/// The text as markdown that shows nothing but this text.
pub(crate) fn markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if matches!(
            character,
            '\\' | '|' | '*' | '_' | '`' | '<' | '>' | '[' | ']' | '#' | '&' | '~' | '@'
        ) {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

/// A streak as an object, or null.
pub(crate) fn streak_json(streak: Option<Streak>) -> Value {
    json!(streak.map(|streak| json!({"outcome": streak.outcome.as_str(), "count": streak.count})))
}

/// `2026-11-21 05:01:05`, in UTC.
pub(crate) fn time_text(time_us: i64) -> String {
    match Timestamp::from_microsecond(time_us) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => format!("@{time_us}us"),
    }
}

/// The two largest units: `3d 4h`, `1h 2m`, `2m 5s`, `12.3s`, `45ms`.
pub(crate) fn duration_text(duration_us: i64) -> String {
    let sign = if duration_us < 0 { "-" } else { "" };
    let us = duration_us.unsigned_abs();
    let seconds = us / 1_000_000;
    let text = match seconds {
        0 => format!("{}ms", us / 1_000),
        1..60 => format!("{:.1}s", us as f64 / 1e6),
        60..3_600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3_600 % 24),
    };
    format!("{sign}{text}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["name", "last_seen", "elapsed", "count", "rate", "stale"]);
        table.push(vec![
            "qemu-01".into(),
            Cell::Time(Some(1_795_237_265_222_338)),
            Cell::Duration(Some(-3_723_000_000)),
            Cell::Number(7),
            Cell::Share(Some(0.5)),
            Cell::Flag(true),
        ]);
        table.push(vec![
            "a \u{1b}[31m, \"b\"".into(),
            Cell::Time(None),
            Cell::Duration(Some(45_000)),
            Cell::Number(12_345),
            Cell::Share(None),
            Cell::Flag(false),
        ]);
        table
    }

    #[test]
    fn an_answer_in_each_form() {
        let text = |format: Option<Format>| table().to_text(format.as_ref(), false, "show").unwrap();
        assert_eq!(
            text(None),
            concat!(
                "NAME               LAST SEEN            ELAPSED  COUNT  RATE  STALE\n",
                "qemu-01            2026-11-21 05:01:05   -1h 2m      7  50 %  yes\n",
                "a \\u{1b}[31m, \"b\"  -                       45ms  12345   n/a  -\n",
            )
        );
        assert_eq!(
            text(Some(Format::Json)).lines().next(),
            Some(
                r#"{"name":"qemu-01","last_seen":"2026-11-21T05:01:05.222338Z","elapsed":-3723.0,"count":7,"rate":0.5,"stale":true}"#
            )
        );
        assert_eq!(
            text(Some(Format::Csv)).lines().next_back(),
            Some("\"a \u{1b}[31m, \"\"b\"\"\",,0.045,12345,,false")
        );
        assert!(table().to_text(Some(&Format::Raw), false, "show").is_err());
    }

    #[test]
    fn durations() {
        for (us, text) in [
            (0, "0ms"),
            (999_999, "999ms"),
            (12_340_000, "12.3s"),
            (125_000_000, "2m 5s"),
            (3_720_000_000, "1h 2m"),
            (273_600_000_000, "3d 4h"),
            (-45_000, "-45ms"),
        ] {
            assert_eq!(duration_text(us), text);
        }
    }
}
