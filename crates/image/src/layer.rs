//! The layers of a state folder: made aside, measured, and put in place by one rename.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use clunk_core::Digest;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::ImageError;
use crate::beneath::Ids;
use crate::image::LayerRef;

/// Beginning of names of unfinished work, removed when the folder is opened next.
const TEMPORARY: &str = ".tmp-";

/// Name of the mark that a layer is on the disk.
const SETTLED: &str = "settled";

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LayerMeta {
    pub title: String,
    /// Bytes on disk.
    pub size_bytes: u64,
    pub files: u64,
    pub created_ms: u64,
    /// Of the machine when the layer was made.
    pub boot: String,
}

/// The layer folders and who uses them now.
pub(crate) struct Layers {
    state: PathBuf,
    pub ids: Ids,
    pins: Mutex<HashMap<LayerRef, usize>>,
    /// Layers that are not known to be on the disk, only in the kernel's memory.
    unsettled: Mutex<Unsettled>,
}

#[derive(Default)]
struct Unsettled {
    homes: Vec<PathBuf>,
    writing: bool,
}

/// Keeps a layer from being pruned.
pub(crate) struct Pin {
    layers: Arc<Layers>,
    layer: LayerRef,
}

/// A folder for work in progress; gone when dropped.
pub(crate) struct Scratch {
    path: PathBuf,
    ids: Ids,
}

impl Layers {
    pub fn open(state: &Path, ids: Ids) -> Result<Arc<Self>, ImageError> {
        for name in ["layers", "trees", "images", "bases", "tools", "cache"] {
            let folder = state.join(name);
            fs::create_dir_all(&folder).map_err(|error| ImageError::io("make folder", &folder, error))?;
            // The mapped users of containers must be able to walk down to their files.
            let _ = fs::set_permissions(&folder, fs::Permissions::from_mode(0o755));
            remove_leftovers(&folder, &ids)?;
        }
        let layers = Self { state: state.into(), ids, pins: Mutex::default(), unsettled: Mutex::default() };
        layers.remove_unsettled()?;
        Ok(Arc::new(layers))
    }

    pub fn state(&self) -> &Path {
        &self.state
    }

    fn home(&self, layer: &LayerRef) -> PathBuf {
        match layer {
            LayerRef::Layer(key) => self.state.join("layers").join(key.to_string()),
            LayerRef::Tree(digest) => self.state.join("trees").join(digest.to_string()),
        }
    }

    /// The folder for overlayfs.
    pub fn path(&self, layer: &LayerRef) -> PathBuf {
        self.home(layer).join("fs")
    }

    pub fn exists(&self, layer: &LayerRef) -> bool {
        self.home(layer).join("layer.json").is_file()
    }

    pub fn meta(&self, layer: &LayerRef) -> Option<LayerMeta> {
        read_json(&self.home(layer).join("layer.json")).ok()
    }

    /// Uses the layer, if it is there.
    pub fn pin(self: &Arc<Self>, layer: LayerRef) -> Option<Pin> {
        let mut pins = self.pins.lock().expect("no panic while held");
        if !self.exists(&layer) {
            return None;
        }
        *pins.entry(layer).or_default() += 1;
        Some(Pin { layers: self.clone(), layer })
    }

    /// A private folder with `fs/` in it, owned by the container's root.
    pub fn scratch(&self) -> Result<Scratch, ImageError> {
        let path = self.state.join("layers").join(format!("{TEMPORARY}{}", random_name()));
        let make = || -> io::Result<()> {
            fs::create_dir(&path)?;
            fs::DirBuilder::new().mode(0o755).create(path.join("fs"))?;
            self.ids.give_to_root(&path.join("fs"))
        };
        make().map_err(|error| ImageError::io("make folder", &path, error))?;
        Ok(Scratch { path, ids: self.ids.clone() })
    }

