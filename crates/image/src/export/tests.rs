use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clunk_runtime::FakeRuntime;
use oci_client::manifest::{OciImageIndex, OciImageManifest};

use super::archive::{FIXED_TIME_S, LayerBlob, LayerWriter, Times};
use super::layout::{Name, Settings, lay_out};
use super::*;
use crate::beneath::{Ids, Meta, Root};
use crate::unpack::{self, Options};

fn ids() -> Ids {
    Ids::new(Arc::new(FakeRuntime::exiting(0)))
}

fn pack(file: PathBuf, folder: &Path, times: Times) -> LayerBlob {
    let (ids, cancel) = (ids(), AtomicBool::new(false));
    let mut layer = LayerWriter::new(file, &ids, &cancel).unwrap();
    layer.overlay(folder, times).unwrap();
    layer.finish().unwrap()
}

/// Reads a layer as any image of a registry is read.
fn unpack_layer(blob: &LayerBlob, into: &Path) {
    fs::create_dir_all(into).unwrap();
    let options = Options { whiteouts: true, skip: &|_| false, cancel: &AtomicBool::new(false) };
    let archive = unpack::decoder(File::open(&blob.file).unwrap()).unwrap();
    unpack::unpack(archive, &mut Root::open(into, ids()).unwrap(), &options).unwrap();
}

/// Every path below a folder with what can be seen of it.
fn seen(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut todo = vec![folder.to_path_buf()];
    while let Some(here) = todo.pop() {
        for entry in fs::read_dir(&here).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let kind = meta.file_type();
            let what = if kind.is_dir() {
                todo.push(path.clone());
                "folder".into()
            } else if kind.is_symlink() {
                format!("-> {}", fs::read_link(&path).unwrap().display())
            } else if kind.is_fifo() {
                "fifo".into()
            } else if kind.is_char_device() {
                format!("device {}", meta.rdev())
            } else {
                let content = fs::read(&path).unwrap();
                format!("{} bytes {} names {}", content.len(), Digest::of(&content).short(), meta.nlink())
            };
            let name = path.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
            // Links have neither permissions nor, here, a time.
            let (mode, time) =
                if kind.is_symlink() { (0, 0) } else { (meta.mode() & 0o7777, meta.mtime() as u64) };
            let time = if kind.is_file() { time } else { 0 };
            found.insert(name, format!("{what} {mode:o} {}:{} {time}", meta.uid(), meta.gid()));
        }
    }
    found
}

