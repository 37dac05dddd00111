//! Removes results that are kept no longer, and old records.

use std::sync::Arc;
use std::time::Duration;

use clunk_agent::replica::now_ms;

use crate::server::Server;

const DAY_MS: u64 = 86_400_000;
/// Results of durable calls, counted from their end.
const KEEP_RESULTS_MS: u64 = 7 * DAY_MS;
/// Records of calls that have ended.
const KEEP_RECORDS_MS: u64 = 30 * DAY_MS;
const PERIOD: Duration = Duration::from_secs(3600);

/// Runs until the server stops.
pub async fn sweep(server: Arc<Server>) {
    loop {
        if let Err(error) = once(&server).await {
            tracing::error!(%error, "could not remove old results");
        }
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            () = server.stopping.cancelled() => return,
        }
    }
}

async fn once(server: &Server) -> Result<(), clunk_store::StoreError> {
    let now = now_ms();
    let _alone = server.engine.payload_use.write().await;
    let purged = server.engine.store.purge(now - KEEP_RESULTS_MS, now - KEEP_RECORDS_MS).await?;
    if purged.results + purged.records > 0 {
        tracing::info!(
            results = purged.results,
            records = purged.records,
            "removed what was kept long enough"
        );
    }
    let payloads = server.engine.payloads.clone();
    let removed = tokio::task::spawn_blocking(move || {
        for digest in purged.blobs {
            payloads.remove(digest)?;
        }
        Ok(())
    });
    removed.await.unwrap_or(Ok(()))
}
