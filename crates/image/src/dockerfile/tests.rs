use super::*;

fn read(text: &str) -> Vec<Instruction> {
    parse(&[text.to_string()]).unwrap()
}

fn refusal(text: &str) -> (String, String) {
    let error = parse(&[text.to_string()]).unwrap_err();
    assert_eq!(error.code(), clunk_core::ErrorCode::BadRecipe);
    (error.to_string(), error.hint().unwrap())
}

#[test]
fn continuations_comments_and_line_numbers() {
    let text =
        "# first\nRUN apt-get update && \\\n  # why\n\n  apt-get install -y git\n\nenv A=1 B=\"two words\"\n";
    let found = read(text);
    assert_eq!(found.len(), 2);
    assert_eq!((found[0].line, found[1].line), (2, 7));
    let Kind::Run(Form::Shell(command)) = &found[0].kind else { panic!() };
    assert_eq!(command, "apt-get update &&   apt-get install -y git");
    let pairs =
        [("A", "1"), ("B", "\"two words\"")].map(|(name, value)| (name.to_string(), value.to_string()));
    assert_eq!(found[1].kind, Kind::Env(pairs.to_vec()));
}

#[test]
fn both_forms_of_commands() {
    let found = read(
        "CMD [\"python\", \"a b.py\"]\nENTRYPOINT exec python $X\nSHELL [\"/bin/bash\", \"-c\"]\nRUN [ -f /x ]",
    );
    assert_eq!(found[0].kind, Kind::Cmd(Form::Exec(vec!["python".into(), "a b.py".into()])));
    assert_eq!(found[1].kind, Kind::Entrypoint(Form::Shell("exec python $X".into())));
    assert!(matches!(&found[2].kind, Kind::Shell(words) if words.len() == 2));
    assert_eq!(found[3].kind, Kind::Run(Form::Shell("[ -f /x ]".into())));
}

#[test]
fn copies() {
    let found = read("COPY --chown=1000:1000 --chmod=0755 a b/*.py /app/\nADD [\"a b\", \"/c\"]");
    let Kind::Copy(copy) = &found[0].kind else { panic!() };
    assert_eq!(copy.sources, ["a", "b/*.py"]);
    assert_eq!(
        (copy.target.as_str(), copy.owner.as_deref(), copy.mode),
        ("/app/", Some("1000:1000"), Some(0o755))
    );
    assert!(matches!(&found[1].kind, Kind::Copy(copy) if copy.sources == ["a b"]));
}

#[test]
fn scripts_in_place() {
    let found = read("RUN <<EOF\necho one\necho \\\n  two\nEOF\nWORKDIR /x");
    assert_eq!(found[0].kind, Kind::Run(Form::Shell("echo one\necho \\\n  two\n".into())));
    assert_eq!(found[1].kind, Kind::Workdir("/x".into()));
    assert_ne!(found[0].text, read("RUN <<EOF\necho other\nEOF")[0].text);
}

#[test]
fn harmless_options_pass() {
    let found =
        read("RUN --mount=type=cache,target=/root/.cache pip install x\nLABEL a=b\nEXPOSE 80\nVOLUME /data");
    assert_eq!(found[0].kind, Kind::Run(Form::Shell("pip install x".into())));
    assert!(found[1..].iter().all(|it| it.kind == Kind::Nothing));
}

#[test]
fn refusals_name_line_text_and_mend() {
    for (text, what, mend) in [
        ("RUN a\nCOYP x /y", "line 2: `COYP x /y`", "did you mean COPY?"),
        ("FROM python:3.12", "line 1: `FROM python:3.12`", "from_registry"),
        ("COPY --from=build /a /b", "no other stages", "context"),
        ("COPY a b /c", "must be a folder", "/c/"),
        ("ADD https://example.com/x /y", "does not fetch", "RUN"),
        ("ADD x.tar.gz /y", "does not unpack", "tar -xf"),
        ("COPY a", "sources and a target", "COPY file /folder/"),
        ("CMD ['python']", "not JSON", "double quotes"),
        ("ENV X", "wants a value", "ENV X=value"),
        ("ENV A=1 B", "`B` is not NAME=value", "quotes"),
        ("RUN", "says nothing", "RUN"),
        ("RUN --mount=type=secret,id=x a", "not supported", "leave it out"),
        ("RUN <<EOF\na", "no end `EOF`", "EOF"),
        ("ENV A=\"x", "no end", "close the quote"),
        ("&& b", "&& is no instruction", "goes on after"),
    ] {
        let (message, hint) = refusal(text);
        assert!(message.contains(what), "{message}");
        assert!(hint.contains(mend), "{hint}");
    }
}
