//! This program itself, so that an image can serve its model with nothing of ours beside it.
//!
//! The program is linked against this machine's C library, which another image may lack, or have an older one of, or one
//! of another kind. So the libraries that it runs with here go along, with their loader, and it is started through that
//! loader: the image's own libraries are not looked at, and the image's programs do not see these.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::archive::LayerWriter;
use crate::RUNNER_PATH;

/// The running program, also when its file was replaced meanwhile.
const PROGRAM: &str = "/proc/self/exe";

/// What the running program has mapped.
const MAPS: &str = "/proc/self/maps";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program {
    pub binary: PathBuf,
    /// None: linked statically.
    pub loader: Option<PathBuf>,
    pub libraries: Vec<PathBuf>,
}

impl Program {
    /// The one that runs now.
    pub fn running() -> io::Result<Self> {
        Ok(Self::from_maps(&fs::read_to_string(MAPS)?))
    }

    fn from_maps(maps: &str) -> Self {
        let mut found: BTreeMap<String, PathBuf> = BTreeMap::new();
        for line in maps.lines() {
            // Five fields, then the path, which may hold blanks.
            let Some(path) = line.find('/').map(|at| Path::new(&line[at..])) else { continue };
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if is_library(name) {
                found.entry(name.into()).or_insert_with(|| path.into());
            }
        }
        let loader = found.keys().find(|name| name.starts_with("ld-")).cloned();
        let loader = loader.and_then(|name| found.remove(&name));
        Self { binary: PROGRAM.into(), loader, libraries: found.into_values().collect() }
    }

    pub fn write(&self, layer: &mut LayerWriter<'_>) -> io::Result<()> {
        layer.host_file(&place(), 0o755, &self.binary)?;
        for library in self.loader.iter().chain(&self.libraries) {
            layer.host_file(&inside(library), 0o755, library)?;
        }
        Ok(())
    }

    /// How the program is started in the image.
    pub fn command(&self) -> Vec<String> {
        let program = place();
        match &self.loader {
            None => vec![program],
            Some(loader) => {
                vec![inside(loader), "--library-path".into(), format!("{RUNNER_PATH}/lib"), program]
            }
        }
    }
}

/// Where the program lies in the image: not beside the runner, whose package has its name.
fn place() -> String {
    format!("{RUNNER_PATH}/bin/clunk")
}

/// Where a library lies in the image.
fn inside(library: &Path) -> String {
    format!("{RUNNER_PATH}/lib/{}", library.file_name().unwrap_or_default().to_string_lossy())
}

fn is_library(name: &str) -> bool {
    name.ends_with(".so") || name.contains(".so.")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
55d0-55d1 r-xp 00000000 fe:01 12                 /opt/clunk
7f00-7f01 r--p 00000000 fe:01 13                 /usr/lib/x86_64-linux-gnu/libc.so.6
7f01-7f02 r-xp 00001000 fe:01 13                 /usr/lib/x86_64-linux-gnu/libc.so.6
7f02-7f03 r--p 00000000 fe:01 14                 /usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2
7f03-7f04 rw-p 00000000 00:00 0                  [stack]
7f05-7f06 rw-s 00000000 fe:01 15                 /var/lib/clunk/clunk.db-shm
";

    #[test]
    fn libraries_and_loader_are_told_apart() {
        let program = Program::from_maps(MAPS);
        assert_eq!(program.loader, Some("/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2".into()));
        assert_eq!(program.libraries, [PathBuf::from("/usr/lib/x86_64-linux-gnu/libc.so.6")]);
        assert_eq!(
            program.command(),
            ["/.clunk/lib/ld-linux-x86-64.so.2", "--library-path", "/.clunk/lib", "/.clunk/bin/clunk"]
        );
    }

    #[test]
    fn a_static_program_needs_no_loader() {
        let program = Program::from_maps("55d0-55d1 r-xp 00000000 fe:01 12  /opt/clunk\n");
        assert_eq!(program.command(), ["/.clunk/bin/clunk"]);
    }
}
