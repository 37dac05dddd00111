//! Files from the network: a single one, or a repository of a model hub.

use std::path::Path;
use std::sync::Arc;

use clunk_core::Digest;
use clunk_core::recipe::Download;
use serde::Deserialize;

use super::docker::glob;
use crate::ImageError;
use crate::beneath::Meta;
use crate::context::Context;
use crate::flight::Log;
use crate::image::{Chain, LayerRef};
use crate::images::Inner;
use crate::progress::Progress;
use crate::trees::{self, Content, Placed};

/// Bytes of the list of a repository's files.
const MAX_LIST: usize = 64 << 20;
/// Files of one download.
const MAX_FILES: usize = 100_000;

/// A file to fetch, and its place below the target.
struct Wanted {
    url: String,
    path: String,
}

pub(crate) async fn download(
    inner: &Arc<Inner>,
    chain: &mut Chain,
    step: Digest,
    download: Download,
    title: &str,
    progress: &mut Progress<'_>,
) -> Result<(), ImageError> {
    let key = chain.next_key(step, None);
    let (context, owned) = (inner.context.clone(), title.to_string());
    let below = inner.context.paths(&chain.stack);
    let work = move |log: Log| async move {
        // Cleaned up by the next start, when this process is killed.
        let scratch = context.layers.scratch()?;
        let folder = scratch.mount("download", &context.layers.ids)?;
        let files = fetch(&context, &download, &folder, &log).await?;
        // Whatever lies at the target below stays beside them.
        trees::commit(&context, files, below, LayerRef::Layer(key), owned).await
    };
    super::layer(inner, chain, key, title, progress, work).await
}

/// Fetches every file into the folder; where each belongs.
async fn fetch(
    context: &Context,
    download: &Download,
    folder: &Path,
    log: &Log,
) -> Result<Vec<Placed>, ImageError> {
    let wanted = match download.uri.strip_prefix("hf://") {
        Some(repository) => repository_files(context, repository).await?,
        None => vec![single(&download.uri)?],
    };
    let chosen: Vec<_> = wanted.into_iter().filter(|wanted| is_chosen(download, &wanted.path)).collect();
    if chosen.is_empty() || chosen.len() > MAX_FILES {
        return Err(ImageError::BadRecipe {
            message: format!("{} files of {} are chosen", chosen.len(), download.uri),
            hint: format!("mend `include` and `exclude`: from 1 to {MAX_FILES} files can be fetched"),
        });
    }
    let mut files = Vec::with_capacity(chosen.len());
    for (at, wanted) in chosen.iter().enumerate() {
        let path = folder.join(at.to_string());
        let bytes = context.http.save(&wanted.url, context.host.token_for(&wanted.url), &path).await?;
        log.line(&format!("{} ({bytes} bytes)", wanted.path));
        let target = format!("{}/{}", download.target.trim_end_matches('/'), wanted.path);
        let meta = Meta { mode: 0o644, ..Meta::FOLDER };
        files.push(Placed { path: target.into_bytes(), meta, content: Content::File(path) });
    }
    Ok(files)
}

/// A file that has the URL's last part as its name.
fn single(url: &str) -> Result<Wanted, ImageError> {
    let plain = url.split(['?', '#']).next().unwrap_or(url);
    let name = plain.rsplit('/').next().filter(|name| is_name(name) && plain.matches('/').count() > 2);
    let name = name.ok_or_else(|| ImageError::BadRecipe {
        message: format!("{url} does not name a file"),
        hint: "write the whole URL of a file, such as https://host/folder/model.safetensors".into(),
    })?;
    Ok(Wanted { url: url.into(), path: name.into() })
}

