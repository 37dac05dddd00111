//! The Python SDK and runner, which travel in this binary.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

include!(concat!(env!("OUT_DIR"), "/sdk.rs"));

/// Lays the SDK out beneath a folder, unless this very version is there, and says where.
pub fn lay_out(parent: &Path) -> io::Result<PathBuf> {
    let folder = parent.join(format!("sdk-{}-{KEY}", env!("CARGO_PKG_VERSION")));
    if folder.exists() {
        return Ok(folder);
    }
    let temporary = parent.join(format!(".sdk-{}", std::process::id()));
    let _ = fs::remove_dir_all(&temporary);
    for (name, content) in FILES {
        let path = temporary.join(name);
        fs::create_dir_all(path.parent().unwrap_or(&temporary))?;
        fs::write(path, content)?;
    }
    match fs::rename(&temporary, &folder) {
        // Another process was quicker.
        Err(_) if folder.exists() => fs::remove_dir_all(&temporary)?,
        renamed => renamed?,
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_is_in_the_binary() {
        let has = |wanted: &str| FILES.iter().any(|(name, _)| *name == wanted);
        assert!(has("clunk/__init__.py"));
        assert!(!FILES.iter().any(|(name, _)| name.contains("__pycache__")));
    }
}
