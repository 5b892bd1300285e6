//! The REST API, asked over a plain socket.
#![allow(clippy::unwrap_used, missing_docs)]

mod peer;

use lava_stand_in::{Device, Job, LavaServer, Options};
use peer::{ADMIN, basic, get, submit, try_ask};
use serde_json::{Value, json};

const DEFINITION: &str = "job_name: smoke\ndevice_type: qemu\nvisibility: public\n";

#[tokio::test]
async fn a_submitted_job_is_there() {
    let lava = LavaServer::start_with(Options {
        first_job: 20,
        ..Options::default()
    })
    .await;
    let answer = submit(&lava, DEFINITION, Some(ADMIN)).await;
    assert_eq!(answer.status, 201);
    assert_eq!(
        answer.json(),
        json!({"message": "job(s) successfully submitted", "job_ids": [20]})
    );
    let shown = get(&lava, "/api/v0.2/jobs/20/", None).await;
    assert_eq!(shown.status, 200);
    let job = shown.json();
    for (key, value) in [
        ("id", json!(20)),
        ("submitter", json!("admin")),
        ("description", json!("smoke")),
        ("requested_device_type", json!("qemu")),
        ("actual_device", Value::Null),
        ("start_time", Value::Null),
        ("end_time", Value::Null),
        ("state", json!("Submitted")),
        ("health", json!("Unknown")),
        ("priority", json!(50)),
        ("definition", json!(DEFINITION.trim())),
        ("failure_comment", Value::Null),
        ("multinode_definition", json!("")),
    ] {
        assert_eq!(job[key], value, "{key}");
    }
    assert!(job["submit_time"].as_str().unwrap().ends_with('Z'));
    assert!(job.get("token").is_none());
    assert!(
        get(&lava, "/api/v0.2/jobs/20/", Some(ADMIN))
            .await
            .json()
            .get("token")
            .is_some()
    );
    assert_eq!(lava.submissions(), 1);
    assert_eq!(
        lava.requests(),
        [
            "POST /api/v0.2/jobs/",
            "GET /api/v0.2/jobs/20/",
            "GET /api/v0.2/jobs/20/"
        ]
    );
}

#[tokio::test]
async fn who_may_submit() {
    let lava = LavaServer::start().await;
    let anonymous = "Authentication credentials were not provided.";
    for (authorization, why) in [
        (None, anonymous),
        (Some(basic("admin", LavaServer::ADMIN_TOKEN)), anonymous),
        (Some("Token wrong".into()), "Invalid token."),
        (Some("Token".into()), "Invalid token header. No credentials provided."),
        (
            Some("Token a b".into()),
            "Invalid token header. Token string should not contain spaces.",
        ),
    ] {
        let answer = submit(&lava, DEFINITION, authorization.as_deref()).await;
        assert_eq!(
            (answer.status, answer.detail().as_str()),
            (403, why),
            "{authorization:?}"
        );
    }
    lava.add_user("alice", "alice-token");
    assert_eq!(submit(&lava, DEFINITION, Some("token alice-token")).await.status, 201);
    lava.refuse_tokens(true);
    assert_eq!(
        submit(&lava, DEFINITION, Some("Token alice-token")).await.detail(),
        "Invalid token."
    );
    lava.refuse_tokens(false);
    assert_eq!(submit(&lava, DEFINITION, Some("Token alice-token")).await.status, 201);
    assert_eq!(lava.submissions(), 2);
}

#[tokio::test]
async fn what_may_be_submitted() {
    let lava = LavaServer::start().await;
    let missing = submit(&lava, "device_type: qemu", Some(ADMIN)).await;
    assert_eq!(missing.status, 400);
    assert_eq!(
        missing.json()["message"],
        "Problem with submitted job data: required key not provided @ data['job_name']"
    );
    let broken = submit(&lava, "job_name: x\na: b\nb: c: d\n", Some(ADMIN)).await;
    assert_eq!(broken.status, 400);
    let message = broken.json()["message"].as_str().unwrap().to_owned();
    assert!(
        message.contains("job submission failed: ") && message.contains("line 3, column 5"),
        "{message}"
    );
    let blank = submit(&lava, "", Some(ADMIN)).await;
    assert_eq!(
        (blank.status, blank.json()),
        (400, json!({"definition": ["This field may not be blank."]}))
    );
    let post = |media: &'static str, body: &'static str| {
        try_ask(&lava, "POST", "/api/v0.2/jobs/", Some(ADMIN), Some((media, body)))
    };
    assert_eq!(post("application/json", "{").await.unwrap().status, 400);
    assert_eq!(post("text/plain", "x").await.unwrap().status, 415);
    assert_eq!(post("application/json", "{}").await.unwrap().status, 500);
    assert_eq!(
        post("application/json", "{\"definition\": null}").await.unwrap().status,
        400
    );
    assert_eq!(lava.submissions(), 0);
}

