//! Words, quotes and variables of a Dockerfile.

use std::iter::Peekable;
use std::str::Chars;

/// Splits at blanks outside of quotes; quotes and backslashes stay. `None`: a quote has no end.
pub(crate) fn split(text: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (None, c) if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (None | Some('"'), '\\') => {
                word.push(c);
                word.extend(characters.next());
                continue;
            }
            _ => {}
        }
        word.push(c);
    }
    if !word.is_empty() {
        words.push(word);
    }
    (quote.is_none() && !words.is_empty()).then_some(words)
}

/// Removes quotes and puts variables in: `$X`, `${X}`, `${X:-default}`, `${X:+instead}`. Unknown ones are empty.
pub(crate) fn expand(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> String {
    let mut out = String::new();
    let mut quote = None;
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (Some('\''), c) => out.push(c),
            (None, '\\') => out.extend(characters.next()),
            (Some(_), '\\') => match characters.peek() {
                Some('"' | '\\' | '$') => out.extend(characters.next()),
                _ => out.push(c),
            },
            (_, '$') => out += &variable(&mut characters, lookup),
            (_, c) => out.push(c),
        }
    }
    out
}

fn name(characters: &mut Peekable<Chars<'_>>) -> String {
    let mut name = String::new();
    while let Some(c) = characters.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
        name.push(c);
    }
    name
}

/// What stands for the variable after a `$`.
fn variable(characters: &mut Peekable<Chars<'_>>, lookup: &dyn Fn(&str) -> Option<String>) -> String {
    if characters.next_if_eq(&'{').is_none() {
        let name = name(characters);
        return if name.is_empty() { "$".into() } else { lookup(&name).unwrap_or_default() };
    }
    let name = name(characters);
    let (mut depth, mut rest) = (1, String::new());
    for c in characters.by_ref() {
        depth += match c {
            '{' => 1,
            '}' => -1,
            _ => 0,
        };
        if depth == 0 {
            break;
        }
        rest.push(c);
    }
    let value = lookup(&name);
    let filled = value.clone().filter(|value| !value.is_empty());
    if let Some(default) = rest.strip_prefix(":-") {
        filled.unwrap_or_else(|| expand(default, lookup))
    } else if let Some(default) = rest.strip_prefix('-') {
        value.unwrap_or_else(|| expand(default, lookup))
    } else if let Some(instead) = rest.strip_prefix(":+") {
        filled.map(|_| expand(instead, lookup)).unwrap_or_default()
    } else {
        value.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_and_quotes() {
        let lookup = |name: &str| match name {
            "X" => Some("one".to_string()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        for (text, expected) in [
            ("$X/b", "one/b"),
            ("${X}b", "oneb"),
            ("${NO:-d}-${EMPTY:-e}-${EMPTY-f}", "d-e-"),
            ("${X:+yes}${NO:+no}", "yes"),
            ("${NO:-${X}}", "one"),
            ("'$X' \"$X\" \\$X", "$X one $X"),
            ("a$", "a$"),
            ("\"a\\\"b\\n\"", "a\"b\\n"),
        ] {
            assert_eq!(expand(text, &lookup), expected, "{text}");
        }
    }

    #[test]
    fn words() {
        assert_eq!(split("a \"b c\"  d\\ e").unwrap(), ["a", "\"b c\"", "d\\ e"]);
        assert_eq!(split("'a"), None);
    }
}
