//! The YAML block below a test line.

use serde_json::{Map, Value};

use crate::own_data;

/// A result's data is not larger, as JSON: with the rest it has to fit into a message of 1 MiB.
const MAX_DATA: usize = 800 * 1024;

/// What a block says of its test.
#[derive(Debug, Default)]
pub(super) struct Diagnostics {
    pub(super) item: Option<String>,
    pub(super) item_type: Option<String>,
    pub(super) outcome: Option<String>,
    pub(super) summary: Option<String>,
    /// All the rest; what is in `details` stands beside it.
    pub(super) data: Map<String, Value>,
}

impl Diagnostics {
    /// Reads the text between `---` and `...`. What cannot be understood is kept in `data` as `yaml`, and said.
    pub(super) fn read(text: &str) -> (Diagnostics, Vec<String>) {
        let mut warnings = Vec::new();
        let mut found = Diagnostics::default();
        match serde_saphyr::from_str::<Value>(text) {
            Ok(Value::Object(keys)) => found.take(keys),
            Ok(Value::Null) => {}
            Ok(other) => {
                warnings.push("the YAML block is no map of keys and values".to_owned());
                found.data.insert("yaml".to_owned(), other);
            }
            Err(error) => {
                let error = error.without_snippet().to_string();
                let first = error.lines().next().unwrap_or_default();
                warnings.push(format!("the YAML block cannot be read: {first}"));
                found.data.insert("yaml".to_owned(), text.into());
            }
        }
        // Longer texts that stand deeper are left to the limit of the whole.
        for value in found.data.values_mut() {
            if let Value::String(text) = value {
                *text = own_data::details(text).into_owned();
            }
        }
        let bytes = crate::python_json::to_text(&found.data).len();
        if bytes > MAX_DATA {
            warnings.push(format!(
                "the data of {bytes} bytes is too much for an event and is left out"
            ));
            found.data.clear();
        }
        (found, warnings)
    }

    fn take(&mut self, mut keys: Map<String, Value>) {
        let mut text = |key: &str| match keys.get(key)? {
            Value::Object(_) | Value::Array(_) => None,
            _ => match keys.remove(key)? {
                Value::Null => None,
                Value::String(text) => Some(own_data::message(&text)).filter(|text| !text.is_empty()),
                scalar => Some(scalar.to_string()),
            },
        };
        self.item = text("item");
        self.item_type = text("type");
        self.outcome = text("outcome");
        self.summary = text("summary");
        self.data = match keys.remove("details") {
            Some(Value::Object(details)) if !details.keys().any(|key| keys.contains_key(key)) => details,
            Some(details) => Map::from_iter([("details".to_owned(), details)]),
            None => Map::new(),
        };
        self.data.append(&mut keys);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use lavabus_protocol::event::MAX_DETAILS;
    use serde_json::json;

    #[test]
    fn keys_go_where_they_belong() {
        let (found, warnings) = Diagnostics::read(
            "item: 7\ntype: ~\noutcome: INFO\nsummary: ''\ndetails:\n  output: |\n    a\n    b\n  rc: 1\nhost: w-01\n",
        );
        assert_eq!(warnings, [""; 0]);
        assert_eq!((found.item.as_deref(), found.item_type), (Some("7"), None));
        assert_eq!((found.outcome.as_deref(), found.summary), (Some("INFO"), None));
        let data = json!({"output": "a\nb\n", "rc": 1, "host": "w-01"});
        assert_eq!(Value::from(found.data), data);
    }

    #[test]
    fn nothing_is_lost_by_equal_names_or_odd_types() {
        let (found, _) = Diagnostics::read("output: here\ndetails: {output: there}\nitem: [a, b]\n");
        let data = json!({"output": "here", "details": {"output": "there"}, "item": ["a", "b"]});
        assert_eq!(Value::from(found.data), data);
        let (found, _) = Diagnostics::read("details: text\n");
        assert_eq!(Value::from(found.data), json!({"details": "text"}));
    }

    #[test]
    fn what_cannot_be_read_is_kept_and_said() {
        let (found, warnings) = Diagnostics::read("a: b: c\n");
        assert_eq!(Value::from(found.data), json!({"yaml": "a: b: c\n"}));
        assert!(
            warnings[0].starts_with("the YAML block cannot be read: "),
            "{warnings:?}"
        );
        let (found, warnings) = Diagnostics::read("- a\n");
        assert_eq!((Value::from(found.data), warnings.len()), (json!({"yaml": ["a"]}), 1));
        assert!(Diagnostics::read("").1.is_empty());
    }

    #[test]
    fn what_is_too_much_is_left_out_and_said() {
        let long = "é".repeat(MAX_DETAILS + 1);
        let (found, warnings) = Diagnostics::read(&format!("output: {long}\n"));
        assert_eq!(found.data["output"], *own_data::details(&long));
        assert_eq!(warnings, [""; 0]);
        let (found, warnings) = Diagnostics::read(&format!("a: {long}\nb: {long}\nc: {long}\n"));
        assert_eq!((found.data.len(), warnings.len()), (0, 1));
    }

    #[test]
    fn a_hostile_block_is_refused() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let below = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb += &format!("a{level}: &a{level} [{below}]\n");
        }
        for (text, opening) in [
            (bomb, ""),
            ("a: ".to_owned(), "["),
            (String::new(), "{a: "),
            ("a:\n".to_owned(), "- "),
        ] {
            let text = text + &opening.repeat(100_000);
            let (found, warnings) = Diagnostics::read(&text);
            assert_eq!(warnings.len(), 1, "{warnings:?}");
            assert!(found.data.len() <= 1);
        }
    }
}