#[tokio::test]
async fn a_multinode_job_has_sub_ids_that_rest_does_not_find() {
    let lava = LavaServer::start_with(Options {
        first_job: 4000,
        ..Options::default()
    })
    .await;
    let text = "job_name: two\nvisibility: public\nprotocols:\n  lava-multinode:\n    roles:\n      a: {count: 1, device_type: qemu}\n      b: {count: 1, device_type: bbb}\n";
    let answer = submit(&lava, text, Some(ADMIN)).await;
    assert_eq!(
        (answer.status, &answer.json()["job_ids"]),
        (201, &json!(["4000.0", "4000.1"]))
    );
    // Its dot makes it the format `1` of the job 4000.
    let by_sub_id = get(&lava, "/api/v0.2/jobs/4000.1/", Some(ADMIN)).await;
    assert_eq!((by_sub_id.status, by_sub_id.detail().as_str()), (404, "Not found."));
    let second = get(&lava, "/api/v0.2/jobs/4001/", None).await.json();
    assert_eq!(second["requested_device_type"], "bbb");
    assert_eq!(second["multinode_definition"], text.trim());
    // One cancels all.
    assert_eq!(get(&lava, "/api/v0.2/jobs/4001/cancel/", Some(ADMIN)).await.status, 200);
    assert_eq!(lava.cancelled(), ["4000", "4001"]);
}

#[tokio::test]
async fn a_job_that_is_not_for_all() {
    let lava = LavaServer::start().await;
    lava.add_user("alice", "alice-token");
    lava.add_user("bob", "bob-token");
    let id = lava.add_job(Job {
        submitter: "alice".into(),
        private: true,
        ..Job::default()
    });
    lava.add_log(&id, "info", "hidden");
    let path = format!("/api/v0.2/jobs/{id}/");
    for authorization in [None, Some("Token bob-token")] {
        for below in ["", "logs/", "junit/", "tap13/"] {
            let answer = get(&lava, &format!("{path}{below}"), authorization).await;
            assert_eq!(
                (answer.status, answer.detail().as_str()),
                (404, "No TestJob matches the given query."),
                "{below}"
            );
        }
        for below in ["tests/", "suites/"] {
            assert_eq!(
                get(&lava, &format!("{path}{below}"), authorization).await.status,
                403,
                "{below}"
            );
        }
        assert_eq!(get(&lava, "/api/v0.2/jobs/", authorization).await.json()["count"], 0);
    }
    for authorization in [ADMIN, "Token alice-token"] {
        assert_eq!(get(&lava, &path, Some(authorization)).await.status, 200);
        assert_eq!(
            get(&lava, &format!("{path}tests/"), Some(authorization)).await.status,
            200
        );
    }
    assert_eq!(
        get(&lava, "/api/v0.2/jobs/99/", None).await.detail(),
        "No TestJob matches the given query."
    );
    assert_eq!(
        get(&lava, "/api/v0.2/jobs/99/tests/", None).await.detail(),
        "Not found."
    );
    // A job on a device that not all may see is as private.
    lava.add_device(Device {
        hostname: "secret".into(),
        private: true,
        ..Device::default()
    });
    let id = lava.add_job(Job {
        device: Some("secret".into()),
        ..Job::default()
    });
    assert_eq!(
        get(&lava, &format!("/api/v0.2/jobs/{id}/"), Some("Token bob-token"))
            .await
            .status,
        404
    );
    assert_eq!(
        get(&lava, "/api/v0.2/devices/secret/", Some("Token bob-token"))
            .await
            .status,
        404
    );
    assert_eq!(get(&lava, "/api/v0.2/devices/secret/", Some(ADMIN)).await.status, 200);
}

