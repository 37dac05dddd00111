"""Outputs of Cog models: every type that becomes JSON, files, and what cannot be sent."""

import os

import pytest
from cog_driver import models

model = models()

HEAD = """
import collections, dataclasses, datetime, decimal, enum, io, os, pathlib, tempfile, types, typing, uuid
from cog import BaseModel, BasePredictor, File, Path, Secret
class Colour(enum.Enum):
    RED = "red"
class Word(str, enum.Enum):
    A = "a"
class Level(enum.IntEnum):
    LOW = 1
@dataclasses.dataclass
class Point:
    x: int
    more: list
class Output(BaseModel):
    text: str
    point: Point = None
Named = collections.namedtuple("Named", "a b")
def write(name, data=b"data"):
    path = os.path.join(tempfile.mkdtemp(), name)
    with open(path, "wb") as file:
        file.write(data)
    return Path(path)
"""


@pytest.fixture
def evaluate(model):
    """Gives what an expression becomes."""
    started = model(HEAD + "\ndef predict(x: str): return eval(x)\n", qualname="predict")
    return lambda text: started.predict(x=text)


VALUES = [
    ("None", None),
    ("'é\\u2028\\n\"'", 'é\u2028\n"'),
    ("'a\\ud83dc'", "a\ufffdc"),
    ("'\\ud83d\\ude00'", "😀"),
    ("3", 3),
    ("2.5", 2.5),
    ("True", True),
    ("10 ** 30", 10**30),
    ("[1, 'a', None, {'k': [True]}]", [1, "a", None, {"k": [True]}]),
    ("(1, 2)", [1, 2]),
    ("{1}", [1]),
    ("frozenset(['a'])", ["a"]),
    ("range(3)", [0, 1, 2]),
    ("collections.deque([1])", [1]),
    ("{1: 2, None: 3, True: 4}", {"1": 4, "null": 3}),
    ("{Colour.RED: 1}", {"red": 1}),
    ("types.MappingProxyType({'a': (1,)})", {"a": [1]}),
    ("collections.OrderedDict(a={1})", {"a": [1]}),
    ("Colour.RED", "red"),
    ("[Colour.RED, Word.A, Level.LOW]", ["red", "a", 1]),
    ("datetime.datetime(2024, 5, 6, 7)", "2024-05-06T07:00:00"),
    ("datetime.date(2024, 5, 6)", "2024-05-06"),
    ("datetime.timedelta(seconds=1.5)", 1.5),
    ("uuid.UUID(int=5)", "00000000-0000-0000-0000-000000000005"),
    ("decimal.Decimal('1.10')", "1.10"),
    ("Point(1, [Colour.RED])", {"x": 1, "more": ["red"]}),
    ("Output(text='t', point=Point(1, []))", {"text": "t", "point": {"x": 1, "more": []}}),
    ("Named(1, {2})", [1, [2]]),
    ("Secret('x')", "**********"),
    ("{'a': 1}.keys()", ["a"]),
    ("type('S', (str,), {})('sub')", "sub"),
]


def test_values(evaluate):
    for text, expected in VALUES:
        answer = evaluate(text)
        assert answer.error is None, (text, answer.error)
        assert answer.output == expected and type(answer.output) is type(expected), text


UNSENDABLE = [
    ("b'abc'", "the output is of type bytes, which has no JSON form: decode it to text"),
    ("{'a': [1, object()]}", "the output['a'][1] is of type object"),
    ("{'a': {(1, 2): 3}}", "the output['a'] has the key (1, 2) (of type tuple)"),
    ("(lambda l: l.append(l) or l)([])", "the output[0] contains itself"),
    ("(lambda d: d.update(d=d) or d)({})", "the output['d'] contains itself"),
    ("[open]", "the output[0] is of type builtin_function_or_method"),
    ("{'gen': (i for i in [1])}", "the output['gen'] is of type generator, which has no JSON form: yield its items"),
    ("__import__('functools').reduce(lambda a, _: [a], range(300), object())", "nested deeper than 200 levels"),
    (
        "Path('/nowhere/x.png')",
        "the output is the file /nowhere/x.png, which cannot be sent: No such file or directory",
    ),
    ("[Path('/tmp')]", "the output[0] is /tmp, which is a folder: only a file can be an output"),
    ("Path('/dev/null')", "which is no regular file"),
    ("[io.open(os.devnull, 'wb')]", "the output[0] is a file that cannot be read"),
    ("[Path('/dev/null')] * 20000", "which is no regular file"),
]


def test_what_cannot_be_sent_says_where_it_lies(evaluate):
    for text, words in UNSENDABLE:
        answer = evaluate(text)
        assert answer.error is not None and answer.error[0] == "cog.OutputError", text
        assert words in answer.error[1], (text, answer.error[1])
    assert evaluate("1").output == 1


def test_numbers_that_json_does_not_have_become_null_and_the_log_says_so(evaluate):
    answer = evaluate("{'a': [1.0, float('nan')], 'b': float('-inf')}")
    assert answer.output == {"a": [1.0, None], "b": None}
    assert answer.logs == "the output['a'][1] is nan, which JSON does not have: null was sent instead\n"


