//! One layer of an OCI image: a gzipped tar archive that is the same, bit by bit, whenever it is made of the same files.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use clunk_core::Digest;
use clunk_core::digest::Hasher;
use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{EntryType, Header};

use crate::beneath::Ids;
use crate::stack::{is_opaque, is_whiteout};

/// The time of what has no time of its own: the first one that every archive format can hold, 1980-01-01.
pub(super) const FIXED_TIME_S: u64 = 315_532_800;

/// Measured on an image of Python packages: level 6 takes twice the time and saves two percent.
const COMPRESSION: u32 = 4;

/// A name that fits into the old header; longer ones are in an extended one.
const NAME_BYTES: usize = 100;

const COPY_BYTES: usize = 128 << 10;

/// Folders in one another; the kernel opens no deeper path anyway.
const MAX_DEPTH: usize = 1000;

/// Bytes of a file's attributes that are kept.
const MAX_XATTR_BYTES: usize = 4 << 10;

/// A finished layer.
#[derive(Debug, Clone)]
pub(super) struct LayerBlob {
    pub file: PathBuf,
    /// Of the compressed bytes: the name of the blob.
    pub digest: Digest,
    pub size: u64,
    /// Of the bytes before compression.
    pub diff_id: Digest,
}

/// Counts and digests what passes.
struct Digesting<W> {
    inner: W,
    hasher: Hasher,
    bytes: u64,
}

impl<W: Write> Digesting<W> {
    fn new(inner: W) -> Self {
        Self { inner, hasher: Hasher::default(), bytes: 0 }
    }
}

impl<W: Write> Write for Digesting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// What an entry is, besides its name.
struct Entry<'a> {
    kind: EntryType,
    mode: u32,
    owner: (u32, u32),
    mtime_s: u64,
    size: u64,
    link: &'a [u8],
    xattrs: Vec<(String, Vec<u8>)>,
}

impl Entry<'_> {
    /// Of root's, with the fixed time.
    fn plain(kind: EntryType, mode: u32) -> Self {
        let (link, xattrs) = (&b""[..], Vec::new());
        Self { kind, mode, owner: (0, 0), mtime_s: FIXED_TIME_S, size: 0, link, xattrs }
    }
}

pub(super) struct LayerWriter<'a> {
    out: Digesting<GzEncoder<Digesting<BufWriter<File>>>>,
    file: PathBuf,
    ids: &'a Ids,
    cancel: &'a AtomicBool,
    /// The first name of each file that has several.
    linked: HashMap<(u64, u64), Vec<u8>>,
    made: std::collections::HashSet<Vec<u8>>,
    buffer: Vec<u8>,
}

/// Which time files get.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Times {
    /// Their own: Python looks at it to know whether bytecode is still good.
    Kept,
    Fixed,
}

impl<'a> LayerWriter<'a> {
    pub fn new(file: PathBuf, ids: &'a Ids, cancel: &'a AtomicBool) -> io::Result<Self> {
        let sealed = Digesting::new(BufWriter::with_capacity(COPY_BYTES, File::create_new(&file)?));
        let out = Digesting::new(GzEncoder::new(sealed, Compression::new(COMPRESSION)));
        let (linked, made) = (HashMap::new(), std::collections::HashSet::new());
        Ok(Self { out, file, ids, cancel, linked, made, buffer: vec![0; COPY_BYTES] })
    }

    pub fn finish(mut self) -> io::Result<LayerBlob> {
        self.out.write_all(&[0; 1024])?;
        let diff_id = self.out.hasher.finish();
        let sealed = self.out.inner.finish()?;
        sealed.inner.into_inner()?.sync_data()?;
        Ok(LayerBlob { file: self.file, digest: sealed.hasher.finish(), size: sealed.bytes, diff_id })
    }

    /// What a folder for overlayfs holds, deletions too.
    pub fn overlay(&mut self, folder: &Path, times: Times) -> io::Result<()> {
        self.walk(folder, b"", times, 0)
    }

    /// A file of our own; its folders are made when this layer has not got them.
    pub fn bytes(&mut self, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        let size = content.len() as u64;
        self.new_file(path, mode, size, &mut &*content)
    }

    /// A file of the host's.
    pub fn host_file(&mut self, path: &str, mode: u32, source: &Path) -> io::Result<()> {
        let mut file = File::open(source)?;
        let size = file.metadata()?.len();
        self.new_file(path, mode, size, &mut file)
    }

