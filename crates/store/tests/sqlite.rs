//! The store's contract on SQLite, and what is particular to a file.

use clunk_store::{SqliteStore, StoreError, contract};

async fn open(folder: &tempfile::TempDir) -> Result<SqliteStore, StoreError> {
    SqliteStore::open(&folder.path().join("clunk.db")).await
}

#[tokio::test]
async fn contract_holds() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await.unwrap();
    contract::apps_are_kept(&store).await;
    contract::calls_are_kept(&store).await;
    contract::recovery_ends_what_was_running(&store).await;
}

#[tokio::test]
async fn a_damaged_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("clunk.db"),
        "this is no database, and it is long enough to be read as one",
    )
    .unwrap();
    let error = open(&folder).await.err().unwrap();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
}

#[tokio::test]
async fn a_store_of_the_future_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(&folder).await.unwrap());
    let url = format!("sqlite://{}", folder.path().join("clunk.db").display());
    let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
    sqlx::query("PRAGMA user_version = 99").execute(&pool).await.unwrap();
    pool.close().await;
    assert!(matches!(open(&folder).await.err().unwrap(), StoreError::Newer { found: 99, .. }));
}
