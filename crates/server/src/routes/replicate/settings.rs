//! What an operator may set about this API, and what it remembers between requests.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use clunk_agent::replica::now_ms;
use clunk_core::Digest;
use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_core::model::{ModelName, PredictionId};
use clunk_dialects::replicate::limit::{Bucket, Standing};

/// Requests per minute when nothing is set: the operator's own clients are not refused, and a loop gone wild still is.
const DEFAULT_PER_MINUTE: u64 = 6_000_000;
const DEFAULT_ACCOUNT: &str = "clunk";
/// Predictions whose client waits for them, and versions, that are remembered: a few megabytes.
const MAX_REMEMBERED: usize = 10_000;

#[derive(Debug, Clone)]
pub struct Settings {
    /// The owner of deployments, and who `GET /account` says one is: CLUNK_ACCOUNT.
    pub account: String,
    /// Predictions and trainings made per minute: CLUNK_PREDICTIONS_PER_MINUTE.
    pub creates_per_minute: u64,
    /// All other requests: CLUNK_REQUESTS_PER_MINUTE.
    pub requests_per_minute: u64,
}

impl Settings {
    pub fn from_env() -> Result<Self, ErrorBody> {
        let text = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        let number = |name: &str| match text(name).map(|text| text.parse::<u64>()) {
            None => Ok(DEFAULT_PER_MINUTE),
            Some(Ok(number)) if number > 0 => Ok(number),
            Some(_) => {
                let text = format!("{name} must be a number of requests per minute, from 1");
                Err(ErrorBody::new(ErrorCode::BadRequest, text))
            }
        };
        let account = text("CLUNK_ACCOUNT").unwrap_or_else(|| DEFAULT_ACCOUNT.into());
        ModelName::new(&account, "x").map_err(|_| {
            let text = format!("CLUNK_ACCOUNT is no name: {account:?}");
            ErrorBody::new(ErrorCode::BadRequest, text)
                .hint("use lower-case letters, digits, `-`, `_` or `.`")
        })?;
        Ok(Self {
            account,
            creates_per_minute: number("CLUNK_PREDICTIONS_PER_MINUTE")?,
            requests_per_minute: number("CLUNK_REQUESTS_PER_MINUTE")?,
        })
    }
}

/// What a version gives in parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Streams {
    Nothing,
    Values,
    Files,
}

/// What this API remembers. Losing it costs nothing but a look-up, or a plain address where a data URL was nicer.
pub struct Dialect {
    pub settings: Settings,
    creates: Mutex<Bucket>,
    others: Mutex<Bucket>,
    waited: Mutex<Recent>,
    streams: Mutex<HashMap<Digest, Streams>>,
}

/// The last ids of many.
#[derive(Default)]
struct Recent {
    order: VecDeque<PredictionId>,
    known: HashSet<PredictionId>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Dialect {
    pub fn new(settings: Settings) -> Self {
        let now = now_ms();
        Self {
            creates: Mutex::new(Bucket::new(settings.creates_per_minute, now)),
            others: Mutex::new(Bucket::new(settings.requests_per_minute, now)),
            waited: Mutex::default(),
            streams: Mutex::default(),
            settings,
        }
    }

    /// Counts a request.
    pub fn count(&self, is_create: bool) -> Standing {
        let bucket = if is_create { &self.creates } else { &self.others };
        locked(bucket).take(now_ms())
    }

    /// A client asked for this prediction with `Prefer: wait`.
    pub fn remember_waited(&self, id: PredictionId) {
        let mut recent = locked(&self.waited);
        if recent.known.insert(id) {
            recent.order.push_back(id);
        }
        if recent.order.len() > MAX_REMEMBERED
            && let Some(oldest) = recent.order.pop_front()
        {
            recent.known.remove(&oldest);
        }
    }

    pub fn was_waited(&self, id: PredictionId) -> bool {
        locked(&self.waited).known.contains(&id)
    }

    /// What a version streams, if that is known: versions do not change.
    pub fn streams(&self, version: Digest) -> Option<Streams> {
        locked(&self.streams).get(&version).copied()
    }

    pub fn remember_streams(&self, version: Digest, streams: Streams) {
        let mut known = locked(&self.streams);
        if known.len() >= MAX_REMEMBERED {
            known.clear();
        }
        known.insert(version, streams);
    }
}
