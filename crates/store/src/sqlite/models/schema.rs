//! The tables of models.
//!
//! | table | key | what |
//! |---|---|---|
//! | `models` | owner, name | `latest` is the newest version, `runs` counts |
//! | `versions` | number, in the order of creation; id | |
//! | `predictions` | number; id | `body` is the record without input, output and logs, which may be large and stand last |
//! | `files` | number; id | what a blob of payloads is called, and until when |
//! | `deployments`, `releases` | number; deployment, release number | |
//! | `webhooks` | prediction | ends that are to be sent |

pub const TABLES: &str = "
    CREATE TABLE models (
        number INTEGER PRIMARY KEY, owner TEXT NOT NULL, name TEXT NOT NULL, created_ms INTEGER NOT NULL,
        latest BLOB, latest_ms INTEGER NOT NULL, runs INTEGER NOT NULL, body TEXT NOT NULL, UNIQUE (owner, name)
    );
    CREATE INDEX models_by_version ON models (latest_ms, number);
    CREATE TABLE versions (
        number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, model INTEGER NOT NULL REFERENCES models (number),
        created_ms INTEGER NOT NULL, body TEXT NOT NULL
    );
    CREATE INDEX versions_by_model ON versions (model, number);
    CREATE TABLE predictions (
        number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, kind INTEGER NOT NULL, model TEXT NOT NULL,
        version BLOB NOT NULL, source INTEGER NOT NULL, created_ms INTEGER NOT NULL, completed_ms INTEGER,
        removed INTEGER NOT NULL, example INTEGER NOT NULL, body TEXT NOT NULL,
        input_len INTEGER, input BLOB, output_len INTEGER, output BLOB, logs TEXT NOT NULL
    );
    CREATE INDEX predictions_by_kind ON predictions (kind, id);
    CREATE INDEX predictions_by_model ON predictions (kind, model, id);
    CREATE INDEX predictions_by_version ON predictions (kind, version, id);
    CREATE INDEX predictions_by_web ON predictions (kind, id) WHERE source = 1;
    CREATE INDEX predictions_unfinished ON predictions (id) WHERE completed_ms IS NULL;
    CREATE INDEX predictions_kept ON predictions (completed_ms) WHERE removed = 0 AND completed_ms IS NOT NULL;
    CREATE INDEX predictions_examples ON predictions (model, id) WHERE example = 1;
    CREATE TABLE files (
        number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, expires_ms INTEGER NOT NULL, prediction BLOB,
        digest BLOB NOT NULL, body TEXT NOT NULL
    );
    CREATE INDEX files_by_expiry ON files (expires_ms);
    CREATE INDEX files_by_prediction ON files (prediction) WHERE prediction IS NOT NULL;
    CREATE INDEX files_uploaded ON files (number) WHERE prediction IS NULL;
    CREATE TABLE deployments (
        number INTEGER PRIMARY KEY, owner TEXT NOT NULL, name TEXT NOT NULL, created_ms INTEGER NOT NULL,
        release INTEGER NOT NULL, version BLOB NOT NULL, UNIQUE (owner, name)
    );
    CREATE INDEX deployments_by_version ON deployments (version);
    CREATE TABLE releases (
        deployment INTEGER NOT NULL, number INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (deployment, number)
    ) WITHOUT ROWID;
    CREATE TABLE webhooks (
        prediction BLOB PRIMARY KEY, due_ms INTEGER NOT NULL, attempts INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX webhooks_by_time ON webhooks (due_ms);
";
