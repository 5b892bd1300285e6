//! `lavabus doctor`: what of identity, REST, XML-RPC, WebSocket and bus works from here, and what to try where it does
//! not.
//!
//! Ends with 0 when a wait from here can be trusted: something works and nothing is refused. Otherwise with 21 when
//! credentials are refused, and with 20 when nobody answers.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use lavabus_client::{Options, SecondPort, Subscription, SubscriptionError, Update, cursor_at};
use lavabus_lava::{Identity, Server, ServerError};
use lavabus_protocol::GapReason;
use serde::Serialize;
use serde_json::Value;
use tokio::time::{Instant, timeout};

use crate::bus::{Address, Bus};
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::outlet::{Outlet, Stream, Wanted};
use crate::sources;
use crate::status::{as_json, print};

/// One question may take so long.
const PATIENCE: Duration = Duration::from_secs(8);
/// A publisher answers an option at once; a WebSocket refuses at once.
const AT_ONCE: Duration = Duration::from_secs(2);
/// A topic that nobody has, so that nothing of the past is sent only to be thrown away.
const NO_TOPIC: &str = "lavabus.doctor.asks/";
const CERTIFICATE: &str =
    "its authority among the system's certificates (or SSL_CERT_FILE), or verify_ssl_cert: false in the identity";
/// A server says its time in whole seconds.
const SKEW: f64 = 2.0;

/// Look at what works: identity, REST, XML-RPC, WebSocket, the bus and what it permits, clocks
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {}

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Health {
    Good,
    /// It works, with a drawback.
    Warning,
    Bad,
    /// The server knows us not.
    Refused,
    /// Nothing to look at.
    Absent,
}

/// What was found of one thing. The keys of the JSON are public.
#[derive(Clone, Debug, Serialize)]
struct Finding {
    subject: &'static str,
    health: Health,
    text: String,
    /// The next step.
    #[serde(rename = "try")]
    next: Option<String>,
}

impl Finding {
    fn new(subject: &'static str, health: Health, text: impl ToString) -> Finding {
        let text = text.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        Finding {
            subject,
            health,
            text,
            next: None,
        }
    }

    fn next(mut self, next: impl ToString) -> Finding {
        self.next = Some(next.to_string());
        self
    }

    /// What an error of the server means here.
    fn of_error(subject: &'static str, error: &ServerError, next: &str) -> Finding {
        let health = match error {
            ServerError::Refused { .. } => Health::Refused,
            _ => Health::Bad,
        };
        let next = match error {
            ServerError::Refused { .. } => {
                "a token of your profile page on the server, in the identity or LAVABUS_TOKEN_FILE"
            }
            ServerError::Certificate { .. } => CERTIFICATE,
            _ => next,
        };
        Finding::new(subject, health, error).next(next)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let health = match self.health {
            Health::Good => "good",
            Health::Warning => "warn",
            Health::Bad => "BAD",
            Health::Refused => "REFUSED",
            Health::Absent => "-",
        };
        write!(f, "{health:8}{:12}{}", self.subject, self.text)?;
        if let Some(next) = &self.next {
            write!(f, "\n{:20}try: {next}", "")?;
        }
        Ok(())
    }
}

/// Runs the command.
///
/// # Errors
///
/// [`Failure`] when the identity cannot be read; what does not work is a finding, not an error.
pub async fn run(_arguments: Arguments, context: &Context) -> Result<Exit, Failure> {
    let as_json = as_json(context, "doctor")?;
    let identity = sources::identity(context)?;
    let server = identity.as_ref().map(sources::server).transpose()?;
    let mut findings = vec![look_at_identity(identity.as_ref())];
    let buses = match (&identity, context.is_bus_named) {
        (Some(identity), false) => sources::guessed_bus(identity, context).into_iter().collect(),
        _ => context.buses.clone(),
    };
    let of_server = async {
        match &server {
            Some(server) => {
                let (rest, clock, xml_rpc, web_socket) = tokio::join!(
                    look_at_rest(server),
                    look_at_clock(server),
                    look_at_xml_rpc(server),
                    look_at_web_socket(server)
                );
                vec![rest, clock, xml_rpc, web_socket]
            }
            None => Vec::new(),
        }
    };
    let of_buses = async {
        let mut findings = Vec::new();
        for bus in &buses {
            findings.extend(look_at_bus(bus, server.is_some(), context).await);
        }
        findings
    };
    let (of_server, of_buses) = tokio::join!(of_server, of_buses);
    findings.extend(of_server);
    findings.extend(of_buses);
    print(&text(&findings, as_json))?;
    Ok(exit(&findings))
}