#[tokio::test]
async fn cancelling() {
    let lava = LavaServer::start().await;
    lava.add_user("bob", "bob-token");
    let queued = lava.add_job(Job::default());
    let running = lava.add_job(Job {
        state: "Running".into(),
        ..Job::default()
    });
    let cancel = |id: &str| format!("/api/v0.2/jobs/{id}/cancel/");
    for authorization in [None, Some("Token bob-token")] {
        let refused = get(&lava, &cancel(&running), authorization).await;
        assert_eq!(
            (refused.status, refused.detail().as_str()),
            (403, "Insufficient permissions")
        );
    }
    for id in [&queued, &running] {
        let done = get(&lava, &cancel(id), Some(ADMIN)).await;
        assert_eq!(
            (done.status, done.json()),
            (200, json!({"message": "Job cancel signal sent."}))
        );
    }
    let ended = lava.job(&queued);
    assert_eq!((ended.state.as_str(), ended.health.as_str()), ("Finished", "Canceled"));
    assert!(ended.end_time.is_some() && ended.start_time.is_none());
    assert_eq!(lava.job(&running).state, "Canceling");
    // To cancel what has ended is no error, for anybody.
    assert_eq!(get(&lava, &cancel(&queued), None).await.status, 200);
    assert_eq!(lava.cancelled(), [queued.clone(), running]);
    let missing = get(&lava, &cancel("99"), Some(ADMIN)).await;
    assert_eq!((missing.status, missing.detail().as_str()), (404, "Not found."));
    let post = try_ask(
        &lava,
        "POST",
        &cancel(&queued),
        Some(ADMIN),
        Some(("application/json", "{}")),
    )
    .await
    .unwrap();
    assert_eq!(
        (post.status, post.detail().as_str()),
        (405, "Method \"POST\" not allowed.")
    );
    let post = try_ask(&lava, "POST", &cancel(&queued), None, Some(("application/json", "{}")))
        .await
        .unwrap();
    assert_eq!(post.status, 403);
}

