//! Why a container is no more, in words for whoever waited for it.

use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_runtime::{ExitReason, RuntimeError};

pub use clunk_core::call::Blame;

/// Whether the code that ran did it, or something from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Code,
    Outside,
}

impl Fault {
    pub fn of(reason: &ExitReason) -> Self {
        match reason {
            // Nobody inside sends it to the program but by intent; from outside it is the usual way to end one.
            ExitReason::Signal(signal) if *signal == rustix::process::Signal::KILL.as_raw() => Self::Outside,
            ExitReason::NotStarted(_) | ExitReason::Lost => Self::Outside,
            ExitReason::Code(_) | ExitReason::Signal(_) | ExitReason::OutOfMemory { .. } => Self::Code,
        }
    }

    /// With several calls on one process nobody can tell which one did it.
    pub fn blame(self, calls: usize) -> Blame {
        if self == Self::Code && calls == 1 { Blame::Call } else { Blame::Machine }
    }
}

pub fn exit_error(reason: &ExitReason, memory_limit: Option<u64>) -> ErrorBody {
    let crashed = |text: String| ErrorBody::new(ErrorCode::ContainerCrashed, text);
    match reason {
        ExitReason::Code(code) => crashed(format!("the container's process ended with exit code {code}"))
            .hint("something called os._exit, or the interpreter could not go on; the log may say more"),
        ExitReason::Signal(signal) => {
            crashed(format!("the container's process was killed by {}", signal_name(*signal)))
        }
        ExitReason::OutOfMemory { limit_bytes } => {
            let limit = memory_limit.unwrap_or(*limit_bytes) >> 20;
            ErrorBody::new(
                ErrorCode::OutOfMemory,
                format!("the container ran out of memory (limit {limit} MiB)"),
            )
            .hint("raise the limit: memory=(request, limit) in MiB")
        }
        ExitReason::NotStarted(text) => ErrorBody::new(ErrorCode::StartFailed, text.clone()),
        ExitReason::Lost => crashed("the container was lost with the runtime's helper process".into()),
    }
}

fn signal_name(signal: i32) -> String {
    match signal {
        4 => "SIGILL (illegal instruction)".into(),
        6 => "SIGABRT (abort)".into(),
        7 => "SIGBUS (bus error)".into(),
        8 => "SIGFPE (arithmetic error)".into(),
        9 => "SIGKILL".into(),
        11 => "SIGSEGV (segmentation fault)".into(),
        15 => "SIGTERM".into(),
        31 => "SIGSYS (forbidden system call)".into(),
        other => format!("signal {other}"),
    }
}

pub fn start_error(error: &RuntimeError) -> ErrorBody {
    let code = match error {
        RuntimeError::NotPermitted(_) => ErrorCode::ContainersNotPermitted,
        RuntimeError::DiskFull(_) => ErrorCode::DiskFull,
        RuntimeError::Start { .. }
        | RuntimeError::NoNetwork(_)
        | RuntimeError::Helper(_)
        | RuntimeError::Ended(_) => ErrorCode::StartFailed,
    };
    ErrorBody::new(code, error.to_string()).hint("`clunk doctor` shows what this machine can do")
}

/// A worker process that ended; how, when the runner said so.
pub fn worker_error(reason: Option<&ExitReason>) -> ErrorBody {
    let text = match reason {
        Some(ExitReason::Code(code)) => format!("the worker process ended with exit code {code}"),
        Some(ExitReason::Signal(signal)) => {
            format!("the worker process was killed by {}", signal_name(*signal))
        }
        _ => "the worker process ended".into(),
    };
    ErrorBody::new(ErrorCode::ContainerCrashed, text)
        .hint("something crashed the interpreter or called os._exit; the log may say more")
}

/// What the other calls of a process hear that was ended for one of them.
pub fn unresponsive_error() -> ErrorBody {
    let text = "the process was ended, because a canceled call in it did not stop";
    ErrorBody::new(ErrorCode::ContainerCrashed, text)
}

pub fn stopped_error() -> ErrorBody {
    ErrorBody::new(ErrorCode::CallCanceled, "the container was stopped")
}
