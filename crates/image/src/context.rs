//! What every part of the crate works with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use clunk_core::Digest;
use clunk_runtime::{Limits, Runtime};

use crate::beneath::{Meta, Root};
use crate::fetch::Http;
use crate::host::{CA_PATH, HostSettings};
use crate::image::LayerRef;
use crate::layer::{Layers, random_name};
use crate::{BlobSource, ImageError};

pub(crate) struct Context {
    pub layers: Arc<Layers>,
    pub blobs: Arc<dyn BlobSource>,
    pub runtime: Arc<dyn Runtime>,
    pub http: Http,
    pub host: HostSettings,
    pub limits: Limits,
    pub runner_dir: Option<PathBuf>,
    pub source_root: String,
    /// The certificate layer, and the time of the file it was made of.
    pub ca_layer: Mutex<Option<(SystemTime, PathBuf)>>,
}

impl Context {
    /// A folder below `cache/`, made when missing.
    pub fn cache(&self, name: &str) -> Result<PathBuf, ImageError> {
        let path = self.layers.state().join("cache").join(name);
        std::fs::create_dir_all(&path).map_err(|error| ImageError::io("make folder", &path, error))?;
        Ok(path)
    }

    /// A folder below `cache/` that containers write to.
    pub fn shared_cache(&self, name: &str) -> Result<PathBuf, ImageError> {
        let path = self.cache(name)?;
        let given = self.layers.ids.give_to_root(&path);
        given.map_err(|error| ImageError::io("give", &path, error))?;
        Ok(path)
    }

    /// Folders of a stack, the topmost first.
    pub fn paths(&self, stack: &[LayerRef]) -> Vec<PathBuf> {
        stack.iter().rev().map(|layer| self.layers.path(layer)).collect()
    }

    /// Lower layers of a build container: the stack below the host's certificates.
    pub fn lowers(&self, stack: &[LayerRef]) -> Result<Vec<PathBuf>, ImageError> {
        let mut lowers: Vec<_> = self.host_layer()?.into_iter().collect();
        lowers.extend(self.paths(stack));
        Ok(lowers)
    }

    /// Variables every build step gets, which do not stay in the image.
    pub fn build_env(&self) -> BTreeMap<String, String> {
        let mut env = self.host.ca_env();
        env.extend(self.host.proxies.clone());
        env.insert("HOME".into(), "/root".into());
        env
    }

    /// A folder with the host's certificates where containers look for them, made anew when they change.
    pub fn host_layer(&self) -> Result<Option<PathBuf>, ImageError> {
        let Some(bundle) = &self.host.ca_bundle else { return Ok(None) };
        let failed = |error| ImageError::io("read certificates from", bundle, error);
        let modified = std::fs::metadata(bundle).and_then(|meta| meta.modified()).map_err(failed)?;
        let mut known = self.ca_layer.lock().expect("no panic while held");
        if let Some((time, path)) = &*known
            && *time == modified
        {
            return Ok(Some(path.clone()));
        }
        let content = std::fs::read(bundle).map_err(failed)?;
        let path = self.write_host_layer(&content)?;
        *known = Some((modified, path.clone()));
        Ok(Some(path))
    }

    fn write_host_layer(&self, content: &[u8]) -> Result<PathBuf, ImageError> {
        let home = self.layers.state().join("host");
        let path = home.join(Digest::of(content).to_string());
        if path.is_dir() {
            return Ok(path);
        }
        let temporary = home.join(format!(".tmp-{}", random_name()));
        let ids = self.layers.ids.clone();
        let make = || -> std::io::Result<()> {
            std::fs::create_dir_all(&temporary)?;
            let mut root = Root::open(&temporary, ids)?;
            root.folder(b"/", Meta::FOLDER)?;
            root.file(CA_PATH.as_bytes(), Meta { mode: 0o644, ..Meta::FOLDER }, &mut &*content)?;
            std::fs::rename(&temporary, &path)
        };
        match make() {
            Err(_) if path.is_dir() => Ok(path),
            Err(error) => Err(ImageError::io("write", &temporary, error)),
            Ok(()) => Ok(path),
        }
    }

    /// Takes the host's certificates out of a finished step: a program that only touched the file has copied it.
    pub fn remove_host_files(&self, upper: &Path) -> Result<(), ImageError> {
        let failed = |error| ImageError::io("clean", upper, error);
        for folder in [".clunk-build", ".clunk"] {
            crate::beneath::remove_beneath(upper, folder).map_err(failed)?;
        }
        let copied = upper.join(&CA_PATH[1..]);
        let is_file = std::fs::symlink_metadata(&copied).is_ok_and(|meta| meta.is_file());
        let Some(bundle) = self.host.ca_bundle.as_ref().filter(|_| is_file) else { return Ok(()) };
        // The parents may be links that hostile code put there; only a plain path is looked at.
        let plain = ["etc", "etc/ssl", "etc/ssl/certs"]
            .iter()
            .all(|part| std::fs::symlink_metadata(upper.join(part)).is_ok_and(|meta| meta.is_dir()));
        if plain && std::fs::read(&copied).ok() == std::fs::read(bundle).ok() {
            crate::beneath::remove_beneath(upper, &CA_PATH[1..]).map_err(failed)?;
        }
        Ok(())
    }
}
