//! Content-addressed files in a directory: `blobs/ab/abcdef…`, named by SHA-256, never changed once there.
//!
//! A blob is written beside its place, synced with the rest of its batch, and renamed: a name never shows half a file.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clunk_core::Digest;
use clunk_core::digest::Hasher;

use crate::store::StoreError;

/// Bytes copied at a time.
const COPY_CHUNK: usize = 1 << 20;

#[derive(Debug, Clone)]
pub struct Blobs {
    root: PathBuf,
    temporary: PathBuf,
}

fn file_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_path_buf();
    move |source| StoreError::File { operation, path, source }
}

impl Blobs {
    /// Opens or makes the directory and removes what a killed process was writing.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let temporary = root.join("tmp");
        match fs::remove_dir_all(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(file_error("clear", &temporary)(error));
            }
            _ => {}
        }
        fs::create_dir_all(&temporary).map_err(file_error("create", &temporary))?;
        Ok(Self { root: root.into(), temporary })
    }

    fn place(&self, digest: Digest) -> PathBuf {
        let name = digest.to_string();
        self.root.join(&name[..2]).join(name)
    }

    /// Where the blob is, if it is here.
    pub fn path(&self, digest: Digest) -> Option<PathBuf> {
        let path = self.place(digest);
        path.exists().then_some(path)
    }

    pub fn contains(&self, digest: Digest) -> bool {
        self.place(digest).exists()
    }

    /// Whether the blob is here with this many bytes; from now on it counts as just used. One that is not what it should
    /// be is removed.
    pub fn is_sound(&self, digest: Digest, size: u64) -> bool {
        let path = self.place(digest);
        match fs::metadata(&path) {
            Ok(found) if found.len() == size => {
                touch(&path);
                true
            }
            Ok(_) => {
                tracing::warn!(%digest, "removed a damaged blob");
                let _ = fs::remove_file(&path);
                false
            }
            Err(_) => false,
        }
    }

    pub fn read(&self, digest: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.place(digest);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(file_error("read", &path)(error)),
        }
    }

    /// Stores one blob and returns its digest; it is on disk when this returns.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        if !self.is_sound(digest, bytes.len() as u64) {
            let mut batch = self.batch();
            let mut writer = batch.begin(digest)?;
            writer.write(bytes)?;
            batch.finish(writer)?;
            batch.commit()?;
        }
        Ok(digest)
    }

    /// Stores the first `len` bytes of an open file and returns their digest; they are on disk when this returns.
    pub fn put_file(&self, file: &File, len: u64) -> Result<Digest, StoreError> {
        let mut chunk = vec![0; COPY_CHUNK];
        let mut hasher = Hasher::default();
        read_whole(file, len, &mut chunk, |part| {
            hasher.update(part);
            Ok(())
        })?;
        let digest = hasher.finish();
        if !self.is_sound(digest, len) {
            let mut batch = self.batch();
            let mut writer = batch.begin(digest)?;
            read_whole(file, len, &mut chunk, |part| writer.write(part))?;
            batch.finish(writer)?;
            batch.commit()?;
        }
        Ok(digest)
    }

    /// Removes a blob, if it is here.
    pub fn remove(&self, digest: Digest) -> Result<(), StoreError> {
        let path = self.place(digest);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file_error("remove", &path)(error)),
            _ => Ok(()),
        }
    }

    /// Every blob, and when it was last used: stored, or asked for by [`Blobs::is_sound`].
    pub fn used(&self) -> Result<Vec<(Digest, SystemTime)>, StoreError> {
        let mut used = Vec::new();
        let read = |folder: &Path| fs::read_dir(folder).map_err(file_error("list", folder));
        for folder in read(&self.root)?.flatten().map(|entry| entry.path()) {
            if folder == self.temporary || !folder.is_dir() {
                continue;
            }
            for entry in read(&folder)?.flatten() {
                let digest = entry.file_name().to_str().and_then(|name| name.parse().ok());
                let time = entry.metadata().and_then(|meta| meta.modified());
                used.extend(digest.zip(time.ok()));
            }
        }
        Ok(used)
    }

    /// Takes a blob out if it was not used since; the file is to be removed by the caller, or goes at the next start.
    pub fn put_aside(&self, digest: Digest, unused_since: SystemTime) -> Result<Option<PathBuf>, StoreError> {
        let path = self.place(digest);
        let used = fs::metadata(&path).and_then(|meta| meta.modified());
        if used.is_ok_and(|used| used >= unused_since) {
            return Ok(None);
        }
        let aside = self.temporary.join(random_name());
        match fs::rename(&path, &aside) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(file_error("remove", &path)(error)),
            Ok(()) => Ok(Some(aside)),
        }
    }

    /// Starts storing several blobs with one sync.
    pub fn batch(&self) -> Batch<'_> {
        Batch { blobs: self, written: Vec::new() }
    }
}

/// Counts as used now. What cannot be marked goes a little earlier than it could.
fn touch(path: &Path) {
    let now = File::open(path).and_then(|file| file.set_modified(SystemTime::now()));
    if let Err(error) = now {
        tracing::debug!(path = %path.display(), %error, "could not mark a blob as used");
    }
}

