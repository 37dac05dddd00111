//! Starting the local server in the background.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use anyhow::Context;
use clunk_core::error::ErrorBody;

use crate::home::{self, Target};
use crate::ui::Output;

/// The server that runs, or a new one.
pub fn ensure_server(output: Output) -> anyhow::Result<Target> {
    if let Some(target) = home::find_server()? {
        return Ok(target);
    }
    output.say("clunk: starting the local server …");
    let started = std::time::Instant::now();
    match start(&[]) {
        Ok(url) => {
            output.say(format_args!("clunk: {url} is up after {:.1} s", started.elapsed().as_secs_f32()))
        }
        // Somebody else's start was a moment quicker.
        Err(error) if is_running(&error) => {}
        Err(error) => return Err(error),
    }
    wait_for_announcement()
}

fn is_running(error: &anyhow::Error) -> bool {
    let code = error.downcast_ref::<ErrorBody>().map(|body| body.code);
    code == Some(clunk_core::ErrorCode::AlreadyRunning)
}

/// Another process is starting the server: it announces itself within moments, or never.
fn wait_for_announcement() -> anyhow::Result<Target> {
    for _ in 0..200 {
        if let Some(target) = home::find_server()? {
            return Ok(target);
        }
        std::thread::sleep(std::time::Duration::from_millis(25));
    }
    home::need_server()
}

/// Starts `clunk up --foreground` as a process of its own and returns its address once it answers.
pub fn start(arguments: &[String]) -> anyhow::Result<String> {
    let state = home::state_dir();
    std::fs::create_dir_all(&state)
        .with_context(|| format!("could not make the state folder {}", state.display()))?;
    let log = open_log()?;
    let (ready, tell): (OwnedFd, OwnedFd) = rustix::pipe::pipe()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["up", "--foreground", "--ready-fd", &tell.as_raw_fd().to_string()]).args(arguments);
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).current_dir("/");
    // SAFETY: setsid is safe between fork and exec.
    unsafe {
        command.pre_exec(|| Ok(rustix::process::setsid().map(drop)?));
    }
    rustix::io::fcntl_setfd(&ready, rustix::io::FdFlags::CLOEXEC)?;
    let mut child = command.spawn().context("could not start the server")?;
    drop(tell);
    let mut line = String::new();
    BufReader::new(File::from(ready)).read_line(&mut line)?;
    if let Some(url) = line.strip_prefix("ready ") {
        return Ok(url.trim().into());
    }
    if let Some(error) = line.strip_prefix("error ") {
        let _ = child.wait();
        return Err(serde_json::from_str::<ErrorBody>(error)?.into());
    }
    let status = child.wait()?;
    anyhow::bail!("the server ended while starting ({status}):\n{}", log_tail())
}

fn open_log() -> anyhow::Result<File> {
    let path = log_path();
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("could not open {}", path.display()))
}

pub fn log_path() -> std::path::PathBuf {
    home::state_dir().join("server.log")
}

fn log_tail() -> String {
    let mut text = String::new();
    let _ = File::open(log_path()).and_then(|mut file| file.read_to_string(&mut text));
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}
