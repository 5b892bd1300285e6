//! Sizes as a person writes them.

/// Reads a number of bytes such as `500M` or `4G`; K, M and G are powers of 1,024.
pub(super) fn parse(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit: u64 = match text[digits.len()..].to_ascii_uppercase().as_str() {
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
        .ok_or_else(|| "expected a size between 1 byte and 16 EiB".to_owned())
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse("64M"), Ok(64 << 20));
        assert_eq!(parse("4GiB"), Ok(4 << 30));
        assert_eq!(parse("12"), Ok(12));
        for wrong in ["", "G", "0", "1.5G", "5X", "99999999999G"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
