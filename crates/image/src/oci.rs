//! Images from a registry: what a name means, and its layers as folders.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clunk_core::Digest;
use clunk_core::recipe::RegistryCredentials;
use futures_util::future::try_join_all;
use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::manifest::{OciDescriptor, OciImageManifest};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use serde::Deserialize;
use tokio_util::io::{StreamReader, SyncIoBridge};

use crate::ImageError;
use crate::beneath::Root;
use crate::context::Context;
use crate::fetch::{self, CONNECT_TIMEOUT, READ_TIMEOUT, blocking, deepest};
use crate::flight::{Flights, Log};
use crate::image::{ImageConfig, LayerRef};
use crate::unpack::{self, Options};

/// Part of every layer's key: count up when unpacking changes.
const UNPACK_VERSION: u32 = 1;

/// Layers fetched at a time.
const PARALLEL: usize = 4;

/// Attempts per layer.
const ATTEMPTS: usize = 3;

/// The kernel stacks at most 500; steps come on top.
const MAX_LAYERS: usize = 250;

/// A registry's answer to a name.
pub(crate) struct Found {
    /// Of the manifest: names the content.
    pub digest: Digest,
    manifest: OciImageManifest,
    pub config: ImageConfig,
    pull: Pull,
}

struct Pull {
    client: Client,
    reference: Reference,
}

#[derive(Deserialize)]
struct ConfigFile {
    #[serde(default)]
    config: Option<RunConfig>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RunConfig {
    user: Option<String>,
    env: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    working_dir: Option<String>,
}

/// Asks the registry what the reference stands for on this machine's architecture.
pub(crate) async fn find(
    context: &Context,
    text: &str,
    credentials: Option<&RegistryCredentials>,
) -> Result<Found, ImageError> {
    let reference: Reference = text.trim().parse().map_err(|error| ImageError::BadRecipe {
        message: format!("`{text}` is not the name of an image: {error}"),
        hint: "write name:tag, with the registry's host in front when it is not the default one".into(),
    })?;
    let client = client(context, &reference)?;
    let auth = match credentials {
        Some(who) => RegistryAuth::Basic(who.username.clone(), who.password.clone()),
        None => RegistryAuth::Anonymous,
    };
    let pulled = client.pull_manifest_and_config(&reference, &auth).await;
    let (manifest, digest, config) = pulled.map_err(|error| explain(text, &error))?;
    if manifest.layers.len() > MAX_LAYERS {
        return Err(bad(
            text,
            format!("it has {} layers, at most {MAX_LAYERS} can be stacked", manifest.layers.len()),
        ));
    }
    let digest = digest.strip_prefix("sha256:").and_then(|hex| hex.parse().ok());
    let digest = digest.ok_or_else(|| bad(text, "its digest is not SHA-256".into()))?;
    let config: ConfigFile = serde_json::from_str(&config)
        .map_err(|error| bad(text, format!("its settings cannot be read: {error}")))?;
    let config = image_config(config.config.unwrap_or_default());
    Ok(Found { digest, manifest, config, pull: Pull { client, reference } })
}

/// A name with a digest means the same for ever.
pub(crate) fn is_pinned(text: &str) -> bool {
    text.contains('@')
}

impl Found {
    /// Fetches and unpacks the layers that are missing; returns all, the lowest first.
    pub async fn unpack(
        self,
        context: &Arc<Context>,
        flights: &Arc<Flights<()>>,
        log: &Log,
    ) -> Result<Vec<LayerRef>, ImageError> {
        let slots = tokio::sync::Semaphore::new(PARALLEL);
        let pull = Arc::new(self.pull);
        let total = self.manifest.layers.len();
        let jobs = self.manifest.layers.into_iter().enumerate().map(|(at, descriptor)| {
            let (slots, pull) = (&slots, pull.clone());
            async move {
                let key = Digest::of_json(&("oci layer", UNPACK_VERSION, &descriptor.digest));
                let layer = LayerRef::Layer(key);
                if context.layers.exists(&layer) {
                    return Ok(layer);
                }
                let _slot = slots.acquire().await.expect("never closed");
                let (events, _) = tokio::sync::mpsc::channel(1);
                log.line(&format!("layer {} of {total}: {:.1} MB", at + 1, descriptor.size as f64 / 1e6));
                let context = context.clone();
                let work = |_| async move { pull.layer(&context, &descriptor, layer).await };
                flights.join(key, &events, work).await.map(|()| layer)
            }
        });
        try_join_all(jobs).await
    }
}

impl Pull {
    async fn layer(
        &self,
        context: &Arc<Context>,
        descriptor: &OciDescriptor,
        layer: LayerRef,
    ) -> Result<(), ImageError> {
        let mut attempt = 1;
        loop {
            match self.layer_once(context, descriptor, layer).await {
                Err(ImageError::RegistryUnreachable { .. }) if attempt < ATTEMPTS => attempt += 1,
                other => return other,
            }
        }
    }

