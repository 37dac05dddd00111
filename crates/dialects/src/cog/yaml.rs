//! YAML as a tree that knows where each word stood, and each scalar as it was written: `3.10` stays `3.10`.

use std::borrow::Cow;
use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag};

/// A model's settings have four levels.
const MAX_DEPTH: usize = 32;

/// Nodes of one file, those that aliases repeat counted again.
const MAX_NODES: usize = 50_000;

/// Mistakes that do not keep the rest from being read.
const MAX_FAULTS: usize = 20;

/// A place in a file; both numbers from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    pub line: usize,
    pub column: usize,
}

impl At {
    pub const START: Self = Self { line: 1, column: 1 };

    pub fn line(line: usize) -> Self {
        Self { line, column: 1 }
    }
}

#[derive(Debug, Clone)]
pub struct Node {
    pub kind: Kind,
    pub at: At,
}

#[derive(Debug, Clone)]
pub enum Kind {
    /// `plain`: without quotes, so that it may mean a number, a truth value or nothing.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Debug, Clone)]
pub struct Entry {
    pub key: String,
    pub at: At,
    pub value: Node,
}

/// A mistake in the YAML itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub at: At,
    pub message: String,
    pub hint: String,
}

impl Node {
    pub fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The text of a scalar that is not null, as it was written.
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { text, .. } if !self.is_null() => Some(text),
            _ => None,
        }
    }

    fn children(&self) -> Box<dyn Iterator<Item = &Node> + '_> {
        match &self.kind {
            Kind::Scalar { .. } => Box::new(std::iter::empty()),
            Kind::List(items) => Box::new(items.iter()),
            Kind::Map(entries) => Box::new(entries.iter().map(|entry| &entry.value)),
        }
    }

    fn size(&self) -> Size {
        self.children().map(Node::size).fold(Size { nodes: 1, depth: 0 }, |sum, child| Size {
            nodes: sum.nodes + child.nodes,
            depth: sum.depth.max(child.depth + 1),
        })
    }
}

/// Reads the first document. None: there is nothing in it.
pub fn parse(text: &str) -> (Option<Node>, Vec<Fault>) {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let done = match event {
            Ok((event, span)) => builder.take(event, span),
            Err(error) => Err(scan_fault(&error, text)),
        };
        if let Err(fault) = done {
            builder.faults.push(fault);
            return (None, builder.faults);
        }
        if builder.documents > 1 {
            break;
        }
    }
    (builder.root, builder.faults)
}

fn place(span: Span) -> At {
    At { line: span.start.line().max(1), column: span.start.col() + 1 }
}

fn scan_fault(error: &ScanError, text: &str) -> Fault {
    let at = At { line: error.marker().line().max(1), column: error.marker().col() + 1 };
    let indent = |line: &str| line.chars().take_while(|c| c.is_whitespace()).any(|c| c == '\t');
    let near = at.line.saturating_sub(2);
    let tab = text.lines().enumerate().skip(near).take(2).find(|(_, line)| indent(line));
    if let Some((row, line)) = tab {
        let column = line.chars().position(|c| c == '\t').unwrap_or(0) + 1;
        return Fault {
            at: At { line: row + 1, column },
            message: "a tab at the start of a line: YAML is indented with blanks only".into(),
            hint: "replace each tab by two blanks".into(),
        };
    }
    Fault {
        at,
        message: format!("not valid YAML: {}", error.info()),
        hint: "look at the indentation, and at quotes and brackets that are not closed, there and just above"
            .into(),
    }
}

#[derive(Debug, Clone, Copy)]
struct Size {
    nodes: usize,
    depth: usize,
}

#[derive(Default)]
struct Builder {
    root: Option<Node>,
    open: Vec<Open>,
    anchors: HashMap<usize, (Node, Size)>,
    nodes: usize,
    documents: usize,
    faults: Vec<Fault>,
}

