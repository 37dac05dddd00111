//! What builds and containers take over from the host: its certificates, its proxies, its package indexes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where the certificates are in every container.
pub const CA_PATH: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Where distributions keep the bundle of trusted certificates.
const HOST_BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Variables by which programs are told of another bundle.
const CA_VARIABLES: &[&str] = &[
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "PIP_CERT",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "AWS_CA_BUNDLE",
];

const PROXY_VARIABLES: &[&str] = &[
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
];

/// Options of pip that name indexes, and uv's variable for the same.
const INDEX_OPTIONS: &[(&str, &str, &str)] = &[
    ("index-url", "PIP_INDEX_URL", "UV_DEFAULT_INDEX"),
    ("extra-index-url", "PIP_EXTRA_INDEX_URL", "UV_INDEX"),
    ("find-links", "PIP_FIND_LINKS", "UV_FIND_LINKS"),
    ("trusted-host", "PIP_TRUSTED_HOST", "UV_INSECURE_HOST"),
];

/// Variables of uv itself that carry over.
const UV_VARIABLES: &[&str] = &[
    "UV_INDEX",
    "UV_DEFAULT_INDEX",
    "UV_INDEX_URL",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
    "UV_INDEX_STRATEGY",
    "UV_INSECURE_HOST",
    "UV_HTTP_TIMEOUT",
    "UV_KEYRING_PROVIDER",
];

/// A text that is never printed.
#[derive(Clone)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

/// The hub that `hf://` means.
const MODEL_HUB: &str = "https://huggingface.co";

/// Settings taken from the host when the program starts.
#[derive(Debug, Clone, Default)]
pub struct HostSettings {
    /// File with the certificates that containers trust. None: each image's own.
    pub ca_bundle: Option<PathBuf>,
    /// Proxy variables for build steps.
    pub proxies: BTreeMap<String, String>,
    /// Package index variables of pip and uv for build steps.
    pub indexes: BTreeMap<String, String>,
    /// Where repositories of models come from, and the token that opens private ones.
    pub model_hub: String,
    pub model_hub_token: Option<Secret>,
    /// Debian mirror, and after a space the one for security updates. None: what the host's own apt uses.
    pub debian_mirror: Option<String>,
    /// apt's settings folder on the host.
    pub apt_dir: PathBuf,
    /// Folder of Debian's archive keys on the host.
    pub keyrings_dir: PathBuf,
}

impl HostSettings {
    /// Reads the environment and the host's files.
    pub fn from_host() -> Self {
        let get = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let pick = |names: &[&str]| {
            names.iter().filter_map(|name| Some((name.to_string(), get(name)?))).collect::<BTreeMap<_, _>>()
        };
        let mut indexes = pick(UV_VARIABLES);
        let conf = pip_settings(&pip_conf_text(&get));
        for (option, pip, uv) in INDEX_OPTIONS {
            let Some(value) = get(pip).or_else(|| conf.get(*option).cloned()) else { continue };
            let Some(value) = reachable(option, &value) else { continue };
            indexes.entry((*uv).into()).or_insert_with(|| value.clone());
            indexes.entry((*pip).into()).or_insert(value);
        }
        Self {
            ca_bundle: ca_bundle(get("CLUNK_CA_BUNDLE").as_deref(), get("SSL_CERT_FILE").as_deref()),
            proxies: pick(PROXY_VARIABLES),
            indexes,
            model_hub: get("HF_ENDPOINT").unwrap_or_else(|| MODEL_HUB.into()),
            model_hub_token: get("HF_TOKEN").map(Secret),
            debian_mirror: get("CLUNK_DEBIAN_MIRROR"),
            apt_dir: "/etc/apt".into(),
            keyrings_dir: "/usr/share/keyrings".into(),
        }
    }

    /// The token to show when this URL is fetched.
    pub(crate) fn token_for(&self, url: &str) -> Option<&str> {
        let hub = format!("{}/", self.model_hub.trim_end_matches('/'));
        self.model_hub_token.as_ref().filter(|_| url.starts_with(&hub)).map(|Secret(token)| token.as_str())
    }

