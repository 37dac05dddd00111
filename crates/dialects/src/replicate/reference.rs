//! How a request names a model or a version.

/// Hex digits of a version's id.
pub const VERSION_DIGITS: usize = 64;
/// Characters of an owner's or a model's name.
pub const MAX_NAME: usize = 100;

/// What the `version` of a prediction's body may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// `owner/name`: its latest version.
    Model(Name),
    /// 64 hex digits, with or without the model in front.
    Version { model: Option<Name>, id: String },
}

/// `owner/name`, of a model or a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    pub owner: String,
    pub name: String,
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

impl Name {
    pub fn parse(text: &str) -> Option<Self> {
        let (owner, name) = text.split_once('/')?;
        (is_name(owner) && is_name(name)).then(|| Self { owner: owner.into(), name: name.into() })
    }
}

impl Reference {
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(':') {
            Some((model, id)) => {
                let (model, id) = (Some(Name::parse(model)?), version(id)?);
                Some(Self::Version { model, id })
            }
            None if text.contains('/') => Name::parse(text).map(Self::Model),
            None => version(text).map(|id| Self::Version { model: None, id }),
        }
    }
}

/// A version's id, in small letters.
pub fn version(text: &str) -> Option<String> {
    let fits = text.len() == VERSION_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    fits.then(|| text.to_ascii_lowercase())
}

/// Whether this can name an owner or a model: letters, digits, `-`, `_` and `.`, not at its start the last three.
pub fn is_name(text: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    text.len() <= MAX_NAME
        && text.bytes().all(known)
        && text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_forms() {
        let id = "5C7D5DC6DD8BF75C1ACAA8565735E7986BC5B66206B55CCA93CB72C9BF15CCAA";
        let lower = id.to_lowercase();
        let model = Name { owner: "acme".into(), name: "hello-world_2.1".into() };
        assert_eq!(Reference::parse(id), Some(Reference::Version { model: None, id: lower.clone() }));
        assert_eq!(Reference::parse("acme/hello-world_2.1"), Some(Reference::Model(model.clone())));
        let text = format!("acme/hello-world_2.1:{id}");
        assert_eq!(Reference::parse(&text), Some(Reference::Version { model: Some(model), id: lower }));
    }

    #[test]
    fn no_references() {
        for wrong in [
            "", "acme", "acme/", "/x", "a/b/c", "a/b:", "a/b:123", "../etc", "a/-b", "ａ/b", "a b/c",
            "a/b:c:d",
        ] {
            assert_eq!(Reference::parse(wrong), None, "{wrong}");
        }
        assert!(!is_name(&"x".repeat(MAX_NAME + 1)));
    }
}
