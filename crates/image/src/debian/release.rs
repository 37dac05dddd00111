//! The signed heart of an archive: which index files belong to a suite, checked against Debian's own keys.

use std::io::BufReader;
use std::path::{Path, PathBuf};

use clunk_core::Digest;
use futures_util::future::try_join_all;
use tokio::process::Command;

use super::index::Index;
use super::{Mirror, Suite, architecture};
use crate::fetch::{Http, blocking};
use crate::flight::Log;
use crate::{HostSettings, ImageError, unpack};

/// A signed list of a suite's files is about 150 kB.
const MAX_RELEASE_BYTES: usize = 8 << 20;

/// The verified releases of one base: the archive itself, its updates, its security updates.
pub(crate) struct Releases {
    suites: Vec<Release>,
}

struct Release {
    /// Address of the archive and name of the suite in it.
    at: (String, String),
    /// What was signed.
    text: String,
}

impl Releases {
    /// Fetches and verifies. A suite that only may exist and does not is left out.
    pub async fn fetch(
        http: &Http,
        host: &HostSettings,
        mirror: &Mirror,
        suite: &Suite,
    ) -> Result<Self, ImageError> {
        let verifier = Verifier::find(&host.keyrings_dir)?;
        let fetch = |at: (String, String)| {
            let verifier = &verifier;
            async move {
                let text = verifier.fetch(http, &format!("{}/dists/{}", at.0, at.1)).await?;
                Ok::<_, ImageError>(text.map(|text| Release { at, text }))
            }
        };
        let wanted = mirror.suites(suite.name);
        let main = format!("{}/dists/{}", wanted[0].0, wanted[0].1);
        let found = try_join_all(wanted.into_iter().map(fetch)).await?;
        if found[0].is_none() {
            return Err(ImageError::Status { url: main, status: 404 });
        }
        Ok(Self { suites: found.into_iter().flatten().collect() })
    }

    /// Changes whenever a package of the suites does.
    pub fn version(&self) -> Digest {
        let texts: Vec<_> = self.suites.iter().map(|release| &release.text).collect();
        Digest::of_json(&texts)
    }

    pub fn names(&self) -> Vec<(String, String)> {
        self.suites.iter().map(|release| release.at.clone()).collect()
    }

    /// The packages of all suites.
    pub async fn index(&self, http: &Http, cache: &Path, log: &Log) -> Result<Index, ImageError> {
        let files = try_join_all(self.suites.iter().map(|release| release.packages(http, cache))).await?;
        log.line(&format!("read the package lists of {}", self.list()));
        blocking(move |_| {
            let mut index = Index::default();
            for (path, base) in files {
                let read = || {
                    let file = std::fs::File::open(&path)?;
                    index.read(BufReader::with_capacity(1 << 20, unpack::decoder(file)?), &base)
                };
                let mut read = read;
                read().map_err(|error| ImageError::io("read", &path, error))?;
            }
            index.link();
            Ok(index)
        })
        .await
    }

    fn list(&self) -> String {
        self.suites.iter().map(|release| release.at.1.as_str()).collect::<Vec<_>>().join(", ")
    }
}

impl Release {
    async fn packages(&self, http: &Http, cache: &Path) -> Result<(PathBuf, String), ImageError> {
        let (uri, suite) = &self.at;
        let name = format!("main/binary-{}/Packages.xz", architecture());
        let digest = listed_digest(&self.text, &name).ok_or_else(|| ImageError::Unresolvable {
            wanted: name.clone(),
            wanted_by: format!("the suite {suite}"),
        })?;
        let folder = format!("{uri}/dists/{suite}/main/binary-{}", architecture());
        // By its digest the file stays the one of this release while the mirror is being updated.
        let url = match self.text.lines().any(|line| line == "Acquire-By-Hash: yes") {
            true => format!("{folder}/by-hash/SHA256/{digest}"),
            false => format!("{folder}/Packages.xz"),
        };
        Ok((http.cached(&url, digest, cache).await?, uri.clone()))
    }
}

/// The digest of a file in the `SHA256:` section.
fn listed_digest(text: &str, name: &str) -> Option<Digest> {
    let lines = text.lines().skip_while(|line| line.trim_end() != "SHA256:").skip(1);
    lines.take_while(|line| line.starts_with(' ')).find_map(|line| {
        let mut words = line.split_whitespace();
        let (digest, path) = (words.next()?, words.nth(1)?);
        (path == name).then(|| digest.parse().ok())?
    })
}

