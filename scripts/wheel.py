"""Packs the release program and the SDK as a wheel: `scripts/wheel.py PROGRAM FOLDER`. Standard library only.

`pip install` of the wheel puts `clunk`, the program, into `bin`, and the package beside it.
"""

import base64
import hashlib
import platform
import re
import sys
import zipfile
from pathlib import Path

SDK = Path(__file__).resolve().parent.parent / "sdk/python"
# Files that a container starts; `clunk` finds them beside the package.
BESIDE = ("clunk_runner.py", "run_function.py")
EPOCH = (1980, 1, 1, 0, 0, 0)


def version():
    return re.search(r'__version__ = "(.+?)"', (SDK / "clunk/__init__.py").read_text()).group(1)


def tag():
    """The program runs where the C library is at least as new as here."""
    name, libc = platform.libc_ver()
    system = f"manylinux_{libc.replace('.', '_')}" if name == "glibc" else "linux"
    return f"py3-none-{system}_{platform.machine()}"


def contents(program, info):
    """`(path in the wheel, bytes, mode)` of each file."""
    for path in sorted((SDK / "clunk").rglob("*")):
        if path.is_file() and path.suffix in (".py", ".pyi", ".typed") or path.name == "py.typed":
            yield path.relative_to(SDK).as_posix(), path.read_bytes(), 0o644
    for name in BESIDE:
        if (SDK / name).exists():
            yield name, (SDK / name).read_bytes(), 0o644
    yield f"clunk-{version()}.data/scripts/clunk", Path(program).read_bytes(), 0o755
    readme = (SDK / "README.md").read_text()
    head = f"Metadata-Version: 2.1\nName: clunk\nVersion: {version()}\nRequires-Python: >=3.9\nLicense: Apache-2.0\n"
    summary = "Summary: Your Python functions in containers, on machines that you own\n"
    kind = "Description-Content-Type: text/markdown\n"
    yield f"{info}/METADATA", f"{head}{summary}{kind}\n{readme}".encode(), 0o644
    wheel = f"Wheel-Version: 1.0\nGenerator: clunk\nRoot-Is-Purelib: false\nTag: {tag()}\n"
    yield f"{info}/WHEEL", wheel.encode(), 0o644


def main():
    program, folder = sys.argv[1:]
    info = f"clunk-{version()}.dist-info"
    path = Path(folder, f"clunk-{version()}-{tag()}.whl")
    path.parent.mkdir(parents=True, exist_ok=True)
    record = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:

        def add(name, data, mode):
            # The same input makes the same file, byte for byte.
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.external_attr = (0o100000 | mode) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            wheel.writestr(entry, data)

        for name, data, mode in contents(program, info):
            add(name, data, mode)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record.append(f"{name},sha256={digest},{len(data)}\n")
        record.append(f"{info}/RECORD,,\n")
        add(f"{info}/RECORD", "".join(record).encode(), 0o644)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
