//! YAML with the place of every value: identities, log lines, definitions and metadata are read with it.
//!
//! Nodes stand in one list and name each other by number, so that neither reading nor dropping a deeply nested text
//! uses the stack.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, ScanError};

/// A document.
#[derive(Debug)]
pub(crate) struct Document {
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    line: usize,
    column: usize,
    value: Value,
}

#[derive(Debug)]
enum Value {
    Scalar { text: String, plain: bool },
    List(Vec<usize>),
    Map(Vec<(usize, usize)>),
}

/// One value of a document.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Item<'a> {
    document: &'a Document,
    index: usize,
}

/// Where a text stops being YAML. The text itself is not told, it may hold a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotYaml {
    /// From 1.
    pub(crate) line: usize,
    /// From 1.
    pub(crate) column: usize,
}

/// Merge keys (`<<`) are followed this deep.
const MERGES: usize = 8;
/// Lists and maps are written out this deep.
const WRITTEN: usize = 16;

impl Document {
    /// Reads the first document of a text. None: there is nothing in it.
    pub(crate) fn read(text: &str) -> Result<Option<Document>, NotYaml> {
        let mut nodes: Vec<Node> = Vec::new();
        let mut anchors: HashMap<usize, usize> = HashMap::new();
        // What is open: its node, and in a map the key that waits for its value.
        let mut open: Vec<(usize, Option<usize>)> = Vec::new();
        for event in Parser::new_from_str(text) {
            let (event, span) = event.map_err(|error| place(&error))?;
            let start = span.start;
            let (value, anchor) = match event {
                Event::Scalar(text, style, anchor, _tag) => {
                    let plain = style == ScalarStyle::Plain;
                    let text = text.into_owned();
                    (Some(Value::Scalar { text, plain }), anchor)
                }
                Event::SequenceStart(_, anchor, _) => (Some(Value::List(Vec::new())), anchor),
                Event::MappingStart(_, anchor, _) => (Some(Value::Map(Vec::new())), anchor),
                Event::Alias(anchor) => (None, anchor),
                Event::SequenceEnd | Event::MappingEnd => {
                    open.pop();
                    continue;
                }
                Event::DocumentEnd => break,
                _ => continue,
            };
            let index = match value {
                None => match anchors.get(&anchor) {
                    Some(index) => *index,
                    None => continue,
                },
                Some(value) => {
                    nodes.push(Node {
                        line: start.line(),
                        column: start.col() + 1,
                        value,
                    });
                    let index = nodes.len() - 1;
                    if anchor != 0 {
                        anchors.insert(anchor, index);
                    }
                    attach(&mut nodes, &mut open, index);
                    if !matches!(nodes[index].value, Value::Scalar { .. }) {
                        open.push((index, None));
                    }
                    continue;
                }
            };
            attach(&mut nodes, &mut open, index);
        }
        Ok((!nodes.is_empty()).then_some(Document { nodes }))
    }

    pub(crate) fn root(&self) -> Item<'_> {
        Item {
            document: self,
            index: 0,
        }
    }
}

/// Puts a node into what is open around it.
fn attach(nodes: &mut [Node], open: &mut [(usize, Option<usize>)], index: usize) {
    let Some((parent, waiting)) = open.last_mut() else {
        return;
    };
    match &mut nodes[*parent].value {
        Value::List(items) => items.push(index),
        Value::Map(members) => match waiting.take() {
            Some(key) => members.push((key, index)),
            None => *waiting = Some(index),
        },
        Value::Scalar { .. } => {}
    }
}

fn place(error: &ScanError) -> NotYaml {
    NotYaml {
        line: error.marker().line(),
        column: error.marker().col() + 1,
    }
}

