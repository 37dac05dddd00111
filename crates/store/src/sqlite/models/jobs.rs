//! What the writer does for models besides predictions. Each is one transaction.

use std::collections::HashMap;

use clunk_core::Digest;
use clunk_core::id::FileId;
use clunk_core::model::{Deployment, File, Model, ModelName, Prediction, PredictionId, Release, Version};
use sqlx::{Row, SqliteConnection};

use super::predictions::{self, id_bytes};
use super::{body, read, text};
use crate::models::{DueWebhook, ModelChange, Removal};
use crate::sqlite::jobs::reply;
use crate::sqlite::writer::{Answer, Writer};
use crate::sqlite::{blob_uses, failed, rows};
use crate::store::StoreError;

pub enum ModelJob {
    CreateModel(Box<Model>, Answer<bool>),
    ChangeModel(ModelName, Box<ModelChange>, Answer<bool>),
    DeleteModel(ModelName, Answer<Removal>),
    AddVersion(Box<Version>, Answer<bool>),
    ChangeVersion(Box<Version>, Answer<bool>),
    DeleteVersion(Digest, Answer<Removal>),
    MakeExample(PredictionId, Answer<bool>),
    RemoveData(u64, u32, Answer<u64>),
    AddFiles(Vec<File>, Answer<()>),
    DeleteFile(FileId, Answer<bool>),
    ExpireFiles(u64, u32, Answer<u64>),
    CreateDeployment(Box<Deployment>, Answer<bool>),
    AddRelease(ModelName, Box<Release>, Answer<bool>),
    DeleteDeployment(ModelName, Answer<Removal>),
    PutWebhook(DueWebhook, Answer<()>),
    SettleWebhook(PredictionId, Answer<()>),
}

impl ModelJob {
    pub async fn run(self, w: &mut Writer) {
        match self {
            Self::CreateModel(model, a) => reply(a, w, async |c| create_model(c, &model).await).await,
            Self::ChangeModel(name, change, a) => {
                reply(a, w, async |c| change_model(c, &name, *change).await).await;
            }
            Self::DeleteModel(name, a) => reply(a, w, async |c| delete_model(c, &name).await).await,
            Self::AddVersion(version, a) => reply(a, w, async |c| add_version(c, &version).await).await,
            Self::ChangeVersion(version, a) => {
                reply(a, w, async |c| change_version(c, &version).await).await;
            }
            Self::DeleteVersion(id, a) => reply(a, w, async |c| delete_version(c, id).await).await,
            Self::MakeExample(id, a) => reply(a, w, async |c| make_example(c, id).await).await,
            Self::RemoveData(before, limit, a) => {
                reply(a, w, async |c| remove_data(c, before, limit).await).await;
            }
            Self::AddFiles(files, a) => reply(a, w, async |c| add_files(c, &files).await).await,
            Self::DeleteFile(id, a) => reply(a, w, async |c| delete_file(c, id).await).await,
            Self::ExpireFiles(now, limit, a) => {
                reply(a, w, async |c| expire_files(c, now, limit).await).await;
            }
            Self::CreateDeployment(deployment, a) => {
                reply(a, w, async |c| create_deployment(c, &deployment).await).await;
            }
            Self::AddRelease(name, release, a) => {
                reply(a, w, async |c| add_release(c, &name, &release).await).await;
            }
            Self::DeleteDeployment(name, a) => reply(a, w, async |c| delete_deployment(c, &name).await).await,
            Self::PutWebhook(webhook, a) => {
                reply(a, w, async |c| predictions::put_webhook(c, &webhook).await).await;
            }
            Self::SettleWebhook(id, a) => reply(a, w, async |c| settle_webhook(c, id).await).await,
        }
    }
}

async fn create_model(connection: &mut SqliteConnection, model: &Model) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "INSERT INTO models (owner, name, created_ms, latest, latest_ms, runs, body) VALUES (?, ?, ?, NULL, 0, 0, ?)
         ON CONFLICT DO NOTHING",
    )
    .bind(model.name.owner())
    .bind(model.name.name())
    .bind(model.created_ms as i64)
    .bind(text(model)?)
    .execute(connection)
    .await
    .map_err(failed("create model"))?;
    Ok(done.rows_affected() == 1)
}

