//! A machine with an NVIDIA driver, as files below a folder. Device nodes are not among them: they take root.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

pub const VERSION: &str = "580.95.05";

/// As many GPUs as kinds are named.
pub fn install(root: &Path, models: &[&str]) {
    let proc = root.join("proc/driver/nvidia");
    fs::create_dir_all(&proc).unwrap();
    let version = format!(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {VERSION}  Release Build  (me@here)\nGCC version:  \
         gcc version 13.3.0 (Debian)\n"
    );
    fs::write(proc.join("version"), version).unwrap();
    for (minor, model) in models.iter().enumerate() {
        let folder = proc.join(format!("gpus/0000:00:0{}.0", minor + 5));
        fs::create_dir_all(&folder).unwrap();
        let text = format!(
            "Model: \t\t {model}\nIRQ:   \t\t 24\nGPU UUID: \t GPU-????????-????-????-????-????????????\nBus Location: \t \
             0000:00:0{}.0\nDevice Minor: \t {minor}\nGPU Excluded:\t No\n",
            minor + 5
        );
        fs::write(folder.join("information"), text).unwrap();
    }
    let libraries = root.join("usr/lib/x86_64-linux-gnu");
    fs::create_dir_all(&libraries).unwrap();
    for stem in ["libcuda", "libnvidia-ml", "libnvidia-nvvm", "libnvidia-ptxjitcompiler"] {
        fs::write(libraries.join(format!("{stem}.so.{VERSION}")), format!("{stem} of the host\n")).unwrap();
    }
    let links = [
        ("libcuda.so.1", "libcuda.so.580.95.05"),
        ("libcuda.so", "libcuda.so.1"),
        ("libnvidia-ml.so.1", "libnvidia-ml.so.580.95.05"),
        ("libnvidia-nvvm.so.4", "libnvidia-nvvm.so.580.95.05"),
    ];
    for (name, target) in links {
        symlink(target, libraries.join(name)).unwrap();
    }
    fs::write(libraries.join("libc.so.6"), "not the driver's\n").unwrap();
    fs::create_dir_all(root.join("usr/bin")).unwrap();
    fs::write(root.join("usr/bin/nvidia-smi"), "#!/bin/sh\necho smi of the host\n").unwrap();
    rustix::fs::chmod(root.join("usr/bin/nvidia-smi"), rustix::fs::Mode::from_raw_mode(0o755)).unwrap();
}
