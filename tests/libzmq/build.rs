//! Builds libzmq with the C++ compiler alone: no cmake, no installed library, and no libsodium (NULL mechanism only).

#![allow(unsafe_code)]

fn main() {
    // libzmq's own compiler warnings are not ours to mend, and cargo would repeat them at every build.
    let flags = std::env::var("CXXFLAGS").unwrap_or_default();
    // SAFETY: a build script has one thread at its start.
    unsafe { std::env::set_var("CXXFLAGS", format!("{flags} -w")) };
    zeromq_src::Build::new().build();
}
