//! Requirements files as one text that needs no other file: includes are put in their place, and what lies in the
//! project is named by its path in the image.

use std::collections::BTreeSet;

use super::problem::Problems;
use super::project::{Found, MAX_TEXT_BYTES, Project, Unreadable, beside};
use super::read::found_words;
use super::yaml::At;

/// Includes of includes.
const MAX_DEPTH: usize = 10;

/// Includes of one model: a file may be included more than once, and each time is read.
const MAX_INCLUDED: usize = 1000;

/// All requirements of a model together.
const MAX_TOTAL_BYTES: usize = MAX_TEXT_BYTES as usize;

/// Packages that come in a file.
const ARCHIVES: &[&str] = &[".whl", ".zip", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"];

/// Packages whose module the runner brings itself.
const OURS: &[&str] = &["cog", "coglet"];

#[derive(Debug, Default, PartialEq)]
pub struct Requirements {
    /// For `uv pip install --requirements`.
    pub text: String,
    /// For `--constraints`.
    pub constraints: String,
    /// Paths of files of the project that the text names below `/src`.
    pub files: BTreeSet<String>,
    /// Whether a package comes out of a git repository.
    pub git: bool,
    /// Whether there is an index besides the usual one.
    pub indexes: bool,
    /// Whether releases that are not final may be taken.
    pub pre: bool,
}

pub struct Flattener<'a> {
    project: &'a dyn Project,
    problems: &'a mut Problems,
    /// The files that are open, the innermost last.
    open: Vec<String>,
    /// Files that were included.
    included: usize,
    out: Requirements,
}

/// Where a line is put.
#[derive(Clone, Copy, PartialEq)]
enum Sink {
    Requirements,
    Constraints,
}

impl<'a> Flattener<'a> {
    pub fn new(project: &'a dyn Project, problems: &'a mut Problems) -> Self {
        Self { project, problems, open: Vec::new(), included: 0, out: Requirements::default() }
    }

    pub fn finish(self) -> Requirements {
        self.out
    }

    /// Takes in the file at a path; `at` is where it was named.
    pub fn file(&mut self, path: &str, at: At) {
        self.include(path, at, Sink::Requirements);
    }

    /// Takes in one line that stood elsewhere.
    pub fn entry(&mut self, line: &str, at: At) {
        self.line(line.trim(), at, Sink::Requirements);
    }

    fn include(&mut self, path: &str, at: At, into: Sink) {
        if self.open.iter().any(|open| open == path) || self.open.len() == MAX_DEPTH {
            let message = format!("{path} includes itself, or more than {MAX_DEPTH} files are included");
            self.problems.error(at, message, "remove the include");
            return;
        }
        if self.included == MAX_INCLUDED {
            let message = format!("{path} is one file more than the {MAX_INCLUDED} that may be included");
            self.problems.error(at, message, "list packages in fewer files");
            return;
        }
        self.included += 1;
        let text = match self.project.read(path) {
            Ok(text) => text,
            Err(why) => return self.unreadable(path, at, why),
        };
        let outer = self.problems.file().to_string();
        self.problems.about(path);
        self.open.push(path.into());
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        for (line, number) in logical_lines(text) {
            self.line(&line, At::line(number), into);
        }
        self.open.pop();
        self.problems.about(&outer);
    }

    fn unreadable(&mut self, path: &str, at: At, why: Unreadable) {
        let (message, hint) = match why {
            Unreadable::Missing(found) => {
                (format!("could not read {path}: {}", found_words(found)), "correct the path")
            }
            Unreadable::TooLarge => {
                (format!("{path} is larger than {MAX_TEXT_BYTES} bytes"), "it must be a list of packages")
            }
            Unreadable::NotText { line } => {
                (format!("{path} is not UTF-8 text, from line {line}"), "save it as UTF-8")
            }
            Unreadable::Failed(why) => (format!("could not read {path}: {why}"), "see to its permissions"),
        };
        self.problems.error(at, message, hint);
    }

    fn line(&mut self, line: &str, at: At, into: Sink) {
        let line = without_comment(line);
        if line.is_empty() {
            return;
        }
        if self.out.text.len() + self.out.constraints.len() + line.len() > MAX_TOTAL_BYTES {
            self.problems.error(
                at,
                format!("more than {MAX_TOTAL_BYTES} bytes of requirements"),
                "list fewer",
            );
            return;
        }
        if let Some(path) = option(line, "-r", "--requirement") {
            return self.named(path, at, into, line);
        }
        if let Some(path) = option(line, "-c", "--constraint") {
            return self.named(path, at, Sink::Constraints, line);
        }
        if let Some(target) = option(line, "-e", "--editable") {
            return self.editable(target, at, into);
        }
        if let Some(place) = option(line, "-f", "--find-links").filter(|place| !place.contains("://")) {
            let message = format!("`{line}`: {place} is not there when packages are installed");
            return self.problems.error(at, message, "name each wheel of the project in a line of its own");
        }
        if line.starts_with('-') {
            match line {
                "--pre" => self.out.pre = true,
                _ => self.push(line, into),
            }
            self.out.indexes |=
                ["--extra-index-url", "--index-url", "-i "].iter().any(|o| line.starts_with(o));
            return;
        }
        if let Some(path) = local_path(line) {
            return self.local(line, path, at, into);
        }
        let name = name(line);
        if OURS.contains(&name.as_str()) {
            let message = format!("the package `{name}` is not installed: Clunk brings its own `cog` module");
            self.problems.ignored(at, message, "remove the line, if only Clunk runs the model");
            return;
        }
        self.out.git |= line.contains("git+");
        self.push(line, into);
    }