    /// Variables that make programs in a container trust what the host trusts.
    pub fn ca_env(&self) -> BTreeMap<String, String> {
        if self.ca_bundle.is_none() {
            return BTreeMap::new();
        }
        let mut env: BTreeMap<_, _> =
            CA_VARIABLES.iter().map(|name| (name.to_string(), CA_PATH.to_string())).collect();
        // uv carries certificates of its own and looks at the system's only when told; the name changed once.
        env.insert("UV_NATIVE_TLS".into(), "1".into());
        env.insert("UV_SYSTEM_CERTS".into(), "1".into());
        env
    }
}

fn ca_bundle(setting: Option<&str>, ssl_cert_file: Option<&str>) -> Option<PathBuf> {
    match setting {
        Some("none") => None,
        None | Some("host") => {
            let candidates = ssl_cert_file.into_iter().chain(HOST_BUNDLES.iter().copied());
            candidates.map(Path::new).find(|path| path.is_file()).map(Path::to_path_buf)
        }
        Some(path) => Some(path.into()),
    }
}

/// Index settings that mean something inside a container: folders of the host do not.
fn reachable(option: &str, value: &str) -> Option<String> {
    if option == "trusted-host" {
        return Some(value.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    let urls: Vec<&str> = value
        .split_whitespace()
        .filter(|word| word.starts_with("http://") || word.starts_with("https://"))
        .collect();
    (!urls.is_empty()).then(|| urls.join(" "))
}

/// pip's settings files, the weaker first.
fn pip_conf_text(get: &impl Fn(&str) -> Option<String>) -> String {
    let mut paths = vec![PathBuf::from("/etc/pip.conf")];
    if let Some(home) = get("HOME") {
        paths.push(Path::new(&home).join(".pip/pip.conf"));
        let config = get("XDG_CONFIG_HOME").map_or_else(|| Path::new(&home).join(".config"), PathBuf::from);
        paths.push(config.join("pip/pip.conf"));
    }
    paths.extend(get("PIP_CONFIG_FILE").map(PathBuf::from));
    let texts = paths.iter().filter_map(|path| std::fs::read_to_string(path).ok());
    texts.collect::<Vec<_>>().join("\n")
}

/// The options of the sections `[global]` and `[install]`; a later one wins; indented lines go on.
fn pip_settings(text: &str) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::<String, String>::new();
    let (mut wanted, mut last) = (false, None::<String>);
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        if let Some(section) = trimmed.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            wanted = matches!(section, "global" | "install");
            last = None;
        } else if let (true, Some(key)) = (line.starts_with([' ', '\t']), &last) {
            let value = settings.entry(key.clone()).or_default();
            *value = format!("{value} {trimmed}").trim().into();
        } else if let (true, Some((key, value))) = (wanted, trimmed.split_once(['=', ':'])) {
            let key = key.trim().replace('_', "-");
            settings.insert(key.clone(), value.trim().into());
            last = Some(key);
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_of_pip_carry_over_and_folders_of_the_host_do_not() {
        let text = "[global]\nindex_url = https://pip.example/simple\nfind-links =\n  /opt/wheels\n  https://w.example/\n[freeze]\nindex-url = no\n";
        let settings = pip_settings(text);
        assert_eq!(settings["index-url"], "https://pip.example/simple");
        assert_eq!(reachable("find-links", &settings["find-links"]).unwrap(), "https://w.example/");
        assert_eq!(reachable("find-links", "/opt/wheels"), None);
    }

    #[test]
    fn certificates_can_be_switched_off() {
        assert_eq!(ca_bundle(Some("none"), None), None);
        assert_eq!(ca_bundle(Some("/x.pem"), None), Some("/x.pem".into()));
        assert!(HostSettings::default().ca_env().is_empty());
    }
}
