"""The parameters of `App` and `@app.function`: what they mean to the engine, and what it lacks."""

from . import _check
from .exception import InvalidError

# Limits of the engine. Times in seconds.
TIMEOUT_MAX = 86_400
SCALEDOWN_MAX = 3600
# Seven days: as long as results are kept.
QUEUE_TIMEOUT_MAX = 7 * 86_400
WORKERS_MAX = 64
DISK_MAX_MIB = 3 << 20
CONTAINERS_MAX = 10_000
CPU_MAX = 1024.0
MEMORY_MAX_MIB = 64 << 20

# Parameters that are known and do nothing yet; a set one raises.
UNAVAILABLE = (
    "secrets volumes schedule enable_memory_snapshot region cloud routing_region "
    "experimental_options serialized proxy nonpreemptible restrict_modal_access i6pn "
    "network_file_systems keep_warm concurrency_limit allow_concurrent_inputs container_idle_timeout max_inputs"
).split()
AVAILABLE = (
    "image gpu timeout env scaledown_window max_containers min_containers startup_timeout cpu memory block_network "
    "single_use_containers is_generator include_source retries ephemeral_disk buffer_containers workers queue_timeout"
).split()
# What `with_options` may change; the rest belongs to the code.
CHANGEABLE = (
    "cpu memory gpu env retries min_containers max_containers buffer_containers scaledown_window timeout "
    "startup_timeout ephemeral_disk workers queue_timeout single_use_containers"
).split()
# Old names and what replaced them.
RENAMED = {
    "keep_warm": "min_containers",
    "concurrency_limit": "max_containers",
    "container_idle_timeout": "scaledown_window",
    "max_inputs": "single_use_containers",
    "allow_concurrent_inputs": "@clunk.concurrent(max_inputs=...) below the decorator",
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
        raise InvalidError(
            f"@app.function() decorates functions, not the class {function.__name__}", hint="use @app.cls()"
        )
    check_names(owner, options)
    check_place(owner, app, function, name)
    if getattr(function, "_clunk_method", None) is not None:
        raise InvalidError(f"{owner} has @clunk.method(), which belongs into a class with @app.cls()")
    generates = options.get("is_generator")
    if is_generator(function) if generates is None else generates:
        check_generator(owner, function, options)
    check_image(owner, options.get("image"))
    return dict(options, **spec_fields(owner, options, function))


def check_class(app, user_class, name, options):
    """The options of `@app.cls`, checked."""
    if not isinstance(user_class, type):
        raise InvalidError(f"@app.cls() decorates classes, not {user_class!r}", hint="use @app.function()")
    owner = f"class {user_class.__qualname__}"
    for unfit in ("schedule", "is_generator"):
        if options.get(unfit) is not None:
            raise InvalidError(f"{owner}: @app.cls() has no parameter `{unfit}`")
    check_names(owner, options, "@app.cls()")
    check_place(owner, app, user_class, name)
    check_image(owner, options.get("image"))
    return dict(options, **spec_fields(owner, options, user_class))


def check_place(owner, app, defined, name):
    if "<locals>" in defined.__qualname__:
        raise InvalidError(
            f"{owner} is defined inside another function, where a container cannot find it",
            hint="move it to the top of the file",
        )
    if name is not None:
        _check.text(owner, "name", name)
    name = name or defined.__qualname__
    taken = app._functions.get(name) or app._classes.get(name)
    if taken is not None and not same_place(taken.__wrapped__, defined):
        raise InvalidError(f"the app has two functions named {name}", hint="pass name= to one")


def check_generator(owner, function, options):
    if options.get("retries"):
        raise InvalidError(f"{owner} is a generator, which cannot be tried again", hint="remove `retries=`")
    if getattr(function, "_clunk_batched", None):
        raise InvalidError(f"{owner} is a generator, which cannot be batched", hint="return a list")


def check_names(owner, options, decorator="@app.function()"):
    for key in options:
        if key in RENAMED:
            raise InvalidError(f"{owner}: `{key}` is now called `{RENAMED[key]}`")
        if key not in AVAILABLE and key not in UNAVAILABLE:
            from difflib import get_close_matches

            near = get_close_matches(key, AVAILABLE + UNAVAILABLE, 1)
            hint = f"did you mean `{near[0]}`?" if near else None
            raise InvalidError(f"{owner}: {decorator} has no parameter `{key}`", hint=hint)
    _check.refuse_unavailable(owner, {key: options.get(key) for key in UNAVAILABLE})


def spec_fields(owner, options, marked=None):
    """`_resources`, `_policy` and `_env`: parts of the function's record as the server takes it.

    `marked`: the function or class, which the decorators below ours have marked.
    """
    cpu, cpu_limit = _check.request_and_limit(owner, "cpu", options.get("cpu"), 0.001, CPU_MAX, float)
    memory, memory_limit = _check.request_and_limit(owner, "memory", options.get("memory"), 1, MEMORY_MAX_MIB, int)
    resources = {
        "cpu_millis": None if cpu is None else round(cpu * 1000),
        "cpu_limit_millis": None if cpu_limit is None else round(cpu_limit * 1000),
        "memory_mib": memory,
        "memory_limit_mib": memory_limit,
        "gpu": _check.gpus(owner, options.get("gpu")),
    }
    if options.get("ephemeral_disk") is not None:
        resources["disk_mib"] = _check.number(owner, "ephemeral_disk", options["ephemeral_disk"], 1, DISK_MAX_MIB)
    env = _check.text_map(owner, "env", options.get("env") or {})
    return {"_resources": resources, "_policy": _policy(owner, options, marked), "_env": env}


def _policy(owner, options, marked):
    policy = {}
    for field, key, low, high in (
        ("timeout_s", "timeout", 1, TIMEOUT_MAX),
        ("startup_timeout_s", "startup_timeout", 1, TIMEOUT_MAX),
        ("scaledown_window_s", "scaledown_window", 1, SCALEDOWN_MAX),
        ("max_containers", "max_containers", 1, CONTAINERS_MAX),
        ("min_containers", "min_containers", 0, CONTAINERS_MAX),
        ("buffer_containers", "buffer_containers", 0, CONTAINERS_MAX),
        ("workers", "workers", 0, WORKERS_MAX),
        ("queue_timeout_s", "queue_timeout", 1, QUEUE_TIMEOUT_MAX),
    ):
        if options.get(key) is not None:
            policy[field] = _check.number(owner, key, options[key], low, high)
    if policy.get("min_containers", 0) > policy.get("max_containers", CONTAINERS_MAX):
        raise InvalidError(f"{owner}: min_containers is more than max_containers")
    if options.get("single_use_containers"):
        if policy.get("workers"):
            raise InvalidError(f"{owner}: single_use_containers leaves nothing to do for workers")
        policy["single_use"] = True
    if options.get("retries") is not None:
        from .retries import record

        policy["retries"] = record(owner, options["retries"])
    concurrent = options.get("_concurrent") or _mark(marked, "_clunk_concurrent")
    if concurrent:
        max_inputs, target_inputs = concurrent
        policy["concurrency"] = {"max_inputs": max_inputs, "target_inputs": target_inputs}
    batched = options.get("_batched") or _batched(owner, marked)
    if batched:
        policy["batching"] = {"max_batch_size": batched[0], "wait_ms": batched[1]}
    return policy


def _mark(marked, name):
    """A mark of a function, or of a class itself and not of what it inherits from."""
    return vars(marked).get(name) if hasattr(marked, "__dict__") else None


def _batched(owner, marked):
    if not isinstance(marked, type):
        return _mark(marked, "_clunk_batched")
    from .cls import marked as marks
    from .cls import methods

    batched = marks(marked, "_clunk_batched")
    found = methods(marked)
    if batched and len(found) > 1:
        names = ", ".join(found)
        raise InvalidError(f"{owner} has a batched method, beside which there can be no other ({names})")
    return next(iter(batched.values()), None)


def is_generator(function):
    code = getattr(function, "__code__", None)
    # CO_GENERATOR and CO_ASYNC_GENERATOR.
    return code is not None and bool(code.co_flags & (0x20 | 0x200))


def same_place(one, other):
    """Whether both are the same lines of the same file: a module that was loaded twice."""
    if isinstance(one, type) and isinstance(other, type):
        return (one.__module__, one.__qualname__) == (other.__module__, other.__qualname__)
    codes = [getattr(function, "__code__", None) for function in (one, other)]
    if None in codes:
        return False
    first, second = ((code.co_filename, code.co_firstlineno) for code in codes)
    return first == second
