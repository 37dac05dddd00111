//! Why a container is no more, in words for whoever waited for it.

use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_runtime::{ExitReason, RuntimeError};

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

pub fn stopped_error() -> ErrorBody {
    ErrorBody::new(ErrorCode::CallCanceled, "the container was stopped")
}
