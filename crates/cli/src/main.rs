//! The `clunk` binary: reads the command line and gives it to one verb.

mod api;
mod args;
mod clock;
mod cog;
mod embed;
mod find;
mod home;
mod launch;
mod plot;
mod progress;
mod table;
mod terminal;
mod ui;
mod verbs;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Verb};

/// First argument of the process that forks containers; no verb for people.
pub const HELPER_VERB: &str = "__helper";

fn main() -> ExitCode {
    // The containers' helper: a fork of this binary that never becomes anything else.
    if std::env::args_os().nth(1).is_some_and(|verb| verb == HELPER_VERB) {
        return clunk_runtime::spawner_main();
    }
    let cli = Cli::parse();
    let output = ui::Output { json: cli.json, quiet: cli.quiet };
    let done = match cli.verb {
        Verb::Up(up) => verbs::up::run(up, output),
        Verb::Down(down) => verbs::down::run(down, output),
        Verb::Status(status) => verbs::status::run(status, output),
        Verb::App(app) => verbs::app::run(app, output),
        Verb::Call(call) => verbs::call::run(call, output),
        Verb::Container(container) => verbs::container::run(container, output),
        Verb::Usage(usage) => verbs::usage::run(usage, output),
        Verb::Run(run) => verbs::run::run(run, output),
        Verb::Serve(serve) => verbs::serve::run(serve, output),
        Verb::ModelServer(server) => verbs::model_server::run(server, output),
        Verb::Build(build) => verbs::model::run("build", &build.words, output),
        Verb::Push(push) => verbs::model::run("push", &push.words, output),
        Verb::Predict(predict) => verbs::model::run("predict", &predict.words, output),
        Verb::Train(train) => verbs::model::run("train", &train.words, output),
        Verb::Model(model) => verbs::model::run("model", &model.words, output),
        Verb::Logs(logs) => verbs::logs::run(logs, output),
        Verb::Shell(shell) => verbs::shell::run(shell, output),
        Verb::Image(image) => verbs::image::run(image, output),
        Verb::Doctor(doctor) => verbs::doctor::run(doctor, output),
        Verb::Init(init) => verbs::init::run(init, output),
        Verb::Open(open) => verbs::open::run(open, output),
        Verb::Explain(explain) => verbs::explain::run(explain),
        Verb::Version => verbs::version::run(output),
        Verb::Completions(completions) => verbs::completions::run(completions),
        Verb::CogConfig(project) => verbs::cog_config::run(project),
    };
    done.unwrap_or_else(|error| ui::fail(&error))
}
