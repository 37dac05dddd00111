//! The image's Python, and the runner compiled for it.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clunk_core::Digest;
use clunk_core::digest::Hasher;
use clunk_runtime::{ExitReason, Network};

use crate::container;
use crate::context::Context;
use crate::image::{Chain, Python};
use crate::layer::random_name;
use crate::stack::Stack;
use crate::steps::StepJob;
use crate::{ImageError, RUNNER_PATH};

/// What the runner needs.
const OLDEST: (u32, u32) = (3, 9);

/// An interpreter that has not said its version by then is not one.
const PROBE_TIMEOUT: Duration = Duration::from_secs(120);

/// Files of a runner folder; ours has a dozen.
const MAX_RUNNER_FILES: usize = 1000;

/// Compiled without a check against the source, which costs a look at the file on every import and never changes.
const PROBE: &str = r#"
import compileall, os, py_compile, sys
print(sys.executable)
print("%d.%d.%d" % sys.version_info[:3])
if os.path.isdir("/.clunk"):
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    compileall.compile_dir("/.clunk", quiet=2, invalidation_mode=mode)
"#;

/// The interpreter a container would find.
pub(crate) fn find(context: &Context, chain: &Chain) -> Option<String> {
    let stack = Stack::new(context.paths(&chain.stack));
    stack.program(&chain.config.full_env()["PATH"], &["python", "python3"])
}

/// Asks the image's Python what it is, and compiles a copy of the runner with it into `home/runner`.
pub(crate) async fn prepare(
    context: &Arc<Context>,
    chain: &Chain,
    home: &Path,
) -> Result<Option<Python>, ImageError> {
    let Some(program) = find(context, chain) else { return Ok(None) };
    let mut job = StepJob::new(context, chain)?.argv([&program, "-I", "-c", PROBE]);
    job.job.scratch = None;
    job.job.network = Network::None;
    job.job.timeout = PROBE_TIMEOUT;
    job.job.workdir = "/".into();
    let copy = home.join(format!(".tmp-{}", random_name()));
    if let Some(runner) = &context.runner_dir {
        let made = copy_runner(runner, &copy, context);
        made.map_err(|error| ImageError::io("copy the runner to", &copy, error))?;
        job = job.mount(&copy, RUNNER_PATH, false);
    }
    let ended = container::run(&context.runtime, job.job, None).await?;
    if ended.reason != ExitReason::Code(0) {
        tracing::info!(%program, reason = ?ended.reason, "the image's Python does not run");
        let _ = fs::remove_dir_all(&copy);
        return Ok(None);
    }
    let python = parse(&ended.captured);
    if context.runner_dir.is_some() {
        let place = home.join("runner");
        let swap = || -> io::Result<()> {
            if place.exists() {
                // Containers may have it mounted: it goes when the folder is opened next.
                fs::rename(&place, home.join(format!(".tmp-{}", random_name())))?;
            }
            fs::rename(&copy, &place)
        };
        swap().map_err(|error| ImageError::io("put the runner in", &place, error))?;
    }
    Ok(python)
}

/// Path and version, if the runner can work with it.
fn parse(said: &str) -> Option<Python> {
    let mut lines = said.lines();
    let (path, version) = (lines.next()?.trim(), lines.next()?.trim());
    let mut numbers = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let known = (numbers.next()?, numbers.next()?);
    (path.starts_with('/') && known >= OLDEST).then(|| Python { path: path.into(), version: version.into() })
}

fn runner_files(folder: &Path) -> io::Result<Vec<std::path::PathBuf>> {
    let mut files = Vec::new();
    let mut todo = vec![folder.to_path_buf()];
    while let Some(here) = todo.pop() {
        for entry in fs::read_dir(&here)? {
            let entry = entry?;
            match entry.file_type()? {
                kind if kind.is_dir() && entry.file_name() != "__pycache__" => todo.push(entry.path()),
                kind if kind.is_file() => files.push(entry.path()),
                _ => {}
            }
        }
        if files.len() > MAX_RUNNER_FILES {
            return Err(io::Error::other("the runner folder has too many files"));
        }
    }
    files.sort();
    Ok(files)
}

/// Changes when a file of the runner does.
pub(crate) fn runner_digest(folder: &Path) -> Result<Digest, ImageError> {
    let read = || -> io::Result<Digest> {
        let mut hasher = Hasher::default();
        for file in runner_files(folder)? {
            let name = file.strip_prefix(folder).unwrap_or(&file).to_string_lossy().into_owned();
            let content = fs::read(&file)?;
            hasher.update(format!("{} {name}\n{}\n", name.len(), content.len()).as_bytes());
            hasher.update(&content);
        }
        Ok(hasher.finish())
    };
    read().map_err(|error| ImageError::io("read the runner in", folder, error))
}

fn copy_runner(from: &Path, to: &Path, context: &Context) -> io::Result<()> {
    fs::create_dir_all(to)?;
    context.layers.ids.give_to_root(to)?;
    for file in runner_files(from)? {
        let place = to.join(file.strip_prefix(from).unwrap_or(&file));
        if let Some(parent) = place.parent().filter(|parent| !parent.exists()) {
            fs::create_dir_all(parent)?;
            context.layers.ids.give_to_root(parent)?;
        }
        fs::copy(&file, &place)?;
        context.layers.ids.give_to_root(&place)?;
    }
    Ok(())
}
