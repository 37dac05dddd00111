//! Models and their versions.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use clunk_agent::replica::now_ms;
use clunk_core::Digest;
use clunk_core::api::{Lifetime, Scaling};
use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_core::function::{CogTask, FunctionSpec};
use clunk_core::id::FunctionId;
use clunk_core::model::{
    Configuration, InputProblem, Kind, Model, ModelName, ModelTexts, Page, PredictionId, PushAnswer,
    PushVersion, Version, Visibility,
};
use clunk_dialects::cog::validate::{InputSchema, Violation};
use clunk_store::models::{ModelChange, ModelOrder, Removal};
use serde_json::Value;

use super::lists::{self, MAX_LISTED};
use super::{GPU_SKU, ModelSort, Models, NewModel, Refusal};
use crate::answer::{not_found, store_error};
use crate::engine::{App, AppPlan, Haste};

/// Versions whose schemas are kept compiled; beyond it all are compiled anew when they are asked for.
const MAX_LOADED: usize = 256;
/// Words of a search.
const MAX_WORDS: usize = 16;

/// A version with its schemas compiled.
pub struct Loaded {
    pub version: Version,
    predict: Option<InputSchema>,
    train: Option<InputSchema>,
}

impl Loaded {
    fn new(version: Version) -> Result<Self, ErrorBody> {
        let compile = |component| {
            InputSchema::compile(&version.openapi_schema, component).map_err(|error| {
                ErrorBody::new(ErrorCode::BadRequest, error.to_string())
                    .hint("push the model with this version of Clunk")
            })
        };
        let (predict, train) = (compile("Input")?, compile("TrainingInput")?);
        Ok(Self { predict, train, version })
    }

    fn schema(&self, kind: Kind) -> Option<&InputSchema> {
        match kind {
            Kind::Prediction => self.predict.as_ref(),
            Kind::Training => self.train.as_ref(),
        }
    }

    /// Checks an input, and takes out what the model does not know.
    pub fn check(&self, kind: Kind, input: &mut Value) -> Result<(), Refusal> {
        let checked = match self.schema(kind) {
            Some(schema) => schema.check(input).map(drop),
            None if input.is_object() => Ok(()),
            None => {
                let message = "the input is not an object".into();
                return Err(Refusal::Input(vec![InputProblem {
                    place: Vec::new(),
                    message,
                    kind: "value_error".into(),
                }]));
            }
        };
        checked.map_err(|violations| Refusal::Input(violations.into_iter().map(problem).collect()))
    }

    /// Hides secrets.
    pub fn mask(&self, kind: Kind, input: &mut Value) {
        if let Some(schema) = self.schema(kind).filter(|schema| schema.has_secrets()) {
            schema.mask(input);
        }
    }
}

/// Without the `body` and `input` that stand before every place.
fn problem(violation: Violation) -> InputProblem {
    let inside = violation.loc.into_iter().skip(2).filter(|part| part != "__root__");
    InputProblem { place: inside.collect(), message: violation.msg, kind: violation.kind.into() }
}

/// The versions that were asked for.
#[derive(Default)]
pub struct Cache(Mutex<HashMap<Digest, Arc<Loaded>>>);

impl Cache {
    fn get(&self, id: Digest) -> Option<Arc<Loaded>> {
        self.0.lock().expect("no panic while locked").get(&id).cloned()
    }

    fn put(&self, loaded: Arc<Loaded>) {
        let mut all = self.0.lock().expect("no panic while locked");
        if all.len() >= MAX_LOADED {
            all.clear();
        }
        all.insert(loaded.version.id, loaded);
    }

    fn remove(&self, id: Digest) {
        self.0.lock().expect("no panic while locked").remove(&id);
    }
}

/// A version whose function the engine does not have: its image is gone, or it was deleted.
pub fn not_served(version: Digest) -> ErrorBody {
    ErrorBody::new(ErrorCode::NotFound, format!("version {} cannot be run here any more", version.short()))
        .hint("push the model again: what is missing is built")
}

/// What a version is made of: the same again is the same version, in whatever order its members come.
pub fn identity(model: &ModelName, push: &PushVersion) -> Digest {
    let (mut schema, mut config) = (push.openapi_schema.clone(), push.config.clone());
    schema.sort_all_objects();
    config.sort_all_objects();
    Digest::of_json(&(model, &push.predict, &push.train, &schema, &config))
}

