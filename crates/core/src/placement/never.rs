//! What no machine can hold, and how that is said.

use super::{Ask, GpuAsk, Node};

/// Nothing is large enough. Said in words, for whoever waits for the call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("asks for {asked}; the largest machine has {largest}")]
pub struct NeverFits {
    pub asked: String,
    pub largest: String,
}

/// The size of a machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Shape {
    cpu_millis: u64,
    /// What can be set aside: less than there is, when shares of cores are kept back.
    cpu_shares_millis: u64,
    memory_mib: u64,
    disk_mib: u64,
    /// Kind and count.
    gpus: Vec<(String, u32)>,
}

impl Shape {
    pub(super) fn of(node: &Node) -> Self {
        Self {
            cpu_millis: node.cpu_millis,
            cpu_shares_millis: node.cpu_shares_millis(),
            memory_mib: node.memory_mib,
            disk_mib: node.disk_mib,
            gpus: node.gpus.iter().map(|group| (group.kind.clone(), group.total)).collect(),
        }
    }

    fn fits(&self, ask: &Ask) -> [bool; 4] {
        [
            ask.cpu_millis <= self.cpu_millis.min(self.cpu_shares_millis),
            ask.memory_mib <= self.memory_mib,
            ask.disk_mib <= self.disk_mib,
            ask.gpus.is_empty() || ask.gpus.iter().any(|gpu| self.has(gpu)),
        ]
    }

    fn has(&self, gpu: &GpuAsk) -> bool {
        self.gpus.iter().any(|(kind, total)| gpu.matches(kind).is_some() && *total >= gpu.count)
    }
}

/// Refuses what fits none of the sizes that there are.
pub(super) fn check<'a>(ask: &Ask, shapes: impl Iterator<Item = &'a Shape>) -> Result<(), NeverFits> {
    let mut nearest: Option<(usize, &Shape)> = None;
    for shape in shapes {
        let fits = shape.fits(ask).into_iter().filter(|fits| *fits).count();
        if fits == 4 {
            return Ok(());
        }
        // The one that is said: it falls short in the fewest things, and among those is the largest.
        if nearest.is_none_or(|best| (fits, shape) > best) {
            nearest = Some((fits, shape));
        }
    }
    nearest.map_or(Ok(()), |(_, shape)| Err(NeverFits { asked: asked(ask), largest: largest(shape, ask) }))
}

fn asked(ask: &Ask) -> String {
    let mut parts = vec![cores(ask.cpu_millis), format!("{} of memory", size(ask.memory_mib))];
    if ask.disk_mib > 0 {
        parts.push(format!("{} of disk", size(ask.disk_mib)));
    }
    if !ask.gpus.is_empty() {
        let choices: Vec<_> = ask.gpus.iter().map(|gpu| gpus(&gpu.kind, gpu.count)).collect();
        parts.push(choices.join(" or "));
    }
    listed(&parts)
}

fn largest(shape: &Shape, ask: &Ask) -> String {
    let mut parts = vec![cores(shape.cpu_millis), format!("{} of memory", size(shape.memory_mib))];
    if ask.disk_mib > 0 {
        parts.push(format!("{} of disk", size(shape.disk_mib)));
    }
    if shape.gpus.is_empty() {
        parts.push("no GPU".into());
    }
    parts.extend(shape.gpus.iter().map(|(kind, total)| gpus(kind, *total)));
    listed(&parts)
}

fn listed(parts: &[String]) -> String {
    match parts {
        [init @ .., last] if !init.is_empty() => format!("{} and {last}", init.join(", ")),
        _ => parts.concat(),
    }
}

fn cores(millis: u64) -> String {
    let cores = millis as f64 / 1000.0;
    if millis == 1000 { "1 core".into() } else { format!("{cores} cores") }
}

fn size(mib: u64) -> String {
    if mib < 1024 {
        return format!("{mib} MiB");
    }
    // One digit, and none when it says nothing: 900 GiB, 21.6 GiB.
    let tenths = (mib * 10).div_ceil(1024);
    if tenths.is_multiple_of(10) {
        format!("{} GiB", tenths / 10)
    } else {
        format!("{}.{} GiB", tenths / 10, tenths % 10)
    }
}

fn gpus(kind: &str, count: u32) -> String {
    let name = kind.trim_end_matches('!');
    let name = if name == "ANY" { "" } else { name };
    let plural = if count == 1 { "GPU" } else { "GPUs" };
    [&count.to_string(), name, plural]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}
