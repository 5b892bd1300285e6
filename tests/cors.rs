//! Pages of an origin that is named use the second port from a browser; a browser shows no other page anything of it.

#![allow(clippy::unwrap_used)]

mod lab;

use lab::{HttpClient, Lab, RunningPublisher};
use reqwest::Response;
use reqwest::header::HeaderMap;
use serde_json::json;

const NAMED: &str = "https://lab.example.org";
const OTHERS: [&str; 4] = [
    "https://evil.example.org",
    "http://lab.example.org",
    "https://lab.example.org.evil.example.org",
    "null",
];

async fn start() -> RunningPublisher {
    let lab = Lab::new().journal().http().tokens();
    lab.configure(|config| config.http.origins = vec![NAMED.to_owned()])
        .start()
        .await
}

async fn asked(client: &HttpClient, method: &str, path: &str, origin: &str) -> Response {
    let request = client.request(method, path).header("origin", origin);
    request.send().await.unwrap()
}

async fn preflight(client: &HttpClient, path: &str, origin: &str, method: &str) -> Response {
    let request = client.request("OPTIONS", path).header("origin", origin);
    let request = request
        .header("access-control-request-method", method)
        .header("access-control-request-headers", "authorization,content-type");
    request.send().await.unwrap()
}

/// What an answer says to browsers.
fn told(headers: &HeaderMap) -> Vec<(&str, &str)> {
    let told = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()));
    told.filter(|(name, _)| name.starts_with("access-control-")).collect()
}

fn is_readable(answer: &Response, origin: &str) -> bool {
    let headers = answer.headers();
    assert_eq!(headers["vary"], "origin", "a cache must not give it to other pages");
    assert!(!headers.contains_key("access-control-allow-credentials"));
    headers
        .get("access-control-allow-origin")
        .is_some_and(|told| told == origin)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_a_named_origin_reads_and_sends() {
    let publisher = start().await;
    let (nobody, client) = (publisher.client(), publisher.client().with_token("forge-token"));
    let event = json!({"topic": "x.event", "data": {"message": "hello", "job": 1}});
    let request = client.request("POST", "/api/v1/events").header("origin", NAMED);
    let posted = request.json(&event).send().await.unwrap();
    assert!(posted.status() == 201 && is_readable(&posted, NAMED), "{posted:?}");
    for path in ["events", "status", "jobs/1", "timeline/job/1", "openapi.json"] {
        let answer = asked(&client, "GET", &format!("/api/v1/{path}"), NAMED).await;
        assert!(is_readable(&answer, NAMED), "{path}: {answer:?}");
    }
    let mut stream = asked(&client, "GET", "/api/v1/stream", NAMED).await;
    assert!(stream.status() == 200 && is_readable(&stream, NAMED), "{stream:?}");
    assert_eq!(stream.chunk().await.unwrap().unwrap(), ":\n\n");
    // Errors too: the page can say what is wrong.
    let refused = asked(&nobody, "GET", "/api/v1/events", NAMED).await;
    assert!(refused.status() == 401 && is_readable(&refused, NAMED), "{refused:?}");
    let readable = refused.headers()["access-control-expose-headers"].to_str().unwrap();
    assert!(
        readable.contains("WWW-Authenticate") && readable.contains("Retry-After"),
        "{readable}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_asks_beforehand_is_told_what_the_path_takes() {
    let publisher = start().await;
    // Without a login: a browser sends none with this question.
    let client = publisher.client();
    for (path, methods) in [
        ("events", "GET,HEAD,POST"),
        ("stream", "GET,HEAD"),
        ("jobs/1", "GET,HEAD"),
        ("timeline/job/1", "GET,HEAD"),
    ] {
        let answer = preflight(&client, &format!("/api/v1/{path}"), NAMED, "POST").await;
        assert!(
            answer.status() == 204 && is_readable(&answer, NAMED),
            "{path}: {answer:?}"
        );
        let headers = answer.headers();
        assert_eq!(headers["access-control-allow-methods"], methods, "{path}");
        assert_eq!(
            headers["access-control-allow-headers"],
            "Authorization, Content-Type, Last-Event-ID"
        );
        assert_eq!(headers["access-control-max-age"], "7200");
    }
    let nothing = preflight(&client, "/api/v1/nothing", NAMED, "GET").await;
    assert_eq!(nothing.status(), 404);
    // Whoever is no browser is told what everybody is told.
    HttpClient::send(client.request("OPTIONS", "/api/v1/events"))
        .await
        .problem(405);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_others_are_told_nothing() {
    let publisher = start().await;
    let client = publisher.client().with_token("admin-token");
    for origin in OTHERS {
        for answer in [
            asked(&client, "GET", "/api/v1/events", origin).await,
            asked(&client, "GET", "/api/v1/stream", origin).await,
            asked(&client, "POST", "/api/v1/events", origin).await,
            preflight(&client, "/api/v1/events", origin, "GET").await,
        ] {
            assert!(!is_readable(&answer, origin), "{origin}: {answer:?}");
            assert_eq!(told(answer.headers()), [], "{origin}: {answer:?}");
        }
    }
    let program = client.request("GET", "/api/v1/events").send().await.unwrap();
    assert_eq!(told(program.headers()), []);
}
