//! Trainings: runs of a version's `train`, whose output becomes a version with other weights.

use clunk_core::model::Prediction;

use super::{Models, NewTraining, Refusal};

impl Models {
    /// As [`Models::create`]. Read, list, wait and cancel are those of predictions.
    pub async fn create_training(&self, _new: NewTraining) -> Result<Prediction, Refusal> {
        Ok(self.unfinished("training")?)
    }
}
