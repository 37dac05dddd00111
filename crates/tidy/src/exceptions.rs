//! What the rules let pass, by name and with the reason. The lists only shrink: an exception that is needed no longer
//! fails the test too.

/// Lets one item of one file pass, at most so many times.
pub struct Exception {
    pub path: &'static str,
    pub item: &'static str,
    pub times: usize,
    pub reason: &'static str,
}

const fn pass(path: &'static str, item: &'static str, times: usize, reason: &'static str) -> Exception {
    Exception { path, item, times, reason }
}

/// Functions of more than 70 lines.
pub const LONG_FUNCTIONS: &[Exception] =
    &[pass("crates/image/src/steps/docker.rs", "line", 1, "one match over the instructions of a Dockerfile")];

/// Files of more than 500 lines; the item is always `lines`.
pub const LONG_FILES: &[Exception] = &[];

/// Banned calls; the item is the pattern.
pub const BANNED_CALLS: &[Exception] = &[
    pass(
        "crates/core/src/id.rs",
        "SystemTime::now",
        1,
        "`fresh` is the one place that takes the system's clock",
    ),
    pass(
        "crates/server/src/state.rs",
        "thread::sleep",
        1,
        "a killed server's lock is waited for before anything else runs",
    ),
    pass(
        "crates/runtime/src/helper.rs",
        "eprintln!",
        1,
        "the helper's process has no subscriber for tracing",
    ),
    pass(
        "crates/runtime/src/helper/program.rs",
        "mem::forget",
        1,
        "the descriptors pass to the program that follows",
    ),
];

/// Hosts in addresses; the item is the host.
pub const FOREIGN_HOSTS: &[Exception] = &[
    pass("web/icon.svg", "www.w3.org", 1, "the name of the drawing's language, which nobody fetches"),
    pass("crates/image/src/host.rs", "huggingface.co", 1, "what `hf://` in a cog.yaml means to everybody"),
];

/// Modules that may have unsafe code.
pub const UNSAFE_MODULES: &[&str] = &[
    // Memory of sealed files.
    "crates/agent/src/mapped.rs",
    // Registers a descriptor that it owns.
    "crates/agent/src/polled.rs",
    // The clock of this place.
    "crates/cli/src/clock.rs",
    // Become a session leader; take over the descriptor of whoever waits for the start.
    "crates/cli/src/launch.rs",
    "crates/cli/src/verbs/up.rs",
    // Tests and probes: a stand-in for the runtime, the benchmark's floor, what a tenant may try.
    "crates/image/tests/support/mod.rs",
    "crates/runtime/examples/start_bench.rs",
    "crates/runtime/probe/attempts.rs",
    // The allocator's settings.
    "crates/server/src/memory.rs",
    // Every system call that rustix has no safe form of.
    "crates/runtime/src/sys.rs",
];