/// The model with its number.
async fn find_model(
    connection: &mut SqliteConnection,
    name: &ModelName,
) -> Result<Option<(i64, Model)>, StoreError> {
    let row = sqlx::query(read::MODEL).bind(name.owner()).bind(name.name()).fetch_optional(connection).await;
    let row = row.map_err(failed("read model"))?;
    row.map(|row| Ok((row.get("number"), read::model_of(&row)?))).transpose()
}

async fn change_model(
    connection: &mut SqliteConnection,
    name: &ModelName,
    change: ModelChange,
) -> Result<bool, StoreError> {
    let Some((number, mut model)) = find_model(connection, name).await? else { return Ok(false) };
    let (texts, new) = (&mut model.texts, change.texts);
    let places = [
        (&mut texts.description, new.description),
        (&mut texts.readme, new.readme),
        (&mut texts.github_url, new.github_url),
        (&mut texts.paper_url, new.paper_url),
        (&mut texts.license_url, new.license_url),
        (&mut texts.weights_url, new.weights_url),
        (&mut texts.cover_image_url, new.cover_image_url),
    ];
    for (place, new) in places {
        *place = new.or(place.take());
    }
    model.visibility = change.visibility.unwrap_or(model.visibility);
    model.configuration = change.configuration.unwrap_or(model.configuration);
    model.default_example = change.default_example.unwrap_or(model.default_example);
    let query = sqlx::query("UPDATE models SET body = ? WHERE number = ?").bind(text(&model)?).bind(number);
    query.execute(connection).await.map_err(failed("change model"))?;
    Ok(true)
}

async fn delete_model(connection: &mut SqliteConnection, name: &ModelName) -> Result<Removal, StoreError> {
    let Some((number, _)) = find_model(connection, name).await? else { return Ok(Removal::Absent) };
    let failed = failed("delete model");
    let versions: i64 = sqlx::query("SELECT count(*) FROM versions WHERE model = ?")
        .bind(number)
        .fetch_one(&mut *connection)
        .await
        .map_err(&failed)?
        .get(0);
    if versions > 0 {
        let by = format!("{versions} version{}", if versions == 1 { "" } else { "s" });
        return Ok(Removal::Used { by });
    }
    let query = sqlx::query("DELETE FROM models WHERE number = ?").bind(number);
    query.execute(connection).await.map_err(&failed)?;
    Ok(Removal::Removed)
}

async fn add_version(connection: &mut SqliteConnection, version: &Version) -> Result<bool, StoreError> {
    let failed = failed("add version");
    let found = find_model(connection, &version.model).await?;
    let (model, _) =
        found.ok_or_else(|| StoreError::Record(format!("there is no model {}", version.model)))?;
    let done = sqlx::query(
        "INSERT INTO versions (id, model, created_ms, body) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
    )
    .bind(version.id.as_bytes().to_vec())
    .bind(model)
    .bind(version.created_ms as i64)
    .bind(text(version)?)
    .execute(&mut *connection)
    .await
    .map_err(&failed)?;
    if done.rows_affected() == 0 {
        return Ok(false);
    }
    set_latest(connection, model).await?;
    Ok(true)
}

async fn change_version(connection: &mut SqliteConnection, version: &Version) -> Result<bool, StoreError> {
    let query = sqlx::query("UPDATE versions SET body = ? WHERE id = ?").bind(text(version)?);
    let done = query.bind(version.id.as_bytes().to_vec()).execute(connection).await;
    Ok(done.map_err(failed("change version"))?.rows_affected() == 1)
}

async fn set_latest(connection: &mut SqliteConnection, model: i64) -> Result<(), StoreError> {
    const NEWEST: &str = "FROM versions WHERE model = ?1 ORDER BY number DESC LIMIT 1";
    let text = format!(
        "UPDATE models SET latest = (SELECT id {NEWEST}),
            latest_ms = coalesce((SELECT created_ms {NEWEST}), 0) WHERE number = ?1"
    );
    sqlx::query(&text).bind(model).execute(connection).await.map_err(failed("set latest version"))?;
    Ok(())
}

