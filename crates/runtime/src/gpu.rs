//! NVIDIA GPUs of this machine, and what a container needs to use some of them.
//!
//! What vendors' container tools do, in short: the nodes of the granted devices and the driver's user-space libraries
//! of the host go into the container. Images carry CUDA; libcuda belongs to the kernel's driver and never lies in one.
//! Device nodes are all there is to keep GPUs apart: without them nothing reaches a device, and containers can neither
//! make nodes nor open those on what they can write to.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use crate::port::{Check, Gpu, Gpus, Verdict};
use crate::wire::{GpuLibrary, GpuPlan};

/// Where libraries and programs of the driver lie inside containers; images made for GPUs look here as well.
const FOLDER: &str = "/usr/local/nvidia";
/// Folders that drivers are installed to, beside those that the loader is configured with.
const LIBRARY_FOLDERS: [&str; 12] = [
    "usr/local/nvidia/lib64",
    "usr/local/nvidia/lib",
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/x86_64-linux-gnu/nvidia/current",
    "usr/lib/aarch64-linux-gnu",
    "usr/lib/aarch64-linux-gnu/nvidia/current",
    "usr/lib64",
    "usr/lib64/nvidia",
    "usr/lib",
    "usr/lib/nvidia",
    "opt/nvidia/lib64",
    "run/opengl-driver/lib",
];
const PROGRAM_FOLDERS: [&str; 4] = ["usr/local/nvidia/bin", "usr/bin", "opt/bin", "run/opengl-driver/bin"];
/// Nodes beside those of the devices that CUDA cannot do without, and others.
const NEEDED_NODES: [&str; 2] = ["nvidiactl", "nvidia-uvm"];
const OTHER_NODES: [&str; 2] = ["nvidia-uvm-tools", "nvidia-modeset"];
/// Most libraries and names of them; drivers bring some forty of each.
const LIBRARIES_MAX: usize = 256;
const MAKE_NODES: &str = "as root, `nvidia-modprobe -c 0 -u` loads what is missing and makes its nodes";

/// The driver below a folder that is `/` on almost all machines.
#[derive(Debug, Clone)]
pub(crate) struct Driver {
    root: PathBuf,
    version: String,
    gpus: Vec<Gpu>,
}

impl Driver {
    /// The kernel's driver, if one is loaded.
    pub(crate) fn find(root: &Path) -> Option<Driver> {
        let proc = root.join("proc/driver/nvidia");
        let version = fs::read_to_string(proc.join("version")).ok()?;
        let version = version.lines().find_map(version_of)?.to_owned();
        let entries = fs::read_dir(proc.join("gpus")).into_iter().flatten().flatten();
        let mut gpus: Vec<Gpu> = entries
            .filter_map(|entry| {
                let text = fs::read_to_string(entry.path().join("information")).ok()?;
                gpu(&entry.file_name().into_string().ok()?, &text)
            })
            .collect();
        gpus.sort_by_key(|gpu| gpu.minor);
        Some(Driver { root: root.to_owned(), version, gpus })
    }

    pub(crate) fn report(self) -> Gpus {
        Gpus { driver: self.version, list: self.gpus }
    }

    /// What goes into a container that was granted these devices, or what is missing on the host and the mend.
    pub(crate) fn plan(&self, minors: &[u32]) -> Result<GpuPlan, String> {
        let granted = minors.iter().map(|minor| {
            let known = self.gpus.iter().find(|gpu| gpu.minor == *minor);
            known.cloned().ok_or_else(|| format!("the driver no longer lists /dev/nvidia{minor}"))
        });
        let granted: Vec<Gpu> = granted.collect::<Result<_, _>>()?;
        let devices = minors.iter().map(|minor| format!("nvidia{minor}"));
        let needed = devices.chain(NEEDED_NODES.map(String::from));
        let mut nodes = needed
            .map(|name| self.node(&name).ok_or_else(|| format!("/dev/{name} is missing: {MAKE_NODES}")))
            .collect::<Result<Vec<_>, _>>()?;
        nodes.extend(OTHER_NODES.iter().filter_map(|name| self.node(name)));
        let proc = self.root.join("proc/driver/nvidia");
        Ok(GpuPlan {
            nodes,
            folder: FOLDER.into(),
            libraries: self.libraries()?,
            nvidia_smi: PROGRAM_FOLDERS
                .iter()
                .find_map(|folder| self.root.join(folder).join("nvidia-smi").canonicalize().ok()),
            proc_version: fs::read_to_string(proc.join("version")).unwrap_or_default(),
            proc_gpus: granted
                .into_iter()
                .map(|gpu| {
                    let text = fs::read_to_string(proc.join("gpus").join(&gpu.bus).join("information"));
                    (gpu.bus, text.unwrap_or_default())
                })
                .collect(),
        })
    }

    fn node(&self, name: &str) -> Option<PathBuf> {
        let path = self.root.join("dev").join(name);
        fs::metadata(&path).is_ok_and(|found| found.file_type().is_char_device()).then_some(path)
    }

