//! What models give: JSON in the record, files as blobs.

use std::io::Read;
use std::sync::Arc;

use clunk_agent::replica::now_ms;
use clunk_agent::{Payload, Value as Given};
use clunk_core::Digest;
use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_core::id::FileId;
use clunk_core::model::{File, Output, OutputFile, Prediction, PredictionId};
use clunk_store::{Blobs, StoreError, StoredPayload};
use serde_json::{Value, json};

use super::Models;
use crate::answer::{io_error, store_error};
use crate::engine::{Engine, durable};

/// Bytes of the JSON of one output, or of one part of it; more belongs into a file.
const MAX_JSON: u64 = 64 << 20;
/// Files of predictions go with the rest of their data.
const NEVER_MS: u64 = i64::MAX as u64;

/// Keeps the files of a value, and reads its JSON.
pub async fn keep(models: &Arc<Models>, id: PredictionId, given: Given) -> Result<Output, ErrorBody> {
    let value = read_json(given.payload).await?;
    if given.files.is_empty() {
        return Ok(Output { value, files: Vec::new() });
    }
    // Until the store counts who refers to them.
    let _used = models.engine.payload_use.clone().read_owned().await;
    let mut records = Vec::with_capacity(given.files.len());
    let mut files = Vec::with_capacity(given.files.len());
    for file in given.files {
        let size = file.content.len();
        let sha256 = put(&models.engine.payloads, file.content).await?;
        let made = FileId::fresh();
        let (name, media_type) = (file.name, file.media_type);
        files.push(OutputFile {
            pointer: file.pointer,
            file: made,
            name: name.clone(),
            media_type: media_type.clone(),
        });
        records.push(File {
            id: made,
            name,
            content_type: media_type,
            size,
            sha256,
            md5: String::new(),
            metadata: Default::default(),
            created_ms: now_ms(),
            expires_ms: NEVER_MS,
            prediction: Some(id),
        });
    }
    models.store.add_files(records).await.map_err(|error| store_error(&error))?;
    Ok(Output { value, files })
}

/// Puts a part behind the others. Gives how many there are.
pub fn append(record: &mut Prediction, part: Output) -> usize {
    let output = record.output.get_or_insert_with(|| Output { value: json!([]), files: Vec::new() });
    let Value::Array(parts) = &mut output.value else { return 0 };
    let place = parts.len();
    parts.push(part.value);
    let pointer = |file: OutputFile| OutputFile { pointer: format!("/{place}{}", file.pointer), ..file };
    output.files.extend(part.files.into_iter().map(pointer));
    place + 1
}

/// One part of an iterator's output, as it came.
pub fn part(output: &Output, place: usize) -> Option<Output> {
    let value = output.value.get(place)?.clone();
    let prefix = format!("/{place}");
    let files = output.files.iter().filter_map(|file| {
        let rest = file.pointer.strip_prefix(&prefix)?;
        (rest.is_empty() || rest.starts_with('/'))
            .then(|| OutputFile { pointer: rest.into(), ..file.clone() })
    });
    Some(Output { value, files: files.collect() })
}

/// An output on its way into the store.
pub async fn stored(engine: &Arc<Engine>, output: &Output) -> Result<StoredPayload, ErrorBody> {
    durable::keep(engine, Payload::Memory(serde_json::to_vec(output).expect("JSON has a JSON form").into()))
        .await
}

async fn put(blobs: &Blobs, content: Payload) -> Result<Digest, ErrorBody> {
    let blobs = blobs.clone();
    let put = move || -> Result<Digest, StoreError> {
        match content {
            Payload::Memory(bytes) => blobs.put(&bytes),
            Payload::File { file, len } => blobs.put_file(&file, len),
        }
    };
    let put = tokio::task::spawn_blocking(put).await;
    put.map_err(|error| ErrorBody::new(ErrorCode::Internal, error.to_string()))?
        .map_err(|error| store_error(&error))
}

