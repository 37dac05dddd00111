//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "clunk",
    version,
    about = "Run Python functions in containers that start in milliseconds, on machines you own.",
    after_help = "Try:\n  clunk init hello.py        a first file\n  clunk run hello.py         run it in a container\n  clunk status               see what the server does",
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
pub struct Cli {
    /// Print data as JSON.
    #[arg(long, global = true)]
    pub json: bool,
    /// Print results only.
    #[arg(long, short, global = true)]
    pub quiet: bool,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Subcommand)]
pub enum Verb {
    /// Run a function or entrypoint of a Python file in containers.
    Run(Run),
    /// Start the local server.
    Up(Up),
    /// Stop the local server and everything it runs.
    Down(Down),
    /// Show what the server does now.
    Status,
    /// Show the output of an app or a call.
    Logs(Logs),
    /// Open a terminal in an image, or in the state before a failed build step.
    Shell(Shell),
    /// List, inspect and remove images.
    #[command(subcommand)]
    Image(Image),
    /// Check what this machine can do, and how to mend what it cannot.
    Doctor,
    /// Write a first file to start from.
    Init(Init),
    /// Explain an error code.
    Explain(Explain),
    /// Print the version.
    Version,
    /// Print a completion script for your shell.
    Completions(Completions),
}

#[derive(Args)]
#[command(
    disable_help_flag = true,
    after_help = "Examples:\n  clunk run app.py\n  clunk run app.py::train --epochs 3\n  clunk run -m package.module::main\n  clunk run --local app.py       in this process, for a debugger"
)]
pub struct Run {
    /// FILE[::NAME] and the arguments of the entrypoint or function.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "FILE[::NAME] [ARGUMENTS]")]
    pub words: Vec<OsString>,
}

#[derive(Args)]
pub struct Up {
    /// Stay in the foreground and log to standard error.
    #[arg(long)]
    pub foreground: bool,
    /// Address to listen on.
    #[arg(long, env = "CLUNK_HOST", default_value = "127.0.0.1")]
    pub host: String,
    /// Port to listen on; 0 for any.
    #[arg(long, env = "CLUNK_PORT", default_value_t = clunk_core::api::DEFAULT_PORT)]
    pub port: u16,
    /// File descriptor on which to say that the server is ready.
    #[arg(long, hide = true)]
    pub ready_fd: Option<i32>,
}

#[derive(Args)]
pub struct Down {
    /// Kill the server if it does not stop by itself.
    #[arg(long)]
    pub force: bool,
}

#[derive(Args)]
pub struct Logs {
    /// app-… or call-…; the newest app when absent.
    pub of: Option<String>,
    /// Go on as more comes.
    #[arg(long, short)]
    pub follow: bool,
    /// Only the last N lines.
    #[arg(long, short = 'n', value_name = "N")]
    pub tail: Option<usize>,
    /// The server's own log.
    #[arg(long, conflicts_with_all = ["of"])]
    pub server: bool,
}

#[derive(Args)]
#[command(
    after_help = "Examples:\n  clunk shell\n  clunk shell app.py::train\n  clunk shell --image im-0123… -- python3 -V"
)]
pub struct Shell {
    /// FILE[::NAME]: the image and files of that function.
    pub file: Option<String>,
    /// An image by its id.
    #[arg(long, conflicts_with = "file")]
    pub image: Option<String>,
    /// What to run instead of a shell.
    #[arg(last = true)]
    pub command: Vec<String>,
}

#[derive(Subcommand)]
pub enum Image {
    /// List images, newest first.
    List,
    /// Show one image: its layers, sizes and settings.
    Inspect { id: String },
    /// Remove one image.
    Remove { id: String },
    /// Remove every image and layer that no running app uses.
    Prune,
}

#[derive(Args)]
pub struct Init {
    /// File to write.
    #[arg(default_value = "hello.py")]
    pub file: PathBuf,
}

#[derive(Args)]
pub struct Explain {
    /// A code as printed after `error`; without one, all are listed.
    pub code: Option<String>,
}

#[derive(Args)]
pub struct Completions {
    pub shell: clap_complete::Shell,
}
