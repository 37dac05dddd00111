//! Deployments: a lasting name for a version on its own instances; each change is a new release.

use clunk_core::error::ErrorBody;
use clunk_core::model::{Deployment, ModelName, Page};

use super::{DeploymentChanges, Models, NewDeployment};

impl Models {
    pub async fn create_deployment(&self, _new: NewDeployment) -> Result<Deployment, ErrorBody> {
        self.unfinished("deploying")
    }

    pub async fn deployment(&self, _name: &ModelName) -> Result<Deployment, ErrorBody> {
        self.unfinished("a deployment")
    }

    pub async fn deployments(
        &self,
        _cursor: Option<&str>,
        _limit: u32,
    ) -> Result<Page<Deployment>, ErrorBody> {
        self.unfinished("listing deployments")
    }

    /// Makes a release. What the one before has accepted, it ends.
    pub async fn update_deployment(
        &self,
        _name: &ModelName,
        _changes: DeploymentChanges,
    ) -> Result<Deployment, ErrorBody> {
        self.unfinished("changing a deployment")
    }

    pub async fn delete_deployment(&self, _name: &ModelName) -> Result<(), ErrorBody> {
        self.unfinished("deleting a deployment")
    }
}
