//! The base system: essential packages unpacked by us, all others by their own dpkg, everything set up by dpkg in a
//! container.
//!
//! What we unpack serves only to make dpkg run; dpkg unpacks it once more, so that its database is its own work.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clunk_core::Digest;
use clunk_runtime::{BindMount, Network};
use futures_util::future::try_join_all;

use super::index::{Index, Package};
use super::{Mirror, PACKAGES, Releases, Suite, deb, resolve};
use crate::ImageError;
use crate::beneath::{Meta, Root, remove_beneath};
use crate::container::{self, Job};
use crate::context::Context;
use crate::fetch::blocking;
use crate::flight::Log;
use crate::image::{DEFAULT_PATH, ImageConfig, LayerRef};
use crate::layer::Scratch;
use crate::unpack::Options;

/// Part of every base's key: count up when the same packages would give another base.
pub(crate) const RECIPE_VERSION: u32 = 2;

/// Downloads at a time; a mirror serves few connections well and one badly.
const DOWNLOADS: usize = 12;

/// Setting a base up takes seconds; a slow disk may take minutes.
const CONFIGURE_TIMEOUT: Duration = Duration::from_secs(900);

/// Where the container sees the packages.
const DEBS: &str = "/.clunk-build/debs";

/// Documentation and translations are most of the files and nobody reads them in a container. The marker that forbids
/// pip to install stays out for good: the whole image is one environment.
const DPKG_SETTINGS: &str = "force-unsafe-io\n\
    path-exclude=/usr/share/doc/*\npath-include=/usr/share/doc/*/copyright\npath-exclude=/usr/share/man/*\n\
    path-exclude=/usr/share/info/*\npath-exclude=/usr/share/locale/*\npath-exclude=/usr/share/lintian/*\n\
    path-exclude=/usr/share/groff/*\npath-exclude=/usr/lib/python3*/EXTERNALLY-MANAGED\n";

const APT_SETTINGS: &str = "APT::Install-Recommends \"false\";\nAPT::Install-Suggests \"false\";\n\
    Acquire::Languages \"none\";\nAcquire::GzipIndexes \"true\";\nAcquire::Retries \"3\";\n\
    Dpkg::Use-Pty \"false\";\nAPT::Sandbox::User \"root\";\n";

/// No service starts in an image.
const POLICY: &str = "#!/bin/sh\nexit 101\n";

const CONFIGURE: &str = r#"set -e
cd /
mkdir -p /var/lib/dpkg/info /var/lib/dpkg/updates
: > /var/lib/dpkg/status
: > /var/lib/dpkg/available
first() {
    dpkg --force-depends --install "$1" 2>&1
}
first "$BASE_PASSWD" > /tmp/log || { cat /tmp/log; exit 1; }
first "$BASE_FILES" > /tmp/log || { cat /tmp/log; exit 1; }
dpkg --force-depends --force-confnew --unpack $DEBS > /tmp/log 2>&1 || { tail -n 40 /tmp/log; exit 1; }
dpkg --force-configure-any --force-depends --force-confnew --configure --pending > /tmp/log 2>&1 || { tail -n 40 /tmp/log; exit 1; }
dpkg --audit
ln -sf /usr/share/zoneinfo/Etc/UTC /etc/localtime
echo Etc/UTC > /etc/timezone
rm -rf /var/cache/apt/* /var/lib/apt/lists/* /var/cache/debconf/*-old /var/lib/dpkg/*-old /var/log/* /tmp/log
rm -rf /usr/share/doc/*/changelog* /var/cache/ldconfig/aux-cache
mkdir -p /var/cache/apt/archives/partial /var/lib/apt/lists/partial /var/log/apt
"#;

/// One base being made.
pub(crate) struct Bootstrap<'a> {
    pub context: &'a Context,
    pub suite: &'static Suite,
    pub mirror: Mirror,
    pub releases: Releases,
    pub log: Log,
}

