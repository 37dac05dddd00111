//! The probe's facts against a golden file per profile. After a wanted change: `UPDATE_GOLDEN=1 cargo test`, and read
//! the difference.

mod support;

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use clunk_runtime::*;
use support::*;

/// The probe and the libraries it is linked with, at the paths it looks for them.
fn add_probe(world: &World) {
    let probe = Path::new(env!("CARGO_BIN_EXE_clunk-probe"));
    fs::copy(probe, world.layer.join("bin/probe")).unwrap();
    let listed = Command::new("ldd").arg(probe).output().unwrap();
    for word in
        String::from_utf8_lossy(&listed.stdout).split_whitespace().filter(|word| word.starts_with('/'))
    {
        let inside = world.layer.join(word.trim_start_matches('/'));
        fs::create_dir_all(inside.parent().unwrap()).unwrap();
        fs::copy(word, inside).unwrap();
    }
    give(&world.layer, world.runtime.host_id(0));
}

async fn facts(world: &World, profile: Profile, network: Network) -> String {
    let mut spec = world.spec(&["probe"]);
    (spec.profile, spec.network, spec.link) = (profile, network, true);
    let mut started = world.runtime.start(spec).await.unwrap();
    let _link = UnixStream::from(started.link.take().unwrap());
    let output = finish(started).await;
    assert_eq!(output.exit.reason, ExitReason::Code(0), "{output:?}");
    output.stdout
}

fn compare(name: &str, found: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, found).unwrap();
    }
    let wanted = fs::read_to_string(&path).unwrap_or_default();
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (found, wanted) = (lines(found), lines(&wanted));
    let new: Vec<_> = found.iter().filter(|line| !wanted.contains(line)).collect();
    let gone: Vec<_> = wanted.iter().filter(|line| !found.contains(line)).collect();
    assert!(new.is_empty() && gone.is_empty(), "{name}: new {new:#?}, gone {gone:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_sees_and_can_do_what_its_golden_file_says() {
    let Some(world) = world() else { return };
    add_probe(&world);
    compare("function.txt", &facts(&world, Profile::Function, Network::Nat).await);
    world.runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_step_sees_and_can_do_what_its_golden_file_says() {
    let Some(world) = world() else { return };
    add_probe(&world);
    compare("build.txt", &facts(&world, Profile::Build, Network::None).await);
    world.runtime.shutdown().await;
}
