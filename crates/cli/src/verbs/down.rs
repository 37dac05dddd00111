//! `clunk down`

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clunk_core::error::ErrorCode;
use rustix::process::{Pid, Signal, kill_process};

use crate::args::Down;
use crate::home;
use crate::ui::{self, Output};

/// After this it says what it waits for.
const SAY_AFTER: Duration = Duration::from_secs(2);
const LIMIT: Duration = Duration::from_secs(30);

pub fn run(args: Down, output: Output) -> anyhow::Result<ExitCode> {
    let announced = home::local_server();
    let Some(number) = announced.as_ref().map(|server| server.pid).or_else(home::lock_holder) else {
        output.say("no server is running");
        return Ok(ExitCode::SUCCESS);
    };
    let name = announced.map_or_else(|| format!("process {number}"), |server| server.url);
    let Some(pid) = Pid::from_raw(number as i32) else { anyhow::bail!("server.json names no process") };
    signal(pid, Signal::TERM)?;
    let asked = Instant::now();
    let mut said = false;
    while home::is_alive(number) {
        if asked.elapsed() > SAY_AFTER && !said {
            output.say("waiting for containers to end …");
            said = true;
        }
        if args.force && asked.elapsed() > SAY_AFTER {
            signal(pid, Signal::KILL)?;
        }
        if asked.elapsed() > LIMIT {
            let text = format!("process {number} has not stopped after {} s", LIMIT.as_secs());
            return Err(ui::error(
                ErrorCode::Internal,
                text,
                "kill it: clunk down --force; nothing recorded is lost",
            ));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    output.say(format_args!("stopped {name}"));
    Ok(ExitCode::SUCCESS)
}

fn signal(pid: Pid, signal: Signal) -> anyhow::Result<()> {
    match kill_process(pid, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(errno) => {
            let hint = "run as the user who started it";
            Err(ui::error(ErrorCode::Unauthorized, format!("could not signal the server: {errno}"), hint))
        }
    }
}
