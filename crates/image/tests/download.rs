//! download: files of a model hub, and single ones, from a server on loopback that breaks off.

mod support;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use clunk_core::recipe::{Base, Download, Recipe, Step};
use clunk_image::{HostSettings, Images, ImagesConfig, Secret};
use clunk_runtime::Limits;
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const TOKEN: &str = "hf_secret";

/// A model hub with one repository, and a file beside it that any visitor gets.
#[derive(Default)]
struct Hub {
    /// Paths whose first answer was broken off.
    broken: Mutex<HashSet<String>>,
    asked: Mutex<Vec<String>>,
}

fn weights() -> Vec<u8> {
    (0..300_000_u32).flat_map(u32::to_le_bytes).collect()
}

impl Hub {
    async fn serve(self: Arc<Self>, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(self.clone().answer(stream));
        }
    }

    async fn answer(self: Arc<Self>, mut stream: TcpStream) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let path = head.split([' ', '?']).nth(1).unwrap_or_default().to_string();
        let start: usize = head
            .split("range: bytes=")
            .nth(1)
            .and_then(|rest| rest.split('-').next()?.parse().ok())
            .unwrap_or(0);
        self.asked.lock().unwrap().push(format!("{path} from {start}"));
        let known =
            path == "/free/vocabulary.txt" || head.contains(&format!("authorization: bearer {TOKEN}"));
        let list = br#"{"sha":"c0ffee","siblings":[{"rfilename":"README.md"},{"rfilename":"unet/model.bin"},
            {"rfilename":"../escape"}]}"#;
        let body = match path.as_str() {
            "/api/models/ann/tiny/revision/main" if known => list.to_vec(),
            "/ann/tiny/resolve/c0ffee/unet/model.bin" if known => weights(),
            "/free/vocabulary.txt" => b"a b c".to_vec(),
            _ => {
                let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await;
                return;
            }
        };
        let status = if start > 0 { "206 Partial Content" } else { "200 OK" };
        let rest = &body[start..];
        let range = format!("content-range: bytes {start}-{}/{}", body.len() - 1, body.len());
        let length = rest.len();
        let head = format!(
            "HTTP/1.1 {status}\r\netag: \"1\"\r\n{range}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
        );
        let first = path.ends_with(".bin") && self.broken.lock().unwrap().insert(path.clone());
        let sent = if first { &rest[..rest.len() / 2] } else { rest };
        let _ = stream.write_all(head.as_bytes()).await;
        let _ = stream.write_all(sent).await;
        let _ = stream.shutdown().await;
    }
}

fn step(uri: &str, target: &str) -> Step {
    let (include, exclude) = (vec!["*".into()], vec!["*.md".into()]);
    Step::Download(Download { uri: uri.into(), target: target.into(), include, exclude })
}

#[test]
fn files_are_fetched_whole_and_where_they_belong() {
    in_world(|world| async {
        let hub = Arc::new(Hub::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(hub.clone().serve(listener));
        let folder = tempfile::Builder::new().prefix("clunk-download").tempdir_in(shared_state()).unwrap();
        let host = HostSettings {
            model_hub: url.clone(),
            model_hub_token: Some(Secret(TOKEN.into())),
            ..HostSettings::from_host()
        };
        assert!(!format!("{host:?}").contains(TOKEN));
        let images = Images::open(ImagesConfig {
            state_dir: folder.path().into(),
            blobs: world.files.clone(),
            runtime: runtime(),
            host,
            runner_dir: None,
            source_root: "/root".into(),
            limits: Limits::default(),
        });
        let images = images.await.unwrap();
        share_packages(folder.path());
        let recipe = |steps| Recipe { base: Base::DebianSlim { python: None }, steps };
        let vocabulary = format!("{url}/free/vocabulary.txt?download=1");
        let steps = vec![step("hf://ann/tiny", "/src/weights"), step(&vocabulary, "/src/weights/words")];
        let (image, heard) = build(&images, recipe(steps.clone())).await;
        let image = image.unwrap();
        assert_eq!(std::fs::read(image.layers[1].join("src/weights/unet/model.bin")).unwrap(), weights());
        let words = image.layers[0].join("src/weights/words/vocabulary.txt");
        assert_eq!(std::fs::read_to_string(words).unwrap(), "a b c");
        assert!(
            !image.layers[1].join("src/weights/README.md").exists()
                && !image.layers[1].join("src/escape").exists()
        );
        assert!(heard.logs().contains("unet/model.bin (1200000 bytes)"), "{}", heard.logs());
        // The second attempt begins where the first was broken off.
        let asked = hub.asked.lock().unwrap().clone();
        assert!(
            asked.contains(&"/ann/tiny/resolve/c0ffee/unet/model.bin from 600000".to_string()),
            "{asked:?}"
        );
        // What was fetched once is not fetched again.
        let (_, heard) = build(&images, recipe(steps)).await;
        assert!(heard.cached().iter().all(|cached| *cached));
        let (missing, _) = build(&images, recipe(vec![step("hf://ann/nothing", "/w")])).await;
        let text = missing.unwrap_err().to_string();
        assert!(text.contains("no such repository"), "{text}");
        // Downloads lie where the next start looks for what a killed server left.
        assert!(!folder.path().join("cache/downloads").exists());
    });
}
