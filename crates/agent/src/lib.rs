//! One machine's replicas: the runner link, logs, lifecycles.

mod dial;
pub mod frame;
pub mod link;
pub mod logs;
mod mapped;
pub mod payload;
mod pipes;
mod polled;
pub mod reader;
mod reason;
pub mod replica;
mod serving;
mod table;
mod task;
mod value;
mod workers;

pub use dial::{CONNECTIONS_MAX, DialPlace};
pub use logs::{AppLog, LogReader, LogStart, Logs};
pub use mapped::map_sealed;
pub use payload::Payload;
pub use polled::polled;
pub use reason::Blame;
pub use replica::{CANCEL_GRACE, CallEnd, Ended, Raised, Replica, ReplicaOwner, ReplicaSpec};
pub use table::{AHEAD_MAX, Dispatch};
pub use value::{Metric, MetricMode, OutputFile, Value};
