"""Images: layers, caches, failed steps."""

import json
import os
import threading

import pytest

APP = """
import clunk
app = clunk.App("images")
image = clunk.Image.debian_slim(){steps}

@app.function(image=image)
def f():
    {body}
"""


def write(folder, steps="", body="return 1"):
    (folder / "app.py").write_text(APP.format(steps=steps, body=body))


def test_every_builder(home, tmp_path):
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "notes.txt").write_text("some notes")
    (tmp_path / "extra").mkdir()
    (tmp_path / "extra" / "data.txt").write_text("some data")
    steps = """\\
    .apt_install("tree").env({"COLOUR": "blue"}).workdir("/srv") \\
    .run_commands("echo $COLOUR > made.txt", "cat made.txt") \\
    .add_local_file("notes.txt", "/opt/notes.txt", copy=True) \\
    .dockerfile_commands("RUN echo docker > /srv/docker.txt", "ENV SHAPE=round") \\
    .uv_pip_install("cowsay") \\
    .add_local_dir("extra", "/opt/extra")"""
    body = """
    import os, shutil, cowsay
    read = lambda path: open(path).read().strip()
    return [os.getcwd(), read("/srv/made.txt"), read("/opt/notes.txt"), read("/srv/docker.txt"), os.environ["SHAPE"],
            os.environ["COLOUR"], read("/opt/extra/data.txt"), bool(shutil.which("tree"))]"""
    write(tmp_path, steps, body)
    out = home.ok("run", "--json", "app.py", cwd=tmp_path)
    assert json.loads(out) == ["/srv", "blue", "some notes", "docker", "round", "blue", "some data", True]


def test_run_function_is_kept_in_the_image(home, tmp_path):
    (tmp_path / "app.py").write_text("""
import clunk
app = clunk.App()

def download(name):
    with open("/weights.txt", "w") as file:
        file.write(name * 2)

image = clunk.Image.debian_slim().run_function(download, args=("ab",))

@app.function(image=image)
def f():
    return open("/weights.txt").read()
""")
    assert home.ok("run", "app.py", cwd=tmp_path).strip() == "abab"


def test_a_changed_step_builds_only_from_there(home, tmp_path):
    write(tmp_path, '.run_commands("echo one > /one").run_commands("echo two > /two")', 'return open("/two").read()')
    home.ok("run", "app.py", cwd=tmp_path)
    write(tmp_path, '.run_commands("echo one > /one").run_commands("echo three > /two")', 'return open("/two").read()')
    done = home.run("run", "app.py", cwd=tmp_path)
    assert done.stdout.strip() == "three"
    assert "echo three" in done.stderr and "echo one" not in done.stderr


def test_a_failed_step_shows_its_end_and_opens_a_shell_before_it(home, tmp_path):
    write(tmp_path, '.run_commands("echo kept > /kept").run_commands("echo some last words; ls /kept; exit 7")')
    done = home.run("run", "app.py", cwd=tmp_path)
    assert done.returncode == 1
    assert "some last words" in done.stderr and "exit 7" in done.stderr
    (hint,) = [line for line in done.stderr.splitlines() if "clunk shell --image im-" in line]
    image = hint[hint.index("im-") :].split()[0].strip("`.,;")
    shown = home.ok("shell", "--image", image, "--", "sh", "-c", "cat /kept; id -u")
    assert shown.split() == ["kept", "0"]


@pytest.mark.parametrize(
    ("steps", "wanted"),
    [
        ('.pip_install("no-such-package-of-clunk")', ["no-such-package-of-clunk"]),
        ('.apt_install("no-such-package-of-clunk")', ["no-such-package-of-clunk"]),
        ('.dockerfile_commands("RUN true", "COYP a b")', ["COYP", "COPY"]),
    ],
)
def test_mistakes_in_steps_are_named(home, tmp_path, steps, wanted):
    write(tmp_path, steps)
    done = home.run("run", "app.py", cwd=tmp_path)
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert all(word in done.stderr for word in wanted), done.stderr


def test_a_python_that_is_not_to_be_had(home, tmp_path):
    (tmp_path / "app.py").write_text(APP.replace("debian_slim()", "debian_slim('3.12')").format(steps="", body="return 1"))
    done = home.run("run", "app.py", cwd=tmp_path)
    assert done.returncode != 0 and "3.11" in done.stderr and "3.13" in done.stderr


def test_a_registry_that_does_not_answer(home, tmp_path):
    text = APP.replace("debian_slim()", "from_registry('127.0.0.1:9/some/image:1')").format(steps="", body="return 1")
    (tmp_path / "app.py").write_text(text)
    done = home.run("run", "app.py", cwd=tmp_path, timeout=60)
    assert done.returncode != 0 and "127.0.0.1:9" in done.stderr


def test_the_same_recipe_at_the_same_time_is_built_once(home, tmp_path):
    mark = os.urandom(4).hex()
    write(tmp_path, f'.run_commands("sleep 1; date +%s%N > /when; echo {mark}")', 'return open("/when").read()')
    shown = []
    threads = [threading.Thread(target=lambda: shown.append(home.ok("run", "app.py", cwd=tmp_path))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(shown) == 3 and len(set(shown)) == 1


def test_image_list_inspect_and_remove(home, tmp_path):
    mark = os.urandom(4).hex()
    write(tmp_path, f'.run_commands("echo {mark} > /mark")')
    home.ok("run", "app.py", cwd=tmp_path)
    images = json.loads(home.ok("image", "list", "--json"))
    (image,) = [image for image in images if mark in image["title"]]
    assert image["size_bytes"] > 10_000_000 > image["own_bytes"] > 0 and image["python"].startswith("3.")
    assert image["id"] in home.ok("image", "list")
    detail = json.loads(home.ok("image", "inspect", image["id"][:12], "--json"))
    assert detail["layers"][0]["shared"] and not detail["layers"][-1]["shared"]
    home.ok("image", "remove", image["id"])
    assert mark not in home.ok("image", "list")
    done = home.run("image", "inspect", image["id"])
    assert done.returncode == 3 and image["id"] in done.stderr


def test_the_hosts_certificates_are_trusted(home, tmp_path):
    body = """
    import ssl, os
    path = "/etc/ssl/certs/ca-certificates.crt"
    return len(open(path).read()), os.environ.get("SSL_CERT_FILE"), len(ssl.create_default_context().get_ca_certs()) > 0"""
    write(tmp_path, "", body)
    size, variable, loaded = json.loads(home.ok("run", "--json", "app.py", cwd=tmp_path))
    host = "/etc/ssl/certs/ca-certificates.crt"
    assert size == len(open(host).read()) and variable and loaded
