//! Error codes: every failure a user can meet has a stable code and a page that tells cause and mend.

use serde::{Deserialize, Serialize};

macro_rules! error_codes {
    ($($name:ident = $code:literal;)*) => {
        /// A stable name for one kind of failure. The compiler checks that its page exists in `docs/errors`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorCode { $($name,)* }

        impl ErrorCode {
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The code as it is written in JSON and on the terminal.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// The page: what it means, why it happens, how to mend it.
            pub fn page(self) -> &'static str {
                match self { $(Self::$name => include_str!(concat!("../../../docs/errors/", $code, ".md")),)* }
            }
        }
    };
}

error_codes! {
    AlreadyExists = "already-exists";
    AlreadyRunning = "already-running";
    AppStopped = "app-stopped";
    BadRequest = "bad-request";
    BadCogConfig = "bad-cog-config";
    BadRecipe = "bad-recipe";
    BlobMissing = "blob-missing";
    BuildFailed = "build-failed";
    BuildCanceled = "build-canceled";
    CallCanceled = "call-canceled";
    CallExpired = "call-expired";
    CannotPlace = "cannot-place";
    CogConfigDeprecated = "cog-config-deprecated";
    CogConfigIgnored = "cog-config-ignored";
    CogNotSupported = "cog-not-supported";
    ContainerCrashed = "container-crashed";
    ContainersNotPermitted = "containers-not-permitted";
    CorruptState = "corrupt-state";
    DiskFull = "disk-full";
    FunctionRaised = "function-raised";
    FunctionTimeout = "function-timeout";
    InUse = "in-use";
    Internal = "internal";
    InvalidInput = "invalid-input";
    NotFound = "not-found";
    OutOfMemory = "out-of-memory";
    PackageNotFound = "package-not-found";
    PayloadTooLarge = "payload-too-large";
    PortTaken = "port-taken";
    PredictorInvalid = "predictor-invalid";
    PredictorNotFound = "predictor-not-found";
    PythonNotAvailable = "python-not-available";
    PythonSyntax = "python-syntax";
    QueueFull = "queue-full";
    ResultExpired = "result-expired";
    RegistryDenied = "registry-denied";
    RegistryUnreachable = "registry-unreachable";
    SchemaConstraint = "schema-constraint";
    SchemaType = "schema-type";
    StartFailed = "start-failed";
    Unauthorized = "unauthorized";
    VersionMismatch = "version-mismatch";
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for ErrorCode {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.iter().copied().find(|code| code.as_str() == text).ok_or(())
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ErrorCode {
    /// A code of a newer server reads as [`ErrorCode::Internal`]: its text still reaches the user.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(String::deserialize(deserializer)?.parse().unwrap_or(Self::Internal))
    }
}

/// The body of every error answer: `{"error": {...}}` on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ErrorBody {
    pub code: ErrorCode,
    /// What went wrong and where.
    pub message: String,
    /// How to mend it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl ErrorBody {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl std::fmt::Display for ErrorBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ErrorBody {}
