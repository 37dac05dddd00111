"""Asks for an image and shows its build."""

from ._client.client import error_from
from .exception import ImageBuildError


def build(client, recipe, force, output):
    """The id of the image that the recipe builds to."""
    show = output.build()
    try:
        _, events = client.stream("POST", "/api/images", {"recipe": recipe, "force": force})
        for event in events:
            kind = event.get("type")
            if kind == "step":
                show.step(event)
            elif kind == "log":
                show.log(event.get("text", ""))
            elif kind == "waiting":
                show.waiting(event.get("title", ""))
            elif kind == "done":
                show.done(event)
                return event["image"]
            elif kind == "error":
                show.failed(event)
                raise _failure(event)
    finally:
        show.close()
    raise ImageBuildError("the server ended the build without a word", hint="clunk logs")


def _failure(event):
    error = error_from(event.get("error") or {}, ImageBuildError)
    title = event.get("title")
    if title and title not in error.message:
        error.args = (f"step {event.get('step')} ({title}): {error.message}",)
    return error
