//! Predictions as a caller is shown them.

use std::sync::Arc;

use clunk_core::Digest;
use clunk_core::model::{Output, Prediction};
use clunk_dialects::replicate::objects::{self, Links, Shown};
use serde_json::Value;

use super::caller::{Caller, Client};
use super::settings::Streams;
use super::{Answer, Dialect, stream};
use crate::models::{Models, Presenter};
use crate::server::Server;

/// Bytes of the files of one output that are written into it as data URLs.
const MAX_DATA: u64 = 64 << 20;

/// How files stand in an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Files {
    Links,
    /// As data URLs when there is no other way for the client to take them for files.
    Fitting,
}

impl Server {
    /// The object of a prediction or a training.
    pub(super) async fn shown(&self, record: &Prediction, caller: &Caller, files: Files) -> Answer<Value> {
        let inline = files == Files::Fitting && self.wants_data(record, caller);
        let output = match &record.output {
            None => Value::Null,
            Some(output) => self.output(output, caller, inline).await?,
        };
        let streams = self.streams(record.version).await;
        let stream = stream::url(&self.models, record.id, streams, &caller.base);
        let mut shown = objects::prediction(record, Shown { output, stream }, caller.links());
        self.models.show_files(&mut shown["input"], &caller.base);
        Ok(shown)
    }

    /// An output with its files in their places.
    pub(super) async fn output(&self, output: &Output, caller: &Caller, inline: bool) -> Answer<Value> {
        if inline && self.size(output).await <= MAX_DATA {
            return Ok(self.models.with_data(output).await?);
        }
        Ok(self.models.with_urls(output, &caller.base))
    }

    async fn size(&self, output: &Output) -> u64 {
        let mut size = 0;
        for file in &output.files {
            size += self.models.file(file.file).await.map_or(0, |file| file.size);
        }
        size
    }

    /// Over plain http the official clients take a file's address for a text; a data URL they take for the file. `use()`
    /// of the second Python client is the other way round, and never waits in its request.
    fn wants_data(&self, record: &Prediction, caller: &Caller) -> bool {
        caller.base.starts_with("http://")
            && match caller.client {
                Client::Python1 | Client::JavaScript => true,
                Client::Python2 => self.replicate.was_waited(record.id),
                Client::Other => false,
            }
    }

    /// What a version gives in parts.
    pub(super) async fn streams(&self, version: Digest) -> Streams {
        if let Some(streams) = self.replicate.streams(version) {
            return streams;
        }
        let Ok(record) = self.models.version(version).await else { return Streams::Nothing };
        let streams = match (record.is_iterator(), objects::gives_files(&record.openapi_schema)) {
            (false, _) => Streams::Nothing,
            (true, false) => Streams::Values,
            (true, true) => Streams::Files,
        };
        self.replicate.remember_streams(version, streams);
        streams
    }
}

/// Webhooks carry what GET would answer.
pub fn webhook_presenter(dialect: Arc<Dialect>) -> Presenter {
    Box::new(move |models: &Models, record: &Prediction| {
        let links = Links { base: &record.base_url };
        let output =
            record.output.as_ref().map_or(Value::Null, |output| models.with_urls(output, links.base));
        // Looked up when the prediction was accepted; a server that was started since leaves the address out.
        let streams = dialect.streams(record.version).unwrap_or(Streams::Nothing);
        let stream = stream::url(models, record.id, streams, links.base);
        let mut shown = objects::prediction(record, Shown { output, stream }, links);
        models.show_files(&mut shown["input"], links.base);
        shown
    })
}
