"""What a model gives: text as it comes, files saved, the rest as JSON."""

import json
import os
import re
import sys

from .errors import FAILED, Exit
from .inputs import resolved

# Names that output files get: beyond this many something is wrong with the names, not with their number.
NAMES_MAX = 100_000
# File systems take 255 bytes; a number may be added. Characters.
NAME_LEN_MAX = 60

# What is a file wherever it stands: a data URL, and a URL that the server has signed for one.
_FILE = re.compile(r"data:[^,]{0,200};base64,|https?://[^/]+/files/[^/?]+/[^/?]+\?expiry=\d+&signature=")


class Show:
    """The output of one prediction on its way to the terminal and the disk."""

    def __init__(self, client, document, options, kind):
        self.client = client
        self.json = options.json
        schemas = document["components"]["schemas"]
        self.schema = resolved(schemas, schemas.get("TrainingOutput" if kind == "training" else "Output", {}))
        self.is_iterator = self.schema.get("x-cog-array-type") == "iterator"
        self.is_text = self.schema.get("x-cog-array-display") == "concatenate"
        self.target = Target(options.output)
        # Weights stay where they are, unless somebody asks for them.
        self.saves = options.output is not None or (kind == "prediction" and not options.json)
        # Files that were saved, by their keys, to their paths.
        self.saved = {}
        self.chunks = 0
        self.ends_line = True

    def take(self, value):
        """One output, or one chunk of an iterator, as it comes."""
        schema = self.schema.get("items", {}) if self.is_iterator else self.schema
        files = list(find_files(schema, value))
        self.chunks += 1
        if files and self.saves:
            self._save(files)
            if self.json:
                return
            value = replaced(value, self.saved)
            if self.target.path == "-":
                return
            self._print(value)
        elif self.target.path is not None and not self.json:
            self.target.write_text(self._text(value))
        elif not self.json:
            self._print(value)

    def _save(self, urls):
        from clunk._client.predictions import fetch

        fetched = [(url, *fetch(self.client, url)) for url in urls]
        names = [safe_name(name) for _, _, name in fetched]
        for (url, pieces, _), name in zip(fetched, names):
            many = len(names) > 1 if self.target.is_file else names.count(name) > 1
            self.saved[file_key(url)] = self.target.write(pieces, name, many or self.is_iterator)

    def _text(self, value):
        if self.is_text:
            return value if isinstance(value, str) else json.dumps(value)
        return (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)) + "\n"

    def _print(self, value):
        if value is None:
            return
        if isinstance(value, list) and all(isinstance(item, str) for item in value) and self.saved:
            text = "".join(f"{item}\n" for item in value)
        else:
            text = self._text(value)
        try:
            sys.stdout.write(text)
        except UnicodeEncodeError:
            sys.stdout.write(text.encode(sys.stdout.encoding, "backslashreplace").decode(sys.stdout.encoding))
        sys.stdout.flush()
        self.ends_line = text.endswith("\n")

    def end(self, prediction):
        """The end: of a text the line's end, for `--json` the whole prediction."""
        self.target.close()
        if self.json:
            whole = {**prediction, "output": replaced(prediction.get("output"), self.saved)}
            print(json.dumps(whole, ensure_ascii=False))
        elif not self.ends_line:
            print(flush=True)


class Target:
    """Where `-o` sends outputs: a file, a folder, `-` for standard output, or files of their own names here."""

    def __init__(self, path):
        self.path = path
        self.is_folder = path is not None and (path.endswith("/") or os.path.isdir(path))
        self.is_file = path is not None and not self.is_folder
        self.written = 0
        self.text = None

    def write(self, pieces, name, many):
        """Writes one file; its path."""
        if self.path == "-":
            try:
                for piece in pieces:
                    sys.stdout.buffer.write(piece)
                sys.stdout.buffer.flush()
            except BrokenPipeError:
                raise
            except OSError as error:
                raise Exit(FAILED, f"cannot write to standard output: {error.strerror}") from None
            return "-"
        path = self._place(name, many)
        self.written += 1
        try:
            if os.path.dirname(path):
                os.makedirs(os.path.dirname(path), exist_ok=True)
            self._put(path, pieces)
        except OSError as error:
            raise Exit(FAILED, f"cannot write {path}: {error.strerror}", "name another place: -o FILE") from None
        return path

    def _put(self, path, pieces):
        """Nothing of the name is there before all of it is. What is no file, such as /dev/null, is written to."""
        if os.path.exists(path) and not os.path.isfile(path):
            with open(path, "wb") as file:
                file.writelines(pieces)
            return
        # A link stays one.
        path = os.path.realpath(path)
        part = f"{path}.part-{os.getpid()}"
        try:
            with open(part, "wb") as file:
                file.writelines(pieces)
            os.replace(part, path)
        except BaseException:
            if os.path.lexists(part):
                os.unlink(part)
            raise

    def _place(self, name, many):
        if self.is_file:
            stem, ending = os.path.splitext(self.path)
            return f"{stem}.{self.written}{ending or os.path.splitext(name)[1]}" if many else self.path
        folder = self.path or ""
        stem, ending = os.path.splitext(name)
        first = f"{stem}.{self.written}{ending}" if many else name
        if self.path is not None:
            return os.path.join(folder, first)
        # Nobody asked for this name: what lies there stays.
        return next(
            place
            for place in (first, *(f"{stem}-{number}{ending}" for number in range(1, NAMES_MAX)))
            if not os.path.lexists(place)
        )

    def write_text(self, text):
        """Adds a piece of text to the one file."""
        try:
            if self.text is None:
                if self.path == "-":
                    self.text = sys.stdout
                else:
                    path = os.path.join(self.path, "output.txt") if self.is_folder else self.path
                    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
                    self.text = open(path, "w", encoding="utf-8")
            self.text.write(text)
            self.text.flush()
        except OSError as error:
            raise Exit(FAILED, f"cannot write {self.path}: {error.strerror}", "name another place: -o FILE") from None

    def close(self):
        if self.text not in (None, sys.stdout):
            self.text.close()


def safe_name(name):
    """The name that a model gave a file as that of a plain file: no folder, nothing hidden, nothing for terminals."""
    name = "".join(letter for letter in os.path.basename(name) if letter.isprintable()).lstrip(".")
    return name[-NAME_LEN_MAX:] or "output"


def find_files(schema, value):
    """The URLs of files in an output: where the schema says so, and data URLs wherever they are."""
    if isinstance(value, str):
        if schema.get("format") == "uri" or _FILE.match(value):
            yield value
    elif isinstance(value, list):
        for item in value:
            yield from find_files(schema.get("items") or {}, item)
    elif isinstance(value, dict):
        for key, item in value.items():
            inner = schema.get("properties", {}).get(key) or schema.get("additionalProperties") or {}
            yield from find_files(inner if isinstance(inner, dict) else {}, item)
    for variant in schema.get("anyOf", ()):
        yield from find_files(variant, value)


def file_key(url):
    """What stays the same of a file's URL: the server signs anew for each answer."""
    return url if url.startswith("data:") or not _FILE.match(url) else url.partition("?")[0].split("/", 3)[3]


def replaced(value, paths):
    """An output with the paths of its saved files in the place of their URLs."""
    if isinstance(value, str):
        return paths.get(file_key(value), value)
    if isinstance(value, list):
        return [replaced(item, paths) for item in value]
    if isinstance(value, dict):
        return {key: replaced(item, paths) for key, item in value.items()}
    return value
