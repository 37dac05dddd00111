//! Readmes: Markdown of strangers. Raw HTML is dropped, links lead only to known schemes, and pictures of other hosts
//! become links, so that opening a page tells nobody else.

use maud::{Markup, PreEscaped};
use pulldown_cmark::{CowStr, Event, HeadingLevel, LinkType, Options, Parser, Tag, TagEnd, html};

use super::clip;

/// Bytes that are shown of a readme.
const MAX_BYTES: usize = 512 << 10;

pub fn markdown(text: &str) -> Markup {
    let text = clip(text, MAX_BYTES);
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
    let mut shown = String::with_capacity(text.len() * 2);
    html::push_html(&mut shown, Parser::new_ext(text, options).filter_map(safe));
    PreEscaped(shown)
}

fn safe(event: Event<'_>) -> Option<Event<'_>> {
    match event {
        Event::Html(_) | Event::InlineHtml(_) => None,
        Event::Start(Tag::HtmlBlock) | Event::End(TagEnd::HtmlBlock) => None,
        Event::Start(Tag::Link { link_type, dest_url, title, id }) => {
            let (link_type, dest_url) = address(link_type, dest_url);
            Some(Event::Start(Tag::Link { link_type, dest_url, title, id }))
        }
        // Its text stays.
        Event::Start(Tag::Image { link_type, dest_url, title, id }) => {
            let (link_type, dest_url) = address(link_type, dest_url);
            Some(Event::Start(Tag::Link { link_type, dest_url, title, id }))
        }
        Event::End(TagEnd::Image) => Some(Event::End(TagEnd::Link)),
        Event::Start(Tag::Heading { level, .. }) => Some(Event::Start(Tag::Heading {
            level: below(level),
            id: None,
            classes: Vec::new(),
            attrs: Vec::new(),
        })),
        Event::End(TagEnd::Heading(level)) => Some(Event::End(TagEnd::Heading(below(level)))),
        event => Some(event),
    }
}

fn address<'a>(link_type: LinkType, address: CowStr<'a>) -> (LinkType, CowStr<'a>) {
    match link_type {
        // `<a@b.example>`: the scheme is written with the link.
        LinkType::Email => (LinkType::Email, address),
        link_type if is_safe(&address) => (link_type, address),
        _ => (LinkType::Inline, "#".into()),
    }
}

/// An address of a known scheme, or one within this server. What a browser leaves out of an address must not hide a scheme.
pub fn is_safe(address: &str) -> bool {
    if address.chars().any(|letter| letter.is_control() || letter == '\\') {
        return false;
    }
    match address.split_once(':') {
        Some((scheme, _)) if !scheme.contains(['/', '?', '#']) => {
            ["http", "https", "mailto"].iter().any(|known| scheme.eq_ignore_ascii_case(known))
        }
        _ => !address.starts_with("//"),
    }
}

/// The page has two levels above a readme.
fn below(level: HeadingLevel) -> HeadingLevel {
    match level {
        HeadingLevel::H1 => HeadingLevel::H3,
        HeadingLevel::H2 => HeadingLevel::H4,
        HeadingLevel::H3 => HeadingLevel::H5,
        HeadingLevel::H4 | HeadingLevel::H5 | HeadingLevel::H6 => HeadingLevel::H6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_is_dropped_and_text_stays() {
        for hostile in [
            "<script>alert(1)</script>",
            "a <img src=x onerror=alert(1)> b",
            "<div onclick=alert(1)>\n\n**x**\n\n</div>",
            "<!-- x --><svg/onload=alert(1)>",
            "&lt;script&gt;",
            "`<script>`",
            "# <b onmouseover=x>t</b>",
        ] {
            let shown = markdown(hostile).into_string();
            for bad in ["<script", "<img", "<svg", "<div", "<b ", "onclick=alert", "<!--"] {
                assert!(!shown.contains(bad), "{hostile}: {shown}");
            }
        }
        let shown = markdown("# Title\n\nSome **bold** `code`\n\n| a |\n|---|\n| 1 |\n").into_string();
        assert!(shown.contains("<h3>Title</h3>") && shown.contains("<strong>bold</strong>"), "{shown}");
        assert!(shown.contains("<table>"));
    }

    #[test]
    fn links_lead_to_known_schemes() {
        for (source, wanted) in [
            ("[a](javascript:alert)", "href=\"#\""),
            ("[a](JaVaScript:alert)", "href=\"#\""),
            ("[a](<java\tscript:alert>)", "href=\"#\""),
            ("[a](data:text/html,x)", "href=\"#\""),
            ("[a](//evil.example)", "href=\"#\""),
            ("[a](/\\evil.example)", "href=\"#\""),
            ("<javascript:x>", "href=\"#\""),
            ("[a](https://x.example/?a=b:c)", "href=\"https://x.example/?a=b:c\""),
            ("[a](docs/readme.md)", "href=\"docs/readme.md\""),
            ("[a](#part)", "href=\"#part\""),
            ("<a@x.example>", "href=\"mailto:a@x.example\""),
            ("![alt](https://x.example/a.png)", "<a href=\"https://x.example/a.png\">alt</a>"),
        ] {
            let shown = markdown(source).into_string();
            assert!(shown.contains(wanted), "{source}: {shown}");
        }
    }

    #[test]
    fn a_long_readme_is_cut_between_letters() {
        let long = "é".repeat(MAX_BYTES);
        assert!(
            markdown(&long).into_string().chars().filter(|letter| *letter == 'é').count() <= MAX_BYTES / 2
        );
    }
}
