//! An ipc path has one listener: a second fails clearly, a left-over file is taken over, nothing else is touched.

#![allow(clippy::unwrap_used)]

mod peers;

use lavabus_zmtp::{BindError, BindOptions, Endpoint, IpcPathError, Listener, PeerAddress};
use peers::*;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

fn path_of(endpoint: &Endpoint) -> &Path {
    match endpoint {
        Endpoint::Ipc { path } => path,
        Endpoint::Tcp { .. } => panic!("not ipc"),
    }
}

async fn bind(endpoint: &Endpoint) -> Result<Listener, BindError> {
    Listener::bind(endpoint, &BindOptions::default()).await
}

#[tokio::test]
async fn a_second_instance_fails_and_the_first_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = ipc(&folder, "socket");
    let first = bind(&endpoint).await.unwrap();
    let error = bind(&endpoint).await.unwrap_err();
    assert!(matches!(error, BindError::InUse { .. }), "{error}");
    let push = stock(libzmq_peer::Kind::Push);
    push.connect(&endpoint.to_string()).unwrap();
    push.send(&["still here"]).unwrap();
    assert_eq!(
        receive_pull(&mut accept_pull(&first).await, 1).await[0],
        [b"still here"]
    );
}

#[tokio::test]
async fn a_listener_that_knows_of_no_lock_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = ipc(&folder, "socket");
    let stock = stock(libzmq_peer::Kind::Pull);
    stock.bind(&endpoint.to_string()).unwrap();
    let error = bind(&endpoint).await.unwrap_err();
    assert!(matches!(error, BindError::InUse { .. }), "{error}");
    assert!(path_of(&endpoint).exists());
}

#[tokio::test]
async fn a_left_over_socket_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = ipc(&folder, "socket");
    // As after SIGKILL: the file is there, nobody listens.
    drop(std::os::unix::net::UnixListener::bind(path_of(&endpoint)).unwrap());
    assert!(path_of(&endpoint).exists());
    bind(&endpoint).await.unwrap();
}

#[tokio::test]
async fn what_is_no_socket_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = ipc(&folder, "precious");
    std::fs::write(path_of(&endpoint), "data").unwrap();
    let error = bind(&endpoint).await.unwrap_err();
    assert!(
        matches!(
            &error,
            BindError::IpcPath {
                source: IpcPathError::NotASocket(_),
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(std::fs::read(path_of(&endpoint)).unwrap(), b"data");
    // Nor is a link followed.
    let link = ipc(&folder, "link");
    drop(std::os::unix::net::UnixListener::bind(folder.path().join("target")).unwrap());
    std::os::unix::fs::symlink(folder.path().join("target"), path_of(&link)).unwrap();
    let error = bind(&link).await.unwrap_err();
    assert!(
        matches!(
            &error,
            BindError::IpcPath {
                source: IpcPathError::NotASocket(_),
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn the_file_of_another_user_is_left_alone() {
    if !nix::unistd::Uid::effective().is_root() {
        eprintln!("SKIPPED: only root can make another user's file");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (bound, given_away) in [("socket", "socket"), ("other", "other.lock")] {
        let endpoint = ipc(&folder, bound);
        drop(std::os::unix::net::UnixListener::bind(path_of(&endpoint)).unwrap());
        let theirs = folder.path().join(given_away);
        if !theirs.exists() {
            std::fs::write(&theirs, "").unwrap();
        }
        nix::unistd::chown(&theirs, Some(nix::unistd::Uid::from_raw(65_534)), None).unwrap();
        let error = bind(&endpoint).await.unwrap_err();
        assert!(
            matches!(
                &error,
                BindError::IpcPath {
                    source: IpcPathError::OtherUser { owner: 65_534, .. },
                    ..
                }
            ),
            "{error}"
        );
        assert!(theirs.exists() && path_of(&endpoint).exists());
    }
}

#[tokio::test]
async fn mode_and_group_are_set() {
    let folder = tempfile::tempdir().unwrap();
    let group = nix::unistd::Gid::effective();
    for (mode, given) in [(0o660, None), (0o666, Some(group.to_string())), (0o600, None)] {
        let endpoint = ipc(&folder, "socket");
        let options = BindOptions {
            ipc_mode: mode,
            ipc_group: given,
            ..Default::default()
        };
        let _listener = Listener::bind(&endpoint, &options).await.unwrap();
        let metadata = std::fs::metadata(path_of(&endpoint)).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, mode);
        assert_eq!(metadata.gid(), group.as_raw());
    }
    let options = BindOptions {
        ipc_group: Some("no-such-group".into()),
        ..Default::default()
    };
    let error = Listener::bind(&ipc(&folder, "socket"), &options).await.unwrap_err();
    assert!(error.to_string().contains("no group \"no-such-group\""), "{error}");
    assert!(
        !folder.path().join("socket").exists(),
        "a failed bind leaves no socket behind"
    );
}

#[tokio::test]
async fn the_socket_file_is_removed_at_the_end_if_it_is_still_ours() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = ipc(&folder, "socket");
    let path: PathBuf = path_of(&endpoint).into();
    drop(bind(&endpoint).await.unwrap());
    assert!(!path.exists());
    assert!(folder.path().join("socket.lock").exists());

    let listener = bind(&endpoint).await.unwrap();
    std::fs::rename(&path, folder.path().join("moved")).unwrap();
    std::fs::write(&path, "somebody else's").unwrap();
    drop(listener);
    assert!(path.exists());
}

#[tokio::test]
async fn impossible_paths_are_explained() {
    let folder = tempfile::tempdir().unwrap();
    let long = ipc(&folder, &"x".repeat(108));
    let error = bind(&long).await.unwrap_err();
    assert!(error.to_string().contains("the system allows 107"), "{error}");
    let error = bind(&ipc(&folder, "no/such/folder")).await.unwrap_err();
    assert!(error.to_string().contains("does not exist"), "{error}");
}

#[tokio::test]
async fn the_peer_is_known_by_its_credentials() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = ipc(&folder, "socket");
    let listener = bind(&endpoint).await.unwrap();
    let _client = std::os::unix::net::UnixStream::connect(path_of(&endpoint)).unwrap();
    let stream = listener.accept().await.unwrap();
    let PeerAddress::Ipc { uid, pid } = stream.peer() else {
        panic!()
    };
    assert_eq!(uid, nix::unistd::Uid::effective().as_raw());
    assert_eq!(pid, Some(std::process::id() as i32));
    assert!(stream.peer().is_local());
}
