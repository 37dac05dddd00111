//! Query plans: what is read often is read along a key.

use clunk_core::Digest;
use clunk_core::model::{Kind, Source};
use sqlx::{Connection, Row, SqliteConnection};

use super::{jobs, predictions, read};
use crate::SqliteStore;
use crate::models::{ListKey, ModelOrder, PredictionQuery, Seek};

async fn steps(connection: &mut SqliteConnection, text: &str) -> Vec<String> {
    let text = format!("EXPLAIN QUERY PLAN {text}");
    let rows =
        sqlx::query(&text).fetch_all(connection).await.unwrap_or_else(|error| panic!("{text}: {error}"));
    rows.iter().map(|row| row.get("detail")).collect()
}

fn queries() -> Vec<PredictionQuery> {
    let plain = PredictionQuery {
        kind: Kind::Prediction,
        model: None,
        version: None,
        source: None,
        created_after_ms: None,
        created_before_ms: None,
        examples: false,
        seek: None,
        limit: 100,
    };
    let seek = Some(Seek { newer: false, key: ListKey { time_ms: 0, number: 0 } });
    let model = Some("a/b".parse().unwrap());
    vec![
        PredictionQuery { seek: seek.clone(), ..plain.clone() },
        PredictionQuery { created_after_ms: Some(1), created_before_ms: Some(2), ..plain.clone() },
        PredictionQuery { version: Some(Digest::of("v")), seek: seek.clone(), ..plain.clone() },
        PredictionQuery { model: model.clone(), seek, ..plain.clone() },
        PredictionQuery { model, examples: true, ..plain.clone() },
        PredictionQuery { source: Some(Source::Web), ..plain.clone() },
        plain,
    ]
}

#[tokio::test]
async fn nothing_reads_or_sorts_a_whole_table() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clunk.db");
    drop(SqliteStore::open(&path).await.unwrap());
    let url = format!("sqlite://{}", path.display());
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    let mut texts: Vec<_> = queries().iter().map(predictions::list_text).collect();
    let constants =
        [read::MODEL, read::VERSION, read::FILE, predictions::UNFINISHED, jobs::OLD_DATA].map(String::from);
    texts.extend(constants);
    texts.extend([read::versions_text(None), read::files_text(None)]);
    for text in &texts {
        for step in steps(&mut connection, text).await {
            let slow = step.starts_with("SCAN predictions")
                || step.contains("TEMP B-TREE")
                || step.contains("AUTOMATIC");
            assert!(!slow, "{step}, in {text}");
        }
    }
    // These walk along an index from its end.
    let walks =
        [ModelOrder::Created, ModelOrder::LatestVersion].map(|order| read::models_text(order, false, None));
    for text in walks.iter().map(String::as_str).chain([predictions::DUE_WEBHOOKS]) {
        let found = steps(&mut connection, text).await;
        assert!(found.iter().all(|step| !step.contains("TEMP B-TREE")), "{found:?}");
    }
}
