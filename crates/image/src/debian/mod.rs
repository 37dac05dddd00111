//! debian_slim: a small Debian with Python, put together from signed packages without any tool of Debian's.

mod bootstrap;
mod deb;
mod index;
mod release;
mod resolve;
mod sources;
mod version;

pub(crate) use bootstrap::{Bootstrap, RECIPE_VERSION, image_config, setup_env};
pub(crate) use release::Releases;
pub(crate) use sources::Mirror;

use crate::ImageError;

/// One Debian release we can build on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Suite {
    pub name: &'static str,
    pub python: &'static str,
    /// Packages the release needs named, besides [`PACKAGES`].
    extra: &'static [&'static str],
    stable: bool,
}

/// Newest last.
const SUITES: &[Suite] = &[
    Suite { name: "bullseye", python: "3.9", extra: &[], stable: true },
    Suite { name: "bookworm", python: "3.11", extra: &["usr-is-merged"], stable: true },
    Suite { name: "trixie", python: "3.13", extra: &[], stable: true },
    Suite { name: "forky", python: "3.14", extra: &[], stable: false },
];

/// What every base has beside the essential packages.
const PACKAGES: &[&str] =
    &["apt", "ca-certificates", "python3", "python3-pip", "python3-venv", "python-is-python3", "tzdata"];

impl Suite {
    /// The release with this Python; the newest stable one when none is asked for.
    pub fn for_python(wanted: Option<&str>) -> Result<&'static Self, ImageError> {
        let Some(wanted) = wanted else {
            return Ok(SUITES.iter().rfind(|suite| suite.stable).expect("the table has a stable release"));
        };
        let mut parts = wanted.trim().split('.');
        let minor = format!("{}.{}", parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        SUITES
            .iter()
            .find(|suite| suite.python == minor)
            .ok_or_else(|| ImageError::PythonNotAvailable { wanted: wanted.into(), available: pythons() })
    }
}

/// The versions of Python that need no registry, as words.
pub(crate) fn pythons() -> String {
    let all: Vec<_> = SUITES.iter().map(|suite| suite.python).collect();
    let (last, rest) = all.split_last().expect("the table is not empty");
    format!("{} and {last}", rest.join(", "))
}

/// Debian's name of the machine we run on.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_follows_from_the_python() {
        assert_eq!(Suite::for_python(None).unwrap().name, "trixie");
        assert_eq!(Suite::for_python(Some("3.11")).unwrap().name, "bookworm");
        assert_eq!(Suite::for_python(Some("3.11.4")).unwrap().name, "bookworm");
        let error = Suite::for_python(Some("3.12")).unwrap_err();
        assert_eq!(error.code(), clunk_core::ErrorCode::PythonNotAvailable);
        assert!(error.hint().unwrap().contains("3.9, 3.11, 3.13 and 3.14"), "{:?}", error.hint());
    }
}
