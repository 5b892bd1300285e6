//! LAVA's XML-RPC: what old servers have only there, and everything about sub ids.

use std::time::{Duration, Instant};

use dxr::{DateTime, FaultResponse, MethodCall, MethodResponse, Value};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, RequestBuilder, Url};

use crate::error::{ServerError, excerpt};
use crate::http::Reply;
use crate::secrets::Secrets;

/// A call as it goes out.
pub(crate) fn request(
    client: &Client,
    url: Url,
    method: &str,
    params: Vec<Value>,
) -> Result<RequestBuilder, CallError> {
    let call = MethodCall {
        name: method.into(),
        params,
    };
    // XML 1.0 section 2.2 has no way to write these characters.
    let body = call.to_xml().ok().filter(|body| !body.chars().any(is_unwritable));
    let body = body.ok_or(CallError::Unwritable)?;
    let body = format!("<?xml version=\"1.0\"?>{body}");
    Ok(client.post(url).header(CONTENT_TYPE, "text/xml").body(body))
}

/// A text that XML cannot hold.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CallError {
    Unwritable,
}

fn is_unwritable(c: char) -> bool {
    matches!(c, '\0'..='\x08' | '\x0b' | '\x0c' | '\x0e'..='\x1f' | '\u{fffe}' | '\u{ffff}')
}

/// What came back.
#[derive(Debug)]
pub(crate) enum Outcome {
    Value(Value),
    Fault { code: i32, message: String },
}

impl Outcome {
    /// Reads an answer of status 200.
    pub(crate) fn read(reply: &Reply) -> Result<Outcome, ServerError> {
        // The fault first: it is the one that cannot be mistaken for the other.
        if let Ok(FaultResponse { fault }) = FaultResponse::from_xml(&reply.body) {
            return Ok(Outcome::Fault {
                code: fault.code(),
                message: reply.secrets.redact(fault.string()),
            });
        }
        match MethodResponse::from_xml(&reply.body) {
            Ok(response) => Ok(Outcome::Value(response.value)),
            Err(_) if reply.body.contains("<methodResponse>") && !reply.body.contains("</methodResponse>") => {
                Err(ServerError::Unavailable {
                    cause: "the answer was cut off".to_owned(),
                })
            }
            Err(_) => Err(reply.unexpected()),
        }
    }

    /// The value, or what the fault means for the caller. LAVA's own faults carry HTTP's numbers.
    pub(crate) fn value(self, what: &str) -> Result<Value, ServerError> {
        match self {
            Outcome::Value(value) => Ok(value),
            Outcome::Fault { code, message } => Err(match code {
                401 | 403 => ServerError::Refused {
                    status: u16::try_from(code).ok(),
                    message,
                },
                404 => ServerError::NotFound { what: what.to_owned() },
                _ => ServerError::Unexpected {
                    status: None,
                    excerpt: excerpt(&format!("fault {code}: {message}")),
                },
            }),
        }
    }
}

/// Sends a call and reads the answer.
pub(crate) async fn send(
    request: RequestBuilder,
    timeout: Duration,
    limit: usize,
    secrets: Secrets,
) -> Result<(Outcome, Reply), ServerError> {
    let began = Instant::now();
    let response = request
        .timeout(timeout)
        .send()
        .await
        .map_err(|error| crate::http::failure(&error))?;
    let reply = Reply::read(response, limit, began, secrets).await?;
    if !reply.status.is_success() {
        return Err(reply.refusal());
    }
    Ok((Outcome::read(&reply)?, reply))
}

/// A scalar as text; nil and what is no scalar is none.
pub(crate) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::DateTime(time) => Some(iso(*time)),
        Value::Base64(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        _ => None,
    }
}

/// The member of a struct as text.
pub(crate) fn member(value: &Value, name: &str) -> Option<String> {
    match value {
        Value::Struct(members) => members.get(name).and_then(text),
        _ => None,
    }
}

