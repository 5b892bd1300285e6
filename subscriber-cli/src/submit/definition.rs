//! Job definitions, from files or standard input.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::exit::Exit;
use crate::failure::Failure;

/// LAVA's web server takes no more in one request, in bytes.
const LIMIT: u64 = 16 << 20;

/// One definition, and where it is from.
#[derive(Clone, Debug)]
pub(super) struct Definition {
    /// As a person calls it: the path, or `standard input`.
    pub(super) name: String,
    pub(super) text: String,
}

/// Reads them all before anything is submitted.
pub(super) async fn read(files: &[PathBuf]) -> Result<Vec<Definition>, Failure> {
    let mut definitions = Vec::new();
    for path in files {
        let name = match path.as_os_str() == "-" {
            true => "standard input".to_owned(),
            false => path.display().to_string(),
        };
        let refused = |cause: String| {
            Failure::new(
                Exit::Usage,
                format!("{name} cannot be submitted"),
                cause,
                "a file with a job definition in YAML, or - for standard input",
            )
        };
        let text = read_one(path).await.map_err(refused)?;
        if text.trim().is_empty() {
            return Err(refused("it is empty".to_owned()));
        }
        definitions.push(Definition { name, text });
    }
    Ok(definitions)
}

async fn read_one(path: &Path) -> Result<String, String> {
    let path = path.to_owned();
    let read = tokio::task::spawn_blocking(move || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match path.as_os_str() == "-" {
            true => io::stdin().take(LIMIT + 1).read_to_end(&mut bytes)?,
            false => File::open(path)?.take(LIMIT + 1).read_to_end(&mut bytes)?,
        };
        Ok(bytes)
    });
    let bytes = match read.await {
        Ok(read) => read.map_err(|error| error.to_string())?,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    };
    if bytes.len() as u64 > LIMIT {
        return Err(format!("it is longer than {} MiB", LIMIT >> 20));
    }
    String::from_utf8(bytes).map_err(|error| format!("it is no UTF-8 at byte {}", error.utf8_error().valid_up_to()))
}
