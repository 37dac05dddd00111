"""The parameters of `App` and `@app.function`: what they mean to the engine, and what it lacks."""

from . import _check
from .exception import InvalidError, UnimplementedError

# Limits of the engine. Seconds, but for the last two.
TIMEOUT_MAX = 86_400
SCALEDOWN_MAX = 3600
CONTAINERS_MAX = 10_000
CPU_MAX = 1024.0
MEMORY_MAX_MIB = 64 << 20

# Parameters that are known and do nothing yet; a set one raises.
UNAVAILABLE = (
    "secrets volumes schedule retries enable_memory_snapshot ephemeral_disk region cloud routing_region "
    "buffer_containers experimental_options serialized proxy nonpreemptible restrict_modal_access i6pn "
    "network_file_systems keep_warm concurrency_limit allow_concurrent_inputs container_idle_timeout max_inputs"
).split()
AVAILABLE = (
    "image gpu timeout env scaledown_window max_containers min_containers startup_timeout cpu memory block_network "
    "single_use_containers is_generator include_source"
).split()
# Old names and what replaced them.
RENAMED = {
    "keep_warm": "min_containers",
    "concurrency_limit": "max_containers",
    "container_idle_timeout": "scaledown_window",
    "max_inputs": "single_use_containers",
}


def check_app(name, image, secrets, volumes, tags):
    owner = "App" if name is None else f"App {name!r}"
    if name is not None and not isinstance(name, str):
        raise InvalidError(f"the name of an App must be text, not {name!r}")
    check_image(owner, image)
    _check.refuse_unavailable(owner, {"secrets": secrets, "volumes": volumes, "tags": tags})


def check_image(owner, image):
    from .image import Image

    if image is not None and not isinstance(image, Image):
        raise InvalidError(f"{owner}: image must be a clunk.Image, not {image!r}")


def check_function(app, function, name, options):
    """The options of `@app.function`, checked."""
    owner = f"function {getattr(function, '__qualname__', function)!s}"
    if not callable(function):
        raise InvalidError(f"@app.function() decorates functions, not {function!r}")
    if isinstance(function, type):
        raise InvalidError(f"@app.function() decorates functions, not the class {function.__name__}")
    check_names(owner, options)
    if "<locals>" in function.__qualname__:
        raise InvalidError(
            f"{owner} is defined inside another function, where a container cannot find it",
            hint="move it to the top of the file",
        )
    if name is not None:
        _check.text(owner, "name", name)
    taken = app._functions.get(name or function.__qualname__)
    if taken is not None and not same_place(taken._clunk_function, function):
        raise InvalidError(f"the app has two functions named {name or function.__qualname__}", hint="pass name= to one")
    if options.get("is_generator") or is_generator(function):
        raise UnimplementedError(
            f"{owner} is a generator, which is not available yet", hint="return a list instead of yielding"
        )
    check_image(owner, options.get("image"))
    return dict(options, **spec_fields(owner, options))


def check_names(owner, options):
    for key in options:
        if key in RENAMED:
            raise InvalidError(f"{owner}: `{key}` is now called `{RENAMED[key]}`")
        if key not in AVAILABLE and key not in UNAVAILABLE:
            from difflib import get_close_matches

            near = get_close_matches(key, AVAILABLE + UNAVAILABLE, 1)
            hint = f"did you mean `{near[0]}`?" if near else None
            raise InvalidError(f"{owner}: @app.function() has no parameter `{key}`", hint=hint)
    _check.refuse_unavailable(owner, {key: options.get(key) for key in UNAVAILABLE})


def spec_fields(owner, options):
    """`_resources`, `_policy` and `_env`: parts of the function's record as the server takes it."""
    cpu, cpu_limit = _check.request_and_limit(owner, "cpu", options.get("cpu"), 0.001, CPU_MAX, float)
    memory, memory_limit = _check.request_and_limit(owner, "memory", options.get("memory"), 1, MEMORY_MAX_MIB, int)
    resources = {
        "cpu_millis": None if cpu is None else round(cpu * 1000),
        "cpu_limit_millis": None if cpu_limit is None else round(cpu_limit * 1000),
        "memory_mib": memory,
        "memory_limit_mib": memory_limit,
        "gpu": _check.gpus(owner, options.get("gpu")),
    }
    policy = {}
    for field, key, low, high in (
        ("timeout_s", "timeout", 1, TIMEOUT_MAX),
        ("startup_timeout_s", "startup_timeout", 1, TIMEOUT_MAX),
        ("scaledown_window_s", "scaledown_window", 1, SCALEDOWN_MAX),
        ("max_containers", "max_containers", 1, CONTAINERS_MAX),
        ("min_containers", "min_containers", 0, CONTAINERS_MAX),
    ):
        if options.get(key) is not None:
            policy[field] = _check.number(owner, key, options[key], low, high)
    if policy.get("min_containers", 0) > policy.get("max_containers", CONTAINERS_MAX):
        raise InvalidError(f"{owner}: min_containers is more than max_containers")
    if options.get("single_use_containers"):
        policy["single_use"] = True
    env = _check.text_map(owner, "env", options.get("env") or {})
    return {"_resources": resources, "_policy": policy, "_env": env}


def is_generator(function):
    code = getattr(function, "__code__", None)
    # CO_GENERATOR and CO_ASYNC_GENERATOR.
    return code is not None and bool(code.co_flags & (0x20 | 0x200))


def same_place(one, other):
    """Whether both are the same lines of the same file: a module that was loaded twice."""
    codes = [getattr(function, "__code__", None) for function in (one, other)]
    if None in codes:
        return False
    first, second = ((code.co_filename, code.co_firstlineno) for code in codes)
    return first == second
