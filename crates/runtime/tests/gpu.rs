//! GPUs in real containers, of a driver that is files and the null device.

#[path = "support/driver.rs"]
mod driver;
mod support;

use std::fs;
use std::path::PathBuf;

use clunk_runtime::*;
use support::*;

/// A machine with three GPUs.
struct Machine {
    world: World,
    driver_root: PathBuf,
}

fn machine() -> Option<Machine> {
    let mut world = world()?;
    let driver_root = world.state_dir.parent().unwrap().join("machine");
    driver::install(&driver_root, &["NVIDIA H200", "NVIDIA H200", "Tesla T4"]);
    make_nodes(&driver_root);
    let config = NativeConfig { driver_root: driver_root.clone(), ..config(&world.state_dir) };
    world.runtime = NativeRuntime::new(config);
    Some(Machine { world, driver_root })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_sees_its_gpus_and_no_others() {
    let Some(Machine { world, .. }) = machine() else { return };
    let script = "ls /dev | grep nvidia; ls /proc/driver/nvidia/gpus; cat /dev/nvidia0 /dev/nvidia1 2>&1; \
                  echo x > /dev/nvidiactl && echo written";
    let mut spec = world.shell(script);
    spec.gpus = vec![1];
    let output = world.run(spec).await;
    assert_eq!(
        output.stdout,
        "nvidia-uvm\nnvidia-uvm-tools\nnvidia1\nnvidiactl\n0000:00:06.0\ncat: can't open '/dev/nvidia0': No such \
         file or directory\nwritten\n",
        "{output:?}"
    );
    let mut spec = world.shell("ls /dev | grep 'nvidia[0-9]'");
    spec.gpus = vec![0, 2];
    assert_eq!(world.run(spec).await.stdout, "nvidia0\nnvidia2\n");
    world.runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_drivers_libraries_are_found_and_cannot_be_changed() {
    let Some(Machine { world, driver_root }) = machine() else { return };
    let script = "cd $LD_LIBRARY_PATH; ls; readlink libcuda.so.1; cat libcuda.so libnvidia-ml.so.1; nvidia-smi; \
                  head -n1 /proc/driver/nvidia/params; grep -c 580.95.05 /proc/driver/nvidia/version; \
                  for file in libcuda.so.1 more /dev/nvidia0 /proc/driver/nvidia/params; do \
                  touch $file 2>/dev/null && echo $file; done; \
                  mknod /dev/nvidia1 c 1 3 2>/dev/null && echo made; true";
    let mut spec = world.shell(script);
    spec.gpus = vec![0];
    let output = world.run(spec).await;
    let expected = "libcuda.so libcuda.so.1 libcuda.so.580.95.05 libnvidia-ml.so.1 libnvidia-ml.so.580.95.05 \
                    libnvidia-nvvm.so.4 libnvidia-nvvm.so.580.95.05 libnvidia-ptxjitcompiler.so.1 \
                    libnvidia-ptxjitcompiler.so.580.95.05";
    let mut lines: Vec<_> = expected.split(' ').collect();
    lines.extend([
        "libcuda.so.580.95.05",
        "libcuda of the host",
        "libnvidia-ml of the host",
        "smi of the host",
    ]);
    lines.extend(["ModifyDeviceFiles: 0", "1"]);
    assert_eq!(output.stdout.lines().collect::<Vec<_>>(), lines, "{output:?}");
    let library = driver_root.join("usr/lib/x86_64-linux-gnu/libcuda.so.580.95.05");
    assert_eq!(fs::read_to_string(library).unwrap(), "libcuda of the host\n");
    world.runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn later_programs_find_the_libraries_too() {
    let Some(Machine { world, .. }) = machine() else { return };
    let mut spec = world.shell("sleep 1000");
    spec.gpus = vec![0];
    let started = world.runtime.start(spec).await.unwrap();
    let exec = ExecSpec {
        argv: ["sh", "-c", "cat $LD_LIBRARY_PATH/libcuda.so.1; ls /dev/nvidia0"].map(String::from).into(),
        env: vec![("PATH".into(), "/bin".into())],
        workdir: "/".into(),
        stdio: Stdio::Pipes,
    };
    let output = finish(started.control.exec(exec).await.unwrap()).await;
    assert_eq!(output.stdout, "libcuda of the host\n/dev/nvidia0\n", "{output:?}");
    world.runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_gpus_a_container_sees_none() {
    let Some(Machine { world, .. }) = machine() else { return };
    let script = "ls /dev | grep nvidia; ls /usr/local/nvidia /usr/bin/nvidia-smi 2>/dev/null; ls /proc/driver; \
                  echo \"$LD_LIBRARY_PATH\"";
    assert_eq!(world.run(world.shell(script)).await.stdout, "\n");
    world.runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_on_the_machine_is_told() {
    let Some(Machine { world, driver_root }) = machine() else { return };
    let start = |minor| {
        let mut spec = world.shell("true");
        spec.gpus = vec![minor];
        world.runtime.start(spec)
    };
    let Err(error) = start(7).await else { panic!("there is no such device") };
    assert!(error.to_string().ends_with("GPU: the driver no longer lists /dev/nvidia7"), "{error}");
    fs::remove_file(driver_root.join("dev/nvidia-uvm")).unwrap();
    let Err(error) = start(0).await else { panic!("CUDA needs it") };
    assert!(
        error.to_string().contains("GPU: /dev/nvidia-uvm is missing: as root, `nvidia-modprobe"),
        "{error}"
    );
    fs::remove_dir_all(driver_root.join("proc")).unwrap();
    let Err(error) = start(0).await else { panic!("no driver is loaded") };
    assert!(
        error.to_string().ends_with("GPU: no NVIDIA driver is loaded; `clunk doctor` says what is there")
    );
    world.runtime.shutdown().await;
}
