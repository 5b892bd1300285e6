//! What a server is asked, and what is made of its answers.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

#[allow(dead_code)]
mod script;

use lavabus_lava::{Explanation, Failure, LogLine, ServerError, TestCase};
use script::{ECHO_BASIC, ECHO_TOKEN, Script, answer, fault, html, json, xml};

const JOB: &str = r#"{"id": 1995, "submitter": "ada", "viewing_groups": [], "description": "d", "health_check": false,
  "requested_device_type": "qemu", "tags": [], "actual_device": "qemu01", "submit_time": "2026-11-21T05:00:00.000001Z",
  "start_time": "2026-11-21T05:01:00Z", "end_time": null, "state": "Running", "health": "Unknown", "priority": 50,
  "failure_comment": null}"#;

const SHOWN: &str = "<struct><member><name>id</name><value><string>4000.1</string></value></member><member><name>state</name><value><string>Finished</string></value></member><member><name>health</name><value><string>Incomplete</string></value></member><member><name>device</name><value><nil/></value></member><member><name>end_time</name><value><dateTime.iso8601>20261121T05:01:05</dateTime.iso8601></value></member><member><name>error_type</name><value><string>Job</string></value></member><member><name>error_msg</name><value><string>no kernel</string></value></member></struct>";

#[tokio::test]
async fn a_job_by_its_database_id() {
    let script = Script::of(vec![json("200 OK", JOB)]).await;
    let answer = script.server().job("1995").await.unwrap();
    assert_eq!(answer.server_time, Some("2026-11-21T05:01:05Z".parse().unwrap()));
    let job = answer.value;
    assert_eq!(
        (job.id.as_str(), job.state.as_str(), job.health.as_str()),
        ("1995", "Running", "Unknown")
    );
    assert_eq!((job.submitter.as_str(), job.description.as_str()), ("ada", "d"));
    assert_eq!(
        (job.device.as_deref(), job.device_type.as_deref()),
        (Some("qemu01"), Some("qemu"))
    );
    assert_eq!(
        (job.start_time.as_deref(), job.end_time),
        (Some("2026-11-21T05:01:00Z"), None)
    );
    let requests = script.requests().await;
    assert!(
        requests[0].starts_with("GET /api/v0.2/jobs/1995/ HTTP/1.1\r\n"),
        "{}",
        requests[0]
    );
    assert!(
        requests[0].contains("\r\nauthorization: Token s3cret\r\n"),
        "{}",
        requests[0]
    );
}

#[tokio::test]
async fn a_job_by_its_sub_id() {
    let script = Script::of(vec![xml(SHOWN)]).await;
    let job = script.server().job("4000.1").await.unwrap().value;
    assert_eq!((job.id.as_str(), job.state.as_str()), ("4000.1", "Finished"));
    assert_eq!(
        (job.device, job.end_time.as_deref()),
        (None, Some("2026-11-21T05:01:05"))
    );
    assert_eq!(script.lines().await, ["POST /RPC2"]);
}

