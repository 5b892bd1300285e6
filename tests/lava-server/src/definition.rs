//! A cheap look at a job definition: what the server needs to know, and the refusals that clients meet most.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_saphyr::DuplicateKeyPolicy;

/// Jobs that one definition may ask for; LAVA has no such limit.
const MAX_PARTS: u64 = 100;

/// One job that a definition asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) device_type: Option<String>,
}

/// What a definition asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Definition {
    pub(crate) job_name: String,
    pub(crate) private: bool,
    pub(crate) priority: u8,
    pub(crate) multinode: bool,
    /// At least one; exactly one unless `multinode`.
    pub(crate) parts: Vec<Part>,
}

/// Reads a definition.
///
/// # Errors
/// LAVA's words for what is wrong, which follow "Problem with submitted job data: " in its answers.
pub(crate) fn read(text: &str) -> Result<Definition, String> {
    // As PyYAML: the last of two equal keys counts.
    let options = serde_saphyr::options! { duplicate_keys: DuplicateKeyPolicy::LastWins };
    let value: Value = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let words = error.without_snippet().to_string();
        let Some(at) = error.location() else {
            return format!("Loading job submission failed: {words}.");
        };
        let (line, column) = (at.line(), at.column());
        // The place is said as PyYAML says it, and once.
        let words = words.replace(&format!(" at line {line}, column {column}"), "");
        format!("Loading job submission failed: {words}\n  in \"<unicode string>\", line {line}, column {column}.")
    })?;
    let Value::Object(map) = value else {
        return Err("expected a dictionary".into());
    };
    let job_name = match map.get("job_name") {
        None => return Err("required key not provided @ data['job_name']".into()),
        Some(Value::String(name)) if (1..=200).contains(&name.chars().count()) => name.clone(),
        Some(Value::String(name)) if name.is_empty() => {
            return Err("length of value must be at least 1 for dictionary value @ data['job_name']".into());
        }
        Some(Value::String(_)) => {
            return Err("length of value must be at most 200 for dictionary value @ data['job_name']".into());
        }
        Some(_) => return Err("expected str for dictionary value @ data['job_name']".into()),
    };
    let priority = match map.get("priority") {
        None => 50,
        Some(Value::String(word)) if word == "high" => 100,
        Some(Value::String(word)) if word == "medium" => 50,
        Some(Value::String(word)) if word == "low" => 0,
        Some(Value::Number(number)) if number.as_u64().is_some_and(|number| number <= 100) => number
            .as_u64()
            .and_then(|number| u8::try_from(number).ok())
            .unwrap_or(50),
        Some(_) => return Err("not a valid value for dictionary value @ data['priority']".into()),
    };
    // `visibility` is `public`, `personal`, or a map with the groups that may see it.
    let private = map
        .get("visibility")
        .is_some_and(|visibility| visibility.as_str() != Some("public"));
    let roles = map
        .get("protocols")
        .and_then(|protocols| protocols.get("lava-multinode")?.get("roles"));
    let (multinode, parts) = match roles {
        None => (
            false,
            vec![Part {
                device_type: text_of(map.get("device_type")),
            }],
        ),
        Some(Value::Object(roles)) => (true, parts_of(roles.iter().collect())?),
        Some(_) => {
            return Err(
                "expected a dictionary for dictionary value @ data['protocols']['lava-multinode']['roles']".into(),
            );
        }
    };
    Ok(Definition {
        job_name,
        private,
        priority,
        multinode,
        parts,
    })
}

fn parts_of(roles: BTreeMap<&String, &Value>) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    for (name, role) in roles {
        let count = role
            .get("count")
            .map_or(Some(1), Value::as_u64)
            .filter(|count| (1..=MAX_PARTS).contains(count));
        let Some(count) = count else {
            return Err(format!(
                "expected int for dictionary value @ data['protocols']['lava-multinode']['roles']['{name}']['count']"
            ));
        };
        let device_type = text_of(role.get("device_type"));
        parts.extend((0..count).map(|_| Part {
            device_type: device_type.clone(),
        }));
    }
    if parts.is_empty() || parts.len() as u64 > MAX_PARTS {
        return Err(format!("between 1 and {MAX_PARTS} jobs for one definition"));
    }
    Ok(parts)
}

fn text_of(value: Option<&Value>) -> Option<String> {
    value.and_then(Value::as_str).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_plain_definition() {
        let read = read("job_name: smoke\ndevice_type: qemu\nvisibility: public\npriority: high\n").unwrap();
        assert_eq!(
            (read.job_name.as_str(), read.private, read.priority, read.multinode),
            ("smoke", false, 100, false)
        );
        assert_eq!(
            read.parts,
            [Part {
                device_type: Some("qemu".into())
            }]
        );
    }

    #[test]
    fn a_personal_one_is_private() {
        assert!(read("{job_name: smoke, visibility: personal}").unwrap().private);
        assert!(read("{job_name: smoke, visibility: {group: [a]}}").unwrap().private);
    }

    #[test]
    fn a_job_for_each_count_of_each_role() {
        let text = "job_name: x\nprotocols:\n  lava-multinode:\n    roles:\n      server: {count: 1, device_type: a}\n      client: {count: 2, device_type: b}\n";
        let read = read(text).unwrap();
        assert!(read.multinode);
        assert_eq!(read.parts.len(), 3);
    }

    #[test]
    fn what_yaml_allows() {
        assert_eq!(read("{job_name: x, job_name: second}").unwrap().job_name, "second");
        assert_eq!(read("{job_name: x, 1: {2: 3}}").unwrap().job_name, "x");
        assert_eq!(read("job_name: x\na: &a {b: c}\nd: {<<: *a}\n").unwrap().job_name, "x");
        assert_eq!(read("{\"job_name\": \"x\"}").unwrap().job_name, "x");
    }

    #[test]
    fn refusals() {
        assert_eq!(
            read("a: b").unwrap_err(),
            "required key not provided @ data['job_name']"
        );
        assert_eq!(read("- a").unwrap_err(), "expected a dictionary");
        assert_eq!(
            read("job_name: 3").unwrap_err(),
            "expected str for dictionary value @ data['job_name']"
        );
        let broken = read("job_name: x\na: b\nb: c: d\n").unwrap_err();
        assert!(broken.starts_with("Loading job submission failed: "), "{broken}");
        assert_eq!(broken.matches("line 3, column 5").count(), 1, "{broken}");
        assert!(read("{job_name: x, protocols: {lava-multinode: {roles: {a: {count: 1000000}}}}}").is_err());
    }
}
