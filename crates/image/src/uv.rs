//! uv: fetched once by a pip we trust, mounted into build containers ever after.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use clunk_core::Digest;
use clunk_core::recipe::Base;
use tokio::sync::mpsc;

use crate::container;
use crate::flight::Log;
use crate::image::Chain;
use crate::images::Inner;
use crate::layer::random_name;
use crate::stack::Stack;
use crate::steps::StepJob;
use crate::{BuildEvent, ImageError, python};

/// uv below this lacks options we use.
const REQUIREMENT: &str = "uv>=0.5";

const OUT: &str = "/.clunk-build/out";

/// The folder with the program for an image.
///
/// It comes through the pip of a base that we made ourselves, never through that of a foreign image, which could
/// hand out anything to the builds after it. Only images with musl, which our bases cannot serve, use their own and
/// keep it to themselves.
pub(crate) async fn find(
    inner: &Arc<Inner>,
    chain: &Chain,
    own_base: bool,
    log: &Log,
) -> Result<PathBuf, ImageError> {
    let stack = Stack::new(inner.context.paths(&chain.stack));
    let arch = std::env::consts::ARCH;
    let musl = stack.stat(format!("/lib/ld-musl-{arch}.so.1").as_bytes()).is_some();
    let name = match musl {
        true => format!("uv-{arch}-musl-{}", chain.key.short()),
        false => format!("uv-{arch}"),
    };
    let home = inner.context.layers.state().join("tools").join(name);
    if home.join("uv").is_file() {
        return Ok(home);
    }
    log.line("fetching uv");
    let (events, _) = mpsc::channel::<BuildEvent>(1);
    let (worker, place, chain) = (inner.clone(), home.clone(), chain.clone());
    let key = Digest::of_json(&("uv", &home));
    let work = |log| async move {
        let from = match musl || own_base {
            true => chain,
            false => {
                let (events, _) = mpsc::channel(1);
                let base = Base::DebianSlim { python: None };
                worker.bases.find(&worker.context, &base, false, &events).await?
            }
        };
        fetch(&worker, &from, place, log).await
    };
    inner.uv.join(key, &events, work).await
}

async fn fetch(inner: &Arc<Inner>, chain: &Chain, home: PathBuf, log: Log) -> Result<PathBuf, ImageError> {
    let context = &inner.context;
    let python =
        python::find(context, chain).ok_or_else(|| ImageError::Internal("no python for pip".into()))?;
    let mut job = StepJob::new(context, chain)?.online();
    let out = job.scratch.mount("out", &context.layers.ids)?;
    job.job.env.extend(context.host.indexes.clone());
    let job = job
        .env("PIP_DISABLE_PIP_VERSION_CHECK", "1")
        .env("PIP_ROOT_USER_ACTION", "ignore")
        .mount(&out, OUT, false)
        .argv([
            &python,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-cache-dir",
            "--no-deps",
            "--no-compile",
            "--only-binary=:all:",
            "--target",
            OUT,
            REQUIREMENT,
        ]);
    container::run(&context.runtime, job.job, Some(&log)).await?.success()?;
    let program = out.join("bin/uv");
    let failed = |error| ImageError::io("keep", &program, error);
    // What the container left is looked at without following links.
    let plain = |path: &std::path::Path| path.symlink_metadata().map(|meta| !meta.is_symlink());
    if !plain(&out.join("bin")).map_err(failed)? || !plain(&program).map_err(failed)? {
        return Err(ImageError::Internal("the package uv is not what it should be".into()));
    }
    let temporary = home.with_file_name(format!(".tmp-{}", random_name()));
    std::fs::create_dir_all(&temporary).map_err(failed)?;
    std::fs::copy(&program, temporary.join("uv")).map_err(failed)?;
    std::fs::rename(&temporary, &home).map_err(failed)?;
    Ok(home)
}

/// How uv behaves in our builds.
pub(crate) fn env(cache: &str) -> BTreeMap<String, String> {
    let pairs = [
        ("UV_CACHE_DIR", cache),
        // The cache is another file system to the container, so that links are no way.
        ("UV_LINK_MODE", "copy"),
        ("UV_COMPILE_BYTECODE", "1"),
        ("UV_BREAK_SYSTEM_PACKAGES", "1"),
        ("UV_PYTHON_DOWNLOADS", "never"),
        ("UV_NO_PROGRESS", "1"),
        ("UV_NO_CONFIG", "1"),
    ];
    pairs.map(|(name, value)| (name.to_string(), value.to_string())).into()
}