impl<'a> Item<'a> {
    fn node(self) -> &'a Node {
        &self.document.nodes[self.index]
    }

    fn at(self, index: usize) -> Item<'a> {
        Item {
            document: self.document,
            index,
        }
    }

    pub(crate) fn line(self) -> usize {
        self.node().line
    }

    pub(crate) fn column(self) -> usize {
        self.node().column
    }

    pub(crate) fn is_map(self) -> bool {
        matches!(self.node().value, Value::Map(_))
    }

    /// What is written: `null`, `~` and nothing at all are empty.
    pub(crate) fn is_null(self) -> bool {
        match &self.node().value {
            Value::Scalar { text, plain: true } => matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"),
            _ => false,
        }
    }

    /// A scalar as it is written, whatever its type.
    pub(crate) fn text(self) -> Option<&'a str> {
        match &self.node().value {
            Value::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// The items of a list; of anything else none.
    pub(crate) fn items(self) -> impl Iterator<Item = Item<'a>> {
        let items = match &self.node().value {
            Value::List(items) => items.as_slice(),
            _ => &[],
        };
        items.iter().map(move |index| self.at(*index))
    }

    /// The members of a map, key first; of anything else none.
    pub(crate) fn members(self) -> impl Iterator<Item = (Item<'a>, Item<'a>)> {
        let members = match &self.node().value {
            Value::Map(members) => members.as_slice(),
            _ => &[],
        };
        members.iter().map(move |(key, value)| (self.at(*key), self.at(*value)))
    }

    /// The key and the value under a name. A later one wins, as in PyYAML; then come merged maps.
    pub(crate) fn member(self, name: &str) -> Option<(Item<'a>, Item<'a>)> {
        self.member_within(name, MERGES)
    }

    fn member_within(self, name: &str, merges: usize) -> Option<(Item<'a>, Item<'a>)> {
        let own = self.members().filter(|(key, _)| key.text() == Some(name)).last();
        if own.is_some() || merges == 0 {
            return own;
        }
        let (_, merged) = self.members().find(|(key, _)| key.text() == Some("<<"))?;
        if merged.is_map() {
            return merged.member_within(name, merges - 1);
        }
        merged.items().find_map(|item| item.member_within(name, merges - 1))
    }

    /// The value under a name; null is none.
    pub(crate) fn get(self, name: &str) -> Option<Item<'a>> {
        let (_, value) = self.member(name)?;
        (!value.is_null()).then_some(value)
    }

    /// As a person reads it: text as it is, a list line by line, a map as `key: value, …`.
    pub(crate) fn readable(self) -> String {
        // Aliases can make a short text long: no longer than this.
        const LONGEST: usize = 1 << 20;
        let mut out = String::new();
        self.write_readable(&mut out, "\n", WRITTEN, LONGEST);
        out
    }

    fn write_readable(self, out: &mut String, between: &str, depth: usize, longest: usize) {
        if depth == 0 || out.len() > longest {
            out.push('…');
            return;
        }
        match &self.node().value {
            Value::Scalar { text, .. } => out.push_str(text),
            Value::List(_) => {
                for (at, item) in self.items().enumerate() {
                    if out.len() > longest {
                        break;
                    }
                    if at > 0 {
                        out.push_str(between);
                    }
                    item.write_readable(out, ", ", depth - 1, longest);
                }
            }
            Value::Map(_) => {
                for (at, (key, value)) in self.members().enumerate() {
                    if out.len() > longest {
                        break;
                    }
                    if at > 0 {
                        out.push_str(", ");
                    }
                    key.write_readable(out, ", ", depth - 1, longest);
                    out.push_str(": ");
                    value.write_readable(out, ", ", depth - 1, longest);
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn places_count_from_one() {
        let document = Document::read("a: 1\nb:\n  - c: x\n  - 'd'\n").unwrap().unwrap();
        let root = document.root();
        let (key, value) = root.member("b").unwrap();
        assert_eq!((key.line(), key.column()), (2, 1));
        let items: Vec<_> = value.items().collect();
        assert_eq!((items[0].line(), items[0].column()), (3, 5));
        assert_eq!((items[1].line(), items[1].column()), (4, 5));
        assert_eq!(items[1].text(), Some("d"));
    }

    #[test]
    fn merges_aliases_and_nulls() {
        let text = "base: &b {x: 1, y: 2, n: ~}\nuse:\n  <<: *b\n  y: 3\nlist: [*b]\nme: &m {<<: *m}\n";
        let document = Document::read(text).unwrap().unwrap();
        let used = document.root().get("use").unwrap();
        assert_eq!(used.get("x").unwrap().text(), Some("1"));
        assert_eq!(used.get("y").unwrap().text(), Some("3"));
        assert!(used.get("n").is_none() && used.get("z").is_none());
        let listed = document.root().get("list").unwrap().items().next().unwrap();
        assert_eq!(listed.get("x").unwrap().text(), Some("1"));
        assert!(document.root().get("me").unwrap().get("x").is_none());
    }

    #[test]
    fn values_are_readable() {
        let readable = |text: &str| Document::read(text).unwrap().unwrap().root().readable();
        assert_eq!(readable("\"a\\tb\""), "a\tb");
        assert_eq!(readable("[a, {k: v, \"l\": [1, 2]}]"), "a\nk: v, l: 1, 2");
        assert_eq!(
            readable("{\"a\": !!int \"5\", \"b\": !!null \"null\"}"),
            "a: 5, b: null"
        );
    }

    #[test]
    fn nothing_and_nonsense() {
        assert!(Document::read("").unwrap().is_none());
        assert!(Document::read("# only words\n").unwrap().is_none());
        assert_eq!(Document::read("a: b: c").unwrap_err().line, 1);
        assert!(Document::read("\n*a").is_err());
    }

    #[test]
    fn deep_and_wide_texts_end() {
        let _ = Document::read(&"[".repeat(100_000));
        let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e]\ng: [*f,*f,*f,*f,*f,*f,*f,*f,*f,*f]\n";
        let document = Document::read(bomb).unwrap().unwrap();
        assert!(document.root().readable().len() < 2 << 20);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[\\[\\]{}:,&*a<\"' \n!|>?%#-]{0,60}|\\PC{0,40}") {
            if let Ok(Some(document)) = Document::read(&text) {
                let _ = document.root().readable();
                let _ = document.root().get("a");
            }
        }
    }
}
