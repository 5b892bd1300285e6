//! Where events and answers come from: the bus that is named, or the one beside the server of the identity.

use std::path::PathBuf;

use lavabus_lava::{Environment, Identity, IdentityError, IdentitySources, Server};

use crate::bus::Bus;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::outlet::Outlet;
use crate::wait::watch::Sources;

/// LAVA's `EVENT_SOCKET`.
const EVENT_PORT: u16 = 5500;

/// `-i`, `-c`.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct IdentityArguments {
    /// Which identity of lavacli.yaml; otherwise LAVACLI_IDENTITY, or the one named default
    #[arg(short, long, global = true, value_name = "NAME")]
    pub identity: Option<String>,

    /// The file with identities, instead of ~/.config/lavacli.yaml
    #[arg(short, long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// The identity that the command line and the environment name, if there is any.
pub(crate) fn identity(context: &Context) -> Result<Option<Identity>, Failure> {
    let sources = IdentitySources {
        file: context.identity.config.clone(),
        name: context.identity.identity.clone(),
        environment: Environment::from_process(),
    };
    let identity = lavabus_lava::load(&sources).map_err(|error| cannot_use(&error))?;
    for warning in identity.iter().flat_map(|identity| &identity.warnings) {
        context.notice(format_args!("warning: {warning}"));
    }
    Ok(identity)
}

pub(crate) fn cannot_use(error: &IdentityError) -> Failure {
    Failure::new(
        Exit::Usage,
        "the identity cannot be used",
        error,
        "`lavacli identities list`, or LAVABUS_URI, LAVABUS_USERNAME and LAVABUS_TOKEN_FILE",
    )
}

/// The server of an identity.
pub(crate) fn server(identity: &Identity) -> Result<Server, Failure> {
    Server::new(identity).map_err(|error| {
        Failure::new(
            Exit::Usage,
            format!("the identity {} cannot be used", identity.name),
            error,
            "see to its uri, proxy and verify_ssl_cert",
        )
    })
}

/// Everybody who can tell.
pub(crate) fn sources(context: &Context) -> Result<Sources, Failure> {
    let identity = identity(context)?;
    let server = identity.as_ref().map(server).transpose()?;
    let told = identity
        .as_ref()
        .map_or_else(Vec::new, |identity| identity.warnings.clone());
    let Some(identity) = identity.filter(|_| !context.is_bus_named) else {
        let [bus] = context.buses.as_slice() else {
            return Err(Failure::new(
                Exit::Usage,
                "--bus is one too many",
                "this command hears one bus",
                "one --bus, or `lavabus listen` for several",
            ));
        };
        return Ok(Sources {
            bus: Some(Outlet::of(bus, context, &told)?),
            is_bus_guessed: false,
            server,
        });
    };
    let bus = guessed_bus(&identity, context);
    Ok(Sources {
        bus: bus.map(|bus| Outlet::of(&bus, context, &told)).transpose()?,
        is_bus_guessed: true,
        server,
    })
}

pub(crate) fn guessed_bus(identity: &Identity, context: &Context) -> Option<Bus> {
    if identity.events.socks_proxy.is_some() {
        context.detail("the bus is not used: it cannot be reached through a SOCKS proxy");
        return None;
    }
    let endpoint = match &identity.events.uri {
        Some(uri) if uri.starts_with("tcp://") || uri.starts_with("ipc://") => uri.clone(),
        // A WebSocket's address.
        Some(_) => return None,
        None => format!("tcp://{}:{EVENT_PORT}", identity.uri.host_str()?),
    };
    match endpoint.parse() {
        Ok(address) => Some(Bus { name: None, address }),
        Err(error) => {
            context.notice(format_args!(
                "the bus {endpoint} of the identity cannot be used: {error}"
            ));
            None
        }
    }
}