async fn delete_version(connection: &mut SqliteConnection, id: Digest) -> Result<Removal, StoreError> {
    let failed = failed("delete version");
    let bytes = id.as_bytes().to_vec();
    let found = sqlx::query(read::VERSION).bind(&bytes).fetch_optional(&mut *connection).await;
    let Some(found) = found.map_err(&failed)? else { return Ok(Removal::Absent) };
    let user = sqlx::query("SELECT owner, name FROM deployments WHERE version = ? LIMIT 1").bind(&bytes);
    if let Some(user) = user.fetch_optional(&mut *connection).await.map_err(&failed)? {
        let (owner, name): (&str, &str) = (user.get("owner"), user.get("name"));
        return Ok(Removal::Used { by: format!("deployment {owner}/{name}") });
    }
    let query = sqlx::query("DELETE FROM versions WHERE id = ?").bind(&bytes);
    query.execute(&mut *connection).await.map_err(&failed)?;
    set_latest(connection, found.get("model")).await?;
    Ok(Removal::Removed)
}

async fn make_example(connection: &mut SqliteConnection, id: PredictionId) -> Result<bool, StoreError> {
    let query = sqlx::query("UPDATE predictions SET example = 1 WHERE id = ?");
    let done = query.bind(id_bytes(id)).execute(connection).await;
    Ok(done.map_err(failed("make example"))?.rows_affected() == 1)
}

pub const OLD_DATA: &str = "SELECT number, id, body, iif(input_len IS NULL, NULL, input) AS input,
        iif(output_len IS NULL, NULL, output) AS output
    FROM predictions WHERE removed = 0 AND completed_ms IS NOT NULL AND completed_ms < ?
        AND example = 0
    ORDER BY completed_ms LIMIT ?";

async fn remove_data(
    connection: &mut SqliteConnection,
    before_ms: u64,
    limit: u32,
) -> Result<u64, StoreError> {
    let failed = failed("remove data");
    let old = sqlx::query(OLD_DATA).bind(before_ms as i64).bind(limit).fetch_all(&mut *connection).await;
    let old = old.map_err(&failed)?;
    let mut uses = HashMap::new();
    for row in &old {
        for column in ["input", "output"] {
            if row.get::<Option<Vec<u8>>, _>(column).is_some() {
                *uses.entry(rows::digest(row, column)?).or_insert(0) -= 1;
            }
        }
        let record = Prediction { data_removed: true, ..body(row)? };
        sqlx::query(
            "UPDATE predictions SET removed = 1, body = ?, logs = '', input = NULL, input_len = NULL, output = NULL,
                output_len = NULL WHERE number = ?",
        )
        .bind(text(&record)?)
        .bind(row.get::<i64, _>("number"))
        .execute(&mut *connection)
        .await
        .map_err(&failed)?;
        let query = sqlx::query("DELETE FROM files WHERE prediction = ? RETURNING digest");
        let gone = query.bind(id_bytes(record.id)).fetch_all(&mut *connection).await.map_err(&failed)?;
        forget(&mut uses, &gone)?;
    }
    give_back(connection, uses).await?;
    Ok(old.len() as u64)
}

fn forget(uses: &mut HashMap<Digest, i64>, gone: &[sqlx::sqlite::SqliteRow]) -> Result<(), StoreError> {
    for row in gone {
        *uses.entry(rows::digest(row, "digest")?).or_insert(0) -= 1;
    }
    Ok(())
}

async fn give_back(connection: &mut SqliteConnection, uses: HashMap<Digest, i64>) -> Result<(), StoreError> {
    if uses.is_empty() {
        return Ok(());
    }
    blob_uses(connection, uses).await.map_err(failed("count payloads"))
}

async fn add_files(connection: &mut SqliteConnection, files: &[File]) -> Result<(), StoreError> {
    let mut uses = HashMap::new();
    for file in files {
        sqlx::query(
            "INSERT INTO files (id, expires_ms, prediction, digest, body) VALUES (?, ?, ?, ?, ?)
             ON CONFLICT (id) DO NOTHING",
        )
        .bind(file.id.to_bytes().to_vec())
        .bind(file.expires_ms.min(i64::MAX as u64) as i64)
        .bind(file.prediction.map(id_bytes))
        .bind(file.sha256.as_bytes().to_vec())
        .bind(text(file)?)
        .execute(&mut *connection)
        .await
        .map_err(failed("add file"))?;
        *uses.entry(file.sha256).or_insert(0) += 1;
    }
    give_back(connection, uses).await
}

