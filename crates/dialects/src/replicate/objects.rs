//! The objects of the API, made from the core's records.

use clunk_core::model::{
    Deployment, File, Hardware, Kind, Model, ModelName, Prediction, Source, Status, Version, Visibility,
    WebhookEvent,
};
use serde_json::{Map, Value, json};

use super::time;

/// Addresses as the reader knows them: absolute, each made of the server's URL without a slash at the end.
#[derive(Debug, Clone, Copy)]
pub struct Links<'a> {
    pub base: &'a str,
}

impl Links<'_> {
    /// Where the API is.
    pub fn api(self) -> String {
        format!("{}/replicate/v1", self.base)
    }

    pub fn file(self, id: &str) -> String {
        format!("{}/files/{id}", self.api())
    }

    fn model(self, name: &ModelName) -> String {
        format!("{}/models/{name}", self.base)
    }
}

/// A file's id as the API has it: without the prefix, as those of predictions are.
pub fn file_id(file: &File) -> String {
    let text = file.id.to_string();
    text.split_once('-').map_or(text.clone(), |(_, id)| id.into())
}

/// What belongs into a prediction's object beside its record.
pub struct Shown {
    /// With the addresses of its files in their places.
    pub output: Value,
    /// Where its events are read without a token, if its model can stream.
    pub stream: Option<String>,
}

/// A prediction, or with [`Kind::Training`] a training.
pub fn prediction(record: &Prediction, shown: Shown, links: Links<'_>) -> Value {
    let mut object = common(record, links);
    let is_training = record.kind == Kind::Training;
    object["output"] = if is_training { trained(record, shown.output) } else { shown.output };
    if is_training {
        object["destination"] = json!(record.destination);
        return object;
    }
    object["urls"]["web"] = format!("{}/predictions/{}", links.base, record.id).into();
    // Clients read `urls` as texts only: what is not there is left out.
    if let Some(stream) = shown.stream {
        object["urls"]["stream"] = stream.into();
    }
    if let Some((name, _)) = &record.deployment {
        object["deployment"] = name.to_string().into();
    }
    object
}

fn common(record: &Prediction, links: Links<'_>) -> Value {
    let place = match record.kind {
        Kind::Prediction => format!("{}/predictions/{}", links.api(), record.id),
        Kind::Training => format!("{}/trainings/{}", links.api(), record.id),
    };
    // The input is an object also when it is no longer kept.
    let input = if record.input.is_object() { record.input.clone() } else { json!({}) };
    let mut object = json!({
        "id": record.id,
        "model": record.model,
        "version": record.version,
        "input": input,
        "output": null,
        "logs": record.logs,
        "error": record.error,
        "status": record.status.name(),
        "created_at": time::text(record.created_ms),
        "started_at": record.started_ms.map(time::text),
        "completed_at": record.completed_ms.map(time::text),
        "data_removed": record.data_removed,
        "source": match record.source { Source::Api => "api", Source::Web => "web" },
        "metrics": record.metrics,
        "urls": {"get": place, "cancel": format!("{place}/cancel")},
    });
    if let Some(deadline_ms) = record.deadline_ms {
        object["deadline"] = time::text(deadline_ms).into();
    }
    if let Some(webhook) = &record.webhook {
        object["webhook"] = webhook.url.clone().into();
        if !webhook.events.is_empty() {
            object["webhook_events_filter"] = webhook.events.iter().copied().map(event_name).collect();
        }
    }
    object
}

fn event_name(event: WebhookEvent) -> &'static str {
    match event {
        WebhookEvent::Start => "start",
        WebhookEvent::Output => "output",
        WebhookEvent::Logs => "logs",
        WebhookEvent::Completed => "completed",
    }
}

/// A training gives the version that it made, and where its weights are.
fn trained(record: &Prediction, output: Value) -> Value {
    let (Some(destination), Some(version)) = (&record.destination, record.trained) else { return output };
    let weights = match output {
        Value::Object(mut members) => members.remove("weights").unwrap_or_default(),
        weights => weights,
    };
    json!({"version": format!("{destination}:{version}"), "weights": weights})
}

/// A prediction as it is shown while its caller must go on asking: the clients take any status but `starting` for an end,
/// and whatever output they see at first for output they have had.
pub fn as_starting(record: Prediction) -> Prediction {
    Prediction { status: Status::Starting, output: None, started_ms: None, ..record }
}

