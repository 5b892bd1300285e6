//! Events by a template in Jinja's language.

use lavabus_protocol::{Kind, Record};
use minijinja::value::Serde;
use minijinja::{Environment, Value};
use serde_json::json;

const NAME: &str = "output";

/// A compiled template.
pub(crate) struct Template {
    environment: Environment<'static>,
}

/// What is wrong with a template, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{cause} in line {line} of the template, expected such as '{{{{ job }}}} {{{{ data.state }}}}'")]
pub struct TemplateError {
    /// What the template engine found.
    pub cause: String,
    /// From 1.
    pub line: usize,
}

impl From<minijinja::Error> for TemplateError {
    fn from(error: minijinja::Error) -> TemplateError {
        TemplateError {
            cause: match error.detail() {
                Some(detail) => format!("{}: {detail}", error.kind()),
                None => error.kind().to_string(),
            },
            line: error.line().unwrap_or(1),
        }
    }
}

impl Template {
    pub(crate) fn compile(text: &str) -> Result<Template, TemplateError> {
        let mut environment = Environment::new();
        environment.add_template_owned(NAME, text.to_owned())?;
        Ok(Template { environment })
    }

    pub(crate) fn render(&self, record: &Record) -> Result<String, TemplateError> {
        let event = record.event();
        // Data that serde_json cannot hold as values (a lone surrogate) is there as text.
        let data = serde_json::from_str(&record.data).unwrap_or_else(|_| json!(record.data));
        let context = json!({
            "topic": record.topic,
            "uuid": record.uuid.to_string(),
            "datetime": record.datetime,
            "username": record.username,
            "data": data,
            "cursor": record.cursor.map(|cursor| cursor.to_string()),
            "lab": record.lab,
            "kind": Kind::of(&record.topic).as_str(),
            "job": event.job().map(|job| job.as_str()),
            "device": event.device(),
            "device_type": event.device_type(),
            "worker": event.worker(),
            "state": event.state(),
            "health": event.health(),
            "submitter": event.submitter(),
            "message": event.message(),
        });
        let serde_json::Value::Object(mut context) = context else {
            unreachable!("it is written as an object")
        };
        // A key that is missing is written as nothing, null as "none".
        context.retain(|_, value| !value.is_null());
        Ok(self
            .environment
            .get_template(NAME)?
            .render(Value::from(Serde(&context)))?)
    }
}
