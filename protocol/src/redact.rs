//! Secrets in texts that go on to others.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;

/// What stands for a secret.
const HIDDEN: &str = "…";

/// Words in the name of a value that nobody but its owner should read.
const SECRET_NAME: &str = "(?:pass(?:word|wd|phrase)|secret|token|credential|(?:api|private|access|auth)[_-]?key)";

/// A value behind its name: hidden already, in quotes and what is glued to them, or up to the next white space.
const VALUE: &str = r#"(?:…|(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')\w*|\S+)"#;

static RULES: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    let name = SECRET_NAME;
    [
        // A private key, or the beginning of one that was cut.
        (
            r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z ]*PRIVATE KEY-----|\z)".to_owned(),
            HIDDEN,
        ),
        // Headers: the scheme and what follows it.
        (
            r#"(?i)\b((?:proxy-)?authorization["']?\s*[:=]\s*["']?)(?:digest\s.*|(?:[a-z]+\s+)?\S+)"#.to_owned(),
            "${1}…",
        ),
        (r"(?i)\b((?:set-)?cookie:\s*)\S.*".to_owned(), "${1}…"),
        // https://user:secret@host, and a token as the user alone.
        (r"(?i)\b([a-z][a-z0-9+.-]*://[^\s/:@]*:)[^\s/]+@".to_owned(), "${1}…@"),
        (r"(?i)\b([a-z][a-z0-9+.-]*://)[^\s/:@]{20,}@".to_owned(), "${1}…@"),
        // token=…, "password": "…", LAVA-Token: …, --token …, $API_KEY=…
        (
            format!(r#"(?i)([\w-]*{name}[\w-]*["']?\s*[:=]\s*){VALUE}"#),
            "${1}…",
        ),
        (
            format!(r#"(?i)(--?[\w-]*{name}[\w-]*["']?,?\s+){VALUE}"#),
            "${1}…",
        ),
        (r"(?i)\b(sshpass['\x22]?,?\s+['\x22]?-p['\x22]?,?\s*)\S+".to_owned(), "${1}…"),
        // curl -u user:secret
        (
            r"(?i)((?:\s|['\x22]|^)(?:-u|--user)(?:['\x22]?,?\s+|=)['\x22]?[^\s:'\x22]+:)\S+".to_owned(),
            "${1}…",
        ),
        // Secrets that are known by their looks.
        (r"(?i)\b((?:bearer|basic|token)\s+)[\w+/=.~-]{16,}".to_owned(), "${1}…"),
        (
            r"\b(?:gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|xox[abprs]-[\w-]{10,}|AKIA[0-9A-Z]{16}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*)"
                .to_owned(),
            HIDDEN,
        ),
    ]
    .into_iter()
    .map(|(pattern, with)| (Regex::new(&pattern).expect("a fixed pattern that the tests compile"), with))
    .collect()
});

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
    let redacted = RULES.iter().fold(Cow::Borrowed(text), |text, (rule, with)| {
        match rule.replace_all(&text, *with) {
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
