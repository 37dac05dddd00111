//! Real containers: programs, their files, signals and ends.

mod support;

use clunk_runtime::*;
use support::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_program_runs_and_says_hello() {
    let Some(world) = world() else { return };
    let output = world.run(world.shell("echo hello; echo oops >&2; exit 7")).await;
    assert_eq!(output.stdout, "hello\n");
    assert_eq!(output.stderr, "oops\n");
    assert_eq!(output.exit.reason, ExitReason::Code(7));
    world.runtime.shutdown().await;
}
