//! A TAP document: results, warnings, and whether its run came to its end. Pure.
//!
//! No test line is lost. One that is indented although it belongs to no subtest is a mistake of its author: it counts
//! as a test of the level around it, and is warned of. A subtest is a deeper level that has a plan of its own or is
//! announced by `# Subtest:`; its tests are results as well, named `SUBTEST / TEST`.

use std::collections::HashSet;

use lavabus_protocol::event::outcome;
use serde_json::{Map, Value};

use super::block::block;
use super::diagnostics::Diagnostics;
use super::line::{Content, Directive, Line, Test};
use crate::own_data;

/// What stands deeper than so many levels counts as one level less.
const MAX_LEVELS: usize = 8;

/// What was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::emit) struct Document {
    /// In the order of their lines.
    pub(super) results: Vec<TestCase>,
    /// In the order of their lines.
    pub(super) warnings: Vec<Warning>,
    pub(super) status: Status,
    /// Why the run was skipped or aborted.
    pub(super) note: Option<String>,
}

/// One test line with what belongs to it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TestCase {
    /// From 1.
    pub(super) line: usize,
    pub(super) name: String,
    pub(super) outcome: &'static str,
    pub(super) item: Option<String>,
    pub(super) item_type: Option<String>,
    pub(super) note: Option<String>,
    pub(super) data: Map<String, Value>,
    number: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Warning {
    /// From 1; 0 is the whole document.
    pub(super) line: usize,
    pub(super) text: String,
}

/// Whether a run was executed to its end. It says nothing of what it found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Status {
    #[default]
    Complete,
    Incomplete,
    Aborted,
}

impl Status {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Status::Complete => "complete",
            Status::Incomplete => "incomplete",
            Status::Aborted => "aborted",
        }
    }
}

/// Reads any text.
pub(super) fn read(text: &str) -> Document {
    let mut reading = Reading::default();
    let elements = reading.elements(text);
    // A document that is indented as a whole is none the worse for it.
    let outermost = elements.iter().map(|element| element.indent).min().unwrap_or(0);
    reading.levels.push(Level::new(outermost));
    for element in elements {
        reading.take(element);
    }
    reading.end()
}

/// What makes up a document, with its place.
struct Element<'a> {
    line: usize,
    indent: usize,
    content: ElementContent<'a>,
}

