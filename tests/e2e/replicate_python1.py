"""What a user of the Python client 1.x does, case by case; run as `python replicate_python1.py CASE`.

Runs with the published client in its own environment: nothing here knows that the server is not Replicate's.
"""

import asyncio
import io
import json
import os
import pathlib
import queue
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import replicate
from replicate.exceptions import ModelError, ReplicateError

VERSIONS = json.loads(os.environ["VERSIONS"])
ENDS = ("succeeded", "failed", "canceled")
WEBHOOK_LIMIT_S = 60


def version(name):
    return VERSIONS[name]


class Receiver:
    """Takes webhooks."""

    def __init__(self):
        arrived = self.arrived = queue.Queue()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()
                arrived.put((dict(self.headers.items()), body.decode()))

            def log_message(self, *words):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook?user=7"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self):
        headers, body = self.arrived.get(timeout=WEBHOOK_LIMIT_S)
        secret = replicate.webhooks.default.secret()
        replicate.webhooks.validate(headers=headers, body=body, secret=secret, tolerance=60)
        return json.loads(body)

    def until_end(self):
        taken = [self.take()]
        while taken[-1]["status"] not in ENDS:
            taken.append(self.take())
        return taken


def refused(call, *args, **kwargs):
    """The error of a call that the server must refuse."""
    try:
        answer = call(*args, **kwargs)
    except ReplicateError as error:
        return error
    raise AssertionError(f"it was not refused: {answer}")


def case_run_a_model():
    assert replicate.run("acme/hello", input={"text": "Alice"}) == "hello Alice"


def case_run_a_version():
    output = replicate.run(f"acme/hello:{version('hello')}", input={"text": "Bob", "times": 2})
    assert output == "hello Bob hello Bob"


def case_run_with_no_wait():
    assert replicate.run("acme/hello", input={"text": "Cid"}, wait=False) == "hello Cid"


def case_run_when_the_wait_runs_out():
    """The answer must say `starting`, or this client takes what is there for the end."""
    prediction = replicate.models.predictions.create("acme/hello", input={"text": "Dan", "seconds": 2}, wait=1)
    assert prediction.status == "starting" and prediction.output is None
    assert replicate.run("acme/hello", input={"text": "Dan", "seconds": 2}, wait=1) == "hello Dan"


def case_run_an_iterator():
    output = replicate.run(f"acme/words:{version('words')}", input={"text": "one two three"})
    assert "".join(output) == "one two three"
    # A model without its version gives the list that the prediction has.
    assert replicate.run("acme/words", input={"text": "one two"}) == ["one", " two"]


def case_run_an_iterator_when_the_wait_runs_out():
    output = replicate.run(f"acme/words:{version('words')}", input={"text": "a b c d", "pause": 0.6}, wait=1)
    assert "".join(output) == "a b c d"


def case_a_model_that_fails():
    try:
        replicate.run("acme/hello", input={"text": "Eve", "fail": True})
    except ModelError as error:
        assert "cannot greet Eve" in str(error), error
        assert error.prediction.status == "failed"
        assert "greeting Eve" in error.prediction.logs and error.prediction.output is None
    else:
        raise AssertionError("it did not fail")


def case_run_async():
    async def both():
        runs = [replicate.async_run("acme/hello", input={"text": str(number)}) for number in range(8)]
        return await asyncio.gather(*runs)

    assert asyncio.run(both()) == [f"hello {number}" for number in range(8)]


def case_stream():
    events = list(replicate.stream("acme/words", input={"text": "one two\nthree"}))
    assert "".join(str(event) for event in events) == "one two\nthree"
    names = [event.event.value for event in events]
    assert names[-1] == "done" and set(names) <= {"output", "logs", "done"} and "logs" in names
    assert json.loads(events[-1].data) == {}
    assert all(event.id for event in events)


def case_stream_of_a_version():
    ref = f"acme/words:{version('words')}"
    assert "".join(map(str, replicate.stream(ref, input={"text": "x y"}))) == "x y"


def case_stream_as_it_comes():
    """The first word is here before the last one was said."""
    stream = replicate.stream("acme/words", input={"text": "early late", "pause": 2})
    word = next(event for event in stream if event.event.value == "output")
    assert str(word) == "early"
    newest = replicate.predictions.list().results[0]
    assert newest.status == "processing" and newest.output == ["early"], newest
    assert "".join(str(event) for event in stream) == " late"


def case_stream_async():
    async def collect():
        return [str(event) async for event in await replicate.async_stream("acme/words", input={"text": "p q"})]

    assert "".join(asyncio.run(collect())) == "p q"


def case_stream_that_fails():
    try:
        list(replicate.stream("acme/words", input={"text": "a b c", "fail_after": 1}))
    except RuntimeError as error:
        assert "no more words" in json.loads(str(error))["detail"]
    else:
        raise AssertionError("the stream did not fail")


