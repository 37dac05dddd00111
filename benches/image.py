"""Images in a fresh state folder: the first build, a package's layer with warm downloads, an edited source file."""

import os
import shutil
import tempfile
import textwrap
import time
from pathlib import Path

from common import Clunk, Report, arguments, median


def write_app(path, steps, answer):
    path.write_text(
        textwrap.dedent(f"""\
            import clunk

            app = clunk.App("bench-image")


            @app.function(image=clunk.Image.debian_slim(){steps})
            def answer():
                return {answer}


            @app.local_entrypoint()
            def main():
                print(answer.remote())
            """)
    )


def run(clunk, path, answer):
    """Seconds of the whole command, and how many build steps ran."""
    began = time.perf_counter()
    done = clunk("run", path)
    took = time.perf_counter() - began
    assert done.stdout.split()[-1] == str(answer), done.stdout
    return took, sum("building" in line for line in done.stderr.splitlines())


def measure(clunk, folder, report, rounds):
    path = folder / "app.py"
    write_app(path, "", 1)
    first, _ = run(clunk, path, 1)
    report.add("first clunk run, debian_slim built", first, "s", 60)

    write_app(path, '.pip_install("cowsay")', 2)
    cold, _ = run(clunk, path, 2)
    report.add("a pip layer, nothing downloaded yet", cold, "s")
    write_app(path, '.pip_install("cowsay", force_build=True)', 3)
    report.add("a pip layer, downloads cached", median([run(clunk, path, 3)[0] for _ in range(rounds)]), "s", 3)

    edited = []
    for answer in range(10, 10 + rounds):
        write_app(path, '.pip_install("cowsay")', answer)
        edited.append(run(clunk, path, answer))
    report.add("an edited source file, whole command", median([took for took, _ in edited]), "s")
    report.add("build steps after the edit", max(steps for _, steps in edited), "steps", 0)


def main():
    options = arguments(__doc__)
    # Containers' users must be able to walk to the state folder.
    folder = Path(tempfile.mkdtemp(prefix="clunk-bench-", dir="/var/tmp"))
    os.chmod(folder, 0o755)
    clunk = Clunk(options.clunk, CLUNK_HOME=str(folder / "home"))
    report = Report("image", options.quick)
    clunk("up", "--port", 0)
    try:
        measure(clunk, folder, report, 1 if options.quick else 5)
    finally:
        clunk("down", check=False)
        shutil.rmtree(folder, ignore_errors=True)
    report.finish()


if __name__ == "__main__":
    main()
