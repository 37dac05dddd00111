"""What a request may say, and what is said of a wrong one."""

from .registry import asked, case, each, seen


@case("echo")
def succeeds(side):
    return asked(side, input={"s": "a"})


@case("echo")
def succeeds_with_every_input(side):
    given = {"s": "ü", "count": 60, "scale": -2.5, "flag": True, "mode": "ok", "size": 16, "short": "abcd", "opt": "x"}
    return asked(side, input=given)


@case("echo")
def keeps_the_given_id(side):
    ids = ["mine", "a b", "ü", "", "a/b"]
    return [asked(side, id=one, input={"s": "a"}) for one in ids]


@case("echo", ready=None)
def id_that_is_longer_than_a_file_name(side):
    side.server.wait_status("READY")
    ended = side.predict(id="x" * 300, input={"s": "a"}).json.get("status")
    health = side.server.health()["status"]
    return {"ended": ended, "health": health, "next": side.server.predict(input={"s": "b"}).status}


@case("echo")
def logs_are_kept(side):
    return asked(side, input={"s": "a", "mode": "print"})


@case("echo")
def failures(side):
    observed = each(side, [{"s": "a", "mode": mode} for mode in ("fail", "empty", "quit")])
    return [*observed, asked(side, input={"s": "works after"})]


@case("echo")
def unknown_inputs_are_dropped(side):
    return each(side, [{"s": "a", "more": 1}, {"s": "a", "S": "b", "": None}])


@case("echo")
def unknown_keys_of_the_request_are_ignored(side):
    return asked(side, input={"s": "a"}, version="x", created_at=5, output_file_prefix="y", stream=True)


@case("echo")
def missing_input(side):
    return [asked(side, input={}), asked(side), asked(side, input=None), asked(side, input={"opt": "x"})]


@case("echo")
def wrong_types(side):
    wrong = [{"s": 1}, {"s": None}, {"s": ["a"]}, {"s": {"a": 1}}, {"s": True}, {"s": "a", "count": "5"},
             {"s": "a", "count": 1.5}, {"s": "a", "count": True}, {"s": "a", "scale": "1"}, {"s": "a", "flag": 1},
             {"s": "a", "flag": "true"}, {"s": "a", "size": "4"}, {"s": "a", "opt": 1}]  # fmt: skip
    return each(side, wrong)


@case("echo")
def numbers_of_the_other_kind(side):
    return each(side, [{"s": "a", "count": 1.0}, {"s": "a", "scale": 1}, {"s": "a", "size": 4.0}])


@case("echo")
def null_for_an_optional_input(side):
    return asked(side, input={"s": "a", "opt": None})


@case("echo")
def constraints(side):
    wrong = [{"s": "a", "mode": "bogus"}, {"s": "a", "count": -1}, {"s": "a", "count": 99}, {"s": "a", "scale": 2.6},
             {"s": "a", "short": "abcdef"}, {"s": "a", "short": ""}, {"s": "a", "short": "bcd"}, {"s": "a", "size": 5},
             {"s": "a", "short": "bcdefgh"}, {"s": "a", "count": 10**30}, {"s": "a", "scale": 1e400}]  # fmt: skip
    return each(side, wrong[:-1])


@case("echo")
def several_violations_at_once(side):
    return asked(side, input={"count": "x", "flag": 3, "mode": "bogus", "short": "bcdefgh"})


@case("echo")
def input_that_is_no_object(side):
    return [asked(side, input=wrong) for wrong in ([], "text", 5, True)]


@case("echo")
def fields_of_the_wrong_type(side):
    wrong = [{"id": 5}, {"id": ["a"]}, {"webhook": 5}, {"webhook_events_filter": "start"}, {"context": [1]},
             {"webhook_events_filter": ["bogus"]}, {"context": {"a": 1}}, {"id": None}, {"webhook": None},
             {"context": None}, {"webhook_events_filter": None}, {"webhook_events_filter": []}]  # fmt: skip
    return [asked(side, input={"s": "a"}, **fields) for fields in wrong]


@case("echo")
def bodies_that_are_not_json(side):
    json_type = {"Content-Type": "application/json"}
    raw = [b"not json", b"{", b'{"input": {"s": "a"}} x', b"", b"[]", b"null", b'"text"', b'{"input": {"s": "\xff"}}',
           b'{"input": {"s": "\\ud800"}}', b'{"input": {"s": "a", "scale": NaN}}', b"[" * 200 + b"]" * 200]  # fmt: skip
    return [seen(side.ask("POST", "/predictions", body, json_type)) for body in raw]


@case("echo")
def content_types(side):
    body = b'{"input": {"s": "a"}}'
    kinds = ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-8", "APPLICATION/JSON",
             "application/vnd.api+json", "application/jsonx", ""]  # fmt: skip
    return [seen(side.ask("POST", "/predictions", body, {"Content-Type": kind})) for kind in kinds]


@case("anything")
def no_body_and_no_content_type(side):
    return [seen(side.ask("POST", "/predictions")), seen(side.ask("PUT", "/predictions/bare"))]


@case("echo")
def duplicate_keys(side):
    body = b'{"input": {"s": "a"}, "input": {"s": "b"}}'
    inner = b'{"input": {"s": "a", "s": "b"}}'
    return [seen(side.ask("POST", "/predictions", raw, {"Content-Type": "application/json"})) for raw in (body, inner)]
