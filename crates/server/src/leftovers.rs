//! Removes uploaded files that nothing refers to any more: trees, laid out or not, and the blobs that they are made from.
//!
//! What refers to a tree: a function of an app that runs or will run again, a server of a model, an image's recipe. A tree
//! that lost its last function because a version of a model was deleted goes soon; others stay for the next `clunk run`.
//! Somebody may be about to refer to what was just uploaded, or asked for: it stays for a while in any case.
//!
//! Nothing is lost by a kill: files are taken out by one rename each into a folder that is cleared at the next start, and
//! only while nobody begins to use a tree. What was not taken out by then is found by its age.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use clunk_core::Digest;
use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_core::tree::Tree;
use clunk_store::Blobs;
use tokio::sync::Notify;

use crate::answer::store_error;
use crate::server::Server;

/// From an upload, or its being asked for, to the app that refers to it; images are built meanwhile.
const KEEP_UPLOADS: Duration = Duration::from_secs(3600);
/// The same in seconds, for those who want another time.
const KEEP_UPLOADS_VARIABLE: &str = "CLUNK_KEEP_UPLOADS_S";
/// What no function refers to, since it was last uploaded or asked for: a project that is run again need not send it.
const KEEP_UNUSED: Duration = Duration::from_secs(7 * 86_400);
/// How often it is looked at when nothing was deleted.
const PERIOD: Duration = Duration::from_secs(3600);
/// Until those who begin to use trees leave a moment for removing some.
const LOCK_PAUSE: Duration = Duration::from_secs(1);
/// Tries to get that moment; then it waits for the next period.
const MAX_TRIES: u32 = 600;
/// Trees that were let go and are too young to be removed; more go by their age.
const MAX_RELEASED: usize = 10_000;

/// Trees that deleted functions referred to.
#[derive(Default)]
pub struct Released {
    trees: Mutex<HashSet<Digest>>,
    changed: Notify,
}

impl Released {
    /// A function that will not run again referred to them.
    pub fn add(&self, trees: &[Digest]) {
        let mut released = self.trees.lock().expect("no panic while locked");
        let room = MAX_RELEASED.saturating_sub(released.len());
        released.extend(trees.iter().take(room));
        drop(released);
        self.changed.notify_one();
    }

    fn all(&self) -> HashSet<Digest> {
        self.trees.lock().expect("no panic while locked").clone()
    }

    fn settle(&self, gone: impl Fn(&Digest) -> bool) {
        self.trees.lock().expect("no panic while locked").retain(|tree| !gone(tree));
    }
}

/// What of the uploads may go.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    keep_uploads: Duration,
    keep_unused: Duration,
}

impl Terms {
    pub fn usual() -> Self {
        let said = std::env::var(KEEP_UPLOADS_VARIABLE).ok().and_then(|text| text.trim().parse().ok());
        Self { keep_uploads: said.map_or(KEEP_UPLOADS, Duration::from_secs), keep_unused: KEEP_UNUSED }
    }

    /// For somebody who asks for room.
    pub fn at_once() -> Self {
        let usual = Self::usual();
        Self { keep_unused: usual.keep_uploads, ..usual }
    }
}

/// Runs until the server stops.
pub async fn sweep(server: Arc<Server>) {
    let terms = Terms::usual();
    loop {
        tokio::select! {
            result = patiently(&server, terms) => if let Err(error) = result {
                tracing::error!(%error, "could not remove files that nothing refers to");
            },
            () = server.stopping.cancelled() => return,
        }
        // What has just been let go is looked at again when it may go.
        let wait =
            if server.engine.released.all().is_empty() { PERIOD } else { terms.keep_uploads.min(PERIOD) };
        tokio::select! {
            () = server.engine.released.changed.notified() => {}
            () = tokio::time::sleep(wait.max(LOCK_PAUSE)) => {}
            () = server.stopping.cancelled() => return,
        }
    }
}

/// At a moment when nobody begins to use a tree, without keeping anybody waiting for it.
async fn patiently(server: &Server, terms: Terms) -> Result<(), ErrorBody> {
    // Most of the time there is nothing: that is found out beside everybody.
    let mut seen = Seen::default();
    if Plan::make(server, terms, &mut seen).await?.is_empty() {
        return Ok(());
    }
    for _ in 0..MAX_TRIES {
        if let Ok(_alone) = server.engine.removing.try_write() {
            let plan = Plan::make(server, terms, &mut seen).await?;
            let aside = plan.put_aside(server).await?;
            drop(_alone);
            let freed = remove(aside).await;
            tracing::info!(freed_bytes = freed, "removed files that nothing refers to");
            return Ok(());
        }
        tokio::time::sleep(LOCK_PAUSE).await;
    }
    Ok(())
}

