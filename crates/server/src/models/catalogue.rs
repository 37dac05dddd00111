//! Models and their versions.

use clunk_core::Digest;
use clunk_core::error::ErrorBody;
use clunk_core::model::{
    Configuration, Model, ModelName, ModelTexts, Page, Prediction, PredictionId, PushAnswer, PushVersion,
    Version, Visibility,
};

use super::{ModelSort, Models, NewModel};

impl Models {
    /// Fails with `already-exists` when the name is taken.
    pub async fn create_model(&self, _new: NewModel) -> Result<Model, ErrorBody> {
        self.unfinished("making a model")
    }

    pub async fn model(&self, _name: &ModelName) -> Result<Model, ErrorBody> {
        self.unfinished("a model")
    }

    pub async fn models(
        &self,
        _sort: ModelSort,
        _ascending: bool,
        _cursor: Option<&str>,
        _limit: u32,
    ) -> Result<Page<Model>, ErrorBody> {
        self.unfinished("listing models")
    }

    /// Models whose name, description or readme has all words of the query; the best first.
    pub async fn search_models(&self, _query: &str, _limit: u32) -> Result<Vec<Model>, ErrorBody> {
        self.unfinished("searching models")
    }

    pub async fn update_model(
        &self,
        _name: &ModelName,
        _texts: ModelTexts,
        _visibility: Option<Visibility>,
    ) -> Result<Model, ErrorBody> {
        self.unfinished("changing a model")
    }

    /// On what its predictions run, and how many instances there may be.
    pub async fn configure_model(
        &self,
        _name: &ModelName,
        _configuration: Configuration,
    ) -> Result<Model, ErrorBody> {
        self.unfinished("configuring a model")
    }

    /// Sets or takes away the example that stands for the model.
    pub async fn set_default_example(
        &self,
        _name: &ModelName,
        _example: Option<PredictionId>,
    ) -> Result<Model, ErrorBody> {
        self.unfinished("setting an example")
    }

    /// Fails with `in-use` while it has versions.
    pub async fn delete_model(&self, _name: &ModelName) -> Result<(), ErrorBody> {
        self.unfinished("deleting a model")
    }

    /// Makes a version, and its model when it is not there. The same content again is the same version.
    pub async fn push(&self, _name: &ModelName, _push: PushVersion) -> Result<PushAnswer, ErrorBody> {
        self.unfinished("pushing")
    }

    pub async fn version(&self, _id: Digest) -> Result<Version, ErrorBody> {
        self.unfinished("a version")
    }

    /// Newest first.
    pub async fn versions(
        &self,
        _name: &ModelName,
        _cursor: Option<&str>,
        _limit: u32,
    ) -> Result<Page<Version>, ErrorBody> {
        self.unfinished("listing versions")
    }

    /// Fails with `in-use` while a deployment runs it. Its predictions stay, those that wait are canceled.
    pub async fn delete_version(&self, _name: &ModelName, _id: Digest) -> Result<(), ErrorBody> {
        self.unfinished("deleting a version")
    }

    /// Succeeded predictions that its author chose to show.
    pub async fn examples(
        &self,
        _name: &ModelName,
        _cursor: Option<&str>,
        _limit: u32,
    ) -> Result<Page<Prediction>, ErrorBody> {
        self.unfinished("listing examples")
    }

    pub async fn add_example(&self, _name: &ModelName, _example: PredictionId) -> Result<(), ErrorBody> {
        self.unfinished("adding an example")
    }
}