#[tokio::test]
async fn lists_are_filtered_sorted_and_paged() {
    let lava = LavaServer::start().await;
    let at = |second: u8| format!("2026-11-21T05:00:{second:02}.5Z").parse().unwrap();
    for second in 0..5 {
        let submitter = if second % 2 == 0 { "alice" } else { "bob" };
        lava.add_job(Job {
            submitter: submitter.into(),
            submit_time: at(second),
            ..Job::default()
        });
    }
    let list = async |query: &str| get(&lava, &format!("/api/v0.2/jobs/?{query}"), None).await.json();
    let ids = |page: &Value| {
        page["results"]
            .as_array()
            .unwrap()
            .iter()
            .map(|job| job["id"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(&list("").await), [5, 4, 3, 2, 1]);
    assert_eq!(ids(&list("ordering=submit_time").await), [1, 2, 3, 4, 5]);
    assert_eq!(ids(&list("submitter__username=alice").await), [5, 3, 1]);
    assert_eq!(
        ids(&list("submit_time__gt=2026-11-21T05:00:01.5%2B00:00").await),
        [5, 4, 3]
    );
    assert_eq!(
        ids(&list("submit_time__gt=2026-11-21T05:00:01&submitter__username=bob&ordering=id").await),
        [2, 4]
    );
    assert_eq!(ids(&list("nonsense=1&limit=x").await).len(), 5);
    let unescaped = get(&lava, "/api/v0.2/jobs/?submit_time__gt=2026-11-21T05:00:01+00:00", None).await;
    assert_eq!(
        (unescaped.status, unescaped.json()),
        (400, json!({"submit_time__gt": ["Enter a valid date/time."]}))
    );
    // The links lead through all pages, and keep the filters.
    let mut page = list("limit=2&ordering=id&submitter__username=alice").await;
    assert_eq!(
        (page["count"].clone(), page["previous"].clone(), ids(&page)),
        (json!(3), Value::Null, vec![1, 3])
    );
    let next = page["next"].as_str().unwrap().to_owned();
    let target = next.strip_prefix(&format!("http://{}", lava.address())).unwrap();
    page = get(&lava, target, None).await.json();
    assert_eq!((page["next"].clone(), ids(&page)), (Value::Null, vec![5]));
    assert!(page["previous"].as_str().unwrap().contains("ordering=id"));
}

#[tokio::test]
async fn logs_from_a_line_on() {
    let lava = LavaServer::start().await;
    let id = lava.add_job(Job::default());
    let path = format!("/api/v0.2/jobs/{id}/logs/");
    assert_eq!(get(&lava, &path, None).await.status, 404);
    for line in ["one", "two", "three"] {
        lava.add_log(&id, "target", line);
    }
    let whole = get(&lava, &path, None).await;
    assert_eq!((whole.status, whole.body.lines().count()), (200, 3));
    assert!(whole.head.contains("content-type: application/yaml"), "{}", whole.head);
    assert!(whole.body.starts_with("- {\"dt\": \""), "{}", whole.body);
    let rest = get(&lava, &format!("{path}?start=2"), None).await;
    assert!(
        rest.body.contains("\"three\"") && rest.body.lines().count() == 1,
        "{}",
        rest.body
    );
    let middle = get(&lava, &format!("{path}?start=1&end=2"), None).await;
    assert!(
        middle.body.contains("\"two\"") && middle.body.lines().count() == 1,
        "{}",
        middle.body
    );
    assert_eq!(
        get(&lava, &format!("{path}?start=3"), None).await.detail(),
        "Not found."
    );
    assert_eq!(get(&lava, &format!("{path}?start=900"), None).await.status, 404);
}

#[tokio::test]
async fn results_in_all_forms() {
    let lava = LavaServer::start().await;
    let id = lava.add_job(Job {
        error_type: Some("Infrastructure".into()),
        error_msg: Some("no \"power\"".into()),
        ..Job::default()
    });
    lava.add_test(&id, "boot", "login", "pass");
    lava.add_test(&id, "boot", "a<b>&\"c\"", "fail");
    lava.add_test(&id, "net", "ping", "skip");
    lava.set_job(&id, "Finished", "Incomplete");
    let path = format!("/api/v0.2/jobs/{id}/");
    let suites = get(&lava, &format!("{path}suites/"), None).await.json();
    assert_eq!(suites["count"], 3);
    assert_eq!(
        (&suites["results"][1]["id"], &suites["results"][1]["name"]),
        (&json!(2), &json!("net"))
    );
    let tests = get(&lava, &format!("{path}suites/2/tests/"), None).await.json();
    assert_eq!(
        (&tests["count"], &tests["results"][0]["name"]),
        (&json!(1), &json!("ping"))
    );
    let all = get(&lava, &format!("{path}tests/"), None).await.json();
    assert_eq!(
        (&all["count"], &all["results"][1]["result"]),
        (&json!(4), &json!("fail"))
    );
    let job = get(&lava, &format!("{path}tests/?suite__name=lava&name=job"), None)
        .await
        .json();
    assert_eq!(
        (&job["count"], &job["results"][0]["result"]),
        (&json!(1), &json!("fail"))
    );
    let metadata: Value = serde_saphyr::from_str(job["results"][0]["metadata"].as_str().unwrap()).unwrap();
    assert_eq!(metadata["error_type"], "Infrastructure");
    assert_eq!(metadata["error_msg"], "no \"power\"");
    let junit = get(&lava, &format!("{path}junit/"), None).await;
    assert!(junit.body.contains("failures=\"2\" tests=\"4\""), "{}", junit.body);
    assert!(
        junit.body.contains("name=\"a&lt;b&gt;&amp;&quot;c&quot;\""),
        "{}",
        junit.body
    );
    let tap = get(&lava, &format!("{path}tap13/"), None).await.body;
    assert!(
        tap.contains("1..4") && tap.contains("not ok 2 ") && tap.contains("ok 3 ping # SKIP"),
        "{tap}"
    );
}

#[tokio::test]
async fn the_rest_of_the_server() {
    let lava = LavaServer::start().await;
    assert_eq!(
        get(&lava, "/api/v0.2/system/whoami/", Some(ADMIN)).await.json(),
        json!({"user": "admin"})
    );
    assert_eq!(
        get(&lava, "/api/v0.2/system/whoami/", None).await.json(),
        json!({"user": ""})
    );
    assert_eq!(
        get(&lava, "/api/v0.2/system/whoami/", Some("Token no")).await.status,
        403
    );
    assert!(get(&lava, "/api/v0.2/system/version/", None).await.json()["version"].is_string());
    lava.set_device("bbb-01", "Running", "Bad");
    lava.set_worker("worker-02", "Offline", "Maintenance");
    let device = get(&lava, "/api/v0.2/devices/bbb-01/", None).await.json();
    assert_eq!(
        (&device["state"], &device["health"]),
        (&json!("Running"), &json!("Bad"))
    );
    let worker = get(&lava, "/api/v0.2/workers/worker-02/", None).await.json();
    assert_eq!((&worker["state"], worker.get("token")), (&json!("Offline"), None));
    assert_eq!(
        get(&lava, "/api/v0.2/devices/no/", None).await.detail(),
        "No Device matches the given query."
    );
    assert_eq!(
        get(&lava, "/api/v0.2/workers/no/", None).await.detail(),
        "No Worker matches the given query."
    );
    let moved = get(&lava, "/api/v0.2/jobs?limit=1", None).await;
    assert!(
        moved.status == 301 && moved.head.contains("location: /api/v0.2/jobs/?limit=1"),
        "{moved:?}"
    );
    assert_eq!(get(&lava, "/api/v0.3/jobs/", None).await.status, 404);
    let without = LavaServer::start_with(Options {
        rest: false,
        ..Options::default()
    })
    .await;
    assert_eq!(get(&without, "/api/v0.2/jobs/", None).await.status, 404);
}