    async fn layer_once(
        &self,
        context: &Arc<Context>,
        descriptor: &OciDescriptor,
        layer: LayerRef,
    ) -> Result<(), ImageError> {
        let name = self.reference.to_string();
        // The stream checks the digest and fails at its end when it is another.
        let stream = self.client.pull_blob_stream(&self.reference, descriptor).await;
        let stream = stream.map_err(|error| explain(&name, &error))?;
        let context = context.clone();
        let title = format!(
            "{} {}",
            self.reference.repository(),
            &descriptor.digest[..descriptor.digest.len().min(19)]
        );
        let runtime = tokio::runtime::Handle::current();
        blocking(move |cancel| {
            let bridge = SyncIoBridge::new_with_handle(StreamReader::new(stream), runtime);
            let mut reader = Cancelable { reader: bridge, cancel: &cancel };
            let scratch = context.layers.scratch()?;
            let unpacked = (|| {
                let mut root = Root::open(&scratch.fs(), context.layers.ids.clone())?;
                let options = Options { whiteouts: true, skip: &|_| false, cancel: &cancel };
                unpack::unpack(unpack::decoder(&mut reader)?, &mut root, &options)?;
                io::copy(&mut reader, &mut io::sink())
            })();
            unpacked.map_err(|error| stream_error(&name, &scratch.fs(), error))?;
            context.layers.commit(&scratch, layer, &title).map(|_| ())
        })
        .await
    }
}

/// Ends a read soon after nobody wants it any more.
struct Cancelable<'a, R> {
    reader: R,
    cancel: &'a AtomicBool,
}

impl<R: Read> Read for Cancelable<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.load(Ordering::Relaxed) {
            return Err(io::Error::other("canceled"));
        }
        self.reader.read(buffer)
    }
}

fn client(context: &Context, reference: &Reference) -> Result<Client, ImageError> {
    fetch::install_cryptography();
    let protocol =
        if is_loopback(reference.resolve_registry()) { ClientProtocol::Http } else { ClientProtocol::Https };
    let certificates =
        fetch::extra_certificates(&context.host).map(|pem| fetch::split_pem(&pem)).unwrap_or_default();
    let certificate = |data| Certificate { encoding: CertificateEncoding::Pem, data };
    let proxy = |names: [&str; 2]| names.iter().find_map(|name| context.host.proxies.get(*name).cloned());
    let config = ClientConfig {
        protocol,
        extra_root_certificates: certificates.into_iter().map(certificate).collect(),
        connect_timeout: Some(CONNECT_TIMEOUT),
        read_timeout: Some(READ_TIMEOUT),
        user_agent: concat!("clunk/", env!("CARGO_PKG_VERSION")),
        http_proxy: proxy(["HTTP_PROXY", "http_proxy"]),
        https_proxy: proxy(["HTTPS_PROXY", "https_proxy"]),
        no_proxy: proxy(["NO_PROXY", "no_proxy"]),
        ..ClientConfig::default()
    };
    Client::try_from(config)
        .map_err(|error| ImageError::Internal(format!("could not set up the client: {error}")))
}

