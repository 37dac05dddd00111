//! Lists in pages: `{next, previous, results}`, with cursors that only this server can read.

use serde_json::{Value, json};

/// Entries of a page.
pub const PAGE_SIZE: usize = 100;
/// Bytes of a cursor's place; a page's are ids and names.
const MAX_PLACE: usize = 512;

/// Where a page begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    pub direction: Direction,
    /// The entry next to the page: the last of the page before it, or the first of the page behind it.
    pub place: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// What comes behind `place`.
    Next,
    /// What comes before it.
    Previous,
}

impl Cursor {
    pub fn encode(&self) -> String {
        let mark = match self.direction {
            Direction::Next => 'n',
            Direction::Previous => 'p',
        };
        let digits = self.place.bytes().map(|byte| format!("{byte:02x}"));
        std::iter::once(mark.to_string()).chain(digits).collect()
    }

    pub fn decode(text: &str) -> Option<Self> {
        let direction = match text.bytes().next()? {
            b'n' => Direction::Next,
            b'p' => Direction::Previous,
            _ => return None,
        };
        let digits = text.as_bytes().get(1..).filter(|digits| digits.len() <= 2 * MAX_PLACE)?;
        if digits.len() % 2 != 0 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let bytes = digits.chunks(2).map(byte).collect::<Option<Vec<_>>>()?;
        Some(Self { direction, place: String::from_utf8(bytes).ok()? })
    }
}

/// One page of a list. `T` has a place of its own in the order of the list.
pub struct Page<T> {
    pub entries: Vec<T>,
    pub next: Option<Cursor>,
    pub previous: Option<Cursor>,
}

impl<T> Page<T> {
    /// Cuts a page out of what was found from `cursor` on: at most one entry more than fits, in the list's order. When the
    /// cursor points back, the entry too many is the first.
    pub fn cut(mut entries: Vec<T>, cursor: Option<&Cursor>, place: impl Fn(&T) -> String) -> Self {
        let back = cursor.is_some_and(|cursor| cursor.direction == Direction::Previous);
        let more = entries.len() > PAGE_SIZE;
        if more && back {
            entries.drain(..entries.len() - PAGE_SIZE);
        }
        entries.truncate(PAGE_SIZE);
        let (behind, before) = if back { (true, more) } else { (more, cursor.is_some()) };
        let at = |direction, entry: Option<&T>| entry.map(|entry| Cursor { direction, place: place(entry) });
        let next = behind.then(|| at(Direction::Next, entries.last())).flatten();
        let previous = before.then(|| at(Direction::Previous, entries.first())).flatten();
        Self { entries, next, previous }
    }

    /// A page of a list that is in memory whole.
    pub fn of(all: Vec<T>, cursor: Option<&Cursor>, place: impl Fn(&T) -> String) -> Self {
        let at = cursor.and_then(|cursor| all.iter().position(|entry| place(entry) == cursor.place));
        let found: Vec<T> = match (cursor.map(|cursor| cursor.direction), at) {
            (Some(Direction::Next), Some(at)) => all.into_iter().skip(at + 1).take(PAGE_SIZE + 1).collect(),
            (Some(Direction::Previous), Some(at)) => {
                all.into_iter().take(at).skip(at.saturating_sub(PAGE_SIZE + 1)).collect()
            }
            // What the cursor stood at is gone: the list begins again rather than lose entries.
            _ => return Self::cut(all, None, place),
        };
        Self::cut(found, cursor, place)
    }

    /// The body. `url` is the list's own address with its filters, absolute and without a cursor.
    pub fn body(&self, url: &str, object: impl Fn(&T) -> Value) -> Value {
        let link = |cursor: &Option<Cursor>| {
            let join = if url.contains('?') { '&' } else { '?' };
            cursor.as_ref().map(|cursor| format!("{url}{join}cursor={}", cursor.encode()))
        };
        let results: Vec<Value> = self.entries.iter().map(object).collect();
        json!({"next": link(&self.next), "previous": link(&self.previous), "results": results})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_and_back() {
        for place in ["", "5c7d", "acme/hello wörld?&"] {
            let cursor = Cursor { direction: Direction::Previous, place: place.into() };
            let text = cursor.encode();
            assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{text}");
            assert_eq!(Cursor::decode(&text), Some(cursor));
        }
        for wrong in ["", "x", "n1", "nzz", "n+1", "nff", "né"] {
            assert_eq!(Cursor::decode(wrong), None, "{wrong}");
        }
    }

    /// Follows `next` to the end, then `previous` to the beginning.
    #[test]
    fn all_entries_once_both_ways() {
        for total in [0, 1, 99, 100, 101, 200, 250] {
            let all: Vec<u32> = (0..total).collect();
            let place = |entry: &u32| entry.to_string();
            let (mut seen, mut cursor) = (vec![], None);
            let mut last;
            loop {
                last = Page::of(all.clone(), cursor.as_ref(), place);
                seen.extend(last.entries.iter().copied());
                assert_eq!(last.previous.is_some(), cursor.is_some());
                cursor = last.next.clone();
                if cursor.is_none() {
                    break;
                }
            }
            assert_eq!(seen, all);
            let mut back = last.entries;
            let mut cursor = last.previous;
            while let Some(at) = cursor {
                let page = Page::of(all.clone(), Some(&at), place);
                assert!(page.next.is_some());
                back.splice(0..0, page.entries);
                cursor = page.previous;
            }
            assert_eq!(back, all);
        }
    }

    #[test]
    fn links_are_absolute_and_keep_the_filters() {
        let page = Page::of((0..150).collect(), None, |entry: &u32| entry.to_string());
        let body =
            page.body("https://clunk.example/replicate/v1/predictions?source=web", |entry| json!(entry));
        let next = body["next"].as_str().unwrap();
        assert!(
            next.starts_with("https://clunk.example/replicate/v1/predictions?source=web&cursor=n"),
            "{next}"
        );
        assert_eq!(body["previous"], Value::Null);
        assert_eq!(body["results"].as_array().unwrap().len(), PAGE_SIZE);
    }
}
