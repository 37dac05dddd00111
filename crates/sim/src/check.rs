//! What must always hold, seen from outside: from the clients, the disk, and what truly runs on the machines.

use std::fmt;

use clunk_core::ErrorCode;
use clunk_core::call::{MAX_LOSSES, Outcome};
use clunk_core::placement::Fleet;

use crate::message::{CallNo, Epoch, Try};
use crate::plan::End;
use crate::schedule::Micros;
use crate::world::World;

/// An invariant that did not hold, with what one needs to see why.
#[derive(Debug, Clone)]
pub struct Violation {
    pub seed: u64,
    pub at: Micros,
    pub text: String,
    /// The last events before it.
    pub last: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.last {
            writeln!(f, "{line}")?;
        }
        writeln!(f, "after {:.3} s: {}", self.at as f64 / 1e6, self.text)?;
        write!(f, "again with CLUNK_SIM_SEED={}", self.seed)
    }
}

impl World {
    /// What holds after every event.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.check_calls()?;
        self.check_limits()
    }

    /// No accepted call is lost.
    fn check_calls(&self) -> Result<(), String> {
        for (index, client) in self.clients.iter().enumerate() {
            if !client.accepted || client.ended || client.dropped {
                continue;
            }
            let call = CallNo(index as u32);
            if self.plan.calls[index].durable && !self.disk.accepted.contains(&call) {
                return Err(format!("{call:?} was accepted and is not on disk"));
            }
            let control = self.control.as_ref();
            if control.is_some_and(|control| !control.knows(call) && !self.ending.contains(&call)) {
                return Err(format!("{call:?} was accepted, has not ended, and nobody knows it"));
            }
        }
        Ok(())
    }

    /// No more runs than may.
    fn check_limits(&self) -> Result<(), String> {
        let mut of_function = vec![0; self.plan.functions.len()];
        for (index, machine) in self.machines.iter().enumerate() {
            let (mut cpu, mut memory) = (0, 0);
            for container in machine.containers.values() {
                let function = &self.plan.functions[container.function];
                of_function[container.function] += 1;
                cpu += function.ask.cpu_millis;
                memory += function.ask.memory_mib;
                if container.inputs.len() > function.slots as usize {
                    let inputs = container.inputs.len();
                    return Err(format!("{inputs} inputs in a container of {} slots", function.slots));
                }
            }
            let node = &self.plan.machines[index];
            let count = machine.containers.len();
            if cpu > node.cpu_shares_millis()
                || memory > node.memory_mib
                || count > node.max_replicas as usize
            {
                return Err(format!("machine {index} holds {count} containers, {cpu} of CPU, {memory} MiB"));
            }
        }
        for (index, (count, function)) in of_function.iter().zip(&self.plan.functions).enumerate() {
            if *count > function.bounds.max {
                return Err(format!("function {index} has {count} containers of {}", function.bounds.max));
            }
        }
        Ok(())
    }

    /// What holds when nothing happens any more: every call has ended, and nothing is left.
    pub(crate) fn rest(&self) -> Result<(), String> {
        let open = self.clients.iter().position(|client| !(client.ended || client.dropped));
        if let Some(call) = open {
            return Err(format!("call {call} of function {} never ended", self.plan.calls[call].function));
        }
        for machine in &self.machines {
            let left = |function: usize| self.plan.functions[function].bounds.min == 0;
            if let Some(container) = machine.containers.values().find(|container| left(container.function)) {
                return Err(format!("a replica of function {} is left after quiet", container.function));
            }
        }
        let control = self.control.as_ref().ok_or("the control plane is down")?;
        if control.open_calls() > 0 {
            return Err(format!("{} calls are known after the last has ended", control.open_calls()));
        }
        control.leftovers().map_or(Ok(()), Err)
    }

    /// What a client is told is what truly happened.
    pub(crate) fn check_outcome(
        &self,
        call: CallNo,
        outcome: Outcome,
        attempts: u32,
        epoch: Epoch,
    ) -> Result<(), String> {
        let plan = &self.plan.calls[call.0 as usize];
        let function = &self.plan.functions[plan.function];
        let truth = self.truth.get(&(epoch, Try { call, attempt: attempts }));
        let tried = attempts > function.retries.max_retries;
        let fits = || {
            let mut fleet = Fleet::new();
            self.plan.machines.iter().for_each(|node| fleet.add(node.clone()));
            fleet.fits_ever(&function.ask).is_ok()
        };
        let holds = match outcome {
            Outcome::Succeeded => truth == Some(&End::Returns),
            Outcome::Raised => truth == Some(&End::Raises) && tried,
            Outcome::TimedOut => tried,
            Outcome::Canceled => plan.cancel_at.is_some(),
            Outcome::Expired => plan.expires_after.is_some() && attempts == 0,
            Outcome::Failed { code: ErrorCode::StartFailed } => function.broken,
            Outcome::Failed { code: ErrorCode::CannotPlace } => !fits(),
            Outcome::Failed { .. } => (truth == Some(&End::Crashes) && tried) || attempts > MAX_LOSSES,
        };
        if holds {
            return Ok(());
        }
        Err(format!("{call:?} is said to have {outcome:?} after {attempts} attempts; in truth {truth:?}"))
    }
}
