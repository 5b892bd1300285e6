//! `lava-publisher`: see the crate of the same name.

fn main() -> std::process::ExitCode {
    lava_publisher::main()
}