fn text(findings: &[Finding], as_json: bool) -> String {
    match as_json {
        true => serde_json::json!({ "findings": findings }).to_string() + "\n",
        false => findings.iter().map(|finding| format!("{finding}\n")).collect(),
    }
}

fn exit(findings: &[Finding]) -> Exit {
    let is_heard = findings
        .iter()
        .any(|finding| HEARD.contains(&finding.subject) && matches!(finding.health, Health::Good | Health::Warning));
    if findings.iter().any(|finding| finding.health == Health::Refused) {
        Exit::CredentialsRefused
    } else if is_heard {
        Exit::Success
    } else {
        Exit::NoConnection
    }
}

/// From whom a wait can hear.
const HEARD: [&str; 3] = ["REST", "WebSocket", "bus"];

fn look_at_identity(identity: Option<&Identity>) -> Finding {
    let Some(identity) = identity else {
        return Finding::new("identity", Health::Absent, "none: only the bus can be asked")
            .next("~/.config/lavacli.yaml as lavacli writes it, or LAVABUS_URI and LAVABUS_TOKEN_FILE");
    };
    let user = identity.username.as_deref().unwrap_or("nobody");
    let text = format!("{}: {} as {user}", identity.name, identity.uri);
    match (&identity.token, identity.warnings.first()) {
        (None, _) => Finding::new("identity", Health::Warning, format!("{text}, without a token"))
            .next("a token, to see private jobs and to submit"),
        (Some(_), Some(warning)) => Finding::new("identity", Health::Warning, format!("{text}; {warning}")),
        (Some(_), None) => Finding::new("identity", Health::Good, format!("{text}, with a token")),
    }
}

async fn within<T>(question: impl Future<Output = Result<T, ServerError>>) -> Result<T, ServerError> {
    timeout(PATIENCE, question).await.unwrap_or_else(|_| {
        Err(ServerError::Unavailable {
            cause: format!("no answer within {PATIENCE:?}"),
        })
    })
}

async fn look_at_rest(server: &Server) -> Finding {
    const NEXT: &str =
        "the address in a browser: it should be the one of LAVA's web pages, with /RPC2 behind it in lavacli.yaml";
    let began = Instant::now();
    let version = match within(server.version()).await {
        Ok(version) => version,
        Err(error) => return Finding::of_error("REST", &error, NEXT),
    };
    let took = began.elapsed().as_millis();
    match within(server.whoami()).await {
        Ok(Some(user)) => Finding::new(
            "REST",
            Health::Good,
            format!("LAVA {version} in {took} ms; we are {user}"),
        ),
        Ok(None) => Finding::new(
            "REST",
            Health::Warning,
            format!("LAVA {version} in {took} ms; we are anonymous"),
        )
        .next("a token: without one private jobs are not there, and nothing can be submitted"),
        Err(error) => Finding::of_error("REST", &error, NEXT),
    }
}

async fn look_at_clock(server: &Server) -> Finding {
    let asked = Timestamp::now();
    let answer = within(server.clock()).await;
    let answered = Timestamp::now();
    match answer {
        Ok(Some(clock)) => {
            // Between the question and the answer, and cut to a whole second.
            let least = clock.duration_since(answered).as_secs_f64();
            let most = clock.duration_since(asked).as_secs_f64() + 1.0;
            if least > SKEW || most < -SKEW {
                let (off, way) = if least > 0.0 {
                    (least, "behind")
                } else {
                    (-most, "ahead of")
                };
                Finding::new(
                    "clock",
                    Health::Warning,
                    format!("this machine is {off:.0} s {way} the server"),
                )
                .next("NTP on both (timedatectl): --since and the order of states go by these clocks")
            } else {
                Finding::new("clock", Health::Good, "the server's clock agrees with this machine's")
            }
        }
        Ok(None) => Finding::new("clock", Health::Absent, "the server does not say its time"),
        Err(_) => Finding::new("clock", Health::Absent, "the server's clock could not be asked for"),
    }
}

async fn look_at_xml_rpc(server: &Server) -> Finding {
    match within(server.events_socket()).await {
        Ok(endpoint) => Finding::new("XML-RPC", Health::Good, format!("events are published at {endpoint}")),
        Err(error) => Finding::of_error(
            "XML-RPC",
            &error,
            "it is needed for multinode sub ids and for servers without REST only",
        ),
    }
}

