//! Files from the network: checked against their digest while they come, kept by it, retried when a link breaks.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clunk_core::Digest;
use clunk_core::digest::Hasher;
use futures_util::StreamExt;
use reqwest::header::{CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_RANGE, LAST_MODIFIED, RANGE};
use tokio::io::AsyncWriteExt;

use crate::layer::random_name;
use crate::{HostSettings, ImageError};

/// A host that does not answer within this is down for our purposes.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Nothing at all for this long: the link is dead.
pub(crate) const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Attempts for one file.
const ATTEMPTS: u32 = 3;

const USER_AGENT: &str = concat!("clunk/", env!("CARGO_PKG_VERSION"));

#[derive(Clone)]
pub(crate) struct Http(reqwest::Client);

/// The extra certificates of the settings, for clients of our own.
pub(crate) fn extra_certificates(host: &HostSettings) -> Option<Vec<u8>> {
    // One file of trusted certificates is seldom more than 300 kB.
    host.ca_bundle.as_ref().and_then(|path| std::fs::read(path).ok())
}

/// The certificates of a bundle, one each.
pub(crate) fn split_pem(bundle: &[u8]) -> Vec<Vec<u8>> {
    const END: &str = "-----END CERTIFICATE-----";
    let text = String::from_utf8_lossy(bundle);
    let begin = |piece: &str| piece.find("-----BEGIN CERTIFICATE-----");
    text.split_inclusive(END)
        .filter(|piece| piece.ends_with(END))
        .filter_map(|piece| Some(piece.as_bytes()[begin(piece)?..].to_vec()))
        .collect()
}

/// Chooses the process's cryptography once; someone else's earlier choice stands.
pub fn install_cryptography() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