    /// The kernel's driver works with libraries of its own version only, and those carry it in their names.
    fn libraries(&self) -> Result<Vec<GpuLibrary>, String> {
        let suffix = format!(".so.{}", self.version);
        let folders = self.library_folders();
        let mut found: BTreeMap<String, GpuLibrary> = BTreeMap::new();
        let mut links: Vec<(String, PathBuf)> = Vec::new();
        let mut others: Vec<PathBuf> = Vec::new();
        for entry in folders.iter().flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten()) {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let Some((stem, _)) = name.split_once(".so").filter(|(stem, _)| stem.starts_with("lib")) else {
                continue;
            };
            if let (true, Ok(source)) = (name.ends_with(&suffix), entry.path().canonicalize()) {
                let library = GpuLibrary { source, name: name.clone(), links: Vec::new() };
                found.entry(stem.to_owned()).or_insert(library);
            } else if entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
                links.push((name, entry.path()));
            } else if stem == "libcuda" {
                others.push(entry.path());
            }
        }
        if !found.contains_key("libcuda") {
            return Err(self.no_libraries(&folders, &others));
        }
        for (name, path) in links {
            let stem = name.split_once(".so").map_or("", |(stem, _)| stem);
            if let Some(library) = found.get_mut(stem)
                && !library.links.contains(&name)
                && path.canonicalize().is_ok_and(|target| target == library.source)
            {
                library.links.push(name);
            }
        }
        for (stem, library) in &mut found {
            // What the loader's own tool would have made.
            let plain = format!("{stem}.so.1");
            if !library.links.iter().any(|name| is_numbered(name)) {
                library.links.push(plain);
            }
        }
        Ok(found.into_values().take(LIBRARIES_MAX).collect())
    }

    fn no_libraries(&self, folders: &[PathBuf], others: &[PathBuf]) -> String {
        let version = &self.version;
        if let Some(other) = others.first() {
            let other = other.display();
            return format!(
                "the kernel's driver is {version}, but the library here is {other}: restart the machine, or \
                 install the libraries of {version}"
            );
        }
        let folders: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
        format!(
            "the kernel has driver {version}, but libcuda.so.{version} is in none of {}: install the driver's \
             libraries",
            folders.join(", ")
        )
    }

    /// Folders that exist, each once; the vendor's own first.
    fn library_folders(&self) -> Vec<PathBuf> {
        let mut texts: Vec<String> =
            fs::read_to_string(self.root.join("etc/ld.so.conf")).into_iter().collect();
        for entry in fs::read_dir(self.root.join("etc/ld.so.conf.d")).into_iter().flatten().flatten() {
            texts.extend(fs::read_to_string(entry.path()));
        }
        let configured = texts.iter().flat_map(|text| text.lines()).map(str::trim);
        let configured = configured.filter_map(|line| line.strip_prefix('/'));
        let mut folders: Vec<PathBuf> = Vec::new();
        for folder in LIBRARY_FOLDERS.into_iter().chain(configured) {
            if let Ok(folder) = self.root.join(folder).canonicalize()
                && !folders.contains(&folder)
            {
                folders.push(folder);
            }
        }
        folders
    }
}

/// The GPUs of the driver below a folder that is `/` on almost all machines.
pub fn machine_gpus(root: &Path) -> Gpus {
    Driver::find(root).map(Driver::report).unwrap_or_default()
}

/// What `clunk doctor` says.
pub(crate) fn check(root: &Path) -> Check {
    let said = |verdict, detail| Check { name: "GPU", verdict, detail };
    let Some(driver) = Driver::find(root) else {
        return said(Verdict::Ok, "none: no NVIDIA driver is loaded".into());
    };
    let version = &driver.version;
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for gpu in &driver.gpus {
        *kinds.entry(&gpu.model).or_default() += 1;
    }
    if kinds.is_empty() {
        return said(Verdict::Warning, format!("NVIDIA driver {version} is loaded and lists no device"));
    }
    let listed: Vec<_> = kinds.iter().map(|(model, count)| format!("{count} × {model}")).collect();
    let detail = format!("{}, driver {version}", listed.join(", "));
    let minors: Vec<u32> = driver.gpus.iter().map(|gpu| gpu.minor).collect();
    match driver.plan(&minors) {
        Ok(plan) => {
            let libraries = plan.libraries.len();
            said(Verdict::Ok, format!("{detail}; containers get its {libraries} libraries"))
        }
        Err(why) => said(Verdict::Warning, format!("{detail}; functions cannot have them: {why}")),
    }
}

/// The environment of programs in a container with GPUs. The loader's cache is part of the image and not ours to
/// rewrite, and its tool would have to run on hostile files; the loader looks through this variable before the cache.
pub(crate) fn environment(mut env: Vec<(String, String)>) -> Vec<(String, String)> {
    const PATHS: &str = "LD_LIBRARY_PATH";
    let libraries = format!("{FOLDER}/lib64");
    // Only granted devices are in the container, counted from 0 there.
    let always = [("NVIDIA_VISIBLE_DEVICES", "all"), ("NVIDIA_DRIVER_CAPABILITIES", "all")];
    let before = env.iter().rev().find(|(name, value)| name == PATHS && !value.is_empty());
    let paths = before.map_or(libraries.clone(), |(_, value)| format!("{libraries}:{value}"));
    env.retain(|(name, _)| name != PATHS && always.iter().all(|(given, _)| name != given));
    env.push((PATHS.into(), paths));
    env.extend(always.map(|(name, value)| (name.into(), value.into())));
    env
}

/// `580.95.05` of `NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build`.
fn version_of(line: &str) -> Option<&str> {
    let words = line.strip_prefix("NVRM version:")?.split_whitespace();
    let is_version =
        |word: &&str| word.contains('.') && word.split('.').all(|part| part.parse::<u32>().is_ok());
    words.into_iter().find(is_version)
}

fn gpu(bus: &str, information: &str) -> Option<Gpu> {
    let field = |name: &str| {
        information.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    };
    if field("GPU Excluded") == Some("Yes") {
        return None;
    }
    let minor = field("Device Minor")?.parse().ok()?;
    Some(Gpu { minor, model: field("Model")?.into(), bus: bus.into() })
}

/// `libcuda.so.1`, not `libcuda.so`.
fn is_numbered(name: &str) -> bool {
    name.rsplit_once(".so.").is_some_and(|(_, number)| number.parse::<u32>().is_ok())
}

#[cfg(test)]
mod tests;
