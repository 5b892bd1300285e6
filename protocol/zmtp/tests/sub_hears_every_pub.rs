//! Our SUB subscribes at a stock PUB or XPUB of libzmq and at a PUB of the `zeromq` crate, and hears what matches.

#![allow(clippy::unwrap_used)]

mod peers;

use lavabus_zmtp::{ConnectOptions, Limits, SubConnection, SubscriptionForm};
use libzmq_peer::Kind;
use peers::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use zeromq::{Socket as _, SocketSend as _};

#[tokio::test]
async fn libzmq_in_both_forms_of_subscription() {
    let folder = tempfile::tempdir().unwrap();
    for endpoint in endpoints(&folder) {
        for form in [SubscriptionForm::AsVersion, SubscriptionForm::Message] {
            let publisher = stock(Kind::XPub);
            publisher.bind(&endpoint.to_string()).unwrap();
            // The largest messages have a topic besides.
            let limits = Limits {
                message: 2 << 20,
                frames: 65,
                ..Default::default()
            };
            let options = ConnectOptions {
                limits,
                ..Default::default()
            };
            let endpoint = publisher.last_endpoint().unwrap().parse().unwrap();
            let mut sub = SubConnection::connect(&endpoint, &options, LONG).await.unwrap();
            sub.set_subscription_form(form);
            assert_eq!(sub.peer().minor, 1);
            sub.subscribe(b"lab.").await.unwrap();
            let publisher = beside(move || {
                assert_eq!(publisher.recv_timeout(LONG).unwrap(), [b"\x01lab."]);
                for message in messages_of_every_size() {
                    publisher.send(&[b"other".to_vec(), b"x".to_vec()]).unwrap();
                    publisher
                        .send(&[vec![b"lab.device".to_vec()], message].concat())
                        .unwrap();
                }
                publisher
            })
            .await;
            let expected = messages_of_every_size();
            for (received, sent) in receive_sub(&mut sub, expected.len()).await.iter().zip(&expected) {
                assert_eq!(received[0], b"lab.device");
                assert_eq!(&received[1..], sent);
            }
            sub.cancel(b"lab.").await.unwrap();
            beside(move || assert_eq!(publisher.recv_timeout(LONG).unwrap(), [b"\x00lab."])).await;
        }
    }
}

#[tokio::test]
async fn a_plain_libzmq_pub_with_lavas_settings() {
    let publisher = stock(Kind::Pub);
    set_lavas_heartbeats(&publisher);
    publisher.bind("tcp://127.0.0.1:*").unwrap();
    let endpoint = publisher.last_endpoint().unwrap().parse().unwrap();
    let enough = Arc::new(AtomicBool::new(false));
    let publishing = tokio::task::spawn_blocking({
        let enough = enough.clone();
        move || {
            while !enough.load(Ordering::Relaxed) {
                publisher.send(&["topic", "data"]).unwrap();
                std::thread::yield_now();
            }
        }
    });
    let mut sub = connect_sub(&endpoint).await;
    sub.subscribe(b"").await.unwrap();
    for message in receive_sub(&mut sub, 1000).await {
        assert_eq!(message, [b"topic", b"data".as_slice()]);
    }
    enough.store(true, Ordering::Relaxed);
    publishing.await.unwrap();
}

#[tokio::test]
async fn zeromq_crate() {
    let folder = tempfile::tempdir().unwrap();
    for endpoint in endpoints(&folder) {
        let mut publisher = zeromq::PubSocket::new();
        let endpoint = publisher.bind(&endpoint.to_string()).await.unwrap().to_string();
        let mut sub = connect_sub(&endpoint.parse().unwrap()).await;
        assert_eq!(sub.peer().minor, 0);
        sub.subscribe(b"lab.").await.unwrap();
        // When the subscription has arrived is not to be seen, so the first message is sent until it is heard.
        let heard = loop {
            publisher.send(zeromq::ZmqMessage::from("other")).await.unwrap();
            publisher.send(zeromq::ZmqMessage::from("lab.first")).await.unwrap();
            tokio::select! {
                heard = receive_sub(&mut sub, 1) => break heard,
                () = tokio::time::sleep(std::time::Duration::from_millis(10)) => {}
            }
        };
        assert_eq!(heard[0], [b"lab.first"]);
        let message: Vec<bytes::Bytes> = vec!["lab.last".into(), vec![5; 100_000].into()];
        publisher.send(message.try_into().unwrap()).await.unwrap();
        loop {
            let message = receive_sub(&mut sub, 1).await.pop().unwrap();
            if message[0] == b"lab.last" {
                assert_eq!(message[1], vec![5; 100_000]);
                break;
            }
            assert_eq!(message[0], b"lab.first");
        }
    }
}
