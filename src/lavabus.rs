//! The subscriber's tool in a terminal or a CI script.

mod demo;

use std::process::ExitCode;

use lavabus_cli::Invocation;

fn main() -> ExitCode {
    match lavabus_cli::parse() {
        Invocation::Demo(arguments, context) => demo::run(&arguments, &context),
        Invocation::Tool(arguments) => lavabus_cli::run(arguments),
        Invocation::Ended(code) => code,
    }
}
