//! A way to a port that can be cut, as the network's can.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Passes everything on between its clients and a port.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    is_open: watch::Sender<bool>,
}

impl Relay {
    /// Open, until [`cut`](Self::cut).
    pub async fn to(port: SocketAddr) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (is_open, open) = watch::channel(true);
        let relay = Relay {
            address: listener.local_addr().unwrap(),
            is_open,
        };
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut open = open.clone();
                tokio::spawn(async move {
                    let passing = async {
                        let mut server = TcpStream::connect(port).await?;
                        tokio::io::copy_bidirectional(&mut client, &mut server).await
                    };
                    tokio::select! {
                        _ = open.wait_for(|is_open| !is_open) => {}
                        _ = passing => {}
                    }
                });
            }
        });
        relay
    }

    /// Where its clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends all connections, and each new one at once.
    pub fn cut(&self) {
        self.is_open.send_replace(false);
    }

    /// Connections made from now on live.
    pub fn mend(&self) {
        self.is_open.send_replace(true);
    }
}
