//! Just enough of Rust's grammar: what is code, what is comment or text, where functions and test modules begin and end.

/// A source file with comments, strings and characters blanked out; lines and columns stay where they were.
pub fn blank(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes.get(at + 1) == Some(&b'/') => line_end(bytes, at),
            b'/' if bytes.get(at + 1) == Some(&b'*') => comment_end(bytes, at),
            b'r' if !part_of_word(bytes, at) => raw_end(bytes, at),
            b'"' => string_end(bytes, at),
            b'\'' => character_end(bytes, at),
            _ => at,
        };
        code[at..end].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
        at = end.max(at + 1);
    }
    String::from_utf8_lossy(&code).into_owned()
}

fn part_of_word(bytes: &[u8], at: usize) -> bool {
    // `br"…"` is raw text too.
    let before = if at > 0 && bytes[at - 1] == b'b' { at - 1 } else { at };
    before > 0 && is_word(bytes[before - 1])
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |length| at + length)
}

/// Comments nest.
fn comment_end(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0_usize);
    while at < bytes.len() {
        match bytes.get(at..at + 2) {
            Some(b"/*") => (at, depth) = (at + 2, depth + 1),
            Some(b"*/") => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn raw_end(bytes: &[u8], at: usize) -> usize {
    let hashes = bytes[at + 1..].iter().take_while(|byte| **byte == b'#').count();
    let open = at + 1 + hashes;
    if bytes.get(open) != Some(&b'"') {
        return at;
    }
    let mut close = vec![b'"'];
    close.resize(hashes + 1, b'#');
    let found = bytes[open + 1..].windows(close.len()).position(|window| window == close);
    found.map_or(bytes.len(), |length| open + 1 + length + close.len())
}

fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// `'x'` and `'\n'` are characters, `'a` is a lifetime.
fn character_end(bytes: &[u8], at: usize) -> usize {
    if bytes.get(at + 1) == Some(&b'\\') {
        let rest = bytes.get(at + 3..).unwrap_or_default();
        return rest.iter().position(|byte| *byte == b'\'').map_or(at, |length| at + 3 + length + 1);
    }
    let first = bytes.get(at + 1).copied().unwrap_or_default();
    let width = match first {
        0xf0.. => 4,
        0xe0.. => 3,
        0xc0.. => 2,
        _ => 1,
    };
    if bytes.get(at + 1 + width) == Some(&b'\'') { at + width + 2 } else { at }
}

/// A function, or a module for tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    pub name: String,
    /// From 1, both included.
    pub first: usize,
    pub last: usize,
}

impl Block {
    pub fn lines(&self) -> usize {
        self.last - self.first + 1
    }
}

/// Functions with a body; `code` is blanked.
pub fn functions(code: &str) -> Vec<Block> {
    words(code, "fn").filter_map(|at| block(code, at, at + 2)).collect()
}

/// Modules behind `#[cfg(test)]`.
pub fn test_modules(code: &str) -> Vec<Block> {
    let starts = code.match_indices("#[cfg(test)]").map(|(at, text)| at + text.len());
    let modules = starts.filter_map(|at| {
        let rest = code[at..].trim_start();
        let rest = rest.strip_prefix("pub ").unwrap_or(rest);
        rest.starts_with("mod ").then(|| code.len() - rest.len())
    });
    modules.filter_map(|at| block(code, at, at + 3)).collect()
}

/// Where `word` stands by itself.
pub fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let bytes = code.as_bytes();
    let alone = move |at: usize| at.checked_sub(1).is_none_or(|before| !is_word(bytes[before]));
    let ends = move |at: usize| bytes.get(at + word.len()).is_none_or(|byte| !is_word(*byte));
    code.match_indices(word).map(|(at, _)| at).filter(move |at| alone(*at) && ends(*at))
}

pub fn line_of(code: &str, at: usize) -> usize {
    code[..at].bytes().filter(|byte| *byte == b'\n').count() + 1
}

/// The block that starts at `start` with a name at `name`; None when it has no body.
fn block(code: &str, start: usize, name: usize) -> Option<Block> {
    let named: String =
        code[name..].trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let (mut braces, mut others) = (0_usize, 0_isize);
    for (offset, byte) in code[name..].bytes().enumerate() {
        match byte {
            b'(' | b'[' => others += 1,
            b')' | b']' => others -= 1,
            b';' if braces == 0 && others == 0 => return None,
            b'{' => braces += 1,
            b'}' if braces == 1 => {
                let last = line_of(code, name + offset);
                return (!named.is_empty()).then(|| Block { name: named, first: line_of(code, start), last });
            }
            b'}' => braces = braces.checked_sub(1)?,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_comments_are_blank() {
        let source = r##"let a = "fn x() {"; // fn y() {
/* fn /* nested */ z() { */ let b = r#"}"}"#; let c = '{'; let d: &'static str = "\"}"; let e = b'\'';"##;
        let code = blank(source);
        assert_eq!(code.len(), source.len());
        assert!(!code.contains('{') && !code.contains('}') && !code.contains("fn"), "{code}");
        assert!(code.contains("&'static str"));
    }

    #[test]
    fn functions_have_names_and_lengths() {
        let code = blank(
            "trait T {\n    fn none();\n}\nfn one(a: [u8; 2]) -> u8 {\n    if a { 1 } else { 2 }\n}\nfn two() {}\n",
        );
        let found = functions(&code);
        let found: Vec<_> =
            found.iter().map(|block| (block.name.as_str(), block.first, block.lines())).collect();
        assert_eq!(found, [("one", 4, 3), ("two", 7, 1)]);
    }

    #[test]
    fn test_modules_end_where_they_end() {
        let code = blank("fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n");
        assert_eq!(test_modules(&code), [Block { name: "tests".into(), first: 3, last: 5 }]);
    }
}
