//! The helper process as the asynchronous side sees it.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use clunk_core::id::ContainerId;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{oneshot, watch};

use crate::cgroup::Group;
use crate::fdpass;
use crate::native::Inner;
use crate::port::{RuntimeError, Usage};
use crate::sys;
use crate::wire::{FromHelper, HelperConfig, HostReport, ToHelper};

/// The helper waits this long for another one's lock, then sweeps.
const READY_WAIT: Duration = Duration::from_secs(30);
/// After this long the helper is killed; its containers die with it.
const END_WAIT: Duration = Duration::from_secs(15);

/// A half-made container took the plan.
pub(super) struct Assigned {
    pub pid: u32,
    pub group: Group,
    pub pidfd: OwnedFd,
}

/// How it ended, as the helper saw it.
#[derive(Debug, Clone, Copy)]
pub(super) enum End {
    Cleaned { usage: Usage, out_of_memory: bool },
    Lost,
}

/// One container the helper was asked for.
struct Entry {
    assigned: Option<oneshot::Sender<Result<Assigned, (String, String)>>>,
    ended: watch::Sender<Option<End>>,
    pidfd: Option<OwnedFd>,
}

/// What a new entry's owner waits on.
pub(super) struct Tickets {
    pub assigned: oneshot::Receiver<Result<Assigned, (String, String)>>,
    pub ended: watch::Receiver<Option<End>>,
}

pub(super) struct Link {
    socket: AsyncFd<OwnedFd>,
    pub pid: u32,
    pub report: HostReport,
    alive: AtomicBool,
    entries: Mutex<HashMap<ContainerId, Entry>>,
    finished: watch::Sender<bool>,
}