    /// Makes what the scratch folder holds the layer; blocks. Another one that came first wins.
    pub fn commit(
        self: &Arc<Self>,
        scratch: &Scratch,
        layer: LayerRef,
        title: &str,
    ) -> Result<LayerMeta, ImageError> {
        let failed = |error| ImageError::io("finish layer", &scratch.path, error);
        for leftover in ["work", "mounts"].map(|name| scratch.path.join(name)) {
            match remove_all(&leftover) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    self.throw_away(&leftover)?
                }
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
                _ => {}
            }
        }
        let (size_bytes, files) = measure(&scratch.fs()).map_err(failed)?;
        let meta =
            LayerMeta { title: title.into(), size_bytes, files, created_ms: now_ms(), boot: boot_id() };
        write_json(&scratch.path.join("layer.json"), &meta)?;
        let home = self.home(&layer);
        match fs::rename(&scratch.path, &home) {
            Ok(()) => {}
            Err(_) if self.exists(&layer) => {}
            Err(error) => return Err(failed(error)),
        }
        sync_folder(home.parent().expect("a layer has a parent folder"));
        self.settle(home);
        Ok(meta)
    }

    /// Writes the layer's files to the disk behind the builder's back and marks it then. Waiting for the disk would
    /// double the time of small steps; a layer without the mark is thrown away after the machine went down.
    fn settle(self: &Arc<Self>, home: PathBuf) {
        let mut unsettled = self.unsettled.lock().expect("no panic while held");
        unsettled.homes.push(home);
        if std::mem::replace(&mut unsettled.writing, true) {
            return;
        }
        let layers = self.clone();
        std::thread::spawn(move || {
            loop {
                let homes = {
                    let mut unsettled = layers.unsettled.lock().expect("no panic while held");
                    let homes = std::mem::take(&mut unsettled.homes);
                    unsettled.writing = !homes.is_empty();
                    homes
                };
                if homes.is_empty() {
                    return;
                }
                let written = fs::File::open(&layers.state).map(|state| rustix::fs::syncfs(&state));
                if matches!(written, Ok(Ok(()))) {
                    // A layer that was pruned meanwhile needs no mark.
                    homes.iter().for_each(|home| drop(fs::File::create(home.join(SETTLED))));
                }
            }
        });
    }

    /// Removes layers of which the machine may have lost a part when it went down.
    fn remove_unsettled(&self) -> Result<(), ImageError> {
        let boot = boot_id();
        for folder in ["layers", "trees"] {
            let folder = self.state.join(folder);
            let entries =
                fs::read_dir(&folder).map_err(|error| ImageError::io("read folder", &folder, error))?;
            for home in
                entries.flatten().map(|entry| entry.path()).filter(|home| !home.join(SETTLED).exists())
            {
                let same =
                    read_json::<LayerMeta>(&home.join("layer.json")).is_ok_and(|meta| meta.boot == boot);
                if !same {
                    self.throw_away(&home)?;
                }
            }
        }
        Ok(())
    }

    /// Removes layers that are not wanted and not in use; says how many bytes that freed.
    pub fn prune(&self, wanted: impl Fn(&LayerRef, Option<&LayerMeta>) -> bool) -> Result<u64, ImageError> {
        Ok(self.put_unwanted_aside(wanted)?.remove())
    }

    /// Takes layers out that are not wanted and not in use.
    pub fn put_unwanted_aside(
        &self,
        wanted: impl Fn(&LayerRef, Option<&LayerMeta>) -> bool,
    ) -> Result<Aside, ImageError> {
        let mut aside = Aside { paths: Vec::new(), bytes: 0, ids: self.ids.clone() };
        for (folder, of) in
            [("layers", LayerRef::Layer as fn(Digest) -> LayerRef), ("trees", LayerRef::Tree as fn(_) -> _)]
        {
            let folder = self.state.join(folder);
            let failed = |error| ImageError::io("read folder", &folder, error);
            for entry in fs::read_dir(&folder).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let name = entry.file_name();
                let Some(layer) = name.to_str().and_then(|name| name.parse().ok()).map(of) else { continue };
                let meta = self.meta(&layer);
                if wanted(&layer, meta.as_ref()) {
                    continue;
                }
                let pins = self.pins.lock().expect("no panic while held");
                if pins.contains_key(&layer) {
                    continue;
                }
                aside.bytes += meta.map_or(0, |meta| meta.size_bytes);
                aside.paths.push(self.put_aside(&entry.path())?);
            }
        }
        Ok(aside)
    }

    /// Out of the way at once, and then away.
    fn throw_away(&self, path: &Path) -> Result<(), ImageError> {
        let trash = self.put_aside(path)?;
        remove(&trash, &self.ids);
        Ok(())
    }

    fn put_aside(&self, path: &Path) -> Result<PathBuf, ImageError> {
        let trash = self.state.join("layers").join(format!("{TEMPORARY}{}", random_name()));
        fs::rename(path, &trash).map_err(|error| ImageError::io("remove", path, error))?;
        Ok(trash)
    }
}

/// Layers that were taken out. Those that are not removed go when the folder is opened next.
#[must_use = "what was put aside is still on the disk"]
pub struct Aside {
    paths: Vec<PathBuf>,
    bytes: u64,
    ids: Ids,
}

