"""A Cog model is loaded: its file, its class or function, and what `setup` prepares."""

import _frozen_importlib as bootstrap
import _frozen_importlib_external as external
import os
import sys

from cog.predictor import user_method

from clunk.exception import ExecutionError

from .cog import SHIMS
from .cog_inputs import Plan, Signature, evaluate, flags_of
from .main import CO_ASYNC_GENERATOR, CO_COROUTINE, PROJECT_ROOT

# What is looked for in a file when no name is given.
DEFAULT_NAMES = ("Runner", "Predictor")
ASYNC = CO_COROUTINE | CO_ASYNC_GENERATOR


def load(runner, fields):
    """Gives the runner what calls run. The user's code has been set up then."""
    root = fields.get("source_root") or PROJECT_ROOT
    _make_room(root)
    runner.is_training = fields.get("task") == "train"
    runner.api_url = (fields.get("api_url") or "").rstrip("/") or None
    module = load_file(root, fields["module"])
    # Programs that are started anew import no main module then, as with Cog.
    sys.modules["__main__"] = type(sys)("__main__")
    found = _find(module, fields["module"], fields.get("qualname"))
    if isinstance(found, type):
        name = _method(found, runner.is_training)
        if flags_of(getattr(found, name)) & ASYNC and "asyncio" in sys.modules:
            from .tasks import event_loop

            # What `__init__` and `setup` make for asyncio belongs to the loop that the calls will run on.
            event_loop()
        instance = found()
        function = getattr(instance, name)
        shown = f"{found.__qualname__}.{name}"
    elif callable(found):
        instance, function, shown = None, found, fields.get("qualname")
    else:
        raise ExecutionError(f"{fields['module']}:{fields['qualname']} is neither a class nor a function")
    runner.function, runner.name = function, shown
    runner.is_async = bool(flags_of(function) & ASYNC)
    if runner.concurrency > 1 and not runner.is_async:
        raise ExecutionError(
            f"{shown} is not async, so it can take one prediction at a time, not {runner.concurrency}",
            hint="write `async def`, or set concurrency to 1 in cog.yaml or @cog.concurrent",
        )
    runner.plan = Plan(function, bound=hasattr(function, "__self__"))
    if instance is not None:
        runner.health = getattr(instance, "healthcheck", None)
        _set_up(runner, instance)


def _make_room(root):
    """The model finds its files and `cog` where Cog has them, and so do programs that it starts."""
    sys.path.insert(0, SHIMS)
    try:
        os.chdir(root)
    except OSError as error:
        raise ExecutionError(f"the model's folder {root} cannot be entered: {error.strerror}") from None
    inherited = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = f"{SHIMS}:{inherited}" if inherited else SHIMS


def load_file(root, path):
    """The module of a file of the model."""
    full = os.path.join(root, path)
    if not os.path.isfile(full):
        raise ExecutionError(f"the model has no file {path} in {root}", hint="cog.yaml names it, as predict or train")
    name = os.path.splitext(os.path.basename(path))[0]
    if name in sys.modules:
        name = f"cog_model_{name}"
    loader = external.SourceFileLoader(name, full)
    spec = external.spec_from_file_location(name, full, loader=loader)
    module = bootstrap.module_from_spec(spec)
    sys.modules[name] = module
    try:
        loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _find(module, path, qualname):
    if not qualname:
        for name in DEFAULT_NAMES:
            if hasattr(module, name):
                return getattr(module, name)
        raise ExecutionError(f"{path} defines neither {' nor '.join(DEFAULT_NAMES)}")
    found = module
    for part in qualname.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            classes = [name for name, value in vars(module).items() if _defined_in(value, module)]
            raise ExecutionError(
                f"{path} defines no {qualname}",
                hint=f"it defines {', '.join(sorted(classes)) or 'nothing'}; cog.yaml says which is run",
            ) from None
    return found


def _defined_in(value, module):
    return callable(value) and getattr(value, "__module__", None) == module.__name__


def _method(cls, is_training):
    """The name of the method that calls run."""
    if is_training and callable(getattr(cls, "train", None)):
        return "train"
    has_run = user_method(cls, "run") is not None
    has_predict = user_method(cls, "predict") is not None
    if has_run and has_predict:
        raise ExecutionError(f"{cls.__qualname__} defines run() and predict(): it must have one of them, not both")
    if not has_run and not has_predict:
        raise ExecutionError(f"{cls.__qualname__} defines neither run() nor predict()")
    return "run" if has_run else "predict"


def _set_up(runner, instance):
    setup = getattr(instance, "setup", None)
    if setup is None:
        return
    value = setup(**_weights(runner, setup))
    if hasattr(type(value), "__await__"):
        from .tasks import run_to_end

        run_to_end(value)


def _weights(runner, setup):
    """The argument `weights` of `setup`, if it takes one: what COG_WEIGHTS says, in the form that is asked for."""
    if getattr(getattr(setup, "__func__", None), "__module__", None) == "cog.predictor":
        return {}
    signature = Signature(setup, bound=hasattr(setup, "__self__"))
    if "weights" not in signature.names:
        return {}
    given = os.environ.get("COG_WEIGHTS")
    if not given:
        return {} if "weights" in signature.defaults else {"weights": None}
    annotation = signature.annotations.get("weights")
    if isinstance(annotation, str):
        annotation = evaluate(annotation, signature.scope)
    members = [each for each in getattr(annotation, "__args__", (annotation,)) if each is not type(None)]
    from .cog_converters import File, Path, is_url
    from .cog_types import converter

    found = converter(members[0], signature.scope) if len(members) == 1 else None
    if not isinstance(found, Path):
        return {"weights": given}
    # What is fetched stays for as long as the replica lives.
    files = runner.files()
    files.name = "weights"
    if not isinstance(found, File) and is_url(given):
        return {"weights": _remote_path(given, files)}
    found.find(given, files)
    files.fetch()
    return {"weights": found.convert(given, files)}


def _remote_path(url, files):
    """A path whose text is the URL, as models expect of their weights, and which is fetched when it is opened."""
    from cog.types import Path

    def fetch():
        files.add(url)
        files.fetch()
        return files.path(url)

    path = Path.validate(url)
    path._fetch = fetch
    return path