pub fn version(record: &Version) -> Value {
    json!({
        "id": record.id,
        "created_at": time::text(record.created_ms),
        "cog_version": record.cog_version,
        "openapi_schema": record.openapi_schema,
    })
}

/// `latest` and `example` are the objects of what the record names, if it names any.
pub fn model(record: &Model, latest: Option<Value>, example: Option<Value>, links: Links<'_>) -> Value {
    let texts = &record.texts;
    let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    json!({
        "url": links.model(&record.name),
        "owner": record.name.owner(),
        "name": record.name.name(),
        "description": text(&texts.description),
        "visibility": match record.visibility { Visibility::Public => "public", Visibility::Private => "private" },
        "github_url": text(&texts.github_url),
        "paper_url": text(&texts.paper_url),
        "license_url": text(&texts.license_url),
        "weights_url": text(&texts.weights_url),
        "run_count": record.run_count,
        "cover_image_url": text(&texts.cover_image_url),
        "default_example": example,
        "latest_version": latest,
        "is_official": false,
        "created_at": time::text(record.created_ms),
    })
}

/// Whose server this is.
pub fn account(username: &str) -> Value {
    json!({"type": "user", "username": username, "name": username, "github_url": null, "avatar_url": null})
}

pub fn deployment(record: &Deployment, username: &str) -> Value {
    let (release, configuration) = (&record.current, &record.current.configuration);
    json!({
        "owner": record.name.owner(),
        "name": record.name.name(),
        "current_release": {
            "number": release.number,
            "model": release.model,
            "version": release.version,
            "created_at": time::text(release.created_ms),
            "created_by": account(username),
            "configuration": {
                "hardware": configuration.hardware,
                "min_instances": configuration.min_instances,
                "max_instances": configuration.max_instances,
            },
        },
    })
}

/// `download` is an address that needs no token.
pub fn file(record: &File, links: Links<'_>, download: &str) -> Value {
    let id = file_id(record);
    json!({
        "id": id,
        "name": record.name,
        "content_type": record.content_type,
        "size": record.size,
        "etag": record.md5,
        "checksums": {"sha256": record.sha256, "md5": record.md5},
        "metadata": record.metadata,
        "created_at": time::text(record.created_ms),
        "expires_at": time::text(record.expires_ms),
        "urls": {"get": links.file(&id), "download": download},
    })
}

/// A bare list, not a page.
pub fn hardware(all: &[Hardware]) -> Value {
    all.iter().map(|one| json!({"name": one.name, "sku": one.sku})).collect()
}

/// Models found by a search of everything, each with how well it fits: between 0 and 1, the first the best.
pub fn found(query: &str, models: Vec<Value>) -> Value {
    let count = models.len().max(1) as f64;
    let entry = |(place, model): (usize, Value)| {
        let score = 1.0 - place as f64 / count;
        json!({"model": model, "metadata": {"score": score, "tags": [], "generated_description": null}})
    };
    let models: Vec<Value> = models.into_iter().enumerate().map(entry).collect();
    json!({"query": query, "models": models, "collections": [], "pages": []})
}

/// The one collection there is: all public models, under a name that does not move.
pub fn collection(models: Option<Vec<Value>>) -> Value {
    let mut object = json!({
        "name": "All models",
        "slug": ALL_MODELS,
        "description": "Every public model of this server",
    });
    if let Some(models) = models {
        object["full_description"] = Value::Null;
        object["models"] = models.into();
    }
    object
}

pub const ALL_MODELS: &str = "all-models";

/// Whether an output has parts that are files, as the schema tells.
pub fn gives_files(openapi_schema: &Value) -> bool {
    let output = &openapi_schema["components"]["schemas"]["Output"];
    output["format"] == "uri" || output["items"]["format"] == "uri"
}

/// The metadata of an upload, from one JSON text or from `metadata[key]` fields.
pub fn metadata(text: Option<&str>, fields: Map<String, Value>) -> Result<Map<String, Value>, String> {
    let Some(text) = text.filter(|text| !text.trim().is_empty()) else { return Ok(fields) };
    match serde_json::from_str(text) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(Value::Null) => Ok(fields),
        Ok(_) => Err("metadata must be a JSON object".into()),
        Err(error) => Err(format!("metadata is not JSON: {error}")),
    }
}

/// The text that a file's download link is signed over.
pub fn download_text(owner: &str, id: &str, expiry: u64) -> String {
    format!("{owner} {id} {expiry}")
}

#[cfg(test)]
mod tests;
