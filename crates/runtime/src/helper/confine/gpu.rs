//! GPUs of a container: nodes in its `/dev`, the driver's libraries in a folder of their own, and what `/proc` says.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::mount::MountAttrFlags;

use crate::helper::rootfs::{self, Kind};
use crate::step::{Failure, Step};
use crate::sys;
use crate::wire::{GpuPlan, HelperConfig};

const STEP: &str = "GPU";
/// Empty files, links and a page of text.
const SIZE: u64 = 4 << 20;
/// The driver's libraries look here before they use a device. Told that they may, as root they would try to make the
/// nodes anew, because the host's owner is nobody in the container.
const PARAMS: &str = "ModifyDeviceFiles: 0\nDeviceFileUID: 0\nDeviceFileGID: 0\nDeviceFileMode: 438\n";
const READ_ONLY: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_RDONLY.union(MountAttrFlags::MOUNT_ATTR_NOSUID);

/// Mounts with the places they belong to, in order. Runs in the container's mount namespace.
pub(crate) fn mounts(plan: &GpuPlan, config: &HelperConfig) -> Result<Vec<(String, OwnedFd, Kind)>, Failure> {
    let mut mounts = Vec::new();
    for node in &plan.nodes {
        let name = node.file_name().unwrap_or_default().to_string_lossy();
        let mount = restricted(node, READ_ONLY).map_err(|error| told(node, &error)).step(STEP)?;
        mounts.push((format!("/dev/{name}"), mount, Kind::File));
    }
    let base = config.state_dir.join("attach/gpu");
    let memory = rootfs::tmpfs(SIZE, "0755", config).step(STEP)?;
    let place = rustix::fs::open(&base, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).step(STEP)?;
    rootfs::attach(&memory, place.as_fd()).step(STEP)?;
    fill_folder(plan, &base.join("driver/lib64")).step(STEP)?;
    fill_proc(plan, &base.join("proc/nvidia")).step(STEP)?;
    // No devices: these are files only.
    let files = READ_ONLY | MountAttrFlags::MOUNT_ATTR_NODEV;
    for (from, target) in [("driver", plan.folder.as_str()), ("proc", "/proc/driver")] {
        let mount = restricted(&base.join(from), files).step(STEP)?;
        mounts.push((target.into(), mount, Kind::Directory));
    }
    if let Some(program) = &plan.nvidia_smi {
        let mount = restricted(program, files).map_err(|error| told(program, &error)).step(STEP)?;
        mounts.push(("/usr/bin/nvidia-smi".into(), mount, Kind::File));
    }
    Ok(mounts)
}

fn restricted(source: &Path, attributes: MountAttrFlags) -> io::Result<OwnedFd> {
    let mount = rootfs::detached(source)?;
    sys::set_mount_attributes(mount.as_fd(), attributes.bits().into())?;
    Ok(mount)
}

fn told(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn fill_folder(plan: &GpuPlan, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for library in &plan.libraries {
        let place = folder.join(&library.name);
        fs::File::create(&place)?;
        rustix::mount::mount_bind(&library.source, &place)
            .map_err(|error| told(&library.source, &error.into()))?;
        for link in &library.links {
            symlink(&library.name, folder.join(link))?;
        }
    }
    Ok(())
}

/// As the driver shows it where only the granted devices exist.
fn fill_proc(plan: &GpuPlan, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join("version"), &plan.proc_version)?;
    fs::write(folder.join("params"), PARAMS)?;
    for (bus, text) in &plan.proc_gpus {
        let folder = folder.join("gpus").join(bus);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("information"), text)?;
    }
    Ok(())
}