/// A list or mapping whose end has not come.
struct Open {
    at: At,
    anchor: usize,
    items: Items,
}

enum Items {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, key: Option<(String, At)> },
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Fault> {
        let at = place(span);
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    let message = "a second document starts here; only the first one counts".to_string();
                    self.fault(Fault { at, message, hint: "remove the line `---`".into() });
                }
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && !is_text(tag.as_ref());
                self.node(Node { kind: Kind::Scalar { text: text.into_owned(), plain }, at }, anchor)
            }
            Event::Alias(anchor) => {
                let Some((node, size)) = self.anchors.get(&anchor) else {
                    return Err(fault(at, "an alias of something that is not complete yet", ""));
                };
                let (node, size) = (Node { kind: node.kind.clone(), at }, *size);
                if self.open.len() + size.depth > MAX_DEPTH {
                    return Err(too_deep(at));
                }
                self.nodes += size.nodes;
                self.node(node, 0)
            }
            Event::SequenceStart(anchor, _) => self.begin(at, anchor, Items::List(Vec::new())),
            Event::MappingStart(anchor, _) => {
                self.begin(at, anchor, Items::Map { entries: Vec::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
        }
    }

    fn begin(&mut self, at: At, anchor: usize, items: Items) -> Result<(), Fault> {
        if let Some(Open { items: Items::Map { key: None, .. }, .. }) = self.open.last() {
            return Err(fault(
                at,
                "a key must be a word, not a list or a mapping",
                "put the key into quotes",
            ));
        }
        if self.open.len() == MAX_DEPTH {
            return Err(too_deep(at));
        }
        self.open.push(Open { at, anchor, items });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Fault> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let kind = match open.items {
            Items::List(items) => Kind::List(items),
            Items::Map { entries, .. } => Kind::Map(self.merged(entries)),
        };
        self.node(Node { kind, at: open.at }, open.anchor)
    }

    fn node(&mut self, node: Node, anchor: usize) -> Result<(), Fault> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(fault(
                node.at,
                format!("more than {MAX_NODES} values"),
                "write fewer, or shorter, lists",
            ));
        }
        if anchor > 0 {
            let size = node.size();
            self.anchors.insert(anchor, (node.clone(), size));
        }
        let Some(open) = self.open.last_mut() else {
            self.root.get_or_insert(node);
            return Ok(());
        };
        match &mut open.items {
            Items::List(items) => items.push(node),
            Items::Map { entries, key } => match key.take() {
                Some((key, at)) => entries.push(Entry { key, at, value: node }),
                None => match node.kind {
                    Kind::Scalar { text, .. } => *key = Some((text, node.at)),
                    _ => return Err(fault(node.at, "a key must be a word", "put the key into quotes")),
                },
            },
        }
        Ok(())
    }

    /// Entries with each key once and with what `<<` brings in.
    fn merged(&mut self, entries: Vec<Entry>) -> Vec<Entry> {
        let mut kept: Vec<Entry> = Vec::new();
        let mut seen: HashMap<String, At> = HashMap::new();
        let (merges, own): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| entry.key == "<<");
        for entry in own {
            match seen.get(&entry.key) {
                Some(first) => {
                    let message =
                        format!("the key `{}` is there twice, first in line {}", entry.key, first.line);
                    self.fault(Fault { at: entry.at, message, hint: "remove one of them".into() });
                }
                None => {
                    seen.insert(entry.key.clone(), entry.at);
                    kept.push(entry);
                }
            }
        }
        for merge in merges {
            let sources = match merge.value.kind {
                Kind::List(items) => items,
                _ => vec![merge.value],
            };
            for source in sources {
                let Kind::Map(entries) = source.kind else {
                    self.fault(fault(
                        source.at,
                        "`<<` takes in mappings only",
                        "name the anchor of a mapping",
                    ));
                    continue;
                };
                for entry in entries {
                    if seen.insert(entry.key.clone(), entry.at).is_none() {
                        kept.push(entry);
                    }
                }
            }
        }
        kept
    }

    fn fault(&mut self, fault: Fault) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(fault);
        }
    }
}

