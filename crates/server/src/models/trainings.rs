//! Trainings: runs of a version's `train`, whose output becomes a version with other weights.
//!
//! The weights are a file of the new version's own: a tree laid over its image, so that they are there when a container
//! starts, and no two versions keep the same bytes twice.

use clunk_core::Digest;
use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_core::model::{Kind, ModelName, Output, OutputFile, Prediction, PushVersion};
use clunk_core::tree::{Tree, TreeContent, TreeFile};
use serde_json::{Value, json};

use super::predictions::Accepted;
use super::{Models, NewTraining, Refusal, catalogue};
use crate::answer::{not_found, store_error};

/// Where the weights of a trained version lie in its containers.
const WEIGHTS_FOLDER: &str = "/weights";
/// What tells the runner where they are.
const WEIGHTS_VARIABLE: &str = "COG_WEIGHTS";

impl Models {
    /// As [`Models::create`]. Read, list, wait and cancel are those of predictions.
    pub async fn create_training(&self, new: NewTraining) -> Result<Prediction, Refusal> {
        let loaded = self.loaded(new.version).await?;
        if loaded.version.model != new.model {
            return Err(not_found(format_args!("version {} of {}", new.version.short(), new.model)).0.into());
        }
        let Some(function) = loaded.version.train_function else {
            let text = format!("version {} of {} cannot be trained", new.version.short(), new.model);
            let error = ErrorBody::new(ErrorCode::BadRequest, text);
            return Err(error.hint("its cog.yaml has no `train`").into());
        };
        self.destination(&new.destination).await?;
        let mut input = new.input;
        self.take_files(&mut input, &new.base_url);
        loaded.check(Kind::Training, &mut input)?;
        let accepted = Accepted {
            kind: Kind::Training,
            loaded,
            function,
            deployment: None,
            destination: Some(new.destination),
            input,
            context: Default::default(),
            source: new.source,
            webhook: new.webhook,
            cancel_after: new.cancel_after,
            base_url: new.base_url,
        };
        self.accept(accepted).await
    }

    async fn destination(&self, name: &ModelName) -> Result<(), ErrorBody> {
        let found = self.store.model(name).await.map_err(|error| store_error(&error))?;
        let missing = || {
            ErrorBody::new(ErrorCode::NotFound, "The specified training destination does not exist")
                .hint(format!("make the model {name} first"))
        };
        found.map(drop).ok_or_else(missing)
    }

    /// Makes a version of what a training gave, and says so in its output.
    pub(super) async fn publish_trained(&self, record: &mut Prediction) -> Result<(), ErrorBody> {
        let Some(destination) = record.destination.clone() else { return Ok(()) };
        let output = record.output.take().unwrap_or_default();
        let base = self.loaded(record.version).await?;
        let (variable, weights) = match weights_file(&output) {
            Some(file) => self.place_weights(file).await.map(|(path, tree)| (path, Some(tree)))?,
            None => (weights_text(&output.value).ok_or_else(no_weights)?.to_owned(), None),
        };
        let mut predict = base.version.predict.clone();
        predict.env.insert(WEIGHTS_VARIABLE.into(), variable);
        predict.trees.extend(weights);
        let push = PushVersion {
            config: base.version.config.clone(),
            openapi_schema: base.version.openapi_schema.clone(),
            predict,
            train: base.version.train.clone(),
            description: None,
            readme: None,
            visibility: None,
        };
        let id = catalogue::identity(&destination, &push);
        let _alone = self.pushing.lock().await;
        self.add_version(&destination, id, push, Some(record.id)).await?;
        record.trained = Some(id);
        record.output = Some(trained_output(output, &destination, id));
        Ok(())
    }

    /// Puts the file where trees are made from. Gives its path in containers, and the tree.
    async fn place_weights(&self, file: &OutputFile) -> Result<(String, Digest), ErrorBody> {
        let (record, content) = self.open_file(file.file).await?;
        let path = format!("{WEIGHTS_FOLDER}/{}", record.name);
        let blob = TreeContent::Blob { digest: record.sha256, size: record.size };
        let file = TreeFile { path: path.clone(), executable: false, content: blob };
        let tree = Tree::new(vec![file]).map_err(|error| {
            ErrorBody::new(ErrorCode::BadRequest, format!("the weights cannot be kept: {error}"))
        })?;
        let text = serde_json::to_vec(&tree).expect("a tree has a JSON form");
        let (blobs, _keep) = (self.blobs.clone(), self.engine.removing.read().await);
        let put = tokio::task::spawn_blocking(move || {
            blobs.put_file(&content, record.size)?;
            blobs.put(&text)
        });
        let put = put.await.map_err(|error| ErrorBody::new(ErrorCode::Internal, error.to_string()))?;
        Ok((path, put.map_err(|error| store_error(&error))?))
    }
}

/// The file that is the output, or its member `weights`.
fn weights_file(output: &Output) -> Option<&OutputFile> {
    let named = |pointer: &str| output.files.iter().find(|file| file.pointer == pointer);
    named("").or_else(|| named("/weights"))
}

/// The same as a URL that the model gave.
fn weights_text(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value["weights"].as_str())
}

fn no_weights() -> ErrorBody {
    ErrorBody::new(ErrorCode::BadRequest, "the training gave no weights")
        .hint("return TrainingOutput(weights=Path(\"...\")) from train")
}

/// `{"version": "owner/name:id", "weights": …}` and whatever else the training gave.
fn trained_output(output: Output, destination: &ModelName, id: Digest) -> Output {
    let Output { value, files } = output;
    let version = json!(format!("{destination}:{id}"));
    match value {
        Value::Object(mut members) => {
            members.insert("version".into(), version);
            Output { value: members.into(), files }
        }
        weights => {
            let moved =
                |file: OutputFile| OutputFile { pointer: format!("/weights{}", file.pointer), ..file };
            let value = json!({"version": version, "weights": weights});
            Output { value, files: files.into_iter().map(moved).collect() }
        }
    }
}
