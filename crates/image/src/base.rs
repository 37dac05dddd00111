//! The first step: which base a recipe means now, and its layers.

use std::collections::HashSet;
use std::sync::Arc;

use clunk_core::recipe::Base;
use clunk_core::{Digest, ErrorCode};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::context::Context;
use crate::debian::{self, Bootstrap, Mirror, Releases, Suite};
use crate::flight::{Flights, Log};
use crate::image::{Chain, ImageConfig, LayerRef};
use crate::layer::{now_ms, read_json, write_json};
use crate::{BuildEvent, ImageError, oci};

/// A Debian base is looked up again after this; security updates of Python are rarer.
const DEBIAN_FRESH_MS: u64 = 14 * 24 * 3600 * 1000;

/// A tag is asked for again after this: builds in a row agree on what it means, and a new push is soon seen.
const TAG_FRESH_MS: u64 = 5 * 60 * 1000;

/// What a name stood for when it was last asked, in `bases/`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct BaseRecord {
    pub chain: Chain,
    /// What the base was made of.
    pub version: Digest,
    /// Counted up by a forced build, so that all steps above are built again too.
    pub generation: u64,
    pub checked_ms: u64,
    /// Stays while an image uses it; what we made ourselves stays in any case.
    pub foreign: bool,
}

#[derive(Default)]
pub(crate) struct Bases {
    flights: Flights<Chain>,
    layers: Arc<Flights<()>>,
}

impl Bases {
    /// The base of a recipe, made when missing.
    pub async fn find(
        &self,
        context: &Arc<Context>,
        base: &Base,
        force: bool,
        events: &mpsc::Sender<BuildEvent>,
    ) -> Result<Chain, ImageError> {
        let key = base_key(base)?;
        if !force && let Some(chain) = self.known(context, base)? {
            return Ok(chain);
        }
        let (context, base, layers) = (context.clone(), base.clone(), self.layers.clone());
        self.flights
            .join(key, events, |log| async move { make(&context, &layers, &base, key, force, log).await })
            .await
    }

    /// The base as it was last found, when that is recent and its layers are there.
    pub fn known(&self, context: &Context, base: &Base) -> Result<Option<Chain>, ImageError> {
        let Some(record) = read(context, base_key(base)?) else { return Ok(None) };
        let fresh_ms = match base {
            Base::DebianSlim { .. } => DEBIAN_FRESH_MS,
            Base::Registry { reference, .. } if oci::is_pinned(reference) => u64::MAX / 2,
            Base::Registry { .. } => TAG_FRESH_MS,
        };
        Ok((now_ms() < record.checked_ms + fresh_ms).then_some(record.chain))
    }

    /// Forgets registry images that no image of ours uses; returns the layers of all other bases, which stay when
    /// images are pruned: the next build wants them.
    pub fn prune(&self, context: &Context, used: &HashSet<LayerRef>) -> Vec<LayerRef> {
        let Ok(folder) = std::fs::read_dir(context.layers.state().join("bases")) else { return Vec::new() };
        let mut kept = Vec::new();
        for path in folder.flatten().map(|entry| entry.path()) {
            let Ok(record) = read_json::<BaseRecord>(&path) else { continue };
            if record.foreign && !record.chain.stack.iter().any(|layer| used.contains(layer)) {
                let _ = std::fs::remove_file(&path);
            } else {
                kept.extend(record.chain.stack);
            }
        }
        kept
    }
}

fn base_key(base: &Base) -> Result<Digest, ImageError> {
    Ok(match base {
        Base::DebianSlim { python } => {
            let suite = Suite::for_python(python.as_deref())?;
            Digest::of_json(&("debian", debian::RECIPE_VERSION, suite.name, debian::architecture()))
        }
        Base::Registry { reference, credentials } => {
            // What one may pull another may not: each with their own record.
            let who = credentials.as_ref().map(|who| Digest::of_json(&(&who.username, &who.password)));
            Digest::of_json(&("registry", reference, who))
        }
    })
}

fn read(context: &Context, key: Digest) -> Option<BaseRecord> {
    let record: BaseRecord =
        read_json(&context.layers.state().join("bases").join(format!("{key}.json"))).ok()?;
    record.chain.stack.iter().all(|layer| context.layers.exists(layer)).then_some(record)
}

async fn make(
    context: &Arc<Context>,
    layers: &Arc<Flights<()>>,
    base: &Base,
    key: Digest,
    force: bool,
    log: Log,
) -> Result<Chain, ImageError> {
    let old = read(context, key);
    let generation = old.as_ref().map_or(0, |record| record.generation) + u64::from(force);
    let (version, stack, config) = match (find(context, layers, base, &log).await, old) {
        (Ok(found), _) => found,
        // Without a network an old base is better than none.
        (Err(error), Some(old)) if !force && error.code() == ErrorCode::RegistryUnreachable => {
            log.line(&format!("{error}; going on with what was there before"));
            return Ok(old.chain);
        }
        (Err(error), _) => return Err(error),
    };
    let chain = Chain { key: Digest::of_json(&(key, version, generation)), stack, config };
    let foreign = matches!(base, Base::Registry { .. });
    let record = BaseRecord { chain: chain.clone(), version, generation, checked_ms: now_ms(), foreign };
    write_json(&context.layers.state().join("bases").join(format!("{key}.json")), &record)?;
    Ok(chain)
}

/// What the base is now: its version, layers and settings.
async fn find(
    context: &Arc<Context>,
    layers: &Arc<Flights<()>>,
    base: &Base,
    log: &Log,
) -> Result<(Digest, Vec<LayerRef>, ImageConfig), ImageError> {
    match base {
        Base::DebianSlim { python } => {
            let suite = Suite::for_python(python.as_deref())?;
            let (version, layer) = debian(context, suite, log).await?;
            Ok((version, vec![layer], debian::image_config()))
        }
        Base::Registry { reference, credentials } => {
            let found = oci::find(context, reference, credentials.as_ref()).await?;
            let (digest, config) = (found.digest, found.config.clone());
            Ok((digest, found.unpack(context, layers, log).await?, config))
        }
    }
}

async fn debian(
    context: &Arc<Context>,
    suite: &'static Suite,
    log: &Log,
) -> Result<(Digest, LayerRef), ImageError> {
    let mirror = Mirror::find(&context.host)?;
    log.line(&format!("Debian {} from {}", suite.name, mirror.main));
    let releases = Releases::fetch(&context.http, &context.host, &mirror, suite).await?;
    let version = releases.version();
    let layer =
        Digest::of_json(&("debian", debian::RECIPE_VERSION, suite.name, debian::architecture(), version));
    if !context.layers.exists(&LayerRef::Layer(layer)) {
        Bootstrap { context, suite, mirror, releases, log: log.clone() }.run(layer).await?;
    }
    Ok((version, LayerRef::Layer(layer)))
}
