//! run_commands and run_function.

use std::sync::Arc;
use std::time::Duration;

use clunk_core::Digest;
use clunk_core::recipe::RunFunction;

use super::StepJob;
use crate::ImageError;
use crate::image::{Chain, LayerRef};
use crate::images::Inner;
use crate::progress::Progress;
use crate::python;

/// The kernel takes no variable longer than 128 KiB.
const MAX_ARGUMENT_BYTES: usize = 120 << 10;

/// Says each command and runs it; the first that fails ends the step.
const COMMANDS: &str = r#"for command in "$@"; do
    printf '+ %s\n' "$command"
    /bin/sh -c "$command" || exit
done"#;

pub(crate) async fn commands(
    inner: &Arc<Inner>,
    chain: &mut Chain,
    step: Digest,
    commands: Vec<String>,
    title: &str,
    progress: &mut Progress<'_>,
) -> Result<(), ImageError> {
    let argv = ["/bin/sh", "-c", COMMANDS, "run_commands"].into_iter().map(String::from).chain(commands);
    let key = chain.next_key(step, None);
    program(inner, chain, key, argv.collect(), Vec::new(), title, progress).await
}

/// Runs a program on the chain; what it changes is the layer.
pub(crate) async fn program(
    inner: &Arc<Inner>,
    chain: &mut Chain,
    key: Digest,
    argv: Vec<String>,
    env: Vec<(String, String)>,
    title: &str,
    progress: &mut Progress<'_>,
) -> Result<(), ImageError> {
    let (context, below, owned) = (inner.context.clone(), chain.clone(), title.to_string());
    let work = |log| async move {
        let mut job = StepJob::new(&context, &below)?.argv(argv);
        job.job.env.extend(context.host.indexes.clone());
        job.job.env.extend(env);
        job.run(key, owned, log, |_| None).await
    };
    super::layer(inner, chain, key, title, progress, work).await
}

pub(crate) async fn function(
    inner: &Arc<Inner>,
    chain: &mut Chain,
    step: Digest,
    run: RunFunction,
    title: &str,
    progress: &mut Progress<'_>,
) -> Result<(), ImageError> {
    if run.arguments.len() > MAX_ARGUMENT_BYTES {
        return Err(ImageError::BadRecipe {
            message: format!("the arguments of {} take {} bytes", run.qualname, run.arguments.len()),
            hint: format!("at most {MAX_ARGUMENT_BYTES} are possible; put big data into a file and add that"),
        });
    }
    let key = chain.next_key(step, None);
    let (worker, below, owned) = (inner.clone(), chain.clone(), title.to_string());
    let work = |log| async move {
        let context = &worker.context;
        let runner = context.runner_dir.clone();
        let runner =
            runner.ok_or_else(|| ImageError::Internal("no runner is configured for run_function".into()))?;
        let tree = context.blobs.tree(run.source).await.ok_or(ImageError::TreeMissing(run.source))?;
        worker.tree_layer(&tree, run.source).await?;
        let python = python::find(context, &below).ok_or_else(|| ImageError::BadRecipe {
            message: "run_function needs a Python in the image, which has none".into(),
            hint: "start from debian_slim or an image with Python, or install python3 first".into(),
        })?;
        let mut job = StepJob::new(context, &below)?
            .mount(runner, "/.clunk", true)
            .env("CLUNK_ARGUMENTS", run.arguments)
            .env("PYTHONUNBUFFERED", "1")
            // Bytecode of source that may change must not stay in the layer.
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .argv([
                python,
                "/.clunk/run_function.py".into(),
                run.module,
                run.qualname,
                context.source_root.clone(),
            ]);
        job.job.env.extend(run.env);
        // Above the image, below the host's certificates if there are any.
        let at = job.job.lowers.len() - below.stack.len();
        job.job.lowers.insert(at, context.layers.path(&LayerRef::Tree(run.source)));
        job.job.timeout = Duration::from_secs(run.timeout_s.max(1));
        job.run(key, owned, log, |_| None).await
    };
    super::layer(inner, chain, key, title, progress, work).await
}