def case_no_stream_where_none_is_possible():
    prediction = replicate.models.predictions.create("acme/hello", input={"text": "Fay"})
    assert "stream" not in prediction.urls
    assert refused(lambda: list(replicate.stream("acme/hello", input={"text": "Fay"})))


def case_create_and_poll():
    prediction = replicate.predictions.create(version=version("hello"), input={"text": "Gus"})
    assert prediction.status == "starting" and prediction.output is None and prediction.error is None
    assert prediction.model == "acme/hello" and prediction.version == version("hello")
    assert prediction.input == {"text": "Gus"}
    prediction.wait()
    assert prediction.status == "succeeded" and prediction.output == "hello Gus"
    assert prediction.logs == "greeting Gus\n"
    assert prediction.metrics["predict_time"] >= 0 and prediction.created_at <= prediction.completed_at
    assert replicate.predictions.get(prediction.id).output == "hello Gus"
    # Addresses are whole, and lead to where they say.
    assert httpx.get(prediction.urls["get"], headers=token()).json()["id"] == prediction.id


def token():
    return {"Authorization": f"Token {os.environ['REPLICATE_API_TOKEN']}"}


def case_cancel():
    prediction = replicate.predictions.create(version=version("hello"), input={"text": "Hal", "seconds": 100})
    prediction.cancel()
    prediction.wait()
    assert prediction.status == "canceled" and prediction.output is None
    # Once more changes nothing.
    assert replicate.predictions.cancel(prediction.id).status == "canceled"


def case_files_in_and_out():
    for document in (io.BytesIO(b"soft words"), pathlib.Path(__file__)):
        content = document.getvalue() if isinstance(document, io.BytesIO) else document.read_bytes()
        output = replicate.run("acme/shout", input={"document": document})
        assert output.read() == content.upper(), output
        assert b"".join(output) == content.upper()


def case_files_as_data_urls():
    output = replicate.run(
        "acme/shout", input={"document": io.BytesIO(b"in line")}, file_encoding_strategy="base64", wait=False
    )
    assert output.read() == b"IN LINE"


def case_several_files_out():
    pictures = list(replicate.run(f"acme/gallery:{version('gallery')}", input={"count": 3}))
    assert [picture.read() for picture in pictures] == [b"picture 0", b"picture 1", b"picture 2"]


def case_stream_of_files():
    events = replicate.stream("acme/gallery", input={"count": 2})
    assert [each.data.read() for each in events if each.event.value == "output"] == [b"picture 0", b"picture 1"]


def case_a_large_file_out():
    """20 MB, there and back."""
    with tempfile.NamedTemporaryFile(suffix=".txt") as document:
        document.write(b"abcdefghij" * 100_000)
        document.flush()
        output = replicate.run("acme/shout", input={"document": pathlib.Path(document.name), "copies": 20})
    assert output.read() == b"ABCDEFGHIJ" * 2_000_000


def case_files():
    uploaded = replicate.files.create(io.BytesIO(b"to keep"), filename="keep.txt", metadata={"for": "later"})
    assert (uploaded.name, uploaded.size, uploaded.content_type) == ("keep.txt", 7, "text/plain")
    assert uploaded.metadata == {"for": "later"} and len(uploaded.checksums["sha256"]) == 64
    assert uploaded.id in [file.id for file in replicate.files.list()]
    assert replicate.files.get(uploaded.id).etag == uploaded.etag
    assert httpx.get(uploaded.urls["download"]).content == b"to keep"
    assert replicate.run("acme/shout", input={"document": uploaded.urls["get"]}).read() == b"TO KEEP"
    assert replicate.files.delete(uploaded.id) is True
    assert refused(replicate.files.get, uploaded.id).status == 404


def case_webhooks():
    receiver = Receiver()
    created = replicate.predictions.create(
        version=version("words"),
        input={"text": "ring ring", "pause": 0.6},
        webhook=receiver.url,
        webhook_events_filter=["start", "output", "logs", "completed"],
    )
    taken = receiver.until_end()
    assert {each["id"] for each in taken} == {created.id}
    assert taken[0]["status"] in ("starting", "processing") and taken[-1]["status"] == "succeeded"
    assert taken[-1]["output"] == ["ring", " ring"] and taken[-1]["logs"] == "word 0\nword 1\n"
    assert taken[-1] == httpx.get(created.urls["get"], headers=token()).json() | {"urls": taken[-1]["urls"]}


def case_webhooks_of_the_end_only():
    receiver = Receiver()
    replicate.predictions.create(
        version=version("hello"), input={"text": "Ida"}, webhook=receiver.url, webhook_events_filter=["completed"]
    )
    assert [each["output"] for each in receiver.until_end()] == ["hello Ida"]


