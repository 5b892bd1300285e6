//! Noticing that whoever read standard output has gone, while there is nothing to write.

use std::io;
use std::os::fd::AsFd as _;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Comes to its end when the reader of standard output goes, as `head` does in `lavabus listen | head`. Of a file or
/// a terminal it never does.
pub(crate) async fn reader_gone() {
    let (sender, gone) = tokio::sync::oneshot::channel();
    // A thread that is not waited for: it ends with the process.
    let watching = std::thread::Builder::new()
        .name("reader-gone".to_owned())
        .spawn(move || {
            let stdout = io::stdout();
            let mut watched = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
            // poll(2): POLLERR "is also set for a file descriptor referring to the write end of a pipe when the read end
            // has been closed".
            if poll(&mut watched, PollTimeout::NONE).is_ok()
                && watched[0]
                    .revents()
                    .is_some_and(|flags| flags.contains(PollFlags::POLLERR))
            {
                let _ = sender.send(());
            }
        });
    if watching.is_err() || gone.await.is_err() {
        std::future::pending::<()>().await;
    }
}