impl Bootstrap<'_> {
    /// Makes the layer and returns how its containers start.
    pub async fn run(self, layer: Digest) -> Result<(), ImageError> {
        let cache = self.context.cache("debs")?;
        let index = self.releases.index(&self.context.http, &self.context.cache("lists")?, &self.log).await?;
        let essential: Vec<String> = index
            .packages
            .values()
            .filter(|package| package.essential)
            .map(|package| package.name.clone())
            .collect();
        let wanted = essential.iter().cloned();
        let named = PACKAGES.iter().chain(self.suite.extra).map(|name| name.to_string());
        let all = resolve::closure(&index, wanted.clone().chain(named), false)?;
        let first = resolve::closure(&index, wanted, false)?;
        let scratch = Arc::new(self.context.layers.scratch()?);
        self.prepare(&scratch)?;
        self.fetch_and_extract(&index, &all, &first, &cache, &scratch).await?;
        self.log.line("setting the packages up");
        self.configure(&index, &all, &scratch, cache).await?;
        let (layers, title) = (self.context.layers.clone(), format!("debian {}", self.suite.name));
        blocking(move |_| {
            remove_beneath(&scratch.fs(), ".clunk-build")
                .map_err(|error| ImageError::io("clean", scratch.fs(), error))?;
            layers.commit(&scratch, LayerRef::Layer(layer), &title)
        })
        .await?;
        Ok(())
    }

    /// The links that make `/bin` and `/usr/bin` one, and our settings.
    fn prepare(&self, scratch: &Scratch) -> Result<(), ImageError> {
        let failed = |error| ImageError::io("prepare", scratch.fs(), error);
        let mut root = Root::open(&scratch.fs(), self.context.layers.ids.clone()).map_err(failed)?;
        let sources = self.mirror.apt_sources(&self.releases.names(), KEYRING, self.suite.stable);
        let mut make = || -> std::io::Result<()> {
            for name in ["bin", "sbin", "lib"] {
                root.folder(format!("usr/{name}").as_bytes(), Meta::FOLDER)?;
                root.symlink(name.as_bytes(), format!("usr/{name}").as_bytes(), Meta::FOLDER)?;
            }
            if super::architecture() == "amd64" {
                root.folder(b"usr/lib64", Meta::FOLDER)?;
                root.symlink(b"lib64", b"usr/lib64", Meta::FOLDER)?;
            }
            for (path, mode) in [
                ("tmp", 0o1777),
                ("var/tmp", 0o1777),
                ("root", 0o700),
                ("run", 0o755),
                ("proc", 0o555),
                ("sys", 0o555),
                ("dev", 0o755),
            ] {
                root.folder(path.as_bytes(), Meta { mode, ..Meta::FOLDER })?;
            }
            let files = [
                ("etc/dpkg/dpkg.cfg.d/clunk", DPKG_SETTINGS, 0o644),
                ("etc/apt/apt.conf.d/90clunk", APT_SETTINGS, 0o644),
                ("etc/apt/sources.list.d/debian.sources", &sources, 0o644),
                ("usr/sbin/policy-rc.d", POLICY, 0o755),
                ("etc/resolv.conf", "", 0o644),
                ("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n", 0o644),
                ("etc/hostname", "localhost\n", 0o644),
            ];
            for (path, text, mode) in files {
                root.file(path.as_bytes(), Meta { mode, ..Meta::FOLDER }, &mut text.as_bytes())?;
            }
            Ok(())
        };
        make().map_err(failed)
    }

    async fn fetch_and_extract(
        &self,
        index: &Index,
        all: &BTreeSet<String>,
        first: &BTreeSet<String>,
        cache: &Path,
        scratch: &Arc<Scratch>,
    ) -> Result<(), ImageError> {
        let megabytes = all.iter().map(|name| index.packages[name].size).sum::<u64>() as f64 / 1e6;
        self.log.line(&format!("fetching {} packages, {megabytes:.1} MB", all.len()));
        let cores = std::thread::available_parallelism().map_or(2, |count| count.get());
        let slots = tokio::sync::Semaphore::new(cores);
        // The largest of those to be unpacked come first, so that none is left for the end.
        let mut names: Vec<&String> = all.iter().collect();
        names.sort_by_key(|name| (!first.contains(*name), std::cmp::Reverse(index.packages[*name].size)));
        let downloads = tokio::sync::Semaphore::new(DOWNLOADS);
        let jobs = names.into_iter().map(|name| {
            let (slots, downloads) = (&slots, &downloads);
            async move {
                let package = &index.packages[name];
                let link = downloads.acquire().await.expect("never closed");
                let path = self.context.http.cached(&package.url, digest(package)?, cache).await?;
                drop(link);
                if !first.contains(name) {
                    return Ok(());
                }
                let _slot = slots.acquire().await.expect("never closed");
                let (scratch, ids) = (scratch.clone(), self.context.layers.ids.clone());
                blocking(move |cancel| {
                    let options = Options { whiteouts: false, skip: &is_excluded, cancel: &cancel };
                    let extract =
                        || deb::extract(&path, &mut Root::open(&scratch.fs(), ids.clone())?, &options);
                    extract().map_err(|error| ImageError::io("unpack", &path, error))
                })
                .await
            }
        });
        try_join_all(jobs).await.map(|_| ())
    }

    async fn configure(
        &self,
        index: &Index,
        all: &BTreeSet<String>,
        scratch: &Arc<Scratch>,
        cache: PathBuf,
    ) -> Result<(), ImageError> {
        let file = |name: &str| Ok::<_, ImageError>(format!("{DEBS}/{}", digest(&index.packages[name])?));
        let rest: Vec<String> = all.iter().map(|name| file(name)).collect::<Result<_, _>>()?;
        let mut env = setup_env();
        env.insert("BASE_PASSWD".into(), file("base-passwd")?);
        env.insert("BASE_FILES".into(), file("base-files")?);
        env.insert("DEBS".into(), rest.join(" "));
        // overlayfs wants a lower layer, and here there is nothing below.
        let empty = scratch.mount("empty", &self.context.layers.ids)?;
        let job = Job {
            lowers: vec![empty],
            scratch: Some(scratch.clone()),
            mounts: vec![BindMount { source: cache, target: DEBS.into(), read_only: true }],
            argv: ["/bin/sh", "-c", CONFIGURE].map(String::from).to_vec(),
            env,
            workdir: "/".into(),
            limits: self.context.limits,
            network: Network::None,
            timeout: CONFIGURE_TIMEOUT,
        };
        container::run(&self.context.runtime, job, Some(&self.log)).await?.success()?;
        Ok(())
    }
}

