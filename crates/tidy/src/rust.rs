//! Rules over Rust code.

use crate::source::{self, Block};
use crate::{Offence, Tree};

pub const FUNCTION_LINES_MAX: usize = 70;

/// A call that some crates may not make.
pub struct Ban {
    pub pattern: &'static str,
    pub instead: &'static str,
    /// Beginnings of paths.
    pub within: &'static [&'static str],
    /// Whether tests may.
    pub tests_may: bool,
}

/// Code of the containers' helper: a process of one thread, which blocks nobody but itself.
const ONE_THREAD: &[&str] = &["crates/runtime/src/helper", "crates/runtime/src/cgroup.rs"];
const SLEEP: &str = "thread::sleep";

/// What a server runs on: a panic or a blocked thread there is everybody's.
const LIBRARIES: &[&str] =
    &["crates/core/", "crates/store/", "crates/image/", "crates/runtime/", "crates/agent/", "crates/server/"];
const ASYNC: &[&str] =
    &["crates/store/", "crates/image/", "crates/runtime/", "crates/agent/", "crates/server/"];
const PURE: &[&str] = &["crates/core/"];
const ALL: &[&str] = &["crates/"];

const fn ban(
    pattern: &'static str,
    instead: &'static str,
    within: &'static [&'static str],
    tests_may: bool,
) -> Ban {
    Ban { pattern, instead, within, tests_may }
}

pub const BANS: &[Ban] = &[
    ban(concat!("db", "g!"), "tracing, or nothing", ALL, false),
    ban(concat!("to", "do!"), "an error with a code", ALL, false),
    ban(concat!("unimple", "mented!"), "an error with a code", ALL, false),
    ban("println!", "tracing in libraries, `ui::print` in the command line", LIBRARIES, true),
    ban("eprintln!", "tracing in libraries, `ui::fail` in the command line", LIBRARIES, true),
    ban(".unwrap()", "`?`, or `.expect(\"why it cannot fail\")`", LIBRARIES, true),
    ban(SLEEP, "`tokio::time::sleep`, or a wait on the state itself", ASYNC, true),
    ban("unbounded_channel", "`mpsc::channel(BOUND)` with the bound a named constant", ALL, false),
    ban("process::exit", "an error that travels up to `main`", LIBRARIES, true),
    ban("mem::forget", "a type that is consumed", ALL, false),
    ban("env::set_var", "`Command::env`, or an argument", ALL, false),
    ban("static mut", "`OnceLock`, an atomic, or an argument", ALL, false),
    ban("std::fs::", "a port of the store: core does no I/O", PURE, true),
    ban("std::net::", "an argument: core does no I/O", PURE, true),
    ban("SystemTime::now", "an argument: core has no clock", PURE, false),
    ban("Instant::now", "an argument: core has no clock", PURE, false),
    ban("tokio::", "pure code: core waits for nothing", PURE, true),
];

/// Words in comments that say that something was left for later.
pub const LEFT_BEHIND: &[&str] = &[concat!("FIX", "ME"), concat!("X", "XX"), concat!("HA", "CK")];

struct Source<'a> {
    path: &'a str,
    text: &'a str,
    code: String,
    tests: Vec<Block>,
}

impl Source<'_> {
    fn is_test(&self, line: usize) -> bool {
        let folder = ["/tests/", "/benches/", "/examples/", "/probe/", "/contract/"]
            .iter()
            .any(|name| self.path.contains(name));
        folder
            || ["/tests.rs", "/contract.rs", "/build.rs"].iter().any(|name| self.path.ends_with(name))
            || self.tests.iter().any(|block| (block.first..=block.last).contains(&line))
    }
}

fn sources(tree: &Tree) -> impl Iterator<Item = Source<'_>> {
    tree.with_extension("rs").map(|(path, text)| {
        let code = source::blank(text);
        let tests = source::test_modules(&code);
        Source { path, text, code, tests }
    })
}

pub fn long_functions(tree: &Tree) -> Vec<Offence> {
    let mut found = Vec::new();
    for file in sources(tree) {
        for block in source::functions(&file.code).iter().filter(|block| block.lines() > FUNCTION_LINES_MAX) {
            let text =
                format!("`{}` has {} lines, more than {FUNCTION_LINES_MAX}", block.name, block.lines());
            found.push(Offence::new(file.path, block.first, &block.name, text));
        }
    }
    found
}

pub fn banned_calls(tree: &Tree) -> Vec<Offence> {
    let mut found = Vec::new();
    for file in sources(tree).filter(|file| !file.path.starts_with("crates/tidy/")) {
        for ban in BANS.iter().filter(|ban| ban.within.iter().any(|start| file.path.starts_with(start))) {
            for at in places(&file.code, ban.pattern) {
                let line = source::line_of(&file.code, at);
                if ban.pattern == SLEEP && ONE_THREAD.iter().any(|start| file.path.starts_with(start)) {
                    continue;
                }
                if !(ban.tests_may && file.is_test(line)) {
                    let text = format!("`{}` is banned, use {}", ban.pattern, ban.instead);
                    found.push(Offence::new(file.path, line, ban.pattern, text));
                }
            }
        }
    }
    found
}

/// Where a pattern stands, not as the end of a longer word.
fn places<'a>(code: &'a str, pattern: &'a str) -> impl Iterator<Item = usize> + 'a {
    let before = |at: usize| code[..at].chars().next_back();
    let whole = move |at: &usize| {
        !pattern.starts_with(|c: char| c.is_alphanumeric())
            || before(*at).is_none_or(|c| !(c.is_alphanumeric() || c == '_'))
    };
    code.match_indices(pattern).map(|(at, _)| at).filter(whole)
}

pub fn left_behind(tree: &Tree) -> Vec<Offence> {
    let mut found = Vec::new();
    let extensions = ["rs", "py", "pyi", "toml", "sh"];
    for (path, text) in extensions.iter().flat_map(|extension| tree.with_extension(extension)) {
        for (number, line) in text.lines().enumerate() {
            for word in LEFT_BEHIND.iter().filter(|word| source::words(line, word).next().is_some()) {
                found.push(Offence::new(path, number + 1, word, format!("`{word}` was left behind")));
            }
        }
    }
    found
}

/// Unsafe code outside the modules that may have it is an offence, and inside them without a reason.
pub fn unsafe_code(tree: &Tree, modules: &[&str]) -> Vec<Offence> {
    let mut found = Vec::new();
    for file in sources(tree) {
        let allowed = modules.contains(&file.path);
        let lines: Vec<&str> = file.text.lines().collect();
        for at in source::words(&file.code, "unsafe") {
            let line = source::line_of(&file.code, at);
            if !allowed {
                let text = "`unsafe` outside the modules that may have it, use a function of one of them";
                found.push(Offence::new(file.path, line, "unsafe", text));
            } else if !explained(&lines, line) {
                found.push(Offence::new(
                    file.path,
                    line,
                    "SAFETY",
                    "`unsafe` without a SAFETY comment above it",
                ));
            }
        }
    }
    found
}

/// A comment that holds SAFETY (or `# Safety`, for callers) directly above the statement.
fn explained(lines: &[&str], line: usize) -> bool {
    const STATEMENT_LINES: usize = 3;
    let above = &lines[..line.min(lines.len())];
    let says = |text: &&str| text.contains("SAFETY:") || text.contains("# Safety");
    let (near, rest) = above.split_at(above.len().saturating_sub(STATEMENT_LINES));
    rest.iter().any(says)
        || near.iter().rev().take_while(|text| text.trim_start().starts_with("//")).any(says)
}
