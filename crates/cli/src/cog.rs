//! Cog projects on this machine: where they are, and what their settings say.

use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use clunk_core::error::ErrorCode;
use clunk_dialects::cog::config::{FILE_NAME, MAX_FILE_BYTES};
use clunk_dialects::cog::project::{Found, MAX_LISTED, MAX_TEXT_BYTES, Project, Unreadable};
use clunk_dialects::cog::reading::{self, Reading};
use serde::Serialize;

use crate::ui;

/// Folders above the given one that may hold the file.
const MAX_PARENTS: usize = 100;

/// What is known of a project before anything is built.
#[derive(Serialize)]
pub struct Described {
    /// Absolute.
    pub file: PathBuf,
    /// Absolute: the folder of `file`.
    pub root: PathBuf,
    #[serde(flatten)]
    pub reading: Reading,
}

/// Finds and reads the project of a folder; `name` stands for `cog.yaml`.
pub fn describe(folder: &Path, name: Option<&str>) -> anyhow::Result<Described> {
    let file = find(folder, name.unwrap_or(FILE_NAME))?;
    let root = file.parent().unwrap_or(Path::new("/")).to_path_buf();
    let text = match read_text(&file, MAX_FILE_BYTES) {
        Ok(text) => text,
        Err(why) => return Err(unreadable(&file, why)),
    };
    let shown = file.file_name().unwrap_or_default().to_string_lossy();
    let reading = reading::read(&text, &shown, &Folder { root: root.clone() });
    Ok(Described { file, root, reading })
}

/// The file in the folder or the nearest one above it.
fn find(folder: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let start = folder.canonicalize().map_err(|error| {
        let hint = "name the folder of a model: the one with its cog.yaml";
        ui::error(ErrorCode::NotFound, format!("could not open {}: {error}", folder.display()), hint)
    })?;
    if start.is_file() {
        return Ok(start);
    }
    let places = start.ancestors().take(MAX_PARENTS + 1).map(|folder| folder.join(name));
    places.into_iter().find(|path| path.is_file()).ok_or_else(|| {
        let text = format!("no {name} in {} or in a folder above it", start.display());
        ui::error(ErrorCode::NotFound, text, "write a project to start from: clunk init cog")
    })
}

fn unreadable(file: &Path, why: Unreadable) -> anyhow::Error {
    let (text, hint) = match why {
        Unreadable::TooLarge => {
            (format!("is larger than {MAX_FILE_BYTES} bytes"), "it must be the settings of a model")
        }
        Unreadable::NotText { line } => (format!("is not UTF-8 text, from line {line}"), "save it as UTF-8"),
        Unreadable::Missing(_) => ("is not a file".into(), "name the folder of a model"),
        Unreadable::Failed(why) => (format!("could not be read: {why}"), "see to its permissions"),
    };
    ui::error(ErrorCode::BadCogConfig, format!("{} {text}", file.display()), hint)
}

/// Reads no more than is allowed, whatever the file says about its size.
fn read_text(path: &Path, most: u64) -> Result<String, Unreadable> {
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => Unreadable::Missing(Found::Nothing),
        _ => Unreadable::Failed(error.to_string()),
    };
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(failed)?;
    file.take(most + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > most {
        return Err(Unreadable::TooLarge);
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        Unreadable::NotText { line: good.iter().filter(|byte| **byte == b'\n').count() + 1 }
    })
}

/// A project in a folder of this machine. Links are followed as long as they stay inside.
struct Folder {
    root: PathBuf,
}

impl Folder {
    fn place(&self, path: &str) -> Result<PathBuf, Found> {
        let place = self.root.join(path).canonicalize().map_err(|_| Found::Nothing)?;
        if place.starts_with(&self.root) { Ok(place) } else { Err(Found::Outside) }
    }
}

impl Project for Folder {
    fn look(&self, path: &str) -> Found {
        match self.place(path) {
            Ok(place) if place.is_file() => Found::File,
            Ok(place) if place.is_dir() => Found::Folder,
            Ok(_) => Found::Nothing,
            Err(found) => found,
        }
    }

    fn list(&self, path: &str) -> Option<Vec<String>> {
        let mut found = Vec::new();
        let mut todo = vec![path.to_string()];
        let mut seen = 0;
        while let Some(here) = todo.pop() {
            let Ok(place) = self.place(&here) else { continue };
            for entry in fs::read_dir(place).into_iter().flatten().flatten() {
                seen += 1;
                if seen > MAX_LISTED {
                    return None;
                }
                let path = format!("{here}/{}", entry.file_name().to_string_lossy());
                match self.look(&path) {
                    Found::File => found.push(path),
                    // A link to a folder may lead round in circles.
                    Found::Folder if entry.file_type().is_ok_and(|kind| kind.is_dir()) => todo.push(path),
                    _ => {}
                }
            }
        }
        found.sort();
        Some(found)
    }

    fn read(&self, path: &str) -> Result<String, Unreadable> {
        match self.look(path) {
            Found::File => read_text(&self.place(path).map_err(Unreadable::Missing)?, MAX_TEXT_BYTES),
            found => Err(Unreadable::Missing(found)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_file_above_is_found() {
        let home = tempfile::tempdir().unwrap();
        let deep = home.path().join("a/b");
        fs::create_dir_all(&deep).unwrap();
        fs::write(home.path().join(FILE_NAME), "run: run.py:Runner\n").unwrap();
        fs::write(home.path().join("run.py"), "").unwrap();
        let found = describe(&deep, None).unwrap();
        assert_eq!(found.root, home.path().canonicalize().unwrap());
        assert!(!found.reading.has_errors());
        assert!(describe(&deep, Some("other.yaml")).is_err());
    }

    #[test]
    fn links_out_of_the_project_are_not_followed() {
        let home = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/passwd", home.path().join("requirements.txt")).unwrap();
        let folder = Folder { root: home.path().canonicalize().unwrap() };
        assert_eq!(folder.look("requirements.txt"), Found::Outside);
        assert!(folder.read("requirements.txt").is_err());
    }

    #[test]
    fn what_is_no_text_says_where() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(FILE_NAME);
        fs::write(&path, b"run: a\nb: \xff\n").unwrap();
        assert_eq!(read_text(&path, 100), Err(Unreadable::NotText { line: 2 }));
        assert_eq!(read_text(&path, 3), Err(Unreadable::TooLarge));
    }
}
