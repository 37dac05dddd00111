//! Which GPU of this machine is whose. Placement counts them by kind; this names the devices.

use clunk_core::placement::{GpuAsk, GpuGroup};
use clunk_runtime::Gpus;

#[derive(Debug, Default)]
pub struct Devices(Vec<Device>);

#[derive(Debug)]
struct Device {
    minor: u32,
    kind: String,
    taken: bool,
}

impl Devices {
    pub fn of(gpus: &Gpus) -> Self {
        let device =
            |gpu: &clunk_runtime::Gpu| Device { minor: gpu.minor, kind: kind_of(&gpu.model), taken: false };
        Self(gpus.list.iter().map(device).collect())
    }

    /// How many there are of each kind, for placement.
    pub fn groups(&self) -> Vec<GpuGroup> {
        let mut groups: Vec<GpuGroup> = Vec::new();
        for Device { kind, taken, .. } in &self.0 {
            let used = u32::from(*taken);
            match groups.iter_mut().find(|group| group.kind == *kind) {
                Some(group) => (group.total, group.used) = (group.total + 1, group.used + used),
                None => groups.push(GpuGroup { kind: kind.clone(), total: 1, used }),
            }
        }
        groups
    }

    /// Devices for what was placed here, which there are.
    pub fn take(&mut self, placed: &GpuAsk) -> Vec<u32> {
        let free = self.0.iter_mut().filter(|device| !device.taken && device.kind == placed.kind);
        let taken = free.take(placed.count as usize).map(|device| {
            device.taken = true;
            device.minor
        });
        taken.collect()
    }

    pub fn give_back(&mut self, minors: &[u32]) {
        for device in self.0.iter_mut().filter(|device| minors.contains(&device.minor)) {
            device.taken = false;
        }
    }
}

/// `H100` of `NVIDIA H100 80GB HBM3`: the first word with a digit that is no size.
fn kind_of(model: &str) -> String {
    let words = model.trim().split([' ', '-']);
    let mut named = words.filter(|word| word.chars().any(|c| c.is_ascii_digit()) && !word.ends_with("GB"));
    named.next().unwrap_or(model.trim()).to_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices(models: &[&str]) -> Devices {
        let gpu = |(minor, model): (usize, &&str)| clunk_runtime::Gpu {
            minor: minor as u32,
            model: model.to_string(),
            bus: format!("0000:00:0{minor}.0"),
        };
        Devices::of(&Gpus { driver: "580.95.05".into(), list: models.iter().enumerate().map(gpu).collect() })
    }

    #[test]
    fn a_gpu_is_called_by_its_model() {
        let models =
            ["NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-80GB", "Tesla T4", "NVIDIA L40S", "NVIDIA H200"];
        assert_eq!(models.map(kind_of), ["H100", "A100", "T4", "L40S", "H200"]);
    }

    #[test]
    fn nobody_gets_a_device_that_another_has() {
        let mut devices = devices(&["NVIDIA H100 80GB HBM3", "Tesla T4", "NVIDIA H100 80GB HBM3"]);
        let counts = |devices: &Devices| {
            devices
                .groups()
                .into_iter()
                .map(|group| (group.kind, group.total, group.used))
                .collect::<Vec<_>>()
        };
        assert_eq!(counts(&devices), [("H100".into(), 2, 0), ("T4".into(), 1, 0)]);
        let one = GpuAsk { kind: "H100".into(), count: 1 };
        let (first, second) = (devices.take(&one), devices.take(&one));
        assert_eq!((&first[..], &second[..]), (&[0][..], &[2][..]));
        assert_eq!(counts(&devices), [("H100".into(), 2, 2), ("T4".into(), 1, 0)]);
        devices.give_back(&first);
        assert_eq!(devices.take(&one), [0]);
        assert!(devices.groups()[0].free() == 0 && Devices::default().groups().is_empty());
    }
}
