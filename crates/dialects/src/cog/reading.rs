//! Everything that a project's settings say, in one record.

use std::collections::BTreeMap;

use clunk_core::function::Resources;
use clunk_core::recipe::Recipe;
use serde::Serialize;

use super::config::{self, CogConfig};
use super::problem::{Problem, Problems};
use super::project::Project;
use super::recipe;

#[derive(Debug, Serialize)]
pub struct Reading {
    /// None: the file could not be read at all.
    pub config: Option<CogConfig>,
    /// None: a problem is an error.
    pub recipe: Option<Recipe>,
    /// Files of the project that are part of the image, packages and weights: each by its path in the image. They are
    /// to be added before the first step.
    pub files: BTreeMap<String, String>,
    /// Variables of the model's container.
    pub env: BTreeMap<String, String>,
    pub resources: Resources,
    pub problems: Vec<Problem>,
}

impl Reading {
    pub fn has_errors(&self) -> bool {
        self.recipe.is_none()
    }
}

/// Reads the text of a `cog.yaml`, which `file` names for the user.
pub fn read(text: &str, file: &str, project: &dyn Project) -> Reading {
    let mut problems = Problems::default();
    problems.about(file);
    let config = config::parse(text, project, &mut problems);
    let plan = config.as_ref().map(|config| recipe::plan(config, project, &mut problems));
    let (recipe, files) = match plan {
        Some(plan) if !problems.any_error() => (Some(plan.recipe), plan.files),
        _ => (None, BTreeMap::new()),
    };
    let mut resources = Resources::default();
    if config.as_ref().is_some_and(|config| config.build.gpu) {
        resources.gpu.push("any".into());
    }
    let env = config.as_ref().map(|config| config.environment.clone()).unwrap_or_default();
    Reading { config, recipe, files, env, resources, problems: problems.into_list() }
}
