//! One line of TAP, on its own.

/// What a line is, and how far it is indented.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// Blanks and tabs before it.
    pub(super) indent: usize,
    pub(super) content: Content<'a>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content<'a> {
    /// `TAP version 13`
    Version(&'a str),
    /// `1..N`; `# SKIP` behind it says why there are none.
    Plan { count: u64, skip: Option<&'a str> },
    /// `ok` or `not ok`, with all that may follow.
    Test(Test<'a>),
    /// `Bail out!`, and why.
    BailOut(&'a str),
    /// `# Subtest: NAME`
    Subtest(&'a str),
    /// `---`
    YamlBegins,
    /// `...`
    YamlEnds,
    /// Nothing but blanks.
    Blank,
    /// Comments, and whatever else a test may print.
    Other,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Test<'a> {
    pub(super) is_ok: bool,
    pub(super) number: Option<u64>,
    /// Without its directive or comment; may be empty.
    pub(super) description: String,
    pub(super) directive: Option<(Directive, &'a str)>,
    /// What stands behind `#` and is no directive.
    pub(super) comment: Option<&'a str>,
    /// `ok:` may be a key of a YAML block too.
    pub(super) may_be_key: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Directive {
    Skip,
    Todo,
}

impl Directive {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Directive::Skip => "SKIP",
            Directive::Todo => "TODO",
        }
    }
}

impl Line<'_> {
    /// Takes a line apart; any text is some line.
    pub(super) fn read(text: &str) -> Line<'_> {
        let text = text.trim_end();
        let rest = text.trim_start();
        Line {
            indent: text.len() - rest.len(),
            content: content(rest),
        }
    }
}

fn content(text: &str) -> Content<'_> {
    match text {
        "" => return Content::Blank,
        "---" => return Content::YamlBegins,
        "..." => return Content::YamlEnds,
        _ => {}
    }
    if let Some(comment) = text.strip_prefix('#') {
        return match comment.trim_start().strip_prefix("Subtest:") {
            Some(name) => Content::Subtest(name.trim()),
            None => Content::Other,
        };
    }
    if let Some(rest) = strip_prefix_in_any_case(text, "bail out!") {
        return Content::BailOut(rest.trim());
    }
    if let Some(rest) = strip_prefix_in_any_case(text, "tap version") {
        return Content::Version(rest.trim());
    }
    if let Some(plan) = plan(text) {
        return plan;
    }
    let not = text.strip_prefix("not").filter(|rest| rest.starts_with(is_blank));
    let after = not.map_or(text, str::trim_start).strip_prefix("ok");
    match after.filter(|rest| !rest.starts_with(|next: char| next.is_alphanumeric() || next == '_')) {
        Some(rest) => Content::Test(test(not.is_none(), rest)),
        None => Content::Other,
    }
}

fn is_blank(character: char) -> bool {
    character.is_whitespace()
}

fn strip_prefix_in_any_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (beginning, rest) = text.split_at_checked(prefix.len())?;
    beginning.eq_ignore_ascii_case(prefix).then_some(rest)
}

fn plan(text: &str) -> Option<Content<'_>> {
    let (numbers, behind) = text.split_once('#').unwrap_or((text, ""));
    let (first, last) = numbers.trim_end().split_once("..")?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if first != "1" || !is_number(last) {
        return None;
    }
    let reason = strip_prefix_in_any_case(behind.trim_start(), "skip");
    Some(Content::Plan {
        // So many tests nobody runs: such a plan is never met.
        count: last.parse().unwrap_or(u64::MAX),
        skip: reason.map(without_first_word),
    })
}

/// Behind `SKIP` of `SKIPPED: reason`.
fn without_first_word(text: &str) -> &str {
    text.trim_start_matches(|character: char| !is_blank(character))
        .trim_start()
}

fn test(is_ok: bool, text: &str) -> Test<'_> {
    let may_be_key = text.starts_with(':');
    let text = text.trim_start();
    let digits = text.len()
        - text
            .trim_start_matches(|character: char| character.is_ascii_digit())
            .len();
    let (number, rest) = text.split_at(digits);
    let number = number
        .parse()
        .ok()
        .filter(|_| rest.is_empty() || rest.starts_with(|next: char| is_blank(next) || matches!(next, '-' | '#')));
    let text = if number.is_some() { rest.trim_start() } else { text };
    let (description, behind) = split_at_hash(text);
    let directive = behind.and_then(directive);
    let description = match description.strip_prefix('-') {
        Some(rest) if rest.is_empty() || rest.starts_with(is_blank) => rest,
        _ => description,
    };
    Test {
        is_ok,
        number,
        description: description.trim().replace("\\#", "#"),
        directive,
        comment: behind.filter(|_| directive.is_none()).map(str::trim),
        may_be_key,
    }
}

