//! Deployments: a lasting name for a version on its own instances; each change is a new release.
//!
//! A release is a function of the deployment's app. The one before keeps what it has accepted, and goes when that has
//! ended.

use std::sync::Arc;

use clunk_agent::replica::now_ms;
use clunk_core::api::Scaling;
use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_core::function::FunctionSpec;
use clunk_core::model::{Configuration, Deployment, ModelName, Page, Release, Version};

use super::lists::{self, MAX_LISTED};
use super::{DeploymentChanges, Models, NewDeployment, catalogue};
use crate::answer::{not_found, store_error};
use crate::engine::{App, Haste};

/// An older release is not taken away sooner than this after the newest one was made.
const RELEASE_REST_MS: u64 = 60_000;

fn app_name(name: &ModelName) -> String {
    format!("deployment {name}")
}

/// The version's function on these terms. The number keeps releases apart that are otherwise the same.
fn release_spec(version: &Version, configuration: &Configuration, number: u32) -> FunctionSpec {
    let mut spec = version.predict.clone();
    spec.name = format!("release-{number}");
    spec.policy.min_containers = configuration.min_instances;
    spec.policy.max_containers =
        Some(configuration.max_instances).filter(|max| *max > 0).or(spec.policy.max_containers);
    super::put_on(&mut spec, &configuration.hardware);
    spec
}

impl Models {
    pub async fn create_deployment(&self, new: NewDeployment) -> Result<Deployment, ErrorBody> {
        let _alone = self.pushing.lock().await;
        let taken = || {
            ErrorBody::new(
                ErrorCode::AlreadyExists,
                format!("a deployment named {} exists already", new.name),
            )
            .hint("change it, or choose another name")
        };
        if self.store.deployment(&new.name).await.map_err(|error| store_error(&error))?.is_some() {
            return Err(taken());
        }
        let version = self.version(new.version).await?;
        if version.model != new.model {
            return Err(not_found(format_args!("version {} of {}", new.version.short(), new.model)).0);
        }
        self.known_hardware(Some(new.configuration.hardware.clone()))?;
        catalogue::check_instances(&new.configuration)?;
        let current = self.release(&new.name, &version, new.configuration, 1).await?;
        let deployment = Deployment { name: new.name.clone(), created_ms: now_ms(), current };
        match self.store.create_deployment(deployment.clone()).await.map_err(|error| store_error(&error))? {
            true => Ok(deployment),
            false => Err(taken()),
        }
    }

    /// Serves a release; it is not written down yet.
    async fn release(
        &self,
        name: &ModelName,
        version: &Version,
        configuration: Configuration,
        number: u32,
    ) -> Result<Release, ErrorBody> {
        let spec = release_spec(version, &configuration, number);
        let app = self.app_for(&app_name(name), name.owner(), &spec).await?;
        let function = self.engine.add_function(&app, spec).await?;
        Ok(Release {
            number,
            model: version.model.clone(),
            version: version.id,
            configuration,
            created_ms: now_ms(),
            app: app.id,
            function,
        })
    }

    pub async fn deployment(&self, name: &ModelName) -> Result<Deployment, ErrorBody> {
        let found = self.store.deployment(name).await.map_err(|error| store_error(&error))?;
        found.ok_or_else(|| not_found(format_args!("deployment {name}")).0)
    }

    pub async fn deployments(&self, cursor: Option<&str>, limit: u32) -> Result<Page<Deployment>, ErrorBody> {
        let (seek, limit) = (lists::seek(cursor)?, limit.clamp(1, MAX_LISTED));
        let found = self.store.deployments(seek.clone(), limit).await;
        Ok(lists::page(found.map_err(|error| store_error(&error))?, seek.as_ref(), limit))
    }

    /// Makes a release. What the one before has accepted, it ends.
    pub async fn update_deployment(
        &self,
        name: &ModelName,
        changes: DeploymentChanges,
    ) -> Result<Deployment, ErrorBody> {
        let _alone = self.pushing.lock().await;
        let deployment = self.deployment(name).await?;
        let before = deployment.current;
        let configuration = Configuration {
            hardware: changes.hardware.unwrap_or(before.configuration.hardware.clone()),
            min_instances: changes.min_instances.unwrap_or(before.configuration.min_instances),
            max_instances: changes.max_instances.unwrap_or(before.configuration.max_instances),
        };
        self.known_hardware(Some(configuration.hardware.clone()))?;
        catalogue::check_instances(&configuration)?;
        let version = self.version(changes.version.unwrap_or(before.version)).await?;
        if version.model != before.model {
            let text = format!("version {} is not of {}", version.id.short(), before.model);
            return Err(ErrorBody::new(ErrorCode::BadRequest, text));
        }
        let release = self.release(name, &version, configuration, before.number + 1).await?;
        let added = self.store.add_release(name, release).await.map_err(|error| store_error(&error))?;
        if !added {
            let text = format!("deployment {name} was changed by somebody else meanwhile");
            return Err(ErrorBody::new(ErrorCode::InUse, text).hint("look at it and try again"));
        }
        let deployment = self.deployment(name).await?;
        self.settle_releases(&deployment).await;
        Ok(deployment)
    }

    pub async fn delete_deployment(&self, name: &ModelName) -> Result<(), ErrorBody> {
        let alone = self.pushing.lock().await;
        let removal = self.store.delete_deployment(name).await.map_err(|error| store_error(&error))?;
        catalogue::removed(removal, &format!("deployment {name}"), "")?;
        if let Some(app) = self.app_named(&app_name(name)) {
            app.stop(Haste::AtOnce).await;
        }
        drop(alone);
        self.reconcile(|record| record.deployment.as_ref().is_some_and(|(of, _)| of == name)).await
    }

    /// Older releases keep nothing warm, and go when they have nothing left to do. `pushing` is held, and the deployment
    /// was read since: a newer release must not be taken for an older one.
    pub(super) async fn settle_releases(&self, deployment: &Deployment) {
        let Some(app) = self.app_named(&app_name(&deployment.name)) else { return };
        for pool in older(&app, deployment) {
            pool.set_scaling(Scaling { min_containers: Some(0), ..Scaling::default() });
            // A prediction may have been given to it a moment ago, and be on its way to its queue.
            let rested = deployment.current.created_ms + RELEASE_REST_MS < now_ms();
            let (_, running, queued) = pool.counts();
            if running > 0 || queued > 0 || !rested {
                continue;
            }
            if let Err(error) = self.engine.retire_function(pool.id).await {
                tracing::error!(deployment = %deployment.name, %error, "an old release could not be retired");
            }
        }
    }
}

fn older(app: &App, deployment: &Deployment) -> Vec<Arc<crate::engine::Pool>> {
    app.pools().into_iter().filter(|pool| pool.id != deployment.current.function).collect()
}
