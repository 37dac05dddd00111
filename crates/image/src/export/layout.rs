//! The documents of an OCI image, and the archive that holds all of it: the OCI layout, with the list that older engines
//! want beside it.

use std::fs::File;
use std::io::{self, Read, Write};

use clunk_core::Digest;
use serde_json::{Value, json};
use tar::{EntryType, Header};

use super::archive::{FIXED_TIME_S, LayerBlob};

const COPY_BYTES: usize = 128 << 10;
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Settings of the image, as OCI calls them.
pub(super) struct Settings {
    pub user: Option<String>,
    pub env: Vec<String>,
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    pub workdir: Option<String>,
    pub labels: Value,
    pub ports: Vec<u16>,
}

/// The name that an engine shows: `host/path:tag`, and the tag by itself.
pub(super) struct Name {
    pub full: String,
    pub short: String,
    pub tag: String,
}

/// Everything that is written, in order, with names beneath the archive's root.
pub(super) struct Layout {
    parts: Vec<(String, Part)>,
    /// Of the manifest: the image's identity.
    pub digest: Digest,
}

enum Part {
    Bytes(Vec<u8>),
    Layer(LayerBlob),
}

impl Part {
    fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Layer(layer) => layer.size,
        }
    }
}

fn blob(digest: &Digest) -> String {
    format!("blobs/sha256/{digest}")
}

fn text(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).expect("JSON has a JSON form")
}

/// `layers`: the lowest first, with what made each.
pub(super) fn lay_out(layers: Vec<(LayerBlob, String)>, settings: &Settings, name: Option<&Name>) -> Layout {
    let config = text(&config(&layers, settings));
    let config_digest = Digest::of(&config);
    let described = |kind: &str, digest: &Digest, size: u64| json!({"mediaType": kind, "digest": format!("sha256:{digest}"), "size": size});
    let listed: Vec<_> =
        layers.iter().map(|(layer, _)| described(LAYER, &layer.digest, layer.size)).collect();
    let manifest = text(&json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": described(CONFIG, &config_digest, config.len() as u64),
        "layers": listed,
    }));
    let digest = Digest::of(&manifest);
    let mut entry = described(MANIFEST, &digest, manifest.len() as u64);
    entry["platform"] = json!({"architecture": architecture(), "os": "linux"});
    if let Some(name) = name {
        entry["annotations"] =
            json!({"io.containerd.image.name": name.full, "org.opencontainers.image.ref.name": name.tag});
    }
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry]});
    let older = json!([{
        "Config": blob(&config_digest),
        "RepoTags": name.map(|name| vec![name.short.clone()]),
        "Layers": layers.iter().map(|(layer, _)| blob(&layer.digest)).collect::<Vec<_>>(),
    }]);
    let mut parts = vec![
        ("oci-layout".into(), Part::Bytes(text(&json!({"imageLayoutVersion": "1.0.0"})))),
        ("index.json".into(), Part::Bytes(text(&index))),
        ("manifest.json".into(), Part::Bytes(text(&older))),
        (blob(&digest), Part::Bytes(manifest)),
        (blob(&config_digest), Part::Bytes(config)),
    ];
    for (layer, _) in layers {
        let path = blob(&layer.digest);
        // Two empty layers are one blob.
        if !parts.iter().any(|(known, _)| *known == path) {
            parts.push((path, Part::Layer(layer)));
        }
    }
    Layout { parts, digest }
}

fn config(layers: &[(LayerBlob, String)], settings: &Settings) -> Value {
    let ports: serde_json::Map<_, _> =
        settings.ports.iter().map(|port| (format!("{port}/tcp"), json!({}))).collect();
    let mut config = json!({"Env": settings.env, "Labels": settings.labels});
    let mut set = |key: &str, value: Value, there: bool| {
        if there {
            config[key] = value;
        }
    };
    set("User", json!(settings.user), settings.user.is_some());
    set("Entrypoint", json!(settings.entrypoint), !settings.entrypoint.is_empty());
    set("Cmd", json!(settings.cmd), !settings.cmd.is_empty());
    set("WorkingDir", json!(settings.workdir), settings.workdir.is_some());
    set("ExposedPorts", json!(ports), !ports.is_empty());
    // The same layers give the same image, whenever it is written.
    let created = "1980-01-01T00:00:00Z";
    let history = layers.iter().map(|(_, made_by)| json!({"created": created, "created_by": made_by}));
    json!({
        "created": created,
        "architecture": architecture(),
        "os": "linux",
        "config": config,
        "rootfs": {
            "type": "layers",
            "diff_ids": layers.iter().map(|(layer, _)| format!("sha256:{}", layer.diff_id)).collect::<Vec<_>>(),
        },
        "history": history.collect::<Vec<_>>(),
    })
}

/// OCI's name of this machine.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

impl Layout {
    /// Bytes of the archive.
    pub fn size(&self) -> u64 {
        let parts = self.parts.iter().map(|(_, part)| 512 + part.size().next_multiple_of(512));
        1024 + FOLDERS.len() as u64 * 512 + parts.sum::<u64>()
    }

    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        for folder in FOLDERS {
            out.write_all(header(folder, EntryType::Directory, 0o755, 0)?.as_bytes())?;
        }
        for (path, part) in &self.parts {
            let size = part.size();
            out.write_all(header(path, EntryType::Regular, 0o644, size)?.as_bytes())?;
            match part {
                Part::Bytes(bytes) => out.write_all(bytes)?,
                Part::Layer(layer) => copy(&mut File::open(&layer.file)?.take(size), size, out)?,
            }
            let over = (size % 512) as usize;
            if over > 0 {
                out.write_all(&[0; 512][over..])?;
            }
        }
        out.write_all(&[0; 1024])?;
        out.flush()
    }
}

const FOLDERS: &[&str] = &["blobs/", "blobs/sha256/"];

fn header(path: &str, kind: EntryType, mode: u32, size: u64) -> io::Result<Header> {
    let mut header = Header::new_ustar();
    header.set_path(path)?;
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(FIXED_TIME_S);
    header.set_size(size);
    header.set_cksum();
    Ok(header)
}

fn copy(from: &mut impl Read, size: u64, out: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; COPY_BYTES];
    let mut left = size;
    while left > 0 {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "a layer became shorter while it was sent",
            ));
        }
        out.write_all(&buffer[..count])?;
        left -= count as u64;
    }
    Ok(())
}