/// The description, and what stands behind the `#` that ends it. A `#` that is escaped, or that is part of a word, such
/// as `#12`, ends nothing; but `#SKIP` does.
fn split_at_hash(text: &str) -> (&str, Option<&str>) {
    let hashes = || text.match_indices('#').map(|(at, _)| (&text[..at], &text[at + 1..]));
    let is_alone = |(before, _): &(&str, &str)| before.is_empty() || before.ends_with(is_blank);
    let found = hashes()
        .find(|parts| is_alone(parts) && directive(parts.1).is_some())
        .or_else(|| hashes().find(|parts| is_alone(parts) && parts.1.starts_with(is_blank)));
    found.map_or((text, None), |(before, behind)| (before, Some(behind)))
}

fn directive(text: &str) -> Option<(Directive, &str)> {
    let text = text.trim_start();
    if let Some(rest) = strip_prefix_in_any_case(text, "skip") {
        return Some((Directive::Skip, without_first_word(rest)));
    }
    let rest = strip_prefix_in_any_case(text, "todo")?;
    let is_word = !rest.starts_with(char::is_alphanumeric);
    is_word.then(|| (Directive::Todo, without_first_word(rest)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn test(text: &str) -> Test<'_> {
        match Line::read(text).content {
            Content::Test(test) => test,
            other => panic!("{text:?} is {other:?}"),
        }
    }

    #[test]
    fn test_lines() {
        for (text, is_ok, number, description) in [
            ("ok", true, None, ""),
            ("not ok", false, None, ""),
            ("  not  ok 7\r", false, Some(7), ""),
            ("ok 1 - boots", true, Some(1), "boots"),
            ("ok - boots", true, None, "boots"),
            ("ok 2 boots", true, Some(2), "boots"),
            ("ok 3- boots", true, Some(3), "boots"),
            ("ok -v works", true, None, "-v works"),
            ("ok 4 bug #12 is \\# fixed", true, Some(4), "bug #12 is # fixed"),
            ("ok 3.5 GHz", true, None, "3.5 GHz"),
            ("ok 99999999999999999999 x", true, None, "99999999999999999999 x"),
            ("ok: fine", true, None, ": fine"),
        ] {
            let found = test(text);
            let found = (found.is_ok, found.number, found.description.as_str());
            assert_eq!(found, (is_ok, number, description), "{text}");
        }
        for text in ["okay", "ok_1", "OK", "not okay", "notok", "it is ok", "nok"] {
            assert_eq!(Line::read(text).content, Content::Other, "{text}");
        }
    }

    #[test]
    fn directives() {
        for (text, description, directive) in [
            ("ok 1 # SKIP no network", "", Some((Directive::Skip, "no network"))),
            ("ok 1 - a b #skip", "a b", Some((Directive::Skip, ""))),
            (
                "ok 1 - a # Skipped: why # not",
                "a",
                Some((Directive::Skip, "why # not")),
            ),
            ("not ok 2 - a # TODO later", "a", Some((Directive::Todo, "later"))),
            ("not ok 2 - a # todos", "a", None),
            ("ok 3 - a \\# SKIP", "a # SKIP", None),
        ] {
            let found = test(text);
            assert_eq!(
                (found.description.as_str(), found.directive),
                (description, directive),
                "{text}"
            );
        }
        assert_eq!(test("not ok - a  # FAIL").comment, Some("FAIL"));
    }

    #[test]
    fn other_lines() {
        let plan = |count, skip| Content::Plan { count, skip };
        for (text, expected) in [
            ("TAP version 13", Content::Version("13")),
            ("1..3", plan(3, None)),
            ("1..0 # SKIP no board", plan(0, Some("no board"))),
            ("1..0 # skipped", plan(0, Some(""))),
            ("1..99999999999999999999", plan(u64::MAX, None)),
            ("2..3", Content::Other),
            ("1..", Content::Other),
            ("1..x", Content::Other),
            ("Bail out! no power", Content::BailOut("no power")),
            ("bail out!", Content::BailOut("")),
            ("# Subtest: usb", Content::Subtest("usb")),
            ("# ok 1", Content::Other),
            ("---", Content::YamlBegins),
            ("...", Content::YamlEnds),
        ] {
            assert_eq!(Line::read(text).content, expected, "{text}");
        }
        assert_eq!(Line::read(" \t ok").indent, 3);
    }
}
