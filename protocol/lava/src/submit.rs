//! Handing in a job: what is known about it when the answer does not come.

use std::time::Instant;

use dxr::Value;
use reqwest::RequestBuilder;
use reqwest::header::{CONTENT_TYPE, HeaderValue};

use crate::error::{ServerError, SubmitError, excerpt};
use crate::http::{self, ANSWER_LIMIT, Reply};
use crate::server::Server;
use crate::xml_rpc::{self, Outcome};

impl Server {
    /// Hands in a definition and tells the ids of its jobs as text: one, or the sub ids of a multinode job.
    ///
    /// Dropped before it is done, the definition may have gone out: as with [`SubmitError::AnswerLost`].
    ///
    /// # Errors
    ///
    /// [`SubmitError`], by whether a job was made, was not, or may have been.
    pub async fn submit(&self, definition: &str) -> Result<Vec<String>, SubmitError> {
        // A connection of its own: on a kept one that the server has just closed, the definition would be lost with
        // nobody knowing where.
        let client = http::client(self.identity()).map_err(SubmitError::NotSent)?;
        if self.has_rest() != Some(false) {
            let body = serde_json::json!({ "definition": definition }).to_string();
            let request = client.post(self.api(&["jobs"]));
            let request = http::rest(request, self.token_header())
                .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
                .body(body);
            let reply = self.hand_in(request).await?;
            self.note_rest(&reply);
            match reply.status.as_u16() {
                // An old REST that takes no jobs.
                405 => {}
                404 if reply.is_not_found_by_rest() => {}
                // No REST at all, perhaps; XML-RPC tells.
                404 if !reply.is_json() && self.has_rest().is_none() => {}
                // Somebody in the way: LAVA has not seen it.
                404 => return Err(SubmitError::NotSent(reply.rest_refusal("the job API"))),
                _ => return rest_answer(&reply),
            }
        }
        let params = vec![Value::String(definition.to_owned())];
        let request = self.call(&client, "scheduler.jobs.submit", params).await;
        let request = request.map_err(|error| match error {
            ServerError::Refused { status, message } => SubmitError::Refused { status, message },
            other => SubmitError::NotSent(other),
        })?;
        let reply = self.hand_in(request).await?;
        xml_rpc_answer(&reply)
    }

    /// Sends a submission once and reads the answer to its end.
    async fn hand_in(&self, request: RequestBuilder) -> Result<Reply, SubmitError> {
        let began = Instant::now();
        let timeout = self.identity().timeout;
        let response = request.timeout(timeout).send().await.map_err(|error| {
            if error.is_connect() || error.is_builder() {
                SubmitError::NotSent(http::failure(&error))
            } else {
                SubmitError::AnswerLost {
                    cause: http::cause(&error),
                }
            }
        })?;
        let reply = Reply::read(response, ANSWER_LIMIT, began, self.secrets()).await;
        reply.map_err(|error| SubmitError::AnswerLost {
            cause: error.to_string(),
        })
    }
}

fn rest_answer(reply: &Reply) -> Result<Vec<String>, SubmitError> {
    if reply.status.is_success() {
        let ids = serde_json::from_str(&reply.body).ok().as_ref().and_then(job_ids);
        return match ids {
            Some(ids) => Ok(ids),
            // LAVA's 201 says that the job is made; another 2xx comes from somebody in the way.
            None if reply.status == reqwest::StatusCode::CREATED => Err(SubmitError::AnswerLost {
                cause: format!("the answer holds no job ids: {:?}", reply.excerpt()),
            }),
            None => Err(unexpected(reply)),
        };
    }
    if reply.status == reqwest::StatusCode::BAD_REQUEST
        && let Some(message) = reply.own_words()
    {
        return Err(SubmitError::Rejected { message });
    }
    Err(declined(reply))
}

/// What any other status says of the job.
fn declined(reply: &Reply) -> SubmitError {
    if reply.status == reqwest::StatusCode::PAYLOAD_TOO_LARGE {
        return SubmitError::Rejected {
            message: "it is too large for the server (413)".to_owned(),
        };
    }
    match reply.refusal() {
        ServerError::Refused { status, message } => SubmitError::Refused { status, message },
        // 429 is said before LAVA looks at the body.
        error @ ServerError::Unavailable { .. } if reply.status == reqwest::StatusCode::TOO_MANY_REQUESTS => {
            SubmitError::NotSent(error)
        }
        ServerError::Unavailable { cause } => SubmitError::AnswerLost { cause },
        ServerError::Unexpected { status, excerpt } => SubmitError::Unexpected { status, excerpt },
        _ => unexpected(reply),
    }
}

fn unexpected(reply: &Reply) -> SubmitError {
    SubmitError::Unexpected {
        status: Some(reply.status.as_u16()),
        excerpt: reply.excerpt(),
    }
}

fn xml_rpc_answer(reply: &Reply) -> Result<Vec<String>, SubmitError> {
    if !reply.status.is_success() {
        return Err(declined(reply));
    }
    let lost = |cause: String| SubmitError::AnswerLost { cause };
    match Outcome::read(reply) {
        Ok(Outcome::Value(Value::Array(items))) => {
            let ids: Option<Vec<String>> = items.iter().map(xml_rpc::text).collect();
            ids.filter(|ids| !ids.is_empty())
                .ok_or_else(|| lost("the answer holds no job ids".to_owned()))
        }
        Ok(Outcome::Value(value)) => match xml_rpc::text(&value) {
            Some(id) => Ok(vec![id]),
            None => Err(lost("the answer holds no job ids".to_owned())),
        },
        // 400: the definition. 404: its device type.
        Ok(Outcome::Fault {
            code: 400 | 404,
            message,
        }) => Err(SubmitError::Rejected { message }),
        Ok(Outcome::Fault {
            code: code @ (401 | 403),
            message,
        }) => Err(SubmitError::Refused {
            status: u16::try_from(code).ok(),
            message,
        }),
        // xmlrpc-epi's "requested method not found".
        Ok(Outcome::Fault { code: -32601, message }) => Err(SubmitError::Unexpected {
            status: None,
            excerpt: excerpt(&message),
        }),
        // Something broke inside the server: before or after the job was made.
        Ok(Outcome::Fault { code, message }) => Err(lost(format!("fault {code}: {}", excerpt(&message)))),
        Err(ServerError::Unexpected { status, excerpt }) => Err(SubmitError::Unexpected { status, excerpt }),
        Err(error) => Err(lost(error.to_string())),
    }
}

/// Integers, or texts such as `4000.0`.
fn job_ids(answer: &serde_json::Value) -> Option<Vec<String>> {
    let ids = answer.get("job_ids")?.as_array()?.iter().map(|id| match id {
        serde_json::Value::Number(number) => Some(number.to_string()),
        serde_json::Value::String(text) => Some(text.clone()),
        _ => None,
    });
    ids.collect::<Option<Vec<String>>>().filter(|ids| !ids.is_empty())
}
