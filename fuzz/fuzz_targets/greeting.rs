//! A greeting is read or refused; what `check_start` refuses, `decode` refuses too.
#![no_main]

use lavabus_zmtp::{GREETING_LEN, Greeting};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let refused_early = (0..=data.len()).any(|length| Greeting::check_start(&data[..length]).is_err());
    if let Some(bytes) = data.first_chunk::<GREETING_LEN>()
        && let Ok(greeting) = Greeting::decode(bytes)
    {
        assert!(Greeting::check_start(bytes).is_ok());
        assert!(greeting.minor <= 1);
    }
    if refused_early {
        assert!(Greeting::check_start(data).is_err());
    }
});
