//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

#[derive(Parser)]
#[command(
    name = "clunk",
    version,
    about = "Run Python functions in containers that start in milliseconds, on machines you own.",
    after_help = "Try:\n  clunk init hello.py        a first file\n  clunk run hello.py         run it in a container\n  clunk status               watch what the server does",
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
    /// Run a function of a Python file, or a Cog model, in containers.
    Run(Run),
    /// Serve a Cog model over HTTP, as its container would.
    Serve(Serve),
    /// Serve one model by itself: what an image's entrypoint runs.
    #[command(name = "__model-server", hide = true)]
    ModelServer(ModelServer),
    /// Write an image of a Cog model for any container engine.
    #[command(disable_help_flag = true)]
    Build(Words),
    /// Push a Cog model to the server as a version that never changes.
    #[command(disable_help_flag = true)]
    Push(Words),
    /// Run a Cog model once; the same as `run`.
    #[command(disable_help_flag = true)]
    Predict(Words),
    /// Train a Cog model.
    #[command(disable_help_flag = true)]
    Train(Words),
    /// List, show and delete models.
    #[command(disable_help_flag = true)]
    Model(Words),
    /// Start the local server.
    Up(Up),
    /// Stop the local server and everything it runs.
    Down(Down),
    /// Watch what the server does now.
    Status(Status),
    /// List, show and stop apps.
    #[command(subcommand)]
    App(App),
    /// List, show and cancel calls, and read what they printed.
    #[command(subcommand)]
    Call(Call),
    /// List and stop running containers, read what they printed, run a command in one.
    #[command(subcommand)]
    Container(Container),
    /// Show what was used: a table and a plot.
    Usage(Usage),
    /// Show the output of an app, a call or a container.
    Logs(Logs),
    /// Open a terminal in an image, or in the state before a failed build step.
    Shell(Shell),
    /// List, inspect and remove images.
    #[command(subcommand)]
    Image(Image),
    /// Check what this machine can do, or a Cog project, and how to mend what is wrong.
    Doctor(Doctor),
    /// Write a first file, or a first Cog project, to start from.
    Init(Init),
    /// Print the address of the web pages, signed in, and open it where there is a desktop.
    Open(Open),
    /// Explain an error code.
    Explain(Explain),
    /// Print the version.
    Version,
    /// Print a completion script for your shell.
    Completions(Completions),
    /// Print the settings of a Cog project as JSON.
    #[command(name = "__cog-config", hide = true)]
    CogConfig(CogConfig),
}

#[derive(Args)]
#[command(
    disable_help_flag = true,
    after_help = "Examples:\n  clunk run app.py\n  clunk run app.py::train --epochs 3\n  clunk run -m package.module::main\n  clunk run --local app.py       in this process, for a debugger\n  clunk run . -i prompt=hello    the Cog model in this folder\n  clunk run owner/name -i image=@in.png -o out.png"
)]
pub struct Run {
    /// FILE[::NAME] and the arguments of the entrypoint or function; or a Cog model and its inputs.
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
#[command(
    after_help = "Examples:\n  clunk status           a live screen; q ends it\n  clunk status --once    print it once\n  clunk status --json"
)]
pub struct Status {
    /// Print it once, also on a terminal.
    #[arg(long)]
    pub once: bool,
}

#[derive(Subcommand)]
pub enum App {
    /// List apps, newest first.
    List {
        /// Only those that run.
        #[arg(long)]
        running: bool,
    },
    /// Show one app and its functions.
    Show {
        /// Its id, the beginning of one, or its name.
        app: String,
    },
    /// Stop an app: its calls are canceled, its containers end.
    Stop {
        /// Its id, the beginning of one, or its name.
        app: String,
    },
}

/// The states of a call, as the API names them.
pub const CALL_STATES: [&str; 7] =
    ["queued", "running", "succeeded", "failed", "timed_out", "canceled", "expired"];

#[derive(Subcommand)]
#[command(after_help = "An id may be cut short: any beginning that only one has, with or without `call-`.")]
pub enum Call {
    /// List calls, newest first.
    List(CallList),
    /// Show one call, or a batch.
    Show {
        /// Id of a call or a batch.
        id: String,
    },
    /// Print what a call printed.
    Logs {
        /// Id of a call.
        id: String,
        /// Go on until the call has ended.
        #[arg(long, short)]
        follow: bool,
    },
    /// Cancel a call, or what has not ended of a batch.
    Cancel {
        /// Id of a call or a batch.
        id: String,
        /// End the containers that work on it as well.
        #[arg(long)]
        terminate_containers: bool,
    },
}

#[derive(Args)]
#[command(
    after_help = "Examples:\n  clunk call list --state failed\n  clunk call list --app hello --function greet --limit 5"
)]
pub struct CallList {
    /// Only of this app: its id, the beginning of one, or its name.
    #[arg(long)]
    pub app: Option<String>,
    /// Only of this function: its name, `Class.method`, or fn-….
    #[arg(long, value_name = "NAME")]
    pub function: Option<String>,
    /// Only in this state.
    #[arg(long, value_parser = CALL_STATES)]
    pub state: Option<String>,
    /// Only of this batch.
    #[arg(long, value_name = "ID")]
    pub batch: Option<String>,
    /// How many at most.
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub limit: u32,
}

