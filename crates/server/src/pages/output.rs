//! What a model gave or was given, shown as what it is: pictures, sound, films, text, JSON.

use maud::{Markup, html};
use serde_json::{Map, Value};

use super::clip;
use super::form::order;
use super::markdown::is_safe;

/// Bytes of one text that are shown.
const MAX_TEXT: usize = 200_000;
/// Parts of one list, members of one object.
const MAX_PARTS: usize = 200;
/// Bytes of an address that is carried in the page itself.
const MAX_DATA_URL: usize = 4 << 20;
/// Objects within objects that are taken apart; deeper ones are JSON.
const MAX_DEPTH: usize = 2;

/// How the schema of the output says it is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Display {
    /// Parts of one text.
    Text,
    /// Parts that come one after the other.
    Parts,
    Whole,
}

impl Display {
    pub fn of(output: Option<&Value>) -> Self {
        let word = |key: &str| output.and_then(|schema| schema.get(key)?.as_str());
        if word("x-cog-array-display") == Some("concatenate") {
            Self::Text
        } else if word("x-cog-array-type") == Some("iterator") {
            Self::Parts
        } else {
            Self::Whole
        }
    }
}

/// A file within a value, by the place of its address.
pub struct Medium<'a> {
    pub pointer: &'a str,
    pub name: &'a str,
    pub media_type: &'a str,
}

pub struct Shown<'a> {
    pub value: &'a Value,
    pub media: &'a [Medium<'a>],
    pub display: Display,
}

impl Shown<'_> {
    pub fn markup(&self) -> Markup {
        match (self.display, self.value) {
            (Display::Text, Value::Array(parts)) => {
                let whole: String = parts.iter().filter_map(Value::as_str).collect();
                text(&whole)
            }
            (Display::Parts, Value::Array(parts)) => self.list(parts, "", 0),
            _ => self.part(self.value, "", 0),
        }
    }

    fn part(&self, value: &Value, pointer: &str, depth: usize) -> Markup {
        match value {
            Value::String(address) => match self.medium(pointer, address) {
                Some((name, media_type)) => medium(address, &name, &media_type),
                None if is_web(address) => link(address),
                None => text(address),
            },
            Value::Array(items) if depth <= MAX_DEPTH && self.worth_a_list(items, pointer) => {
                self.list(items, pointer, depth)
            }
            Value::Object(members) if depth < MAX_DEPTH && self.worth_a_table(members, pointer) => {
                self.table(members, pointer, depth)
            }
            Value::Null => html! { p.nothing { "nothing" } },
            Value::Number(_) | Value::Bool(_) => html! { p.scalar { (value.to_string()) } },
            value => json(value),
        }
    }

    /// The name and type of the file at this place.
    fn medium(&self, pointer: &str, address: &str) -> Option<(String, String)> {
        if let Some(found) = self.media.iter().find(|medium| medium.pointer == pointer) {
            return Some((found.name.into(), found.media_type.into()));
        }
        let (media_type, _) = address.strip_prefix("data:")?.split_once([';', ','])?;
        let known = media_type.contains('/') && address.len() <= MAX_DATA_URL;
        known.then(|| ("file".to_owned(), media_type.to_owned()))
    }

    fn holds_media(&self, pointer: &str) -> bool {
        self.media.iter().any(|medium| medium.pointer.starts_with(&format!("{pointer}/")))
    }

    /// Numbers are better read as JSON.
    fn worth_a_list(&self, items: &[Value], pointer: &str) -> bool {
        !items.is_empty() && (self.holds_media(pointer) || items.iter().all(Value::is_string))
    }

    fn worth_a_table(&self, members: &Map<String, Value>, pointer: &str) -> bool {
        let texts = members.values().any(|value| value.as_str().is_some_and(|text| text.len() > 60));
        self.holds_media(pointer) || texts
    }

    fn list(&self, items: &[Value], pointer: &str, depth: usize) -> Markup {
        let gallery = self.holds_media(pointer);
        html! {
            ol.parts.gallery[gallery] {
                @for (place, item) in items.iter().enumerate().take(MAX_PARTS) {
                    li { (self.part(item, &format!("{pointer}/{place}"), depth + 1)) }
                }
            }
            (rest(items.len()))
        }
    }

    fn table(&self, members: &Map<String, Value>, pointer: &str, depth: usize) -> Markup {
        html! {
            dl.members {
                @for (name, value) in members.iter().take(MAX_PARTS) {
                    @let place = format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"));
                    dt { (name) }
                    dd { (self.part(value, &place, depth + 1)) }
                }
            }
            (rest(members.len()))
        }
    }
}

fn rest(count: usize) -> Markup {
    html! { @if count > MAX_PARTS { p.cut { "and " (count - MAX_PARTS) " more: see the JSON" } } }
}

fn is_web(text: &str) -> bool {
    let address = text.starts_with("http://") || text.starts_with("https://");
    address && is_safe(text) && !text.contains(char::is_whitespace)
}

fn link(address: &str) -> Markup {
    html! { p { a href=(address) rel="noreferrer" { (address) } } }
}

fn text(text: &str) -> Markup {
    let shown = clip(text, MAX_TEXT);
    html! {
        div.text { (shown) }
        @if shown.len() < text.len() { p.cut { "cut here: see the JSON for the rest" } }
    }
}

fn json(value: &Value) -> Markup {
    let text = format!("{value:#}");
    let shown = clip(&text, MAX_TEXT);
    html! {
        pre.json tabindex="0" { (shown) }
        @if shown.len() < text.len() { p.cut { "cut here: see the JSON for the rest" } }
    }
}