    /// The files of a host's folder, below a path of the image.
    pub fn host_folder(&mut self, path: &str, source: &Path) -> io::Result<()> {
        let at = path.trim_matches('/');
        self.folders(at.as_bytes())?;
        self.folder(at.as_bytes())?;
        self.walk(source, format!("{at}/").as_bytes(), Times::Fixed, 0)
    }

    fn new_file(&mut self, path: &str, mode: u32, size: u64, content: &mut dyn Read) -> io::Result<()> {
        let name = path.trim_start_matches('/').as_bytes();
        self.folders(name)?;
        if self.made.contains(name) {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                format!("{path} is a folder of the layer"),
            ));
        }
        self.entry(name, &Entry { size, ..Entry::plain(EntryType::Regular, mode) })?;
        self.content(content, size)
    }

    /// Every folder on the way to a path.
    fn folders(&mut self, path: &[u8]) -> io::Result<()> {
        let ends: Vec<usize> =
            path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at).collect();
        ends.into_iter().try_for_each(|end| self.folder(&path[..end]))
    }

    fn folder(&mut self, path: &[u8]) -> io::Result<()> {
        if path.is_empty() || !self.made.insert(path.to_vec()) {
            return Ok(());
        }
        self.entry(&[path, b"/"].concat(), &Entry::plain(EntryType::Directory, 0o755))
    }

    fn walk(&mut self, folder: &Path, prefix: &[u8], times: Times, depth: usize) -> io::Result<()> {
        if depth > MAX_DEPTH {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "folders are nested too deep"));
        }
        let mut names = Vec::new();
        for entry in fs::read_dir(folder).map_err(|error| named(folder, &error))? {
            names.push(entry?.file_name());
        }
        names.sort();
        for name in names {
            if self.cancel.load(Ordering::Relaxed) {
                return Err(io::Error::new(io::ErrorKind::Interrupted, "nobody waits for it any more"));
            }
            let (place, path) = (folder.join(&name), [prefix, name.as_bytes()].concat());
            let meta = place.symlink_metadata()?;
            if is_whiteout(&meta) {
                self.deletion(prefix, &name)?;
            } else if meta.is_dir() {
                self.walk_folder(&place, &path, &meta, times, depth)?;
            } else {
                self.file(&place, &path, &meta, times)?;
            }
        }
        Ok(())
    }

    fn deletion(&mut self, prefix: &[u8], name: &OsStr) -> io::Result<()> {
        let path = [prefix, b".wh.", name.as_bytes()].concat();
        self.entry(&path, &Entry::plain(EntryType::Regular, 0o644))
    }

    fn walk_folder(
        &mut self,
        place: &Path,
        path: &[u8],
        meta: &Metadata,
        times: Times,
        depth: usize,
    ) -> io::Result<()> {
        let inside = [path, b"/"].concat();
        if self.made.insert(path.to_vec()) {
            let entry =
                Entry { mode: meta.mode() & 0o7777, ..self.described(EntryType::Directory, meta, times) };
            self.entry(&inside, &entry)?;
        }
        if is_opaque(place) {
            let path = [&inside, &b".wh..wh..opq"[..]].concat();
            self.entry(&path, &Entry::plain(EntryType::Regular, 0o644))?;
        }
        self.walk(place, &inside, times, depth + 1)
    }

    fn file(&mut self, place: &Path, path: &[u8], meta: &Metadata, times: Times) -> io::Result<()> {
        let kind = meta.file_type();
        if kind.is_symlink() {
            let target = fs::read_link(place)?.into_os_string().into_vec();
            let entry =
                Entry { link: &target, mode: 0o777, ..self.described(EntryType::Symlink, meta, times) };
            return self.entry(path, &entry);
        }
        if kind.is_fifo() {
            return self.entry(path, &self.described(EntryType::Fifo, meta, times));
        }
        if !kind.is_file() {
            // Sockets and devices: an engine makes those that a container may have.
            return Ok(());
        }
        let key = (meta.dev(), meta.ino());
        if let Some(first) = self.linked.get(&key).cloned() {
            let entry = Entry { link: &first, ..self.described(EntryType::Link, meta, times) };
            return self.entry(path, &entry);
        }
        if meta.nlink() > 1 {
            self.linked.insert(key, path.to_vec());
        }
        let file = fs::OpenOptions::new().read(true).custom_flags(NOFOLLOW).open(place);
        let mut file = file.map_err(|error| named(place, &error))?;
        let xattrs = if times == Times::Kept { user_attributes(place) } else { Vec::new() };
        let entry = Entry { size: meta.len(), xattrs, ..self.described(EntryType::Regular, meta, times) };
        self.entry(path, &entry)?;
        self.content(&mut file, meta.len())
    }

    fn described(&self, kind: EntryType, meta: &Metadata, times: Times) -> Entry<'static> {
        let mtime_s = match times {
            Times::Kept => u64::try_from(meta.mtime()).unwrap_or(0),
            Times::Fixed => FIXED_TIME_S,
        };
        let owner = (self.ids.inside(meta.uid()), self.ids.inside(meta.gid()));
        Entry { mode: meta.mode() & 0o7777, owner, mtime_s, ..Entry::plain(kind, 0) }
    }

    fn entry(&mut self, path: &[u8], entry: &Entry<'_>) -> io::Result<()> {
        let mut records = Vec::new();
        for (key, value) in [("path", path), ("linkpath", entry.link)] {
            if value.len() > NAME_BYTES {
                record(&mut records, key, value);
            }
        }
        for (name, value) in &entry.xattrs {
            record(&mut records, &format!("SCHILY.xattr.{name}"), value);
        }
        if !records.is_empty() {
            let size = records.len() as u64;
            let header = header(b"PaxHeaders/0", &Entry { size, ..Entry::plain(EntryType::XHeader, 0o644) })?;
            self.out.write_all(header.as_bytes())?;
            self.out.write_all(&records)?;
            self.pad(size)?;
        }
        self.out.write_all(header(path, entry)?.as_bytes())
    }

    fn content(&mut self, content: &mut dyn Read, size: u64) -> io::Result<()> {
        let mut left = size;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(COPY_BYTES);
            let count = content.read(&mut self.buffer[..most])?;
            if count == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "a file became shorter while it was read",
                ));
            }
            self.out.write_all(&self.buffer[..count])?;
            left -= count as u64;
        }
        self.pad(size)
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let over = (size % 512) as usize;
        if over > 0 { self.out.write_all(&[0; 512][over..]) } else { Ok(()) }
    }
}