fn random_name() -> String {
    let mut random = [0; 8];
    getrandom::fill(&mut random).expect("the kernel gives random bytes");
    hex::encode(random)
}

/// Gives the first `len` bytes of a file, part by part; a shorter file is an error.
fn read_whole(
    file: &File,
    len: u64,
    chunk: &mut [u8],
    mut take: impl FnMut(&[u8]) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let failed = |error| file_error("read", Path::new("a payload"))(error);
    let mut offset = 0;
    while offset < len {
        let most = chunk.len().min((len - offset) as usize);
        let count = file.read_at(&mut chunk[..most], offset).map_err(failed)?;
        if count == 0 {
            return Err(failed(io::ErrorKind::UnexpectedEof.into()));
        }
        take(&chunk[..count])?;
        offset += count as u64;
    }
    Ok(())
}

/// Blobs that are written and not yet in their places; dropped without [`Batch::commit`] they are forgotten.
pub struct Batch<'a> {
    blobs: &'a Blobs,
    written: Vec<(PathBuf, Digest)>,
}

/// One blob while it is written.
pub struct BlobWriter {
    file: File,
    path: PathBuf,
    hasher: Hasher,
    expected: Digest,
}

impl BlobWriter {
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.hasher.update(bytes);
        self.file.write_all(bytes).map_err(file_error("write", &self.path))
    }
}

impl Batch<'_> {
    pub fn begin(&mut self, expected: Digest) -> Result<BlobWriter, StoreError> {
        let path = self.blobs.temporary.join(random_name());
        let file = File::create_new(&path).map_err(file_error("create", &path))?;
        Ok(BlobWriter { file, path, hasher: Hasher::default(), expected })
    }

    /// Checks the digest; the blob then waits for [`Batch::commit`].
    pub fn finish(&mut self, writer: BlobWriter) -> Result<(), StoreError> {
        let BlobWriter { file, path, hasher, expected } = writer;
        drop(file);
        if hasher.finish() != expected {
            let _ = fs::remove_file(&path);
            return Err(StoreError::Mismatch(expected));
        }
        self.written.push((path, expected));
        Ok(())
    }

    /// Syncs everything once and puts it in place. Returns how many there are.
    pub fn commit(mut self) -> Result<usize, StoreError> {
        let root = File::open(&self.blobs.root).map_err(file_error("open", &self.blobs.root))?;
        if !self.written.is_empty() {
            rustix::fs::syncfs(&root).map_err(|errno| file_error("sync", &self.blobs.root)(errno.into()))?;
        }
        let written = std::mem::take(&mut self.written);
        for (path, digest) in &written {
            let place = self.blobs.place(*digest);
            let folder = place.parent().unwrap_or(&self.blobs.root);
            fs::create_dir_all(folder).map_err(file_error("create", folder))?;
            fs::rename(path, &place).map_err(file_error("rename", path))?;
        }
        Ok(written.len())
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        for (path, _) in &self.written {
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_is_read_back_and_stored_once() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path()).unwrap();
        let digest = blobs.put(b"hello").unwrap();
        assert_eq!(blobs.put(b"hello").unwrap(), digest);
        assert_eq!(blobs.read(digest).unwrap().as_deref(), Some(&b"hello"[..]));
        assert_eq!(blobs.read(Digest::of("other")).unwrap(), None);
    }

    #[test]
    fn a_damaged_blob_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path()).unwrap();
        let digest = blobs.put(b"hello").unwrap();
        assert!(blobs.is_sound(digest, 5));
        fs::write(blobs.path(digest).unwrap(), "hell").unwrap();
        assert!(!blobs.is_sound(digest, 5) && !blobs.contains(digest));
        blobs.put(b"hello").unwrap();
        assert!(blobs.is_sound(digest, 5));
    }

    #[test]
    fn only_what_was_not_used_since_is_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path()).unwrap();
        let digest = blobs.put(b"hello").unwrap();
        let place = blobs.path(digest).unwrap();
        let old = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1000);
        File::open(&place).unwrap().set_modified(old).unwrap();
        assert_eq!(blobs.used().unwrap(), [(digest, old)]);
        let later = old + std::time::Duration::from_secs(1);
        assert_eq!(blobs.put_aside(digest, old).unwrap(), None);
        blobs.put(b"hello").unwrap();
        assert_eq!(blobs.put_aside(digest, later).unwrap(), None, "it was just put again");
        File::open(&place).unwrap().set_modified(old).unwrap();
        let aside = blobs.put_aside(digest, later).unwrap().unwrap();
        assert!(!blobs.contains(digest) && aside.exists());
        assert!(!Blobs::open(folder.path()).unwrap().contains(digest) && !aside.exists());
    }

    #[test]
    fn a_wrong_digest_is_refused_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path()).unwrap();
        let mut batch = blobs.batch();
        let mut writer = batch.begin(Digest::of("hello")).unwrap();
        writer.write(b"jello").unwrap();
        assert!(matches!(batch.finish(writer), Err(StoreError::Mismatch(_))));
        assert_eq!(batch.commit().unwrap(), 0);
        assert_eq!(fs::read_dir(folder.path().join("tmp")).unwrap().count(), 0);
    }
}