/// XML-RPC's times have no zone: LAVA's are UTC.
fn iso(time: DateTime) -> String {
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
        time.year(),
        time.month(),
        time.day(),
        time.hour(),
        time.minute(),
        time.second()
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reply(body: &str) -> Reply {
        Reply {
            status: reqwest::StatusCode::OK,
            body: body.to_owned(),
            server_time: None,
            round_trip: Duration::ZERO,
            location: None,
            secrets: Secrets::default(),
        }
    }

    // As Python's xmlrpc.client writes them.
    const SHOWN: &str = "<?xml version='1.0'?>\n<methodResponse>\n<params>\n<param>\n<value><struct>\n<member>\n<name>id</name>\n<value><string>4000.1</string></value>\n</member>\n<member>\n<name>device</name>\n<value><nil/></value></member>\n<member>\n<name>pipeline</name>\n<value><boolean>1</boolean></value>\n</member>\n<member>\n<name>submit_time</name>\n<value><dateTime.iso8601>20261121T05:01:05</dateTime.iso8601></value>\n</member>\n<member>\n<name>tags</name>\n<value><array><data>\n</data></array></value>\n</member>\n<member>\n<name>description</name>\n<value><string>a &lt; b &amp; c</string></value>\n</member>\n</struct></value>\n</param>\n</params>\n</methodResponse>\n";
    const FAULT: &str = "<?xml version='1.0'?>\n<methodResponse>\n<fault>\n<value><struct>\n<member>\n<name>faultCode</name>\n<value><int>404</int></value>\n</member>\n<member>\n<name>faultString</name>\n<value><string>Job '7' was not found.</string></value>\n</member>\n</struct></value>\n</fault>\n</methodResponse>\n";

    #[test]
    fn a_struct_as_python_writes_it() {
        let value = Outcome::read(&reply(SHOWN)).unwrap().value("x").unwrap();
        assert_eq!(member(&value, "id").as_deref(), Some("4000.1"));
        assert_eq!(member(&value, "submit_time").as_deref(), Some("2026-11-21T05:01:05"));
        assert_eq!(member(&value, "description").as_deref(), Some("a < b & c"));
        assert_eq!(member(&value, "device"), None);
    }

    #[test]
    fn a_fault() {
        let outcome = Outcome::read(&reply(FAULT)).unwrap();
        assert_eq!(
            outcome.value("job 7").unwrap_err(),
            ServerError::NotFound {
                what: "job 7".to_owned()
            }
        );
        let refused = Outcome::read(&reply(&FAULT.replace("404", "403"))).unwrap().value("x");
        assert!(matches!(refused, Err(ServerError::Refused { status: Some(403), .. })));
    }

    #[test]
    fn an_answer_cut_off_may_be_asked_for_again() {
        assert!(Outcome::read(&reply(&SHOWN[..400])).unwrap_err().is_temporary());
        assert!(!Outcome::read(&reply("<html>")).unwrap_err().is_temporary());
    }

    #[test]
    fn deep_answers_do_not_use_up_the_stack() {
        let deep = "<value><array><data>".repeat(100_000);
        let body = format!("<methodResponse><params><param>{deep}");
        assert!(Outcome::read(&reply(&body)).is_err());
    }

    #[test]
    fn a_call() {
        crate::http::client(&crate::Identity::anonymous("http://localhost").unwrap()).unwrap();
        let build = |text: &str| {
            let params = vec![Value::String(text.to_owned())];
            request(
                &Client::new(),
                Url::parse("http://localhost/RPC2").unwrap(),
                "a.b",
                params,
            )
        };
        let request = build("a < b\n  - \"c\" & d\r\n").unwrap().build().unwrap();
        let body = String::from_utf8(request.body().unwrap().as_bytes().unwrap().to_vec()).unwrap();
        let call = MethodCall::from_xml(body.strip_prefix("<?xml version=\"1.0\"?>").unwrap()).unwrap();
        assert_eq!(call.name, "a.b");
        assert_eq!(call.params, [Value::String("a < b\n  - \"c\" & d\r\n".to_owned())]);
        assert_eq!(build("a\0b").unwrap_err(), CallError::Unwritable);
    }

    proptest! {
        #[test]
        fn any_answer_is_read_or_refused(body in "\\PC{0,60}|(<[a-z]{1,6}>|</[a-z]{1,6}>|<value>|</value>|<int>|[0-9]{1,3}){0,20}") {
            let _ = Outcome::read(&reply(&body));
        }
    }
}
