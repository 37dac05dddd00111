use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::Path;
use std::sync::Arc;

use clunk_runtime::FakeRuntime;
use tar::{Builder, Header};

use super::*;
use crate::beneath::Ids;

/// An entry with the name exactly as given, however wrong.
fn entry(archive: &mut Builder<Vec<u8>>, kind: EntryType, name: &str, link: &str, text: &str) {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_000_000_000);
    header.set_size(text.len() as u64);
    header.set_cksum();
    archive.append(&header, text.as_bytes()).unwrap();
}

fn run(into: &Path, fill: impl FnOnce(&mut Builder<Vec<u8>>)) -> io::Result<()> {
    let mut archive = Builder::new(Vec::new());
    fill(&mut archive);
    let bytes = archive.into_inner().unwrap();
    let ids = Ids::new(Arc::new(FakeRuntime::exiting(0)));
    let options = Options { whiteouts: true, skip: &|_| false, cancel: &AtomicBool::new(false) };
    unpack(bytes.as_slice(), &mut Root::open(into, ids)?, &options)
}

/// The folder unpacked to, inside another one that must stay as it is.
fn folders() -> (tempfile::TempDir, std::path::PathBuf) {
    let outer = tempfile::tempdir().unwrap();
    let inner = outer.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    std::fs::write(outer.path().join("secret"), "secret").unwrap();
    (outer, inner)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn no_name_leads_out() {
    let (outer, inner) = folders();
    run(&inner, |archive| {
        entry(archive, EntryType::Regular, "../one", "", "x");
        entry(archive, EntryType::Regular, "/two", "", "x");
        entry(archive, EntryType::Regular, "a/../../../three", "", "x");
        entry(archive, EntryType::Directory, "../four", "", "");
    })
    .unwrap();
    assert_eq!(names(outer.path()), ["inner", "secret"]);
    assert_eq!(names(&inner), ["a", "four", "one", "three", "two"]);
}

#[test]
fn no_link_leads_out() {
    let (outer, inner) = folders();
    let outside = outer.path().to_str().unwrap().to_string();
    run(&inner, |archive| {
        entry(archive, EntryType::Symlink, "up", "..", "");
        entry(archive, EntryType::Regular, "up/one", "", "x");
        entry(archive, EntryType::Symlink, "abs", &outside, "");
        entry(archive, EntryType::Regular, "abs/two", "", "x");
        entry(archive, EntryType::Symlink, "secret", "../secret", "");
        entry(archive, EntryType::Regular, "secret", "", "replaced");
        entry(archive, EntryType::Symlink, "deep", "a/../../../..", "");
        entry(archive, EntryType::Regular, "deep/three", "", "x");
    })
    .unwrap();
    assert_eq!(names(outer.path()), ["inner", "secret"]);
    assert_eq!(std::fs::read_to_string(outer.path().join("secret")).unwrap(), "secret");
    assert!(inner.join("one").is_file() && inner.join("three").is_file());
    assert!(inner.join(&outside[1..]).join("two").is_file());
}

#[test]
fn hard_links_stay_inside_too() {
    let (outer, inner) = folders();
    symlink("../secret", inner.join("out")).unwrap();
    let linked = run(&inner, |archive| entry(archive, EntryType::Link, "copy", "../secret", ""));
    assert!(linked.is_err());
    run(&inner, |archive| entry(archive, EntryType::Link, "same", "out", "")).unwrap();
    // Another name of the link, not of the file it points to.
    assert!(inner.join("same").symlink_metadata().unwrap().is_symlink());
    assert_eq!(std::fs::metadata(outer.path().join("secret")).unwrap().nlink(), 1);
}

#[test]
fn links_in_circles_end() {
    let (_outer, inner) = folders();
    let failed = run(&inner, |archive| {
        entry(archive, EntryType::Symlink, "a", "b", "");
        entry(archive, EntryType::Symlink, "b", "a", "");
        entry(archive, EntryType::Regular, "a/x", "", "x");
    });
    assert!(failed.is_err());
}

#[test]
fn deletions_become_overlayfs_marks() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (_outer, inner) = folders();
    run(&inner, |archive| {
        entry(archive, EntryType::Directory, "d", "", "");
        entry(archive, EntryType::Regular, "d/.wh.gone", "", "");
        entry(archive, EntryType::Regular, "d/.wh..wh..opq", "", "");
        entry(archive, EntryType::Regular, "d/kept", "", "x");
    })
    .unwrap();
    let gone = inner.join("d/gone").symlink_metadata().unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    assert_eq!(names(&inner.join("d")), ["gone", "kept"]);
    let stack = crate::stack::Stack::new(vec![inner.clone()]);
    assert!(stack.stat(b"/d/gone").is_none() && stack.stat(b"/d/kept").is_some());
    assert!(run(&inner, |archive| entry(archive, EntryType::Regular, "d/.wh...", "", "")).is_err());
}

#[test]
fn devices_are_left_out_and_times_kept() {
    let (_outer, inner) = folders();
    run(&inner, |archive| {
        entry(archive, EntryType::Char, "null", "", "");
        entry(archive, EntryType::Block, "disk", "", "");
        entry(archive, EntryType::Regular, "file", "", "text");
    })
    .unwrap();
    assert_eq!(names(&inner), ["file"]);
    assert_eq!(inner.join("file").metadata().unwrap().mtime(), 1_000_000_000);
}

#[test]
fn a_cut_archive_is_an_error() {
    let (_outer, inner) = folders();
    let mut archive = Builder::new(Vec::new());
    entry(&mut archive, EntryType::Regular, "file", "", &"x".repeat(5000));
    let bytes = archive.into_inner().unwrap();
    let ids = Ids::new(Arc::new(FakeRuntime::exiting(0)));
    let options = Options { whiteouts: true, skip: &|_| false, cancel: &AtomicBool::new(false) };
    let mut root = Root::open(&inner, ids).unwrap();
    assert!(unpack(&bytes[..2000], &mut root, &options).is_err());
}