fn medium(address: &str, name: &str, media_type: &str) -> Markup {
    let kind = media_type.split('/').next().unwrap_or_default();
    html! {
        figure.medium {
            @match kind {
                "image" => img src=(address) alt=(name);,
                "audio" => audio controls preload="metadata" src=(address) aria-label=(name) {},
                "video" => video controls preload="metadata" playsinline src=(address) aria-label=(name) {},
                _ => {},
            }
            figcaption {
                a href=(address) download=(name) { (name) }
                span.type { (media_type.split(';').next().unwrap_or_default()) }
            }
        }
    }
}

/// The type that a file of this server has by its name; None for what is nowhere here.
fn own_file<'a>(address: &'a str, base_url: &str) -> Option<(&'a str, &'a str, &'static str)> {
    let place = address.strip_prefix(base_url).filter(|place| place.starts_with("/files/"))?;
    let name = place.split('?').next()?.rsplit('/').next()?;
    let kind = match name.rsplit('.').next()?.to_ascii_lowercase().as_str() {
        "png" | "jpg" | "jpeg" | "gif" | "webp" | "avif" | "bmp" | "svg" => "image",
        "wav" | "mp3" | "ogg" | "flac" | "m4a" => "audio",
        "mp4" | "webm" | "mov" => "video",
        _ => "file",
    };
    Some((place, name, kind))
}

/// What a prediction was asked.
pub fn input(input: &Value, properties: Option<&Value>, base_url: &str) -> Markup {
    let Some(members) = input.as_object() else { return json(input) };
    let schema = |name: &str| properties.and_then(|properties| properties.get(name));
    // As the form has them.
    let mut ordered: Vec<_> = members.iter().collect();
    ordered.sort_by_key(|(name, _)| schema(name).map_or(u64::MAX, order));
    html! {
        @if members.is_empty() { p.nothing { "nothing: all defaults" } }
        @else {
            dl.members {
                @for (name, value) in ordered.into_iter().take(MAX_PARTS) {
                    dt { (name) }
                    dd {
                        @if let Some((place, name, kind)) = value.as_str().and_then(|text| own_file(text, base_url)) {
                            (medium(place, name, kind))
                        }
                        @else { (Shown { value, media: &[], display: Display::Whole }.markup()) }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(value: Value, media: &[Medium<'_>]) -> String {
        Shown { value: &value, media, display: Display::Whole }.markup().into_string()
    }

    #[test]
    fn each_value_is_shown_as_what_it_is() {
        let file = |media_type| [Medium { pointer: "", name: "a.bin", media_type }];
        for (media_type, wanted) in [
            ("image/svg+xml", "<img src=\"/files/1\" alt=\"a.bin\">"),
            ("audio/wav", "<audio controls"),
            ("video/mp4", "<video controls"),
            ("text/html", "<a href=\"/files/1\" download=\"a.bin\">"),
        ] {
            let shown = shown(json!("/files/1"), &file(media_type));
            assert!(shown.contains(wanted), "{shown}");
        }
        for (value, wanted) in [
            (json!("a\n<b>"), "<div class=\"text\">a\n&lt;b&gt;</div>"),
            (json!(5), "<p class=\"scalar\">5</p>"),
            (json!(null), "nothing"),
            (json!({"a": 1}), "<pre class=\"json\""),
            (json!([0.5, 1]), "<pre class=\"json\""),
            (json!(["a", "b"]), "<li><div class=\"text\">a</div></li>"),
            (json!("data:image/png;base64,AA=="), "<img src=\"data:image/png;base64,AA==\""),
            (json!("https://x.example/a"), "<a href=\"https://x.example/a\""),
            (json!("javascript:alert(1)"), "<div class=\"text\">javascript"),
        ] {
            let shown = shown(value.clone(), &[]);
            assert!(shown.contains(wanted), "{value}: {shown}");
        }
    }

    #[test]
    fn files_are_found_within_objects_and_lists() {
        let media = [
            Medium { pointer: "/pictures/0", name: "one.png", media_type: "image/png" },
            Medium { pointer: "/a~1b", name: "b.wav", media_type: "audio/wav" },
        ];
        let shown = shown(json!({"a/b": "/files/2", "pictures": ["/files/1"], "seed": 5}), &media);
        assert!(shown.contains("alt=\"one.png\"") && shown.contains("<audio"), "{shown}");
    }

    #[test]
    fn parts_of_a_text_are_one_text() {
        let value = json!(["Hel", "lo"]);
        let display =
            Display::of(Some(&json!({"x-cog-array-type": "iterator", "x-cog-array-display": "concatenate"})));
        let shown = Shown { value: &value, media: &[], display }.markup().into_string();
        assert_eq!(shown, "<div class=\"text\">Hello</div>");
        assert_eq!(Display::of(Some(&json!({"x-cog-array-type": "iterator"}))), Display::Parts);
    }

    #[test]
    fn much_is_cut() {
        let shown = shown(json!(vec!["x"; 500]), &[]);
        assert_eq!(shown.matches("<li>").count(), MAX_PARTS);
        assert!(shown.contains("and 300 more"));
    }

    #[test]
    fn a_file_that_was_sent_is_shown() {
        let asked = json!({"a": "http://h:1/files/file-1/cat.PNG?expiry=1", "b": "http://evil.example/files/x/cat.png"});
        let shown = input(&asked, None, "http://h:1").into_string();
        assert!(shown.contains("<img src=\"/files/file-1/cat.PNG?expiry=1\" alt=\"cat.PNG\">"), "{shown}");
        assert!(shown.contains("<a href=\"http://evil.example/files/x/cat.png\""), "{shown}");
    }
}
