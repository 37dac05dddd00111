//! A replica: one container that serves one function version. One task owns it; this is what others hold.
//!
//! ```text
//!   starting --READY--> ready --(STOP, kill, exit, broken link)--> ended
//!       \---START_FAILED, exit, time-out---------------------------^
//! ```

use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_core::id::{AppId, ReplicaId};
use clunk_runtime::{ContainerSpec, Control, Runtime, Usage};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::dial::DialPlace;
use crate::frame::{Kind, control};
use crate::link::{Link, Outgoing};
use crate::logs::AppLog;
use crate::payload::Payload;
use crate::reason::Blame;
use crate::table::{Canceling, Dispatch, Table, Touched};
use crate::task::Task;
use crate::value::{Metric, Value};

/// How long a canceled call may take to end before its process is ended. With the time that takes, code that does not
/// react is gone within a tenth of a second.
pub const CANCEL_GRACE: Duration = Duration::from_millis(75);
/// The same for a call whose process has others, which would end with it; and for one whose code has been told: it may
/// have to put something in order.
pub const LONG_CANCEL_GRACE: Duration = Duration::from_secs(5);

/// What a replica is made from.
pub struct ReplicaSpec {
    pub id: ReplicaId,
    pub app: AppId,
    /// The function's name, for logs.
    pub function: String,
    pub container: ContainerSpec,
    /// Control text of the START frame.
    pub start: String,
    pub startup_timeout: Duration,
    /// Where its life and its output are written; with none its owner alone hears of them.
    pub log: Option<Arc<AppLog>>,
    /// Inputs that one process takes at the same time.
    pub concurrency: u32,
    /// Processes that the program forks to take inputs; with none it takes them itself.
    pub workers: u32,
}

/// Told what becomes of a replica and its calls: by the replica's task, one thing at a time, with no lock held. May
/// send the replica more calls from inside.
pub trait ReplicaOwner: Send + Sync + 'static {
    /// It takes calls, so long after [`Replica::start`]. At most once.
    fn ready(&self, replica: ReplicaId, cold_start: Duration);
    /// A call has ended, after so many microseconds of processor time (0 when it was less than a millisecond).
    fn answered(&self, replica: ReplicaId, number: u64, end: CallEnd, cpu_us: u64);
    /// A generator yielded a value.
    fn yielded(&self, replica: ReplicaId, number: u64, value: Value);
    /// Something was printed; by the call of that number, or by the replica when it is 0.
    fn printed(&self, _replica: ReplicaId, _number: u64, _stream: &str, _text: &str) {}
    /// A call reports something about itself.
    fn metric(&self, _replica: ReplicaId, _number: u64, _metric: Metric) {}
    /// A process of the replica is gone, or calls never reached one; the replica goes on. Why, and whose doing it was.
    fn lost(&self, replica: ReplicaId, numbers: Vec<u64>, error: ErrorBody, blame: Blame);
    /// The container asks for a connection to the server's API. It counts as open until `place` is dropped.
    fn connected(&self, replica: ReplicaId, socket: UnixStream, place: DialPlace);
    /// It is no more, and `lost` are the calls it had. Last and always.
    fn ended(&self, replica: ReplicaId, ended: Ended, lost: Vec<u64>);
}

/// Why a replica is no more.
#[derive(Debug, Clone)]
pub enum Ended {
    /// It was asked to.
    Stopped,
    /// It never became ready: the user's code raised while it was imported or set up.
    Raised(Raised),
    /// It never became ready, for another reason.
    NotStarted { error: ErrorBody, blame: Blame },
    /// It was ready, and went away by itself.
    Crashed { error: ErrorBody, blame: Blame },
}

/// An exception of user code.
#[derive(Debug, Clone)]
pub struct Raised {
    pub kind: String,
    pub message: String,
    pub traceback: String,
    /// The exception package of the runner protocol.
    pub package: Payload,
}

/// How a call on a replica ended.
#[derive(Debug)]
pub enum CallEnd {
    Returned(Value),
    Raised(Raised),
}

/// A running replica; its task ends it when told to, never when this is dropped.
pub struct Replica {
    pub id: ReplicaId,
    pub app: AppId,
    pub function: String,
    pub started_ms: u64,
    pub(crate) born: Instant,
    workers: u32,
    /// To the container's program.
    pub(crate) first: OnceLock<Arc<Link>>,
    pub(crate) control: OnceLock<Arc<dyn Control>>,
    /// Set when it has ended.
    pub(crate) used: OnceLock<Usage>,
    table: Mutex<Table>,
    /// Of the replica's task: orders came, or a link has something to do.
    pub(crate) wake: Arc<Notify>,
}

