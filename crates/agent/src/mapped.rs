//! A runner's memory file as bytes, without copying it.
//!
//! Only a sealed file is mapped: the kernel then promises that nobody can shrink it, which would end this process with
//! SIGBUS, or change it, which would break what a byte slice means.

use std::fs::File;
use std::os::fd::AsFd;

use bytes::Bytes;
use rustix::fs::SealFlags;
use rustix::mm::{MapFlags, ProtFlags};

struct Mapped {
    start: *mut std::ffi::c_void,
    len: usize,
}

// SAFETY: the mapping is read-only, of a file that cannot change, and belongs to this value alone.
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `start` and `len` are a mapping that lives as long as this value; its file is sealed.
        unsafe { std::slice::from_raw_parts(self.start.cast(), self.len) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: nobody has a reference into the mapping any more.
        let _ = unsafe { rustix::mm::munmap(self.start, self.len) };
    }
}

/// The first `len` bytes of a memory file, sealing it. None: it is none, is shorter, or cannot be sealed.
pub fn map_sealed(file: &File, len: u64) -> Option<Bytes> {
    let len = usize::try_from(len).ok().filter(|len| *len > 0)?;
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(file, seals).ok()?;
    // Looked at after sealing: now it stays so.
    if file.metadata().ok()?.len() < len as u64 {
        return None;
    }
    let flags = MapFlags::SHARED | MapFlags::POPULATE;
    // SAFETY: a new mapping at an address of the kernel's choice touches no other memory.
    let start =
        unsafe { rustix::mm::mmap(std::ptr::null_mut(), len, ProtFlags::READ, flags, file.as_fd(), 0) };
    Some(Bytes::from_owner(Mapped { start: start.ok()?, len }))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use rustix::fs::MemfdFlags;

    use super::*;

    fn memory_file(flags: MemfdFlags, content: &[u8]) -> File {
        let mut file = File::from(rustix::fs::memfd_create("test", flags).unwrap());
        file.write_all(content).unwrap();
        file
    }

    #[test]
    fn a_sealed_file_is_its_bytes_and_stays_so() {
        let mut file = memory_file(MemfdFlags::ALLOW_SEALING, b"hello");
        assert_eq!(map_sealed(&file, 5).unwrap(), &b"hello"[..]);
        assert!(file.set_len(0).is_err() && file.write_all(b"x").is_err());
    }

    #[test]
    fn what_cannot_be_trusted_is_not_mapped() {
        assert!(map_sealed(&memory_file(MemfdFlags::empty(), b"hello"), 5).is_none());
        assert!(map_sealed(&memory_file(MemfdFlags::ALLOW_SEALING, b"hello"), 6).is_none());
        assert!(map_sealed(&tempfile::tempfile().unwrap(), 1).is_none());
    }
}