async fn delete_file(connection: &mut SqliteConnection, id: FileId) -> Result<bool, StoreError> {
    let query = sqlx::query("DELETE FROM files WHERE id = ? RETURNING digest").bind(id.to_bytes().to_vec());
    let gone = query.fetch_all(&mut *connection).await.map_err(failed("delete file"))?;
    let mut uses = HashMap::new();
    forget(&mut uses, &gone)?;
    give_back(connection, uses).await?;
    Ok(!gone.is_empty())
}

async fn expire_files(connection: &mut SqliteConnection, now_ms: u64, limit: u32) -> Result<u64, StoreError> {
    let gone = sqlx::query(
        "DELETE FROM files WHERE number IN
            (SELECT number FROM files WHERE expires_ms < ? ORDER BY expires_ms LIMIT ?) RETURNING digest",
    )
    .bind(now_ms as i64)
    .bind(limit)
    .fetch_all(&mut *connection)
    .await
    .map_err(failed("expire files"))?;
    let mut uses = HashMap::new();
    forget(&mut uses, &gone)?;
    give_back(connection, uses).await?;
    Ok(gone.len() as u64)
}

async fn create_deployment(
    connection: &mut SqliteConnection,
    deployment: &Deployment,
) -> Result<bool, StoreError> {
    let failed = failed("create deployment");
    let release = &deployment.current;
    let made = sqlx::query(
        "INSERT INTO deployments (owner, name, created_ms, release, version) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT DO NOTHING RETURNING number",
    )
    .bind(deployment.name.owner())
    .bind(deployment.name.name())
    .bind(deployment.created_ms as i64)
    .bind(release.number)
    .bind(release.version.as_bytes().to_vec())
    .fetch_optional(&mut *connection)
    .await
    .map_err(&failed)?;
    let Some(made) = made else { return Ok(false) };
    insert_release(connection, made.get("number"), release).await?;
    Ok(true)
}

async fn insert_release(
    connection: &mut SqliteConnection,
    deployment: i64,
    release: &Release,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO releases (deployment, number, body) VALUES (?, ?, ?)")
        .bind(deployment)
        .bind(release.number)
        .bind(text(release)?)
        .execute(connection)
        .await
        .map_err(failed("add release"))?;
    Ok(())
}

async fn add_release(
    connection: &mut SqliteConnection,
    name: &ModelName,
    release: &Release,
) -> Result<bool, StoreError> {
    let changed = sqlx::query(
        "UPDATE deployments SET release = ?1, version = ?2 WHERE owner = ?3 AND name = ?4 AND release = ?1 - 1
         RETURNING number",
    )
    .bind(release.number)
    .bind(release.version.as_bytes().to_vec())
    .bind(name.owner())
    .bind(name.name())
    .fetch_optional(&mut *connection)
    .await
    .map_err(failed("add release"))?;
    let Some(changed) = changed else { return Ok(false) };
    insert_release(connection, changed.get("number"), release).await?;
    Ok(true)
}

async fn delete_deployment(
    connection: &mut SqliteConnection,
    name: &ModelName,
) -> Result<Removal, StoreError> {
    let failed = failed("delete deployment");
    let gone = sqlx::query("DELETE FROM deployments WHERE owner = ? AND name = ? RETURNING number")
        .bind(name.owner())
        .bind(name.name())
        .fetch_optional(&mut *connection)
        .await
        .map_err(&failed)?;
    let Some(gone) = gone else { return Ok(Removal::Absent) };
    let query = sqlx::query("DELETE FROM releases WHERE deployment = ?").bind(gone.get::<i64, _>("number"));
    query.execute(connection).await.map_err(&failed)?;
    Ok(Removal::Removed)
}

async fn settle_webhook(connection: &mut SqliteConnection, id: PredictionId) -> Result<(), StoreError> {
    let query = sqlx::query("DELETE FROM webhooks WHERE prediction = ?").bind(id_bytes(id));
    query.execute(connection).await.map_err(failed("settle webhook"))?;
    Ok(())
}
