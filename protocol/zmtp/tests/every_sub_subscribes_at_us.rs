//! A stock SUB connects to a publishing peer made of this crate's parts: its subscriptions are read in both forms, and
//! it hears what we send.

#![allow(clippy::unwrap_used)]

mod peers;

use lavabus_zmtp::{SocketType, SubscriptionChange};
use libzmq_peer::Kind;
use peers::*;
use zeromq::{Socket as _, SocketRecv as _};

#[tokio::test]
async fn libzmq() {
    let folder = tempfile::tempdir().unwrap();
    for endpoint in endpoints(&folder) {
        let (listener, endpoint) = listen(&endpoint).await;
        let sub = stock(Kind::Sub);
        sub.subscribe(b"lab.").unwrap();
        sub.subscribe(b"").unwrap();
        sub.connect(&endpoint.to_string()).unwrap();
        let mut publisher = PublishingPeer::accept(&listener).await;
        assert_eq!((publisher.peer.minor, publisher.peer.socket_type), (1, SocketType::Sub));
        assert_eq!(publisher.subscription().await, SubscriptionChange::Subscribe("".into()));
        assert_eq!(
            publisher.subscription().await,
            SubscriptionChange::Subscribe("lab.".into())
        );
        sub.unsubscribe(b"").unwrap();
        // libzmq handles an application's call with the next one.
        let receiving = tokio::task::spawn_blocking(move || sub.recv_timeout(LONG).unwrap());
        assert_eq!(publisher.subscription().await, SubscriptionChange::Cancel("".into()));
        publisher.send(&[b"lab.device", b"{}"]).await;
        assert_eq!(receiving.await.unwrap(), [b"lab.device".as_slice(), b"{}"]);
    }
}

#[tokio::test]
async fn zeromq_crate() {
    let (listener, endpoint) = listen(&"tcp://127.0.0.1:0".parse().unwrap()).await;
    let receiving = tokio::spawn(async move {
        let mut sub = zeromq::SubSocket::new();
        sub.connect(&endpoint.to_string()).await.unwrap();
        sub.subscribe("lab.").await.unwrap();
        tokio::time::timeout(LONG, sub.recv()).await.unwrap().unwrap()
    });
    let mut publisher = PublishingPeer::accept(&listener).await;
    assert_eq!(publisher.peer.minor, 0);
    assert_eq!(
        publisher.subscription().await,
        SubscriptionChange::Subscribe("lab.".into())
    );
    publisher.send(&[b"lab.device", &[1; 300]]).await;
    let frames: Vec<Vec<u8>> = receiving
        .await
        .unwrap()
        .into_vec()
        .into_iter()
        .map(|frame| frame.to_vec())
        .collect();
    assert_eq!(frames, [b"lab.device".to_vec(), vec![1; 300]]);
}
