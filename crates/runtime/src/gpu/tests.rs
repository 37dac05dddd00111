use super::*;

#[path = "../../tests/support/driver.rs"]
mod driver;

fn names(library: &GpuLibrary) -> String {
    let mut links = library.links.clone();
    links.sort();
    format!("{} {}", library.name, links.join(" "))
}

#[test]
fn both_kernel_modules_say_their_version() {
    let open = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  (root@x)";
    let closed = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu Oct 19 18:56:32 UTC 2023";
    assert_eq!([open, closed].map(version_of), [Some("580.95.05"), Some("535.129.03")]);
    assert_eq!(version_of("GCC version:  gcc version 13.3.0 (Debian)"), None);
}

#[test]
fn devices_are_those_the_driver_lists() {
    let root = tempfile::tempdir().unwrap();
    assert!(Driver::find(root.path()).is_none());
    driver::install(root.path(), &["NVIDIA H200", "Tesla T4"]);
    let gpus = Driver::find(root.path()).unwrap().report();
    assert_eq!(gpus.driver, "580.95.05");
    let list: Vec<_> = gpus.list.iter().map(|gpu| (gpu.minor, &*gpu.model, &*gpu.bus)).collect();
    assert_eq!(list, [(0, "NVIDIA H200", "0000:00:05.0"), (1, "Tesla T4", "0000:00:06.0")]);
    assert_eq!(gpu("0000:00:07.0", "Model: X\nDevice Minor: 2\nGPU Excluded:\t Yes\n"), None);
}

#[test]
fn libraries_are_those_of_the_drivers_version_with_their_links() {
    let root = tempfile::tempdir().unwrap();
    driver::install(root.path(), &["NVIDIA H200"]);
    // Left behind by another version, and of the same one in a folder that only the loader knows.
    let more = root.path().join("opt/driver");
    fs::create_dir_all(&more).unwrap();
    fs::write(more.join("libcuda.so.570.1"), "").unwrap();
    fs::write(more.join("libnvcuvid.so.580.95.05"), "").unwrap();
    fs::create_dir_all(root.path().join("etc/ld.so.conf.d")).unwrap();
    fs::write(root.path().join("etc/ld.so.conf.d/driver.conf"), "# the driver\n/opt/driver\n").unwrap();
    let libraries = Driver::find(root.path()).unwrap().libraries().unwrap();
    assert_eq!(
        libraries.iter().map(names).collect::<Vec<_>>(),
        [
            "libcuda.so.580.95.05 libcuda.so libcuda.so.1",
            "libnvcuvid.so.580.95.05 libnvcuvid.so.1",
            "libnvidia-ml.so.580.95.05 libnvidia-ml.so.1",
            "libnvidia-nvvm.so.580.95.05 libnvidia-nvvm.so.4",
            "libnvidia-ptxjitcompiler.so.580.95.05 libnvidia-ptxjitcompiler.so.1",
        ]
    );
}

#[test]
fn a_driver_installed_by_half_is_told_with_the_mend() {
    let root = tempfile::tempdir().unwrap();
    assert_eq!(check(root.path()).detail, "none: no NVIDIA driver is loaded");
    driver::install(root.path(), &["NVIDIA H200"]);
    let found = check(root.path());
    assert_eq!(found.verdict, Verdict::Warning);
    assert_eq!(
        found.detail,
        "1 × NVIDIA H200, driver 580.95.05; functions cannot have them: /dev/nvidia0 is missing: as root, \
         `nvidia-modprobe -c 0 -u` loads what is missing and makes its nodes"
    );
    let folder = root.path().join("usr/lib/x86_64-linux-gnu");
    fs::rename(folder.join("libcuda.so.580.95.05"), folder.join("libcuda.so.570.1")).unwrap();
    let trouble = Driver::find(root.path()).unwrap().libraries().unwrap_err();
    assert!(trouble.starts_with("the kernel's driver is 580.95.05, but the library here is "), "{trouble}");
    fs::remove_file(folder.join("libcuda.so.570.1")).unwrap();
    let trouble = Driver::find(root.path()).unwrap().libraries().unwrap_err();
    assert!(trouble.starts_with("the kernel has driver 580.95.05, but libcuda.so.580.95.05 is in none of "));
}

#[test]
fn the_drivers_libraries_come_first_and_the_images_stay() {
    let env = |pairs: &[(&str, &str)]| {
        environment(pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect())
    };
    let find = |env: &[(String, String)], name: &str| {
        let values: Vec<_> =
            env.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone()).collect();
        values.join(" ")
    };
    let plain = env(&[("A", "b")]);
    assert_eq!(find(&plain, "LD_LIBRARY_PATH"), "/usr/local/nvidia/lib64");
    assert_eq!(find(&plain, "A"), "b");
    let own = env(&[("LD_LIBRARY_PATH", "/opt/a:/opt/b"), ("NVIDIA_VISIBLE_DEVICES", "void")]);
    assert_eq!(find(&own, "LD_LIBRARY_PATH"), "/usr/local/nvidia/lib64:/opt/a:/opt/b");
    assert_eq!(find(&own, "NVIDIA_VISIBLE_DEVICES"), "all");
}