impl Http {
    pub fn new(host: &HostSettings) -> Result<Self, ImageError> {
        install_cryptography();
        let mut builder = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT);
        if let Some(pem) = extra_certificates(host) {
            let parsed = reqwest::Certificate::from_pem_bundle(&pem);
            builder = builder.tls_certs_merge(parsed.unwrap_or_default());
        }
        builder
            .build()
            .map(Self)
            .map_err(|error| ImageError::Internal(format!("could not set up the HTTP client: {error}")))
    }

    /// A small file in memory. `None` when the server has none.
    pub async fn get(
        &self,
        url: &str,
        token: Option<&str>,
        max_bytes: usize,
    ) -> Result<Option<Vec<u8>>, ImageError> {
        retried(|| self.get_once(url, token, max_bytes)).await
    }

    async fn get_once(
        &self,
        url: &str,
        token: Option<&str>,
        max_bytes: usize,
    ) -> Result<Option<Vec<u8>>, ImageError> {
        let answer = authorized(self.0.get(url), token).send().await.map_err(|error| failed(url, &error))?;
        if matches!(answer.status().as_u16(), 404 | 410) {
            return Ok(None);
        }
        if !answer.status().is_success() {
            return Err(ImageError::Status { url: url.into(), status: answer.status().as_u16() });
        }
        let mut stream = answer.bytes_stream();
        let mut content = Vec::new();
        while let Some(piece) = stream.next().await {
            content.extend_from_slice(&piece.map_err(|error| failed(url, &error))?);
            if content.len() > max_bytes {
                let reason = format!("it is larger than {max_bytes} bytes");
                return Err(ImageError::Unverified { what: url.into(), reason });
            }
        }
        Ok(Some(content))
    }

    /// Saves a file of any length; its bytes. What a broken link has brought so far is kept and added to, when the
    /// server can tell that the file is still the same.
    pub async fn save(&self, url: &str, token: Option<&str>, path: &Path) -> Result<u64, ImageError> {
        let state = Mutex::default();
        retried(|| self.save_once(url, token, path, &state)).await
    }

    async fn save_once(
        &self,
        url: &str,
        token: Option<&str>,
        path: &Path,
        state: &Mutex<Option<HeaderValue>>,
    ) -> Result<u64, ImageError> {
        let failed_io = |error| ImageError::io("write", path, error);
        let mut file =
            tokio::fs::OpenOptions::new().create(true).append(true).open(path).await.map_err(failed_io)?;
        let mut written = file.metadata().await.map_err(failed_io)?.len();
        let mut request = authorized(self.0.get(url), token);
        let known = state.lock().expect("no panic while locked").take();
        if let (Some(known), true) = (known, written > 0) {
            request = request.header(RANGE, format!("bytes={written}-")).header(IF_RANGE, known);
        }
        let answer = request.send().await.map_err(|error| failed(url, &error))?;
        let range = |header: &str| {
            answer
                .headers()
                .get(CONTENT_RANGE)
                .is_some_and(|found| found.as_bytes().starts_with(header.as_bytes()))
        };
        match answer.status().as_u16() {
            206 if range(&format!("bytes {written}-")) => {}
            200 => {
                file.set_len(0).await.map_err(failed_io)?;
                written = 0;
            }
            // Nothing is missing but the word that it was all.
            416 if range(&format!("bytes */{written}")) => return Ok(written),
            206 | 416 => {
                let reason = "it answered with another part of the file than was asked for".into();
                return Err(ImageError::Fetch { url: url.into(), reason });
            }
            status => return Err(ImageError::Status { url: url.into(), status }),
        }
        *state.lock().expect("no panic while locked") = same_file(answer.headers());
        let mut stream = answer.bytes_stream();
        while let Some(piece) = stream.next().await {
            let piece = piece.map_err(|error| failed(url, &error))?;
            file.write_all(&piece).await.map_err(failed_io)?;
            written += piece.len() as u64;
        }
        file.flush().await.map_err(failed_io)?;
        Ok(written)
    }

    /// A file with a known digest, from the cache folder or the network.
    pub async fn cached(&self, url: &str, want: Digest, folder: &Path) -> Result<PathBuf, ImageError> {
        let path = folder.join(want.to_string());
        if path.is_file() {
            // Pruning goes by the time of last use.
            let _ =
                std::fs::File::open(&path).and_then(|file| file.set_modified(std::time::SystemTime::now()));
            return Ok(path);
        }
        retried(|| self.download(url, want, &path)).await?;
        Ok(path)
    }

    async fn download(&self, url: &str, want: Digest, path: &Path) -> Result<(), ImageError> {
        let answer = self.0.get(url).send().await.map_err(|error| failed(url, &error))?;
        if !answer.status().is_success() {
            return Err(ImageError::Status { url: url.into(), status: answer.status().as_u16() });
        }
        let temporary = Temporary(path.with_file_name(format!(".tmp-{}", random_name())));
        let failed_io = |error| ImageError::io("write", &temporary.0, error);
        let mut file = tokio::fs::File::create(&temporary.0).await.map_err(failed_io)?;
        let mut hasher = Hasher::default();
        let mut stream = answer.bytes_stream();
        while let Some(piece) = stream.next().await {
            let piece = piece.map_err(|error| failed(url, &error))?;
            hasher.update(&piece);
            file.write_all(&piece).await.map_err(failed_io)?;
        }
        file.flush().await.map_err(failed_io)?;
        let got = hasher.finish();
        if got != want {
            let reason = format!("its digest is {} instead of {}", got.short(), want.short());
            return Err(ImageError::Unverified { what: url.into(), reason });
        }
        std::fs::rename(&temporary.0, path).map_err(failed_io)
    }
}

/// What says later that a file is still the same: an exact tag, or else the time of its last change.
fn same_file(headers: &HeaderMap) -> Option<HeaderValue> {
    let tag = headers.get(ETAG).filter(|tag| tag.as_bytes().starts_with(b"\""));
    tag.or_else(|| headers.get(LAST_MODIFIED)).cloned()
}

fn authorized(request: reqwest::RequestBuilder, token: Option<&str>) -> reqwest::RequestBuilder {
    match token {
        Some(token) => request.bearer_auth(token),
        None => request,
    }
}

