//! `clunk shell`

use std::process::{ExitCode, Stdio};

use clunk_core::api::OpenShell;
use clunk_core::recipe::{Base, Recipe};

use crate::api::Client;
use crate::args::Shell;
use crate::home::Target;
use crate::ui::Output;
use crate::verbs::run::python;
use crate::{launch, progress, terminal};

pub fn run(args: Shell, output: Output) -> anyhow::Result<ExitCode> {
    let target = launch::ensure_server(output)?;
    let client = Client::new(target.clone());
    let mut shell = match (&args.file, &args.image) {
        (Some(file), _) => of_function(&target, file)?,
        (None, Some(image)) => OpenShell { image: Some(full_id(&client, image)?), ..empty() },
        (None, None) => {
            let recipe = Recipe { base: Base::DebianSlim { python: None }, steps: Vec::new() };
            OpenShell { image: Some(progress::build(&client, &recipe, output)?), ..empty() }
        }
    };
    shell.command = args.command;
    shell.term = std::env::var("TERM").unwrap_or_default();
    (shell.rows, shell.columns) = terminal::size();
    terminal::open(client.target(), "/api/shell", &shell)
}

fn empty() -> OpenShell {
    serde_json::from_str("{}").expect("every field has a default")
}

/// Lets the Python half build the image and upload the files of a function.
fn of_function(target: &Target, file: &str) -> anyhow::Result<OpenShell> {
    let answer =
        python(Some(target))?.args(["-m", "clunk", "prepare", file]).stderr(Stdio::inherit()).output()?;
    if !answer.status.success() {
        std::process::exit(answer.status.code().unwrap_or(1));
    }
    Ok(serde_json::from_slice(&answer.stdout)?)
}

/// A state before a failed step is no image in the list, so only its whole id names it.
fn full_id(client: &Client, text: &str) -> anyhow::Result<clunk_core::id::ImageId> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let image: clunk_core::api::ImageDetail = client.get(&format!("/api/images/{text}"))?;
    Ok(image.id)
}
