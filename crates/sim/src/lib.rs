//! The pure core under a virtual clock: its call life cycle, autoscaler, placement and fairness, driven by a control plane
//! over fake machines that start slowly, die, are cut off, and whose messages come late, twice and in another order.
//!
//! [`run`] plays one plan and holds it against the invariants after every event. [`replay`] compares autoscalers on
//! traces of arrivals.

mod check;
mod control;
mod machine;
mod message;
mod plan;
pub mod plot;
pub mod replay;
mod rng;
mod schedule;
mod world;

pub use check::Violation;
pub use control::Mutation;
pub use plan::{CallPlan, End, FunctionPlan, Outage, Plan, image, machine};
pub use rng::Rng;
pub use schedule::{MILLISECOND, Micros, SECOND};
pub use world::{Summary, run, run_large};
