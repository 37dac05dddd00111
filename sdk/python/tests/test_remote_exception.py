"""Exceptions of a container, made again."""

import pickle
import traceback

import pytest

from clunk import exception
from clunk._client.remote_exception import RemoteExceptions
from clunk._runner import failure


class Picky(Exception):
    """Has a pickle that cannot be loaded."""

    def __init__(self, one, two):
        super().__init__(f"{one} {two}")


def caught(raise_it):
    try:
        raise_it()
    except BaseException as error:
        return error


def there_and_back(error, folders=(("/root", "/home/me/project"),)):
    pieces = failure.package(error)
    return RemoteExceptions(list(folders)).from_body(b"".join(pieces.parts))


def test_type_message_attributes_and_frames():
    def inner():
        error = KeyError("k")
        error.extra = [1, 2]
        raise error

    made = there_and_back(caught(inner))
    assert (type(made), made.args, made.extra) == (KeyError, ("k",), [1, 2])
    names = [frame.name for frame in traceback.extract_tb(made.__traceback__)]
    assert names == ["caught", "inner"]


def chain():
    try:
        try:
            raise ValueError("first")
        except ValueError:
            raise TypeError("second")
    except TypeError as error:
        raise KeyError("third") from error


def hidden():
    try:
        raise ValueError("first")
    except ValueError:
        raise KeyError("second") from None


def test_causes_and_contexts_are_kept():
    made = there_and_back(caught(chain))
    assert isinstance(made.__cause__, TypeError)
    assert isinstance(made.__cause__.__context__, ValueError)
    assert made.__suppress_context__ is True
    text = "".join(traceback.format_exception(type(made), made, made.__traceback__))
    assert text.index("first") < text.index("During handling") < text.index("direct cause") < text.index("third")
    made = there_and_back(caught(hidden))
    assert (made.__cause__, made.__context__, made.__suppress_context__) == (None, None, True)


def test_a_cycle_ends():
    one, two = ValueError("1"), ValueError("2")
    one.__cause__, two.__cause__ = two, one
    made = there_and_back(one)
    assert str(made.__cause__) == "2"
    assert made.__cause__.__cause__ is None


def test_what_cannot_be_raised_here_becomes_text():
    for error, reason in (
        (Picky(1, 2), "missing 1 required positional argument"),
        (SystemExit(3), "it would end this program"),
        (KeyboardInterrupt(), "it would end this program"),
    ):
        made = there_and_back(error)
        assert type(made) is exception.RemoteError
        assert made.type.endswith(type(error).__name__)
        assert reason in made.message


def test_a_class_that_is_not_here():
    package = {
        "exception": b"\x80\x04\x8c\x07nowhere\x8c\x01X\x93.",
        "type": "nowhere.X",
        "message": "m",
        "frames": [("/root/a.py", 3, "f", "raise X")],
        "traceback": "Traceback ...\nnowhere.X: m\n",
        "cause": None,
        "context": None,
    }
    made = RemoteExceptions([("/root", "/p")]).from_body(pickle.dumps(package))
    assert type(made) is exception.RemoteError
    assert "nowhere.X: m" in str(made) and "No module named 'nowhere'" in str(made)
    assert made.__traceback__.tb_frame.f_code.co_filename == "/p/a.py"


def test_paths_are_those_of_this_machine():
    exceptions = RemoteExceptions([("/root", "/home/me"), ("/root/lib", "/other/lib")])
    assert exceptions.local_path("/root/a/b.py") == "/home/me/a/b.py"
    assert exceptions.local_path("/root/lib/x.py") == "/other/lib/x.py"
    assert exceptions.local_path("/usr/lib/python3/json.py") is None
    assert exceptions.local_path("/rooted/a.py") is None


def test_lines_of_files_that_are_only_in_the_container_are_shown():
    frames = [("/usr/lib/x.py", 70, "f", "return g(1)"), ("/usr/lib/x.py", 9, "g", "raise E"), ("/usr/z.py", 1, "h")]
    body = pickle.dumps({"exception": pickle.dumps(ValueError("v")), "frames": frames})
    made = RemoteExceptions([]).from_body(body)
    text = "".join(traceback.format_exception(type(made), made, made.__traceback__))
    assert '  File "container:/usr/lib/x.py", line 70, in f\n    return g(1)\n' in text
    assert '  File "container:/usr/lib/x.py", line 9, in g\n    raise E\n' in text
    assert "^" not in text and "~" not in text


def test_a_body_that_is_no_package():
    made = RemoteExceptions([]).from_body(b"nonsense")
    assert type(made) is exception.RemoteError


def test_errors_of_ours_keep_code_and_hint():
    error = exception.NotFoundError("m", hint="h", code="not-found")
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.message, copy.hint, copy.code, str(copy)) == ("m", "h", "not-found", "m\nhint: h")


@pytest.mark.parametrize("name", [name for name in dir(exception) if not name.startswith("_")])
def test_every_exception_has_words(name):
    assert getattr(exception, name).__doc__
