//! A server that answers with fixed bytes, one connection after the other.

use lavabus_lava::{Identity, Server, Token};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Where it listens, and the requests that it got: one text each, head and body.
pub struct Script {
    pub uri: String,
    requests: JoinHandle<Vec<String>>,
}

impl Script {
    /// Answers as many connections as there are answers.
    pub async fn of(answers: Vec<String>) -> Script {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}/", listener.local_addr().unwrap());
        let requests = tokio::spawn(async move {
            let mut requests = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let request = request(&mut stream).await;
                stream.write_all(echoing(&answer, &request).as_bytes()).await.unwrap();
                requests.push(request);
                stream.shutdown().await.unwrap();
            }
            requests
        });
        Script { uri, requests }
    }

    /// As ada, with a token.
    pub fn server(&self) -> Server {
        Server::new(&self.identity()).unwrap()
    }

    pub fn identity(&self) -> Identity {
        let mut identity = Identity::anonymous(&self.uri).unwrap();
        identity.username = Some("ada".to_owned());
        identity.token = Some(Token::new("s3cret"));
        identity
    }

    /// All requests, after all answers.
    pub async fn requests(self) -> Vec<String> {
        self.requests.await.unwrap()
    }

    /// The first lines of all requests, without the version.
    pub async fn lines(self) -> Vec<String> {
        let requests = self.requests().await;
        let line = |request: &String| request.lines().next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
        requests.iter().map(line).collect()
    }
}

/// One whole request.
pub async fn request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("content-length")
                    .then(|| value.parse::<usize>().unwrap())
            });
            if body.len() >= length.unwrap_or(0) {
                return text.into_owned();
            }
        }
        let read = stream.read_buf(&mut bytes).await.unwrap();
        assert!(read > 0, "the request ended early");
    }
}

/// What stands in an answer where the request's `Authorization` is to be repeated. It is as long as what takes its
/// place, so that the length of the answer stays right.
pub const ECHO_TOKEN: &str = "##TOKEN#####";
/// The same of `Basic` of ada:s3cret.
pub const ECHO_BASIC: &str = "##BASIC###############";

/// The answer with the request's own `Authorization` in it.
pub fn echoing(answer: &str, request: &str) -> String {
    let mut answer = answer.to_owned();
    for mark in [ECHO_TOKEN, ECHO_BASIC] {
        if answer.contains(mark) {
            let sent = request
                .lines()
                .find_map(|line| line.strip_prefix("authorization: "))
                .unwrap();
            assert_eq!(sent.len(), mark.len(), "{sent}");
            answer = answer.replace(mark, sent);
        }
    }
    answer
}

/// An answer with a status line such as `200 OK`.
pub fn answer(status: &str, kind: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nDate: Sat, 21 Nov 2026 05:01:05 GMT\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

pub fn json(status: &str, body: &str) -> String {
    answer(status, "application/json", body)
}

pub fn html(status: &str) -> String {
    answer(status, "text/html", "<html><body>gateway</body></html>")
}

/// An XML-RPC answer, as Python writes it.
pub fn xml(value: &str) -> String {
    let body = format!(
        "<?xml version='1.0'?>\n<methodResponse>\n<params>\n<param>\n<value>{value}</value>\n</param>\n</params>\n</methodResponse>\n"
    );
    answer("200 OK", "application/xml", &body)
}

/// An XML-RPC fault, as Python writes it.
pub fn fault(code: i32, message: &str) -> String {
    let body = format!(
        "<?xml version='1.0'?>\n<methodResponse>\n<fault>\n<value><struct>\n<member>\n<name>faultCode</name>\n<value><int>{code}</int></value>\n</member>\n<member>\n<name>faultString</name>\n<value><string>{message}</string></value>\n</member>\n</struct></value>\n</fault>\n</methodResponse>\n"
    );
    answer("200 OK", "application/xml", &body)
}
