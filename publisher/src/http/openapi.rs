//! `GET /api/v1/openapi.json`: what `/api/v1` is, for programs (OpenAPI 3.1).

use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;

use crate::http::Problem;
use crate::http::parameters::Parameters;

const DOCUMENT: &str = include_str!("openapi.json");

/// `GET /api/v1/openapi.json`. For everybody: it tells nothing of this publisher.
pub(crate) async fn document(parameters: Parameters) -> Result<Response, Problem> {
    parameters.nothing_else()?;
    Ok(([(CONTENT_TYPE, "application/json")], DOCUMENT).into_response())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::http::api;

    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(members) => {
                if let Some(Value::String(target)) = members.get("$ref") {
                    found.insert(target.clone());
                }
                members.values().for_each(|member| references(member, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn every_path_is_described_and_no_other() {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        let described: BTreeSet<String> = document["paths"].as_object().unwrap().keys().cloned().collect();
        let routes: BTreeSet<String> = api().into_iter().map(|(path, _)| path.replace("{*", "{")).collect();
        assert_eq!(described, routes);
    }

    #[test]
    fn every_reference_leads_somewhere_and_everything_is_referred_to() {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        for target in &found {
            let pointer = target.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{target}");
        }
        for kind in ["parameters", "responses", "schemas"] {
            for name in document["components"][kind].as_object().unwrap().keys() {
                assert!(found.contains(&format!("#/components/{kind}/{name}")), "{kind}/{name}");
            }
        }
    }
}
