//! The line of a definition that the server declined.
//!
//! The server's words name a place in one of two ways:
//!
//! ```text
//! mapping values are not allowed here\n  in "<unicode string>", line 3, column 5     PyYAML
//! expected str for dictionary value @ data['actions'][0]['deploy']['to']             voluptuous
//! Job invalid: unknown action type @ ['actions[0]', 'deploy']                        LAVA's own
//! ```

use crate::yaml::{Document, Item};

/// Where in a definition. Lines and columns count from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: Option<usize>,
    /// The deepest key of the server's path that the definition has.
    pub key: Option<String>,
}

/// Finds the place in a definition that a refusal speaks of. A path is followed as far as the definition goes: a key
/// that is missing brings the one above it. None: the refusal names no place, or the definition has nothing of its path.
///
/// ```
/// let definition = "job_name: x\nactions:\n- deploy:\n    to: [tmpfs]\n";
/// let message = "expected str for dictionary value @ data['actions'][0]['deploy']['to']";
/// let place = lavabus_lava::locate(definition, message).expect("the path is there");
/// assert_eq!((place.line, place.key.as_deref()), (4, Some("to")));
/// ```
pub fn locate(definition: &str, message: &str) -> Option<Place> {
    match path(message) {
        Some(path) => follow(definition, &path),
        None => mark(message),
    }
}

/// The last `line N, column M`: PyYAML tells first where it began to read and last where it failed.
fn mark(message: &str) -> Option<Place> {
    let mut found = None;
    let mut rest = message;
    while let Some((_, after)) = rest.split_once("line ") {
        rest = after;
        let Some((line, after)) = number(after) else { continue };
        let column = after
            .strip_prefix(", column ")
            .and_then(number)
            .map(|(column, _)| column);
        if line > 0 {
            found = Some(Place {
                line,
                column,
                key: None,
            });
        }
    }
    found
}

fn number(text: &str) -> Option<(usize, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

/// The path behind the last ` @ `: keys as Python writes text, indices as numbers.
fn path(message: &str) -> Option<Vec<Step>> {
    let (_, after) = message.rsplit_once(" @ ")?;
    let after = after.strip_prefix("data").unwrap_or(after);
    let mut rest = after.strip_prefix('[')?;
    let mut steps = Vec::new();
    loop {
        rest = rest.trim_start_matches(['[', ',', ' ']);
        let first = rest.chars().next()?;
        if first == '\'' || first == '"' {
            let (key, after) = quoted(&rest[1..], first)?;
            // LAVA writes some indices into the key: 'actions[0]'.
            match key.strip_suffix(']').and_then(|key| key.rsplit_once('[')) {
                Some((name, index)) if index.parse::<usize>().is_ok() => {
                    steps.push(Step::Key(name.to_owned()));
                    steps.push(Step::Index(index.parse().ok()?));
                }
                _ => steps.push(Step::Key(key)),
            }
            rest = after;
        } else if let Some((index, after)) = number(rest) {
            steps.push(Step::Index(index));
            rest = after;
        } else {
            break;
        }
        if !rest.starts_with([']', ',']) {
            break;
        }
        rest = rest.strip_prefix(']').unwrap_or(rest);
        if !rest.starts_with(['[', ',']) {
            break;
        }
    }
    (!steps.is_empty()).then_some(steps)
}

fn quoted(text: &str, quote: char) -> Option<(String, &str)> {
    let mut key = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => match chars.next()?.1 {
                'n' => key.push('\n'),
                't' => key.push('\t'),
                'r' => key.push('\r'),
                other => key.push(other),
            },
            c if c == quote => return Some((key, &text[at + c.len_utf8()..])),
            c => key.push(c),
        }
    }
    None
}

fn follow(definition: &str, path: &[Step]) -> Option<Place> {
    let document = Document::read(definition).ok()??;
    let mut here = document.root();
    let mut deepest: Option<(Item<'_>, Option<&str>)> = None;
    for step in path {
        match step {
            Step::Key(name) => {
                let Some((key, value)) = here.member(name) else { break };
                deepest = Some((key, Some(name)));
                here = value;
            }
            Step::Index(index) => {
                // A number may be a key too.
                let item = here.items().nth(*index);
                let Some(item) = item.or_else(|| Some(here.member(&index.to_string())?.1)) else {
                    break;
                };
                deepest = Some((item, deepest.and_then(|(_, key)| key)));
                here = item;
            }
        }
    }
    let (item, key) = deepest?;
    Some(Place {
        line: item.line(),
        column: Some(item.column()),
        key: key.map(str::to_owned),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DEFINITION: &str = "\
job_name: x
device_type: qemu
timeouts:
  job: {minutes: 5}
actions:
- deploy:
    timeout:
      minutes: 1
    to: [tmpfs]
- boot:
    it's: 1
";

    fn at(message: &str) -> Option<(usize, usize, Option<String>)> {
        locate(DEFINITION, message).map(|place| (place.line, place.column.unwrap_or(0), place.key))
    }

    fn key(name: &str) -> Option<String> {
        Some(name.to_owned())
    }

    #[test]
    fn a_path_is_followed_as_far_as_it_goes() {
        let to =
            "Problem with submitted job data: expected str for dictionary value @ data['actions'][0]['deploy']['to']";
        assert_eq!(at(to), Some((9, 5, key("to"))));
        let missing = "required key not provided @ data['timeouts']['connection']";
        assert_eq!(at(missing), Some((3, 1, key("timeouts"))));
        assert_eq!(
            at("extra keys not allowed @ data['actions'][1]['boot'][\"it's\"]"),
            Some((11, 5, key("it's")))
        );
        assert_eq!(at("invalid @ data['actions'][1]"), Some((10, 3, key("actions"))));
        assert_eq!(
            at("invalid action @ data['actions[1]']['boot']"),
            Some((10, 3, key("boot")))
        );
        assert_eq!(
            at("Job invalid: bad @ ['actions', 0, 'deploy', 'timeout']"),
            Some((7, 5, key("timeout")))
        );
        assert_eq!(at("expected a dictionary @ data['nothing']"), None);
        assert_eq!(at("Devices unavailable: none"), None);
    }

    #[test]
    fn the_last_mark_of_the_parser_counts() {
        let message = "job submission failed: while parsing a block mapping\n  in \"<unicode string>\", line 1, column 1:\nexpected <block end>\n  in \"<unicode string>\", line 3, column 5:\n    x\n    ^.";
        let place = locate(DEFINITION, message).unwrap();
        assert_eq!((place.line, place.column, place.key), (3, Some(5), None));
        assert_eq!(locate("", "line x, line 0, column 2"), None);
    }

    proptest! {
        #[test]
        fn no_text_panics(definition in "\\PC{0,40}|[\\[\\]{}:, a\n-]{0,40}", message in "\\PC{0,40}|( @ data)?[\\[\\]'\"0-9a\\\\ ,]{0,40}|line [0-9]{0,30}, column [0-9]{0,30}") {
            let _ = locate(&definition, &message);
            let _ = locate(DEFINITION, &message);
        }

        #[test]
        fn every_key_of_a_definition_is_found(names in proptest::collection::vec("[a-z]{1,6}", 1..8)) {
            let mut definition = String::new();
            let mut path = String::new();
            for (depth, name) in names.iter().enumerate() {
                definition.push_str(&format!("{}{name}:\n", "  ".repeat(depth)));
                path.push_str(&format!("['{name}']"));
            }
            let place = locate(&definition, &format!("bad @ data{path}")).unwrap();
            prop_assert_eq!((place.line, place.column), (names.len(), Some(names.len() * 2 - 1)));
        }
    }
}