#[derive(Subcommand)]
#[command(after_help = "An id may be cut short: any beginning that only one has, with or without `rep-`.")]
pub enum Container {
    /// List running containers.
    List,
    /// Print what a container printed.
    Logs {
        /// Id of a container.
        id: String,
        /// Go on as more comes.
        #[arg(long, short)]
        follow: bool,
    },
    /// Run a command in a container; a shell when none is given.
    #[command(
        after_help = "Examples:\n  clunk container exec 01k9f3\n  clunk container exec 01k9f3 -- ls -l /tmp"
    )]
    Exec {
        /// Id of a container.
        id: String,
        /// What to run instead of a shell.
        #[arg(last = true)]
        command: Vec<String>,
    },
    /// Stop a container; its calls are given to others.
    Stop {
        /// Id of a container.
        id: String,
    },
}

#[derive(Args)]
#[command(
    after_help = "Examples:\n  clunk usage\n  clunk usage --since 7d --by app\n  clunk usage --since 90min --by hour --json"
)]
pub struct Usage {
    /// How far back: a number with s, min, h, d or w.
    #[arg(long, default_value = "24h", value_name = "TIME")]
    pub since: String,
    /// What a line of the table is.
    #[arg(long, value_enum, default_value_t = By::Function)]
    pub by: By,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum By {
    Function,
    App,
    Workspace,
    Hour,
}

#[derive(Args)]
#[command(
    after_help = "Examples:\n  clunk logs                        the newest app\n  clunk logs --follow hello\n  clunk logs --container 01k9f3"
)]
pub struct Logs {
    /// An app or a call: its id, the beginning of one, or an app's name; the newest app when absent.
    pub of: Option<String>,
    /// Only what this call printed.
    #[arg(long, value_name = "ID")]
    pub call: Option<String>,
    /// Only what this container printed.
    #[arg(long, value_name = "ID")]
    pub container: Option<String>,
    /// Go on as more comes.
    #[arg(long, short)]
    pub follow: bool,
    /// Only the last N lines.
    #[arg(long, short = 'n', value_name = "N")]
    pub tail: Option<usize>,
    /// The server's own log.
    #[arg(long, conflicts_with_all = ["of", "call", "container"])]
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
#[command(
    after_help = "Examples:\n  clunk doctor            this machine\n  clunk doctor my-model   the Cog project in a folder"
)]
pub struct Doctor {
    /// Folder of a Cog project, or one within it.
    #[arg(value_name = "DIR")]
    pub folder: Option<PathBuf>,
    /// Name of the project's settings file.
    #[arg(long, short, value_name = "NAME", requires = "folder")]
    pub file: Option<String>,
}

#[derive(Args)]
#[command(
    after_help = "Examples:\n  clunk init hello.py       functions to run in containers\n  clunk init cog my-model   a Cog model: cog.yaml and run.py"
)]
pub struct Init {
    /// File to write, or the word `cog`.
    #[arg(default_value = "hello.py")]
    pub file: PathBuf,
    /// With `cog`: the folder to write to; the one you are in when absent.
    #[arg(value_name = "DIR")]
    pub folder: Option<PathBuf>,
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

#[derive(Args)]
#[command(after_help = "Examples:\n  clunk open\n  clunk open me/hello       the page of a model")]
pub struct Open {
    /// OWNER/NAME of a model; the start page without one.
    #[arg(value_name = "OWNER/NAME")]
    pub model: Option<String>,
}

#[derive(Args)]
pub struct CogConfig {
    /// The project's folder, or one within it.
    #[arg(default_value = ".", value_name = "DIR")]
    pub folder: PathBuf,
    /// Name of the settings file.
    #[arg(long, short, value_name = "NAME")]
    pub file: Option<String>,
}

#[derive(Args)]
#[command(
    disable_help_flag = true,
    after_help = "Examples:\n  clunk serve                      the project in this folder, on port 5000\n  clunk serve DIR --port 8000\n  clunk serve --local DIR          in this Python, without a container"
)]
pub struct Serve {
    /// Folder of the project, and options.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "[DIR] [OPTIONS]")]
    pub words: Vec<OsString>,
}

#[derive(Args)]
pub struct ModelServer {
    /// File that says what is served, JSON.
    #[arg(long)]
    pub config: PathBuf,
    /// Address to listen on.
    #[arg(long, default_value = "0.0.0.0")]
    pub host: String,
    /// Port to listen on; 0 for any.
    #[arg(long, env = "PORT", default_value_t = 5000)]
    pub port: u16,
    /// Only `POST /shutdown` ends it, no SIGTERM.
    #[arg(long)]
    pub await_explicit_shutdown: bool,
    /// What it serves.
    #[arg(long = "x-mode", default_value = "predict", value_parser = ["predict", "train"])]
    pub mode: String,
    /// Put output files below this address, instead of into data URLs.
    #[arg(long, value_name = "URL")]
    pub upload_url: Option<String>,
    /// Log what happens.
    #[arg(long, short)]
    pub verbose: bool,
    /// Taken for the sake of Cog's images; the model says how many predictions it runs at a time.
    #[arg(long, hide = true)]
    pub threads: Option<u32>,
}

/// What the Python half reads: places, inputs and options of a verb for models.
#[derive(Args)]
pub struct Words {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub words: Vec<OsString>,
}
