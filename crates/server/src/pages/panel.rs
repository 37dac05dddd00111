//! One prediction as it is now: its state, its output, what it printed, and what can be done with it. The scripts ask for
//! this part of a page again whenever something has changed; only text that grows is added to in place.

use std::time::Duration;

use clunk_core::model::{Kind, Prediction, Status, Version};
use maud::{Markup, html};
use serde_json::Value;

use super::clip_start;
use super::form::Document;
use super::layout::form_token;
use super::output::{self, Display, Medium, Shown};
use super::session::Visitor;
use super::time;
use crate::models::Models;
use crate::server::Server;

/// How long a page may follow its prediction before it is loaded again.
const EVENTS_LIFETIME: Duration = Duration::from_secs(12 * 3600);
/// How long a shared link opens a prediction.
const SHARE_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);
/// Bytes of the end of a log that are shown.
const MAX_LOGS: usize = 200_000;

pub struct Panel<'a> {
    pub server: &'a Server,
    pub visitor: &'a Visitor,
    pub prediction: &'a Prediction,
    pub version: Option<&'a Version>,
    /// The query that opens it without a session, when it was opened by one.
    pub shared: Option<&'a str>,
}

/// Why one that was accepted does not run yet.
enum Waiting {
    Behind(usize),
    /// Until a replica has a free place.
    Next,
    ColdStart,
}

pub fn word(status: Status) -> &'static str {
    match status {
        Status::Starting => "Starting",
        Status::Processing => "Running",
        Status::Succeeded => "Succeeded",
        Status::Failed => "Failed",
        Status::Canceled => "Canceled",
        Status::Aborted => "Aborted",
    }
}

fn class(status: Status) -> &'static str {
    match status {
        Status::Starting | Status::Processing => "active",
        Status::Succeeded => "good",
        Status::Failed | Status::Aborted => "bad",
        Status::Canceled => "ended",
    }
}

