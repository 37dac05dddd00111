//! Parts of lists, and the cursors between them.

use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_core::model::{ModelName, Page};
use clunk_store::models::{ListKey, Listed, Seek};

use super::Models;

/// Entries of one part.
pub const MAX_LISTED: u32 = 200;

/// Versions that are told to whoever named one that is not there.
const TOLD_VERSIONS: u32 = 3;

impl Models {
    /// What whoever named a wrong version of a model should know; None when there is no version, or no such model.
    pub async fn newest_versions(&self, name: &ModelName) -> Option<String> {
        let found = self.versions(name, None, TOLD_VERSIONS).await.ok()?.results;
        let ids: Vec<_> = found.iter().map(|version| version.id.to_string()).collect();
        let text = ids.join(", ");
        (!ids.is_empty()).then(|| format!("a version is 64 hex digits; the newest of {name}: {text}"))
    }
}

fn cursor(newer: bool, key: ListKey) -> String {
    format!("{}{:x}.{:x}", if newer { 'n' } else { 'o' }, key.time_ms, key.number)
}

/// Where a client goes on.
pub fn seek(text: Option<&str>) -> Result<Option<Seek>, ErrorBody> {
    let Some(text) = text else { return Ok(None) };
    let read = || {
        let newer = match text.get(..1)? {
            "n" => true,
            "o" => false,
            _ => return None,
        };
        let (time, number) = text[1..].split_once('.')?;
        let read = |text| u64::from_str_radix(text, 16).ok();
        Some(Seek { newer, key: ListKey { time_ms: read(time)?, number: read(number)? } })
    };
    let found = read().ok_or_else(|| {
        ErrorBody::new(ErrorCode::BadRequest, format!("{text:?} is no cursor"))
            .hint("take it from `next` or `previous` of an answer")
    });
    found.map(Some)
}

/// What a client gets of what the store found.
pub fn page<T>(mut found: Listed<T>, seek: Option<&Seek>, limit: u32) -> Page<T> {
    let more = found.len() > limit as usize;
    found.truncate(limit as usize);
    let back = seek.is_some_and(|seek| seek.newer);
    if back {
        found.reverse();
    }
    let (first, last) = (found.first().map(|(key, _)| *key), found.last().map(|(key, _)| *key));
    // Going back, there is always what one came from; going on, the same on the other side.
    let next = last.filter(|_| more || back).map(|key| cursor(false, key));
    let previous = first.filter(|_| if back { more } else { seek.is_some() }).map(|key| cursor(true, key));
    Page { results: found.into_iter().map(|(_, entry)| entry).collect(), next, previous }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(numbers: &[u64]) -> Listed<u64> {
        numbers.iter().map(|number| (ListKey { time_ms: 0, number: *number }, *number)).collect()
    }

    #[test]
    fn parts_lead_to_their_neighbours() {
        let first = page(entries(&[9, 8, 7]), None, 2);
        assert_eq!((first.results.as_slice(), &first.previous), (&[9, 8][..], &None));
        let on = seek(first.next.as_deref()).unwrap().unwrap();
        assert_eq!(on, Seek { newer: false, key: ListKey { time_ms: 0, number: 8 } });
        let second = page(entries(&[7]), Some(&on), 2);
        assert_eq!((second.results.as_slice(), &second.next), (&[7][..], &None));
        let back = seek(second.previous.as_deref()).unwrap().unwrap();
        assert_eq!(back, Seek { newer: true, key: ListKey { time_ms: 0, number: 7 } });
        assert_eq!(page(entries(&[8, 9]), Some(&back), 2), Page { previous: None, ..first });
    }

    #[test]
    fn what_is_no_cursor_is_said() {
        for bad in ["", "x1.2", "n1", "n1.z", "é1.2"] {
            assert_eq!(seek(Some(bad)).unwrap_err().code, ErrorCode::BadRequest, "{bad}");
        }
    }
}
