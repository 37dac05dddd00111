//! Predictions: create, read, list, wait, cancel.

use clunk_core::error::ErrorBody;
use clunk_core::model::{Page, Prediction, PredictionId};
use tokio::time::Instant;

use super::{Models, NewPrediction, PredictionFilter, Refusal};

impl Models {
    /// Accepts a prediction: it is on disk when this returns, and ends whatever happens to this server.
    pub async fn create(&self, _new: NewPrediction) -> Result<Prediction, Refusal> {
        Ok(self.unfinished("predicting")?)
    }

    /// A prediction or a training as it is now.
    pub async fn prediction(&self, _id: PredictionId) -> Result<Prediction, ErrorBody> {
        self.unfinished("a prediction")
    }

    /// Newest first. Of the input, output and logs that are larger than 64 KiB, a list has none.
    pub async fn predictions(&self, _filter: PredictionFilter) -> Result<Page<Prediction>, ErrorBody> {
        self.unfinished("listing predictions")
    }

    /// Returns at once with what is known; the end follows within a tenth of a second. One that has ended stays as it is.
    pub async fn cancel(&self, _id: PredictionId) -> Result<Prediction, ErrorBody> {
        self.unfinished("canceling")
    }

    /// Waits for its end, but not beyond `until`, and gives it as it is then.
    pub async fn wait(&self, _id: PredictionId, _until: Instant) -> Result<Prediction, ErrorBody> {
        self.unfinished("waiting")
    }
}