def case_pages():
    for number in range(105):
        replicate.predictions.create(version=version("hello"), input={"text": f"page {number}"})
    pages, seen = 0, []
    for page in replicate.paginate(replicate.predictions.list):
        pages += 1
        seen += [prediction.id for prediction in page]
        if pages == 2:
            assert page.previous and replicate.predictions.list(page.previous).results[0].id == seen[0]
            break
    assert pages == 2 and len(set(seen)) == len(seen) > 100


def case_models():
    name = f"made-{os.getpid()}"
    made = replicate.models.create("acme", name, hardware="cpu", visibility="private", description="Made by a test")
    assert (made.owner, made.name, made.visibility, made.run_count) == ("acme", name, "private", 0)
    assert made.latest_version is None and made.description == "Made by a test"
    assert replicate.models.get(f"acme/{name}").url == made.url
    assert refused(replicate.models.create, "acme", name, hardware="cpu", visibility="private").status == 409
    assert refused(replicate.run, f"acme/{name}", input={}).status == 422
    assert f"acme/{name}" in [model.id for model in replicate.models.search(name)]
    assert f"acme/{name}" in [model.id for page in replicate.paginate(replicate.models.list) for model in page]
    assert replicate.models.delete(f"acme/{name}") is True
    assert refused(replicate.models.get, f"acme/{name}").status == 404


def case_versions():
    hello = replicate.models.get("acme/hello")
    assert hello.latest_version.id == version("hello")
    found = hello.versions.list().results
    assert version("hello") in [each.id for each in found]
    one = hello.versions.get(version("hello"))
    assert one.cog_version and one.openapi_schema["components"]["schemas"]["Output"]["type"] == "string"
    assert refused(hello.versions.get, "0" * 64).status == 404


def case_deployments():
    name = f"front-{os.getpid()}"
    made = replicate.deployments.create(
        name=name, model="acme/hello", version=version("hello"), hardware="cpu", min_instances=0, max_instances=2
    )
    owner = made.owner
    assert owner == replicate.default_client.accounts.current().username and made.current_release.number == 1
    prediction = replicate.deployments.predictions.create((owner, name), input={"text": "Jan"}, wait=True)
    assert prediction.output == "hello Jan"
    later = replicate.deployments.get(f"{owner}/{name}").predictions.create(input={"text": "Kim"})
    later.wait()
    assert later.output == "hello Kim"
    changed = replicate.deployments.update(owner, name, max_instances=3)
    assert changed.current_release.number == 2 and changed.current_release.configuration.max_instances == 3
    assert name in [deployment.name for deployment in replicate.deployments.list()]
    assert replicate.deployments.delete(owner, name) is True
    assert refused(replicate.deployments.get, f"{owner}/{name}").status == 404


def case_trainings():
    name = f"tuned-{os.getpid()}"
    replicate.models.create("acme", name, hardware="cpu", visibility="private")
    receiver = Receiver()
    training = replicate.trainings.create(
        version=f"acme/tuner:{version('tuner')}",
        input={"sentence": "forty two"},
        destination=f"acme/{name}",
        webhook=receiver.url,
        webhook_events_filter=["completed"],
    )
    assert training.status == "starting" and training.destination == f"acme/{name}"
    end = receiver.until_end()[-1]
    assert end["status"] == "succeeded", end
    training.reload()
    assert training.status == "succeeded" and "learning" in training.logs
    made = training.output["version"]
    assert made.startswith(f"acme/{name}:") and training.output["weights"].startswith("http")
    assert replicate.run(made, input={"question": "how many?"}) == "how many? forty two"
    assert replicate.run(f"acme/tuner:{version('tuner')}") == "what? nothing yet"
    assert training.id in [each.id for each in replicate.trainings.list()]
    error = refused(
        replicate.trainings.create, version=f"acme/tuner:{version('tuner')}", input={}, destination="acme/nothing-here"
    )
    assert (error.status, error.detail) == (404, "The specified training destination does not exist")


def case_account_hardware_collections():
    account = replicate.default_client.accounts.current()
    assert account.type == "user" and account.username
    assert {"sku": "cpu", "name": "CPU"} in [each.dict() for each in replicate.hardware.list()]
    collection = replicate.collections.list().results[0]
    assert replicate.collections.get(collection.slug).models is not None


def case_refusals():
    wrong = replicate.Client(api_token="wrong")
    error = refused(wrong.predictions.list)
    assert (error.status, error.title) == (401, "Unauthenticated")
    assert refused(replicate.run, "acme/nothing", input={}).status == 404
    assert refused(replicate.run, "acme/hello:" + "0" * 64, input={}).status == 422
    error = refused(replicate.run, "acme/hello", input={"text": "x", "times": 9})
    assert error.status == 422 and "times" in error.detail
    error = refused(replicate.run, "acme/hello", input={})
    assert error.status == 422 and "text is required" in error.detail
    assert refused(replicate.predictions.get, "nothing").status == 404


if __name__ == "__main__":
    globals()[sys.argv[1]]()
