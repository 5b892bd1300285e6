//! A job's test suites and cases, and the same as JUnit and TAP.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};

use super::job_list::page;
use super::jobs::{attachment, find};
use super::{Visitor, detail, nothing_here};
use crate::job::{Job, TestCase};
use crate::lab::{Lab, User};
use crate::log_line::quoted;
use crate::server::Shared;
use crate::time;

pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/api/v0.2/jobs/{id}/tests/", get(tests))
        .route("/api/v0.2/jobs/{id}/suites/", get(suites))
        .route("/api/v0.2/jobs/{id}/suites/{suite}/", get(suite))
        .route("/api/v0.2/jobs/{id}/suites/{suite}/tests/", get(tests_of_suite))
        .route("/api/v0.2/jobs/{id}/junit/", get(junit))
        .route("/api/v0.2/jobs/{id}/tap13/", get(tap13))
}

/// The views below a job look it up by themselves: a private one is refused, not hidden.
fn parent<'a>(lab: &'a Lab, id: &str, user: Option<&User>) -> Result<(u64, &'a Job), Box<Response>> {
    let number = id.parse::<u64>().map_err(|_| Box::new(nothing_here()))?;
    let job = lab.job(number).ok_or_else(|| Box::new(nothing_here()))?;
    if lab.may_see_job(job, user) {
        Ok((number, job))
    } else {
        let why = "You do not have permission to perform this action.";
        Err(Box::new(detail(StatusCode::FORBIDDEN, why)))
    }
}

fn paged(parameters: &[(String, String)], base: &str, all: Vec<Value>) -> Response {
    let page = page(parameters, base, all.len());
    let count = all.len();
    let results: Vec<Value> = all.into_iter().skip(page.offset).take(page.limit).collect();
    Json(json!({ "count": count, "next": page.next, "previous": page.previous, "results": results })).into_response()
}

type Parameters = Vec<(String, String)>;

async fn suites(
    visitor: Visitor,
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    uri: Uri,
    Query(parameters): Query<Parameters>,
) -> Response {
    let lab = shared.lab();
    let number = match parent(&lab, &id, visitor.user()) {
        Ok((number, _)) => number,
        Err(refusal) => return *refusal,
    };
    let site = format!("http://{}", shared.address);
    let wanted = |name: &str| parameters.iter().all(|(key, value)| key != "name" || value == name);
    let all = lab
        .suites(number)
        .filter(|(_, name)| wanted(name))
        .map(|(suite, name)| suite_fields(&site, number, suite, name))
        .collect();
    paged(&parameters, &format!("{site}{}", uri.path()), all)
}

async fn suite(
    visitor: Visitor,
    State(shared): State<Arc<Shared>>,
    Path((id, suite)): Path<(String, String)>,
) -> Response {
    let lab = shared.lab();
    let number = match parent(&lab, &id, visitor.user()) {
        Ok((number, _)) => number,
        Err(refusal) => return *refusal,
    };
    let site = format!("http://{}", shared.address);
    match lab.suites(number).find(|(known, _)| known.to_string() == suite) {
        Some((suite, name)) => Json(suite_fields(&site, number, suite, name)).into_response(),
        None => detail(StatusCode::NOT_FOUND, "No TestSuite matches the given query."),
    }
}

fn suite_fields(site: &str, job: u64, suite: usize, name: &str) -> Value {
    json!({
        "id": suite,
        "resource_uri": format!("{site}/api/v0.2/jobs/{job}/suites/{suite}/"),
        "name": name,
        "job": job,
    })
}

async fn tests(
    visitor: Visitor,
    state: State<Arc<Shared>>,
    Path(id): Path<String>,
    uri: Uri,
    parameters: Query<Parameters>,
) -> Response {
    cases(&visitor, &state, &id, None, &uri, &parameters)
}

async fn tests_of_suite(
    visitor: Visitor,
    state: State<Arc<Shared>>,
    Path((id, suite)): Path<(String, String)>,
    uri: Uri,
    parameters: Query<Parameters>,
) -> Response {
    cases(&visitor, &state, &id, Some(&suite), &uri, &parameters)
}

fn cases(
    visitor: &Visitor,
    shared: &Shared,
    id: &str,
    suite: Option<&str>,
    uri: &Uri,
    parameters: &[(String, String)],
) -> Response {
    let lab = shared.lab();
    let (number, job) = match parent(&lab, id, visitor.user()) {
        Ok(found) => found,
        Err(refusal) => return *refusal,
    };
    let site = format!("http://{}", shared.address);
    let wanted = |case: &TestCase| {
        parameters.iter().all(|(key, value)| match key.as_str() {
            "name" => case.name == *value,
            "result" => case.result == value.to_lowercase(),
            "suite__name" => case.suite == *value,
            _ => true,
        })
    };
    let all = lab
        .tests(number)
        .iter()
        .filter(|case| wanted(case))
        .filter_map(|case| {
            let (of, _) = lab.suites(number).find(|(_, name)| *name == case.suite)?;
            suite
                .is_none_or(|suite| of.to_string() == suite)
                .then(|| case_fields(&site, job, number, of, case))
        })
        .collect();
    paged(parameters, &format!("{site}{}", uri.path()), all)
}

