//! Tar archives to folders: packages of Debian and layers of OCI images.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::atomic::{AtomicBool, Ordering};

use tar::EntryType;

use crate::beneath::{Meta, Root};

/// Bytes one archive may unpack to; the largest model images in use are well below it.
const MAX_BYTES: u64 = 256 << 30;

/// Files of one archive; the largest Python environments in use have a few hundred thousand.
const MAX_FILES: u64 = 4_000_000;

/// Bytes of attributes kept per file.
const MAX_XATTR_BYTES: usize = 4 << 10;

/// Read ahead of the decoder; also what it takes to recognise the format.
const READ_BYTES: usize = 128 << 10;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// How an archive is unpacked.
pub(crate) struct Options<'a> {
    /// Whether `.wh.` files mean deletions, as in OCI layers.
    pub whiteouts: bool,
    /// Leaves out entries by path, which has no leading `./`.
    pub skip: &'a (dyn Fn(&[u8]) -> bool + Sync),
    /// Set when nobody wants the result any more.
    pub cancel: &'a AtomicBool,
}

/// Decodes xz, zstd or gzip, whichever the first bytes show; anything else passes as it is.
pub(crate) fn decoder<'a>(reader: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut reader = BufReader::with_capacity(READ_BYTES, reader);
    let head = reader.fill_buf()?;
    Ok(if head.starts_with(b"\xfd7zXZ\0") {
        Box::new(liblzma::read::XzDecoder::new_multi_decoder(reader))
    } else if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        Box::new(zstd::stream::read::Decoder::with_buffer(reader)?)
    } else if head.starts_with(&[0x1f, 0x8b]) {
        Box::new(flate2::bufread::MultiGzDecoder::new(reader))
    } else {
        Box::new(reader)
    })
}

/// Unpacks a tar stream beneath the root. Device files are left out: a container makes the few it may have.
pub(crate) fn unpack(reader: impl Read, root: &mut Root, options: &Options<'_>) -> io::Result<()> {
    let mut archive = tar::Archive::new(reader);
    archive.set_ignore_zeros(false);
    let (mut bytes, mut files) = (0u64, 0u64);
    for entry in archive.entries()? {
        if options.cancel.load(Ordering::Relaxed) {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "canceled"));
        }
        let mut entry = entry?;
        files += 1;
        bytes = bytes.saturating_add(entry.size());
        if files > MAX_FILES || bytes > MAX_BYTES {
            let text = format!("it unpacks to more than {MAX_FILES} files or {} GiB", MAX_BYTES >> 30);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        unpack_entry(&mut entry, root, options)?;
    }
    Ok(())
}

fn unpack_entry(
    entry: &mut tar::Entry<'_, impl Read>,
    root: &mut Root,
    options: &Options<'_>,
) -> io::Result<()> {
    let path = entry.path_bytes().into_owned();
    let mut clean = path.as_slice();
    while let Some(rest) = clean.strip_prefix(b"./").or_else(|| clean.strip_prefix(b"/")) {
        clean = rest;
    }
    let clean = clean.strip_suffix(b"/").unwrap_or(clean);
    if (options.skip)(clean) {
        return Ok(());
    }
    let (folder, name) = match clean.iter().rposition(|&byte| byte == b'/') {
        Some(at) => (&clean[..at], &clean[at + 1..]),
        None => (&b""[..], clean),
    };
    if options.whiteouts && name == OPAQUE {
        return root.opaque(folder);
    }
    if options.whiteouts && name.starts_with(WHITEOUT) {
        let gone = &name[WHITEOUT.len()..];
        if matches!(gone, b"" | b"." | b"..") {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a deletion of no file"));
        }
        return root.whiteout(&[folder, b"/", gone].concat());
    }
    let header = entry.header();
    let meta = Meta {
        mode: header.mode()?,
        uid: u32::try_from(header.uid()?).unwrap_or(0),
        gid: u32::try_from(header.gid()?).unwrap_or(0),
        mtime_s: header.mtime().ok(),
    };
    let target = entry.link_name_bytes().map(|name| name.into_owned());
    match header.entry_type() {
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            let size = entry.size();
            let written = root.file(clean, meta, entry)?;
            if written != size {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends in a file"));
            }
            keep_xattrs(entry, clean, root)
        }
        EntryType::Directory => root.folder(clean, meta),
        EntryType::Symlink => root.symlink(clean, &target.ok_or_else(no_target)?, meta),
        EntryType::Link => root.hard_link(clean, &target.ok_or_else(no_target)?),
        EntryType::Fifo => root.fifo(clean, meta),
        _ => Ok(()),
    }
}

fn no_target() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a link without a target")
}

/// Keeps plain user attributes. File capabilities do nothing without new privileges; overlayfs' own attributes
/// would let a layer steer the mount.
fn keep_xattrs(entry: &mut tar::Entry<'_, impl Read>, path: &[u8], root: &mut Root) -> io::Result<()> {
    let Ok(Some(extensions)) = entry.pax_extensions() else { return Ok(()) };
    let mut found = Vec::new();
    for extension in extensions.flatten() {
        let Some(name) = extension.key().ok().and_then(|key| key.strip_prefix("SCHILY.xattr.")) else {
            continue;
        };
        let allowed = name.starts_with("user.") && !name.starts_with("user.overlay.");
        if allowed && name.len() + extension.value_bytes().len() <= MAX_XATTR_BYTES {
            found.push((name.to_string(), extension.value_bytes().to_vec()));
        }
    }
    for (name, value) in found {
        // A file system without attributes still runs the image.
        let _ = root.set_xattr(path, &name, &value);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