/// Removes the file unless it was renamed away.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Tries again what another try may mend.
async fn retried<T, F: Future<Output = Result<T, ImageError>>>(
    work: impl Fn() -> F,
) -> Result<T, ImageError> {
    let mut attempt = 1;
    loop {
        let error = match work().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let passing = match &error {
            ImageError::Fetch { .. } | ImageError::Unverified { .. } => true,
            ImageError::Status { status, .. } => *status >= 500 || *status == 429,
            _ => false,
        };
        if !passing || attempt == ATTEMPTS {
            return Err(error);
        }
        tokio::time::sleep(Duration::from_millis(300 * u64::from(attempt))).await;
        attempt += 1;
    }
}

fn failed(url: &str, error: &reqwest::Error) -> ImageError {
    ImageError::Fetch { url: url.into(), reason: deepest(error) }
}

/// The innermost cause, which says what really happened.
pub(crate) fn deepest(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// Runs blocking work; a flag tells it when its caller is gone.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce(Arc<std::sync::atomic::AtomicBool>) -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    struct CancelOnDrop(Arc<std::sync::atomic::AtomicBool>);
    impl Drop for CancelOnDrop {
        fn drop(&mut self) {
            self.0.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    }
    let cancel = CancelOnDrop(Arc::default());
    let flag = cancel.0.clone();
    let done = tokio::task::spawn_blocking(move || work(flag)).await;
    done.unwrap_or_else(|error| Err(ImageError::Internal(format!("a build step panicked: {error}"))))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers one connection after the other; the heads of what was asked.
    async fn answers(listener: TcpListener, answers: Vec<&'static str>) -> Vec<String> {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                head.push(char::from(stream.read_u8().await.unwrap()));
            }
            asked.push(head.to_lowercase());
            stream.write_all(format!("HTTP/1.1 {answer}").as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        }
        asked
    }

    /// What is saved from a server that answers so, and what it was asked.
    async fn saved(server: Vec<&'static str>) -> (String, Vec<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/file", listener.local_addr().unwrap());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let http = Http::new(&HostSettings::from_host()).unwrap();
        let (written, asked) = tokio::join!(http.save(&url, None, &path), answers(listener, server));
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(written.unwrap(), text.len() as u64);
        (text, asked)
    }

    #[tokio::test]
    async fn a_broken_download_goes_on_where_the_file_is_the_same() {
        let broken = "200 OK\r\netag: \"1\"\r\ncontent-length: 6\r\n\r\nabc";
        let rest = "206 Partial Content\r\ncontent-range: bytes 3-5/6\r\ncontent-length: 3\r\n\r\ndef";
        let (text, asked) = saved(vec![broken, rest]).await;
        assert_eq!(text, "abcdef");
        assert!(
            asked[1].contains("range: bytes=3-\r\n") && asked[1].contains("if-range: \"1\"\r\n"),
            "{asked:?}"
        );
        let changed = "200 OK\r\netag: \"2\"\r\ncontent-length: 2\r\n\r\nxy";
        assert_eq!(saved(vec![broken, changed]).await.0, "xy");
    }

    #[tokio::test]
    async fn a_download_begins_anew_where_nothing_says_that_the_file_is_the_same() {
        let broken = "200 OK\r\netag: W/\"1\"\r\ncontent-length: 6\r\n\r\nabc";
        let whole = "200 OK\r\ncontent-length: 2\r\n\r\nxy";
        let (text, asked) = saved(vec![broken, whole]).await;
        assert!(text == "xy" && !asked[1].contains("range:"), "{asked:?}");
        // Another part than was asked for is not put behind what is there.
        let tagged = "200 OK\r\netag: \"1\"\r\ncontent-length: 6\r\n\r\nabc";
        let other = "206 Partial Content\r\ncontent-range: bytes 0-1/2\r\ncontent-length: 2\r\n\r\nxy";
        assert_eq!(saved(vec![tagged, other, whole]).await.0, "xy");
    }

    #[tokio::test]
    async fn a_download_of_which_nothing_is_missing_has_ended() {
        let unfinished = "200 OK\r\netag: \"1\"\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n";
        let none = "416 Range Not Satisfiable\r\ncontent-range: bytes */3\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(saved(vec![unfinished, none]).await.0, "abc");
    }
}
