//! What the commands that ask a database have in common: they open it, answer as of now, and print the answer.

use std::path::PathBuf;

use jiff::{Timestamp, Zoned};
use lavabus_protocol::time::{TimeError, parse_time};
use lavabus_store::question::Answer;
use lavabus_store::{Reader, StoreError};

use crate::context::Context;
use crate::database;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::status::print;
use crate::table::Cell;

/// Which database is asked.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct DatabaseArguments {
    /// The event database; otherwise the one at the usual place
    #[arg(long, value_name = "PATH")]
    pub db: Option<PathBuf>,
}

/// What a command has to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// For standard output.
    pub text: String,
    /// For standard error, unless `--quiet`.
    pub notices: Vec<String>,
}

impl Said {
    /// An answer without notices, but for what it lacks.
    pub(crate) fn new<T>(text: String, answer: &Answer<T>) -> Said {
        let mut said = Said {
            text,
            notices: Vec::new(),
        };
        if answer.unread > 0 {
            said.notices.push(format!(
                "the newest {} events are not in this answer: the projections are behind (`lavabus status`)",
                answer.unread
            ));
        }
        said
    }

    pub(crate) fn notice(&mut self, notice: impl Into<String>) {
        self.notices.push(notice.into());
    }
}

/// Asks the database on a thread of its own, and prints what is said. The question gets the present time, in µs since
/// 1970.
pub(crate) async fn ask(
    database: &DatabaseArguments,
    context: &Context,
    question: impl FnOnce(&Reader, &Context, i64) -> Result<Said, Failure> + Send + 'static,
) -> Result<Exit, Failure> {
    let own = context.clone();
    let said = database::ask(database.db.clone(), move |reader| question(reader, &own, now_us())).await?;
    print(&said.text)?;
    for notice in &said.notices {
        context.notice(notice);
    }
    Ok(Exit::Success)
}

/// A point in time as people write it.
pub(crate) fn time(text: &str) -> Result<Timestamp, TimeError> {
    parse_time(text, &Zoned::now())
}

/// A lab for a table: nothing where there is only one.
pub(crate) fn lab_cell(lab: &str) -> Cell {
    Some(lab).into()
}

/// The present, in µs since 1970.
pub(crate) fn now_us() -> i64 {
    Timestamp::now().as_microsecond()
}

/// What to say when the database cannot be read.
pub(crate) fn cannot_read(reader: &Reader) -> impl Fn(StoreError) -> Failure {
    |error| database::cannot_read(reader.path(), &error)
}

/// What to say when a thing that was named is not there.
pub(crate) fn not_known(reader: &Reader, what: &str, name: &str, hint: impl ToString) -> Failure {
    Failure::new(
        Exit::NoSuchObject,
        format!("no {what} {name} is known"),
        format!("no event in {} told of it", reader.path().display()),
        hint,
    )
}