/// What a hub says about a repository.
#[derive(Deserialize)]
struct Repository {
    /// The commit that the files are taken from.
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

/// The files of `owner/name[@revision]`.
async fn repository_files(context: &Context, repository: &str) -> Result<Vec<Wanted>, ImageError> {
    let (name, revision) = repository.split_once('@').unwrap_or((repository, "main"));
    let hub = &context.host.model_hub;
    let url =
        address(hub, ["api", "models"].into_iter().chain(name.split('/')).chain(["revision", revision]))?;
    let missing = |reason: &str| ImageError::Fetch { url: url.clone(), reason: reason.into() };
    let list = context.http.get(&url, context.host.token_for(&url), MAX_LIST).await?;
    let list = list.ok_or_else(|| missing("there is no such repository or revision, or it is not public"))?;
    let found: Repository =
        serde_json::from_slice(&list).map_err(|error| missing(&format!("not a list of files: {error}")))?;
    let safe = |path: &str| path.split('/').all(is_name);
    let wanted = found.siblings.into_iter().map(|sibling| sibling.rfilename).filter(|path| safe(path));
    let place = |path: String| {
        let folder = name.split('/').chain(["resolve", &found.sha]);
        Ok(Wanted { url: address(hub, folder.chain(path.split('/')))?, path })
    };
    wanted.map(place).collect()
}

/// The address with these parts in its path, whatever characters they have.
fn address<'a>(hub: &str, parts: impl IntoIterator<Item = &'a str>) -> Result<String, ImageError> {
    let wrong = |reason: String| ImageError::Fetch { url: hub.into(), reason };
    let mut url = reqwest::Url::parse(hub).map_err(|error| wrong(error.to_string()))?;
    let path = url.path_segments_mut();
    path.map_err(|()| wrong("it has no path".into()))?.pop_if_empty().extend(parts);
    Ok(url.into())
}

/// One part of a path that stays where it is put.
fn is_name(part: &str) -> bool {
    !matches!(part, "" | "." | "..") && !part.contains(['\0', '\\'])
}

/// By the patterns of the download: `*` stands for any characters, `/` among them, and a folder for all that is in it.
fn is_chosen(download: &Download, path: &str) -> bool {
    let fits = |pattern: &String| {
        let folder = pattern.strip_suffix('/').map(|folder| format!("{folder}/*"));
        glob(folder.as_ref().unwrap_or(pattern).as_bytes(), path.as_bytes())
    };
    (download.include.is_empty() || download.include.iter().any(fits)) && !download.exclude.iter().any(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(include: &[&str], exclude: &[&str], path: &str) -> bool {
        let texts = |patterns: &[&str]| patterns.iter().map(ToString::to_string).collect();
        let download = Download {
            uri: "hf://a/b".into(),
            target: "/w".into(),
            include: texts(include),
            exclude: texts(exclude),
        };
        is_chosen(&download, path)
    }

    #[test]
    fn patterns_choose_files() {
        assert!(chosen(&[], &[], "model.bin"));
        assert!(chosen(&["*.safetensors"], &[], "unet/model.safetensors"));
        assert!(!chosen(&["*.safetensors"], &[], "model.bin"));
        assert!(!chosen(&[], &["onnx/"], "onnx/deep/model.onnx"));
        assert!(chosen(&["onnx/"], &["*.md"], "onnx/model.onnx"));
    }

    #[test]
    fn every_file_of_a_repository_has_an_address() {
        let parts = ["ann", "tiny", "resolve", "c0ffee", "50% off?", "a#b.bin"];
        let want = "https://hub/ann/tiny/resolve/c0ffee/50%25%20off%3F/a%23b.bin";
        assert_eq!(address("https://hub", parts).unwrap(), want);
        assert_eq!(address("https://hub/", parts).unwrap(), want);
        assert!(address("hub", parts).is_err());
    }

    #[test]
    fn a_url_names_its_file() {
        assert_eq!(single("https://host/a/model.bin?download=1").unwrap().path, "model.bin");
        for bad in ["https://host", "https://host/", "https://host/a/.."] {
            assert!(single(bad).is_err(), "{bad}");
        }
    }
}
