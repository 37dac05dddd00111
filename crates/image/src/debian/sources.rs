//! Which mirror to use: the one the host's own apt uses, in both formats of its settings.

use std::path::Path;

use crate::{HostSettings, ImageError};

/// Names by which Debian's archive is told from others.
const SUITES: &[&str] = &[
    "buster",
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "duke",
    "sid",
    "oldoldstable",
    "oldstable",
    "stable",
    "testing",
    "unstable",
];

/// Where packages come from: the archive, and security updates when the host takes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mirror {
    pub main: String,
    pub security: Option<String>,
    /// Whether the host takes `…-updates` too.
    pub updates: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    uri: String,
    suite: String,
}

impl Mirror {
    pub fn find(host: &HostSettings) -> Result<Self, ImageError> {
        if let Some(setting) = &host.debian_mirror {
            let mut uris = setting.split_whitespace().map(without_slash);
            let main = uris.next().ok_or(ImageError::NoMirror)?;
            return Ok(Self { main, security: uris.next(), updates: true });
        }
        Self::from_entries(&read_entries(&host.apt_dir)).ok_or(ImageError::NoMirror)
    }

    fn from_entries(entries: &[Entry]) -> Option<Self> {
        let base = |suite: &str| suite.split(['-', '/']).next().unwrap_or_default().to_string();
        let of_debian = |entry: &&Entry| SUITES.contains(&base(&entry.suite).as_str());
        let is_security =
            |entry: &&Entry| entry.suite.ends_with("-security") || entry.suite.ends_with("/updates");
        let main = entries.iter().filter(of_debian).find(|entry| SUITES.contains(&entry.suite.as_str()))?;
        let security = entries.iter().filter(of_debian).find(is_security);
        let updates = entries.iter().filter(of_debian).any(|entry| entry.suite.ends_with("-updates"));
        Some(Self { main: main.uri.clone(), security: security.map(|entry| entry.uri.clone()), updates })
    }

    /// The places to look for a release's packages: address and name of the suite there.
    pub fn suites(&self, release: &str) -> Vec<(String, String)> {
        let mut suites = vec![(self.main.clone(), release.to_string())];
        if self.updates {
            suites.push((self.main.clone(), format!("{release}-updates")));
        }
        if let Some(security) = &self.security {
            suites.push((security.clone(), format!("{release}-security")));
        }
        suites
    }

    /// apt's settings for an image of that release.
    ///
    /// The lists of a release that is not yet `stable` are valid for a week, and many mirrors lag behind that.
    pub fn apt_sources(&self, suites: &[(String, String)], keyring: &str, stable: bool) -> String {
        let mut text = String::new();
        let dated = if stable { "" } else { "Check-Valid-Until: no\n" };
        for uri in [Some(&self.main), self.security.as_ref()].into_iter().flatten() {
            let names: Vec<_> =
                suites.iter().filter(|(at, _)| at == uri).map(|(_, name)| name.as_str()).collect();
            if names.is_empty() || text.contains(&format!("URIs: {uri}\n")) {
                continue;
            }
            let names = names.join(" ");
            text += &format!(
                "Types: deb\nURIs: {uri}\nSuites: {names}\nComponents: main\nSigned-By: {keyring}\n{dated}\n"
            );
        }
        text
    }
}

fn without_slash(uri: &str) -> String {
    uri.trim_end_matches('/').to_string()
}

/// Entries of all files that apt itself would read.
fn read_entries(apt_dir: &Path) -> Vec<Entry> {
    let mut files = vec![apt_dir.join("sources.list")];
    if let Ok(folder) = std::fs::read_dir(apt_dir.join("sources.list.d")) {
        let mut found: Vec<_> = folder.flatten().map(|entry| entry.path()).collect();
        found.sort();
        files.extend(found);
    }
    let mut entries = Vec::new();
    for file in files {
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => entries.extend(text.lines().filter_map(one_line)),
            Some("sources") => entries.extend(deb822(&text)),
            _ => {}
        }
    }
    entries.retain(|entry| entry.uri.starts_with("http://") || entry.uri.starts_with("https://"));
    entries
}

