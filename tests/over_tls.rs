//! `--bus https://…` and `wss://…`, as behind a reverse proxy: a certificate that nobody vouches for is refused at once.

#![allow(clippy::unwrap_used)]

mod lab;

use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use lab::{CLOSED_PORT, Cli, Lab, Message, RunningPublisher, StockPush, eventually};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// A publisher, and TLS before its second port.
struct Scene {
    publisher: RunningPublisher,
    /// `localhost:PORT`
    host: String,
    certificate: String,
}

impl Scene {
    async fn start() -> Scene {
        let publisher = Lab::new().journal().http().start().await;
        let signed = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(signed.signing_key.serialize_der().into());
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![signed.cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = format!("localhost:{}", listener.local_addr().unwrap().port());
        tokio::spawn(end_tls(listener, TlsAcceptor::from(Arc::new(config)), publisher.http()));
        Scene {
            publisher,
            host,
            certificate: format!(
                "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
                BASE64_STANDARD.encode(signed.cert.der())
            ),
        }
    }

    /// Who trusts it.
    fn trusting(&self) -> Cli {
        let cli = Cli::new();
        let file = cli.file("authorities.pem", &self.certificate);
        cli.variable("SSL_CERT_FILE", file.display())
    }
}

async fn end_tls(listener: TcpListener, acceptor: TlsAcceptor, to: SocketAddr) {
    while let Ok((client, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let mut client = acceptor.accept(client).await?;
            let mut server = TcpStream::connect(to).await?;
            tokio::io::copy_bidirectional(&mut client, &mut server).await
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_where_the_certificate_is_trusted() {
    let scene = Scene::start().await;
    let counters = scene.publisher.counters();
    for scheme in ["https", "wss"] {
        let bus = format!("{scheme}://{}", scene.host);
        let heard = || counters.event_streams.get() + counters.websockets.get();
        let before = heard();
        // An identity of the server may do without.
        let lax = Cli::new().identity_text(&format!(
            "lax: {{uri: \"https://{}/RPC2\", verify_ssl_cert: false, events: {{uri: \"{CLOSED_PORT}\"}}}}\n",
            scene.host
        ));
        let listen = ["listen", "--bus", &bus, "-o", "template={{ uuid }}", "--count", "1"];
        let running = [
            scene.trusting().start(listen),
            lax.start([&["-i", "lax"], &listen[..]].concat()),
        ];
        eventually("both hear", || heard() == before + 2).await;
        let event = Message::test_event(1);
        StockPush::connect(scene.publisher.intake()).send(&event);
        for running in running {
            running.ended().with(0).printed(&format!("{}\n", event.uuid()));
        }
        scene.trusting().run(["doctor", "--bus", &bus]).with(0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_not_trusted_is_refused_at_once_and_said() {
    let scene = Scene::start().await;
    let (https, wss) = (format!("https://{}", scene.host), format!("wss://{}", scene.host));
    let cli = Cli::new();
    // As patient as can be: it is no outage.
    let patient = ["--connect-timeout", "1h"];
    for bus in [&https, &wss] {
        for words in [&["listen"][..], &["wait", "job", "12"], &["record"]] {
            let ended = cli.run([words, &patient, &["--bus", bus]].concat()).with(20);
            ended
                .said("is not trusted here")
                .said("UnknownIssuer")
                .said("SSL_CERT_FILE");
        }
        let ended = cli.run(["doctor", "--bus", bus]).with(20);
        assert!(
            ended.stdout.contains("certificate refused") && ended.stdout.contains("SSL_CERT_FILE"),
            "{ended:?}"
        );
    }
    let ended = cli.run(["timeline", "12", "--bus", &https]).with(20);
    ended.said("is not trusted here");
}
