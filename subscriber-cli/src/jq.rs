//! Programs in jq's language that keep or drop events.
