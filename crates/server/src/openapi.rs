//! The OpenAPI description, made from the table of endpoints. `docs/openapi.json` is checked against it.

use clunk_core::api::{
    AppEvent, AppRecord, BatchRecord, BlobsAnswer, CallEvent, CallRecord, CancelCall, ContainerRecord,
    CreateApp, CreateAppAnswer, CreateImage, CreateTree, CreateVariant, ErrorAnswer, ExportImage,
    FunctionRecord, Health, ImageDetail, ImageRecord, OpenShell, PruneAnswer, Scaling, ServeEvent,
    ServeModel, SpawnAnswer, Status, TreeAnswer, UsageRow,
};
use clunk_core::model::{Configuration, CreatePrediction, PushAnswer, PushVersion};
use serde_json::{Map, Value, json};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::endpoints::{self, Access, Endpoint, Media};
use crate::routes::replicate;

/// The whole description.
pub fn openapi() -> Value {
    let mut paths = Map::new();
    for endpoint in endpoints::all() {
        let path = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        // OpenAPI 3.1 knows the methods of its time.
        let method = match endpoint.method.as_str() {
            "QUERY" => "x-query".into(),
            method => method.to_lowercase(),
        };
        path[method] = operation(&endpoint);
    }
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Clunk",
            "version": crate::VERSION,
            "description": "The native API. docs/api.md tells what the schemas cannot.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    });
    document.sort_all_objects();
    document
}

fn operation(endpoint: &Endpoint) -> Value {
    let mut answers = json!({"200": answer("as asked", endpoint.gives)});
    answers["default"] = match endpoint.path.starts_with(replicate::ROOT) {
        true => json!({"description": "an error", "content": {
            "application/problem+json": {"schema": {"$ref": "#/components/schemas/ReplicateProblem"}},
        }}),
        false => answer("an error", Media::Json("ErrorAnswer")),
    };
    let mut operation = json!({"summary": endpoint.summary, "responses": answers});
    if endpoint.takes != Media::Nothing {
        operation["requestBody"] = json!({"required": true, "content": content(endpoint.takes)});
    }
    if endpoint.access != Access::Public {
        operation["security"] = json!([{"token": []}]);
    }
    let names = endpoint.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let parameter =
        |name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}});
    let parameters: Vec<Value> = names.map(parameter).collect();
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    operation
}

fn answer(description: &str, media: Media) -> Value {
    match media {
        Media::Nothing => json!({"description": description}),
        media => json!({"description": description, "content": content(media)}),
    }
}

fn content(media: Media) -> Value {
    let reference = |name: &str| match name.strip_suffix("[]") {
        Some(item) => json!({"type": "array", "items": {"$ref": format!("#/components/schemas/{item}")}}),
        None => json!({"$ref": format!("#/components/schemas/{name}")}),
    };
    match media {
        Media::Nothing => json!({}),
        Media::Json(name) => json!({"application/json": {"schema": reference(name)}}),
        Media::Lines(name) => json!({"application/x-ndjson": {"schema": reference(name)}}),
        Media::Binary => json!({"application/octet-stream": {}}),
        Media::Form => json!({"multipart/form-data": {}}),
        Media::Text => json!({"text/plain": {"schema": {"type": "string"}}}),
        Media::Frames => json!({"application/x-clunk-frames": {}}),
        Media::Html => json!({"text/html": {}}),
        Media::Events(name) => json!({"text/event-stream": {"schema": reference(name)}}),
    }
}

fn schemas() -> Value {
    let mut found: Vec<(String, RefOr<Schema>)> = Vec::new();
    macro_rules! add {
        ($($name:ident)*) => {$(
            found.push((stringify!($name).into(), $name::schema()));
            $name::schemas(&mut found);
        )*};
    }
    add!(AppEvent AppRecord BatchRecord BlobsAnswer CallEvent CallRecord CancelCall Configuration ContainerRecord CreateApp
        CreateAppAnswer CreateImage CreatePrediction CreateTree CreateVariant ErrorAnswer ExportImage FunctionRecord Health
        ImageDetail ImageRecord
        OpenShell PruneAnswer PushAnswer PushVersion Scaling ServeEvent ServeModel SpawnAnswer Status TreeAnswer UsageRow);
    let mut schemas: Map<String, Value> = found
        .into_iter()
        .map(|(name, schema)| (name, serde_json::to_value(schema).expect("a schema has a JSON form")))
        .collect();
    schemas.insert(
        "AppStopped".into(),
        json!({"type": "object", "properties": {"app": {"type": "string"}, "state": {"type": "string"}}}),
    );
    replicate_schemas(&mut schemas);
    let function = json!({"type": "object", "properties": {"function": {"type": "string"}}});
    schemas.insert("VariantAnswer".into(), function);
    let ticket = json!({"type": "object", "properties": {"ticket": {"type": "string"}, "expires_s": {"type": "integer"}}});
    schemas.insert("Ticket".into(), ticket);
    schemas.insert("BuildEvent".into(), json!({"type": "object", "required": ["type"], "properties": {"type": {"type": "string", "enum": ["step", "log", "waiting", "done", "error"]}}}));
    let status = json!({"type": "string", "enum": ["starting", "processing", "succeeded", "failed", "canceled", "aborted"]});
    let id = json!({"type": "string"});
    schemas
        .insert("Prediction".into(), json!({"type": "object", "properties": {"id": id, "status": status}}));
    let kinds = json!({"type": "string", "enum": ["status", "logs", "output", "metric", "done"]});
    schemas.insert("PredictionEvent".into(), json!({"type": "object", "properties": {"event": kinds}}));
    let mut sorted: Vec<_> = schemas.into_iter().collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    Value::Object(sorted.into_iter().collect())
}

/// `docs/replicate.md` says what is in them.
fn replicate_schemas(schemas: &mut Map<String, Value>) {
    schemas.insert("ReplicateObject".into(), json!({"type": "object"}));
    let link = json!({"type": ["string", "null"], "format": "uri"});
    let page = json!({
        "type": "object",
        "required": ["next", "previous", "results"],
        "properties": {"next": link, "previous": link, "results": {"type": "array", "items": {"type": "object"}}},
    });
    schemas.insert("ReplicatePage".into(), page);
    let problem = json!({
        "type": "object",
        "required": ["detail", "status"],
        "properties": {
            "title": {"type": "string"}, "detail": {"type": "string"}, "status": {"type": "integer"},
            "invalid_fields": {"type": "array", "items": {"type": "object"}},
            "code": {"type": "string"}, "hint": {"type": "string"},
        },
    });
    schemas.insert("ReplicateProblem".into(), problem);
}
