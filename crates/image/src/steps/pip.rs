//! pip_install: Python packages through uv.

use std::sync::Arc;

use clunk_core::Digest;
use clunk_core::recipe::PipInstall;

use super::StepJob;
use crate::ImageError;
use crate::container::Ended;
use crate::image::Chain;
use crate::images::Inner;
use crate::progress::Progress;
use crate::{python, uv};

const UV: &str = "/.clunk-build/uv";
const CACHE: &str = "/.clunk-build/uv-cache";
const REQUIREMENTS: &str = "/.clunk-build/requirements";

pub(crate) async fn install(
    inner: &Arc<Inner>,
    chain: &mut Chain,
    step: Digest,
    pip: PipInstall,
    title: &str,
    progress: &mut Progress<'_>,
) -> Result<(), ImageError> {
    let extra = split_words(&pip.extra_options).ok_or_else(|| ImageError::BadRecipe {
        message: format!("pip_install: extra_options `{}` has an open quote", pip.extra_options),
        hint: "close the quote".into(),
    })?;
    if pip.packages.is_empty() && pip.requirements.is_empty() && extra.is_empty() {
        return Err(ImageError::BadRecipe {
            message: "pip_install names no package".into(),
            hint: "name packages or a requirements file".into(),
        });
    }
    let key = chain.next_key(step, None);
    let (worker, below, owned, own_base) =
        (inner.clone(), chain.clone(), title.to_string(), progress.own_base);
    let work = |log| async move {
        let context = &worker.context;
        let python = python::find(context, &below).ok_or_else(|| ImageError::BadRecipe {
            message: "pip_install needs a Python in the image, which has none".into(),
            hint: "start from debian_slim or an image with Python, or install python3 first".into(),
        })?;
        let uv = uv::find(&worker, &below, own_base, &log).await?;
        let mut job = StepJob::new(context, &below)?.online().mount(uv, UV, true).mount(
            context.shared_cache("uv")?,
            CACHE,
            false,
        );
        let requirements = job.scratch.mount("requirements", &context.layers.ids)?;
        let mut argv = vec![format!("{UV}/uv"), "pip".into(), "install".into(), "--python".into(), python];
        for (option, texts) in [("requirements", &pip.requirements), ("constraints", &pip.constraints)] {
            for (at, text) in texts.iter().enumerate() {
                let name = format!("{option}-{at}.txt");
                let path = requirements.join(&name);
                std::fs::write(&path, text).map_err(|error| ImageError::io("write", &path, error))?;
                argv.extend([format!("--{option}"), format!("{REQUIREMENTS}/{name}")]);
            }
        }
        argv.extend(options(&pip));
        argv.extend(extra);
        argv.push("--".into());
        argv.extend(pip.packages);
        job.job.env.extend(context.host.indexes.clone());
        job.job.env.extend(uv::env(CACHE));
        job.mount(requirements, REQUIREMENTS, true).argv(argv).run(key, owned, log, explain).await
    };
    super::layer(inner, chain, key, title, progress, work).await
}

fn options(pip: &PipInstall) -> Vec<String> {
    let mut options = Vec::new();
    let mut add = |name: &str, value: &Option<String>| {
        if let Some(value) = value {
            options.extend([name.to_string(), value.clone()]);
        }
    };
    add("--default-index", &pip.index_url);
    add("--index", &pip.extra_index_url);
    add("--find-links", &pip.find_links);
    if pip.pre {
        options.push("--prerelease=allow".into());
    }
    options
}

/// uv's words for a package the index does not have.
fn explain(ended: &Ended) -> Option<ImageError> {
    let text =
        ended.tail.iter().map(|line| line.trim_matches([' ', '×', '╰', '─', '▶', '│'])).collect::<Vec<_>>();
    let text = text.join(" ");
    let (before, _) = text
        .split_once(" was not found in the package registry")
        .or_else(|| text.split_once(" was not found in the provided package locations"))?;
    let package = before.rsplit(' ').next()?;
    Some(ImageError::PackageNotFound { package: package.into(), place: "the package index" })
}

/// Words as a shell would split them, without any expansion; `None` for an open quote.
fn split_words(text: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (Some(open), c) if c == open => quote = None,
            (None | Some('"'), '\\') => word.get_or_insert_default().extend(characters.next()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use clunk_runtime::ExitReason;

    use super::*;

    #[test]
    fn words_as_in_a_shell() {
        let words = split_words(r#"--no-deps  --config "a b" 'c"d' e\ f"#).unwrap();
        assert_eq!(words, ["--no-deps", "--config", "a b", "c\"d", "e f"]);
        assert_eq!(split_words("'open"), None);
    }

    #[test]
    fn an_unknown_package_is_named() {
        let tail = [
            "  × No solution found when resolving dependencies:",
            "  ╰─▶ Because no-such-thing was not found in the package registry and you",
            "      require no-such-thing, we can conclude that your requirements are",
        ];
        let ended = Ended {
            reason: ExitReason::Code(1),
            tail: tail.map(String::from).to_vec(),
            captured: String::new(),
        };
        assert!(explain(&ended).unwrap().to_string().contains("`no-such-thing`"));
    }
}
