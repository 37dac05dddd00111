//! One machine's replicas: the runner link, logs, lifecycles.

pub mod frame;
pub mod link;
pub mod logs;
mod mapped;
pub mod payload;
mod pipes;
mod polled;
mod reason;
pub mod replica;

pub use logs::{AppLog, LogReader, LogStart, Logs};
pub use mapped::map_sealed;
pub use payload::Payload;
pub use polled::polled;
pub use replica::{CallEnd, Ended, Raised, Replica, ReplicaOwner, ReplicaSpec};
