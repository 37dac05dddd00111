//! from_registry, against the real registry program of Debian on loopback.

mod support;

use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clunk_core::ErrorCode;
use clunk_core::recipe::{Base, PipInstall, Recipe, RegistryCredentials, Step};
use oci_client::client::{ClientConfig, ClientProtocol, Config, ImageLayer};
use oci_client::manifest::{ImageIndexEntry, OciImageIndex, OciImageManifest, OciManifest, Platform};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use support::*;

const PROGRAM: &str = "/usr/bin/docker-registry";
const USER: &str = "ann";
const PASSWORD: &str = "hunter2";
/// What the program's password file wants: bcrypt of the password.
const PASSWORD_HASH: &str = "$2b$05$abcdefghijklmnopqrstuuoXuKqgZXLiJqzfmMXDDhSFPIvxV7t8.";

/// A registry that ends with the test.
struct Registry {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Registry {
    async fn start(password: bool) -> Option<Self> {
        if !Path::new(PROGRAM).exists() {
            eprintln!("skipped: the package docker-registry is not installed");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let auth = match password {
            false => String::new(),
            true => {
                let file = folder.path().join("users");
                std::fs::write(&file, format!("{USER}:{PASSWORD_HASH}\n")).unwrap();
                format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", file.display())
            }
        };
        let settings = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:{port}\n{auth}",
            folder.path().display()
        );
        let file = folder.path().join("settings.yml");
        std::fs::write(&file, settings).unwrap();
        let child = Command::new(PROGRAM)
            .arg("serve")
            .arg(file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let registry = Self { child, port, _folder: folder };
        eventually("the registry", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()).await;
        Some(registry)
    }

    fn name(&self, rest: &str) -> String {
        format!("127.0.0.1:{}/{rest}", self.port)
    }

    /// Stores an image of these layers; returns its manifest's digest.
    async fn push(&self, name: &str, layers: Vec<ImageLayer>) -> String {
        let client = client();
        let config = serde_json::json!({
            "architecture": architecture(), "os": "linux", "rootfs": {"type": "layers", "diff_ids": []},
            "config": {"Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "GREETING=hi"], "WorkingDir": "/srv", "Entrypoint": ["/bin/registry"], "Cmd": ["--version"], "User": "7:8"},
        });
        let config = Config::oci_v1(serde_json::to_vec(&config).unwrap(), None);
        let auth = RegistryAuth::Basic(USER.into(), PASSWORD.into());
        let reference: Reference = self.name(name).parse().unwrap();
        let manifest = OciImageManifest::build(&layers, &config, None);
        let pushed = client.push(&reference, &layers, config, &auth, Some(manifest)).await.unwrap();
        pushed.manifest_url.rsplit('/').next().unwrap().to_string()
    }
}

fn client() -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::new(ClientConfig { protocol: ClientProtocol::Http, ..ClientConfig::default() })
}

fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

/// A tar archive: names that end in `/` are folders, texts that begin with `->` links, with `=>` hard links.
fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_uid(1000);
        header.set_gid(1000);
        header.set_mtime(1_000_000_000);
        let text = std::str::from_utf8(content).unwrap_or_default();
        if let Some(target) = text.strip_prefix("->") {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            builder.append_link(&mut header, name, target).unwrap();
        } else if let Some(target) = text.strip_prefix("=>") {
            header.set_entry_type(tar::EntryType::Link);
            header.set_size(0);
            builder.append_link(&mut header, name, target).unwrap();
        } else {
            let folder = name.ends_with('/');
            header.set_entry_type(if folder { tar::EntryType::Directory } else { tar::EntryType::Regular });
            header.set_size(content.len() as u64);
            builder.append_data(&mut header, name, *content).unwrap();
        }
    }
    builder.into_inner().unwrap()
}

fn gzip(files: &[(&str, &[u8])]) -> ImageLayer {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&archive(files)).unwrap();
    ImageLayer::oci_v1_gzip(encoder.finish().unwrap(), None)
}

fn zstd(files: &[(&str, &[u8])]) -> ImageLayer {
    let data = zstd::encode_all(archive(files).as_slice(), 1).unwrap();
    ImageLayer::new(data, "application/vnd.oci.image.layer.v1.tar+zstd".into(), None)
}

/// What the program is linked to, by path without the first slash.
fn libraries() -> Vec<(String, Vec<u8>)> {
    let said = Command::new("ldd").arg(PROGRAM).output().unwrap().stdout;
    let said = String::from_utf8(said).unwrap();
    let paths = said.split_whitespace().filter(|word| word.starts_with('/'));
    paths.map(|path| (path[1..].to_string(), std::fs::read(path).unwrap())).collect()
}

fn from(reference: String, credentials: Option<RegistryCredentials>, steps: Vec<Step>) -> Recipe {
    Recipe { base: Base::Registry { reference, credentials }, steps }
}