async fn look_at_web_socket(server: &Server) -> Finding {
    const NEXT: &str =
        "lava-publisher behind the web server's /ws/ (its port 8001); waits ask REST again and again meanwhile";
    let mut socket = match within(server.web_socket()).await {
        Ok(socket) => socket,
        Err(error) => return Finding::of_error("WebSocket", &error, NEXT),
    };
    // Refusal comes after the connection.
    match timeout(AT_ONCE, socket.next()).await {
        Ok(Err(error)) => Finding::of_error("WebSocket", &error, NEXT),
        Ok(Ok(_)) | Err(_) => Finding::new("WebSocket", Health::Good, "connected, and not refused"),
    }
}

/// What a stream tells first, or why it tells nothing.
async fn begin(outlet: &Outlet, stream: &mut Stream) -> Result<Update, Finding> {
    let bus = outlet.bus();
    let wrong = |health, cause: &dyn fmt::Display| Err(Finding::new("bus", health, format!("{bus}: {cause}")));
    match timeout(PATIENCE, stream.next()).await {
        Ok(Ok(Update::Disconnected { cause })) => wrong(Health::Bad, &cause),
        Ok(Ok(update)) => Ok(update),
        Ok(Err(SubscriptionError::Refused { reason, .. })) => wrong(Health::Refused, &reason),
        Ok(Err(SubscriptionError::Certificate { cause, .. })) => {
            let refused = wrong(Health::Bad, &format_args!("certificate refused: {cause}"));
            refused.map_err(|finding: Finding| finding.next(CERTIFICATE))
        }
        Ok(Err(SubscriptionError::Protocol { cause, .. })) => wrong(Health::Bad, &cause),
        Ok(Err(error)) => wrong(Health::Bad, &error),
        Err(_) => wrong(Health::Bad, &format_args!("no answer within {PATIENCE:?}")),
    }
}

/// A bus over HTTP: a publisher's port, or a WebSocket.
async fn look_at_http(bus: &Bus, context: &Context) -> Vec<Finding> {
    let found = async {
        let outlet = Outlet::of(bus, context, &[]);
        let outlet = outlet.map_err(|failure| Finding::new("bus", Health::Bad, format!("{bus}: {failure}")))?;
        let mut stream = outlet.open(Wanted {
            connect_timeout: PATIENCE,
            ..Wanted::default()
        });
        let login = if outlet.has_token() {
            " with a token"
        } else {
            ", without a token"
        };
        let opened = begin(&outlet, &mut stream).await;
        let opened = opened.map_err(|finding| finding_of_http(finding, bus))?;
        match outlet.second_port() {
            Some(port) => look_at_port(port, bus, login, opened, &mut stream).await,
            // Refusal comes after the connection.
            None => match timeout(AT_ONCE, begin(&outlet, &mut stream)).await {
                Ok(Err(finding)) => Err(finding_of_http(finding, bus)),
                Ok(Ok(_)) | Err(_) => Ok(vec![
                    Finding::new(
                        "bus",
                        Health::Warning,
                        format!("{bus} is heard{login}: a WebSocket cannot resume, and tells no states"),
                    )
                    .next("--bus http(s)://… where it is lavabus' own lava-publisher; with an identity waits ask REST beside it"),
                ]),
            },
        }
    };
    found.await.unwrap_or_else(|finding| vec![finding])
}

fn finding_of_http(finding: Finding, bus: &Bus) -> Finding {
    if finding.next.is_some() {
        return finding;
    }
    let next = match (finding.health, &bus.address) {
        (Health::Refused, Address::WebSocket(_)) => {
            "LAVABUS_USERNAME and LAVABUS_TOKEN_FILE of a user there, or -i with the identity of one"
        }
        (Health::Refused, _) => {
            "LAVABUS_TOKEN_FILE with a token that is good there, or -i with the identity whose token is"
        }
        (_, Address::WebSocket(_)) => "the address of LAVA's /ws/, or of lava-publisher's --http port",
        _ => "the address of lava-publisher's --http port, as a reverse proxy shows it",
    };
    finding.next(next)
}