/// The fields of `TestCaseSerializer`.
fn case_fields(site: &str, job: &Job, number: u64, suite: usize, case: &TestCase) -> Value {
    json!({
        "id": case.id,
        "result": case.result,
        "resource_uri": format!("{site}/api/v0.2/jobs/{number}/suites/{suite}/tests/{}/", case.id),
        "unit": "",
        "name": case.name,
        "measurement": null,
        "metadata": metadata(job, case),
        "start_log_line": null,
        "end_log_line": null,
        "logged": time::rest(case.logged),
        "suite": suite,
        "test_set": null,
    })
}

/// YAML in block style, keys sorted; `lava/job` says why the job failed.
fn metadata(job: &Job, case: &TestCase) -> String {
    let mut text = format!("case: {}\ndefinition: {}\n", quoted(&case.name), quoted(&case.suite));
    if case.suite == "lava" && case.name == "job" {
        for (key, value) in [("error_msg", &job.error_msg), ("error_type", &job.error_type)] {
            if let Some(value) = value {
                text += &format!("{key}: {}\n", quoted(value));
            }
        }
    }
    text + &format!("result: {}\n", case.result)
}

/// The cases of a job, suite by suite.
fn by_suite(lab: &Lab, number: u64) -> Vec<(&str, Vec<&TestCase>)> {
    let of = |name: &str| lab.tests(number).iter().filter(|case| case.suite == name).collect();
    lab.suites(number).map(|(_, name)| (name, of(name))).collect()
}

async fn junit(
    visitor: Visitor,
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    Query(parameters): Query<Parameters>,
) -> Response {
    let lab = shared.lab();
    let number = match find(&lab, &id, visitor.user()) {
        Ok((number, _)) => number,
        Err(refusal) => return *refusal,
    };
    let prefix = parameters
        .iter()
        .find(|(name, value)| name == "classname_prefix" && !value.is_empty())
        .map_or_else(String::new, |(_, value)| format!("{value}_"));
    let suites = by_suite(&lab, number);
    let count = |cases: &[&TestCase], result: &str| cases.iter().filter(|case| case.result == result).count();
    let all: Vec<&TestCase> = suites.iter().flat_map(|(_, cases)| cases.iter().copied()).collect();
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<testsuites disabled=\"0\" errors=\"0\" failures=\"{}\" tests=\"{}\" time=\"0.0\">\n",
        count(&all, "fail"),
        all.len()
    );
    for (name, cases) in &suites {
        let last = cases.iter().map(|case| case.logged).max().unwrap_or_default();
        text += &format!(
            "\t<testsuite disabled=\"0\" errors=\"0\" failures=\"{}\" name=\"{}\" skipped=\"{}\" tests=\"{}\" time=\"0\" timestamp=\"{}\">\n",
            count(cases, "fail"),
            escaped(name),
            count(cases, "skip"),
            cases.len(),
            time::iso(last)
        );
        for case in cases {
            let start = format!(
                "\t\t<testcase name=\"{}\" classname=\"{}{}\" timestamp=\"{}\"",
                escaped(&case.name),
                escaped(&prefix),
                escaped(name),
                time::iso(case.logged)
            );
            text += &match case.result.as_str() {
                "fail" => format!("{start}>\n\t\t\t<failure type=\"failure\" message=\"failed\"/>\n\t\t</testcase>\n"),
                "skip" => format!("{start}>\n\t\t\t<skipped message=\"skipped\"/>\n\t\t</testcase>\n"),
                _ => format!("{start}/>\n"),
            };
        }
        text += "\t</testsuite>\n";
    }
    text += "</testsuites>\n";
    attachment("application/xml", &format!("job_{number}.xml"), text)
}

/// Text for an XML 1.0 attribute; characters that XML cannot hold are left out.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\t' | '\n' | '\r' => out.push_str(&format!("&#{};", u32::from(character))),
            '\u{fffe}' | '\u{ffff}' => {}
            _ if character < ' ' => {}
            _ => out.push(character),
        }
    }
    out
}

async fn tap13(visitor: Visitor, State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Response {
    let lab = shared.lab();
    let number = match find(&lab, &id, visitor.user()) {
        Ok((number, _)) => number,
        Err(refusal) => return *refusal,
    };
    let suites = by_suite(&lab, number);
    let count: usize = suites.iter().map(|(_, cases)| cases.len()).sum();
    let mut text = format!("TAP version 13\n1..{count}\n");
    let mut place = 0;
    for (name, cases) in suites {
        text += &format!("# TAP results for {name}\n");
        for case in cases {
            place += 1;
            text += &match case.result.as_str() {
                "pass" => format!("ok {place} {}\n", case.name),
                "skip" => format!("ok {place} {} # SKIP test skipped\n", case.name),
                "fail" => format!("not ok {place} {}\n", case.name),
                _ => format!("not ok {place} {} # TODO unknown result\n", case.name),
            };
        }
    }
    attachment("application/yaml", &format!("job_{number}.yaml"), text)
}
