//! Webhooks: signed, throttled, tried again until they are taken, and sent once more on demand.

use clunk_core::error::ErrorBody;
use clunk_core::model::PredictionId;

use super::Models;

impl Models {
    /// Sends the webhook of a prediction that has ended once more.
    pub async fn redeliver(&self, _id: PredictionId) -> Result<(), ErrorBody> {
        self.unfinished("sending a webhook again")
    }
}