#[test]
fn layers_of_both_kinds_become_an_overlay_and_programs_run_in_it() {
    in_world(|world| async {
        let Some(registry) = Registry::start(false).await else { return };
        let program = std::fs::read(PROGRAM).unwrap();
        let word = unique();
        let mut low: Vec<(&str, &[u8])> = vec![
            ("bin/", b""),
            ("bin/registry", &program),
            ("bin/same", b"=>bin/registry"),
            ("srv/old", b"old"),
            ("srv/sub/hidden", b"x"),
            ("srv/word", word.as_bytes()),
        ];
        let libraries = libraries();
        low.extend(libraries.iter().map(|(name, content)| (name.as_str(), content.as_slice())));
        let high: &[(&str, &[u8])] =
            &[("srv/.wh.old", b""), ("srv/sub/.wh..wh..opq", b""), ("srv/sub/new", b"new")];
        registry.push("test/app:1", vec![gzip(&low), zstd(high)]).await;
        let run =
            Step::Dockerfile { lines: vec!["RUN [\"/bin/registry\", \"--version\"]".into()], context: None };
        let (image, heard) = build(&world.images, from(registry.name("test/app:1"), None, vec![run])).await;
        let image = image.unwrap_or_else(|error| panic!("{error}\n{}", heard.logs()));
        assert!(heard.logs().contains("registry"), "{}", heard.logs());
        assert_eq!(image.python, None);
        assert_eq!(
            (image.config.workdir.as_deref(), image.config.user.as_deref()),
            (Some("/srv"), Some("7:8"))
        );
        assert_eq!(
            (image.config.entrypoint[0].as_str(), image.config.cmd[0].as_str()),
            ("/bin/registry", "--version")
        );
        assert_eq!(image.config.env["GREETING"], "hi");
        let [_, high, low] = image.layers.as_slice() else { panic!("{:?}", image.layers) };
        assert!(high.join("srv/old").symlink_metadata().unwrap().file_type().is_char_device());
        assert!(high.join("srv/sub/new").is_file());
        let (one, two) =
            (low.join("bin/registry").metadata().unwrap(), low.join("bin/same").metadata().unwrap());
        assert_eq!(one.ino(), two.ino());
        assert_eq!(one.mtime(), 1_000_000_000);
        assert_eq!(one.uid() - low.metadata().unwrap().uid(), 1000);
        // Another image with the same layers stores nothing again.
        registry.push("test/other:1", vec![gzip(&[("x", word.as_bytes())]), zstd(&[("y", b"y")])]).await;
        registry.push("test/third:1", vec![gzip(&[("x", word.as_bytes())])]).await;
        let other = build(&world.images, from(registry.name("test/other:1"), None, vec![])).await.0.unwrap();
        let third = build(&world.images, from(registry.name("test/third:1"), None, vec![])).await.0.unwrap();
        assert_eq!(other.layers[1], third.layers[0]);
    });
}

#[test]
fn an_image_with_python_takes_every_kind_of_step() {
    in_world(|world| async {
        let Some(registry) = Registry::start(false).await else { return };
        // The nearest image with Python is our own base.
        let base = Recipe { base: Base::DebianSlim { python: None }, steps: vec![] };
        let base = build(&world.images, base).await.0.unwrap();
        let mut tar = Command::new("tar");
        tar.args(["-c", "-z", "--owner=0", "--group=0", "-C"])
            .arg(&base.layers[0])
            .arg(".")
            .env("GZIP", "-1");
        let layer = ImageLayer::oci_v1_gzip(tar.output().unwrap().stdout, None);
        registry.push("python:3", vec![layer]).await;
        let steps = vec![
            Step::PipInstall(PipInstall { packages: vec!["idna".into()], ..PipInstall::default() }),
            Step::AptInstall { packages: vec!["tree".into()] },
            Step::RunCommands {
                commands: vec!["tree --version && python -c 'import idna' && pip --version".into()],
                secrets: Vec::new(),
            },
        ];
        let (image, heard) = build(&world.images, from(registry.name("python:3"), None, steps)).await;
        let image = image.unwrap_or_else(|error| panic!("{error}\n{}", heard.logs()));
        assert!(image.python.as_ref().unwrap().version.starts_with("3.13."));
        assert!(image.runner_dir.as_ref().unwrap().join("__pycache__").is_dir());
    });
}

