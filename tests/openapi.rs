//! The OpenAPI document and the publisher say the same: each documented request is answered as documented, and what is
//! not documented is refused.

#![allow(clippy::unwrap_used)]

mod lab;

use std::collections::BTreeSet;

use lab::{HttpClient, Lab, Message, RunningPublisher, StockPush, captured};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

struct Documented {
    publisher: RunningPublisher,
    client: HttpClient,
    document: Value,
}

impl Documented {
    async fn start() -> Documented {
        let publisher = Lab::new().journal().http().tokens().start().await;
        let push = StockPush::connect(publisher.intake());
        let mut sent = captured();
        sent.extend([
            Message::job(1995, "Running", "Unknown"),
            Message::device("qemu-01", "Idle"),
        ]);
        push.send_all(&sent);
        publisher.published(sent.len() as u64).await;
        // Without a login, since it is for everybody.
        let answer = publisher.client().get("/api/v1/openapi.json").await;
        assert_eq!((answer.status, &*answer.content_type), (200, "application/json"));
        Documented {
            client: publisher.client().with_token("admin-token"),
            document: answer.json(),
            publisher,
        }
    }

    fn resolved<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            None => value,
            Some(target) => self.document.pointer(target.strip_prefix('#').unwrap()).unwrap(),
        }
    }

    /// Each path, with the examples of its parts.
    fn paths(&self) -> Vec<(String, &Value)> {
        let paths = self.document["paths"].as_object().unwrap();
        let filled = |(path, operations): (&String, _)| {
            let path = path.replace("{id}", "1995").replace("{name}", "qemu-01");
            (path, operations)
        };
        paths.iter().map(filled).collect()
    }

    fn query_parameters<'a>(&'a self, operation: &'a Value) -> Vec<(&'a str, String)> {
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let parameters = parameters
            .map(|parameter| self.resolved(parameter))
            .filter(|parameter| parameter["in"] == "query");
        parameters
            .map(|parameter| {
                let example = &parameter["example"];
                let example = example.as_array().map_or(example, |values| &values[0]);
                let text = example.as_str().map_or_else(|| example.to_string(), str::to_owned);
                (
                    parameter["name"].as_str().unwrap(),
                    utf8_percent_encode(&text, NON_ALPHANUMERIC).to_string(),
                )
            })
            .collect()
    }

    /// The status of an answer, whose form is as the document says.
    async fn status(&self, method: &str, path: &str, operation: &Value) -> u16 {
        let request = self.client.request(method, path).send().await.unwrap();
        let status = request.status().as_u16();
        let response = self.resolved(&operation["responses"][status.to_string()]);
        let content_type = request.headers()["content-type"].to_str().unwrap();
        assert!(
            response["content"][content_type].is_object(),
            "{method} {path}: {status} {content_type}"
        );
        status
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn methods_are_those_of_the_document() {
    let documented = Documented::start().await;
    for (path, operations) in documented.paths() {
        for method in METHODS {
            let operation = &operations[method.to_lowercase()];
            if operation.is_null() {
                let request = documented.client.request(method, &path);
                HttpClient::send(request).await.problem(405);
            } else {
                documented.status(method, &path, operation).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_are_those_of_the_document() {
    let documented = Documented::start().await;
    let operations: Vec<_> = documented
        .paths()
        .into_iter()
        .filter(|(_, operations)| operations["get"].is_object())
        .collect();
    let all: BTreeSet<(&str, String)> = operations
        .iter()
        .flat_map(|(_, operations)| documented.query_parameters(&operations["get"]))
        .chain([
            ("device-type", "x".to_owned()),
            ("offset", "1".to_owned()),
            ("not_limit", "1".to_owned()),
        ])
        .collect();
    assert!(all.len() > 35, "{all:?}");
    let mut accepted = 0;
    for (path, operations) in &operations {
        let own: BTreeSet<&str> = documented
            .query_parameters(&operations["get"])
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        for (name, value) in &all {
            let asked = format!("{path}?{name}={value}");
            let status = documented.status("GET", &asked, &operations["get"]).await;
            assert_eq!(status != 400, own.contains(name), "{asked}: {status}");
            accepted += usize::from(status != 400);
        }
    }
    assert!(accepted > 60, "{accepted}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_required_is_there() {
    let documented = Documented::start().await;
    for (path, operations) in documented.paths() {
        let operation = &operations["get"];
        if operation.is_null() || path.ends_with("/stream") {
            continue;
        }
        let answer = documented.client.get(&path).await;
        if answer.status != 200 {
            assert_eq!(answer.status, 404, "{path}");
            continue;
        }
        let schema = documented.resolved(&operation["responses"]["200"]["content"]["application/json"]["schema"]);
        let answer = answer.json();
        for required in schema["required"].as_array().into_iter().flatten() {
            assert!(answer.get(required.as_str().unwrap()).is_some(), "{path}: {required}");
        }
        // And every member is described.
        if let Some(described) = schema["properties"].as_object() {
            for name in answer.as_object().unwrap().keys() {
                assert!(described.contains_key(name), "{path}: {name}");
            }
        }
    }
    drop(documented.publisher);
}
