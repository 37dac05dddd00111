//! Lists in pages: `{next, previous, results}`, with links that are whole addresses.

use clunk_core::model::Page;
use serde_json::{Value, json};

/// Entries of a page.
pub const PAGE_SIZE: u32 = 100;

/// The body. `url` is the list's own address with its filters, absolute and without a cursor; cursors go into it as they
/// are, being letters and digits only.
pub fn body(url: &str, next: Option<&str>, previous: Option<&str>, results: Vec<Value>) -> Value {
    let join = if url.contains('?') { '&' } else { '?' };
    let link = |cursor: Option<&str>| cursor.map(|cursor| format!("{url}{join}cursor={}", escape(cursor)));
    json!({"next": link(next), "previous": link(previous), "results": results})
}

/// A page of the core, each entry made an object.
pub fn of<T>(url: &str, page: &Page<T>, object: impl Fn(&T) -> Value) -> Value {
    body(url, page.next.as_deref(), page.previous.as_deref(), page.results.iter().map(object).collect())
}

/// A value of a query.
pub fn escape(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(byte);
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match plain(&byte) {
            true => escaped.push(byte.into()),
            false => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_absolute_and_keep_the_filters() {
        let page = Page { results: vec![1, 2], next: Some("b=/2".into()), previous: None };
        let url = "https://clunk.example/replicate/v1/predictions";
        assert_eq!(
            of(url, &page, |number| json!(number)),
            json!({"next": format!("{url}?cursor=b%3D%2F2"), "previous": null, "results": [1, 2]})
        );
        let body = body(&format!("{url}?source=web"), None, Some("a"), vec![]);
        assert_eq!(body["previous"], format!("{url}?source=web&cursor=a"));
    }
}
