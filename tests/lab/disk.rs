//! A disk that a test has for itself, to be full or not to be written.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Names the disk to the process that has it.
const DISK: &str = "LAVABUS_TEST_DISK";

/// A disk with these options of tmpfs for the test of that name, which is run again, as a process of its own that alone sees the
/// disk; to the first process there is none.
pub fn own_disk(test: &str, options: &str) -> Option<PathBuf> {
    if let Some(disk) = std::env::var_os(DISK) {
        return Some(disk.into());
    }
    const NO_DISK: i32 = 77;
    let folder = tempfile::tempdir().unwrap();
    let mount = format!(r#"mount -t tmpfs -o {options} lavabus "${DISK}" || exit {NO_DISK}; exec "$0" "$@""#);
    let run = Command::new("unshare")
        .args(["--mount", "sh", "-c", &mount])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(DISK, folder.path())
        .output();
    let skipped = |why: &str| eprintln!("SKIPPED {test}: a disk of its own needs root on Linux: {why}");
    match run {
        Err(error) => skipped(&error.to_string()),
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            if output.status.code() == Some(NO_DISK) || said.starts_with("unshare:") {
                skipped(&said);
            } else {
                panic!("{}{said}", String::from_utf8_lossy(&output.stdout));
            }
        }
    }
    None
}

/// Takes all the room that a disk has, until the file that is returned is removed.
pub fn fill(disk: &Path) -> PathBuf {
    let path = disk.join("ballast");
    let mut file = File::create(&path).unwrap();
    for size in [64 * 1024, 4096, 512] {
        loop {
            match file.write_all(&vec![0; size]) {
                Ok(()) => {}
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
                    break;
                }
            }
        }
    }
    path
}
