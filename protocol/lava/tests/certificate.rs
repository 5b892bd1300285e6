//! A server whose certificate nobody vouches for.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

#[allow(dead_code)]
mod script;

use std::sync::Arc;

use lavabus_lava::{Identity, Server, ServerError, SubmitError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// Answers whoever shakes hands.
async fn self_signed() -> Identity {
    let signed = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(signed.signing_key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let _ = stream.read(&mut [0; 4096]).await;
            let answer = script::json("200 OK", r#"{"user": "ada"}"#);
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    Identity::anonymous(&format!("https://localhost:{port}/")).unwrap()
}

#[tokio::test]
async fn it_is_refused_for_good() {
    let server = Server::new(&self_signed().await).unwrap();
    let error = server.whoami().await.unwrap_err();
    assert!(
        matches!(error, ServerError::Certificate { .. }) && !error.is_temporary(),
        "{error:?}"
    );
    let error = server.web_socket().await.unwrap_err();
    assert!(matches!(error, ServerError::Certificate { .. }), "{error:?}");
    let error = server.submit("x").await.unwrap_err();
    assert!(
        matches!(error, SubmitError::NotSent(ServerError::Certificate { .. })),
        "{error:?}"
    );
}

#[tokio::test]
async fn it_is_taken_where_the_identity_says_so() {
    let mut identity = self_signed().await;
    identity.verify_certificate = false;
    let server = Server::new(&identity).unwrap();
    assert_eq!(server.whoami().await.unwrap().as_deref(), Some("ada"));
}
