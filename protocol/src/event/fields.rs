//! Keys and values of an object, each value read only when it is asked for.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::JobId;

/// The members of one JSON object, values unread.
///
/// Reading the whole object at once would lose the event for one value that the reader cannot take: a lone surrogate
/// (which Python writes), a number beyond `f64`, nesting deeper than the reader's limit. So every value is read alone,
/// and one that cannot be read is absent.
pub(super) struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Fields<'a> {
    /// No members if `data` is no object.
    pub(super) fn read(data: &'a str) -> Fields<'a> {
        let members = serde_json::Deserializer::from_str(data)
            .deserialize_map(Members)
            .unwrap_or_default();
        Fields(members)
    }

    /// Of a key written twice, the last one counts, as in Python.
    fn get(&self, key: &str) -> Option<&'a str> {
        self.0
            .iter()
            .rev()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.get())
    }

    pub(super) fn text(&self, key: &str) -> Option<String> {
        read_text(self.get(key)?).map(Cow::into_owned)
    }

    pub(super) fn integer(&self, key: &str) -> Option<i64> {
        serde_json::from_str(self.get(key)?).ok()
    }

    pub(super) fn bool(&self, key: &str) -> Option<bool> {
        serde_json::from_str(self.get(key)?).ok()
    }

    /// A job's id, written as a number or as text. A number is taken as it was written.
    pub(super) fn job(&self, key: &str) -> Option<JobId> {
        let raw = self.get(key)?;
        if raw.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
            return JobId::parse(raw);
        }
        JobId::parse(&self.text(key)?)
    }

    pub(super) fn object(&self, key: &str) -> Option<Map<String, Value>> {
        serde_json::from_str(self.get(key)?).ok()
    }

    pub(super) fn to_map(&self) -> Map<String, Value> {
        let read = |(key, value): &(Cow<'a, str>, &RawValue)| {
            let value = serde_json::from_str(value.get()).ok()?;
            Some((key.clone().into_owned(), value))
        };
        self.0.iter().filter_map(read).collect()
    }
}

struct Members;

impl<'a> Visitor<'a> for Members {
    type Value = Vec<(Cow<'a, str>, &'a RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::with_capacity(16);
        while let Some((key, value)) = map.next_entry::<&RawValue, &RawValue>()? {
            if let Some(key) = read_text(key.get()) {
                members.push((key, value));
            }
        }
        Ok(members)
    }
}

/// `None` if `raw`, one JSON value, is no text, or none in Rust's sense (a lone surrogate).
fn read_text(raw: &str) -> Option<Cow<'_, str>> {
    let inside = raw.strip_prefix('"')?.strip_suffix('"')?;
    if inside.contains('\\') {
        serde_json::from_str(raw).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inside))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_cannot_be_read_are_absent_and_hurt_no_other() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let data = format!(
            r#" {{"deep": {deep}, "\ud800": 1, "lone": "\udfff", "huge": 1e999, "stat\u0065": "Idle", "n": -7, "no": null}} "#
        );
        let fields = Fields::read(&data);
        assert_eq!(fields.text("state").as_deref(), Some("Idle"));
        assert_eq!(fields.text("lone"), None);
        assert_eq!(fields.text("no"), None);
        assert_eq!(fields.text("n"), None);
        assert_eq!(fields.integer("n"), Some(-7));
        assert_eq!(fields.integer("huge"), None);
        let map = fields.to_map();
        let mut keys: Vec<_> = map.keys().collect();
        keys.sort();
        assert_eq!(keys, ["n", "no", "state"]);
    }

    #[test]
    fn the_last_of_equal_keys_counts() {
        let fields = Fields::read(r#"{"state": "Idle", "state": "Running"}"#);
        assert_eq!(fields.text("state").as_deref(), Some("Running"));
    }

    #[test]
    fn what_is_no_object_has_no_members() {
        for data in ["[]", "", "{", "null", "{\"a\": 1"] {
            assert!(Fields::read(data).0.is_empty(), "{data}");
        }
    }
}