fn check_push(push: &PushVersion) -> Result<(), ErrorBody> {
    let bad = |text: String| Err(ErrorBody::new(ErrorCode::BadRequest, text));
    if !push.openapi_schema["components"]["schemas"].is_object() {
        return bad("openapi_schema has no components.schemas".into());
    }
    let tasks = [(Some(&push.predict), CogTask::Predict), (push.train.as_ref(), CogTask::Train)];
    for (spec, task) in tasks {
        if spec.is_some_and(|spec| spec.entry.cog != Some(task)) {
            let name = task.name();
            return bad(format!("the function for `{name}` must have entry.cog = {name:?}"));
        }
    }
    Ok(())
}

impl Models {
    /// Fails with `already-exists` when the name is taken.
    pub async fn create_model(&self, new: NewModel) -> Result<Model, ErrorBody> {
        let hardware = self.known_hardware(new.hardware)?;
        let model = Model {
            name: new.name,
            visibility: new.visibility,
            texts: new.texts,
            configuration: Configuration { hardware, min_instances: 0, max_instances: 0 },
            run_count: 0,
            default_example: None,
            created_ms: now_ms(),
            latest_version: None,
            latest_version_ms: None,
        };
        match self.store.create_model(model.clone()).await.map_err(|error| store_error(&error))? {
            true => Ok(model),
            false => {
                let text = format!("a model named {} exists already", model.name);
                Err(ErrorBody::new(ErrorCode::AlreadyExists, text)
                    .hint("push a version of it, or choose another name"))
            }
        }
    }

    /// A `sku` that is served here; the processor when none is named.
    pub(super) fn known_hardware(&self, sku: Option<String>) -> Result<String, ErrorBody> {
        let sku = sku.unwrap_or_else(|| "cpu".into());
        let all = self.hardware();
        if all.iter().any(|hardware| hardware.sku == sku) {
            return Ok(sku);
        }
        let known: Vec<_> = all.into_iter().map(|hardware| format!("`{}`", hardware.sku)).collect();
        let text = format!("this server has no hardware {sku:?}");
        Err(ErrorBody::new(ErrorCode::BadRequest, text).hint(format!("it has {}", known.join(", "))))
    }

    pub async fn model(&self, name: &ModelName) -> Result<Model, ErrorBody> {
        let found = self.store.model(name).await.map_err(|error| store_error(&error))?;
        found.ok_or_else(|| not_found(format_args!("model {name}")).0)
    }