fn is_text(tag: Option<&Cow<'_, Tag>>) -> bool {
    tag.is_some_and(|tag| tag.is_yaml_core_schema() && tag.suffix == "str")
}

fn too_deep(at: At) -> Fault {
    fault(at, format!("nested more than {MAX_DEPTH} levels deep"), "no setting of a model is")
}

fn fault(at: At, message: impl Into<String>, hint: &str) -> Fault {
    Fault { at, message: message.into(), hint: hint.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(text: &str) -> Vec<Entry> {
        let (node, faults) = parse(text);
        assert_eq!(faults, []);
        match node.unwrap().kind {
            Kind::Map(entries) => entries,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn scalars_keep_their_text_and_place() {
        let entries = map("a: 3.10\nb:\n  - \"~\"\n  - ~\n");
        assert_eq!(entries[0].value.text(), Some("3.10"));
        assert_eq!((entries[0].at, entries[0].value.at), (At::START, At { line: 1, column: 4 }));
        let Kind::List(items) = &entries[1].value.kind else { panic!() };
        assert_eq!(items[0].text(), Some("~"));
        assert_eq!(items[0].at, At { line: 3, column: 5 });
        assert!(items[1].is_null());
    }

    #[test]
    fn anchors_and_merges_are_followed() {
        let entries = map("base: &b {x: 1, y: 2}\nnext:\n  <<: *b\n  y: 3\n");
        let Kind::Map(next) = &entries[1].value.kind else { panic!() };
        let pairs: Vec<_> =
            next.iter().map(|entry| (entry.key.as_str(), entry.value.text().unwrap())).collect();
        assert_eq!(pairs, [("y", "3"), ("x", "1")]);
    }

    #[test]
    fn mistakes_have_a_place() {
        let cases = [
            ("a: 1\na: 2\n", At { line: 2, column: 1 }, "twice"),
            ("a:\n\tb: 1\n", At { line: 2, column: 1 }, "tab"),
            ("a: [1, 2\nb: 3\n", At { line: 2, column: 2 }, "not valid YAML"),
            ("a: 1\n---\nb: 2\n", At { line: 2, column: 1 }, "second document"),
            ("[a]: 1\n", At { line: 1, column: 1 }, "key must be a word"),
        ];
        for (text, at, words) in cases {
            let faults = parse(text).1;
            let fault = faults.first().unwrap_or_else(|| panic!("no fault in {text:?}"));
            assert!(fault.message.contains(words), "{text:?}: {fault:?}");
            assert_eq!(fault.at, at, "{text:?}: {fault:?}");
        }
    }

    #[test]
    fn what_grows_without_end_is_refused() {
        let deep = |levels: usize| parse(&("[".repeat(levels) + &"]".repeat(levels))).1;
        assert_eq!(deep(MAX_DEPTH), []);
        assert!(deep(MAX_DEPTH + 1)[0].message.contains("levels deep"));
        assert!(!deep(100_000).is_empty());
        let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_string();
        for level in 1..9 {
            let one = format!("*a{}", level - 1);
            laughs.push_str(&format!("a{level}: &a{level} [{}]\n", vec![one; 10].join(", ")));
        }
        assert!(parse(&laughs).1[0].message.contains("values"));
        let mut tower = "a0: &a0 [x]\n".to_string();
        for level in 1..1000 {
            tower.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
        }
        assert!(parse(&tower).1[0].message.contains("levels deep"));
    }

    #[test]
    fn nothing_is_nothing() {
        for text in ["", "\n\n", "# only words\n", "---\n"] {
            let (node, faults) = parse(text);
            assert!(node.is_none_or(|node| node.is_null()), "{text:?}");
            assert_eq!(faults, []);
        }
    }
}
