//! Takes values out of YAML; whatever does not fit becomes a problem with its place, and reading goes on.

use super::config::Placed;
use super::nearest::nearest;
use super::problem::Problems;
use super::project::{Found, Project};
use super::yaml::{At, Entry, Kind, Node};

/// Longest value that a message repeats.
const SHOWN_CHARS: usize = 80;

pub struct Reader<'a> {
    pub problems: &'a mut Problems,
    pub project: &'a dyn Project,
}

/// The entries of a mapping.
pub struct Table<'a>(&'a [Entry]);

impl<'a> Table<'a> {
    pub fn entry(&self, key: &str) -> Option<&'a Entry> {
        self.0.iter().find(|entry| entry.key == key && !entry.value.is_null())
    }

    /// The value of a key; null is as good as none.
    pub fn get(&self, key: &str) -> Option<&'a Node> {
        self.entry(key).map(|entry| &entry.value)
    }
}

impl<'a> Reader<'a> {
    pub fn new(problems: &'a mut Problems, project: &'a dyn Project) -> Self {
        Self { problems, project }
    }

    pub fn invalid(&mut self, at: At, field: &str, value: &str, message: &str, hint: impl Into<String>) {
        self.problems.error(at, format!("invalid {field} \"{}\": {message}", shown(value)), hint);
    }

    pub fn deprecated(&mut self, at: At, field: &str, instead: &str) {
        let message = format!("deprecated field \"{field}\": use \"{instead}\" instead");
        self.problems.deprecated(at, message, "it still works; nothing has to be changed now");
    }

    fn wrong_type(&mut self, node: &Node, field: &str, want: &str, hint: &str) {
        let got = match &node.kind {
            _ if node.is_null() => "nothing".into(),
            Kind::Scalar { text, .. } => format!("\"{}\"", shown(text)),
            Kind::List(_) => "a list".into(),
            Kind::Map(_) => "a mapping".into(),
        };
        self.problems.error(node.at, format!("schema error in \"{field}\": must be {want}, not {got}"), hint);
    }

    /// A mapping with some of the known keys.
    pub fn table<'n>(&mut self, field: &str, node: &'n Node, known: &[&str]) -> Option<Table<'n>> {
        let Kind::Map(entries) = &node.kind else {
            let hint = format!("write `{}: VALUE`, one in each line", known.first().unwrap_or(&"KEY"));
            self.wrong_type(node, field, "a mapping", &hint);
            return None;
        };
        for entry in entries.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
            let hint = match nearest(&entry.key, known) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("known are: {}", known.join(", ")),
            };
            let within = if field == "cog.yaml" { String::new() } else { format!(" in `{field}`") };
            let message = format!("unknown key `{}`{within}: it changes nothing", shown(&entry.key));
            self.problems.ignored(entry.at, message, hint);
        }
        Some(Table(entries))
    }

    pub fn list<'n>(&mut self, field: &str, node: &'n Node) -> Option<&'n [Node]> {
        match &node.kind {
            Kind::List(items) => Some(items),
            _ => {
                self.wrong_type(node, field, "a list", "write each item in a line of its own, behind `- `");
                None
            }
        }
    }

    /// A text as it was written, numbers too.
    pub fn text(&mut self, field: &str, node: &Node) -> Option<String> {
        match node.text().map(str::trim) {
            Some("") | None => {
                self.wrong_type(node, field, "text", "write a value, in quotes");
                None
            }
            Some(text) => Some(text.to_string()),
        }
    }

    pub fn texts(&mut self, field: &str, node: &Node) -> Vec<Placed> {
        let items = self.list(field, node).unwrap_or_default();
        let read = |item: &Node| Some(Placed { text: self.text(field, item)?, at: item.at });
        items.iter().filter_map(read).collect()
    }

    pub fn truth(&mut self, field: &str, node: &Node) -> Option<bool> {
        let text = node.text().unwrap_or_default().to_ascii_lowercase();
        // What YAML 1.1 calls true and false, which is what Cog reads.
        match (&node.kind, text.as_str()) {
            (Kind::Scalar { plain: true, .. }, "true" | "yes" | "on" | "y") => Some(true),
            (Kind::Scalar { plain: true, .. }, "false" | "no" | "off" | "n") => Some(false),
            _ => {
                self.wrong_type(node, field, "true or false", "write true or false, without quotes");
                None
            }
        }
    }
}

fn shown(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match line.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// Why what was found is not a file.
pub fn found_words(found: Found) -> &'static str {
    match found {
        Found::File => "it is there",
        Found::Folder => "it is a folder, not a file",
        Found::Nothing => "there is no such file",
        Found::Outside => "it lies outside of the project",
    }
}
