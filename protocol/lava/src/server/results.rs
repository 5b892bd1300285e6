//! What a job leaves behind: its log, and what its tests found.

use dxr::Value;
use serde_json::Value as Json;

use super::{Server, is_sub_id, job_name, json_text, text};
use crate::answer::{LogLine, TestCase};
use crate::error::ServerError;
use crate::http::LOG_LIMIT;
use crate::logs;
use crate::xml_rpc;
use crate::yaml::{Document, Item};

impl Server {
    /// The log from a line on, counted from 0. Empty: no more lines yet, or the job does not run yet, or there is no such
    /// job: the server tells no difference. A line still being written is left out; the next one to ask for is
    /// `start_line` + the lines returned.
    pub async fn logs(&self, id: &str, start_line: u64) -> Result<Vec<LogLine>, ServerError> {
        let what = job_name(id)?;
        if !is_sub_id(id) {
            let query = [("start", start_line.to_string())];
            match self.rest_within(&["jobs", id, "logs"], &query, &what, LOG_LIMIT).await {
                Ok(Some(reply)) => return Ok(logs::read(&reply.body)),
                Err(ServerError::NotFound { .. }) => return Ok(Vec::new()),
                Ok(None) => {}
                Err(error) => return Err(error),
            }
        }
        let start = i32::try_from(start_line).unwrap_or(i32::MAX);
        let params = vec![text(id), Value::Integer(start)];
        let request = self.call(&self.inner.client, "scheduler.jobs.logs", params).await?;
        let (value, reply) = self.ask(request, &what, LOG_LIMIT).await?;
        // A pair: whether the job is finished, and the text. No log yet: "[]".
        match &value {
            Value::Array(pair) => match pair.get(1).and_then(xml_rpc::text) {
                Some(log) if log.trim() == "[]" => Ok(Vec::new()),
                Some(log) => Ok(logs::read(&log)),
                None => Err(reply.unexpected()),
            },
            _ => Err(reply.unexpected()),
        }
    }

    /// All test cases of a job, in the server's order.
    pub async fn tests(&self, id: &str) -> Result<Vec<TestCase>, ServerError> {
        let what = job_name(id)?;
        let ordering = [("ordering", "id".to_owned())];
        if !is_sub_id(id)
            && let Some(suites) = self.pages(&["jobs", id, "suites"], &ordering, &what).await?
        {
            let cases = self
                .pages(&["jobs", id, "tests"], &ordering, &what)
                .await?
                .unwrap_or_default();
            let name_of = |suite: &str| {
                let found = suites
                    .iter()
                    .find(|item| json_text(item, "id").as_deref() == Some(suite));
                found.and_then(|item| json_text(item, "name"))
            };
            let case = |case: &Json| {
                let suite = json_text(case, "suite").unwrap_or_default();
                Some(TestCase {
                    suite: name_of(&suite).unwrap_or(suite),
                    name: json_text(case, "name")?,
                    result: json_text(case, "result")?,
                })
            };
            return Ok(cases.iter().filter_map(case).collect());
        }
        let (value, reply) = self
            .xml_rpc("results.get_testjob_results_yaml", vec![text(id)], &what)
            .await?;
        let yaml = xml_rpc::text(&value).ok_or_else(|| reply.unexpected())?;
        let document = Document::read(&yaml).map_err(|_| reply.unexpected())?;
        let case = |item: Item<'_>| {
            let text = |name: &str| item.get(name).and_then(Item::text).map(str::to_owned);
            Some(TestCase {
                suite: text("suite").unwrap_or_default(),
                name: text("name")?,
                result: text("result")?,
            })
        };
        Ok(document
            .iter()
            .flat_map(|document| document.root().items())
            .filter_map(case)
            .collect())
    }

    /// The results as JUnit XML, made by the server. Needs REST. Of a sub id too, once the job has results: they tell
    /// its database id.
    pub async fn junit(&self, id: &str) -> Result<String, ServerError> {
        let what = job_name(id)?;
        let database_id = if is_sub_id(id) {
            self.database_id(id, &what).await?
        } else {
            id.to_owned()
        };
        let reply = self
            .rest_within(&["jobs", &database_id, "junit"], &[], &what, LOG_LIMIT)
            .await?;
        let reply = match reply {
            Some(reply) => reply,
            None => return Err(self.no_rest("JUnit results").await),
        };
        if !reply.body.trim_start().starts_with('<') {
            return Err(reply.unexpected());
        }
        Ok(reply.body)
    }

    /// REST knows database ids only; a job's test suites carry it.
    async fn database_id(&self, sub_id: &str, what: &str) -> Result<String, ServerError> {
        let method = "results.get_testjob_suites_list_yaml";
        let (value, reply) = self.xml_rpc(method, vec![text(sub_id)], what).await?;
        let yaml = xml_rpc::text(&value).ok_or_else(|| reply.unexpected())?;
        let document = Document::read(&yaml).map_err(|_| reply.unexpected())?;
        let job = document.as_ref().and_then(|document| {
            let job = document.root().items().find_map(|suite| suite.get("job"))?;
            job.text().map(str::to_owned)
        });
        job.filter(|job| !is_sub_id(job) && job_name(job).is_ok())
            .ok_or_else(|| ServerError::NotFound {
                what: format!("a result of {what}"),
            })
    }
}
