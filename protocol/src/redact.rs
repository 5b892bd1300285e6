//! Secrets in texts that go on to others.

use std::borrow::Cow;
use std::sync::{LazyLock, OnceLock};

use regex::Regex;

/// What stands for a secret.
const HIDDEN: &str = "…";

/// Words in the name of a value that nobody but its owner should read.
const SECRET_NAME: &str = "(?:pass(?:word|wd|phrase)|secret|token|credential|(?:api|private|access|auth)[_-]?key)";

/// A value behind its name: hidden already, in quotes and what is glued to them, or up to the next white space.
const VALUE: &str = r#"(?:…|(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')\w*|\S+)"#;

/// What looks like a secret, and what is left of it.
struct Rule {
    /// Without one of these in the text, in lower case, the pattern cannot match. Most texts have none, and to compile a
    /// pattern takes longer than most questions.
    hints: &'static [&'static str],
    pattern: String,
    with: &'static str,
    regex: OnceLock<Regex>,
}

const NAME_HINTS: &[&str] = &["pass", "secret", "token", "credential", "key"];

static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let name = SECRET_NAME;
    let rule = |hints, pattern: &str, with| Rule {
        hints,
        pattern: pattern.to_owned(),
        with,
        regex: OnceLock::new(),
    };
    vec![
        // A private key, or the beginning of one that was cut.
        rule(
            &["private key-----"],
            r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z ]*PRIVATE KEY-----|\z)",
            HIDDEN,
        ),
        // Headers: the scheme and what follows it.
        rule(
            &["authorization"],
            r#"(?i)\b((?:proxy-)?authorization["']?\s*[:=]\s*["']?)(?:digest\s.*|(?:[a-z]+\s+)?\S+)"#,
            "${1}…",
        ),
        rule(&["cookie"], r"(?i)\b((?:set-)?cookie:\s*)\S.*", "${1}…"),
        // https://user:secret@host, and a token as the user alone.
        rule(&["://"], r"(?i)\b([a-z][a-z0-9+.-]*://[^\s/:@]*:)[^\s/]+@", "${1}…@"),
        rule(&["://"], r"(?i)\b([a-z][a-z0-9+.-]*://)[^\s/:@]{20,}@", "${1}…@"),
        // token=…, "password": "…", LAVA-Token: …, --token …, $API_KEY=…
        rule(
            NAME_HINTS,
            &format!(r#"(?i)([\w-]*{name}[\w-]*["']?\s*[:=]\s*){VALUE}"#),
            "${1}…",
        ),
        rule(
            NAME_HINTS,
            &format!(r#"(?i)(--?[\w-]*{name}[\w-]*["']?,?\s+){VALUE}"#),
            "${1}…",
        ),
        rule(
            &["sshpass"],
            r"(?i)\b(sshpass['\x22]?,?\s+['\x22]?-p['\x22]?,?\s*)\S+",
            "${1}…",
        ),
        // curl -u user:secret
        rule(
            &["-u"],
            r"(?i)((?:\s|['\x22]|^)(?:-u|--user)(?:['\x22]?,?\s+|=)['\x22]?[^\s:'\x22]+:)\S+",
            "${1}…",
        ),
        // Secrets that are known by their looks.
        rule(
            &["bearer", "basic", "token"],
            r"(?i)\b((?:bearer|basic|token)\s+)[\w+/=.~-]{16,}",
            "${1}…",
        ),
        rule(
            &["gh", "glpat-", "xox", "akia", "eyj"],
            r"\b(?:gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|xox[abprs]-[\w-]{10,}|AKIA[0-9A-Z]{16}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*)",
            HIDDEN,
        ),
    ]
});

impl Rule {
    fn regex(&self) -> &Regex {
        self.regex
            .get_or_init(|| Regex::new(&self.pattern).expect("a fixed pattern that the tests compile"))
    }

    /// `lower` is the text in lower case.
    fn may_match(&self, lower: &str) -> bool {
        self.hints.iter().any(|hint| lower.contains(hint))
    }
}

