//! Local files as layers: a tree laid out once by its digest, or fitted into an image.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clunk_core::Digest;
use clunk_core::tree::{Tree, TreeContent};

use crate::ImageError;
use crate::beneath::{Meta, Root};
use crate::context::Context;
use crate::fetch::blocking;
use crate::image::LayerRef;
use crate::stack::Stack;

/// One file, link or folder to be put somewhere.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    /// Absolute.
    pub path: Vec<u8>,
    pub meta: Meta,
    pub content: Content,
}

#[derive(Debug, Clone)]
pub(crate) enum Content {
    Blob(Digest),
    /// A file of the host.
    File(PathBuf),
    Link(Vec<u8>),
    Folder,
}

/// Bytes from which on a file shares its room on the disk with its blob. Of smaller ones little would be gained.
const SHARE_MIN: u64 = 1 << 20;

/// Folders that are not as others when an image does not say.
const SPECIAL_FOLDERS: &[(&[u8], u32)] = &[(b"/tmp", 0o1777), (b"/var/tmp", 0o1777), (b"/root", 0o700)];

/// The files of a tree where the tree says.
pub(crate) fn placed(tree: &Tree) -> Vec<Placed> {
    let place = |file: &clunk_core::tree::TreeFile| Placed {
        path: file.path.clone().into_bytes(),
        meta: Meta { mode: if file.executable { 0o755 } else { 0o644 }, ..Meta::FOLDER },
        content: match &file.content {
            TreeContent::Blob { digest, .. } => Content::Blob(*digest),
            TreeContent::Link { link } => Content::Link(link.clone().into_bytes()),
        },
    };
    tree.files.iter().map(place).collect()
}

/// Makes the layer of a tree, unless it is there.
pub(crate) async fn lay_out(context: &Arc<Context>, tree: &Tree, digest: Digest) -> Result<(), ImageError> {
    let layer = LayerRef::Tree(digest);
    if context.layers.exists(&layer) {
        return Ok(());
    }
    let files = placed(tree);
    let title = format!("files {}", digest.short());
    commit(context, files, Vec::new(), layer, title).await
}

/// Makes a layer of files, fitted to the layers below: a folder that is a link there is followed, and one that
/// exists there keeps its owner and permissions.
pub(crate) async fn commit(
    context: &Arc<Context>,
    files: Vec<Placed>,
    below: Vec<PathBuf>,
    layer: LayerRef,
    title: String,
) -> Result<(), ImageError> {
    let context = context.clone();
    blocking(move |cancel| {
        let scratch = context.layers.scratch()?;
        let stack = Stack::new(below);
        write(&context, files, &stack, &scratch.fs(), &cancel)?;
        context.layers.commit(&scratch, layer, &title).map(|_| ())
    })
    .await
}

/// Whether the tree's own layer can lie on the stack and give what fitting it would give.
pub(crate) fn fits_plainly(tree: &Tree, stack: &Stack) -> bool {
    let mut folders = HashSet::new();
    for file in &tree.files {
        folders.extend(parents(file.path.as_bytes()));
    }
    folders.iter().all(|folder| match stack.stat_plain(folder) {
        None => !stack.is_folder(folder) && special_mode(folder).is_none(),
        Some(meta) => {
            let mode = special_mode(folder).unwrap_or(0o755);
            meta.is_dir() && meta.mode() & 0o7777 == mode
        }
    })
}

fn special_mode(folder: &[u8]) -> Option<u32> {
    SPECIAL_FOLDERS.iter().find(|(path, _)| *path == folder).map(|(_, mode)| *mode)
}

/// `/a/b/c` gives `/a` and `/a/b`.
fn parents(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = path.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/');
    ends.map(|(at, _)| &path[..at])
}

fn write(
    context: &Context,
    files: Vec<Placed>,
    stack: &Stack,
    into: &std::path::Path,
    cancel: &AtomicBool,
) -> Result<(), ImageError> {
    let failed = |error: std::io::Error| ImageError::io("lay out files in", into, error);
    let mut root = Root::open(into, context.layers.ids.clone()).map_err(failed)?;
    let mut made = HashSet::new();
    for placed in files {
        if cancel.load(Ordering::Relaxed) {
            return Err(ImageError::Canceled);
        }
        let is_folder = matches!(placed.content, Content::Folder);
        let path = stack.resolve(&placed.path, is_folder).ok_or_else(|| {
            failed(std::io::Error::other(format!(
                "{} is a link in circles",
                String::from_utf8_lossy(&placed.path)
            )))
        })?;
        for folder in parents(&path) {
            if made.insert(folder.to_vec()) {
                make_folder(&mut root, folder, stack).map_err(failed)?;
            }
        }
        match &placed.content {
            Content::Folder => {
                if made.insert(path.clone()) && !make_known_folder(&mut root, &path, stack).map_err(failed)? {
                    root.folder(&path, placed.meta).map_err(failed)?;
                }
            }
            Content::Link(target) => root.symlink(&path, target, placed.meta).map_err(failed)?,
            Content::File(source) => {
                let mut file = File::open(source).map_err(|error| ImageError::io("read", source, error))?;
                root.file(&path, placed.meta, &mut file).map_err(failed)?;
                // The copy is all that is wanted: two of a large file need not fit.
                let _ = std::fs::remove_file(source);
            }
            Content::Blob(digest) => {
                let source = context.blobs.path(*digest).ok_or(ImageError::BlobMissing(*digest))?;
                let mut file = File::open(&source).map_err(|error| ImageError::io("read", &source, error))?;
                let shared = file.metadata().is_ok_and(|meta| meta.len() >= SHARE_MIN)
                    && root.share(&path, placed.meta, &file, &source).map_err(failed)?;
                if !shared {
                    root.file(&path, placed.meta, &mut file).map_err(failed)?;
                }
            }
        }
    }
    Ok(())
}

fn make_folder(root: &mut Root, folder: &[u8], stack: &Stack) -> std::io::Result<()> {
    if make_known_folder(root, folder, stack)? {
        return Ok(());
    }
    root.folder(folder, Meta { mode: special_mode(folder).unwrap_or(0o755), ..Meta::FOLDER })
}

/// A folder that the stack has gets the same owner and permissions; false when it has none.
fn make_known_folder(root: &mut Root, folder: &[u8], stack: &Stack) -> std::io::Result<bool> {
    match stack.stat_plain(folder).filter(|meta| meta.is_dir()) {
        None => Ok(false),
        Some(meta) => root.folder_like(folder, &meta).map(|()| true),
    }
}
