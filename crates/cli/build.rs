//! Puts the Python SDK and runner into the binary.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let sdk = Path::new(&env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("../../sdk/python");
    println!("cargo:rerun-if-changed={}", sdk.display());
    let mut files = Vec::new();
    collect(&sdk.join("clunk"), &mut files);
    for name in ["clunk_runner.py", "run_function.py"] {
        let path = sdk.join(name);
        if path.exists() {
            files.push(path);
        }
    }
    files.sort();
    let mut code = String::from("pub const FILES: &[(&str, &[u8])] = &[\n");
    let mut key = Fnv(0xcbf2_9ce4_8422_2325);
    for path in &files {
        println!("cargo:rerun-if-changed={}", path.display());
        let name = path.strip_prefix(&sdk).expect("beneath the SDK").display().to_string();
        let full = path.canonicalize().expect("it exists");
        writeln!(code, "    ({name:?}, include_bytes!({full:?})),").expect("memory");
        key.add(name.as_bytes());
        key.add(&fs::read(path).expect("a readable file"));
    }
    writeln!(code, "];\npub const KEY: &str = \"{:016x}\";", key.0).expect("memory");
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets it")).join("sdk.rs");
    fs::write(out, code).expect("the build folder is writable");
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    println!("cargo:rerun-if-changed={}", folder.display());
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() && name != "__pycache__" {
            collect(&path, files);
        } else if name.ends_with(".py") || name.ends_with(".pyi") || name == "py.typed" {
            files.push(path);
        }
    }
}

/// FNV-1a: names a set of files, and needs to resist nobody.
struct Fnv(u64);

impl Fnv {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes.iter().chain(&[0]) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
}
