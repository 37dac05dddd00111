"""Files in and out, and uploads."""

import json

from .registry import TEXT_FILE, PNG_FILE, asked, case, each, uploaded


@case("files")
def files_in(side):
    given = [{"image": PNG_FILE}, {"images": [TEXT_FILE, "data:text/plain,plain%20text"]}, {"raw": TEXT_FILE},
             {"key": "secret!"}, {}]  # fmt: skip
    return each(side, given)


@case("files")
def files_from_urls(side):
    page = f"{side.receiver.url}/nothing-here.png"
    answer = side.predict(input={"image": page})
    return {"status": answer.status, "ended": answer.json["status"], "says": bool(answer.json.get("error"))}


@case("files")
def files_that_are_no_urls(side):
    wrong = ["no url", "ftp://host/file", "data:broken", "/etc/passwd", "file:///etc/passwd", ""]
    answers = [side.predict(input={"image": one}) for one in wrong]
    return [{"status": one.status, "ended": one.json.get("status")} for one in answers]


@case("files")
def files_out(side):
    given = [{"count": 0}, {"count": 1}, {"count": 3}, {"suffix": ".json"}, {"suffix": ".png"}, {"suffix": ""},
             {"suffix": ".unheard-of"}]  # fmt: skip
    return each(side, given)


@case("files")
def files_out_that_are_missing(side):
    answer = side.predict(input={"missing": True})
    return {"status": answer.status, "ended": answer.json["status"], "says": bool(answer.json.get("error"))}


@case("one_file")
def one_file_out(side):
    return each(side, [{}, {"name": "a.webp"}, {"name": "a.txt"}, {"size": 0}])


@case("one_file", upload_url=True)
def uploads(side):
    answer = asked(side, input={"name": "a.png"}, id="upload-1")
    return {"answer": answer, "puts": [uploaded(put) for put in side.receiver.puts]}


@case("files", upload_url=True)
def uploads_of_several_files(side):
    answer = asked(side, input={"count": 3})
    # Cog's are in the order in which they arrived, which is another each time.
    body = {**answer["body"], "output": sorted(answer["body"]["output"])}
    return {"answer": {**answer, "body": body}, "puts": sorted(put["path"] for put in side.receiver.puts)}


@case("one_file", upload_url=True)
def uploads_with_a_location(side):
    side.receiver.location = True
    return asked(side, input={"name": "a.txt"})


@case("one_file", upload_url=True)
def uploads_that_are_refused(side):
    side.receiver.refusals += [404] * 20
    answer = side.predict(input={"name": "a.txt"})
    return {"status": answer.status, "body": {key: answer.json.get(key) for key in ("status", "output")}}

