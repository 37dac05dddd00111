"""`clunk run`: starts the app of a file and its entry point, or one function of it."""

import os
import signal
import sys

from . import arguments as _arguments
from .errors import DONE, FAILED, INTERRUPTED, Exit, usage
from .refs import Target, find_target, load, parse_ref

HELP = """\
Run a function of a Python file in a container.

  clunk run hello.py                     the only entry point, or the only function
  clunk run hello.py::square --x 3       one of them, with arguments
  clunk run -m package.module::main      a module by its name
  clunk run hello.py::main --help        what it takes

usage: clunk run [OPTIONS] FILE[::NAME] [ARGUMENTS]

options, before FILE:
  -m, --module          FILE is the name of a module
  --local               run everything in this process: no server, no container
  -d, --detach          the app lives on until its last call has ended, whatever happens here
  --json                print the returned value as JSON
  -w, --write-result F  write the returned text or bytes to a file
  -n, --name NAME       name of the app
  -q, --quiet           print only what the function prints
  -h, --help            this text
"""


class Options:
    def __init__(self):
        self.module = False
        self.local = False
        self.detach = False
        self.json = False
        self.quiet = False
        self.name = None
        self.write_result = None
        self.ref = None
        self.rest = []


_SWITCHES = {
    "-m": "module",
    "--module": "module",
    "--local": "local",
    "-d": "detach",
    "--detach": "detach",
    "--json": "json",
    "-q": "quiet",
    "--quiet": "quiet",
}
_VALUES = {"-n": "name", "--name": "name", "-w": "write_result", "--write-result": "write_result"}


def parse_options(words):
    """Options of ours stand before FILE; what follows belongs to the function."""
    options = Options()
    words = list(words)
    while words:
        word = words.pop(0)
        flag, equals, value = word.partition("=")
        if word in _SWITCHES:
            setattr(options, _SWITCHES[word], True)
        elif flag in _VALUES and (equals or words):
            setattr(options, _VALUES[flag], value if equals else words.pop(0))
        elif flag in _VALUES:
            raise usage(f"{flag} needs a value")
        elif word in ("-h", "--help"):
            print(HELP, end="")
            raise Exit(DONE)
        elif word in ("-i", "--interactive", "-e", "--env"):
            raise usage(f"{word} is not available yet")
        elif word == "-":
            raise usage("a script from standard input is not available yet", "write it to a file")
        elif word.startswith("-"):
            known = [*_SWITCHES, *_VALUES, "--help"]
            raise usage(f"unknown option {word}", _arguments.nearest(flag, known) or "clunk run --help")
        else:
            options.ref = word
            options.rest = words
            return options
    raise usage("no file to run", "clunk run FILE")


def run(words):
    options = parse_options(words)
    path, name = parse_ref(options.ref)
    module = load(path, options.module, options.rest)
    target = find_target(module, name, options.ref.partition("::")[0], options.module)
    signature = _arguments.Signature(target.raw, target.command, target.parameters)
    if any(word in ("--help", "-h") for word in options.rest) and not signature.takes_raw:
        print(signature.help(), end="")
        return DONE
    args, kwargs = signature.parse(options.rest)
    try:
        return start(target, options, args, kwargs)
    except KeyboardInterrupt:
        return INTERRUPTED


def start(target: Target, options, args, kwargs):
    """Runs the app around the entry point; the exit code."""
    from clunk.output import Output

    if options.local:
        from clunk._local import LocalSession

        target.app._session = session = LocalSession()
        try:
            value, error = outcome(target, args, kwargs)
        finally:
            session.stop()
    else:
        from clunk._session import RunContext

        second_interrupt_ends()
        output = Output(words=not options.quiet)
        with RunContext(target.app, name=options.name, output=output, detach=options.detach) as app:
            if options.detach:
                output.say(f"{app.app_id} lives on until its last call has ended; follow it: clunk logs {app.app_id}")
            value, error = outcome(target, args, kwargs, options.detach)
    # The last lines of the containers have been printed by now, so the value comes after them.
    if error is not None:
        return show_error(error)
    deliver(value, target, options)
    return DONE


def outcome(target, args, kwargs, detach=False):
    """`(value, None)` or `(None, exception)` of the entry point."""
    try:
        if target.is_remote:
            return call(target.bind(kwargs), args, kwargs, detach), None
        value = target.raw(*args, **kwargs)
        if hasattr(type(value), "__await__"):
            import asyncio

            value = asyncio.run(value)
        return value, None
    except Exception as error:
        return None, error


def call(function, args, kwargs, detach):
    """The value of a function; what a generator yields is printed as it comes."""
    if function._is_generator:
        for value in function.remote_gen(*args, **kwargs):
            print(value, flush=True)
        return None
    if detach:
        # This call outlives us as well.
        return function.spawn(*args, **kwargs).get()
    return function.remote(*args, **kwargs)


def show_error(error):
    """An exception of user code, as the interpreter shows it; one of ours, as a command shows it."""
    from clunk import exception

    if isinstance(error, exception.Error):
        raise error
    from clunk._traceback import show

    sys.stdout.flush()
    show(error)
    hint = missing_module_hint(error)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)
    return FAILED


def missing_module_hint(error):
    """How a module that is here gets into the container."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return None
    import importlib.util

    name = error.name.partition(".")[0]
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        return None
    place = spec.origin or next(iter(spec.submodule_search_locations or ()), "")
    if "site-packages" in place or "dist-packages" in place:
        return f'{name} is installed here but not in the image: add .pip_install("{name}") to it'
    return f'{name} is outside the project that was sent: add .add_local_python_source("{name}") to the image'


def deliver(value, target, options):
    """Prints or writes what was returned."""
    if options.json:
        import json

        try:
            text = json.dumps(value)
        except (TypeError, ValueError) as error:
            raise Exit(FAILED, f"the returned {type(value).__qualname__} has no JSON form: {error}") from None
        value = text + "\n" if options.write_result else text
    if options.write_result:
        write_result(value, options.write_result)
    elif isinstance(value, bytes) and target.is_remote:
        sys.stdout.buffer.write(value)
    elif value is not None and (target.is_remote or options.json):
        print(value)


def write_result(value, path):
    if not isinstance(value, (str, bytes)):
        raise Exit(
            FAILED,
            f"--write-result takes text or bytes, the function returned {type(value).__qualname__}",
            "add --json to write it as JSON",
        )
    data = value.encode() if isinstance(value, str) else value
    try:
        with open(path, "wb") as file:
            file.write(data)
    except OSError as error:
        raise Exit(FAILED, f"cannot write {path}: {error.strerror}") from None


def second_interrupt_ends():
    """The first Ctrl-C stops the app and ends; the second one ends at once: the app's lease ends with this process."""
    pressed = []

    def handle(number, frame):
        if pressed:
            os._exit(INTERRUPTED)
        pressed.append(number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, handle)
