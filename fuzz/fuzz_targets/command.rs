//! A command is read or refused; what was read is the same after it was written and read again.
#![no_main]

use bytes::{Bytes, BytesMut};
use lavabus_zmtp::{Command, frames};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(command) = Command::decode(Bytes::copy_from_slice(data)) else { return };
    let mut frame = BytesMut::new();
    command.encode(&mut frame);
    let body = frames(&frame).next().expect("a command is one whole frame");
    assert_eq!(Command::decode(Bytes::copy_from_slice(body)), Ok(command));
});