@pytest.mark.parametrize("text", ["'a\\ud83dc'", "['a\\ud83dc', (1,)]"])
def test_half_a_character_is_told(evaluate, text):
    answer = evaluate(text)
    assert answer.output in ("a\ufffdc", ["a\ufffdc", [1]])
    assert "the output has half a character (a lone surrogate)" in answer.logs
    # Two halves are a whole one.
    assert not evaluate("'\\ud83d\\ude00'").logs


def test_a_file_of_unknown_size_is_read_to_its_end(evaluate):
    (file,) = evaluate("Path('/proc/cpuinfo')").files.values()
    assert file[2].startswith(b"processor")
    answer = evaluate("Path('/proc/self/mem')")
    assert "the output is the file /proc/self/mem, which cannot be read" in answer.error[1]


FILES = [
    ("write('a.png')", None, {"": ("a.png", "image/png", b"data")}),
    ("[write('a.webp')]", [None], {"/0": ("a.webp", "image/webp", b"data")}),
    ("pathlib.Path(write('a.safetensors'))", None, {"": ("a.safetensors", "application/octet-stream", b"data")}),
    (
        "{'a/b~': [1, write('x.mp4')], 'c': write('y.txt', b'')}",
        {"a/b~": [1, None], "c": None},
        {"/a~1b~0/1": ("x.mp4", "video/mp4", b"data"), "/c": ("y.txt", "text/plain", b"")},
    ),
    ("{5: write('a.json')}", {"5": None}, {"/5": ("a.json", "application/json", b"data")}),
    ("Point(write('a.jpg'), [])", {"x": None, "more": []}, {"/x": ("a.jpg", "image/jpeg", b"data")}),
    ("io.BytesIO(b'abc')", None, {"": ("file", "application/octet-stream", b"abc")}),
    ("io.StringIO('é')", None, {"": ("file", "text/plain", "é".encode())}),
    ("open(write('a.wav'), 'rb')", None, {"": ("a.wav", "audio/wav", b"data")}),
    ("open(write('a.txt'))", None, {"": ("a.txt", "text/plain", b"data")}),
    ("Path(__file__).__class__(write('with\\nline'))", None, {"": ("with\nline", "application/octet-stream", b"data")}),
    (
        "(lambda f: f.write(b'later') and f)(tempfile.SpooledTemporaryFile())",
        None,
        {"": ("file", "application/octet-stream", b"later")},
    ),
    ("write('a.unknownkind')", None, {"": ("a.unknownkind", "application/octet-stream", b"data")}),
]


def test_files(evaluate):
    for text, output, files in FILES:
        answer = evaluate(text)
        assert answer.error is None, (text, answer.error)
        assert (answer.output, answer.files) == (output, files), text


def test_large_files_come_whole_and_may_be_written_again(model):
    started = model(
        HEAD
        + """
path = write("big.bin")
def predict(letter: str, mib: int):
    with open(path, "wb") as file:
        for _ in range(mib):
            file.write(letter.encode() * (1 << 20))
    return [path, io.BytesIO(letter.encode() * (5 << 20))]
""",
        qualname="predict",
    )
    for letter, mib in (("a", 1), ("b", 20), ("c", 70)):
        answer = started.predict(letter=letter, mib=mib)
        assert answer.files["/0"][2] == letter.encode() * (mib << 20)
        assert answer.files["/1"][2] == letter.encode() * (5 << 20)


def test_a_generator_may_yield_the_same_path_again(model):
    started = model(
        HEAD
        + """
path = write("frame.png")
def predict():
    for letter in "abc":
        path.write_bytes(letter.encode() * (1 << 20))
        yield path
""",
        qualname="predict",
    )
    answer = started.predict()
    assert [files[""][2][:1] for files in answer.chunk_files] == [b"a", b"b", b"c"]
    assert all(set(files[""][2]) == {files[""][2][0]} for files in answer.chunk_files)


def test_no_descriptors_are_left(model):
    started = model(
        HEAD
        + """
path = write("a.bin", bytes(1 << 20))
def predict(x: File):
    return {"files": [path, path, io.BytesIO(bytes(5 << 20))], "open": len(os.listdir("/proc/self/fd"))}
""",
        qualname="predict",
    )
    url = "data:text/plain;base64,aGVsbG8="
    assert started.predict(x=url).output["open"] == started.predict(x=url).output["open"]


def test_many_files(evaluate):
    answer = evaluate("[write('a.txt')] * 10000")
    assert len(answer.files) == 10000 and answer.files["/9999"][2] == b"data"
    answer = evaluate("[write('a.txt')] * 10001")
    assert answer.error == ("cog.OutputError", "an output has at most 10000 files")


