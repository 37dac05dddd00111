//! add_tree and workdir: files without a container.

use std::sync::Arc;

use clunk_core::Digest;

use crate::ImageError;
use crate::beneath::Meta;
use crate::image::{Chain, LayerRef};
use crate::images::Inner;
use crate::progress::Progress;
use crate::stack::Stack;
use crate::trees::{self, Content, Placed};

pub(crate) async fn tree(
    inner: &Arc<Inner>,
    chain: &mut Chain,
    step: Digest,
    digest: Digest,
    title: &str,
    progress: &mut Progress<'_>,
) -> Result<(), ImageError> {
    let key = chain.next_key(step, None);
    let tree = inner.context.blobs.tree(digest).await.ok_or(ImageError::TreeMissing(digest))?;
    let below = inner.context.paths(&chain.stack);
    if !trees::fits_plainly(&tree, &Stack::new(below.clone())) {
        return place(inner, chain, key, trees::placed(&tree), title, progress).await;
    }
    // The tree's own layer serves every image that takes it.
    let layer = LayerRef::Tree(digest);
    progress.announce(title, inner.context.layers.exists(&layer)).await;
    inner.tree_layer(&tree, digest).await?;
    progress.pins.push(inner.pin(layer)?);
    chain.stack.push(layer);
    chain.key = key;
    Ok(())
}

/// Puts files on the chain as a layer of their own.
pub(crate) async fn place(
    inner: &Arc<Inner>,
    chain: &mut Chain,
    key: Digest,
    files: Vec<Placed>,
    title: &str,
    progress: &mut Progress<'_>,
) -> Result<(), ImageError> {
    let (context, owned) = (inner.context.clone(), title.to_string());
    let below = inner.context.paths(&chain.stack);
    let work = |_| async move { trees::commit(&context, files, below, LayerRef::Layer(key), owned).await };
    super::layer(inner, chain, key, title, progress, work).await
}

/// A working folder is made when the image has none of that name: a container could not start in it.
pub(crate) async fn workdir(
    inner: &Arc<Inner>,
    chain: &mut Chain,
    key: Digest,
    path: &str,
    title: &str,
    progress: &mut Progress<'_>,
) -> Result<(), ImageError> {
    let stack = Stack::new(inner.context.paths(&chain.stack));
    if stack.is_folder(path.as_bytes()) {
        progress.announce(title, true).await;
        return Ok(());
    }
    let folder = Placed { path: path.as_bytes().to_vec(), meta: Meta::FOLDER, content: Content::Folder };
    place(inner, chain, key, vec![folder], title, progress).await
}