/// Without root, what another user of a container may read alone cannot be packed: the user must know which file.
fn named(place: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", place.display()))
}

const NOFOLLOW: i32 = rustix::fs::OFlags::NOFOLLOW.bits() as i32;

fn header(path: &[u8], entry: &Entry<'_>) -> io::Result<Header> {
    let mut header = Header::new_ustar();
    let old = header.as_old_mut();
    for (field, value) in [(&mut old.name, path), (&mut old.linkname, entry.link)] {
        let kept = value.len().min(NAME_BYTES);
        field[..kept].copy_from_slice(&value[..kept]);
    }
    header.set_entry_type(entry.kind);
    header.set_mode(entry.mode);
    header.set_uid(entry.owner.0.into());
    header.set_gid(entry.owner.1.into());
    header.set_mtime(entry.mtime_s);
    header.set_size(entry.size);
    if let Some(ustar) = header.as_ustar_mut() {
        ustar.set_device_major(0);
        ustar.set_device_minor(0);
    }
    header.set_cksum();
    Ok(header)
}

/// One line of an extended header; its own length is part of its length.
fn record(records: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(format!("{length} {key}=").as_bytes());
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// The attributes that users set, without overlayfs' own.
fn user_attributes(place: &Path) -> Vec<(String, Vec<u8>)> {
    let mut names = [0; MAX_XATTR_BYTES];
    let Ok(length) = rustix::fs::llistxattr(place, &mut names[..]) else { return Vec::new() };
    let names = names[..length].split(|byte| *byte == 0).filter_map(|name| std::str::from_utf8(name).ok());
    let wanted = names.filter(|name| name.starts_with("user.") && !name.starts_with("user.overlay."));
    let mut found: Vec<_> = wanted
        .filter_map(|name| {
            let mut value = vec![0; MAX_XATTR_BYTES];
            let size = rustix::fs::lgetxattr(place, name, &mut value[..]).ok()?;
            value.truncate(size);
            Some((name.to_string(), value))
        })
        .collect();
    found.sort();
    found
}
