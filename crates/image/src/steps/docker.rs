//! stub
use crate::ImageError;
use crate::build::Progress;
use crate::dockerfile::Instruction;
use crate::image::Chain;
use crate::images::Inner;
use clunk_core::Digest;
use std::sync::Arc;
pub(crate) async fn line(
    _inner: &Arc<Inner>,
    _chain: &mut Chain,
    _step: Digest,
    _i: Instruction,
    _c: Option<Digest>,
    _p: &mut Progress<'_>,
) -> Result<(), ImageError> {
    Ok(())
}
