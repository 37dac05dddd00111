"""What a user of the Python client 2.0 (beta) does, case by case; run as `python replicate_python2.py CASE`."""

import asyncio
import io
import json
import os
import pathlib
import sys
import tempfile
import time

import httpx
import replicate
from replicate.exceptions import ModelError
from replicate.lib._files import FileOutput

VERSIONS = json.loads(os.environ["VERSIONS"])


def version(name):
    return VERSIONS[name]


def client():
    return replicate.Replicate()


def refused(kind, call, *args, **kwargs):
    """The error of a call that the server must refuse."""
    try:
        answer = call(*args, **kwargs)
    except kind as error:
        return error
    raise AssertionError(f"it was not refused: {answer}")


def case_run():
    assert replicate.run("acme/hello", input={"text": "Alice"}) == "hello Alice"
    assert replicate.run(f"acme/hello:{version('hello')}", input={"text": "Bob", "times": 2}) == "hello Bob hello Bob"
    assert replicate.run("acme/words", input={"text": "one two"}) == ["one", " two"]


def case_run_when_the_wait_runs_out():
    assert replicate.run("acme/hello", input={"text": "Dan", "seconds": 2}, wait=1) == "hello Dan"
    assert replicate.run("acme/hello", input={"text": "Dan"}, wait=False) == "hello Dan"


def case_run_async():
    async def both():
        runner = replicate.AsyncReplicate()
        return await asyncio.gather(*(runner.run("acme/hello", input={"text": str(n)}) for n in range(4)))

    assert asyncio.run(both()) == [f"hello {n}" for n in range(4)]


def case_a_model_that_fails():
    error = refused(ModelError, replicate.run, "acme/hello", input={"text": "Eve", "fail": True})
    assert "cannot greet Eve" in str(error)


def case_use():
    hello = replicate.use("acme/hello")
    assert hello(text="Cid", times=2) == "hello Cid hello Cid"
    assert replicate.use(f"acme/hello:{version('hello')}")(text="Dot") == "hello Dot"
    run = hello.create(text="Eli")
    assert run.output() == "hello Eli" and run.logs() == "greeting Eli\n"
    assert "text" in hello.openapi_schema()["components"]["schemas"]["Input"]["properties"]


def case_use_an_iterator():
    words = replicate.use("acme/words")
    assert str(words(text="one two three")) == "one two three"
    streamed = replicate.use("acme/words", streaming=True)(text="a b c", pause=0.3)
    assert "".join(streamed) == "a b c"


def case_use_with_files():
    """Its outputs are paths: the file comes when one is opened."""
    document = client().files.create(content=b"quiet").urls.get
    loud = replicate.use("acme/shout")(document=document)
    assert pathlib.Path(loud).read_bytes() == b"QUIET"
    # An output is an input again.
    assert open(replicate.use("acme/shout")(document=loud), "rb").read() == b"QUIET"
    pictures = replicate.use("acme/gallery")(count=2)
    assert [pathlib.Path(each).read_text() for each in pictures] == ["picture 0", "picture 1"]


def case_files_in_and_out():
    with tempfile.NamedTemporaryFile(suffix=".txt") as document:
        document.write(b"soft")
        document.flush()
        for strategy in (None, "base64"):
            with open(document.name, "rb") as content:
                output = replicate.run("acme/shout", input={"document": content}, file_encoding_strategy=strategy)
            assert isinstance(output, FileOutput) and output.read() == b"SOFT", output


def case_files():
    files = client().files
    uploaded = files.create(content=b"to keep", filename="keep.txt", type="text/plain", metadata={"for": "later"})
    assert (uploaded.size, uploaded.content_type, uploaded.metadata) == (7, "text/plain", {"for": "later"})
    assert uploaded.expires_at > uploaded.created_at
    assert uploaded.id in [file.id for file in files.list()]
    assert files.get(file_id=uploaded.id).checksums.sha256 == uploaded.checksums.sha256
    address = httpx.URL(uploaded.urls.model_extra["download"])
    signed = dict(address.params)
    content = files.download(
        file_id=uploaded.id, expiry=int(signed["expiry"]), owner=signed["owner"], signature=signed["signature"]
    )
    assert content.read() == b"to keep"
    error = refused(
        replicate.PermissionDeniedError,
        files.download,
        file_id=uploaded.id,
        expiry=int(signed["expiry"]) + 1,
        owner=signed["owner"],
        signature=signed["signature"],
    )
    assert error.status_code == 403
    files.delete(file_id=uploaded.id)
    refused(replicate.NotFoundError, files.get, file_id=uploaded.id)


def case_create_and_cancel():
    predictions = client().predictions
    prediction = predictions.create(version=version("hello"), input={"text": "Flo", "seconds": 100})
    assert prediction.status == "starting" and prediction.data_removed is False
    assert prediction.urls.web.endswith(prediction.id)
    predictions.cancel(prediction_id=prediction.id)
    assert predictions.wait(prediction.id).status == "canceled"