def test_a_returned_input_is_sent_before_it_is_deleted(model):
    started = model(HEAD + "\ndef predict(x: Path): return {'file': x, 'path': str(x)}\n", qualname="predict")
    answer = started.predict(x="data:image/png;base64,iVBORw==")
    assert answer.files["/file"] == ("file.png", "image/png", b"\x89PNG")
    assert not os.path.exists(answer.output["path"]) and not os.path.exists(os.path.dirname(answer.output["path"]))


FAKE_NUMPY = """
class Array:
    def __init__(self, value): self.value = value
    def tolist(self): return self.value
"""


def test_arrays(model):
    started = model(
        FAKE_NUMPY + "def predict(): return {'a': Array([[1.5], [float('inf')]]), 'b': Array(3)}", qualname="predict"
    )
    assert started.predict().output == {"a": [[1.5], [None]], "b": 3}


def test_models_of_pydantic(model):
    """Stand-ins with the interface of both versions; the real ones are in test_cog_pydantic."""
    started = model(
        HEAD
        + """
class Two:
    def model_dump(self): return {"two": write("2.png")}
class One:
    __fields__ = {}
    def dict(self): return {"one": Colour.RED}
def predict(): return [Two(), One()]
""",
        qualname="predict",
    )
    answer = started.predict()
    assert answer.output == [{"two": None}, {"one": "red"}] and "/0/two" in answer.files


MEMOIZING = """
import os, types
from cog import BasePredictor, Path
from clunk._runner import cog_outputs
cog_outputs.TEMPORARY = os.environ["TEST_TMP"]
cog_outputs.REMEMBERED_MAX = 4
SIZE = int(os.environ["TEST_SIZE"])
def statvfs(folder):
    assert folder == os.environ["TEST_TMP"]
    return types.SimpleNamespace(f_blocks=SIZE, f_bfree=SIZE - len(os.listdir(folder)))
os.statvfs = statvfs
def made(name, folder):
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        with open(path, "w") as file: file.write(name)
    return Path(path)
class Predictor(BasePredictor):
    def setup(self):
        self.old = made("old", os.environ["TEST_TMP"])
    WORD predict(self, name: str, folder: str = os.environ["TEST_TMP"]) -> list:
        # A later tick of the clock of files than that of setup.
        seen = os.stat(self.old).st_ctime_ns
        while True:
            probe = made("probe", os.environ["TEST_ELSEWHERE"])
            later = os.stat(probe).st_ctime_ns > seen
            os.unlink(probe)
            if later: break
        return [made(name, folder), self.old]
"""


@pytest.fixture
def memoizing(model, tmp_path):
    """Starts the model that gives a file again; and lists what is in its temporary folder."""
    folders = {"TEST_TMP": tmp_path / "tmp", "TEST_ELSEWHERE": tmp_path / "elsewhere"}
    for folder in folders.values():
        folder.mkdir()

    def start(word="def", container="im-1", image="im-1", size=10):
        env = {name: str(folder) for name, folder in folders.items()}
        env.update(CLUNK_IMAGE_ID=container, TEST_SIZE=str(size))
        return model(MEMOIZING.replace("WORD", word), env=env, image_id=image)

    return start, lambda: {path.name for path in (tmp_path / "tmp").iterdir()}


@pytest.mark.parametrize("word", ["def", "async def"])
def test_files_in_tmp_stay_until_it_is_half_full(memoizing, tmp_path, word):
    start, names = memoizing
    started = start(word)

    def give(name, **folder):
        answer = started.predict(name=name, **folder)
        assert [answer.files[f"/{at}"][2].decode() for at in range(2)] == [name, "old"], answer.traceback
        return names()

    assert give("a") == give("a") == {"old", "a"}
    assert give("other", folder=str(tmp_path / "elsewhere")) == {"old", "a"}
    give("b")
    give("c")
    assert give("d") == {"old", "a", "b", "c", "d"}
    # It was given again: b is the oldest now.
    give("a")
    assert give("e") == {"old", "a", "c", "d", "e"}
    assert give("b") == {"old", "a", "d", "e", "b"}
    for name in "xyz":
        (tmp_path / "tmp" / name).touch()
    # What others put there stays, and so does a file that is another by now.
    (tmp_path / "tmp" / "d").rename(tmp_path / "d")
    (tmp_path / "tmp" / "d").touch()
    assert give("f") == {"old", "x", "y", "z", "d"}
    assert {path.name for path in (tmp_path / "elsewhere").iterdir()} == {"other"}


def test_files_in_tmp_that_are_remembered_no_more_stay(memoizing):
    start, names = memoizing
    started = start(size=16)
    for name in "abcdefgh":
        started.predict(name=name)
    assert names() == {"old", *"abcefgh"}


@pytest.mark.parametrize(("container", "image"), [("im-1", "im-model"), ("", "im-1"), ("", "")])
def test_no_file_goes_outside_a_container_of_the_platform(memoizing, container, image):
    start, names = memoizing
    started = start(container=container, image=image)
    for name in "abcdefgh":
        assert started.predict(name=name).error is None
    assert names() == {"old", *"abcdefgh"}