#[test]
fn the_list_of_platforms_gives_this_machines_image() {
    in_world(|world| async {
        let Some(registry) = Registry::start(false).await else { return };
        let word = unique();
        let ours = registry.push("multi:ours", vec![gzip(&[("ours", word.as_bytes())])]).await;
        let other = registry.push("multi:other", vec![gzip(&[("other", word.as_bytes())])]).await;
        let entry = |digest: &str, architecture: &str| ImageIndexEntry {
            media_type: "application/vnd.oci.image.manifest.v1+json".into(),
            digest: digest.into(),
            size: size(&registry, "multi", digest),
            platform: Some(Platform {
                architecture: architecture.into(),
                os: "linux".into(),
                os_version: None,
                os_features: None,
                variant: None,
                features: None,
            }),
            annotations: None,
            artifact_type: None,
        };
        let index = OciImageIndex {
            schema_version: 2,
            media_type: Some("application/vnd.oci.image.index.v1+json".into()),
            manifests: vec![entry(&other, "s390x"), entry(&ours, architecture())],
            artifact_type: None,
            annotations: None,
        };
        let reference: Reference = registry.name("multi:all").parse().unwrap();
        client().push_manifest(&reference, &OciManifest::ImageIndex(index)).await.unwrap();
        let image = build(&world.images, from(registry.name("multi:all"), None, vec![])).await.0.unwrap();
        assert!(image.layers[0].join("ours").is_file());
        let pinned = build(&world.images, from(registry.name(&format!("multi@{other}")), None, vec![]))
            .await
            .0
            .unwrap();
        assert!(pinned.layers[0].join("other").is_file());
    });
}

/// Bytes of a manifest, asked of the registry.
fn size(registry: &Registry, name: &str, digest: &str) -> i64 {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", registry.port)).unwrap();
    let accept = "application/vnd.oci.image.manifest.v1+json";
    write!(stream, "HEAD /v2/{name}/manifests/{digest} HTTP/1.0\r\nAccept: {accept}\r\n\r\n").unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
    let length = answer.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
    length.trim().parse().unwrap()
}

#[test]
fn who_may_not_pull_is_told_so() {
    in_world(|world| async {
        let Some(registry) = Registry::start(true).await else { return };
        registry.push("private:1", vec![gzip(&[("secret", unique().as_bytes())])]).await;
        let name = registry.name("private:1");
        let who =
            |password: &str| Some(RegistryCredentials { username: USER.into(), password: password.into() });
        for credentials in [None, who("wrong")] {
            let body =
                build(&world.images, from(name.clone(), credentials, vec![])).await.0.unwrap_err().body();
            assert_eq!(body.code, ErrorCode::RegistryDenied, "{body:?}");
        }
        let image = build(&world.images, from(name, who(PASSWORD), vec![])).await.0.unwrap();
        assert!(image.layers[0].join("secret").is_file());
        let record = std::fs::read_to_string(
            image.layers[0].join("../../../images").join(image.id.to_string()).join("image.json"),
        );
        assert!(!record.unwrap().contains(PASSWORD));
    });
}

#[test]
fn what_is_not_there_is_told_so() {
    in_world(|world| async {
        let begun = Instant::now();
        let body =
            build(&world.images, from("127.0.0.1:1/none:1".into(), None, vec![])).await.0.unwrap_err().body();
        assert_eq!(body.code, ErrorCode::RegistryUnreachable, "{body:?}");
        assert!(begun.elapsed() < Duration::from_secs(15));
        let body = build(&world.images, from("Not A Name".into(), None, vec![])).await.0.unwrap_err().body();
        assert_eq!(body.code, ErrorCode::BadRecipe);
        let Some(registry) = Registry::start(false).await else { return };
        let body =
            build(&world.images, from(registry.name("none:1"), None, vec![])).await.0.unwrap_err().body();
        assert_eq!(body.code, ErrorCode::NotFound, "{body:?}");
    });
}

#[test]
fn a_layer_that_reaches_out_is_contained() {
    in_world(|world| async {
        let Some(registry) = Registry::start(false).await else { return };
        let word = unique();
        let target = format!("->/tmp/{word}");
        let files: &[(&str, &[u8])] = &[("link", target.as_bytes()), ("link/file", b"x")];
        registry.push("hostile:1", vec![gzip(files)]).await;
        let image = build(&world.images, from(registry.name("hostile:1"), None, vec![])).await.0.unwrap();
        assert!(!Path::new("/tmp").join(&word).exists());
        assert!(image.layers[0].join("tmp").join(&word).join("file").is_file());
    });
}

#[test]
fn a_forced_build_sees_a_new_push_and_others_then_do_too() {
    in_world(|world| async {
        let Some(registry) = Registry::start(false).await else { return };
        let recipe = from(registry.name("moving:latest"), None, vec![]);
        registry.push("moving:latest", vec![gzip(&[("one", unique().as_bytes())])]).await;
        let one = build(&world.images, recipe.clone()).await.0.unwrap();
        registry.push("moving:latest", vec![gzip(&[("two", unique().as_bytes())])]).await;
        assert_eq!(build(&world.images, recipe.clone()).await.0.unwrap().layers, one.layers);
        let two = build_forced(&world.images, recipe.clone(), true).await.0.unwrap();
        assert!(two.layers[0].join("two").is_file());
        assert_eq!(build(&world.images, recipe).await.0.unwrap().layers, two.layers);
        let vars = BTreeMap::from([("A".to_string(), "1".to_string())]);
        let above = from(registry.name("moving:latest"), None, vec![Step::Env { vars }]);
        assert_eq!(build(&world.images, above).await.0.unwrap().layers, two.layers);
    });
}