def case_cancel_after():
    predictions = client().predictions
    made = time.time()
    prediction = predictions.create(version="acme/hello", input={"text": "Gil", "seconds": 100}, cancel_after="2s")
    assert 0 < prediction.deadline.timestamp() - made < 10
    assert predictions.wait(prediction.id).status in ("canceled", "aborted")


def case_pages():
    predictions = client().predictions
    for number in range(102):
        predictions.create(version=version("hello"), input={"text": f"page {number}"})
    seen = []
    for prediction in predictions.list():
        seen.append(prediction.id)
        if len(seen) > 101:
            break
    assert len(set(seen)) == 102
    newest = predictions.get(prediction_id=seen[0])
    later = predictions.list(created_after=newest.created_at).results
    assert seen[0] in [each.id for each in later] and seen[-1] not in [each.id for each in later]
    assert seen[0] not in [each.id for each in predictions.list(created_before=newest.created_at).results]


def case_models():
    name = f"beta-{os.getpid()}"
    models = client().models
    made = models.create(owner="acme", name=name, hardware="cpu", visibility="private")
    assert (made.name, made.run_count, made.is_official) == (name, 0, False)
    changed = models.update(model_owner="acme", model_name=name, description="Changed", readme="# Read me")
    assert changed.description == "Changed"
    assert models.readme.get(model_owner="acme", model_name=name) == "# Read me"
    assert name in [model.name for model in models.search(body=name).results]
    assert name in [found.model.name for found in client().search(query=name, limit=5).models]
    assert name in [model.name for model in models.list(sort_by="model_created_at", sort_direction="desc")]
    assert models.examples.list(model_owner="acme", model_name="hello").results == []
    models.delete(model_owner="acme", model_name=name)
    refused(replicate.NotFoundError, models.get, model_owner="acme", model_name=name)


def case_versions():
    versions = client().models.versions
    assert version("hello") in [each.id for each in versions.list(model_owner="acme", model_name="hello")]
    one = versions.get(model_owner="acme", model_name="hello", version_id=version("hello"))
    assert one.cog_version and one.openapi_schema["openapi"]


def case_deployments():
    name = f"beta-{os.getpid()}"
    deployments = client().deployments
    made = deployments.create(
        name=name, model="acme/hello", version=version("hello"), hardware="cpu", min_instances=0, max_instances=1
    )
    named = {"deployment_owner": made.owner, "deployment_name": name}
    assert deployments.predictions.create(input={"text": "Hal"}, prefer="wait", **named).output == "hello Hal"
    assert deployments.update(max_instances=2, **named).current_release.number == 2
    assert name in [deployment.name for deployment in deployments.list()]
    deployments.delete(**named)
    refused(replicate.NotFoundError, deployments.get, **named)


def case_trainings():
    name = f"beta-tuned-{os.getpid()}"
    client().models.create(owner="acme", name=name, hardware="cpu", visibility="private")
    trainings = client().trainings
    made = trainings.create(
        model_owner="acme",
        model_name="tuner",
        version_id=version("tuner"),
        destination=f"acme/{name}",
        input={"sentence": "by heart"},
    )
    end = time.monotonic() + 120
    while (training := trainings.get(training_id=made.id)).status not in ("succeeded", "failed", "canceled"):
        assert time.monotonic() < end, training
        time.sleep(0.2)
    assert training.status == "succeeded", training
    assert replicate.run(training.output.version, input={}) == "what? by heart"
    assert made.id in [each.id for each in trainings.list()]
    assert trainings.cancel(training_id=made.id).status == "succeeded"


def case_account_and_the_rest():
    account = client().account.get()
    assert account.type == "user" and account.username
    assert "cpu" in [each.sku for each in client().hardware.list()]
    collections = client().collections
    slug = collections.list().results[0].slug
    assert collections.get(collection_slug=slug).slug == slug
    key = client().webhooks.default.secret.get().key
    assert key.startswith("whsec_") and key.count("_") == 1


def case_refusals():
    error = refused(replicate.AuthenticationError, replicate.Replicate(bearer_token="wrong").predictions.list)
    assert error.body["title"] == "Unauthenticated"
    create = client().predictions.create
    error = refused(replicate.UnprocessableEntityError, create, version="0" * 64, input={})
    assert error.body["title"] == "Invalid version or not permitted"
    refused(replicate.BadRequestError, create, version="acme/hello", input={"text": "x"}, prefer="wait=soon")
    refused(replicate.BadRequestError, create, version="acme/hello", input={"text": "x"}, cancel_after="soon")
    refused(replicate.UnprocessableEntityError, client().files.create, content=io.BytesIO(b"x"), filename="a\nb")


if __name__ == "__main__":
    globals()[sys.argv[1]]()
