//! `--watch`: the same table, again whenever it changes.
//!
//! On a terminal it is drawn over the one before, on the alternate screen; elsewhere it is printed again, after an empty
//! line where it is for people.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use lavabus_store::Reader;

use super::{Subject, answer};
use crate::context::Context;
use crate::database;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::format::Format;
use crate::question::{DatabaseArguments, Said, cannot_read, now_us};
use crate::reader_gone::reader_gone;
use crate::status::print;

/// How often the database is looked at.
const PERIOD: Duration = Duration::from_secs(1);
/// On a terminal the answer is asked for again after so many looks without a change: how long things take grows.
const LOOKS: u32 = 10;

/// Control sequences of terminals (ECMA-48, and xterm's alternate screen).
const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l";
const LEAVE: &str = "\u{1b}[?25h\u{1b}[?1049l";
const FROM_TOP: &str = "\u{1b}[H\u{1b}[J";

/// Until a signal drops it, or nobody reads any more.
pub(super) async fn run(subject: Subject, database: DatabaseArguments, context: &Context) -> Result<Exit, Failure> {
    tokio::select! {
        result = watch(subject, database, context) => result,
        () = reader_gone() => Err(Failure::OutputClosed),
    }
}

async fn watch(subject: Subject, database: DatabaseArguments, context: &Context) -> Result<Exit, Failure> {
    let mut reader = database::blocking(move || database::open(database.db)).await??;
    let screen = std::io::stdout().is_terminal().then(Screen::enter).transpose()?;
    let mut shown: Option<Said> = None;
    let (mut version, mut looks, mut size) = (None, 0, None);
    loop {
        looks = (looks + 1) % LOOKS;
        if screen.is_some() && looks == 0 {
            version = None;
        }
        let (subject, own) = (subject.clone(), context.clone());
        let looked;
        (reader, looked) = database::blocking(move || {
            let looked = look(&reader, version, &subject, &own);
            (reader, looked)
        })
        .await?;
        if let Some((seen, said)) = looked? {
            version = Some(seen);
            if shown.as_ref() != Some(&said) {
                match &screen {
                    Some(screen) => size = Some(screen.draw(&said)?),
                    None => again(&said, shown.is_none(), context)?,
                }
                shown = Some(said);
            }
        }
        if let (Some(screen), Some(said)) = (&screen, &shown)
            && size != Some(Screen::size())
        {
            size = Some(screen.draw(said)?);
        }
        tokio::time::sleep(PERIOD).await;
    }
}

/// The answer, if the database has changed since.
fn look(
    reader: &Reader,
    known: Option<u64>,
    subject: &Subject,
    context: &Context,
) -> Result<Option<(u64, Said)>, Failure> {
    let version = reader.version().map_err(cannot_read(reader))?;
    if known == Some(version) {
        return Ok(None);
    }
    Ok(Some((version, answer(subject, reader, context, now_us())?)))
}

fn again(said: &Said, is_first: bool, context: &Context) -> Result<(), Failure> {
    let is_plain = matches!(context.format, None | Some(Format::Plain));
    if is_plain && !is_first {
        print("\n")?;
    }
    print(&said.text)?;
    for notice in &said.notices {
        context.notice(notice);
    }
    Ok(())
}

/// The alternate screen of a terminal, until it is dropped.
struct Screen;

impl Screen {
    fn enter() -> Result<Screen, Failure> {
        print(ENTER)?;
        Ok(Screen)
    }

    /// Columns and lines.
    fn size() -> (usize, usize) {
        match terminal_size::terminal_size() {
            Some((width, height)) => (usize::from(width.0), usize::from(height.0)),
            None => (80, 24),
        }
    }

    /// What does not fit is cut, so that the beginning stays in sight. For which size it was drawn.
    fn draw(&self, said: &Said) -> Result<(usize, usize), Failure> {
        let (width, height) = Screen::size();
        let mut lines: Vec<&str> = said.text.lines().collect();
        lines.extend(said.notices.iter().map(String::as_str));
        let more = format!("… and {} lines more", (lines.len() + 1).saturating_sub(height));
        if lines.len() > height && height > 1 {
            lines.truncate(height - 1);
            lines.push(&more);
        }
        let cut = |line: &&str| line.chars().take(width).collect::<String>();
        let lines: Vec<String> = lines.iter().take(height).map(cut).collect();
        print(&format!("{FROM_TOP}{}", lines.join("\r\n")))?;
        Ok((width, height))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(LEAVE.as_bytes()).and_then(|()| out.flush());
    }
}