    fn push(&mut self, line: &str, into: Sink) {
        let text = match into {
            Sink::Requirements => &mut self.out.text,
            Sink::Constraints => &mut self.out.constraints,
        };
        text.push_str(line);
        text.push('\n');
    }

    /// A file that another one names.
    fn named(&mut self, path: &str, at: At, into: Sink, line: &str) {
        if path.contains("://") {
            let hint = "copy what it lists into the project";
            let message =
                format!("`{line}`: requirements come from files of the project, not from the network");
            return self.problems.error(at, message, hint);
        }
        match self.beside(path) {
            Some(path) => self.include(&path, at, into),
            None => self.outside(path, at),
        }
    }

    fn beside(&self, path: &str) -> Option<String> {
        beside(self.open.last().map_or("", String::as_str), path)
    }

    fn outside(&mut self, path: &str, at: At) {
        let message = format!("could not read {path}: {}", found_words(Found::Outside));
        self.problems.error(at, message, "move it beneath the folder of cog.yaml");
    }

    fn editable(&mut self, target: &str, at: At, into: Sink) {
        if target.contains("://") || target.contains("git+") {
            // In an image nobody edits it: installed as any other.
            return self.line(target, at, into);
        }
        let message =
            format!("`-e {target}`: the code of the project is not there when packages are installed");
        let hint = "remove the line: modules beside the predictor can be imported as they are";
        self.problems.error(at, message, hint);
    }

    /// An archive of the project.
    fn local(&mut self, line: &str, path: &str, at: At, into: Sink) {
        let Some(cleaned) = self.beside(path) else { return self.outside(path, at) };
        let found = self.project.look(&cleaned);
        let archive = ARCHIVES.iter().any(|ending| cleaned.ends_with(ending));
        match found {
            Found::File if archive => {
                let is_url =
                    line.contains(&format!("file:{path}")) || line.contains(&format!("file://{path}"));
                let line = line.replacen(path, &written(&cleaned, is_url), 1);
                self.out.files.insert(cleaned);
                self.push(&line, into);
            }
            Found::File | Found::Folder => {
                let message = format!("`{path}` is not a package that can be installed");
                let hint = "build a wheel of it and name that: python3 -m build --wheel";
                self.problems.error(at, message, hint);
            }
            found => {
                let message = format!("could not read {path}: {}", found_words(found));
                self.problems.error(at, message, "correct the path");
            }
        }
    }
}

/// Lines with those that go on behind a backslash put together, and the number of the first.
fn logical_lines(text: &str) -> Vec<(String, usize)> {
    let mut lines: Vec<(String, usize)> = Vec::new();
    let mut goes_on = false;
    for (at, line) in text.lines().enumerate() {
        let (part, more) = match line.trim_end().strip_suffix('\\') {
            Some(part) => (part.trim_end(), true),
            None => (line.trim_end(), false),
        };
        match lines.last_mut().filter(|_| goes_on) {
            Some((line, _)) => {
                line.push(' ');
                line.push_str(part.trim());
            }
            None => lines.push((part.trim().into(), at + 1)),
        }
        goes_on = more;
    }
    lines
}

fn without_comment(line: &str) -> &str {
    if line.starts_with('#') {
        return "";
    }
    let end = [" #", "\t#"].iter().filter_map(|mark| line.find(mark)).min();
    line[..end.unwrap_or(line.len())].trim()
}

/// The value of an option, in any of its forms: `-r x`, `-rx`, `--requirement x`, `--requirement=x`.
fn option<'a>(line: &'a str, short: &str, long: &str) -> Option<&'a str> {
    if let Some(rest) = line.strip_prefix(long) {
        return rest.starts_with(['=', ' ', '\t']).then(|| rest[1..].trim());
    }
    let rest = line.strip_prefix(short).filter(|_| !line.starts_with("--"))?;
    Some(rest.trim_start_matches('=').trim()).filter(|value| !value.is_empty())
}

/// The path in a line that names a file: by itself, or behind `name @`. It may hold blanks.
fn local_path(line: &str) -> Option<&str> {
    let target = line.split_once(" @ ").map_or(line, |(_, target)| target).trim();
    // Markers, hashes and extras come behind it.
    let end = [" ;", "; ", " --"].iter().filter_map(|mark| target.find(mark)).min();
    let target = target[..end.unwrap_or(target.len())].trim_end();
    let target = if target.ends_with(']') { target.split('[').next()? } else { target };
    if let Some(path) = target.strip_prefix("file:") {
        return Some(path.trim_start_matches("//"));
    }
    if target.contains("://") {
        return None;
    }
    let path = target.starts_with(['.', '/']) || ARCHIVES.iter().any(|ending| target.ends_with(ending));
    path.then_some(target)
}

