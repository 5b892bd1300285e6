//! How much, how well and how fast.

/// The statements of this file.
#[cfg(test)]
pub(super) const SQL: &[&str] = &[];