/// In every release that we build.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// What dpkg and its scripts need to ask no questions.
pub(crate) fn setup_env() -> BTreeMap<String, String> {
    let pairs = [
        ("PATH", DEFAULT_PATH),
        ("HOME", "/root"),
        ("LC_ALL", "C"),
        ("DEBIAN_FRONTEND", "noninteractive"),
        ("DEBCONF_NONINTERACTIVE_SEEN", "true"),
    ];
    pairs.map(|(name, value)| (name.to_string(), value.to_string())).into()
}

/// How containers of a base start.
pub(crate) fn image_config() -> ImageConfig {
    let env = [("PATH", DEFAULT_PATH), ("LANG", "C.UTF-8")];
    ImageConfig {
        env: env.map(|(name, value)| (name.to_string(), value.to_string())).into(),
        cmd: vec!["python3".into()],
        ..ImageConfig::default()
    }
}

fn digest(package: &Package) -> Result<Digest, ImageError> {
    package.sha256.ok_or_else(|| ImageError::Unverified {
        what: package.url.clone(),
        reason: "the index has no digest for it".into(),
    })
}

/// The same as [`DPKG_SETTINGS`], for what we unpack.
fn is_excluded(path: &[u8]) -> bool {
    let under = |folder: &[u8]| path.starts_with(folder) && path.len() > folder.len();
    let doc = under(b"usr/share/doc/") && !path.ends_with(b"/copyright");
    let folders: [&[u8]; 5] = [
        b"usr/share/man/",
        b"usr/share/info/",
        b"usr/share/locale/",
        b"usr/share/lintian/",
        b"usr/share/groff/",
    ];
    doc || folders.iter().any(|folder| under(folder))
}
