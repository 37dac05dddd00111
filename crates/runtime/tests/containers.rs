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

#[tokio::test(flavor = "multi_thread")]
async fn look() {
    let Some(world) = world() else { return };
    for check in world.runtime.checks().await {
        println!("{check:?}");
    }
    let mut spec = world.shell("id; cat /proc/self/status | grep -E 'Cap|Sec|NoNew'; cat /proc/self/uid_map; ls -la / /dev /proc/1/ ; cat /proc/self/mountinfo; ip addr; ip route; cat /etc/resolv.conf /etc/hosts; ps; ls -l /proc/self/fd; wget -T 3 -O- http://1.1.1.1/ 2>&1 | head -3;  wget -T 3 -O- http://example.com/ 2>&1 | head -3");
    spec.network = Network::Nat;
    let output = world.run(spec).await;
    println!("{}\n--\n{}\n{:?}", output.stdout, output.stderr, output.exit);
    world.runtime.shutdown().await;
}