/// The text with `…` for what looks like a secret: passwords and tokens behind their names, `Authorization` headers,
/// `user:secret@host` in addresses, private keys, and tokens of well-known forms.
///
/// It hides too much rather than too little: `token: x` is hidden whatever `x` is. A secret without a name or a known
/// form cannot be told from other text. To be done before a text is cut: half a secret is not found. Takes time in
/// proportion to the text.
///
/// ```
/// use lavabus_protocol::redact::redact;
///
/// assert_eq!(
///     redact("cannot fetch https://ada:s3cret@lab/rootfs?token=abc: 404"),
///     "cannot fetch https://ada:…@lab/rootfs?token=… 404"
/// );
/// assert_eq!(redact("auto-login-action timed out after 288 seconds"), "auto-login-action timed out after 288 seconds");
/// ```
pub fn redact(text: &str) -> String {
    // Letters that only fold to ASCII ones, such as the Kelvin sign, become those by this.
    let lower = text.to_lowercase().replace('ſ', "s");
    // What a rule leaves may be found by another rule only if the text already had its hint.
    let rules = RULES.iter().filter(|rule| rule.may_match(&lower));
    let redacted = rules.fold(Cow::Borrowed(text), |text, rule| {
        match rule.regex().replace_all(&text, rule.with) {
            // A rule that finds nothing gives the text back as it is.
            Cow::Borrowed(_) => text,
            Cow::Owned(changed) => Cow::Owned(changed),
        }
    });
    redacted.into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The hints only save time: without them the same is hidden.
    #[test]
    fn letters_that_fold_to_others_hide_no_secret() {
        for text in ["PAſſWORD=x", "TO\u{212A}EN=x"] {
            assert!(redact(text).ends_with('…'), "{text}: {}", redact(text));
        }
    }

    proptest! {
        #[test]
        fn a_rule_that_is_left_out_would_find_nothing(
            text in "\\PC{0,40}|(pa|ſs|ss|to|K|ken|=|://|a:b@|-u|Key|ghp_|BEGIN| |:|x{20}){0,12}"
        ) {
            let lower = text.to_lowercase().replace('ſ', "s");
            for rule in RULES.iter().filter(|rule| !rule.may_match(&lower)) {
                prop_assert!(!rule.regex().is_match(&text), "{}", rule.pattern);
            }
        }
    }

    #[test]
    fn secrets_are_hidden() {
        for (text, expected) in [
            ("password=hunter2", "password=…"),
            ("PASSWORD: hunter2 was wrong", "PASSWORD: … was wrong"),
            (r#"{"token": "a b\" c", "job": 5}"#, r#"{"token": …, "job": 5}"#),
            ("{'api_key': 'abc'}", "{'api_key': …}"),
            ("password='a b'c d", "password=… d"),
            ("https://lab/x?job=5&token=abc", "https://lab/x?job=5&token=…"),
            ("LAVA-Token: abc", "LAVA-Token: …"),
            ("MY_SECRET_KEY=abc make", "MY_SECRET_KEY=… make"),
            ("lavacli --token abc jobs", "lavacli --token … jobs"),
            ("['lavacli', '--token', 'abc', 'x']", "['lavacli', '--token', …, 'x']"),
            ("curl -u ada:s3cret http://lab", "curl -u ada:… http://lab"),
            ("curl --user=ada:s3cret http://lab", "curl --user=ada:… http://lab"),
            ("sshpass -p s3cret ssh root@dut", "sshpass -p … ssh root@dut"),
            ("Authorization: Token 0123abc", "Authorization: …"),
            (
                "header \"Authorization\": \"Basic YWRhOng=\"",
                "header \"Authorization\": \"…",
            ),
            ("authorization: Bearer x.y refused", "authorization: … refused"),
            (
                "Proxy-Authorization: Digest username=\"a\", response=\"b\"\nnext",
                "Proxy-Authorization: …\nnext",
            ),
            ("Set-Cookie: sessionid=abc; path=/\nnext", "Set-Cookie: …\nnext"),
            (
                "git clone https://ada:s3c@ret@lab/x.git",
                "git clone https://ada:…@lab/x.git",
            ),
            ("https://:s3cret@lab/", "https://:…@lab/"),
            (
                "https://ghp_0123456789abcdefghij@github.com/x",
                "https://…@github.com/x",
            ),
            ("used ghp_0123456789abcdefghij", "used …"),
            ("sent Token 0123456789abcdef0123", "sent Token …"),
            (
                "key: -----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\nend",
                "key: …\nend",
            ),
            ("-----BEGIN PRIVATE KEY-----\nMIIE cut", "…"),
        ] {
            assert_eq!(redact(text), expected, "{text}");
        }
    }

    #[test]
    fn what_lava_says_stays_as_it_is() {
        for text in [
            "",
            "auto-login-action timed out after 288 seconds",
            "matched a bootloader error message: 'Retry count exceeded' (4)",
            "Unable to get 'https://images.example.com/arm64/Image:5.10' (404)",
            "ssh root@10.0.0.2: No route to host; git+ssh://git@lab/x",
            "bootloader-commands: Wait for prompt ['=>'] (timeout 00:03:00)",
            "Invalid TESTCASE signal",
        ] {
            assert_eq!(redact(text), text);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_taken_and_twice_is_once(text in r#"(\PC|\n|password|token|[:='" @/-]|Authorization|https://){0,40}"#) {
            let once = redact(&text);
            prop_assert_eq!(redact(&once), once);
        }

        #[test]
        fn a_named_secret_never_passes(secret in "[A-Za-z0-9]{8,30}", before in "[a-z ]{0,10}", after in "( [a-z]{1,5}){0,3}") {
            prop_assume!(!before.contains(&secret) && !after.contains(&secret));
            for form in [
                format!("{before} password={secret}{after}"),
                format!("{before} \"auth_token\": \"{secret}\"{after}"),
                format!("{before} http://ada:{secret}@lab/{after}"),
                format!("{before} Authorization: Token {secret}{after}"),
            ] {
                prop_assert!(!redact(&form).contains(&secret), "{}", redact(&form));
            }
        }
    }
}