async fn read_json(payload: Payload) -> Result<Value, ErrorBody> {
    let not_json =
        |error| ErrorBody::new(ErrorCode::Internal, format!("the model's output is not JSON: {error}"));
    if payload.len() > MAX_JSON {
        let text = format!("the output has more than {} MiB of JSON", MAX_JSON >> 20);
        return Err(
            ErrorBody::new(ErrorCode::PayloadTooLarge, text).hint("give large output as a file: cog.Path")
        );
    }
    let bytes = bytes(payload).await?;
    serde_json::from_slice(&bytes).map_err(not_json)
}

/// The content of a payload, which the caller has bounded.
pub async fn bytes(payload: Payload) -> Result<bytes::Bytes, ErrorBody> {
    let (file, len) = match payload {
        Payload::Memory(bytes) => return Ok(bytes),
        Payload::File { file, len } => (file, len),
    };
    let read = tokio::task::spawn_blocking(move || {
        let mut content = Vec::with_capacity(len as usize);
        let mut at = 0;
        while at < len {
            let mut chunk = vec![0; (1 << 20).min((len - at) as usize)];
            let count = std::os::unix::fs::FileExt::read_at(&*file, &mut chunk, at)?;
            if count == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            content.extend_from_slice(&chunk[..count]);
            at += count as u64;
        }
        Ok(content)
    });
    let read = read.await.map_err(|error| ErrorBody::new(ErrorCode::Internal, error.to_string()))?;
    Ok(read.map_err(|error: std::io::Error| io_error("read an output", &error))?.into())
}

/// A stored JSON document.
pub async fn document<T: serde::de::DeserializeOwned>(
    engine: &Engine,
    stored: &StoredPayload,
) -> Result<T, ErrorBody> {
    let bytes = bytes(durable::open(engine, stored)?).await?;
    serde_json::from_slice(&bytes)
        .map_err(|error| ErrorBody::new(ErrorCode::Internal, format!("a record is unreadable: {error}")))
}

/// A document for a list, which has only those that lie with their records.
pub fn inline<T: serde::de::DeserializeOwned>(stored: Option<&StoredPayload>) -> Option<T> {
    match stored? {
        StoredPayload::Inline(bytes) => serde_json::from_slice(bytes).ok(),
        StoredPayload::Blob { .. } => None,
    }
}

/// The content of a file that is small enough for a data URL.
pub fn read_whole(file: &mut std::fs::File, size: u64) -> std::io::Result<Vec<u8>> {
    let mut content = Vec::with_capacity(size as usize);
    file.take(size).read_to_end(&mut content)?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(pointer: &str) -> OutputFile {
        OutputFile {
            pointer: pointer.into(),
            file: FileId::from_parts(1, [0; 10]),
            name: "a".into(),
            media_type: "text/plain".into(),
        }
    }

    #[test]
    fn files_keep_their_places_in_parts() {
        let mut record = crate::models::tests::prediction();
        let parts = [(json!(null), ""), (json!({"image": null}), "/image"), (json!("x"), "")];
        for (count, (value, pointer)) in parts.iter().enumerate() {
            let files = if value == "x" { Vec::new() } else { vec![file(pointer)] };
            assert_eq!(append(&mut record, Output { value: value.clone(), files }), count + 1);
        }
        let output = record.output.unwrap();
        assert_eq!(output.value, json!([null, {"image": null}, "x"]));
        let pointers: Vec<_> = output.files.iter().map(|file| file.pointer.as_str()).collect();
        assert_eq!(pointers, ["/0", "/1/image"]);
        for (place, (value, pointer)) in parts.iter().enumerate() {
            let part = part(&output, place).unwrap();
            assert_eq!(&part.value, value);
            assert!(part.files.iter().all(|file| &file.pointer == pointer));
        }
        assert_eq!(part(&output, 3), None);
    }
}
