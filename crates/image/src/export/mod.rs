//! Images for other engines: an archive that any of them loads, with everything in it that a model needs to serve itself.

mod archive;
mod layout;
mod program;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clunk_core::Digest;
use clunk_core::id::ImageId;
use oci_client::Reference;
use serde_json::json;

use self::archive::{LayerBlob, LayerWriter, Times};
use self::layout::{Layout, Name, Settings};
use self::program::Program;
use crate::fetch::blocking;
use crate::image::{BuiltImage, LayerRef};
use crate::layer::{Pin, Scratch};
use crate::{ImageError, Images, RUNNER_PATH};

/// Where the settings of the model's server lie in the image.
const MODEL_SETTINGS: &str = "/.clunk/model.json";

/// Verb of the program that serves a model.
const SERVER_VERB: &str = "__model-server";

/// Text files that come along, together; a schema has some kilobytes.
const MAX_FILES_BYTES: usize = 32 << 20;

/// What the written image has beside the built one.
#[derive(Debug, Clone, Default)]
pub struct ExportOptions {
    /// `name[:tag]`, as engines will show it.
    pub name: Option<String>,
    /// Trees of files, the last one on top.
    pub trees: Vec<Digest>,
    /// Texts by their absolute paths.
    pub files: BTreeMap<String, String>,
    pub env: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    pub ports: Vec<u16>,
    /// Settings of a model's server: with them the image starts that server.
    pub serve: Option<String>,
}

/// An image ready to be written.
pub struct Export {
    layout: Layout,
    /// Holds the layers until they are written.
    _scratch: Scratch,
}

impl Export {
    /// Bytes of the archive.
    pub fn size_bytes(&self) -> u64 {
        self.layout.size()
    }

    /// Of the manifest: what engines call the image's digest.
    pub fn digest(&self) -> Digest {
        self.layout.digest
    }

    /// Writes the archive; blocks.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        self.layout.write(out)
    }
}

/// A layer to be packed, and what the image's history says of it.
struct Source {
    folder: PathBuf,
    times: Times,
    title: String,
    _pin: Pin,
}

impl Images {
    /// Packs an image for other engines.
    pub async fn export(&self, id: ImageId, options: ExportOptions) -> Result<Export, ImageError> {
        let image = self.get(id).ok_or(ImageError::UnknownImage(id))?;
        let name = options.name.as_deref().map(parse_name).transpose()?;
        check(&options)?;
        let mut sources = self.image_sources(id)?;
        let mut trees = Vec::new();
        for digest in &options.trees {
            let tree = self.0.context.blobs.tree(*digest).await.ok_or(ImageError::TreeMissing(*digest))?;
            self.lay_out_tree(&tree).await?;
            trees.push(self.source(LayerRef::Tree(*digest), Times::Fixed)?);
        }
        let context = self.0.context.clone();
        blocking(move |cancel| {
            let scratch = context.layers.scratch()?;
            let work = scratch.mount("export", &context.layers.ids)?;
            let mut packer = Packer { work, ids: &context.layers.ids, cancel: &cancel, done: Vec::new() };
            let program = options.serve.as_ref().map(|_| Program::running()).transpose();
            let program = program.map_err(|error| ImageError::io("look at", "/proc/self/maps", error))?;
            sources.drain(..).try_for_each(|source| packer.source(&source))?;
            if let Some(program) = &program {
                packer.program(program, image.runner_dir.as_deref())?;
            }
            trees.into_iter().try_for_each(|tree| packer.source(&tree))?;
            packer.files(&options)?;
            let settings = settings(&image, &options, program.as_ref());
            let layout = layout::lay_out(packer.done, &settings, name.as_ref());
            Ok(Export { layout, _scratch: scratch })
        })
        .await
    }

    /// The image's own layers, the lowest first.
    fn image_sources(&self, id: ImageId) -> Result<Vec<Source>, ImageError> {
        let stack = self.0.stack(id).ok_or(ImageError::UnknownImage(id))?;
        stack.into_iter().map(|layer| self.source(layer, Times::Kept)).collect()
    }

    fn source(&self, layer: LayerRef, times: Times) -> Result<Source, ImageError> {
        let layers = &self.0.context.layers;
        let pin = self.0.pin(layer)?;
        let title = layers.meta(&layer).map_or_else(String::new, |meta| meta.title);
        Ok(Source { folder: layers.path(&layer), times, title, _pin: pin })
    }
}

