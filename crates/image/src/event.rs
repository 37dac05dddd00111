//! What a build says while it goes on; the JSON of `docs/api.md`.

use clunk_core::ErrorBody;
use clunk_core::id::ImageId;
use serde::{Deserialize, Serialize};

use crate::{BuildError, BuiltImage};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum BuildEvent {
    /// A step begins, or was found done. `index` counts from 1; the base is the first step.
    Step { index: usize, total: usize, title: String, cached: bool },
    /// One line of output, without its line end.
    Log { text: String },
    /// The build waits for something that goes on already.
    Waiting { title: String },
    /// The last event of a build that worked.
    Done { image: ImageId, python: Option<String>, cached: bool, elapsed_ms: u64 },
    /// The last event of a build that did not.
    Error { error: ErrorBody, tail: Vec<String>, step: Option<usize>, title: Option<String> },
}

impl BuildEvent {
    /// `cached`: no step had to be built.
    pub fn done(image: &BuiltImage, cached: bool, elapsed_ms: u64) -> Self {
        let python = image.python.as_ref().map(|python| {
            let mut parts = python.version.split('.');
            format!("{}.{}", parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
        });
        Self::Done { image: image.id, python, cached, elapsed_ms }
    }

    pub fn error(error: &BuildError) -> Self {
        Self::Error {
            error: error.body(),
            tail: error.tail.clone(),
            step: error.step,
            title: error.title.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ImageError;

    #[test]
    fn events_read_as_the_api_says() {
        let step = BuildEvent::Step { index: 1, total: 4, title: "apt_install git".into(), cached: false };
        let text = r#"{"type":"step","index":1,"total":4,"title":"apt_install git","cached":false}"#;
        assert_eq!(serde_json::to_string(&step).unwrap(), text);
        assert_eq!(serde_json::from_str::<BuildEvent>(text).unwrap(), step);
        let error = BuildError {
            image: ImageId::of(clunk_core::Digest::of("x")),
            step: Some(2),
            title: Some("run_commands false".into()),
            tail: vec!["no".into()],
            partial: None,
            cause: ImageError::Canceled,
        };
        let value = serde_json::to_value(BuildEvent::error(&error)).unwrap();
        assert_eq!(value["error"]["code"], "build-canceled");
        assert_eq!((&value["step"], &value["tail"][0]), (&2.into(), &"no".into()));
    }
}
