//! A prediction as server-sent events, in the form that the official clients' readers take.

/// How the reader splits lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lines {
    /// As the standard says: at line feeds and carriage returns.
    Standard,
    /// As Python's `str.splitlines` does, which httpx uses: at form feeds, `U+2028` and others too. A piece behind one of
    /// those would be lost, so the text is split there.
    Python,
}

impl Lines {
    pub fn of_client(user_agent: &str) -> Self {
        if user_agent.to_ascii_lowercase().contains("python") { Self::Python } else { Self::Standard }
    }

    fn ends(self, character: char) -> bool {
        let by_python = ['\u{b}', '\u{c}', '\u{1c}', '\u{1d}', '\u{1e}', '\u{85}', '\u{2028}', '\u{2029}'];
        matches!(character, '\n' | '\r') || (self == Self::Python && by_python.contains(&character))
    }
}

/// One event. Every event has an id: readers drop those without.
pub fn event(name: &str, at_ms: u64, sequence: u64, data: &str, lines: Lines) -> String {
    let mut text = format!("event: {name}\nid: {at_ms}:{sequence}\n");
    // A carriage return and the line feed behind it are one end.
    for line in data.replace("\r\n", "\n").split(|character| lines.ends(character)) {
        text.push_str("data: ");
        text.push_str(line);
        text.push('\n');
    }
    text.push('\n');
    text
}

/// What keeps a silent stream open: proxies and clients give up after 30 to 60 seconds.
pub const KEEP_ALIVE: &str = ": still there\n\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_several_lines() {
        let text = event("output", 1_690_212_292_000, 3, "a\nb\r\nc\r", Lines::Standard);
        assert_eq!(text, "event: output\nid: 1690212292000:3\ndata: a\ndata: b\ndata: c\ndata: \n\n");
        assert_eq!(event("done", 1, 2, "{}", Lines::Standard), "event: done\nid: 1:2\ndata: {}\n\n");
        assert_eq!(event("output", 1, 2, "", Lines::Standard), "event: output\nid: 1:2\ndata: \n\n");
    }

    #[test]
    fn nothing_is_lost_where_python_splits() {
        assert_eq!(Lines::of_client("replicate-python/1.0.7"), Lines::Python);
        assert_eq!(Lines::of_client("node"), Lines::Standard);
        let data = "a\u{2028}b\u{c}c";
        assert_eq!(
            event("output", 1, 2, data, Lines::Python),
            "event: output\nid: 1:2\ndata: a\ndata: b\ndata: c\n\n"
        );
        let standard = event("output", 1, 2, data, Lines::Standard);
        assert_eq!(standard, format!("event: output\nid: 1:2\ndata: {data}\n\n"));
    }

    #[test]
    fn an_event_cannot_be_smuggled_into_its_data() {
        let text = event("output", 1, 2, "x\n\nevent: done\ndata: {}\n\n", Lines::Standard);
        assert_eq!(text.matches("\nevent:").count(), 0);
        assert_eq!(text.matches("\n\n").count(), 1);
    }
}