/// Removes what may go; says how many bytes that freed. The caller holds `removing`.
pub async fn once(server: &Server, terms: Terms) -> Result<u64, ErrorBody> {
    let plan = Plan::make(server, terms, &mut Seen::default()).await?;
    Ok(remove(plan.put_aside(server).await?).await)
}

/// Blobs of trees that were read.
type Seen = HashMap<Digest, Vec<Digest>>;

/// What nothing refers to and is old enough.
struct Plan {
    blobs: Vec<Digest>,
    trees: HashSet<Digest>,
    /// What nothing refers to and is not old enough yet.
    young: HashSet<Digest>,
    unused_since: SystemTime,
}

impl Plan {
    async fn make(server: &Server, terms: Terms, seen: &mut Seen) -> Result<Self, ErrorBody> {
        let engine = &server.engine;
        let mut used = engine.in_use().await?.trees;
        let (released, images, blobs) = (engine.released.all(), engine.images.clone(), server.blobs.clone());
        let mut known = std::mem::take(seen);
        let planned = tokio::task::spawn_blocking(move || {
            used.extend(images.recipe_trees());
            let kept = contents(&blobs, &used, &mut known)?;
            let freed = contents(&blobs, &released, &mut known)?;
            let now = SystemTime::now();
            let before = |age: Duration| now.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
            let (upload, unused) = (before(terms.keep_uploads), before(terms.keep_unused));
            let mut plan = Self {
                blobs: Vec::new(),
                trees: HashSet::new(),
                young: HashSet::new(),
                unused_since: upload,
            };
            let mut present = HashSet::new();
            for (digest, time) in blobs.used().map_err(|error| store_error(&error))? {
                present.insert(digest);
                if kept.contains(&digest) {
                    continue;
                }
                if time < unused || (time < upload && freed.contains(&digest)) {
                    plan.blobs.push(digest);
                } else {
                    plan.young.insert(digest);
                }
            }
            plan.trees = images.trees().into_iter().collect();
            let gone: HashSet<_> = plan.blobs.iter().collect();
            plan.trees
                .retain(|tree| !used.contains(tree) && (gone.contains(tree) || !present.contains(tree)));
            Ok::<_, ErrorBody>((plan, known))
        });
        let planned =
            planned.await.map_err(|error| ErrorBody::new(ErrorCode::Internal, error.to_string()))?;
        let (plan, known) = planned?;
        *seen = known;
        engine.released.settle(|tree| !plan.young.contains(tree) && !plan.blobs.contains(tree));
        Ok(plan)
    }

    fn is_empty(&self) -> bool {
        self.blobs.is_empty() && self.trees.is_empty()
    }

    async fn put_aside(self, server: &Server) -> Result<Aside, ErrorBody> {
        let (images, blobs) = (server.engine.images.clone(), server.blobs.clone());
        let put = tokio::task::spawn_blocking(move || {
            let layers = images.put_trees_aside(|tree| !self.trees.contains(&tree));
            let mut aside = Aside { layers: layers.map_err(|error| error.body())?, blobs: Vec::new() };
            for digest in self.blobs {
                let path = blobs.put_aside(digest, self.unused_since).map_err(|error| store_error(&error))?;
                aside.blobs.extend(path);
            }
            Ok(aside)
        });
        put.await.map_err(|error| ErrorBody::new(ErrorCode::Internal, error.to_string()))?
    }
}

/// The trees themselves and the blobs in them.
fn contents(blobs: &Blobs, trees: &HashSet<Digest>, seen: &mut Seen) -> Result<HashSet<Digest>, ErrorBody> {
    let mut all = trees.clone();
    for digest in trees {
        if let Some(inside) = seen.get(digest) {
            all.extend(inside);
            continue;
        }
        // Of one that is not here nothing can be made.
        let Some(text) = blobs.read(*digest).map_err(|error| store_error(&error))? else { continue };
        let Ok(tree) = serde_json::from_slice::<Tree>(&text) else { continue };
        let inside: Vec<_> = tree.blobs().map(|(digest, _)| digest).collect();
        all.extend(&inside);
        seen.insert(*digest, inside);
    }
    Ok(all)
}

struct Aside {
    layers: clunk_image::Aside,
    blobs: Vec<std::path::PathBuf>,
}

async fn remove(aside: Aside) -> u64 {
    let removing = tokio::task::spawn_blocking(move || {
        // First the trees: of what shares its room with a blob, the blob is counted.
        let _ = aside.layers.remove();
        let mut freed = 0;
        for path in aside.blobs {
            let bytes = std::fs::metadata(&path).map_or(0, |meta| meta.len());
            match std::fs::remove_file(&path) {
                Ok(()) => freed += bytes,
                Err(error) => tracing::warn!(path = %path.display(), %error, "could not remove a blob"),
            }
        }
        freed
    });
    removing.await.unwrap_or(0)
}