#[tokio::test]
async fn a_job_that_is_not_there() {
    let script = Script::of(vec![json("404 Not Found", r#"{"detail": "Not found."}"#)]).await;
    let error = script.server().job("7").await.unwrap_err();
    assert_eq!(error.to_string(), "job 7 is not there, or not visible with this token");
    assert_eq!(script.lines().await, ["GET /api/v0.2/jobs/7/"]);
}

#[tokio::test]
async fn a_server_without_rest_is_asked_by_xml_rpc_from_then_on() {
    let answers = vec![
        html("404 Not Found"),
        html("404 Not Found"),
        xml(SHOWN),
        xml(SHOWN),
        fault(404, "Job '9' was not found."),
    ];
    let script = Script::of(answers).await;
    let server = script.server();
    assert_eq!(server.job("7").await.unwrap().value.health, "Incomplete");
    assert_eq!(server.job("8").await.unwrap().value.health, "Incomplete");
    assert!(matches!(server.job("9").await, Err(ServerError::NotFound { .. })));
    assert_eq!(
        script.lines().await,
        [
            "GET /api/v0.2/jobs/7/",
            "GET /api/v0.2/",
            "POST /RPC2",
            "POST /RPC2",
            "POST /RPC2"
        ]
    );
}

#[tokio::test]
async fn a_private_job_looks_like_none() {
    let unavailable = fault(403, "Job '4000.1' not available to user 'ada'.");
    let script = Script::of(vec![
        unavailable.clone(),
        unavailable,
        html("403 Forbidden"),
        html("401 Unauthorized"),
        fault(401, "Authentication failed."),
    ])
    .await;
    let server = script.server();
    let what = "job 4000.1".to_owned();
    assert_eq!(
        server.job("4000.1").await.unwrap_err(),
        ServerError::NotFound { what: what.clone() }
    );
    assert_eq!(
        server.failure("4000.1").await.unwrap_err(),
        ServerError::NotFound { what }
    );
    for status in [403, 401, 401] {
        let error = server.job("4000.1").await.unwrap_err();
        assert!(
            matches!(error, ServerError::Refused { status: Some(given), .. } if given == status),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_gateway_does_not_speak_for_lava() {
    // REST is known to be there: a 404 of somebody else passes.
    let script = Script::of(vec![
        json("200 OK", r#"{"version": "2026.07"}"#),
        html("404 Not Found"),
        html("404 Not Found"),
        json("404 Not Found", r#"{"message": "no Route matched"}"#),
        json("404 Not Found", r#"{"detail": "Not found."}"#),
    ])
    .await;
    let server = script.server();
    server.version().await.unwrap();
    assert!(server.job("7").await.unwrap_err().is_temporary());
    assert!(server.logs("7", 0).await.unwrap_err().is_temporary());
    assert!(server.job("7").await.unwrap_err().is_temporary());
    assert!(matches!(server.job("7").await, Err(ServerError::NotFound { .. })));
    assert_eq!(script.lines().await.len(), 5);
}

#[tokio::test]
async fn a_gateway_that_comes_first() {
    // Its JSON is no sign that REST is missing, and asks for nothing more.
    let script = Script::of(vec![json("404 Not Found", r#"{"message": "no Route matched"}"#)]).await;
    let error = script.server().job("7").await.unwrap_err();
    assert!(error.is_temporary(), "{error:?}");
    // The root of the API is there: what came before was of somebody else.
    let root = json("200 OK", r#"{"jobs": "http://x/api/v0.2/jobs/"}"#);
    let script = Script::of(vec![html("404 Not Found"), root, html("404 Not Found")]).await;
    let server = script.server();
    assert!(server.job("7").await.unwrap_err().is_temporary());
    assert!(server.job("7").await.unwrap_err().is_temporary());
    let expected = ["GET /api/v0.2/jobs/7/", "GET /api/v0.2/", "GET /api/v0.2/jobs/7/"];
    assert_eq!(script.lines().await, expected);
    // An outage of some seconds: nothing is remembered of it.
    let missing = || html("404 Not Found");
    let script = Script::of(vec![missing(), missing(), missing(), json("200 OK", JOB)]).await;
    let server = script.server();
    let error = server.job("7").await.unwrap_err();
    assert!(
        matches!(error, ServerError::Unexpected { status: Some(404), .. }),
        "{error:?}"
    );
    assert_eq!(server.job("7").await.unwrap().value.state, "Running");
    let expected = [
        "GET /api/v0.2/jobs/7/",
        "GET /api/v0.2/",
        "POST /RPC2",
        "GET /api/v0.2/jobs/7/",
    ];
    assert_eq!(script.lines().await, expected);
}

#[tokio::test]
async fn a_server_that_is_not_lava() {
    let since = "2026-11-21T05:00:00Z".parse().unwrap();
    let missing = || html("404 Not Found");
    let script = Script::of(vec![missing(), missing(), missing()]).await;
    let error = script.server().submitted_since("ada", since).await.unwrap_err();
    assert!(
        matches!(error, ServerError::Unexpected { status: Some(404), .. }),
        "{error:?}"
    );
    // With XML-RPC it is LAVA, without REST.
    let version = xml("<string>2018.1</string>");
    let script = Script::of(vec![missing(), missing(), version]).await;
    let server = script.server();
    for _ in 0..2 {
        let error = server.submitted_since("ada", since).await.unwrap_err();
        assert!(matches!(error, ServerError::NotFound { .. }), "{error:?}");
    }
    // A 404 at /RPC2 is never about a job.
    for body in [r#"{"detail": "Not found."}"#, r#"{"message": "no"}"#] {
        let script = Script::of(vec![json("404 Not Found", body)]).await;
        let error = script.server().job("4000.1").await.unwrap_err();
        assert!(
            matches!(error, ServerError::Unexpected { status: Some(404), .. }),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn no_error_repeats_the_token() {
    let long = "x".repeat(190);
    for status in [
        "200 OK",
        "400 Bad Request",
        "403 Forbidden",
        "404 Not Found",
        "502 Bad Gateway",
    ] {
        for body in [
            format!("Authorization: {ECHO_TOKEN}"),
            // Half of it would stand before the cut.
            format!("{long}{ECHO_TOKEN}"),
            format!(r#"{{"message": "Authorization: {ECHO_TOKEN}"}}"#),
            format!(r#"{{"headers": ["Authorization: {ECHO_TOKEN}"]}}"#),
        ] {
            // After a plain 404 the root is asked and then XML-RPC: both do as the first.
            let basic = body.replace(ECHO_TOKEN, ECHO_BASIC);
            let answers = vec![
                answer(status, "text/plain", &body),
                answer(status, "text/plain", &body),
                answer(status, "text/plain", &basic),
            ];
            let error = Script::of(answers).await.server().job("7").await.unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(shown.contains('…'), "{status}: {shown}");
            assert!(!shown.contains("s3c") && !shown.contains("YWRh"), "{status}: {shown}");
        }
        for body in [format!("Authorization: {ECHO_BASIC}"), format!("{long}{ECHO_BASIC}")] {
            let script = Script::of(vec![answer(status, "text/xml", &body)]).await;
            let error = script.server().job("4000.1").await.unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(shown.contains('…'), "{status}: {shown}");
            assert!(!shown.contains("YWRh") && !shown.contains("s3c"), "{status}: {shown}");
        }
    }
    for code in [1, 401] {
        let script = Script::of(vec![fault(code, &format!("token s3cret, {ECHO_BASIC}"))]).await;
        let error = script.server().job("4000.1").await.unwrap_err();
        assert!(error.to_string().contains("token …, Basic …"), "{error}");
    }
    let moved = format!(
        "HTTP/1.1 302 Found\r\nLocation: http://x/?{ECHO_TOKEN}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    let script = Script::of(vec![moved]).await;
    let error = script.server().job("7").await.unwrap_err();
    assert_eq!(
        error,
        ServerError::Unexpected {
            status: Some(302),
            excerpt: "sent on to http://x/?Token …".to_owned()
        }
    );
}

#[tokio::test]
async fn no_error_repeats_the_token_of_a_user_that_was_asked_for() {
    let script = Script::of(vec![
        json("200 OK", r#"{"user": "ada"}"#),
        answer("200 OK", "text/plain", &format!("Authorization: {ECHO_BASIC}")),
    ])
    .await;
    let mut identity = script.identity();
    identity.username = None;
    let server = lavabus_lava::Server::new(&identity).unwrap();
    let error = server.job("4000.1").await.unwrap_err();
    assert!(error.to_string().contains("Authorization: Basic …"), "{error}");
}

#[tokio::test]
async fn every_ending_by_what_can_be_done() {
    let refused = |status| ServerError::Refused {
        status: Some(status),
        message: "no".to_owned(),
    };
    for (answer, expected) in [
        (json("401 Unauthorized", r#"{"detail": "no"}"#), Some(refused(401))),
        (json("403 Forbidden", r#"{"detail": "no"}"#), Some(refused(403))),
        (html("502 Bad Gateway"), None),
        (json("429 Too Many Requests", "{}"), None),
        (json("200 OK", JOB)[..300].to_owned(), None),
        (String::new(), None),
    ] {
        let script = Script::of(vec![answer.clone()]).await;
        let error = script.server().job("7").await.unwrap_err();
        match expected {
            Some(expected) => assert_eq!(error, expected),
            None => assert!(error.is_temporary(), "{answer}: {error:?}"),
        }
    }
    let script = Script::of(vec![html("200 OK")]).await;
    let error = script.server().job("7").await.unwrap_err();
    assert!(
        matches!(error, ServerError::Unexpected { status: Some(200), .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn who_and_which_version() {
    let script = Script::of(vec![
        json("200 OK", r#"{"user": "ada"}"#),
        json("200 OK", r#"{"user": ""}"#),
        json("200 OK", r#"{"version": "2026.07"}"#),
    ])
    .await;
    let server = script.server();
    assert_eq!(server.whoami().await.unwrap().as_deref(), Some("ada"));
    assert_eq!(server.whoami().await.unwrap(), None);
    assert_eq!(server.version().await.unwrap(), "2026.07");
    assert_eq!(
        script.lines().await,
        [
            "GET /api/v0.2/system/whoami/",
            "GET /api/v0.2/system/whoami/",
            "GET /api/v0.2/system/version/"
        ]
    );
}

#[tokio::test]
async fn devices_and_workers() {
    let script = Script::of(vec![
        json(
            "200 OK",
            r#"{"hostname": "q", "device_type": "qemu", "state": "Idle", "health": "Good", "worker_host": "w"}"#,
        ),
        json("200 OK", r#"{"hostname": "w", "state": "Online", "health": "Active"}"#),
    ])
    .await;
    let server = script.server();
    let device = server.device("q").await.unwrap().value;
    assert_eq!(
        (device.state.as_str(), device.health.as_str(), device.worker.as_deref()),
        ("Idle", "Good", Some("w"))
    );
    assert_eq!(server.worker("w").await.unwrap().value.health, "Active");
    assert_eq!(
        script.lines().await,
        ["GET /api/v0.2/devices/q/", "GET /api/v0.2/workers/w/"]
    );
}

/// What is not told is absent, and no error.
#[tokio::test]
async fn an_explanation_of_which_parts_are_missing() {
    let bare = r#"{"id": 7, "state": "Finished", "health": "Incomplete"}"#;
    let suites = r#"{"results": [{"id": 4, "name": "smoke"}, {"id": 5, "name": "lava"}]}"#;
    let case = |metadata: &str| {
        let results = serde_json::json!({"results": [{"name": "validate"}, {"name": "job", "metadata": metadata}]});
        json("200 OK", &results.to_string())
    };
    let script = Script::of(vec![
        json("200 OK", bare),
        json("200 OK", r#"{"results": []}"#),
        // An old server that passes over the filter.
        json("200 OK", bare),
        json("200 OK", suites),
        json("200 OK", r#"{"results": []}"#),
        json("200 OK", bare),
        json("200 OK", suites),
        case(""),
        json("200 OK", bare),
        json("200 OK", suites),
        case("error_type: {a: [b"),
        json("200 OK", bare),
        json("200 OK", suites),
        case("case: job\nerror_msg: ''\nerror_type: Bug\n"),
        json("200 OK", "{}"),
    ])
    .await;
    let server = script.server();
    let mut expected = Explanation {
        state: "Finished".to_owned(),
        ..Explanation::default()
    };
    for _ in 0..4 {
        assert_eq!(server.explanation("7").await.unwrap(), expected);
    }
    expected.failure.error_type = Some("Bug".to_owned());
    assert_eq!(server.explanation("7").await.unwrap(), expected);
    let error = server.explanation("7").await.unwrap_err();
    assert!(matches!(error, ServerError::Unexpected { .. }), "{error:?}");
    let lines = script.lines().await;
    assert_eq!(
        lines[4],
        "GET /api/v0.2/jobs/7/suites/5/tests/?name=job&limit=500&offset=0"
    );
}

#[tokio::test]
async fn why_a_job_failed() {
    let job = JOB.replace(r#""failure_comment": null"#, r#""failure_comment": "power cut""#);
    let metadata = r#"{"results": [{"id": 9, "name": "job", "metadata": "{case: job, error_type: Infrastructure, error_msg: 'no power', result: fail}\n"}]}"#;
    let script = Script::of(vec![
        json("200 OK", &job),
        json("200 OK", r#"{"results": [{"id": 5, "name": "lava"}]}"#),
        json("200 OK", metadata),
        xml(SHOWN),
    ])
    .await;
    let server = script.server();
    let some = |text: &str| Some(text.to_owned());
    let expected = Failure {
        error_type: some("Infrastructure"),
        error_msg: some("no power"),
        failure_comment: some("power cut"),
    };
    assert_eq!(server.failure("1995").await.unwrap(), expected);
    let expected = Failure {
        error_type: some("Job"),
        error_msg: some("no kernel"),
        failure_comment: None,
    };
    assert_eq!(server.failure("4000.1").await.unwrap(), expected);
    assert_eq!(
        script.lines().await,
        [
            "GET /api/v0.2/jobs/1995/",
            "GET /api/v0.2/jobs/1995/suites/?name=lava&limit=500&offset=0",
            "GET /api/v0.2/jobs/1995/suites/5/tests/?name=job&limit=500&offset=0",
            "POST /RPC2"
        ]
    );
}

#[tokio::test]
async fn jobs_of_a_user_since_a_time() {
    let page = r#"{"results": [
        {"id": 4, "submitter": "ada", "submit_time": "2026-11-21T05:01:00Z", "original_definition": "a"},
        {"id": 3, "submitter": "bob", "submit_time": "2026-11-21T05:00:30Z", "original_definition": "b"},
        {"id": 2, "submitter": "ada", "submit_time": "2026-11-21T05:00:00Z", "original_definition": "c", "multinode_definition": "m"},
        {"id": 1, "submitter": "ada", "submit_time": "2026-11-21T04:59:59Z", "original_definition": "d"}]}"#;
    let script = Script::of(vec![json("200 OK", page), xml(SHOWN)]).await;
    let since = "2026-11-21T05:00:00Z".parse().unwrap();
    let found = script.server().submitted_since("ada", since).await.unwrap();
    let ids: Vec<&str> = found.iter().map(|job| job.id.as_str()).collect();
    assert_eq!(ids, ["4", "2"]);
    assert_eq!(found[1].multinode_definition.as_deref(), Some("m"));
    assert_eq!((&found[0].sub_id, found[1].sub_id.as_deref()), (&None, Some("4000.1")));
    assert_eq!(
        script.lines().await,
        [
            "GET /api/v0.2/jobs/?submitter__username=ada&submit_time__gt=2026-11-21T04%3A59%3A59Z&ordering=-id&limit=50&offset=0",
            "POST /RPC2"
        ]
    );
}

/// A page of jobs of ada, newest first, all of multinode definitions.
fn parts(count: usize) -> String {
    let part = |id: usize| {
        format!(
            r#"{{"id": {id}, "submitter": "ada", "submit_time": "2026-11-21T05:01:00Z", "multinode_definition": "m"}}"#
        )
    };
    let parts: Vec<String> = (1..=count).rev().map(part).collect();
    json("200 OK", &format!(r#"{{"results": [{}]}}"#, parts.join(",")))
}

#[tokio::test]
async fn sub_ids_are_asked_for_a_few_jobs_only() {
    let mut answers = vec![parts(22)];
    answers.extend((0..20).map(|_| xml(SHOWN)));
    let script = Script::of(answers).await;
    let since = "2026-11-21T05:00:00Z".parse().unwrap();
    let found = script.server().submitted_since("ada", since).await.unwrap();
    let told = found.iter().filter(|job| job.sub_id.is_some()).count();
    assert_eq!((found.len(), told), (22, 20));
    assert!(found[19].sub_id.is_some() && found[20].sub_id.is_none());
    let requests = script.requests().await;
    assert_eq!(requests.len(), 21);
    assert!(requests[1].contains("<methodName>scheduler.jobs.show</methodName>"));
    assert!(requests[1].contains("<string>22</string>"), "{}", requests[1]);
}

#[tokio::test]
async fn a_sub_id_that_is_not_told_hides_no_job() {
    let script = Script::of(vec![
        parts(2),
        fault(403, "Job '2' not available to user 'ada'."),
        html("401 Unauthorized"),
        parts(1),
        html("502 Bad Gateway"),
    ])
    .await;
    let server = script.server();
    let since = "2026-11-21T05:00:00Z".parse().unwrap();
    let found = server.submitted_since("ada", since).await.unwrap();
    assert_eq!((found.len(), &found[0].sub_id, &found[1].sub_id), (2, &None, &None));
    let error = server.submitted_since("ada", since).await.unwrap_err();
    assert!(error.is_temporary(), "{error:?}");
}

#[tokio::test]
async fn the_sub_id_of_a_job() {
    let alone = "<struct><member><name>id</name><value><int>7</int></value></member></struct>";
    let script = Script::of(vec![xml(SHOWN), xml(alone), fault(404, "Job '9' was not found.")]).await;
    let server = script.server();
    assert_eq!(server.sub_id("4001").await.unwrap().as_deref(), Some("4000.1"));
    assert_eq!(server.sub_id("7").await.unwrap(), None);
    assert!(matches!(server.sub_id("9").await, Err(ServerError::NotFound { .. })));
    assert!(matches!(server.sub_id("x").await, Err(ServerError::NotFound { .. })));
}

#[tokio::test]
async fn a_job_is_cancelled() {
    let script = Script::of(vec![
        json("200 OK", r#"{"message": "Job cancel signal sent."}"#),
        xml("<boolean>1</boolean>"),
        fault(403, "Permission denied."),
    ])
    .await;
    let server = script.server();
    server.cancel("7").await.unwrap();
    server.cancel("7.0").await.unwrap();
    assert!(matches!(server.cancel("7.1").await, Err(ServerError::Refused { .. })));
    assert_eq!(
        script.lines().await,
        ["GET /api/v0.2/jobs/7/cancel/", "POST /RPC2", "POST /RPC2"]
    );
}

#[tokio::test]
async fn a_log_line_by_line() {
    let yaml = |body: &str| answer("200 OK", "application/yaml", body);
    let missing = || json("404 Not Found", r#"{"detail": "Not found."}"#);
    let line = |message: &str| format!("- {{\"dt\": \"d\", \"lvl\": \"info\", \"msg\": \"{message}\"}}\n");
    let unfinished = "- {\"dt\": \"d\", \"lvl\":";
    let script = Script::of(vec![
        missing(),
        yaml(&format!("{}{}{unfinished}", line("one"), line("two"))),
        yaml(&line("three")),
        missing(),
        // [False, "[]"] and [True, …]
        xml("<array><data><value><boolean>0</boolean></value><value><base64>W10=</base64></value></data></array>"),
        xml(
            "<array><data><value><boolean>1</boolean></value><value><base64>LSB7ImR0IjogImQiLCAibHZsIjogImluZm8iLCAibXNnIjogIngifQo=</base64></value></data></array>",
        ),
    ])
    .await;
    let server = script.server();
    assert_eq!(server.logs("7", 0).await.unwrap(), []);
    let messages = |lines: Vec<LogLine>| lines.into_iter().map(|line| line.message).collect::<Vec<_>>();
    assert_eq!(messages(server.logs("7", 0).await.unwrap()), ["one", "two"]);
    assert_eq!(messages(server.logs("7", 2).await.unwrap()), ["three"]);
    assert_eq!(server.logs("7", 3).await.unwrap(), []);
    assert_eq!(server.logs("7.0", 0).await.unwrap(), []);
    assert_eq!(messages(server.logs("7.0", 0).await.unwrap()), ["x"]);
    let lines = script.lines().await;
    assert_eq!(
        lines[1..4],
        [
            "GET /api/v0.2/jobs/7/logs/?start=0",
            "GET /api/v0.2/jobs/7/logs/?start=2",
            "GET /api/v0.2/jobs/7/logs/?start=3"
        ]
    );
}

#[tokio::test]
async fn tests_of_all_pages() {
    let script = Script::of(vec![
        json(
            "200 OK",
            r#"{"count": 2, "next": null, "results": [{"id": 1, "name": "lava"}, {"id": 2, "name": "smoke"}]}"#,
        ),
        json(
            "200 OK",
            r#"{"next": "http://x/", "results": [{"name": "job", "result": "pass", "suite": 1}]}"#,
        ),
        json(
            "200 OK",
            r#"{"next": null, "results": [{"name": "uname", "result": "fail", "suite": 2}]}"#,
        ),
        xml("<string>- {name: a, suite: s, result: skip, job: '5'}\n</string>"),
    ])
    .await;
    let server = script.server();
    let case = |suite: &str, name: &str, result: &str| TestCase {
        suite: suite.to_owned(),
        name: name.to_owned(),
        result: result.to_owned(),
    };
    let tests = server.tests("7").await.unwrap();
    assert_eq!(tests, [case("lava", "job", "pass"), case("smoke", "uname", "fail")]);
    assert_eq!(server.tests("7.0").await.unwrap(), [case("s", "a", "skip")]);
    let lines = script.lines().await;
    assert_eq!(
        lines[1..3],
        [
            "GET /api/v0.2/jobs/7/tests/?ordering=id&limit=500&offset=0",
            "GET /api/v0.2/jobs/7/tests/?ordering=id&limit=500&offset=1"
        ]
    );
}

#[tokio::test]
async fn junit_also_of_a_sub_id() {
    let script = Script::of(vec![
        answer("200 OK", "application/xml", "<?xml version=\"1.0\"?><testsuites/>"),
        xml("<string>- {id: '1', job: '4001', name: lava}\n</string>"),
        answer("200 OK", "application/xml", "<?xml version=\"1.0\"?><testsuites/>"),
    ])
    .await;
    let server = script.server();
    server.junit("7").await.unwrap();
    server.junit("4000.1").await.unwrap();
    assert_eq!(
        script.lines().await,
        [
            "GET /api/v0.2/jobs/7/junit/",
            "POST /RPC2",
            "GET /api/v0.2/jobs/4001/junit/"
        ]
    );
}

#[test]
fn the_host_of_a_server() {
    let host = |uri: &str| {
        let identity = lavabus_lava::Identity::anonymous(uri).unwrap();
        let server = lavabus_lava::Server::new(&identity).unwrap();
        server.host().map(str::to_owned)
    };
    assert_eq!(
        host("https://lab.example.com:8443/x/RPC2").as_deref(),
        Some("lab.example.com")
    );
    assert_eq!(host("http://[::1]:8000/").as_deref(), Some("[::1]"));
}

#[tokio::test]
async fn the_socket_of_events() {
    let script = Script::of(vec![xml("<string>tcp://*:5500</string>")]).await;
    assert_eq!(script.server().events_socket().await.unwrap(), "tcp://127.0.0.1:5500");
    let mut identity = script.identity();
    identity.events.uri = Some("tcp://events.example.com:5500".to_owned());
    let server = lavabus_lava::Server::new(&identity).unwrap();
    assert_eq!(server.events_socket().await.unwrap(), "tcp://events.example.com:5500");
}

#[tokio::test]
async fn a_redirect_is_followed_on_the_same_host_only() {
    let moved =
        |to: &str| format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let elsewhere = Script::of(vec![json("200 OK", JOB)]).await;
    let there = elsewhere.uri.clone();
    let script = Script::of(vec![moved("/moved/"), json("200 OK", JOB), moved(&there)]).await;
    let server = script.server();
    server.job("7").await.unwrap();
    let error = server.job("7").await.unwrap_err();
    assert_eq!(
        error,
        ServerError::Unexpected {
            status: Some(302),
            excerpt: format!("sent on to {there}")
        }
    );
    assert_eq!(
        script.lines().await,
        ["GET /api/v0.2/jobs/7/", "GET /moved/", "GET /api/v0.2/jobs/7/"]
    );
}

#[tokio::test]
async fn a_token_without_a_user_name_asks_for_it_once() {
    let script = Script::of(vec![json("200 OK", r#"{"user": "eve"}"#), xml(SHOWN), xml(SHOWN)]).await;
    let mut identity = script.identity();
    identity.username = None;
    let server = lavabus_lava::Server::new(&identity).unwrap();
    server.job("4000.1").await.unwrap();
    server.job("4000.1").await.unwrap();
    let requests = script.requests().await;
    // eve:s3cret
    assert!(
        requests[2].contains("\r\nauthorization: Basic ZXZlOnMzY3JldA==\r\n"),
        "{}",
        requests[2]
    );
}

#[tokio::test]
async fn a_proxy_is_used() {
    let proxy = Script::of(vec![json("200 OK", JOB)]).await;
    let mut identity = lavabus_lava::Identity::anonymous("http://lava.example.invalid/").unwrap();
    identity.proxy = Some(proxy.uri.clone());
    lavabus_lava::Server::new(&identity).unwrap().job("7").await.unwrap();
    assert_eq!(
        proxy.lines().await,
        ["GET http://lava.example.invalid/api/v0.2/jobs/7/"]
    );
}