/// A folder with one of everything that a layer may have.
fn fill(folder: &Path) {
    let long = "d".repeat(90);
    fs::create_dir_all(folder.join("a").join(&long).join(&long)).unwrap();
    fs::write(folder.join("a").join(&long).join(&long).join("größe"), "deep").unwrap();
    fs::write(folder.join("a/plain"), vec![7; 100_000]).unwrap();
    fs::write(folder.join("a/empty"), "").unwrap();
    fs::set_permissions(folder.join("a/plain"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::set_permissions(folder.join("a"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::hard_link(folder.join("a/plain"), folder.join("b-other-name")).unwrap();
    symlink("../../etc/./passwd", folder.join("a/link")).unwrap();
    symlink("/".to_string() + &"t".repeat(150), folder.join("a/long-link")).unwrap();
    let mut root = Root::open(folder, ids()).unwrap();
    root.fifo(b"pipe", Meta { mode: 0o600, ..Meta::FOLDER }).unwrap();
}

#[test]
fn a_layer_comes_back_as_it_was() {
    let home = tempfile::tempdir().unwrap();
    let (from, to) = (home.path().join("from"), home.path().join("to"));
    fs::create_dir(&from).unwrap();
    fill(&from);
    let blob = pack(home.path().join("layer"), &from, Times::Kept);
    unpack_layer(&blob, &to);
    // Without a user namespace a program never gets more rights than it had: unpacking drops that bit.
    let expected: BTreeMap<_, _> = seen(&from)
        .into_iter()
        .map(|(name, what)| {
            let is_set_user_id = name == "a/plain" || name == "b-other-name";
            (name, if is_set_user_id { what.replace(" 4755 ", " 755 ") } else { what })
        })
        .collect();
    assert_eq!(seen(&to), expected);
}

#[test]
fn deletions_come_back_as_deletions() {
    let home = tempfile::tempdir().unwrap();
    let (from, to) = (home.path().join("from"), home.path().join("to"));
    fs::create_dir_all(from.join("kept")).unwrap();
    fs::create_dir_all(from.join("replaced")).unwrap();
    let mut root = Root::open(&from, ids()).unwrap();
    if root.whiteout(b"kept/gone").is_err() {
        // Without root a file system may refuse such files.
        return;
    }
    crate::stack::mark_opaque(&from.join("replaced")).unwrap();
    fs::write(from.join("replaced/new"), "x").unwrap();
    unpack_layer(&pack(home.path().join("layer"), &from, Times::Kept), &to);
    assert!(crate::stack::is_whiteout(&to.join("kept/gone").symlink_metadata().unwrap()));
    assert!(crate::stack::is_opaque(&to.join("replaced")));
    assert!(!crate::stack::is_opaque(&to.join("kept")));
    assert!(to.join("replaced/new").exists());
}

#[test]
fn the_same_files_are_the_same_layer() {
    let home = tempfile::tempdir().unwrap();
    let digests: Vec<_> = ["one", "two"]
        .map(|name| {
            let folder = home.path().join(name);
            fs::create_dir(&folder).unwrap();
            fill(&folder);
            let blob = pack(home.path().join(format!("{name}.tar.gz")), &folder, Times::Fixed);
            (blob.digest, blob.diff_id, blob.size)
        })
        .into();
    assert_eq!(digests[0], digests[1]);
    let mut raw = Vec::new();
    let file = File::open(home.path().join("one.tar.gz")).unwrap();
    unpack::decoder(file).unwrap().read_to_end(&mut raw).unwrap();
    assert_eq!(Digest::of(&raw), digests[0].1);
    assert_eq!(Digest::of(fs::read(home.path().join("one.tar.gz")).unwrap()), digests[0].0);
}

#[test]
fn files_of_our_own_have_folders_and_a_fixed_time() {
    let home = tempfile::tempdir().unwrap();
    let (ids, cancel) = (ids(), AtomicBool::new(false));
    fs::create_dir_all(home.path().join("runner/inner")).unwrap();
    fs::write(home.path().join("runner/inner/x.py"), "x").unwrap();
    let mut layer = LayerWriter::new(home.path().join("layer"), &ids, &cancel).unwrap();
    layer.host_folder("/.clunk", &home.path().join("runner")).unwrap();
    layer.bytes("/.clunk/model.json", 0o644, b"{}").unwrap();
    layer.bytes("/src/.cog/openapi_schema.json", 0o600, b"{}").unwrap();
    assert!(layer.bytes("/.clunk/inner", 0o644, b"").is_err());
    let blob = layer.finish().unwrap();
    let to = home.path().join("to");
    unpack_layer(&blob, &to);
    let found: Vec<_> = seen(&to).into_keys().collect();
    let expected = [
        ".clunk",
        ".clunk/inner",
        ".clunk/inner/x.py",
        ".clunk/model.json",
        "src",
        "src/.cog",
        "src/.cog/openapi_schema.json",
    ];
    assert_eq!(found, expected);
    let meta = to.join("src/.cog/openapi_schema.json").metadata().unwrap();
    assert_eq!((meta.mtime() as u64, meta.mode() & 0o777), (FIXED_TIME_S, 0o600));
}

#[test]
fn the_archive_is_what_engines_expect() {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join("one")).unwrap();
    fill(&home.path().join("one"));
    let layer = pack(home.path().join("layer"), &home.path().join("one"), Times::Fixed);
    let settings = Settings {
        user: Some("7:8".into()),
        env: vec!["A=b".into()],
        entrypoint: vec!["/x".into()],
        cmd: vec![],
        workdir: Some("/src".into()),
        labels: json!({"run.cog.version": "1"}),
        ports: vec![5000],
    };
    let name = parse_name("ann/hello:v1").unwrap();
    let layout =
        lay_out(vec![(layer.clone(), "one".into()), (layer.clone(), "two".into())], &settings, Some(&name));
    let mut bytes = Vec::new();
    layout.write(&mut bytes).unwrap();
    assert_eq!(bytes.len() as u64, layout.size());
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(bytes.as_slice()).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_string_lossy().into_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        if let Some(digest) = path.strip_prefix("blobs/sha256/").filter(|digest| !digest.is_empty()) {
            assert_eq!(Digest::of(&content).to_string(), digest);
        }
        files.insert(path, content);
    }
    let index: OciImageIndex = serde_json::from_slice(&files["index.json"]).unwrap();
    let entry = &index.manifests[0];
    assert_eq!(entry.annotations.as_ref().unwrap()["io.containerd.image.name"], "docker.io/ann/hello:v1");
    let read = |digest: &str| &files[&format!("blobs/{}", digest.replace(':', "/"))];
    let manifest: OciImageManifest = serde_json::from_slice(read(&entry.digest)).unwrap();
    assert_eq!(manifest.layers.len(), 2);
    assert_eq!(manifest.layers[0].size as u64, layer.size);
    let config: serde_json::Value = serde_json::from_slice(read(&manifest.config.digest)).unwrap();
    assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", layer.diff_id));
    assert_eq!(config["config"]["ExposedPorts"], json!({"5000/tcp": {}}));
    assert_eq!(config["config"]["Entrypoint"], json!(["/x"]));
    let older: serde_json::Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
    assert_eq!(older[0]["RepoTags"], json!(["ann/hello:v1"]));
    assert!(files.contains_key(older[0]["Config"].as_str().unwrap()));
}

#[test]
fn names_are_completed_or_refused() {
    let Name { full, short, tag } = parse_name("hello").unwrap();
    assert_eq!(
        (full.as_str(), short.as_str(), tag.as_str()),
        ("docker.io/library/hello:latest", "hello:latest", "latest")
    );
    let own = parse_name("127.0.0.1:5000/a/b:2").unwrap();
    assert_eq!((own.full.as_str(), own.short.as_str()), ("127.0.0.1:5000/a/b:2", "127.0.0.1:5000/a/b:2"));
    for bad in ["", "Hello World", "a@sha256:00", &format!("a@sha256:{}", "0".repeat(64))] {
        assert!(parse_name(bad).is_err(), "{bad}");
    }
}

#[test]
fn files_lie_where_a_file_can_lie() {
    let options = |path: &str| ExportOptions {
        files: [(path.to_string(), String::new())].into(),
        ..ExportOptions::default()
    };
    assert!(check(&options("/src/.cog/x.json")).is_ok());
    for bad in ["src/x", "/src/../x", "/", "/src//x", "/src/.wh.x"] {
        assert!(check(&options(bad)).is_err(), "{bad}");
    }
}