/// Whether events come, and what the publisher says of itself.
async fn look_at_port(
    port: &SecondPort,
    bus: &Bus,
    login: &str,
    opened: Update,
    stream: &mut Stream,
) -> Result<Vec<Finding>, Finding> {
    let head = async {
        let mut update = Ok(opened);
        while let Ok(told) = &update
            && !matches!(told, Update::Head { .. })
        {
            update = stream.next().await;
        }
        update.is_ok()
    };
    if !timeout(AT_ONCE, head).await.unwrap_or(false) {
        let finding = Finding::new(
            "bus",
            Health::Bad,
            format!("{bus} answers, but its stream brings nothing"),
        );
        return Err(finding.next("a reverse proxy before it that passes on /api/v1/stream at once: docs/http.md"));
    }
    let status = timeout(PATIENCE, port.get_json(&["status"], &[])).await;
    let status = status.ok().and_then(Result::ok).unwrap_or_default();
    let version = status.get("version").and_then(Value::as_str).unwrap_or("?");
    let bus = Finding::new(
        "bus",
        Health::Good,
        format!("{bus} is lava-publisher {version} and is heard{login}"),
    );
    let history = match status.get("journal").and_then(Value::as_bool) {
        Some(false) => Finding::new(
            "history",
            Health::Warning,
            "it keeps no journal: only what is in its memory may be asked for",
        )
        .next("lava-publisher without --no-journal"),
        _ => Finding::new("history", Health::Good, "all that is kept may be asked for"),
    };
    Ok(vec![bus, history])
}

/// The bus, our extension, and what of the past it gives.
async fn look_at_bus(bus: &Bus, has_server: bool, context: &Context) -> Vec<Finding> {
    let Some(endpoint) = bus.endpoint() else {
        return look_at_http(bus, context).await;
    };
    let options = Options {
        prefixes: vec![NO_TOPIC.to_owned()],
        after: Some(cursor_at(Timestamp::UNIX_EPOCH)),
        connect_timeout: PATIENCE,
        ..Options::default()
    };
    let mut subscription = Subscription::new(endpoint.clone(), options);
    let asked = async {
        loop {
            match subscription.next().await {
                Ok(Update::Connected { extended }) => return Ok(extended),
                Ok(Update::Disconnected { cause }) => return Err((Health::Bad, cause.to_string())),
                Ok(_) => {}
                Err(SubscriptionError::Refused { reason, .. }) => return Err((Health::Refused, reason)),
                Err(error) => return Err((Health::Bad, error.to_string())),
            }
        }
    };
    let asked = timeout(PATIENCE, asked)
        .await
        .unwrap_or_else(|_| Err((Health::Bad, format!("no answer within {PATIENCE:?}"))));
    let is_extended = match asked {
        Ok(is_extended) => is_extended,
        Err((health, cause)) => {
            let next = match has_server {
                true => {
                    "nothing, if the WebSocket works; else lava-publisher with --publish tcp://*:5500 and an open port"
                }
                false => {
                    "--bus with a publisher's endpoint; lava-publisher --publish tcp://*:5500 opens it to the network"
                }
            };
            return vec![Finding::new("bus", health, format!("{bus}: {cause}")).next(next)];
        }
    };
    if !is_extended {
        return vec![
            Finding::new(
                "bus",
                Health::Warning,
                format!("{bus} is a plain publisher: it cannot resume, and tells no states"),
            )
            .next("lavabus' own lava-publisher in its place; waits ask REST beside it meanwhile"),
        ];
    }
    let bus = Finding::new(
        "bus",
        Health::Good,
        format!("{bus} knows our options: snapshots, numbers, resume"),
    );
    let history = timeout(AT_ONCE, async {
        loop {
            match subscription.next().await {
                Ok(Update::Gap {
                    reason: GapReason::NotPermitted,
                    ..
                }) => return false,
                Ok(Update::Head { .. }) | Err(_) => return true,
                Ok(_) => {}
            }
        }
    });
    let history = match history.await.unwrap_or(true) {
        true => Finding::new("history", Health::Good, "all that is kept may be asked for"),
        false => Finding::new(
            "history",
            Health::Warning,
            "only the last hour or so may be asked for from here",
        )
        .next("--history-from with this machine's network, where lava-publisher runs"),
    };
    vec![bus, history]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_says_whether_a_wait_can_be_trusted() {
        let found = |subject, health| Finding::new(subject, health, "x");
        assert_eq!(exit(&[found("identity", Health::Good)]), Exit::NoConnection);
        assert_eq!(
            exit(&[found("bus", Health::Good), found("REST", Health::Bad)]),
            Exit::Success
        );
        assert_eq!(
            exit(&[found("bus", Health::Good), found("REST", Health::Refused)]),
            Exit::CredentialsRefused
        );
    }

    #[test]
    fn a_finding_is_a_line_and_its_next_step_another() {
        let finding = Finding::new("bus", Health::Bad, "gone\naway").next("again");
        assert_eq!(
            finding.to_string(),
            "BAD     bus         gone away\n                    try: again"
        );
        let json = text(&[finding], true);
        assert_eq!(
            json,
            "{\"findings\":[{\"health\":\"bad\",\"subject\":\"bus\",\"text\":\"gone away\",\"try\":\"again\"}]}\n"
        );
    }
}