/// Three digits behind the point, of which zeros at the end say nothing.
fn rounded(number: f64) -> String {
    let text = format!("{number:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The state as a mark of one word.
pub fn mark(status: Status) -> Markup {
    html! { span class=(format!("mark {}", class(status))) { (word(status)) } }
}

impl Panel<'_> {
    pub fn markup(&self) -> Markup {
        let prediction = self.prediction;
        let ended = prediction.status.is_terminal();
        let path = format!("/predictions/{}", prediction.id);
        let query = self.shared.map(|query| format!("{query}&")).unwrap_or_default();
        let events = || {
            self.models().sign_path(&format!("/api/predictions/{}/events", prediction.id), EVENTS_LIFETIME)
        };
        let part = format!("{path}?{query}part=panel");
        let now = clunk_agent::replica::now_ms();
        html! {
            section.panel #panel aria-label="Prediction" data-status=(word(prediction.status)) data-part=(part)
                data-parts=(self.parts()) data-events=[(!ended).then(events)] data-age=(now.saturating_sub(prediction.created_ms))
                data-display=(format!("{:?}", self.display()).to_lowercase()) {
                div.state {
                    span role="status" { (mark(prediction.status)) }
                    span.clock data-clock[!ended] { (self.took(now)) }
                    span.wait { @if !ended { (self.wait()) } }
                    a.id href=(match self.shared { Some(query) => format!("{path}?{query}"), None => path.clone() }) {
                        (prediction.id)
                    }
                }
                (self.actions(&path, &query))
                @if let Some(error) = &prediction.error { p.problem.said role="alert" { (error) } }
                div.output data-output aria-label="Output" role="region" { (self.output()) }
                (self.logs())
                (self.metrics())
            }
        }
    }

    fn models(&self) -> &Models {
        &self.server.models
    }

    fn schema(&self, name: &str) -> Option<&Value> {
        Document(&self.version?.openapi_schema).schema(name)
    }

    fn display(&self) -> Display {
        match self.prediction.kind {
            Kind::Prediction => Display::of(self.schema("Output")),
            Kind::Training => Display::of(self.schema("TrainingOutput")),
        }
    }

    /// Until it ended, or until now, where the script counts on.
    fn took(&self, now: u64) -> String {
        let born = self.prediction.created_ms;
        match self.prediction.completed_ms {
            Some(end) => time::duration(end.saturating_sub(born)),
            None if now < born + 1000 => format!("0.{} s", now.saturating_sub(born) / 100),
            None => time::duration(now - born),
        }
    }

    /// Of an iterator, how many parts the output has: a script that follows adds those behind them.
    fn parts(&self) -> usize {
        self.prediction.output.as_ref().and_then(|output| output.value.as_array()).map_or(0, Vec::len)
    }

    fn waiting(&self) -> Option<Waiting> {
        let prediction = self.prediction;
        let version = self.version.filter(|_| prediction.deployment.is_none())?;
        let function = match prediction.kind {
            Kind::Prediction => Some(version.predict_function),
            Kind::Training => version.train_function,
        };
        match self.server.engine.function(function?)?.ahead(prediction.id.0)? {
            (0, 0) => Some(Waiting::ColdStart),
            (0, _) => Some(Waiting::Next),
            (ahead, _) => Some(Waiting::Behind(ahead)),
        }
    }

    fn wait(&self) -> Markup {
        let waiting = if self.prediction.status == Status::Starting { self.waiting() } else { None };
        html! {
            @match waiting {
                Some(Waiting::Behind(count)) => { (count) " before it in the queue" },
                Some(Waiting::Next) => "next in the queue",
                Some(Waiting::ColdStart) => "a container starts",
                None => "",
            }
        }
    }

    fn output(&self) -> Markup {
        let prediction = self.prediction;
        let Some(output) = &prediction.output else {
            return html! {
                @if prediction.data_removed { p.nothing { "The output was removed: it is kept for a limited time." } }
                @else if !prediction.status.is_terminal() { p.nothing.pending { "The output will be here." } }
            };
        };
        let value = self.models().with_urls(output, "");
        let media: Vec<_> = output
            .files
            .iter()
            .map(|file| Medium { pointer: &file.pointer, name: &file.name, media_type: &file.media_type })
            .collect();
        Shown { value: &value, media: &media, display: self.display() }.markup()
    }

    fn logs(&self) -> Markup {
        let logs = &self.prediction.logs;
        let shown = clip_start(logs, MAX_LOGS);
        html! {
            details.logs open[!self.prediction.status.is_terminal() || self.prediction.status == Status::Failed] {
                summary { "Logs" }
                @if shown.len() < logs.len() { p.cut { "only the end is shown" } }
                pre tabindex="0" data-logs { (shown) }
            }
        }
    }

    fn metrics(&self) -> Markup {
        let metrics = &self.prediction.metrics;
        let text = |value: &Value| match (value, value.as_f64()) {
            (Value::String(text), _) => text.clone(),
            (Value::Number(number), Some(float)) if number.is_f64() => rounded(float),
            (value, _) => value.to_string(),
        };
        html! {
            @if !metrics.is_empty() {
                dl.metrics {
                    @for (name, value) in metrics {
                        @let timed = matches!(name.as_str(), "predict_time" | "total_time");
                        div { dt { (name.replace('_', " ")) } dd { (text(value)) @if timed { " s" } } }
                    }
                }
            }
        }
    }

    fn actions(&self, path: &str, query: &str) -> Markup {
        let prediction = self.prediction;
        let ended = prediction.status.is_terminal();
        let model = &prediction.model;
        let again =
            format!("/models/{model}?version={}&prediction={}#run", prediction.version, prediction.id);
        html! {
            div.actions {
                @if self.visitor.is_owner() {
                    @if !ended {
                        form method="post" action=(format!("{path}/cancel")) enctype="multipart/form-data" data-cancel {
                            (form_token(self.visitor))
                            button.plain type="submit" { "Cancel" }
                        }
                    }
                    @if ended && prediction.kind == Kind::Prediction { a.button.plain href=(again) { "Run again" } }
                    a.button.plain href=(self.models().sign_path(path, SHARE_LIFETIME)) data-share { "Share" }
                }
                a.button.plain href=(format!("{path}?{query}part=json")) { "JSON" }
            }
        }
    }

    /// What it was asked.
    pub fn input(&self) -> Markup {
        if self.prediction.data_removed {
            return html! { p.nothing { "The input was removed: it is kept for a limited time." } };
        }
        let name = if self.prediction.kind == Kind::Prediction { "Input" } else { "TrainingInput" };
        let properties = self.schema(name).and_then(|schema| schema.get("properties"));
        output::input(&self.asked(), properties, &self.prediction.base_url)
    }

    /// Its input with the addresses of files as people know them.
    fn asked(&self) -> Value {
        let mut input = self.prediction.input.clone();
        self.models().show_files(&mut input, &self.prediction.base_url);
        input
    }

    /// All of it, for programs and for what is too long for a page.
    pub fn json(&self) -> Value {
        let prediction = self.prediction;
        serde_json::json!({
            "id": prediction.id,
            "model": prediction.model.to_string(),
            "version": prediction.version.to_string(),
            "status": prediction.status,
            "input": self.asked(),
            "output": prediction.output.as_ref().map(|output| self.models().with_urls(output, &prediction.base_url)),
            "logs": prediction.logs,
            "error": prediction.error,
            "metrics": prediction.metrics,
            "created_at": format!("{}Z", time::date(prediction.created_ms).replace(' ', "T")),
        })
    }
}
