"""Reads an OCI image the way an engine does, and runs it with runc, without anything of ours."""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import tarfile
import time
import uuid

RUNC = shutil.which("runc", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
_STOP_S = 20


class Layout:
    """An OCI layout in a folder; every blob is checked against its name."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        assert json.loads((self.folder / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
        (self.entry,) = json.loads((self.folder / "index.json").read_text())["manifests"]
        self.manifest = json.loads(self.blob(self.entry))
        self.config = json.loads(self.blob(self.manifest["config"]))

    def path(self, descriptor):
        return self.folder / "blobs" / descriptor["digest"].replace(":", "/")

    def blob(self, descriptor):
        data = self.path(descriptor).read_bytes()
        assert len(data) == descriptor["size"]
        assert "sha256:" + hashlib.sha256(data).hexdigest() == descriptor["digest"]
        return data

    def unpack(self, root):
        """The image's file system, layer upon layer."""
        root.mkdir()
        for layer, diff_id in zip(self.manifest["layers"], self.config["rootfs"]["diff_ids"]):
            self.blob(layer)
            assert _digest_of_content(self.path(layer)) == diff_id
            with tarfile.open(self.path(layer), "r:gz") as archive:
                for member in archive:
                    _apply(archive, member, root)


def _digest_of_content(path):
    import gzip

    with gzip.open(path) as content:
        digest = hashlib.sha256()
        while data := content.read(1 << 20):
            digest.update(data)
    return "sha256:" + digest.hexdigest()


def _apply(archive, member, root):
    place = root / member.name
    if place.name == ".wh..wh..opq":
        for child in place.parent.iterdir():
            _remove(child)
    elif place.name.startswith(".wh."):
        _remove(place.with_name(place.name[len(".wh.") :]))
    else:
        if os.path.lexists(place) and not (member.isdir() and place.is_dir() and not place.is_symlink()):
            _remove(place)
        archive.extract(member, root, numeric_owner=True)


def _remove(path):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink()


@contextlib.contextmanager
def running(layout, bundle, port):
    """The image in a container of runc's with this machine's network, until the block ends. Gives the process."""
    root = bundle / "rootfs"
    bundle.mkdir()
    layout.unpack(root)
    asked = layout.config["config"]
    spec = json.loads(_spec(bundle))
    spec["root"] = {"path": "rootfs", "readonly": False}
    # A container of its own network would need somebody to set that up.
    spec["linux"]["namespaces"] = [each for each in spec["linux"]["namespaces"] if each["type"] != "network"]
    process = spec["process"]
    process["terminal"] = False
    process["args"] = [*asked.get("Entrypoint", []), *asked.get("Cmd", [])]
    process["env"] = [*asked["Env"], f"PORT={port}"]
    process["cwd"] = asked.get("WorkingDir") or "/"
    (bundle / "config.json").write_text(json.dumps(spec))
    name = f"clunk-test-{uuid.uuid4().hex[:12]}"
    log = open(bundle / "log", "wb")
    child = subprocess.Popen(
        [RUNC, "run", "--bundle", str(bundle), name], stdin=subprocess.DEVNULL, stdout=log, stderr=log
    )
    try:
        yield child
    finally:
        subprocess.run([RUNC, "kill", name, "KILL"], capture_output=True)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(_STOP_S)
        child.kill()
        child.wait()
        subprocess.run([RUNC, "delete", "--force", name], capture_output=True)
        log.close()


def _spec(bundle):
    subprocess.run([RUNC, "spec", "--bundle", str(bundle)], check=True, capture_output=True)
    return (bundle / "config.json").read_text()


def answer_when_ready(port, bundle, child, limit_s=60):
    """Waits until the model's server says that it is ready."""
    import urllib.request

    end = time.monotonic() + limit_s
    while True:
        assert child.poll() is None, f"the container ended: {(bundle / 'log').read_text()}"
        assert time.monotonic() < end, f"not ready: {(bundle / 'log').read_text()}"
        with contextlib.suppress(OSError):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health-check", timeout=5) as answer:
                health = json.load(answer)
                if health["status"] == "READY":
                    return health
        time.sleep(0.02)
