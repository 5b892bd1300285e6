//! Where the YAML block below a test line ends.

use super::line::{Content, Line};

/// A YAML block.
pub(super) struct Block {
    /// Without its indentation.
    pub(super) yaml: String,
    /// How many lines it takes, with those of `---` and `...`.
    pub(super) lines: usize,
    pub(super) is_closed: bool,
}

/// The block that the lines begin with. One that is not closed ends before the next test, however that is indented: so
/// no test is lost in it.
pub(super) fn block(lines: &[&str]) -> Option<Block> {
    let begin = Line::read(lines.first()?);
    if begin.content != Content::YamlBegins {
        return None;
    }
    let inside = &lines[1..];
    let read = || inside.iter().map(|text| Line::read(text));
    let end = read()
        .position(|line| ends_block(&line, begin.indent))
        .unwrap_or(inside.len());
    let is_closed = inside
        .get(end)
        .is_some_and(|text| Line::read(text).content == Content::YamlEnds);
    let end = match is_closed {
        true => end,
        false => read().take(end).position(|line| is_test(&line)).unwrap_or(end),
    };
    let mut yaml = String::new();
    for text in &inside[..end] {
        let own = text.len() - text.trim_start().len();
        yaml.push_str(text.get(own.min(begin.indent)..).unwrap_or(text));
        yaml.push('\n');
    }
    Some(Block {
        yaml,
        lines: 1 + end + usize::from(is_closed),
        is_closed,
    })
}

fn is_test(line: &Line<'_>) -> bool {
    matches!(&line.content, Content::Test(test) if !test.may_be_key)
}

/// What stands no deeper than its `---` and cannot be YAML.
fn ends_block(line: &Line<'_>, indent: usize) -> bool {
    match &line.content {
        Content::Blank => false,
        Content::Test(test) => line.indent < indent || line.indent == indent && !test.may_be_key,
        Content::YamlEnds | Content::YamlBegins | Content::Plan { .. } | Content::BailOut(_) => line.indent <= indent,
        Content::Version(_) | Content::Subtest(_) | Content::Other => line.indent < indent,
    }
}
