//! What a build carries from step to step.

use std::collections::BTreeMap;

use clunk_core::Digest;
use tokio::sync::mpsc;

use crate::BuildEvent;
use crate::layer::Pin;
/// One build on its way.
pub(crate) struct Progress<'a> {
    pub events: &'a mpsc::Sender<BuildEvent>,
    /// The base's key: shared apt caches go by it.
    pub base: Digest,
    /// Whether the base is one we made ourselves.
    pub own_base: bool,
    /// Keeps what the build uses from being pruned.
    pub pins: Vec<Pin>,
    /// Variables of ARG lines.
    pub args: BTreeMap<String, String>,
    /// What RUN lines are given to.
    pub shell: Vec<String>,
    pub index: usize,
    pub total: usize,
}

impl Progress<'_> {
    pub async fn announce(&self, title: &str, cached: bool) {
        let event = BuildEvent::Step { index: self.index, total: self.total, title: title.into(), cached };
        let _ = self.events.send(event).await;
    }
}