/// Whether the registry runs on this machine, where nobody listens between: it may speak plain HTTP.
fn is_loopback(registry: &str) -> bool {
    let host = match registry.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => registry.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn image_config(run: RunConfig) -> ImageConfig {
    let env = run.env.unwrap_or_default();
    let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
    ImageConfig {
        env: env
            .iter()
            .filter_map(|pair| pair.split_once('='))
            .filter(|(name, value)| !name.is_empty() && !pair_has_zero(name, value))
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect::<BTreeMap<_, _>>(),
        workdir: filled(run.working_dir).filter(|path| path.starts_with('/')),
        entrypoint: run.entrypoint.unwrap_or_default(),
        cmd: run.cmd.unwrap_or_default(),
        user: filled(run.user),
    }
}

fn pair_has_zero(name: &str, value: &str) -> bool {
    name.contains('\0') || value.contains('\0')
}

fn bad(reference: &str, reason: String) -> ImageError {
    ImageError::BadImage { reference: reference.into(), reason }
}

/// A failure while unpacking: of the network, of the disk, or of what came.
fn stream_error(reference: &str, folder: &std::path::Path, error: io::Error) -> ImageError {
    let text = error.to_string();
    let network = |error: &(dyn std::error::Error + 'static)| {
        error.is::<OciDistributionError>() || error.to_string().contains("request or response body")
    };
    let mut cause: Option<&(dyn std::error::Error + 'static)> = error.get_ref().map(|inner| inner as _);
    while let Some(inner) = cause {
        if network(inner) && !inner.to_string().contains("digest") {
            return ImageError::RegistryUnreachable { reference: reference.into(), reason: deepest(inner) };
        }
        cause = inner.source();
    }
    if error.raw_os_error().is_some() {
        return ImageError::io("unpack a layer in", folder, error);
    }
    bad(reference, text)
}

fn explain(reference: &str, error: &OciDistributionError) -> ImageError {
    use OciDistributionError as E;
    let reference = reference.to_string();
    let reason = deepest(error);
    let denied = |reason| ImageError::RegistryDenied { reference: reference.clone(), reason };
    let missing = |reason| ImageError::RegistryNotFound { reference: reference.clone(), reason };
    match error {
        E::UnauthorizedError { .. } => denied("it wants other credentials".into()),
        E::AuthenticationFailure(_) => denied(reason),
        E::ServerError { code: 401 | 403, .. } => denied(reason),
        E::ImageManifestNotFoundError(_) => missing(reason),
        E::ServerError { code: 404, .. } => missing("it does not know the name".into()),
        E::RegistryError { envelope, .. } => {
            let codes: Vec<_> = envelope.errors.iter().map(|error| &error.code).collect();
            let text =
                envelope.errors.iter().map(|error| error.message.as_str()).collect::<Vec<_>>().join("; ");
            if codes.iter().any(|code| matches!(code, OciErrorCode::Unauthorized | OciErrorCode::Denied)) {
                return denied(text);
            }
            let unknown = |code: &&OciErrorCode| {
                matches!(
                    code,
                    OciErrorCode::ManifestUnknown | OciErrorCode::NameUnknown | OciErrorCode::NotFound
                )
            };
            match codes.iter().any(unknown) {
                true => missing(text),
                false => ImageError::RegistryUnreachable { reference, reason: text },
            }
        }
        E::RequestError(_) | E::IoError(_) | E::ServerError { .. } => {
            ImageError::RegistryUnreachable { reference, reason }
        }
        E::ImageIndexParsingNoPlatformResolverError => {
            bad(&reference, "it is not made for this machine".into())
        }
        _ => bad(&reference, reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_may_speak_plainly() {
        for host in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]:5000"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.example", "10.0.0.1:5000", "registry.example:5000", "[fe80::1]"] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn settings_of_an_image() {
        let text = r#"{"config":{"Env":["PATH=/a","X=1=2","broken"],"Cmd":["run"],"WorkingDir":"","User":"app"},"rootfs":{}}"#;
        let config = image_config(serde_json::from_str::<ConfigFile>(text).unwrap().config.unwrap());
        assert_eq!((config.env["X"].as_str(), config.env.len()), ("1=2", 2));
        assert_eq!((config.workdir, config.user.as_deref()), (None, Some("app")));
        assert!(serde_json::from_str::<ConfigFile>(r#"{"config":{"Env":null,"Cmd":null}}"#).is_ok());
    }
}