/// A path in the image, as a requirement can hold it.
fn written(path: &str, is_url: bool) -> String {
    let encode = |c: char| match c {
        ' ' => "%20".to_string(),
        '%' => "%25".to_string(),
        '#' => "%23".to_string(),
        c => c.to_string(),
    };
    let plain = !path.contains([' ', '%', '#']);
    match (plain, is_url) {
        (true, _) => format!("/src/{path}"),
        (false, true) => format!("/src/{}", path.chars().map(encode).collect::<String>()),
        (false, false) => format!("file:///src/{}", path.chars().map(encode).collect::<String>()),
    }
}

/// The name of the package in a requirement, as indexes write it.
fn name(line: &str) -> String {
    let end = line.find(|c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c))).unwrap_or(line.len());
    line[..end].to_lowercase().replace(['.', '_'], "-")
}

#[cfg(test)]
mod tests {
    use super::super::problem::Problem;
    use super::super::project::InMemory;
    use super::*;

    fn flatten(files: &[(&str, &str)]) -> (Requirements, Vec<Problem>) {
        let files = InMemory(files.iter().map(|(path, text)| (path.to_string(), text.to_string())).collect());
        let mut problems = Problems::default();
        let mut flattener = Flattener::new(&files, &mut problems);
        flattener.file("requirements.txt", At::START);
        (flattener.finish(), problems.into_list())
    }

    #[test]
    fn includes_are_put_in_their_place() {
        let (out, problems) = flatten(&[
            ("requirements.txt", "# all\n-r deps/base.txt\n--constraint=deps/c.txt\ntorch==2.1  # big\n"),
            ("deps/base.txt", "numpy>=1 \\\n  ,<3\n-r more.txt"),
            ("deps/more.txt", "pillow"),
            ("deps/c.txt", "urllib3<2\n"),
        ]);
        assert_eq!(problems, []);
        assert_eq!(out.text, "numpy>=1 ,<3\npillow\ntorch==2.1\n");
        assert_eq!(out.constraints, "urllib3<2\n");
    }

    #[test]
    fn archives_of_the_project_are_named_where_they_will_be() {
        let (out, problems) = flatten(&[
            (
                "requirements.txt",
                "./w/a-1-py3-none-any.whl[x] ; python_version > '3'\nb @ file:w/b.tar.gz\nw/c.zip\n./w/d e.zip --hash=sha256:00\nf @ file:w/f g.zip",
            ),
            ("w/a-1-py3-none-any.whl", ""),
            ("w/b.tar.gz", ""),
            ("w/c.zip", ""),
            ("w/d e.zip", ""),
            ("w/f g.zip", ""),
        ]);
        assert_eq!(problems, []);
        let lines: Vec<_> = out.text.lines().collect();
        assert_eq!(
            lines,
            [
                "/src/w/a-1-py3-none-any.whl[x] ; python_version > '3'",
                "b @ file:/src/w/b.tar.gz",
                "/src/w/c.zip",
                "file:///src/w/d%20e.zip --hash=sha256:00",
                "f @ file:/src/w/f%20g.zip",
            ]
        );
        assert_eq!(out.files.len(), 5);
    }

    #[test]
    fn what_others_bring_is_left_to_them() {
        let text = "cog==0.9\nCoglet>=0.1\ncog-utils==1\n--pre\n--extra-index-url https://x.example/simple\n-e git+https://g.example/a/b#egg=b\n";
        let (out, problems) = flatten(&[("requirements.txt", text)]);
        let lines: Vec<_> = out.text.lines().collect();
        assert_eq!(
            lines,
            ["cog-utils==1", "--extra-index-url https://x.example/simple", "git+https://g.example/a/b#egg=b"]
        );
        assert!(out.git && out.indexes && out.pre);
        assert_eq!(problems.iter().map(|problem| problem.line).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn includes_are_counted() {
        let text = "-r more.txt\n".repeat(MAX_INCLUDED + 1);
        let (out, problems) = flatten(&[("requirements.txt", text.as_str()), ("more.txt", "pillow")]);
        assert_eq!(out.text.lines().count(), MAX_INCLUDED - 1);
        let lines: Vec<_> = problems.iter().map(|problem| problem.line).collect();
        assert_eq!(lines, [MAX_INCLUDED, MAX_INCLUDED + 1], "{problems:?}");
    }

    #[test]
    fn what_cannot_be_is_named_with_its_line() {
        let (_, problems) = flatten(&[
            (
                "requirements.txt",
                "-r requirements.txt\n\n-e .\n../up.whl\n/abs.whl\n./lib\nno.whl\n-r https://x.example/r.txt\n-r none.txt\n-f ./lib\n-f https://x.example/l",
            ),
            ("lib/setup.py", ""),
        ]);
        let shown: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(shown.len(), 9, "{shown:#?}");
        for (problem, line) in problems.iter().zip([1, 3, 4, 5, 6, 7, 8, 9, 10]) {
            assert_eq!((problem.file.as_str(), problem.line), ("requirements.txt", line), "{problem}");
        }
    }
}
