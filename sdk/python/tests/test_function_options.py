"""`@app.function`: what its parameters mean to the server, and what it refuses."""

import pytest

import clunk
from clunk import exception


def f(x=1):
    return x


async def g():
    return "async"


def gen():
    yield 1


GOOD = [
    ({}, {"_policy": {}, "_env": {}}),
    ({"timeout": 10, "startup_timeout": 20}, {"_policy": {"timeout_s": 10, "startup_timeout_s": 20}}),
    ({"min_containers": 1, "max_containers": 2}, {"_policy": {"min_containers": 1, "max_containers": 2}}),
    (
        {"scaledown_window": 5, "single_use_containers": True},
        {"_policy": {"scaledown_window_s": 5, "single_use": True}},
    ),
    ({"env": {"A": "b"}}, {"_env": {"A": "b"}}),
    ({"secrets": [], "volumes": {}, "retries": None, "schedule": None}, {"_policy": {}}),
    ({"buffer_containers": 2, "workers": 4}, {"_policy": {"buffer_containers": 2, "workers": 4}}),
    ({"queue_timeout": 60}, {"_policy": {"queue_timeout_s": 60}}),
    (
        {"retries": 3},
        {
            "_policy": {
                "retries": {
                    "max_retries": 3,
                    "initial_delay_ms": 1000,
                    "backoff_coefficient": 1.0,
                    "max_delay_ms": 60000,
                }
            }
        },
    ),
    (
        {"retries": clunk.Retries(max_retries=2, initial_delay=0.5, backoff_coefficient=3, max_delay=10)},
        {
            "_policy": {
                "retries": {
                    "max_retries": 2,
                    "initial_delay_ms": 500,
                    "backoff_coefficient": 3.0,
                    "max_delay_ms": 10000,
                }
            }
        },
    ),
]
RESOURCES = [
    ({"cpu": 0.5}, {"cpu_millis": 500}),
    ({"cpu": 2}, {"cpu_millis": 2000}),
    ({"cpu": (1, 4.5)}, {"cpu_millis": 1000, "cpu_limit_millis": 4500}),
    ({"memory": 512}, {"memory_mib": 512}),
    ({"memory": (512, 1024)}, {"memory_mib": 512, "memory_limit_mib": 1024}),
    ({"ephemeral_disk": 1024}, {"disk_mib": 1024}),
    ({"gpu": "h100:2"}, {"gpu": ["h100:2"]}),
    ({"gpu": ["H100", "A100"]}, {"gpu": ["H100", "A100"]}),
]
BAD = [
    ({"timeout": 0}, "timeout must be from 1 to 86400, not 0"),
    ({"timeout": 1.5}, "timeout must be a whole number, not 1.5"),
    ({"timeout": True}, "timeout must be a whole number, not True"),
    ({"scaledown_window": 4000}, "scaledown_window must be from 1 to 3600"),
    ({"cpu": "2"}, "cpu must be a number, not '2'"),
    ({"cpu": (4, 2)}, "the cpu limit 2 is less than the request 4"),
    ({"cpu": (1, 2, 3)}, "cpu must be a number or a pair"),
    ({"memory": 0.5}, "memory must be a whole number"),
    ({"gpu": "H100:x"}, "gpu 'H100:x' has no whole number after the colon"),
    ({"gpu": 3}, "gpu must be text"),
    ({"env": {"A": 1}}, "env\\['A'\\] must be text, not 1"),
    ({"env": {"A=B": "c"}}, "cannot be the name of an environment variable"),
    ({"min_containers": 3, "max_containers": 2}, "min_containers is more than max_containers"),
    ({"image": "debian"}, "image must be a clunk.Image, not 'debian'"),
    ({"name": 3}, "name must be text"),
    ({"retries": 11}, "retries must be from 0 to 10, not 11"),
    ({"retries": "2"}, "retries must be a whole number or clunk.Retries"),
    ({"workers": 65}, "workers must be from 0 to 64"),
    ({"workers": 2, "single_use_containers": True}, "leaves nothing to do for workers"),
    ({"queue_timeout": 0}, "queue_timeout must be from 1 to"),
    ({"ephemeral_disk": 0}, "ephemeral_disk must be from 1"),
    ({"max_inputs": 1}, "`max_inputs` is now called `single_use_containers`"),
    ({"allow_concurrent_inputs": 5}, "@clunk.concurrent"),
    ({"keep_warm": 1}, "`keep_warm` is now called `min_containers`"),
    ({"timeot": 1}, "has no parameter `timeot`\nhint: did you mean `timeout`"),
]
COMING = ["secrets", "volumes", "schedule", "region", "enable_memory_snapshot", "proxy", "serialized"]


