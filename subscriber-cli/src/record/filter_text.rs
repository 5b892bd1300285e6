//! A filter as text, to see whether the next run has the same.

use lavabus_protocol::filter::Pattern;

use crate::filter::FilterArguments;

/// The flags of a filter, in an order of their own: equal filters give equal text. Empty for everything.
pub(super) fn of(arguments: &FilterArguments) -> String {
    let mut flags: Vec<String> = arguments
        .filter
        .clauses()
        .iter()
        .map(|clause| {
            let not = if clause.negated { "not-" } else { "" };
            let value = match &clause.pattern {
                Pattern::Exact(text) | Pattern::AnyCase(text) => text.clone(),
                Pattern::Prefix(text) => format!("{text}*"),
                Pattern::Regex(expression) => format!("~{expression}"),
            };
            format!("--{not}{} {value:?}", clause.field.as_str())
        })
        .chain(arguments.jq.iter().map(|program| format!("--jq {program:?}")))
        .collect();
    flags.sort_unstable();
    flags.dedup();
    flags.join(" ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{Arguments, Command};

    fn text(flags: &str) -> String {
        let line = "lavabus record ".to_owned() + flags;
        let Command::Record(arguments) = Arguments::read(line.split_whitespace()).unwrap().command else {
            panic!("{line}");
        };
        of(&arguments.filter)
    }

    #[test]
    fn equal_filters_have_equal_text() {
        assert_eq!(text(""), "");
        assert_eq!(
            text("--state finished --kind job --not-device ~^qemu --topic a.* --jq .data"),
            "--jq \".data\" --kind \"testjob\" --not-device \"~^qemu\" --state \"finished\" --topic \"a.*\""
        );
        assert_eq!(
            text("--kind job --job 7 --kind job"),
            text("--job job/7 --kind testjob")
        );
        assert_ne!(text("--device a"), text("--not-device a"));
    }
}
