"""`-i name=value` by the schema of a model; outputs and what in them is a file."""

import json

import pytest
from cog_project import of, predictor

from clunk._cli.errors import Exit
from clunk._cli.inputs import LocalInput, describe, parse
from clunk._cli.outputs import find_files, replaced, safe_name
from clunk._cli.secrets import give
from clunk._client.predictions import parse_events

PARAMETERS = """s: str = "", n: int = Input(default=1, ge=0, le=9), f: float = 0.5, b: bool = False, p: Path = "https://x/y",
    c: str = Input(default="a", choices=["a", "bc"]), k: int = Input(default=1, choices=[1, 2]), xs: list[int] = [],
    names: list[str] = [], files: list[Path] = [], d: dict = {}, o: Optional[int] = None, u: Union[int, str] = 1,
    nested: list[list[int]] = [], m: list[Literal["x", "y"]] = []"""


@pytest.fixture
def document(tmp_path):
    schema = of(tmp_path, predictor(PARAMETERS))
    assert schema.errors == []
    return schema.document


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("s=hello world", {"s": "hello world"}),
        ("s=", {"s": ""}),
        ("s=a=b", {"s": "a=b"}),
        ("s=@@here", {"s": "@here"}),
        ("s=123", {"s": "123"}),
        ("n=3", {"n": 3}),
        ("n=0x9", {"n": 9}),
        ("f=1e-3", {"f": 0.001}),
        ("f=2", {"f": 2.0}),
        ("b=true", {"b": True}),
        ("b=No", {"b": False}),
        ("c=bc", {"c": "bc"}),
        ("k=2", {"k": 2}),
        ("xs=1|xs=2", {"xs": [1, 2]}),
        ("xs=[1, 2]|xs=3", {"xs": [1, 2, 3]}),
        ("xs=1|xs=[2, 3]|xs=[4]", {"xs": [1, 2, 3, 4]}),
        ("names=a|names=b c", {"names": ["a", "b c"]}),
        ("files=https://x/a|files=https://x/b", {"files": ["https://x/a", "https://x/b"]}),
        ('d={"a": 1}', {"d": {"a": 1}}),
        ("o=null", {"o": None}),
        ("o=4", {"o": 4}),
        ("u=4", {"u": 4}),
        ("u=four", {"u": "four"}),
        ("nested=[[1], [2]]", {"nested": [[1], [2]]}),
        ("m=x|m=y", {"m": ["x", "y"]}),
        ("p=data:image/png;base64,AAAA", {"p": "data:image/png;base64,AAAA"}),
    ],
)
def test_values(document, words, wanted):
    assert parse(words.split("|"), document) == wanted


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("n=1.5", "must be a whole number, not '1.5'"),
        ("n=10", "must be at most 9"),
        ("n=-1", "must be at least 0"),
        ("f=nan", "must be a number"),
        ("b=maybe", "must be true or false"),
        ("c=b", "one of a, bc"),
        ("k=3", "one of 1, 2"),
        ("xs=a", "must be a whole number"),
        ("xs=[1", "must be a list"),
        ("d=[", "must be a JSON object"),
        ("d=3", "must be a JSON object"),
        ("m=z", "one of x, y"),
        ("p=photo.png", "a URL, or @FILE"),
        ("p=@missing.png", "there is no file missing.png"),
        ("p=@/dev/null", "/dev/null is a device, and the input takes a file"),
        ("p=@/tmp", "/tmp is a folder, and the input takes a file"),
        ("n=a|s=x|n=b|nn=1", "3 mistakes in the inputs:\n  the input `n` must be a whole number, not 'a'\n  the"),
        ("s=@missing.txt", "cannot read missing.txt"),
        ("@missing.json", "cannot read missing.json"),
        ("nn=1", "no input `nn`"),
    ],
)
def test_values_that_do_not_fit(document, words, message):
    with pytest.raises(Exit) as caught:
        parse(words.split("|"), document)
    assert message in caught.value.message
    assert caught.value.code == 2


