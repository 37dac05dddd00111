//! `environment`: the variables of a model.

use std::collections::BTreeMap;

use super::read::Reader;
use super::yaml::{Kind, Node};

/// What the model's platform sets itself.
const DENIED: &[&str] = &[
    "PATH",
    "LD_LIBRARY_PATH",
    "PYTHONPATH",
    "VIRTUAL_ENV",
    "PYTHONUNBUFFERED",
    "LIBRARY_PATH",
    "HF_ENDPOINT",
    "HF_HUB_ENABLE_HF_TRANSFER",
];
const DENIED_PREFIXES: &[&str] =
    &["R8_", "REPLICATE_", "CUDA_", "NVIDIA_", "NV_", "PGET_", "KUBERNETES_", "CLUNK_"];

pub fn read(reader: &mut Reader<'_>, node: &Node) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    for item in reader.list("environment", node).unwrap_or_default() {
        if let Kind::Map(entries) = &item.kind {
            let name = entries.first().map_or("NAME", |entry| entry.key.as_str());
            let hint = format!("write it with an equals sign: - \"{name}=value\"");
            reader.problems.error(item.at, "schema error in \"environment\": must be NAME=value", hint);
            continue;
        }
        let Some(text) = reader.text("environment", item) else { continue };
        let mut refuse = |message: &str, hint: &str| {
            reader.invalid(item.at, "environment", &text, message, hint);
        };
        let Some((name, value)) = text.split_once('=') else {
            refuse("it must be NAME=value", "the variable and its value, with an equals sign between them");
            continue;
        };
        let start = |c: char| c.is_ascii_alphabetic() || c == '_';
        if !name.starts_with(start) || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            refuse("the name may have letters, digits and underscores only", "rename the variable");
        } else if value.contains('\0') {
            refuse("the value holds a zero byte", "remove it");
        } else if DENIED.contains(&name) || DENIED_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
            let message = format!("{name} is set by the platform that runs the model");
            refuse(&message, "remove it, or set it in the code of the model");
        } else if variables.contains_key(name) {
            refuse(&format!("{name} is there twice"), "remove one of them");
        } else {
            variables.insert(name.to_string(), value.to_string());
        }
    }
    variables
}
