//! What can go wrong, and the code and words a user meets for it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clunk_core::error::ErrorCode;
use clunk_core::id::ImageId;
use clunk_core::{Digest, ErrorBody};
use clunk_runtime::{ExitReason, RuntimeError};

/// Cheap to clone: everyone who waits for the same step gets the same failure.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ImageError {
    #[error("{operation} {path}: {source}")]
    Io { operation: &'static str, path: PathBuf, source: Arc<std::io::Error> },
    #[error("{message}")]
    BadRecipe { message: String, hint: String },
    #[error("debian_slim has no Python {wanted}")]
    PythonNotAvailable { wanted: String, available: String },
    #[error("no package source of Debian is known")]
    NoMirror,
    #[error("could not fetch {url}: {reason}")]
    Fetch { url: String, reason: String },
    #[error("{url} answered {status}")]
    Status { url: String, status: u16 },
    #[error("{what} is not what its publisher signed: {reason}")]
    Unverified { what: String, reason: String },
    #[error("neither gpgv nor sqv is installed, one of which must check Debian's signatures")]
    NoVerifier,
    #[error("Debian's archive keys are not installed")]
    NoKeyring,
    #[error("the package sources do not offer `{wanted}`, which {wanted_by} needs")]
    Unresolvable { wanted: String, wanted_by: String },
    #[error("registry of {reference} is unreachable: {reason}")]
    RegistryUnreachable { reference: String, reason: String },
    #[error("registry refused {reference}: {reason}")]
    RegistryDenied { reference: String, reason: String },
    #[error("registry has no image {reference}: {reason}")]
    RegistryNotFound { reference: String, reason: String },
    #[error("{reference} is not a usable image: {reason}")]
    BadImage { reference: String, reason: String },
    #[error("package `{package}` does not exist in {place}")]
    PackageNotFound { package: String, place: &'static str },
    #[error("{}", exit_text(.reason))]
    StepFailed { reason: ExitReason, tail: Vec<String> },
    #[error("it took longer than {seconds} s and was stopped")]
    StepTimeout { seconds: u64 },
    #[error("{0}")]
    Runtime(Arc<RuntimeError>),
    #[error("blob {0} is not in the store")]
    BlobMissing(Digest),
    #[error("tree {0} is not in the store")]
    TreeMissing(Digest),
    #[error("{} is damaged: {reason}", path.display())]
    Corrupt { path: PathBuf, reason: String },
    #[error("the build was canceled")]
    Canceled,
    #[error("image {0} is not on this machine")]
    UnknownImage(ImageId),
    #[error("image {0} is in use")]
    InUse(ImageId),
    #[error("{0}")]
    Internal(String),
}

/// A build that failed: which step, how, and its last words.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}", self.headline())]
pub struct BuildError {
    pub image: ImageId,
    /// Counted from 1; the base is the first step. None: before any step began.
    pub step: Option<usize>,
    pub title: Option<String>,
    /// The last lines of the step's output.
    pub tail: Vec<String>,
    /// What `clunk shell --image` can open: the state before the failed step.
    pub partial: Option<ImageId>,
    pub cause: ImageError,
}

fn exit_text(reason: &ExitReason) -> String {
    match reason {
        ExitReason::Code(code) => format!("it ended with exit code {code}"),
        ExitReason::Signal(signal) => format!("signal {signal} ended it"),
        ExitReason::OutOfMemory { limit_bytes } => {
            format!("it used more than its {} MiB of memory", limit_bytes >> 20)
        }
        ExitReason::NotStarted(why) => format!("it could not be started: {why}"),
        ExitReason::Lost => "its container went away".into(),
    }
}

impl ImageError {
    pub(crate) fn io(
        operation: &'static str,
        path: impl AsRef<Path>,
        source: impl Into<std::io::Error>,
    ) -> Self {
        Self::Io { operation, path: path.as_ref().to_path_buf(), source: Arc::new(source.into()) }
    }

    /// The output lines the failure carries with it.
    pub(crate) fn tail(&self) -> Vec<String> {
        match self {
            Self::StepFailed { tail, .. } => tail.clone(),
            _ => Vec::new(),
        }
    }

    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Io { source, .. } if is_full(source) => ErrorCode::DiskFull,
            Self::Io { .. } | Self::Internal(_) => ErrorCode::Internal,
            Self::BadRecipe { .. } => ErrorCode::BadRecipe,
            Self::PythonNotAvailable { .. } => ErrorCode::PythonNotAvailable,
            Self::Fetch { .. } | Self::Status { .. } | Self::RegistryUnreachable { .. } => {
                ErrorCode::RegistryUnreachable
            }
            Self::RegistryDenied { .. } => ErrorCode::RegistryDenied,
            Self::RegistryNotFound { .. } => ErrorCode::NotFound,
            Self::PackageNotFound { .. } => ErrorCode::PackageNotFound,
            Self::StepFailed { reason, tail } => match reason {
                ExitReason::OutOfMemory { .. } => ErrorCode::OutOfMemory,
                _ if tail.iter().any(|line| line.contains("No space left on device")) => ErrorCode::DiskFull,
                _ => ErrorCode::BuildFailed,
            },
            Self::Runtime(error) => match **error {
                RuntimeError::NotPermitted(_) => ErrorCode::ContainersNotPermitted,
                RuntimeError::DiskFull(_) => ErrorCode::DiskFull,
                _ => ErrorCode::BuildFailed,
            },
            Self::BlobMissing(_) | Self::TreeMissing(_) => ErrorCode::BlobMissing,
            Self::Corrupt { .. } => ErrorCode::CorruptState,
            Self::Canceled => ErrorCode::BuildCanceled,
            Self::UnknownImage(_) => ErrorCode::NotFound,
            Self::InUse(_) => ErrorCode::BadRequest,
            Self::NoMirror
            | Self::NoVerifier
            | Self::NoKeyring
            | Self::Unverified { .. }
            | Self::Unresolvable { .. }
            | Self::BadImage { .. }
            | Self::StepTimeout { .. } => ErrorCode::BuildFailed,
        }
    }

    /// How to mend it, where there is something to be said.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            _ if self.code() == ErrorCode::DiskFull => {
                "free some space, or run `clunk image prune` to remove images that nothing uses".into()
            }
            Self::BadRecipe { hint, .. } => hint.clone(),
            Self::PythonNotAvailable { available, .. } => {
                format!("it has Python {available}; for another one start from a registry image that has it")
            }
            Self::NoMirror => {
                "set CLUNK_DEBIAN_MIRROR to the address of a Debian mirror, or start from a registry image"
                    .into()
            }
            Self::NoVerifier => "install the package gpgv or sqv".into(),
            Self::NoKeyring => "install the package debian-archive-keyring".into(),
            Self::Fetch { .. } | Self::Status { .. } => {
                "check the network and proxy settings, then build again; finished steps are kept".into()
            }
            Self::RegistryUnreachable { reference, .. } => {
                let check = "check the registry's name and this machine's network and proxy settings";
                if reference.starts_with("python:") {
                    let pythons = crate::debian::pythons();
                    format!("{check}; Python {pythons} come from Debian's packages, without a registry")
                } else {
                    check.into()
                }
            }
            Self::RegistryDenied { .. } => {
                "check that the image's name is right, and give credentials that may pull it".into()
            }
            Self::RegistryNotFound { .. } => "check the image's name and tag".into(),
            Self::PackageNotFound { place, .. } => {
                format!("check the spelling and the version; {place} was asked just now")
            }
            Self::StepFailed { reason: ExitReason::OutOfMemory { .. }, .. } => {
                "give builds more memory, or let the step do less at once".into()
            }
            Self::Runtime(error) if matches!(**error, RuntimeError::NoNetwork(_)) => {
                "when that is done, run `clunk down` and build again; `clunk doctor` checks it".into()
            }
            Self::TreeMissing(_) | Self::BlobMissing(_) => {
                "send the files again: run the command again".into()
            }
            Self::InUse(_) => "stop the app that uses it first".into(),
            _ => return None,
        };
        Some(text)
    }

    /// The error as the API gives it.
    pub fn body(&self) -> ErrorBody {
        let body = ErrorBody::new(self.code(), self.to_string());
        match self.hint() {
            Some(hint) => body.hint(hint),
            None => body,
        }
    }
}

impl BuildError {
    fn headline(&self) -> String {
        match (self.step, &self.title) {
            (Some(step), Some(title)) => format!("step {step} ({title}) failed: {}", self.cause),
            _ => self.cause.to_string(),
        }
    }

    /// The error as the API gives it: where, what, and how to look closer.
    pub fn body(&self) -> ErrorBody {
        let body = ErrorBody::new(self.cause.code(), self.headline());
        match (self.cause.hint(), self.partial) {
            (Some(hint), _) => body.hint(hint),
            (None, Some(id)) => body.hint(format!("look around where it failed: clunk shell --image {id}")),
            (None, None) => body,
        }
    }
}

impl From<RuntimeError> for ImageError {
    fn from(error: RuntimeError) -> Self {
        Self::Runtime(Arc::new(error))
    }
}

fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}