def test_files_of_this_machine(document, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.txt").write_text("from a file")
    (tmp_path / "all.json").write_text('{"n": 2, "s": "x"}')
    made = parse(["p=@t.txt", "s=@t.txt", "files=@t.txt"], document)
    assert isinstance(made["p"], LocalInput) and made["p"].path == "t.txt"
    assert made["s"] == "from a file"
    assert [type(file) for file in made["files"]] == [LocalInput]
    assert parse(["@all.json"], document) == {"n": 2, "s": "x"}
    with pytest.raises(Exit, match=r"did you mean @t\.txt"):
        parse(["p=t.txt"], document)


def test_help_has_a_line_for_each_input(document):
    lines = "\n".join(describe(document))
    assert "-i c=a|bc" in lines
    assert "-i p=@FILE" in lines
    assert "0..9, default 1, optional" in lines


def test_files_in_outputs():
    uri = {"type": "string", "format": "uri"}
    schema = {"type": "object", "properties": {"a": uri, "b": {"type": "array", "items": uri}, "c": {"type": "string"}}}
    value = {"a": "https://x/1", "b": ["https://x/2"], "c": "https://x/3", "d": "data:image/png;base64,AA=="}
    assert list(find_files(schema, value)) == ["https://x/1", "https://x/2", "data:image/png;base64,AA=="]
    signed = "http://127.0.0.1:1/files/file-1/a.png?expiry=123&signature=ab"
    assert list(find_files({"type": "object"}, {"x": [signed, "http://127.0.0.1:1/files/other"]})) == [signed]
    assert replaced(value, {"https://x/1": "one.png", "https://x/2": "two.png"})["b"] == ["two.png"]


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("out.png", "out.png"),
        ("../../etc/passwd", "passwd"),
        (".bashrc", "bashrc"),
        ("..", "output"),
        ("", "output"),
        ("a\x1b[2Jb.txt", "a[2Jb.txt"),
        ("x" * 300 + ".png", "x" * 56 + ".png"),
    ],
)
def test_names_that_a_model_gives_its_files(name, safe):
    assert safe_name(name) == safe


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_events_in_pieces_of_any_size(size):
    text = b'id: 1\nevent: logs\ndata: {"text":\ndata: "a"}\n\n:\n\nid:2\r\nevent:done\r\ndata:{}\r\n\r\nevent: lost\n'
    chunks = [text[at : at + size] for at in range(0, len(text), size)]
    assert list(parse_events(chunks)) == [("logs", {"text": "a"}, "1"), ("done", {}, "2")]


def test_json_of_inputs_is_what_is_sent(document):
    assert json.dumps(parse(["n=1", "b=yes"], document)) == '{"n": 1, "b": true}'


def test_secrets_of_a_build(tmp_path, monkeypatch):
    (tmp_path / "t").write_bytes(b"a")
    monkeypatch.setenv("TOKEN", "b")
    mounts = [{"id": "one", "target": "/x"}, {"id": "two", "target": "/y"}, {"id": "other", "target": "/z"}]
    recipe = {"steps": [{"kind": "workdir"}, {"kind": "run_commands", "secrets": mounts}]}
    give(recipe, [f"id=one,src={tmp_path}/t", "type=env,id=two,env=TOKEN"])
    assert [mount.get("content") for mount in mounts] == ["YQ==", "Yg==", None]
    for word, message in (
        ("id=three,env=TOKEN", "no command of build.run mounts the secret three"),
        ("one", "--secret one does not say where"),
        ("tok=1", "--secret tok=1 does not say where"),
        ("id=one", "does not say where"),
        ("id=one,src=/t,env=TOKEN", "does not say where"),
        ("id=one,env=NONE", "the environment has no NONE"),
        ("id=one,src=/nowhere", "cannot read /nowhere: No such file or directory"),
        ("id=one,src=/dev/zero", "has more than 1 MiB"),
    ):
        with pytest.raises(Exit) as caught:
            give(recipe, [word])
        assert message in caught.value.message
