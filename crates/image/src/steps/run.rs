//! run_commands and run_function.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clunk_core::Digest;
use clunk_core::recipe::{RunFunction, SecretFile};

use super::StepJob;
use crate::ImageError;
use crate::context::Context;
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
    secrets: Vec<SecretFile>,
    title: &str,
    progress: &mut Progress<'_>,
) -> Result<(), ImageError> {
    let argv = ["/bin/sh", "-c", COMMANDS, "run_commands"].into_iter().map(String::from).chain(commands);
    let key = chain.next_key(step, None);
    let program = Program { argv: argv.collect(), env: Vec::new(), secrets };
    run(inner, chain, key, program, title, progress).await
}

/// What a step runs.
pub(crate) struct Program {
    pub argv: Vec<String>,
    pub env: Vec<(String, String)>,
    pub secrets: Vec<SecretFile>,
}

/// Runs a program on the chain; what it changes is the layer.
pub(crate) async fn run(
    inner: &Arc<Inner>,
    chain: &mut Chain,
    key: Digest,
    program: Program,
    title: &str,
    progress: &mut Progress<'_>,
) -> Result<(), ImageError> {
    let (context, below, owned) = (inner.context.clone(), chain.clone(), title.to_string());
    let work = |log| async move {
        let mut job = StepJob::new(&context, &below)?.argv(program.argv);
        job.job.env.extend(context.host.indexes.clone());
        job.job.env.extend(program.env);
        for (index, secret) in program.secrets.into_iter().enumerate() {
            job = mount_secret(job, &context, index, secret)?;
        }
        job.run(key, owned, log, |_| None).await
    };
    super::layer(inner, chain, key, title, progress, work).await
}

/// A file beside the layer, for the container's root alone, that goes with the step.
fn mount_secret(
    job: StepJob,
    context: &Context,
    index: usize,
    secret: SecretFile,
) -> Result<StepJob, ImageError> {
    let bad = |message: String, hint: String| ImageError::BadRecipe { message, hint };
    let id = &secret.id;
    let content = secret.content.ok_or_else(|| {
        bad(format!("the command needs the secret `{id}`"), format!("give it: --secret id={id},src=FILE"))
    })?;
    let content = STANDARD.decode(content).map_err(|error| {
        bad(format!("the secret `{id}` is not in base 64: {error}"), "encode what the file holds".into())
    })?;
    let path = job.scratch.mount(&format!("secret-{index}"), &context.layers.ids)?.join("content");
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o400).open(&path)?;
        file.write_all(&content)?;
        context.layers.ids.give_to_root(&path)
    };
    write().map_err(|error| ImageError::io("write a secret", &path, error))?;
    Ok(job.mount(path, &secret.target, true))
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
