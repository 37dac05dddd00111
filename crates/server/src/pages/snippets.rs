//! The same call for other programs: the command line, Python, JavaScript. What is shown can be pasted and run as it is.

use serde_json::{Map, Value};

use super::form::{Field, Kind};

/// In front of the name of a file that the person chose on this machine.
pub const LOCAL_FILE: &str = "file:";
/// The variable with the server's token.
const TOKEN: &str = "CLUNK_TOKEN";

/// A value of the input as a program writes it.
#[derive(Debug, PartialEq)]
enum Part {
    Json(Value),
    /// A file beside the program.
    File(String),
    /// A variable of the environment: what is secret stands in no program.
    Variable(String),
    List(Vec<Part>),
}

pub struct Call<'a> {
    /// The server's URL, without a slash at its end.
    pub base_url: &'a str,
    /// `owner/name`
    pub model: &'a str,
    /// 64 hex digits.
    pub version: &'a str,
    /// Its output is text that comes in parts.
    pub streams_text: bool,
    pub fields: &'a [Field],
    pub input: &'a Map<String, Value>,
}

pub struct Snippet {
    pub id: &'static str,
    pub title: &'static str,
    pub text: String,
}

pub fn snippets(call: &Call<'_>) -> Vec<Snippet> {
    vec![
        Snippet { id: "curl", title: "curl", text: curl(call) },
        Snippet { id: "python", title: "Python", text: python(call) },
        Snippet { id: "javascript", title: "JavaScript", text: javascript(call) },
    ]
}

impl Call<'_> {
    fn parts(&self) -> Vec<(&str, Part)> {
        let known = self.fields.iter().filter_map(|field| Some((field, self.input.get(&field.name)?)));
        known.map(|(field, value)| (field.name.as_str(), part(field, value))).collect()
    }
}

fn part(field: &Field, value: &Value) -> Part {
    match (&field.kind, value) {
        (Kind::Secret, _) => Part::Variable(variable(&field.name)),
        (Kind::File { .. }, Value::Array(items)) => {
            Part::List(items.iter().map(|item| part(field, item)).collect())
        }
        (Kind::File { .. }, Value::String(text)) => match text.strip_prefix(LOCAL_FILE) {
            Some(name) => Part::File(name.into()),
            None => Part::Json(value.clone()),
        },
        (_, value) => Part::Json(value.clone()),
    }
}

/// `api_key` as a variable of the environment.
fn variable(name: &str) -> String {
    let letters = name
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() { letter.to_ascii_uppercase() } else { '_' });
    let name: String = letters.collect();
    if name.starts_with(|letter: char| letter.is_ascii_digit()) { format!("_{name}") } else { name }
}

/// A text between single quotes of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn curl(call: &Call<'_>) -> String {
    let Call { base_url, version, .. } = call;
    let (mut uploads, mut fields) = (String::new(), Vec::new());
    let mut files = 0;
    for (name, part) in call.parts() {
        let value = shell(&part, base_url, &mut files, &mut uploads);
        fields.push(format!("{}: {value}", shell_json(&name.into())));
    }
    let input =
        if fields.is_empty() { "{}".into() } else { format!("{{\n    {}\n  }}", fields.join(",\n    ")) };
    let body = format!("'{{\n  \"version\": \"{version}\",\n  \"input\": {input}\n}}'");
    format!(
        "{uploads}curl -sS -X POST {} \\\n  -H \"Authorization: Bearer ${TOKEN}\" \\\n  \
         -H 'Content-Type: application/json' \\\n  -H 'Prefer: wait' \\\n  -d {body}\n",
        quoted(&format!("{base_url}/replicate/v1/predictions")),
    )
}

/// JSON inside of single quotes.
fn shell_json(value: &Value) -> String {
    value.to_string().replace('\'', r"'\''")
}