    pub async fn models(
        &self,
        sort: ModelSort,
        ascending: bool,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<Page<Model>, ErrorBody> {
        let (seek, limit) = (lists::seek(cursor)?, limit.clamp(1, MAX_LISTED));
        let order = match sort {
            ModelSort::Created => ModelOrder::Created,
            ModelSort::LatestVersion => ModelOrder::LatestVersion,
        };
        let found = self.store.models(order, ascending, seek.clone(), limit).await;
        Ok(lists::page(found.map_err(|error| store_error(&error))?, seek.as_ref(), limit))
    }

    /// Models whose name, description or readme has all words of the query; the best first.
    pub async fn search_models(&self, query: &str, limit: u32) -> Result<Vec<Model>, ErrorBody> {
        let words: Vec<_> = query.split_whitespace().take(MAX_WORDS).map(String::from).collect();
        let found = self.store.search_models(&words, limit.clamp(1, MAX_LISTED)).await;
        found.map_err(|error| store_error(&error))
    }

    pub(super) async fn change(&self, name: &ModelName, change: ModelChange) -> Result<Model, ErrorBody> {
        self.store.change_model(name, change).await.map_err(|error| store_error(&error))?;
        self.model(name).await
    }

    pub async fn update_model(
        &self,
        name: &ModelName,
        texts: ModelTexts,
        visibility: Option<Visibility>,
    ) -> Result<Model, ErrorBody> {
        self.change(name, ModelChange { texts, visibility, ..ModelChange::default() }).await
    }

    /// On what its predictions run, and how many instances there may be.
    pub async fn configure_model(
        &self,
        name: &ModelName,
        configuration: Configuration,
    ) -> Result<Model, ErrorBody> {
        self.known_hardware(Some(configuration.hardware.clone()))?;
        check_instances(&configuration)?;
        let change = ModelChange { configuration: Some(configuration), ..ModelChange::default() };
        let model = self.change(name, change).await?;
        self.scale(&model).await?;
        Ok(model)
    }

    /// Fails with `in-use` while it has versions.
    pub async fn delete_model(&self, name: &ModelName) -> Result<(), ErrorBody> {
        let _alone = self.pushing.lock().await;
        let removal = self.store.delete_model(name).await.map_err(|error| store_error(&error))?;
        removed(removal, &format!("model {name}"), "delete its versions first")?;
        if let Some(app) = self.app_named(&name.to_string()) {
            app.stop(Haste::AtOnce).await;
        }
        Ok(())
    }

    /// Makes a version, and its model when it is not there. The same content again is the same version.
    pub async fn push(&self, name: &ModelName, push: PushVersion) -> Result<PushAnswer, ErrorBody> {
        check_push(&push)?;
        let id = identity(name, &push);
        let texts = ModelTexts {
            description: push.description.clone(),
            readme: push.readme.clone(),
            ..ModelTexts::default()
        };
        let models = self.me();
        let (name, visibility) = (name.clone(), push.visibility);
        // What has begun is finished, also when its caller goes away.
        let pushed = tokio::spawn(async move {
            let _alone = models.pushing.lock().await;
            models.ensure_model(&name, visibility, &push.predict).await?;
            let created = models.add_version(&name, id, push, None).await?;
            models.update_model(&name, texts, visibility).await?;
            Ok(PushAnswer { id, created, model: name.to_string() })
        });
        pushed.await.map_err(|error| ErrorBody::new(ErrorCode::Internal, error.to_string()))?
    }

    async fn ensure_model(
        &self,
        name: &ModelName,
        visibility: Option<Visibility>,
        predict: &FunctionSpec,
    ) -> Result<(), ErrorBody> {
        if self.store.model(name).await.map_err(|error| store_error(&error))?.is_some() {
            return Ok(());
        }
        // A project that asks for a GPU which is not here is refused, rather than put on the processor.
        self.engine.room.check(predict)?;
        let wants_gpu = !predict.resources.gpu.is_empty();
        let gpu =
            self.hardware().into_iter().map(|hardware| hardware.sku).find(|sku| sku.starts_with(GPU_SKU));
        let new = NewModel {
            name: name.clone(),
            visibility: visibility.unwrap_or_default(),
            hardware: gpu.filter(|_| wants_gpu),
            texts: ModelTexts::default(),
        };
        match self.create_model(new).await {
            Err(error) if error.code != ErrorCode::AlreadyExists => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Serves the version's functions, then writes it down. False: it was there, and is served.
    pub(super) async fn add_version(
        &self,
        name: &ModelName,
        id: Digest,
        push: PushVersion,
        training: Option<PredictionId>,
    ) -> Result<bool, ErrorBody> {
        let known = self.store.version(id).await.map_err(|error| store_error(&error))?;
        if known.as_ref().is_some_and(|version| self.engine.function(version.predict_function).is_some()) {
            return Ok(false);
        }
        let created = known.is_none();
        let cog_version = push.openapi_schema["info"]["version"].as_str().unwrap_or_default().into();
        let (app, predict_function, train_function) = self.serve(name, id, &push).await?;
        let version = Version {
            id,
            model: name.clone(),
            created_ms: known.as_ref().map_or_else(now_ms, |version| version.created_ms),
            cog_version,
            openapi_schema: push.openapi_schema,
            config: push.config,
            predict: push.predict,
            train: push.train,
            app: app.id,
            predict_function,
            train_function,
            training,
        };
        // A schema that cannot be used is refused before anybody can ask for a prediction.
        let loaded = Arc::new(Loaded::new(version.clone())?);
        match &known {
            // Its image was gone, and has been built again.
            Some(_) => self.store.change_version(version).await,
            None => self.store.add_version(version).await,
        }
        .map_err(|error| store_error(&error))?;
        for function in known.iter().flat_map(Version::functions) {
            if Some(function) != train_function {
                self.engine.retire_function(function).await?;
            }
        }
        self.cache.put(loaded);
        self.scale(&self.model(name).await?).await?;
        Ok(created)
    }

    async fn serve(
        &self,
        name: &ModelName,
        id: Digest,
        push: &PushVersion,
    ) -> Result<(Arc<App>, FunctionId, Option<FunctionId>), ErrorBody> {
        // Named after its version: no two versions share a function, and logs and usage say which one it was.
        let hardware = self.model(name).await?.configuration.hardware;
        let served = |spec: &FunctionSpec, task: CogTask| {
            let mut spec = FunctionSpec { name: format!("{}-{}", task.name(), id.short()), ..spec.clone() };
            super::put_on(&mut spec, &hardware);
            spec
        };
        let predict = served(&push.predict, CogTask::Predict);
        let app = self.app_for(&name.to_string(), name.owner(), &predict).await?;
        let predict = self.engine.add_function(&app, predict).await?;
        let train = match &push.train {
            Some(train) => Some(self.engine.add_function(&app, served(train, CogTask::Train)).await?),
            None => None,
        };
        Ok((app, predict, train))
    }

    /// The deployed app of that name; made with the function when it is not there.
    pub(super) async fn app_for(
        &self,
        name: &str,
        owner: &str,
        function: &FunctionSpec,
    ) -> Result<Arc<App>, ErrorBody> {
        if let Some(app) = self.app_named(name) {
            return Ok(app);
        }
        let plan = AppPlan {
            name: name.into(),
            workspace: owner.into(),
            lifetime: Lifetime::Deployed,
            functions: vec![function.clone()],
        };
        self.engine.create_app(plan).await
    }

    pub(super) fn app_named(&self, name: &str) -> Option<Arc<App>> {
        let apps = self.engine.all_apps();
        apps.into_iter().find(|app| app.lifetime == Lifetime::Deployed && app.name == name)
    }

    /// Has the newest version follow the model's configuration; older ones keep nothing warm.
    pub(super) async fn scale(&self, model: &Model) -> Result<(), ErrorBody> {
        let Some(latest) = model.latest_version else { return Ok(()) };
        let Some(app) = self.app_named(&model.name.to_string()) else { return Ok(()) };
        let newest = match self.cache.get(latest) {
            Some(loaded) => loaded.version.predict_function,
            None => self.stored_version(latest).await?.predict_function,
        };
        for pool in app.pools().into_iter().filter(|pool| pool.spec.entry.cog == Some(CogTask::Predict)) {
            let min = if pool.id == newest { model.configuration.min_instances } else { 0 };
            let max = Some(model.configuration.max_instances).filter(|max| *max > 0);
            pool.set_scaling(Scaling {
                min_containers: Some(min),
                max_containers: max.or(pool.spec.policy.max_containers).or(Some(u32::MAX)),
                ..Scaling::default()
            });
        }
        Ok(())
    }

    pub async fn version(&self, id: Digest) -> Result<Version, ErrorBody> {
        Ok(self.loaded(id).await?.version.clone())
    }

    /// As it is written down: also one whose schemas this version of Clunk cannot use.
    async fn stored_version(&self, id: Digest) -> Result<Version, ErrorBody> {
        let found = self.store.version(id).await.map_err(|error| store_error(&error))?;
        found.ok_or_else(|| not_found(format_args!("version {}", id.short())).0)
    }

    pub(super) async fn loaded(&self, id: Digest) -> Result<Arc<Loaded>, ErrorBody> {
        if let Some(loaded) = self.cache.get(id) {
            return Ok(loaded);
        }
        let loaded = Arc::new(Loaded::new(self.stored_version(id).await?)?);
        self.cache.put(loaded.clone());
        Ok(loaded)
    }

    /// Newest first.
    pub async fn versions(
        &self,
        name: &ModelName,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<Page<Version>, ErrorBody> {
        self.model(name).await?;
        let (seek, limit) = (lists::seek(cursor)?, limit.clamp(1, MAX_LISTED));
        let found = self.store.versions(name, seek.clone(), limit).await;
        Ok(lists::page(found.map_err(|error| store_error(&error))?, seek.as_ref(), limit))
    }

    /// Fails with `in-use` while a deployment runs it. Its predictions stay, those that wait are canceled.
    pub async fn delete_version(&self, name: &ModelName, id: Digest) -> Result<(), ErrorBody> {
        let alone = self.pushing.lock().await;
        let version = self.stored_version(id).await?;
        if version.model != *name {
            return Err(not_found(format_args!("version {} of {name}", id.short())).0);
        }
        let removal = self.store.delete_version(id).await.map_err(|error| store_error(&error))?;
        let hint = "move the deployment to another version, or delete it first";
        removed(removal, &format!("version {} of {name}", id.short()), hint)?;
        self.cache.remove(id);
        for function in version.functions() {
            self.engine.retire_function(function).await?;
        }
        self.scale(&self.model(name).await?).await?;
        drop(alone);
        self.reconcile(|record| record.version == id).await
    }
}

pub fn check_instances(configuration: &Configuration) -> Result<(), ErrorBody> {
    let (min, max) = (configuration.min_instances, configuration.max_instances);
    if max > 0 && min > max {
        let text = format!("min_instances ({min}) is more than max_instances ({max})");
        return Err(ErrorBody::new(ErrorCode::BadRequest, text));
    }
    Ok(())
}

/// An error for what was not removed.
pub fn removed(removal: Removal, what: &str, hint: &str) -> Result<(), ErrorBody> {
    match removal {
        Removal::Removed => Ok(()),
        Removal::Absent => Err(not_found(what).0),
        Removal::Used { by } => {
            Err(ErrorBody::new(ErrorCode::InUse, format!("{what} is in use: {by}")).hint(hint))
        }
    }
}
