//! What is known of a job when its submission ends in one way or another.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

#[allow(dead_code)]
mod script;

use std::time::Duration;

use lavabus_lava::{Identity, Server, ServerError, SubmitError};
use script::{Script, answer, fault, html, json, xml};
use tokio::net::TcpListener;

async fn submitted(answers: Vec<String>) -> (Result<Vec<String>, SubmitError>, Vec<String>) {
    let script = Script::of(answers).await;
    let result = script.server().submit("job_name: \"x\"\n").await;
    (result, script.requests().await)
}

#[tokio::test]
async fn an_integer() {
    let body = r#"{"message": "job(s) successfully submitted", "job_ids": [20]}"#;
    let (result, requests) = submitted(vec![json("201 Created", body)]).await;
    assert_eq!(result, Ok(vec!["20".to_owned()]));
    let request = &requests[0];
    assert!(request.starts_with("POST /api/v0.2/jobs/ HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("\r\nauthorization: Token s3cret\r\n"), "{request}");
    assert!(request.ends_with(r#"{"definition":"job_name: \"x\"\n"}"#), "{request}");
}

#[tokio::test]
async fn sub_ids() {
    let body = r#"{"message": "m", "job_ids": ["4000.0", "4000.1"]}"#;
    let (result, _) = submitted(vec![json("201 Created", body)]).await;
    assert_eq!(result, Ok(vec!["4000.0".to_owned(), "4000.1".to_owned()]));
}

#[tokio::test]
async fn a_declined_definition() {
    let body = r#"{"message": "Problem with submitted job data: required key not provided @ data['timeouts']"}"#;
    let (result, _) = submitted(vec![json("400 Bad Request", body)]).await;
    let message = "Problem with submitted job data: required key not provided @ data['timeouts']".to_owned();
    assert_eq!(result, Err(SubmitError::Rejected { message }));
    // A web server in front that knows no such host.
    let (result, _) = submitted(vec![html("400 Bad Request")]).await;
    assert!(
        matches!(result, Err(SubmitError::Unexpected { status: Some(400), .. })),
        "{result:?}"
    );
}

#[tokio::test]
async fn a_token_that_is_not_good() {
    for (status, number) in [("401 Unauthorized", 401), ("403 Forbidden", 403)] {
        let (result, _) = submitted(vec![json(status, r#"{"detail": "Invalid token."}"#)]).await;
        let expected = SubmitError::Refused {
            status: Some(number),
            message: "Invalid token.".to_owned(),
        };
        assert_eq!(result, Err(expected));
    }
}

#[tokio::test]
async fn a_refusal_in_the_servers_own_words() {
    for (answer, words) in [
        (
            json(
                "403 Forbidden",
                r#"{"detail": "Authentication credentials were not provided."}"#,
            ),
            "Authentication credentials were not provided.",
        ),
        (
            json("403 Forbidden", r#"{"message": "ada may not submit to qemu"}"#),
            "ada may not submit to qemu",
        ),
        (
            script::answer("403 Forbidden", "text/plain", "blocked by the firewall"),
            "blocked by the firewall",
        ),
    ] {
        let (result, _) = submitted(vec![answer]).await;
        let expected = SubmitError::Refused {
            status: Some(403),
            message: words.to_owned(),
        };
        assert_eq!(result, Err(expected));
    }
}

#[tokio::test]
async fn a_definition_that_is_too_large() {
    let too_large = || html("413 Request Entity Too Large");
    let message = "it is too large for the server (413)".to_owned();
    let expected = Err(SubmitError::Rejected { message });
    let (result, _) = submitted(vec![too_large()]).await;
    assert_eq!(result, expected);
    let (result, _) = submitted(vec![html("404 Not Found"), too_large()]).await;
    assert_eq!(result, expected);
}

#[tokio::test]
async fn a_404_of_somebody_in_the_way() {
    let not_sent = |result: &Result<Vec<String>, SubmitError>| matches!(result, Err(SubmitError::NotSent(error)) if error.is_temporary() && error.to_string().contains("404"));
    let (result, _) = submitted(vec![json("404 Not Found", r#"{"message": "no Route matched"}"#)]).await;
    assert!(not_sent(&result), "{result:?}");
    // REST took a job before: XML-RPC is not asked in its place.
    let taken = json("201 Created", r#"{"message": "m", "job_ids": [20]}"#);
    let script = Script::of(vec![taken, html("404 Not Found")]).await;
    let server = script.server();
    assert!(server.submit("x").await.is_ok());
    let result = server.submit("x").await;
    assert!(not_sent(&result), "{result:?}");
    assert_eq!(script.requests().await.len(), 2);
}

#[tokio::test]
async fn without_rest_by_xml_rpc() {
    let (result, requests) = submitted(vec![html("404 Not Found"), xml("<int>7</int>")]).await;
    assert_eq!(result, Ok(vec!["7".to_owned()]));
    assert!(requests[1].starts_with("POST /RPC2 HTTP/1.1\r\n"), "{}", requests[1]);
    // ada:s3cret
    assert!(
        requests[1].contains("\r\nauthorization: Basic YWRhOnMzY3JldA==\r\n"),
        "{}",
        requests[1]
    );
    assert!(requests[1].contains("<methodName>scheduler.jobs.submit</methodName>"));
    let list =
        "<array><data>\n<value><string>7.0</string></value>\n<value><string>7.1</string></value>\n</data></array>";
    let (result, _) = submitted(vec![json("405 Method Not Allowed", r#"{"detail": "x"}"#), xml(list)]).await;
    assert_eq!(result, Ok(vec!["7.0".to_owned(), "7.1".to_owned()]));
}

#[tokio::test]
async fn faults_of_xml_rpc() {
    let (result, _) = submitted(vec![html("404 Not Found"), fault(400, "bad @ data")]).await;
    assert!(matches!(result, Err(SubmitError::Rejected { .. })), "{result:?}");
    let (result, _) = submitted(vec![html("404 Not Found"), fault(401, "Authentication")]).await;
    assert!(
        matches!(result, Err(SubmitError::Refused { status: Some(401), .. })),
        "{result:?}"
    );
    let (result, _) = submitted(vec![html("404 Not Found"), fault(-32603, "Internal Server Error")]).await;
    assert!(matches!(result, Err(SubmitError::AnswerLost { .. })), "{result:?}");
    let (result, _) = submitted(vec![html("404 Not Found"), html("404 Not Found")]).await;
    assert!(
        matches!(result, Err(SubmitError::Unexpected { status: Some(404), .. })),
        "{result:?}"
    );
}

#[tokio::test]
async fn an_answer_that_is_lost() {
    let whole = json("201 Created", r#"{"message": "m", "job_ids": [20]}"#);
    for lost in [
        html("502 Bad Gateway"),
        html("500 Internal Server Error"),
        whole[..whole.len() - 10].to_owned(),
        whole[..20].to_owned(),
        String::new(),
        json("201 Created", r#"{"message": "m"}"#),
    ] {
        let (result, _) = submitted(vec![lost.clone()]).await;
        assert!(
            matches!(result, Err(SubmitError::AnswerLost { .. })),
            "{lost}: {result:?}"
        );
    }
}

#[tokio::test]
async fn an_answer_that_does_not_come() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut identity = Identity::anonymous(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    identity.timeout = Duration::from_millis(200);
    let result = Server::new(&identity).unwrap().submit("x").await;
    let cause = "no answer in time".to_owned();
    assert_eq!(result, Err(SubmitError::AnswerLost { cause }));
}

#[tokio::test]
async fn nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let result = Server::new(&Identity::anonymous(&uri).unwrap())
        .unwrap()
        .submit("x")
        .await;
    let Err(SubmitError::NotSent(error)) = result else {
        panic!("{result:?}")
    };
    assert!(error.is_temporary(), "{error}");
}

#[tokio::test]
async fn too_many_requests_were_not_looked_at() {
    let (result, _) = submitted(vec![json("429 Too Many Requests", r#"{"detail": "later"}"#)]).await;
    assert!(
        matches!(&result, Err(SubmitError::NotSent(error)) if error.is_temporary()),
        "{result:?}"
    );
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let moved =
        "HTTP/1.1 308 Permanent Redirect\r\nLocation: https://127.0.0.1/x\r\nContent-Length: 0\r\n\r\n".to_owned();
    let (result, _) = submitted(vec![moved]).await;
    let Err(SubmitError::Unexpected { status, excerpt }) = result else {
        panic!("{result:?}")
    };
    assert_eq!(
        (status, excerpt.as_str()),
        (Some(308), "sent on to https://127.0.0.1/x")
    );
}

#[tokio::test]
async fn tls_that_is_none() {
    // A plain server where TLS is spoken: it sees no request.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("https://{}", listener.local_addr().unwrap());
    let plain = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 1024]).await.unwrap();
        stream
            .write_all(answer("400 Bad Request", "text/plain", "x").as_bytes())
            .await
            .unwrap();
        stream.shutdown().await.unwrap();
    });
    let result = Server::new(&Identity::anonymous(&uri).unwrap())
        .unwrap()
        .submit("x")
        .await;
    let certificate = matches!(&result, Err(SubmitError::NotSent(ServerError::Certificate { .. })));
    assert!(certificate, "{result:?}");
    plain.await.unwrap();
}

#[tokio::test]
async fn no_error_repeats_the_token() {
    let (result, _) = submitted(vec![answer(
        "400 Bad Request",
        "text/plain",
        "Authorization: Token s3cret",
    )])
    .await;
    let shown = format!("{result:?}");
    assert!(shown.contains("Token …") && !shown.contains("s3cret"), "{shown}");
    let echo_token = format!("Authorization: {}", script::ECHO_TOKEN);
    let echo_basic = format!("Authorization: {}", script::ECHO_BASIC);
    for status in ["200 OK", "201 Created", "403 Forbidden", "502 Bad Gateway"] {
        for answers in [
            vec![answer(status, "text/plain", &echo_token)],
            vec![json(status, &format!(r#"{{"message": "{echo_token}"}}"#))],
            vec![html("404 Not Found"), answer(status, "text/plain", &echo_basic)],
        ] {
            let (result, _) = submitted(answers).await;
            let shown = format!("{result:?}");
            assert!(shown.contains('…'), "{status}: {shown}");
            assert!(
                !shown.contains("s3cret") && !shown.contains("YWRh"),
                "{status}: {shown}"
            );
        }
    }
    for code in [1, 400, 401, -32601] {
        let words = format!("token s3cret, {}", script::ECHO_BASIC);
        let (result, _) = submitted(vec![html("404 Not Found"), fault(code, &words)]).await;
        let shown = format!("{result:?}");
        assert!(shown.contains("token …, Basic …"), "{shown}");
    }
}