impl Aside {
    /// May take long. Says how many bytes that freed.
    pub fn remove(self) -> u64 {
        self.paths.iter().for_each(|path| remove(path, &self.ids));
        self.bytes
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut pins = self.layers.pins.lock().expect("no panic while held");
        if let Some(count) = pins.get_mut(&self.layer) {
            *count -= 1;
            if *count == 0 {
                pins.remove(&self.layer);
            }
        }
    }
}

impl Scratch {
    /// What becomes the layer.
    pub fn fs(&self) -> PathBuf {
        self.path.join("fs")
    }

    pub fn work(&self) -> PathBuf {
        self.path.join("work")
    }

    /// A folder beside it, owned by the container's root, for a mount; not part of the layer.
    pub fn mount(&self, name: &str, ids: &Ids) -> Result<PathBuf, ImageError> {
        let path = self.path.join("mounts").join(name);
        let make = || -> io::Result<()> {
            fs::create_dir_all(&path)?;
            ids.give_to_root(&path)
        };
        make().map_err(|error| ImageError::io("make folder", &path, error))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let path = std::mem::take(&mut self.path);
        if path.exists() {
            let ids = self.ids.clone();
            let executor = tokio::runtime::Handle::try_current().ok();
            // May be a hundred thousand files: not on a thread that serves others.
            std::thread::spawn(move || {
                let _inside = executor.as_ref().map(|executor| executor.enter());
                remove(&path, &ids);
            });
        }
    }
}

/// Removes unfinished work of a process that was killed. What cannot be removed harms nobody and stays.
pub(crate) fn remove_leftovers(folder: &Path, ids: &Ids) -> Result<(), ImageError> {
    let failed = |error| ImageError::io("clean", folder, error);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
            remove(&entry.path(), ids);
        }
    }
    Ok(())
}

/// Removes what lies out of the way, or has it removed: without root, files of other users of a container are not
/// ours to remove, but the runtime's.
fn remove(path: &Path, ids: &Ids) {
    match remove_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => ids.discard(path),
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "could not remove a temporary folder");
        }
        _ => {}
    }
}

/// Removes a file or folder. Without root, folders of ours that nobody may enter, such as overlayfs' working folder,
/// are opened first; those of other users of a container stay.
fn remove_all(path: &Path) -> io::Result<()> {
    let is_folder = path.symlink_metadata()?.is_dir();
    let remove = || if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match remove() {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_folders(path);
            remove()
        }
        other => other,
    }
}

fn open_folders(folder: &Path) {
    // Not ours, then: the removal that follows says so.
    let _ = fs::set_permissions(folder, fs::Permissions::from_mode(0o700));
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_folders(&entry.path());
        }
    }
}

/// Bytes on disk and number of files; a file with several names counts once.
pub(crate) fn measure(folder: &Path) -> io::Result<(u64, u64)> {
    let (mut bytes, mut files) = (0, 0);
    let mut seen = std::collections::HashSet::new();
    let mut todo = vec![folder.to_path_buf()];
    while let Some(folder) = todo.pop() {
        let entries = match fs::read_dir(&folder) {
            // Without root a folder of another user of the container; little is in such.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let meta = entry.metadata()?;
            files += 1;
            if meta.is_dir() {
                todo.push(entry.path());
            }
            if meta.nlink() < 2 || meta.is_dir() || seen.insert(meta.ino()) {
                bytes += meta.blocks() * 512;
            }
        }
    }
    Ok((bytes, files))
}

pub(crate) fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    now.as_millis() as u64
}

/// Changes whenever the machine starts.
fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().into()
}

/// A name nobody else uses, not a secret.
pub(crate) fn random_name() -> String {
    clunk_core::id::ContainerId::fresh().to_string()
}

pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, ImageError> {
    let text = fs::read(path).map_err(|error| ImageError::io("read", path, error))?;
    serde_json::from_slice(&text)
        .map_err(|error| ImageError::Corrupt { path: path.into(), reason: error.to_string() })
}

/// Writes the file whole or not at all.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), ImageError> {
    let folder = path.parent().expect("a file has a folder");
    let temporary = folder.join(format!("{TEMPORARY}{}", random_name()));
    let write = || -> io::Result<()> {
        let mut file = fs::File::create(&temporary)?;
        file.write_all(&serde_json::to_vec_pretty(value).expect("our types have a JSON form"))?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|error| {
        let _ = fs::remove_file(&temporary);
        ImageError::io("write", path, error)
    })
}

fn sync_folder(folder: &Path) {
    if let Err(error) = fs::File::open(folder).and_then(|file| file.sync_all()) {
        tracing::warn!(path = %folder.display(), %error, "could not sync a folder");
    }
}
