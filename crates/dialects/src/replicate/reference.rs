//! How a request names a version.

use clunk_core::Digest;
use clunk_core::model::ModelName;

/// What the `version` of a prediction's body may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// `owner/name`: its latest version.
    Model(ModelName),
    /// 64 hex digits, with or without the model in front.
    Version { model: Option<ModelName>, id: Digest },
}

impl Reference {
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(':') {
            Some((model, id)) => {
                let (model, id) = (Some(model.parse().ok()?), version(id)?);
                Some(Self::Version { model, id })
            }
            None if text.contains('/') => text.parse().ok().map(Self::Model),
            None => version(text).map(|id| Self::Version { model: None, id }),
        }
    }
}

/// A version's id; capitals are taken too.
pub fn version(text: &str) -> Option<Digest> {
    text.to_ascii_lowercase().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_forms() {
        let text = "5C7D5DC6DD8BF75C1ACAA8565735E7986BC5B66206B55CCA93CB72C9BF15CCAA";
        let id: Digest = text.to_lowercase().parse().unwrap();
        let model: ModelName = "acme/hello-world_2.1".parse().unwrap();
        assert_eq!(Reference::parse(text), Some(Reference::Version { model: None, id }));
        assert_eq!(Reference::parse("acme/hello-world_2.1"), Some(Reference::Model(model.clone())));
        let both = format!("acme/hello-world_2.1:{text}");
        assert_eq!(Reference::parse(&both), Some(Reference::Version { model: Some(model), id }));
    }

    #[test]
    fn no_references() {
        for wrong in [
            "", "acme", "acme/", "/x", "a/b/c", "a/b:", "a/b:123", "../etc", "a/-b", "ａ/b", "a b/c",
            "a/b:c:d",
        ] {
            assert_eq!(Reference::parse(wrong), None, "{wrong}");
        }
    }
}