@pytest.mark.parametrize(("options", "expected"), GOOD, ids=[str(options) for options, _ in GOOD])
def test_policy(options, expected):
    made = clunk.App().function(**options)(f)._options
    assert {key: made[key] for key in expected} == expected


@pytest.mark.parametrize(("options", "expected"), RESOURCES, ids=[str(options) for options, _ in RESOURCES])
def test_resources(options, expected):
    made = clunk.App().function(**options)(f)._options["_resources"]
    assert {key: value for key, value in made.items() if value} == expected


@pytest.mark.parametrize(("options", "message"), BAD, ids=[str(options) for options, _ in BAD])
def test_wrong_values_are_refused(options, message):
    with pytest.raises(exception.InvalidError, match=message):
        clunk.App().function(**options)(f)


@pytest.mark.parametrize("name", COMING)
def test_what_is_not_there_yet_says_so(name):
    with pytest.raises(exception.UnimplementedError, match=f"`{name}` is not available yet"):
        clunk.App().function(**{name: [object()]})(f)


def test_functions_that_cannot_travel():
    app = clunk.App()

    def inner():
        pass

    with pytest.raises(exception.InvalidError, match="defined inside another function"):
        app.function()(inner)
    assert app.function()(gen)._is_generator
    assert app.function(name="x", is_generator=True)(f)._is_generator
    with pytest.raises(exception.InvalidError, match="is a generator, which cannot be tried again"):
        app.function(retries=1)(gen)
    with pytest.raises(exception.InvalidError, match="not the class"):
        app.function()(type("C", (), {}))
    with pytest.raises(exception.InvalidError, match="needs parentheses"):
        app.function(f)
    with pytest.raises(exception.InvalidError, match="needs parentheses"):
        app.local_entrypoint(f)


def test_two_functions_of_one_name():
    app = clunk.App()
    app.function()(f)
    app.function()(f)
    with pytest.raises(exception.InvalidError, match="two functions named f"):
        app.function(name="f")(g)


def test_a_function_object():
    app = clunk.App("a")
    made = app.function(name="other")(f)
    assert (made.name, made.__name__, made.__wrapped__, made.app) == ("other", "f", f, app)
    assert made.local(4) == 4
    assert app.registered_functions == {"other": made}
    with pytest.raises(exception.InvalidError, match=r"f?other cannot be called directly\nhint: other.remote"):
        made(3)
    with pytest.raises(exception.ExecutionError, match="its app does not run"):
        made.remote(3)
    for name in ("map", "starmap", "spawn", "for_each", "spawn_map"):
        with pytest.raises(exception.ExecutionError, match="its app does not run"):
            getattr(made, name)([1])


def test_apps():
    for wrong in ({"name": 3}, {"image": "x"}):
        with pytest.raises(exception.InvalidError):
            clunk.App(**wrong)
    with pytest.raises(exception.UnimplementedError, match="App 'a': `secrets` is not available yet"):
        clunk.App("a", secrets=["s"])
    with pytest.raises(exception.UnimplementedError, match="clunk.Secret is not available yet"):
        clunk.Secret  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        clunk.nonsense  # noqa: B018


def test_include():
    image = clunk.Image.debian_slim()
    one, two = clunk.App(image=clunk.Image.from_registry("x")), clunk.App(image=image, include_source=False)
    made = two.function()(f)
    assert one.include(two) is one
    assert (made.app, one.registered_functions) == (one, {"f": made})
    assert (made._options["image"], made._options["include_source"]) == (image, False)


def test_in_a_container_nothing_is_checked(monkeypatch):
    monkeypatch.setenv("CLUNK_IS_REMOTE", "1")
    app = clunk.App(secrets=["later"])
    made = app.function(timeot=1, secrets=["later"])(f)
    assert not clunk.is_local()
    assert made.local(2) == 2
    with pytest.raises(exception.ExecutionError, match="no app runs"):
        made.remote(3)
    with pytest.raises(exception.UnimplementedError):
        app.run().__enter__()


def test_aio_outside_a_run():
    import asyncio

    made = clunk.App().function()(g)
    assert asyncio.run(made.local()) == "async"
    with pytest.raises(exception.ExecutionError):
        asyncio.run(made.remote.aio())