/// A value within a single-quoted text; files are sent first, their addresses go into variables.
fn shell(part: &Part, base_url: &str, files: &mut usize, uploads: &mut String) -> String {
    match part {
        Part::Json(value) => shell_json(value),
        Part::Variable(name) => format!("\"'\"${name}\"'\""),
        Part::List(parts) => {
            let parts: Vec<_> = parts.iter().map(|part| shell(part, base_url, files, uploads)).collect();
            format!("[{}]", parts.join(", "))
        }
        Part::File(name) => {
            *files += 1;
            let form = quoted(&format!("content=@\"{}\"", name.replace('\\', r"\\").replace('"', "\\\"")));
            *uploads += &format!(
                "FILE{files}=$(curl -sS -H \"Authorization: Bearer ${TOKEN}\" -F {form} \\\n  {} |\n  \
                 sed 's/.*\"get\": *\"\\([^\"]*\\)\".*/\\1/')\n",
                quoted(&format!("{base_url}/replicate/v1/files")),
            );
            format!("\"'\"$FILE{files}\"'\"")
        }
    }
}

fn python(call: &Call<'_>) -> String {
    let Call { base_url, model, version, .. } = call;
    let fields: Vec<_> = call
        .parts()
        .iter()
        .map(|(name, part)| format!("        {}: {},\n", python_json(&(*name).into()), python_part(part)))
        .collect();
    let input = if fields.is_empty() { "{}".into() } else { format!("{{\n{}    }}", fields.concat()) };
    let end = if call.streams_text {
        "for text in output:\n    print(text, end=\"\", flush=True)\n"
    } else {
        "print(output)\n"
    };
    format!(
        "# pip install \"replicate<2\"\nimport os\n\nimport replicate\n\nclient = replicate.Client(\n    \
         base_url={},\n    api_token=os.environ[\"{TOKEN}\"],\n)\noutput = client.run(\n    \"{model}:{version}\",\n    \
         input={input},\n)\n{end}",
        Value::from(format!("{base_url}/replicate")),
    )
}

fn python_part(part: &Part) -> String {
    match part {
        Part::Json(value) => python_json(value),
        Part::File(name) => format!("open({}, \"rb\")", Value::from(name.as_str())),
        Part::Variable(name) => format!("os.environ[\"{name}\"]"),
        Part::List(parts) => {
            format!("[{}]", parts.iter().map(python_part).collect::<Vec<_>>().join(", "))
        }
    }
}

/// JSON as Python writes it. Strings are the same in both.
fn python_json(value: &Value) -> String {
    match value {
        Value::Null => "None".into(),
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        Value::Number(_) | Value::String(_) => value.to_string(),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(python_json).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(members) => {
            let members: Vec<_> = members
                .iter()
                .map(|(name, value)| format!("{}: {}", Value::from(name.as_str()), python_json(value)))
                .collect();
            format!("{{{}}}", members.join(", "))
        }
    }
}

fn javascript(call: &Call<'_>) -> String {
    let Call { base_url, model, version, .. } = call;
    let parts = call.parts();
    let has_file = parts.iter().any(|(_, part)| holds_file(part));
    let fields: Vec<_> = parts
        .iter()
        .map(|(name, part)| format!("    {}: {},\n", javascript_key(name), javascript_part(part)))
        .collect();
    let input = if fields.is_empty() { "{}".into() } else { format!("{{\n{}  }}", fields.concat()) };
    let files = if has_file { "import { readFile } from \"node:fs/promises\";\n" } else { "" };
    let end = if call.streams_text { "console.log(output.join(\"\"));\n" } else { "console.log(output);\n" };
    format!(
        "// npm install replicate\n{files}import Replicate from \"replicate\";\n\nconst client = new Replicate({{\n  \
         baseUrl: {},\n  auth: process.env.{TOKEN},\n}});\nconst output = await client.run(\"{model}:{version}\", {{\n  \
         input: {input},\n}});\n{end}",
        Value::from(format!("{base_url}/replicate/v1")),
    )
}

fn holds_file(part: &Part) -> bool {
    match part {
        Part::File(_) => true,
        Part::List(parts) => parts.iter().any(holds_file),
        Part::Json(_) | Part::Variable(_) => false,
    }
}

fn javascript_key(name: &str) -> String {
    let plain = name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
        && !name.starts_with(|letter: char| letter.is_ascii_digit());
    if plain { name.into() } else { Value::from(name).to_string() }
}

fn javascript_part(part: &Part) -> String {
    match part {
        Part::Json(value) => value.to_string(),
        Part::File(name) => format!("await readFile({})", Value::from(name.as_str())),
        Part::Variable(name) => format!("process.env.{name}"),
        Part::List(parts) => {
            format!("[{}]", parts.iter().map(javascript_part).collect::<Vec<_>>().join(", "))
        }
    }
}