/// A program that checks signatures, and the keys it may accept.
struct Verifier {
    program: &'static str,
    keyrings: Vec<PathBuf>,
}

impl Verifier {
    fn find(keyrings_dir: &Path) -> Result<Self, ImageError> {
        let folders = ["/usr/bin", "/usr/local/bin", "/bin"];
        let installed = |name: &&str| folders.iter().any(|folder| Path::new(folder).join(name).is_file());
        let program = ["gpgv", "sqv"].into_iter().find(installed).ok_or(ImageError::NoVerifier)?;
        let mut keyrings = Vec::new();
        if let Ok(folder) = std::fs::read_dir(keyrings_dir) {
            for path in folder.flatten().map(|entry| entry.path()) {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let of_debian = name.starts_with("debian-archive-") && !name.contains("removed");
                if of_debian && (name.ends_with(".gpg") || name.ends_with(".pgp")) {
                    keyrings.push(path);
                }
            }
        }
        keyrings.sort();
        if keyrings.is_empty() {
            return Err(ImageError::NoKeyring);
        }
        Ok(Self { program, keyrings })
    }

    /// The signed text of a suite; `None` when the mirror does not have the suite.
    async fn fetch(&self, http: &Http, folder: &str) -> Result<Option<String>, ImageError> {
        let get = |name: &str| format!("{folder}/{name}");
        let scratch =
            tempfile::tempdir().map_err(|error| ImageError::io("make", "a temporary folder", error))?;
        let put = |name: &str, content: &[u8]| {
            let path = scratch.path().join(name);
            std::fs::write(&path, content)
                .map_err(|error| ImageError::io("write", &path, error))
                .map(|()| path)
        };
        if self.program == "gpgv" {
            let url = get("InRelease");
            let Some(signed) = http.get(&url, None, MAX_RELEASE_BYTES).await? else { return Ok(None) };
            let plain = scratch.path().join("plain");
            let mut command = self.command();
            command.arg("--status-fd=1").arg("--output").arg(&plain).arg(put("signed", &signed)?);
            let said = output(command).await?;
            // The file may carry signatures of keys we do not know beside those that count.
            let has = |word: &str| said.lines().any(|line| line.starts_with(&format!("[GNUPG:] {word} ")));
            if !has("GOODSIG") || !has("VALIDSIG") || has("BADSIG") {
                return Err(unsigned(&url, &said));
            }
            return std::fs::read_to_string(&plain)
                .map(Some)
                .map_err(|error| ImageError::io("read", &plain, error));
        }
        let url = get("Release");
        let Some(plain) = http.get(&url, None, MAX_RELEASE_BYTES).await? else { return Ok(None) };
        let signature = http.get(&get("Release.gpg"), None, MAX_RELEASE_BYTES).await?.unwrap_or_default();
        let mut command = self.command();
        command.arg(put("signature", &signature)?).arg(put("plain", &plain)?);
        let done = command.output().await.map_err(|error| ImageError::io("run", self.program, error))?;
        if !done.status.success() {
            return Err(unsigned(&url, &String::from_utf8_lossy(&done.stderr)));
        }
        String::from_utf8(plain).map(Some).map_err(|_| unsigned(&url, "it is not text"))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.program);
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").kill_on_drop(true);
        for keyring in &self.keyrings {
            command.arg("--keyring").arg(keyring);
        }
        command
    }
}

async fn output(mut command: Command) -> Result<String, ImageError> {
    let done = command.output().await.map_err(|error| ImageError::io("run", "gpgv", error))?;
    Ok(format!("{}\n{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr)))
}

fn unsigned(url: &str, said: &str) -> ImageError {
    let lines = said.lines().filter(|line| !line.starts_with("[GNUPG:]") && !line.trim().is_empty());
    let reason = lines.collect::<Vec<_>>().join("; ");
    ImageError::Unverified {
        what: url.into(),
        reason: format!("no good signature of Debian's keys: {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_of_the_right_section() {
        let (one, two) = ("1".repeat(64), "2".repeat(64));
        let text = format!("MD5Sum:\n {one} 5 main/a\nSHA256:\n {two} 5 main/a\nSHA512:\n {one} 5 main/b\n");
        assert_eq!(listed_digest(&text, "main/a").unwrap().to_string(), two);
        assert_eq!(listed_digest(&text, "main/b"), None);
    }
}
