//! From errors to HTTP answers. Each has one text for the caller; what only the operator should see is logged here.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use clunk_core::api::ErrorAnswer;
use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_store::StoreError;

/// An error on its way to the client.
#[derive(Debug)]
pub struct Failure(pub ErrorBody);

impl From<ErrorBody> for Failure {
    fn from(body: ErrorBody) -> Self {
        Self(body)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self(store_error(&error))
    }
}

pub fn status(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::BadRequest
        | ErrorCode::BadCogConfig
        | ErrorCode::BadRecipe
        | ErrorCode::BlobMissing
        | ErrorCode::CannotPlace
        | ErrorCode::CogConfigDeprecated
        | ErrorCode::CogConfigIgnored
        | ErrorCode::CogNotSupported
        | ErrorCode::PackageNotFound
        | ErrorCode::PredictorInvalid
        | ErrorCode::PredictorNotFound
        | ErrorCode::PythonNotAvailable
        | ErrorCode::PythonSyntax
        | ErrorCode::SchemaConstraint
        | ErrorCode::SchemaType => StatusCode::BAD_REQUEST,
        ErrorCode::Unauthorized => StatusCode::UNAUTHORIZED,
        ErrorCode::NotFound => StatusCode::NOT_FOUND,
        ErrorCode::AlreadyExists
        | ErrorCode::AlreadyRunning
        | ErrorCode::InUse
        | ErrorCode::AppStopped
        | ErrorCode::CallCanceled
        | ErrorCode::BuildCanceled => StatusCode::CONFLICT,
        ErrorCode::InvalidInput => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorCode::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::VersionMismatch => StatusCode::UPGRADE_REQUIRED,
        ErrorCode::QueueFull => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::RegistryDenied => StatusCode::FORBIDDEN,
        ErrorCode::RegistryUnreachable => StatusCode::BAD_GATEWAY,
        ErrorCode::FunctionTimeout | ErrorCode::CallExpired => StatusCode::GATEWAY_TIMEOUT,
        ErrorCode::ResultExpired => StatusCode::GONE,
        ErrorCode::DiskFull => StatusCode::INSUFFICIENT_STORAGE,
        ErrorCode::BuildFailed
        | ErrorCode::ContainerCrashed
        | ErrorCode::FunctionRaised
        | ErrorCode::ContainersNotPermitted
        | ErrorCode::CorruptState
        | ErrorCode::Internal
        | ErrorCode::OutOfMemory
        | ErrorCode::PortTaken
        | ErrorCode::StartFailed => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = status(self.0.code);
        let mut response = (status, Json(ErrorAnswer { error: self.0 })).into_response();
        if status == StatusCode::TOO_MANY_REQUESTS {
            response.headers_mut().insert("retry-after", "1".parse().expect("a valid header"));
        }
        response
    }
}

pub fn store_error(error: &StoreError) -> ErrorBody {
    // Some failures are the caller's.
    if !matches!(error, StoreError::UnknownBatch(_) | StoreError::Mismatch(_) | StoreError::Shared(_)) {
        tracing::error!(error = ?error, "store");
    }
    if error.is_disk_full() {
        return disk_full();
    }
    match error {
        StoreError::Shared(error) => store_error(error),
        StoreError::UnknownBatch(_) => ErrorBody::new(ErrorCode::NotFound, error.to_string()),
        StoreError::Corrupt { .. } | StoreError::Newer { .. } => {
            ErrorBody::new(ErrorCode::CorruptState, error.to_string())
        }
        StoreError::Mismatch(_) => ErrorBody::new(ErrorCode::BadRequest, error.to_string()),
        _ => ErrorBody::new(ErrorCode::Internal, error.to_string())
            .hint("the server's log says more: `clunk logs --server`"),
    }
}

/// A failed file operation of the server.
pub fn io_error(operation: &str, error: &std::io::Error) -> ErrorBody {
    tracing::error!(%error, operation, "file");
    if error.kind() == std::io::ErrorKind::StorageFull {
        return disk_full();
    }
    ErrorBody::new(ErrorCode::Internal, format!("could not {operation}: {error}"))
}

fn disk_full() -> ErrorBody {
    ErrorBody::new(ErrorCode::DiskFull, "the disk of the state folder is full")
        .hint("`clunk image prune` frees space")
}

pub fn not_found(what: impl std::fmt::Display) -> Failure {
    Failure(ErrorBody::new(ErrorCode::NotFound, format!("there is no {what}")))
}
