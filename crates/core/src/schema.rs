//! OpenAPI schemas of our types that are texts on the wire.

use utoipa::openapi::{ObjectBuilder, RefOr, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::Digest;
use crate::error::ErrorCode;
use crate::id::{AppId, BatchId, CallId, ContainerId, FileId, FunctionId, ImageId, NodeId, ReplicaId};
use crate::recipe::RegistryCredentials;

macro_rules! texts {
    ($($name:ty: $description:literal;)*) => {$(
        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                ObjectBuilder::new().schema_type(Type::String).description(Some($description)).into()
            }
        }
        impl ToSchema for $name {}
    )*};
}

texts! {
    AppId: "`app-` and 26 characters";
    BatchId: "`batch-` and 26 characters";
    CallId: "`call-` and 26 characters";
    ContainerId: "`ct-` and 26 characters";
    FileId: "`file-` and 26 characters";
    NodeId: "`node-` and 26 characters";
    FunctionId: "`fn-` and 26 characters";
    ReplicaId: "`rep-` and 26 characters";
    ImageId: "`im-` and 32 hex digits";
    Digest: "SHA-256, 64 hex digits";
    ErrorCode: "a code of docs/errors";
}

impl PartialSchema for RegistryCredentials {
    fn schema() -> RefOr<Schema> {
        let text = || ObjectBuilder::new().schema_type(Type::String);
        let object = ObjectBuilder::new().property("username", text()).property("password", text());
        object.required("username").required("password").into()
    }
}

impl ToSchema for RegistryCredentials {}
