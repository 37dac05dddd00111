//! Transactions of the writer.
//!
//! On a full disk SQLite may end a transaction by itself. sqlx counts transactions, and its count would be wrong from then
//! on; the statements are sent as they are instead.

use sqlx::SqliteConnection;

use super::failed;
use crate::store::StoreError;

pub async fn begin(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    run(connection, "BEGIN IMMEDIATE").await.map_err(failed("begin"))
}

/// Commits what went well, and undoes the rest.
pub async fn end<T>(
    connection: &mut SqliteConnection,
    outcome: Result<T, StoreError>,
) -> Result<T, StoreError> {
    let outcome = match outcome {
        Ok(value) => run(connection, "COMMIT").await.map(|()| value).map_err(failed("commit")),
        Err(error) => Err(error),
    };
    if outcome.is_err()
        && let Err(error) = run(connection, "ROLLBACK").await
    {
        tracing::debug!(%error, "the transaction had ended already");
    }
    outcome
}

async fn run(connection: &mut SqliteConnection, statement: &str) -> Result<(), sqlx::Error> {
    sqlx::query(statement).execute(connection).await.map(drop)
}