fn parse_name(text: &str) -> Result<Name, ImageError> {
    let bad = |why: String| ImageError::BadRecipe {
        message: format!("`{text}` is not the name of an image: {why}"),
        hint: "write name or name:tag, in small letters".into(),
    };
    let reference: Reference = text.trim().parse().map_err(|error| bad(format!("{error}")))?;
    if reference.digest().is_some() {
        return Err(bad("a digest cannot be chosen".into()));
    }
    let tag = reference.tag().unwrap_or("latest").to_string();
    let short = text.trim();
    let tagged = short.rsplit('/').next().is_some_and(|last| last.contains(':'));
    let short = if tagged { short.to_string() } else { format!("{short}:{tag}") };
    Ok(Name { full: format!("{}/{}:{tag}", reference.registry(), reference.repository()), short, tag })
}

fn check(options: &ExportOptions) -> Result<(), ImageError> {
    let bad = |message: String| ImageError::BadRecipe { message, hint: "correct the request".into() };
    let bytes: usize = options.files.values().chain(&options.serve).map(String::len).sum();
    if bytes > MAX_FILES_BYTES {
        return Err(bad(format!("the files of the image take {bytes} bytes, more than {MAX_FILES_BYTES}")));
    }
    let plain = |path: &str| {
        let mut parts = path.split('/');
        parts.next() == Some("")
            && parts.all(|part| !matches!(part, "" | "." | "..") && !part.starts_with(".wh."))
    };
    match options.files.keys().find(|path| !plain(path)) {
        Some(path) => Err(bad(format!("`{path}` is not the absolute path of a file"))),
        None => Ok(()),
    }
}

struct Packer<'a> {
    work: PathBuf,
    ids: &'a crate::beneath::Ids,
    cancel: &'a Arc<AtomicBool>,
    done: Vec<(LayerBlob, String)>,
}

impl Packer<'_> {
    fn layer(
        &mut self,
        title: &str,
        fill: impl FnOnce(&mut LayerWriter<'_>) -> io::Result<()>,
    ) -> Result<(), ImageError> {
        let file = self.work.join(self.done.len().to_string());
        let pack = || -> io::Result<LayerBlob> {
            let mut layer = LayerWriter::new(file.clone(), self.ids, self.cancel)?;
            fill(&mut layer)?;
            layer.finish()
        };
        let blob = pack().map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => ImageError::Canceled,
            _ => ImageError::io("pack a layer into", &file, error),
        })?;
        self.done.push((blob, title.into()));
        Ok(())
    }

    fn source(&mut self, source: &Source) -> Result<(), ImageError> {
        self.layer(&source.title, |layer| layer.overlay(&source.folder, source.times))
    }

    /// The program and the runner that it starts.
    fn program(&mut self, program: &Program, runner: Option<&Path>) -> Result<(), ImageError> {
        let runner =
            runner.ok_or_else(|| ImageError::Internal("the image has no Python that could serve".into()))?;
        self.layer("clunk", |layer| {
            layer.host_folder(RUNNER_PATH, runner)?;
            program.write(layer)
        })
    }

    fn files(&mut self, options: &ExportOptions) -> Result<(), ImageError> {
        if options.files.is_empty() && options.serve.is_none() {
            return Ok(());
        }
        self.layer("settings", |layer| {
            for (path, text) in &options.files {
                layer.bytes(path, 0o644, text.as_bytes())?;
            }
            match &options.serve {
                Some(model) => layer.bytes(MODEL_SETTINGS, 0o644, model.as_bytes()),
                None => Ok(()),
            }
        })
    }
}

fn settings(image: &BuiltImage, options: &ExportOptions, program: Option<&Program>) -> Settings {
    let mut env = image.config.full_env();
    env.extend(options.env.clone());
    let (entrypoint, cmd) = match program {
        Some(program) => {
            let words = [SERVER_VERB, "--config", MODEL_SETTINGS].map(String::from);
            (program.command().into_iter().chain(words).collect(), Vec::new())
        }
        None => (image.config.entrypoint.clone(), image.config.cmd.clone()),
    };
    Settings {
        user: image.config.user.clone(),
        env: env.into_iter().map(|(name, value)| format!("{name}={value}")).collect(),
        entrypoint,
        cmd,
        workdir: image.config.workdir.clone(),
        labels: json!(options.labels),
        ports: options.ports.clone(),
    }
}
