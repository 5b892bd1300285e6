//! XML-RPC, and the failures on demand.
#![allow(clippy::unwrap_used, missing_docs)]

mod peer;

use std::time::{Duration, Instant};

use dxr::{FaultResponse, MethodCall, MethodResponse, Value};
use lava_stand_in::{Failure, Job, LavaServer, Options};
use peer::{ADMIN, basic, get, submit, try_ask};

async fn call(
    lava: &LavaServer,
    authorization: Option<&str>,
    name: &str,
    params: Vec<Value>,
) -> Result<Value, (i32, String)> {
    let body = MethodCall {
        name: name.into(),
        params,
    }
    .to_xml()
    .unwrap();
    let answer = try_ask(lava, "POST", "/RPC2", authorization, Some(("text/xml", &body)))
        .await
        .unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    match MethodResponse::from_xml(&answer.body) {
        Ok(response) => Ok(response.value),
        Err(_) => {
            let fault = FaultResponse::from_xml(&answer.body)
                .unwrap_or_else(|_| panic!("{answer:?}"))
                .fault;
            Err((fault.code(), fault.string().to_owned()))
        }
    }
}

fn text(value: &str) -> Value {
    Value::String(value.to_owned())
}

#[tokio::test]
async fn submit_show_cancel() {
    let lava = LavaServer::start_with(Options {
        first_job: 7,
        ..Options::default()
    })
    .await;
    let admin = basic("admin", LavaServer::ADMIN_TOKEN);
    let admin = Some(admin.as_str());
    let id = call(
        &lava,
        admin,
        "scheduler.jobs.submit",
        vec![text("{job_name: x, visibility: public}")],
    )
    .await;
    assert_eq!(id, Ok(Value::Integer(7)));
    let Ok(Value::Struct(shown)) = call(&lava, None, "scheduler.jobs.show", vec![Value::Integer(7)]).await else {
        panic!("no struct");
    };
    assert_eq!(
        (&shown["id"], &shown["state"], &shown["visibility"]),
        (&Value::Integer(7), &text("Submitted"), &text("Public"))
    );
    assert!(matches!(shown["submit_time"], Value::DateTime(_)));
    assert_eq!((&shown["start_time"], &shown["error_type"]), (&Value::Nil, &Value::Nil));
    assert_eq!(
        call(&lava, admin, "scheduler.jobs.cancel", vec![text("7")]).await,
        Ok(Value::Boolean(true))
    );
    assert_eq!(lava.job("7").health, "Canceled");
}

#[tokio::test]
async fn sub_ids_are_found() {
    let lava = LavaServer::start().await;
    let admin = basic("admin", LavaServer::ADMIN_TOKEN);
    let definition = "{job_name: x, protocols: {lava-multinode: {roles: {a: {count: 2}}}}}";
    let ids = call(&lava, Some(&admin), "scheduler.jobs.submit", vec![text(definition)]).await;
    assert_eq!(ids, Ok(Value::Array(vec![text("1.0"), text("1.1")])));
    let Ok(Value::Struct(shown)) = call(&lava, Some(&admin), "scheduler.jobs.show", vec![text("1.1")]).await else {
        panic!("no struct");
    };
    assert_eq!(shown["id"], text("1.1"));
}

