//! What a model's server says about itself.

use bytes::Bytes;
use clunk_core::error::ErrorCode;
use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::answer::{self, Answer};
use crate::lane::Kind;
use crate::server::ModelServer;

/// Where everything is.
pub fn index(server: &ModelServer) -> Answer {
    let mut index: Map<String, Value> = Map::new();
    let fixed = [
        ("docs_url", "/docs"),
        ("healthcheck_url", "/health-check"),
        ("metrics_url", "/metrics"),
        ("openapi_url", "/openapi.json"),
        ("shutdown_url", "/shutdown"),
    ];
    index.extend(fixed.map(|(name, path)| (name.into(), path.into())));
    index.insert("cog_version".into(), server.model.cog_version.clone().into());
    for kind in [Kind::Prediction, Kind::Training] {
        if server.lane(kind).is_none() {
            continue;
        }
        let (folder, name) = (kind.folder(), kind.name());
        index.insert(format!("{folder}_url"), format!("/{folder}").into());
        index.insert(format!("{folder}_idempotent_url"), format!("/{folder}/{{{name}_id}}").into());
        index.insert(format!("{folder}_cancel_url"), format!("/{folder}/{{{name}_id}}/cancel").into());
    }
    answer::json(StatusCode::OK, &Value::Object(index))
}

pub async fn health(server: &ModelServer) -> Answer {
    let lane = server.main_lane();
    let sick = if lane.plan.on_demand { None } else { lane.check().await };
    let version = json!({
        "clunk": env!("CARGO_PKG_VERSION"),
        "python": server.model.python,
        "python_sdk": server.model.cog_version,
    });
    answer::json(StatusCode::OK, &lane.view().json(sick.as_deref(), &version))
}

pub fn openapi(server: &ModelServer) -> Answer {
    match &server.model.schema {
        Some(schema) => answer::raw(StatusCode::OK, schema.clone()),
        None => {
            let text = "OpenAPI schema not available";
            answer::error(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::NotFound, text)
        }
    }
}

/// The lanes, as Prometheus reads them.
pub fn metrics(server: &ModelServer) -> Answer {
    let mut text = String::new();
    for (index, lane) in server.lanes().enumerate() {
        lane.counters.write(lane.plan.kind, &lane.view(), index == 0, &mut text);
    }
    answer::text(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", Bytes::from(text))
}

/// A page for people.
pub fn docs(server: &ModelServer) -> Answer {
    let mut rows = String::new();
    for lane in server.lanes() {
        let (folder, name) = (lane.plan.kind.folder(), lane.plan.kind.name());
        for (method, path, text) in [
            (
                "POST",
                format!("/{folder}"),
                format!("a new {name}; waits for its end, unless <code>Prefer: respond-async</code>"),
            ),
            ("PUT", format!("/{folder}/ID"), format!("a new {name} with this id, or the one that there is")),
            ("GET", format!("/{folder}/ID"), format!("a {name} as it is now")),
            ("POST", format!("/{folder}/ID/cancel"), format!("ends a {name}")),
        ] {
            rows.push_str(&format!("<tr><td>{method}<td><code>{path}</code><td>{text}\n"));
        }
    }
    for (path, text) in [
        ("/health-check", "how the model is, and the logs of its setup"),
        ("/openapi.json", "what it takes and gives"),
        ("/metrics", "counts, for Prometheus"),
    ] {
        rows.push_str(&format!("<tr><td>GET<td><a href=\"{path}\"><code>{path}</code></a><td>{text}\n"));
    }
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>Model</title><style>body{{font:16px/1.5 system-ui;max-width:60em;margin:2em auto;padding:0 1em}}\
         td{{padding:.2em 1em .2em 0;vertical-align:top}}</style>\n\
         <h1>This model's API</h1><table>\n{rows}</table>\n\
         <pre>curl -H 'Content-Type: application/json' -d '{{\"input\": {{}}}}' http://HOST:PORT/predictions</pre>\n"
    );
    answer::text(StatusCode::OK, "text/html; charset=utf-8", Bytes::from(page))
}
