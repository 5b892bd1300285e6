//! Where events come from.

use reqwest::Url;
use reqwest_websocket::Upgrade;

use super::Server;
use crate::error::ServerError;
use crate::events::{self, EventSocket};
use crate::http::{ANSWER_LIMIT, Reply};
use crate::xml_rpc;

impl Server {
    /// Where events come from over ZeroMQ: the identity's `events.uri` if it is `tcp://`, else what the server says,
    /// with the server's host for `*`.
    pub async fn events_socket(&self) -> Result<String, ServerError> {
        if let Some(uri) = &self.inner.identity.events.uri
            && uri.starts_with("tcp://")
        {
            return Ok(uri.clone());
        }
        let method = "scheduler.get_publisher_event_socket";
        let (value, reply) = self.xml_rpc(method, Vec::new(), method).await?;
        let socket = xml_rpc::text(&value).ok_or_else(|| reply.unexpected())?;
        let host = self.uri().host_str().unwrap_or("localhost");
        let any = ["*", "0.0.0.0", "[::]"];
        let of_host = any.iter().find_map(|any| {
            let port = socket.strip_prefix("tcp://")?.strip_prefix(any)?;
            port.starts_with(':').then(|| format!("tcp://{host}{port}"))
        });
        Ok(of_host.unwrap_or(socket))
    }

    /// Opens the WebSocket: the identity's `events.uri` if it is `ws(s)://` or `http(s)://`, else `ws/` of the server.
    /// The token goes with it. A token that is not good is told by the first frame, not here.
    ///
    /// # Errors
    ///
    /// [`ServerError::Unexpected`] with its status if something else than a WebSocket is there, also if it is 401, 403 or
    /// 404: LAVA refuses after the handshake only. As with any request otherwise.
    pub async fn web_socket(&self) -> Result<EventSocket, ServerError> {
        let user = self.user().await?;
        let url = self.web_socket_url();
        let secrets = self.secrets();
        let request = self.signed(self.inner.client.get(url), user.as_deref());
        let timeout = self.inner.identity.timeout;
        let open = async {
            let began = std::time::Instant::now();
            let response = request.upgrade().send().await;
            let response = response.map_err(|error| events::ended(&error, &secrets))?;
            if response.status() != reqwest::StatusCode::SWITCHING_PROTOCOLS {
                let reply = Reply::read(response.into_inner(), ANSWER_LIMIT, began, secrets.clone()).await?;
                return Err(reply.handshake_refusal());
            }
            let socket = response.into_websocket().await;
            socket.map_err(|error| events::ended(&error, &secrets))
        };
        let socket = tokio::time::timeout(timeout, open)
            .await
            .map_err(|_| ServerError::Unavailable {
                cause: "no answer in time".to_owned(),
            })??;
        Ok(EventSocket::new(socket, secrets))
    }

    fn web_socket_url(&self) -> Url {
        let uri = self.inner.identity.events.uri.as_deref();
        let named = uri.and_then(|uri| Url::parse(uri).ok());
        match named.filter(|url| matches!(url.scheme(), "ws" | "wss" | "http" | "https")) {
            Some(mut url) => {
                // LAVA answers at /ws/ only: /ws is 404.
                let path = url.path().trim_end_matches('/');
                let path = if path.is_empty() {
                    "/ws/".to_owned()
                } else {
                    format!("{path}/")
                };
                url.set_path(&path);
                url
            }
            None => self.path(&["ws", ""]),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::identity::Identity;

    #[test]
    fn the_web_socket_of_the_identity() {
        let mut identity = Identity::anonymous("https://a/lava/RPC2").unwrap();
        let server = Server::new(&identity).unwrap();
        assert_eq!(server.web_socket_url().as_str(), "https://a/lava/ws/");
        for (named, expected) in [
            ("wss://events.example.com", "wss://events.example.com/ws/"),
            ("ws://b:8001/ws", "ws://b:8001/ws/"),
            ("http://b/x/ws/", "http://b/x/ws/"),
            ("tcp://b:5500", "https://a/lava/ws/"),
        ] {
            identity.events.uri = Some(named.to_owned());
            assert_eq!(Server::new(&identity).unwrap().web_socket_url().as_str(), expected);
        }
    }
}