#[tokio::test]
async fn faults_and_refusals() {
    let lava = LavaServer::start().await;
    lava.add_user("bob", "bob-token");
    let bob = basic("bob", "bob-token");
    let bob = Some(bob.as_str());
    let private = lava.add_job(Job {
        private: true,
        ..Job::default()
    });
    let public = lava.add_job(Job::default());
    let fault = |code: i32, why: &str| Err((code, why.to_owned()));
    for (user, name, parameter, expected) in [
        (
            bob,
            "scheduler.jobs.show",
            text("99"),
            fault(404, "Job '99' was not found."),
        ),
        (
            bob,
            "scheduler.jobs.show",
            text("x"),
            fault(404, "Job 'x' was not found."),
        ),
        (
            bob,
            "scheduler.jobs.show",
            text("9.9"),
            fault(404, "Job '9.9' was not found."),
        ),
        (
            bob,
            "scheduler.jobs.show",
            text(&private),
            fault(403, &format!("Job '{private}' not available to user 'bob'.")),
        ),
        (
            None,
            "scheduler.jobs.show",
            text(&private),
            fault(403, &format!("Job '{private}' not available to user 'None'.")),
        ),
        (
            None,
            "scheduler.jobs.submit",
            text("{job_name: x}"),
            fault(401, "Authentication with user and token required for this API."),
        ),
        (
            bob,
            "scheduler.jobs.submit",
            text("a: b"),
            fault(
                400,
                "Problem with submitted job data: required key not provided @ data['job_name']",
            ),
        ),
        (
            bob,
            "scheduler.jobs.cancel",
            text("99"),
            fault(404, "Job '99' was not found."),
        ),
        (
            bob,
            "scheduler.jobs.cancel",
            text(""),
            fault(400, "Bad request: TestJob id was not specified."),
        ),
        (
            bob,
            "scheduler.jobs.cancel",
            text(&public),
            fault(403, "Permission denied."),
        ),
        (
            None,
            "scheduler.jobs.cancel",
            text(&public),
            fault(401, "Authentication with user and token required for this API."),
        ),
        (bob, "no.such", text(""), fault(-32_601, "No such method: 'no.such'")),
    ] {
        assert_eq!(
            call(&lava, user, name, vec![parameter.clone()]).await,
            expected,
            "{name} {parameter:?}"
        );
    }
    for (authorization, status) in [
        (basic("bob", "wrong"), 401),
        (basic("no", "bob-token"), 401),
        (ADMIN.into(), 400),
        ("Basic !".into(), 400),
        ("Basic".into(), 400),
    ] {
        let answer = try_ask(&lava, "POST", "/RPC2", Some(&authorization), Some(("text/xml", "<x/>")))
            .await
            .unwrap();
        assert_eq!(answer.status, status, "{authorization}");
    }
    let broken = try_ask(&lava, "POST", "/RPC2", None, Some(("text/xml", "<x/>")))
        .await
        .unwrap();
    assert!(broken.status == 200 && broken.body.contains("-32600"), "{broken:?}");
    assert_eq!(get(&lava, "/RPC2", None).await.status, 302);
}

#[tokio::test]
async fn the_event_socket_and_the_version() {
    let lava = LavaServer::start_with(Options {
        events_socket: "tcp://*:5501".into(),
        ..Options::default()
    })
    .await;
    assert_eq!(
        call(&lava, None, "scheduler.get_publisher_event_socket", vec![]).await,
        Ok(text("tcp://*:5501"))
    );
    assert!(matches!(
        call(&lava, None, "system.version", vec![]).await,
        Ok(Value::String(_))
    ));
    let without = LavaServer::start_with(Options {
        xml_rpc: false,
        ..Options::default()
    })
    .await;
    let answer = try_ask(&without, "POST", "/RPC2", None, Some(("text/xml", "<x/>")))
        .await
        .unwrap();
    assert_eq!(answer.status, 404);
}

#[tokio::test]
async fn failures_on_demand() {
    let lava = LavaServer::start().await;
    let body = "{\"definition\": \"{job_name: x}\"}";
    let post = || {
        try_ask(
            &lava,
            "POST",
            "/api/v0.2/jobs/",
            Some(ADMIN),
            Some(("application/json", body)),
        )
    };

    lava.fail(Failure::CutAnswer, "POST /api/v0.2/jobs/", 1);
    assert_eq!(get(&lava, "/api/v0.2/jobs/", None).await.status, 200);
    assert!(post().await.is_none());
    assert_eq!((lava.submissions(), lava.jobs().len()), (1, 1));

    lava.fail(Failure::CloseBefore, "/api/v0.2/jobs/", 1);
    assert!(post().await.is_none());
    assert_eq!(lava.submissions(), 1);

    lava.fail(Failure::Status(502), "/api/", 2);
    assert_eq!(post().await.unwrap().status, 502);
    assert_eq!(get(&lava, "/api/v0.2/system/version/", None).await.status, 502);
    assert_eq!(get(&lava, "/api/v0.2/system/version/", None).await.status, 200);
    assert_eq!(lava.submissions(), 1);

    let delay = Duration::from_millis(50);
    lava.fail(Failure::Delay(delay), "/api/", 1);
    let begun = Instant::now();
    assert_eq!(submit(&lava, "{job_name: x}", Some(ADMIN)).await.status, 201);
    assert!(begun.elapsed() >= delay);

    lava.fail(Failure::Status(500), "/", 1_000);
    lava.heal();
    assert_eq!(get(&lava, "/api/v0.2/system/version/", None).await.status, 200);
    assert_eq!(
        lava.requests()
            .iter()
            .filter(|line| *line == "POST /api/v0.2/jobs/")
            .count(),
        4
    );
}

#[tokio::test]
async fn a_dropped_server_is_gone() {
    let lava = LavaServer::start().await;
    let address = lava.address();
    let mut held = tokio::net::TcpStream::connect(address).await.unwrap();
    assert_eq!(get(&lava, "/api/v0.2/jobs/", None).await.status, 200);
    drop(lava);
    let mut byte = [0];
    let read = tokio::io::AsyncReadExt::read(&mut held, &mut byte);
    let ended = tokio::time::timeout(peer::LONG, read).await.unwrap();
    assert!(matches!(ended, Ok(0) | Err(_)));
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}
