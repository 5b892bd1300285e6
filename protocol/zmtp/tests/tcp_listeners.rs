//! `tcp://` endpoints as one may write them: any port, a name, IPv6, both kinds at once; and clear errors.

#![allow(clippy::unwrap_used)]

mod peers;

use lavabus_zmtp::{BindError, BindOptions, Endpoint, Listener, PeerAddress, Stream};
use peers::*;

async fn bind(endpoint: &str) -> Result<Listener, BindError> {
    Listener::bind(&endpoint.parse().unwrap(), &BindOptions::default()).await
}

fn port(listener: &Listener) -> u16 {
    match listener.local_endpoint() {
        Endpoint::Tcp { port, .. } => *port,
        Endpoint::Ipc { .. } => panic!("not tcp"),
    }
}

async fn is_reached_at(listener: &Listener, host: &str) {
    let endpoint = format!("tcp://{host}:{}", port(listener)).parse().unwrap();
    let (client, server) = tokio::join!(Stream::connect(&endpoint), listener.accept());
    let (client, server) = (client.unwrap(), server.unwrap());
    assert!(client.peer().is_local() && server.peer().is_local());
    assert!(server.was_accepted() && !client.was_accepted());
    let PeerAddress::Tcp(address) = server.peer() else {
        panic!()
    };
    assert_eq!(address.is_ipv6(), host.starts_with('['), "{address}");
}

#[tokio::test]
async fn every_form_of_host() {
    is_reached_at(&bind("tcp://*:0").await.unwrap(), "127.0.0.1").await;
    is_reached_at(&bind("tcp://127.0.0.1:0").await.unwrap(), "127.0.0.1").await;
    let by_name = bind("tcp://localhost:0").await.unwrap();
    let endpoint = by_name.local_endpoint().clone();
    let (client, server) = tokio::join!(Stream::connect(&endpoint), by_name.accept());
    assert!(client.is_ok() && server.is_ok());
    if !has_ipv6() {
        eprintln!("SKIPPED: this machine has no IPv6");
        return;
    }
    is_reached_at(&bind("tcp://[::1]:0").await.unwrap(), "[::1]").await;
    let both = bind("tcp://[::]:0").await.unwrap();
    is_reached_at(&both, "[::1]").await;
    is_reached_at(&both, "127.0.0.1").await;
}

#[tokio::test]
async fn errors_name_the_endpoint_and_the_cause() {
    let first = bind("tcp://127.0.0.1:0").await.unwrap();
    let endpoint = first.local_endpoint().to_string();
    let error = bind(&endpoint).await.unwrap_err();
    assert!(matches!(error, BindError::InUse { .. }), "{error}");
    assert!(error.to_string().contains(&endpoint), "{error}");
    let error = bind("tcp://192.0.2.1:0").await.unwrap_err();
    assert!(matches!(error, BindError::Address { .. }), "{error}");
    let error = bind("tcp://no-such-host.invalid:0").await.unwrap_err();
    assert!(matches!(error, BindError::Address { .. }), "{error}");
}

#[tokio::test]
async fn a_port_can_be_bound_again_at_once() {
    let first = bind("tcp://127.0.0.1:0").await.unwrap();
    let endpoint = first.local_endpoint().clone();
    // The side that closes first keeps the port in TIME_WAIT.
    let (client, server) = tokio::join!(Stream::connect(&endpoint), first.accept());
    drop((server, first));
    drop(client);
    bind(&endpoint.to_string()).await.unwrap();
}

#[tokio::test]
async fn a_living_peers_machine_answers() {
    let listener = bind("tcp://127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_endpoint().clone();
    let (client, server) = tokio::join!(Stream::connect(&endpoint), listener.accept());
    let (client, server) = (client.unwrap(), server.unwrap());
    // Even though it reads nothing, until its window is full.
    while client.try_write(&[0; 100_000]).is_ok() {}
    assert!(client.host_answers(std::time::Duration::ZERO));
    drop(server);
}