enum ElementContent<'a> {
    Test(Test<'a>, Diagnostics),
    Plan { count: u64, skip: Option<&'a str> },
    Subtest(&'a str),
}

/// Tests that one plan is for.
#[derive(Debug, Default)]
struct Level {
    indent: usize,
    /// Places among all results.
    tests: Vec<usize>,
    /// Its line and its count.
    plan: Option<(usize, u64)>,
    /// Announced by a comment.
    name: Option<String>,
    /// The subtest that comes next is called so.
    next_name: Option<String>,
    /// Results of subtests that are called as the test that comes next.
    nameless: Vec<usize>,
    /// Results of subtests that are called so already.
    named: Vec<usize>,
}

impl Level {
    fn new(indent: usize) -> Level {
        Level {
            indent,
            ..Level::default()
        }
    }
}

#[derive(Debug, Default)]
struct Reading {
    document: Document,
    /// From the outermost to the present one; at least one while elements are taken.
    levels: Vec<Level>,
    bailed_out: bool,
}

impl Reading {
    fn warn(&mut self, line: usize, text: impl Into<String>) {
        let text = text.into();
        self.document.warnings.push(Warning { line, text });
    }

    fn becomes(&mut self, status: Status) {
        self.document.status = self.document.status.max(status);
    }

    /// Finds tests with their YAML blocks, plans and subtests; what concerns the whole document is noted at once.
    fn elements<'a>(&mut self, text: &'a str) -> Vec<Element<'a>> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lines: Vec<&str> = text.split('\n').collect();
        let mut elements = Vec::new();
        let mut next = 0;
        while let Some(text) = lines.get(next) {
            next += 1;
            let line = next;
            let Line { indent, content } = Line::read(text);
            let content = match content {
                Content::Test(test) => {
                    if self.bailed_out {
                        self.warn(line, "a test after `Bail out!`");
                    }
                    let diagnostics = match block(&lines[next..]) {
                        None => Diagnostics::default(),
                        Some(block) => {
                            let (diagnostics, warnings) = Diagnostics::read(&block.yaml);
                            for warning in warnings {
                                self.warn(next + 1, warning);
                            }
                            if !block.is_closed {
                                self.warn(next + 1, "the YAML block is not ended by `...`");
                            }
                            next += block.lines;
                            diagnostics
                        }
                    };
                    ElementContent::Test(test, diagnostics)
                }
                Content::Plan { count, skip } => ElementContent::Plan { count, skip },
                Content::Subtest(name) => ElementContent::Subtest(name),
                Content::BailOut(reason) => {
                    self.bailed_out = true;
                    self.becomes(Status::Aborted);
                    if !reason.is_empty() {
                        self.document.note = Some(own_data::message(reason));
                    }
                    continue;
                }
                Content::Version(version) => {
                    if !matches!(version, "13" | "14") {
                        self.warn(line, "an unknown version of TAP, read as 13");
                    }
                    continue;
                }
                Content::YamlBegins => {
                    self.warn(line, "a YAML block that belongs to no test");
                    continue;
                }
                Content::YamlEnds | Content::Blank | Content::Other => continue,
            };
            elements.push(Element { line, indent, content });
        }
        elements
    }

    fn take(&mut self, element: Element<'_>) {
        let Element { line, indent, content } = element;
        while let [.., outer, level] = self.levels.as_slice()
            && level.indent > indent
        {
            if outer.indent < indent {
                // The level that it stands in begins only now, with it.
                let at = self.levels.len() - 1;
                self.levels.insert(at, Level::new(indent));
            }
            self.close();
        }
        if self.level().indent < indent && self.levels.len() < MAX_LEVELS {
            let name = self.level().next_name.take();
            self.levels.push(Level {
                name,
                ..Level::new(indent)
            });
        }
        match content {
            ElementContent::Test(test, diagnostics) => self.test(line, test, diagnostics),
            ElementContent::Plan { count, skip } => {
                if count == 0 && self.levels.len() == 1 {
                    self.document.note = skip.filter(|reason| !reason.is_empty()).map(own_data::message);
                }
                match self.level().plan {
                    None => self.level().plan = Some((line, count)),
                    Some(_) => self.warn(line, "a second plan, not taken"),
                }
            }
            ElementContent::Subtest(name) => {
                let level = self.level();
                let is_inside = level.tests.is_empty() && level.plan.is_none() && level.name.is_none();
                match is_inside && self.levels.len() > 1 {
                    true => self.level().name = Some(name.to_owned()),
                    false => self.level().next_name = Some(name.to_owned()),
                }
            }
        }
    }

    fn level(&mut self) -> &mut Level {
        self.levels.last_mut().expect("the outermost level is there to the end")
    }

    fn test(&mut self, line: usize, test: Test<'_>, diagnostics: Diagnostics) {
        let outcome = self.outcome(line, &test, diagnostics.outcome.as_deref());
        let mut data = diagnostics.data;
        if let Some((directive, _)) = test.directive {
            data.insert("directive".to_owned(), directive.as_str().into());
        }
        let reason = test.directive.map(|(_, reason)| reason).or(test.comment);
        let reason = reason.map(own_data::message).filter(|reason| !reason.is_empty());
        let mut inner = std::mem::take(&mut self.level().nameless);
        self.name_all(&inner, &test.description);
        self.level().named.append(&mut inner);

        let place = self.document.results.len();
        let position = self.level().tests.len() as u64 + 1;
        let name = match test.description.as_str() {
            "" => format!("test {}", test.number.unwrap_or(position)),
            description => own_data::message(description),
        };
        self.document.results.push(TestCase {
            line,
            name,
            outcome,
            item: diagnostics.item,
            item_type: diagnostics.item_type,
            note: diagnostics.summary.or(reason),
            data,
            number: test.number,
        });
        self.level().tests.push(place);
    }

    /// What the block says counts; without it, what is skipped or not yet expected to pass is no failure.
    fn outcome(&mut self, line: usize, test: &Test<'_>, said: Option<&str>) -> &'static str {
        let own = match (test.directive, test.is_ok) {
            (Some((Directive::Skip | Directive::Todo, _)), _) => outcome::INFO,
            (None, true) => outcome::PASSED,
            (None, false) => outcome::FAILED,
        };
        let Some(said) = said else { return own };
        let known = outcome::ALL.iter().find(|known| known.eq_ignore_ascii_case(said));
        let Some(known) = known else {
            self.warn(line, format!("unknown outcome {said:?}, taken as {own}"));
            return own;
        };
        let is_bad = outcome::badness(known) >= outcome::badness(outcome::FAILED);
        if test.directive.is_none() && is_bad == test.is_ok && *known != outcome::INFO {
            let word = if test.is_ok { "ok" } else { "not ok" };
            self.warn(
                line,
                format!("the line says `{word}`, its block {known}: taken as {known}"),
            );
        }
        known
    }

    fn name_all(&mut self, places: &[usize], subtest: &str) {
        if subtest.is_empty() {
            return;
        }
        for place in places {
            let name = &mut self.document.results[*place].name;
            *name = own_data::message(&format!("{subtest} / {name}"));
        }
    }

    /// The innermost level is over.
    fn close(&mut self) {
        let Some(mut level) = self.levels.pop() else { return };
        if level.plan.is_none() && level.name.is_none() {
            for place in &level.tests {
                let line = self.document.results[*place].line;
                self.warn(
                    line,
                    "this test is indented, but belongs to no subtest: taken as if it were not",
                );
            }
        } else {
            self.check(&level);
            let mut inner = std::mem::take(&mut level.tests);
            inner.append(&mut level.named);
            inner.append(&mut level.nameless);
            if let Some(name) = &level.name {
                self.name_all(&inner, name);
                level.named = inner;
            } else {
                level.nameless = inner;
            }
        }
        let outer = self.level();
        outer.tests.append(&mut level.tests);
        outer.named.append(&mut level.named);
        outer.nameless.append(&mut level.nameless);
    }

    /// Compares tests with their plan.
    fn check(&mut self, level: &Level) {
        let mut seen = HashSet::new();
        let mut expected = 1;
        for place in &level.tests {
            let TestCase { line, number, .. } = self.document.results[*place];
            let number = match number {
                None => expected,
                Some(number) if seen.contains(&number) => {
                    self.warn(line, format!("number {number} was there before"));
                    number
                }
                Some(number) => {
                    if number != expected {
                        self.warn(line, format!("number {number}, expected {expected}"));
                    }
                    number
                }
            };
            seen.insert(number);
            expected = number.saturating_add(1);
        }
        let lines = level.tests.iter().map(|place| self.document.results[*place].line);
        match level.plan {
            None => {
                let first = lines.min().unwrap_or(0);
                self.warn(first, "there is no plan (1..N): nobody can tell whether all tests ran");
                if seen.is_empty() {
                    self.becomes(Status::Incomplete);
                }
            }
            Some((at, count)) => {
                let is_between = lines.clone().any(|line| line < at) && lines.clone().any(|line| line > at);
                let planned = seen.iter().filter(|number| (1..=count).contains(*number)).count();
                if is_between {
                    self.warn(at, "the plan stands between tests, expected before or behind them");
                }
                if planned as u64 != count || seen.len() != planned {
                    let ran = level.tests.len();
                    self.warn(
                        at,
                        format!(
                            "the plan 1..{count} is not met: {planned} of them and {} others ran",
                            ran.saturating_sub(planned)
                        ),
                    );
                    self.becomes(Status::Incomplete);
                }
            }
        }
    }

    fn end(mut self) -> Document {
        while self.levels.len() > 1 {
            self.close();
        }
        let outermost = std::mem::take(self.level());
        self.check(&outermost);
        // A test that stands several levels too deep has been warned of at each of them.
        self.document.warnings.sort();
        self.document.warnings.dedup();
        self.document
    }
}

#[cfg(test)]
mod tests;
