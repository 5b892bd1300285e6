//! `lavabus rejected`: the messages that a publisher refused, the newest first.
//!
//! It reads the database file. Ends with 0, also when there is none, and with 30 when there is no database that can be
//! read.
//!
//! As JSON, one object a line: `{"number","time","reason","peer","size","frames":[{"text"} or {"hex"}]}`. A frame is
//! `text` where it is UTF-8, else `hex`; the publisher keeps the first 4 KiB of a message, and `size` says how much it
//! was.

mod printable;

use std::fmt::Write as _;
use std::path::PathBuf;

use lavabus_store::{Reader, RejectedMessage};
use serde_json::Value;

use self::printable::printable;
use crate::context::Context;
use crate::database;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::question::cannot_read;
use crate::remote;
use crate::status::{Micros, as_json, print};

/// So much of a frame is shown as text, in characters.
const FRAME_SHOWN: usize = 160;
/// So many frames are shown as text.
const FRAMES_SHOWN: usize = 8;

/// Show the messages that the publisher refused, the newest first
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// The journal; otherwise the one at the usual place
    #[arg(long, value_name = "PATH")]
    pub db: Option<PathBuf>,

    /// At most so many; 1,000 are kept
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: u32,
}

/// Runs the command.
///
/// # Errors
///
/// [`Failure`] says what failed, the cause, and the next thing to try.
pub async fn run(arguments: Arguments, context: &Context) -> Result<Exit, Failure> {
    let as_json = as_json(context, "rejected")?;
    let limit = arguments.limit;
    let messages = match remote::port(arguments.db.as_ref(), context)? {
        Some(port) => {
            let query = [remote::parameter("limit", limit.clamp(1, 1_000))];
            let answer = remote::ask(&port, &["rejected"], &query).await?;
            let messages = answer.get("rejected").and_then(Value::as_array);
            let messages = messages.map(|messages| messages.iter().map(remote::rejected_of).collect());
            let messages: Option<Vec<RejectedMessage>> = messages.unwrap_or_default();
            messages.ok_or_else(|| remote::unreadable(&port))?
        }
        None => {
            let ask = move |reader: &Reader| reader.rejected(limit).map_err(cannot_read(reader));
            database::ask(arguments.db, ask).await?
        }
    };
    if messages.is_empty() && arguments.limit > 0 {
        context.notice("no refused messages are kept");
    }
    let write = if as_json { json_line } else { text };
    for message in &messages {
        print(&write(message))?;
    }
    Ok(Exit::Success)
}

/// One line about the message, then one for each frame.
fn text(message: &RejectedMessage) -> String {
    let mut text = String::new();
    let (reason, _) = printable(message.reason.as_bytes(), FRAME_SHOWN);
    let (peer, _) = printable(message.peer.as_bytes(), FRAME_SHOWN);
    let _ = writeln!(
        text,
        "{}  {reason}  from {peer}  {} bytes in all",
        Micros(message.received_us),
        message.size
    );
    for (index, frame) in message.frames.iter().take(FRAMES_SHOWN).enumerate() {
        let (shown, whole) = printable(frame, FRAME_SHOWN);
        let _ = writeln!(text, "  {}: {shown}{}", index + 1, if whole { "" } else { " …" });
    }
    match message.frames.len().saturating_sub(FRAMES_SHOWN) {
        0 => {}
        more => {
            let _ = writeln!(text, "  … and {more} frames more");
        }
    }
    text
}

fn json_line(message: &RejectedMessage) -> String {
    let line = message.to_json();
    let mut safe = String::with_capacity(line.len() + 1);
    for character in line.chars() {
        // JSON lets DEL, the controls beyond ASCII and marks of direction stand as they are.
        if character == '\u{7f}' || !character.is_ascii() && character.escape_debug().len() > 1 {
            for unit in character.encode_utf16(&mut [0; 2]) {
                let _ = write!(safe, "\\u{unit:04x}");
            }
        } else {
            safe.push(character);
        }
    }
    safe.push('\n');
    safe
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::status::tests::small_journal;

    fn messages() -> Vec<RejectedMessage> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.db");
        let _journal = small_journal(&path);
        Reader::open(&path).unwrap().rejected(10).unwrap()
    }

    #[test]
    fn as_text() {
        let text: String = messages().iter().map(text).collect();
        assert!(
            !text
                .chars()
                .any(|character| character.is_control() && character != '\n')
        );
        insta::assert_snapshot!(text, @r#"
    2026-11-21T05:01:05.222338Z  frame_count  from ipc (pid 812)  5000 bytes in all
      1: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx …
    2026-11-21T05:01:05.222338Z  not_json  from ipc  14 bytes in all
      1: t
      2: u
      3: d
      4: n
      5: {"a\\b": "q
    2026-11-21T05:01:05.222338Z  frame_count  from tcp://127.0.0.1:40312  42 bytes in all
      1: org.example.lab.device
      2: \u{1b}[31mred\u{1b}[0m
      3: \xff\xfe\0
      4: é\u{202e}
    "#);
    }

    #[test]
    fn as_json() {
        let lines: String = messages()[1..].iter().map(json_line).collect();
        assert_eq!(lines.lines().count(), 2);
        insta::assert_snapshot!(lines, @r#"
    {"number":2,"time":"2026-11-21T05:01:05.222338Z","reason":"not_json","peer":"ipc","size":14,"frames":[{"text":"t"},{"text":"u"},{"text":"d"},{"text":"n"},{"text":"{\"a\\b\": \"q"}]}
    {"number":1,"time":"2026-11-21T05:01:05.222338Z","reason":"frame_count","peer":"tcp://127.0.0.1:40312","size":42,"frames":[{"text":"org.example.lab.device"},{"text":"\u001b[31mred\u001b[0m"},{"hex":"fffe00"},{"text":"é\u202e"}]}
    "#);
    }

    #[test]
    fn json_has_nothing_for_the_terminal_either() {
        let mut message = messages().remove(0);
        let nasty = "\u{1b}\u{7f}\u{9b}2J\u{202e}\u{e0001}é";
        message.frames = vec![nasty.into()];
        let line = json_line(&message);
        let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(parsed["frames"][0]["text"], nasty);
        assert!(
            !line
                .trim_end()
                .chars()
                .any(|character| character.is_control() || character == '\u{202e}'),
            "{line}"
        );
    }

    #[test]
    fn many_frames_are_not_all_shown() {
        let mut message = messages().remove(0);
        message.frames = vec![b"x".to_vec(); 20];
        assert_eq!(text(&message).lines().count(), 1 + FRAMES_SHOWN + 1);
        assert!(text(&message).ends_with("  … and 12 frames more\n"));
    }

    #[tokio::test]
    async fn the_command_ends_with_30_without_a_database() {
        let folder = tempfile::tempdir().unwrap();
        let context = Context {
            quiet: true,
            ..Context::default()
        };
        let arguments = Arguments {
            db: Some(folder.path().join("none.db")),
            limit: 5,
        };
        assert_eq!(run(arguments, &context).await.unwrap_err().exit(), Exit::Database);
    }
}