impl Replica {
    /// Starts a container and the task that owns it. Returns at once.
    pub fn start(spec: ReplicaSpec, runtime: Arc<dyn Runtime>, owner: Arc<dyn ReplicaOwner>) -> Arc<Self> {
        let replica = Arc::new(Self {
            id: spec.id,
            app: spec.app,
            function: spec.function.clone(),
            started_ms: now_ms(),
            born: Instant::now(),
            workers: spec.workers,
            first: OnceLock::new(),
            control: OnceLock::new(),
            used: OnceLock::new(),
            table: Mutex::new(Table::new(spec.concurrency, spec.workers.max(1) as usize)),
            wake: Arc::default(),
        });
        let task = Task { replica: replica.clone(), owner: owner.clone(), log: spec.log.clone() };
        let running = tokio::spawn(task.run(spec, runtime));
        tokio::spawn(survive(running, replica.clone(), owner));
        replica
    }

    /// Gives it calls, together as one batch or each on its own. Never waits: what finds no place on a process (with
    /// workers, the one with the fewest calls) is kept until there is one. False: it takes no more calls.
    pub fn send(&self, calls: &[Dispatch], batch: bool) -> bool {
        let mut touched = Touched::default();
        {
            let mut table = self.table();
            if table.closed {
                return false;
            }
            table.take_in(calls, batch, &mut touched);
        }
        touched.flush();
        true
    }

    /// Asks a call to end. When it has not been answered [`CANCEL_GRACE`] later its process is ended;
    /// [`LONG_CANCEL_GRACE`] later when others run in it, or when its code is dealing with the cancel.
    pub fn cancel(&self, number: u64) {
        let canceling = self.table().cancel(number, Instant::now());
        match canceling {
            Canceling::Done => return,
            Canceling::Waited => {}
            Canceling::Ahead(link) => return link.send_now(Outgoing::bare(Kind::Cancel, number, "")),
            Canceling::Running { link, seat } => {
                link.send_now(Outgoing::bare(Kind::Cancel, number, ""));
                // It answered READY before it got the call: its handler is installed.
                match (self.workers, self.first.get(), self.control.get()) {
                    (0, _, Some(control)) => control.signal(rustix::process::Signal::USR1.as_raw()),
                    (0, _, None) | (_, None, _) => {}
                    (_, Some(first), _) => {
                        let text = control([("worker", seat.to_string().as_str())]);
                        first.send_now(Outgoing::bare(Kind::Cancel, 0, &text));
                    }
                }
            }
        }
        self.wake.notify_one();
    }

    /// Lets a generator send so many more values.
    pub fn credit(&self, number: u64, count: u32) {
        let link = self.table().credit(number, count);
        if let Some(link) = link {
            let text = control([("count", count.to_string().as_str())]);
            link.send(Outgoing::bare(Kind::Credit, number, &text));
        }
    }

    /// Asks it to finish what runs and end; kills it after a grace period.
    pub fn stop(&self) {
        let mut table = self.table();
        (table.closed, table.orders.stop) = (true, true);
        drop(table);
        self.wake.notify_one();
    }

    /// Ends every process of it at once.
    pub fn kill(&self) {
        let mut table = self.table();
        (table.closed, table.orders.kill) = (true, true);
        drop(table);
        self.wake.notify_one();
    }

    /// The host's process id of the container, once it runs.
    pub fn pid(&self) -> Option<u32> {
        self.control.get().map(|control| control.pid())
    }

    /// What it uses now; once it has ended, what it used in all.
    pub fn usage(&self) -> Usage {
        let running = || self.control.get().map(|control| control.usage()).unwrap_or_default();
        self.used.get().copied().unwrap_or_else(running)
    }

    /// The container, once it runs.
    pub fn control(&self) -> Option<Arc<dyn Control>> {
        self.control.get().cloned()
    }

    pub(crate) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("no panic while locked")
    }
}

/// Whatever happens to a replica's task, its owner hears of its end and of the calls it had.
async fn survive(running: JoinHandle<()>, replica: Arc<Replica>, owner: Arc<dyn ReplicaOwner>) {
    let Err(panic) = running.await else { return };
    tracing::error!(replica = %replica.id, %panic, "a replica's task panicked");
    if let Some(control) = replica.control.get() {
        control.signal(rustix::process::Signal::KILL.as_raw());
    }
    let error = ErrorBody::new(ErrorCode::Internal, "the server lost track of the container; this is a bug");
    let lost = {
        let mut table = replica.table();
        let mut lost = table.close();
        lost.extend(table.clear());
        lost
    };
    owner.ended(replica.id, Ended::Crashed { error, blame: Blame::Machine }, lost);
}

/// Milliseconds since 1970.
pub fn now_ms() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}
