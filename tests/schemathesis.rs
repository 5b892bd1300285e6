//! Requests made up from our own OpenAPI document find no 5xx and no answer that it does not describe. `.ci/run` installs
//! schemathesis from PyPI and runs this: `cargo test --test schemathesis -- --ignored`.
//!
//! `/api/v1/stream` is left out, since its answer has no end; `tests/sse.rs` is about it.

#![allow(clippy::unwrap_used)]

mod lab;

use std::process::Command;

use lab::{Lab, Message, StockPush, captured};
use lava_publisher::AuthorityConfig;

const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs schemathesis from PyPI, which .ci/run installs"]
async fn the_document_describes_every_answer() {
    let lab = Lab::new().journal().http();
    let tokens = lab.folder().join("tokens.yaml");
    // The token is `two`: an administrator who may hand in events of services.
    let entry = "\
- name: boss
  sha256: 3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3
  role: administrator
  emit: [event, stage]
";
    std::fs::write(&tokens, entry).unwrap();
    let publisher = lab
        .configure(|config| config.authority = AuthorityConfig::Tokens { tokens })
        .start()
        .await;
    let push = StockPush::connect(publisher.intake());
    push.send_all(&captured());
    push.send(&Message::new(&["not", "an", "event"]));
    publisher.published(208).await;
    for header in [Some("Authorization: Token two"), None] {
        let mut schemathesis = Command::new("schemathesis");
        schemathesis
            .args(["run", &format!("http://{}/api/v1/openapi.json", publisher.http())])
            .args([
                "--checks",
                CHECKS,
                "--max-examples",
                "40",
                "--exclude-path",
                "/api/v1/stream",
            ])
            .args(["--generation-deterministic", "--no-color", "--workers", "1"]);
        schemathesis.args(header.into_iter().flat_map(|header| ["--header", header]));
        let ended = tokio::task::spawn_blocking(move || schemathesis.output())
            .await
            .unwrap();
        let ended = ended.expect("schemathesis in the PATH: pip install schemathesis");
        let said = String::from_utf8_lossy(&ended.stdout);
        assert!(ended.status.success(), "{header:?}: {said}");
    }
}