/// `deb [options] uri suite components...`
fn one_line(line: &str) -> Option<Entry> {
    let line = line.split('#').next().unwrap_or_default().trim();
    let mut rest = line.strip_prefix("deb")?.strip_prefix([' ', '\t'])?.trim_start();
    if rest.starts_with('[') {
        rest = rest.split_once(']')?.1;
    }
    let mut words = rest.split_whitespace();
    Some(Entry { uri: without_slash(words.next()?), suite: words.next()?.into() })
}

/// Stanzas of `Key: value`, values going on in indented lines.
fn deb822(text: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    for stanza in lines.split(|line| line.trim().is_empty()) {
        let mut fields = std::collections::BTreeMap::<String, String>::new();
        let mut last = String::new();
        for line in stanza {
            if line.starts_with([' ', '\t']) {
                fields.entry(last.clone()).and_modify(|value| *value += line);
            } else if let Some((key, value)) = line.split_once(':') {
                last = key.trim().to_ascii_lowercase();
                fields.insert(last.clone(), value.trim().into());
            }
        }
        let field = |key: &str| fields.get(key).map_or("", String::as_str);
        let off =
            matches!(field("enabled").to_ascii_lowercase().as_str(), "no" | "false" | "without" | "off");
        if off || !field("types").split_whitespace().any(|kind| kind == "deb") {
            continue;
        }
        for uri in field("uris").split_whitespace() {
            for suite in field("suites").split_whitespace() {
                entries.push(Entry { uri: without_slash(uri), suite: suite.into() });
            }
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_are_read_and_other_archives_ignored() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("sources.list.d")).unwrap();
        let list = "# deb http://no.example/debian bookworm main\n\
            deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian/ bookworm main contrib # comment\n\
            deb-src http://src.example/debian bookworm main\n\
            deb cdrom:[Debian]/ bookworm main\n\
            deb https://node.example/node_20.x nodistro main\n";
        std::fs::write(folder.path().join("sources.list"), list).unwrap();
        let sources = "Types: deb deb-src\nURIs: http://sec.example/debian-security\n\
            Suites: bookworm-security\n  bookworm-updates\nComponents: main\n\n\
            Enabled: no\nTypes: deb\nURIs: http://off.example/\nSuites: sid\n";
        std::fs::write(folder.path().join("sources.list.d/x.sources"), sources).unwrap();
        std::fs::write(folder.path().join("sources.list.d/y.list.disabled"), "deb http://z.example sid main")
            .unwrap();
        let host = HostSettings { apt_dir: folder.path().into(), ..HostSettings::default() };
        let mirror = Mirror::find(&host).unwrap();
        let expected = Mirror {
            main: "http://mirror.example/debian".into(),
            security: Some("http://sec.example/debian-security".into()),
            updates: true,
        };
        assert_eq!(mirror, expected);
        assert_eq!(mirror.suites("trixie").len(), 3);
        let text = mirror.apt_sources(&mirror.suites("trixie"), "/k.gpg", true);
        assert!(
            text.contains("Suites: trixie trixie-updates\n") && text.contains("Suites: trixie-security\n"),
            "{text}"
        );
        assert!(!text.contains("Check-Valid-Until"), "{text}");
        let testing = mirror.apt_sources(&mirror.suites("forky"), "/k.gpg", false);
        assert_eq!(testing.matches("Signed-By: /k.gpg\nCheck-Valid-Until: no\n\n").count(), 2, "{testing}");
    }

    #[test]
    fn a_host_without_debian_sources_says_how_to_name_a_mirror() {
        let folder = tempfile::tempdir().unwrap();
        let mut host = HostSettings { apt_dir: folder.path().into(), ..HostSettings::default() };
        assert!(Mirror::find(&host).unwrap_err().hint().unwrap().contains("CLUNK_DEBIAN_MIRROR"));
        host.debian_mirror = Some("http://a.example/debian/ http://b.example/sec".into());
        assert_eq!(Mirror::find(&host).unwrap().security.as_deref(), Some("http://b.example/sec"));
    }
}
