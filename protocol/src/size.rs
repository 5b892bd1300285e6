//! Sizes as people write them.

/// Reads a number of bytes: `64M`, `4GiB`, `12`. Units are those of 1,024.
///
/// # Errors
///
/// What is wrong with the text, for whoever wrote it.
///
/// ```
/// assert_eq!(lavabus_protocol::parse_size("4G"), Ok(4 << 30));
/// ```
pub fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" | "B" => 1,
        "K" | "KIB" => 1 << 10,
        "M" | "MIB" => 1 << 20,
        "G" | "GIB" => 1 << 30,
        other => return Err(format!("{other:?} is no unit of size; use K, M or G, such as 500M")),
    };
    let count: u64 = digits
        .parse()
        .map_err(|_| "expected a whole number and a unit, such as 500M".to_owned())?;
    count
        .checked_mul(unit)
        .filter(|size| *size > 0)
        .ok_or_else(|| "a size between 1 and 16 EiB".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_size("64M"), Ok(64 << 20));
        assert_eq!(parse_size("4GiB"), Ok(4 << 30));
        assert_eq!(parse_size("12"), Ok(12));
        assert!(parse_size("99999999999G").is_err());
    }
}
