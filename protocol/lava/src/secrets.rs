//! What no text that is shown may hold: somebody in the way may repeat our headers.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::identity::Identity;
use crate::token::Token;

/// The token, and the forms in which it is sent.
#[derive(Clone, Default)]
pub(crate) struct Secrets(Vec<String>);

impl Secrets {
    /// Of an identity whose token goes out as this user's.
    pub(crate) fn of(identity: &Identity, user: Option<&str>) -> Secrets {
        let token = identity.token.as_ref().map(Token::expose);
        let Some(token) = token.filter(|token| !token.is_empty()) else {
            return Secrets::default();
        };
        // RFC 7617 section 2: base64 of user, colon, password.
        let basic = user.map(|user| STANDARD.encode(format!("{user}:{token}")));
        // Basic first: a token that happens to stand in it would cut it in parts.
        Secrets(basic.into_iter().chain([token.to_owned()]).collect())
    }

    /// The text with dots for every secret. To be done before a text is cut: half a secret is not found.
    pub(crate) fn redact(&self, text: &str) -> String {
        self.0
            .iter()
            .fold(text.to_owned(), |text, secret| text.replace(secret, "…"))
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(…)")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_token() {
        let identity = Identity::anonymous("https://ada:s3cret@a/").unwrap();
        let secrets = Secrets::of(&identity, Some("ada"));
        let text = "Authorization: Basic YWRhOnMzY3JldA==, Token s3cret";
        assert_eq!(secrets.redact(text), "Authorization: Basic …, Token …");
        assert_eq!(format!("{secrets:?}"), "Secrets(…)");
        let nobody = Secrets::of(&Identity::anonymous("https://a/").unwrap(), Some("ada"));
        assert_eq!(nobody.redact(text), text);
    }

    #[test]
    fn a_token_that_stands_in_its_own_basic_form() {
        let mut identity = Identity::anonymous("https://a/").unwrap();
        identity.token = Some(Token::new("Y"));
        // ada:Y
        let text = Secrets::of(&identity, Some("ada")).redact("Basic YWRhOlk=");
        assert_eq!(text, "Basic …");
    }
}
