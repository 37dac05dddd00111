"""Replicate's official clients, unmodified, against this server."""

import json

import pytest

from replicate_support import HERE, MODELS, node_cases, node_client, push, python_cases, python_client, run_case, start

PYTHON_1 = "1.0.7"
PYTHON_2 = "2.0.0b4"
JAVASCRIPT = "1.4.0"
NAMES = ("hello", "words", "shout", "gallery", "tuner")


@pytest.fixture(scope="session")
def versions(home):
    """The models' versions, on a server that runs."""
    api = start(home)
    pushed = {name: push(api, home, name, MODELS / name)["id"] for name in NAMES}
    yield pushed
    api.close()


@pytest.fixture(scope="session")
def environment(home, versions):
    token = (home.path / "token").read_text().strip()
    return {"REPLICATE_API_TOKEN": token, "VERSIONS": json.dumps(versions), "REPLICATE_POLL_INTERVAL": "0.1"}


@pytest.mark.parametrize("case", python_cases("replicate_python1.py"))
def test_python_1(home, environment, case):
    # This client puts /v1 behind what it is given.
    env = {**environment, "REPLICATE_BASE_URL": home.server()["url"] + "/replicate"}
    run_case([*python_client(PYTHON_1), str(HERE / "replicate_python1.py")], case, env)


@pytest.mark.parametrize("case", python_cases("replicate_python2.py"))
def test_python_2(home, environment, case):
    env = {**environment, "REPLICATE_BASE_URL": home.server()["url"] + "/replicate/v1"}
    run_case([*python_client(PYTHON_2), str(HERE / "replicate_python2.py")], case, env)


@pytest.mark.parametrize("case", node_cases("js/replicate.mjs"))
def test_javascript(home, environment, case):
    node, folder = node_client(JAVASCRIPT)
    env = {**environment, "BASE_URL": home.server()["url"] + "/replicate/v1", "CLIENT": str(folder)}
    run_case([*node, str(HERE / "js" / "replicate.mjs")], case, env)
