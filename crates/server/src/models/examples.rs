//! Predictions that show what a model does.

use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_core::model::{Kind, Model, ModelName, Page, Prediction, PredictionId, Status};
use clunk_store::models::{ModelChange, PredictionQuery};

use super::Models;
use super::lists::{self, MAX_LISTED};
use crate::answer::{not_found, store_error};

impl Models {
    /// Succeeded predictions that its author chose to show.
    pub async fn examples(
        &self,
        name: &ModelName,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<Page<Prediction>, ErrorBody> {
        self.model(name).await?;
        let (seek, limit) = (lists::seek(cursor)?, limit.clamp(1, MAX_LISTED));
        let query = PredictionQuery {
            kind: Kind::Prediction,
            model: Some(name.clone()),
            version: None,
            source: None,
            created_after_ms: None,
            created_before_ms: None,
            examples: true,
            seek: seek.clone(),
            limit,
        };
        let found = self.store.predictions(query).await.map_err(|error| store_error(&error))?;
        Ok(lists::page(self.listed(found), seek.as_ref(), limit))
    }

    pub async fn add_example(&self, name: &ModelName, example: PredictionId) -> Result<(), ErrorBody> {
        let prediction = self.prediction(example).await?;
        if prediction.model != *name {
            return Err(not_found(format_args!("prediction {example} of {name}")).0);
        }
        if prediction.status != Status::Succeeded {
            let text = format!(
                "prediction {example} is {}: only one that succeeded is an example",
                prediction.status.name()
            );
            return Err(ErrorBody::new(ErrorCode::BadRequest, text));
        }
        if prediction.data_removed {
            let text = format!("the data of prediction {example} was removed: it shows nothing any more");
            return Err(ErrorBody::new(ErrorCode::BadRequest, text));
        }
        self.store.make_example(example).await.map(drop).map_err(|error| store_error(&error))
    }

    /// Sets or takes away the example that stands for the model.
    pub async fn set_default_example(
        &self,
        name: &ModelName,
        example: Option<PredictionId>,
    ) -> Result<Model, ErrorBody> {
        if let Some(id) = example {
            self.add_example(name, id).await?;
        }
        let change = ModelChange { default_example: Some(example), ..ModelChange::default() };
        self.change(name, change).await
    }
}