impl Link {
    /// Starts a helper and waits until it has swept and prepared the host.
    pub(super) async fn open(
        argv: Vec<String>,
        config: HelperConfig,
        owner: Weak<Inner>,
    ) -> Result<Arc<Link>, RuntimeError> {
        let failed = |what: &str, error: io::Error| RuntimeError::Helper(format!("{what}: {error}"));
        let (ours, theirs) = fdpass::pair().map_err(|error| failed("no socket", error))?;
        let Some((program, arguments)) = argv.split_first() else {
            return Err(RuntimeError::Helper("no helper program is configured".into()));
        };
        let child = Command::new(program)
            .args(arguments)
            .env_clear()
            .current_dir("/")
            .stdin(theirs)
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| failed(program, error))?;
        rustix::io::ioctl_fionbio(&ours, true).map_err(|error| failed("no socket", error.into()))?;
        let socket = sys::watch(ours).map_err(|error| failed("no socket", error))?;
        let message = ToHelper::Configure(config);
        fdpass::send(socket.get_ref(), &message, &[])
            .map_err(|error| failed("it took no settings", error))?;
        let ready = tokio::time::timeout(READY_WAIT, receive::<FromHelper>(&socket)).await;
        let report = match ready {
            Ok(Ok(Some((FromHelper::Ready(report), _)))) => report,
            Ok(Err(error)) => return Err(failed("no answer", error)),
            _ => return Err(RuntimeError::Helper("it ended or hung before it was ready".into())),
        };
        if let Some(reason) = report.fatal {
            return Err(RuntimeError::NotPermitted(reason));
        }
        let link = Arc::new(Link {
            socket,
            pid: child.id(),
            report,
            alive: true.into(),
            entries: Mutex::default(),
            finished: watch::Sender::new(false),
        });
        // Ends with the socket; whatever happens in it, it then tells every container's owner.
        tokio::spawn(link.clone().read(child, owner));
        Ok(link)
    }

    pub(super) fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Acquire)
    }

    /// Why containers have no network.
    pub(super) fn no_network(&self) -> Option<String> {
        let HostReport { subnet, network_error, .. } = &self.report;
        subnet.is_none().then(|| network_error.clone().unwrap_or_else(|| "no reason is known".into()))
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<ContainerId, Entry>> {
        self.entries.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Announces a container before the helper is asked for it.
    pub(super) fn enter(&self, id: ContainerId) -> Result<Tickets, RuntimeError> {
        let (assigned, assigned_ticket) = oneshot::channel();
        let (ended, ended_ticket) = watch::channel(None);
        let entry = Entry { assigned: Some(assigned), ended, pidfd: None };
        let mut entries = self.entries();
        if entries.contains_key(&id) {
            let reason = "a container with this id runs already".into();
            return Err(RuntimeError::Start { id, step: "plan".into(), reason });
        }
        entries.insert(id, entry);
        Ok(Tickets { assigned: assigned_ticket, ended: ended_ticket })
    }

    pub(super) fn leave(&self, id: ContainerId) {
        self.entries().remove(&id);
    }

    pub(super) async fn send(&self, message: &ToHelper, fds: &[BorrowedFd<'_>]) -> Result<(), RuntimeError> {
        if !self.is_alive() {
            return Err(RuntimeError::Helper("it ended".into()));
        }
        self.socket
            .async_io(Interest::WRITABLE, |socket| fdpass::try_send(socket, message, fds))
            .await
            .map_err(|error| RuntimeError::Helper(error.to_string()))
    }

    /// Makes the helper end, and every container with it.
    pub(super) fn close(&self) {
        let _ = rustix::net::shutdown(self.socket.get_ref(), rustix::net::Shutdown::Both);
    }

    /// Kills every container, waits until their traces are gone and ends the helper.
    pub(super) async fn shutdown(&self) {
        let mut ends: Vec<_> = {
            let entries = self.entries();
            for pidfd in entries.values().filter_map(|entry| entry.pidfd.as_ref()) {
                let _ = sys::pidfd_signal(pidfd.as_fd(), libc::SIGKILL);
            }
            entries.values().map(|entry| entry.ended.subscribe()).collect()
        };
        let all = async {
            for end in &mut ends {
                let _ = end.wait_for(Option::is_some).await;
            }
        };
        let _ = tokio::time::timeout(END_WAIT, all).await;
        self.close();
        let _ = self.finished.subscribe().wait_for(|finished| *finished).await;
    }

    /// Boxed because losing a helper opens the next one, which reads in turn.
    fn read(self: Arc<Self>, child: Child, owner: Weak<Inner>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            while let Ok(Some((message, fds))) = receive::<FromHelper>(&self.socket).await {
                self.handle(message, fds);
            }
            self.alive.store(false, Ordering::Release);
            self.close();
            reap(child).await;
            self.lose_all(owner).await;
            self.finished.send_replace(true);
        })
    }

    fn handle(&self, message: FromHelper, fds: Vec<OwnedFd>) {
        let mut entries = self.entries();
        match message {
            FromHelper::Ready(_) => {}
            FromHelper::Assigned { id, pid, group } => {
                let Some(pidfd) = fds.into_iter().next() else { return };
                let Some(entry) = entries.get_mut(&id) else { return };
                entry.pidfd = pidfd.try_clone().ok();
                let Some(waiting) = entry.assigned.take() else { return };
                if let Err(Ok(unwanted)) = waiting.send(Ok(Assigned { pid, group, pidfd })) {
                    // Whoever asked for it has stopped waiting.
                    let _ = sys::pidfd_signal(unwanted.pidfd.as_fd(), libc::SIGKILL);
                }
            }
            FromHelper::Refused { id, step, reason } => {
                let Some(mut entry) = entries.remove(&id) else { return };
                if let Some(waiting) = entry.assigned.take() {
                    // Nobody may be waiting any more; then there is nobody to tell.
                    let _ = waiting.send(Err((step, reason)));
                }
            }
            FromHelper::Ended { id, usage, out_of_memory } => {
                if let Some(entry) = entries.remove(&id) {
                    entry.ended.send_replace(Some(End::Cleaned { usage, out_of_memory }));
                }
            }
        }
    }

    /// The helper is gone and its containers are dying: waits for that, has a new helper clean up after them, and
    /// reports each as lost.
    async fn lose_all(&self, owner: Weak<Inner>) {
        let lost: Vec<Entry> = self.entries().drain().map(|(_, entry)| entry).collect();
        for pidfd in lost.iter().filter_map(|entry| entry.pidfd.as_ref()) {
            let _ = sys::pidfd_signal(pidfd.as_fd(), libc::SIGKILL);
        }
        for pidfd in lost.iter().filter_map(|entry| entry.pidfd.as_ref()?.try_clone().ok()) {
            if let Ok(pidfd) = sys::watch(pidfd) {
                let _ = pidfd.readable().await;
            }
        }
        let owner = owner.upgrade();
        if let Some(owner) = owner.filter(|_| !lost.is_empty())
            && let Err(error) = owner.link().await
        {
            tracing::warn!(%error, "no new container helper to clean up after the last one");
        }
        for entry in lost {
            entry.ended.send_replace(Some(End::Lost));
        }
    }
}

async fn reap(mut child: Child) {
    let pid = child.id();
    let waiting = tokio::task::spawn_blocking(move || child.wait());
    if tokio::time::timeout(END_WAIT, waiting).await.is_err() {
        tracing::error!(pid, "the container helper does not end; killing it");
        let _ = sys::kill(pid as i32, libc::SIGKILL);
    }
}

/// The next message from a non-blocking socket.
pub(super) async fn receive<M: serde::de::DeserializeOwned>(
    socket: &AsyncFd<OwnedFd>,
) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
    socket.async_io(Interest::READABLE, |socket| fdpass::try_receive(socket)).await
}
