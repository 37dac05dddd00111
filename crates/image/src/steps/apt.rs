//! apt_install: Debian's packages through the image's own apt.

use std::sync::Arc;

use clunk_core::Digest;

use super::StepJob;
use crate::ImageError;
use crate::container::Ended;
use crate::debian;
use crate::image::Chain;
use crate::images::Inner;
use crate::progress::Progress;

/// Package lists and packages are kept in mounts, so that nothing of them stays in the layer.
const SCRIPT: &str = r#"set -e
options="-o APT::Sandbox::User=root -o Dpkg::Use-Pty=false -o Acquire::Retries=3 -o Dpkg::Options::=--force-unsafe-io"
apt-get $options -q update
apt-get $options -q install -y --no-install-recommends -- "$@"
rm -rf /var/cache/apt/*.bin /var/log/apt/* /var/log/dpkg.log /var/log/alternatives.log /var/cache/debconf/*-old /var/lib/dpkg/*-old /var/cache/ldconfig/aux-cache
"#;

pub(crate) async fn install(
    inner: &Arc<Inner>,
    chain: &mut Chain,
    step: Digest,
    packages: Vec<String>,
    title: &str,
    progress: &mut Progress<'_>,
) -> Result<(), ImageError> {
    if let Some(bad) =
        packages.iter().find(|name| name.starts_with('-') || name.split_whitespace().count() != 1)
    {
        return Err(ImageError::BadRecipe {
            message: format!("apt_install: `{bad}` is not the name of a package"),
            hint: "give each package as a text of its own, without options".into(),
        });
    }
    let key = chain.next_key(step, None);
    let (base, below, owned) = (progress.base, chain.clone(), title.to_string());
    let worker = inner.clone();
    let work = |log| async move {
        // apt refuses to share its folders with another apt.
        let lock = worker.apt_locks.lock().expect("no panic while held").entry(base).or_default().clone();
        let _held = lock.lock().await;
        let context = &worker.context;
        let cache = format!("apt-{}", base.short());
        let mut job = StepJob::new(context, &below)?
            .online()
            .mount(context.shared_cache(&format!("{cache}/archives"))?, "/var/cache/apt/archives", false)
            .mount(context.shared_cache(&format!("{cache}/lists"))?, "/var/lib/apt/lists", false)
            .argv(["/bin/sh", "-c", SCRIPT, "apt_install"].into_iter().map(String::from).chain(packages));
        for (name, value) in debian::setup_env() {
            job.job.env.entry(name).or_insert(value);
        }
        job.job.workdir = "/".into();
        job.run(key, owned, log, explain).await
    };
    super::layer(inner, chain, key, title, progress, work).await
}

/// apt's words for a package it does not know.
fn explain(ended: &Ended) -> Option<ImageError> {
    ended.tail.iter().find_map(|line| {
        let rest = line.strip_prefix("E: ")?;
        let package = rest
            .strip_prefix("Unable to locate package ")
            .or_else(|| rest.strip_prefix("Couldn't find any package by glob '")?.strip_suffix('\''))
            .or_else(|| {
                rest.strip_prefix("Package '")?.split_once("' has no installation candidate").map(|it| it.0)
            })
            .or_else(|| {
                let (_, rest) = rest.split_once("' for '")?;
                rest.strip_suffix("' was not found")
            })?;
        Some(ImageError::PackageNotFound {
            package: package.trim().into(),
            place: "the image's package sources",
        })
    })
}

#[cfg(test)]
mod tests {
    use clunk_runtime::ExitReason;

    use super::*;

    #[test]
    fn unknown_packages_are_named() {
        for line in [
            "E: Unable to locate package nope",
            "E: Package 'nope' has no installation candidate",
            "E: Version '9' for 'nope' was not found",
        ] {
            let ended = Ended {
                reason: ExitReason::Code(100),
                tail: vec!["Reading...".into(), line.into()],
                captured: String::new(),
            };
            let text = explain(&ended).unwrap().to_string();
            assert!(text.contains("`nope`"), "{text}");
        }
    }
}
