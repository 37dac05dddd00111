"""Routes, health, a worker that ends, the end of a server."""

import json

from .registry import ASYNC, asked, case, seen


@case("echo")
def root(side):
    return seen(side.ask("GET", "/"))


@case("echo")
def openapi(side):
    return seen(side.ask("GET", "/openapi.json"))


@case("echo")
def unknown_routes(side):
    paths = ["/nowhere", "/predictions/a/b/c", "//predictions", "/docs"]
    return [seen(side.ask("GET", path)) for path in paths]


@case("echo")
def wrong_methods(side):
    asked = [("GET", "/predictions"), ("DELETE", "/predictions/a"), ("POST", "/health-check"), ("PUT", "/"),
             ("GET", "/predictions/a/cancel"), ("GET", "/shutdown"), ("PATCH", "/openapi.json")]  # fmt: skip
    return [seen(side.ask(method, path), "allow") for method, path in asked]


@case("echo")
def head_requests(side):
    return [seen(side.ask("HEAD", path)) for path in ("/", "/health-check", "/nowhere")]


@case("echo")
def get_of_an_unknown_prediction(side):
    return seen(side.ask("GET", "/predictions/never-made"), "allow")


@case("echo")
def health_ready(side):
    body = side.server.health()
    body["version"] = sorted(body["version"])
    body["setup"]["logs"] = sorted(line for line in body["setup"].get("logs", "").splitlines() if line == "loading")
    return body


@case("slow")
def health_busy(side):
    made = side.predict(ASYNC, id="busy-1", input=side.watched())
    side.wait_begun()
    observed = {"made": seen(made), "during": side.server.health()["status"]}
    side.open_gate()
    side.settle()
    return {**observed, "after": side.server.health()["status"]}


@case("setup_fails", ready="SETUP_FAILED")
def setup_that_raises(side):
    body = side.server.health()
    logs = body["setup"].pop("logs")
    body["version"] = sorted(body["version"])
    logged = ["trying" in logs, "no weights here" in logs]
    refused = side.predict(input={})
    return {"health": body, "logged": logged, "status": refused.status, "kind": sorted(refused.json)}


@case("import_fails", ready="SETUP_FAILED")
def module_that_cannot_be_imported(side):
    body = side.server.health()
    logs = body["setup"].pop("logs")
    body["version"] = sorted(body["version"])
    refused = side.predict(input={})
    return {"health": body, "logged": "a_package_that_is_nowhere" in logs, "status": refused.status}


@case("setup_waits", ready="STARTING", gate=True)
def setup_that_has_not_finished(side):
    body = side.server.health()
    body["setup"].pop("logs", None)
    body["version"] = sorted(body["version"])
    refused = seen(side.server.predict(input={}))
    other = [side.ask("GET", "/").status, side.ask("GET", "/openapi.json").status]
    canceled = seen(side.ask("POST", "/predictions/none/cancel"))
    side.open_gate()
    side.server.wait_status("READY")
    served = asked(side, input={"n": 4})
    return {"health": body, "refused": refused, "other": other, "canceled": canceled, "served": served}


@case("setup_waits", ready="SETUP_FAILED", gate=True, env={"COG_SETUP_TIMEOUT": "1"})
def setup_that_takes_too_long(side):
    body = side.server.health()
    del body["setup"]["logs"]
    body["version"] = sorted(body["version"])
    return {"health": body, "refused": side.predict(input={}).status}


@case("health", ready=None, gate="well")
def health_check_of_the_user(side):
    def health(word):
        side.write_gate(word)
        body = side.server.health()
        return {"status": body["status"], "error": body.get("user_healthcheck_error")}

    side.server.wait_status("READY")
    observed = [health(word) for word in ("well", "ill", "raise", "well")]
    side.write_gate("ill")
    served = asked(side, input={})
    return [*observed, served]


@case("crash", ready=None)
def a_worker_that_ends(side):
    side.server.wait_status("READY")
    crashed = side.predict(id="crash", input={"how": "exit"})
    ended = {"status": crashed.status, "ended": crashed.json["status"], "says": bool(crashed.json.get("error"))}
    after = side.server.predict(input={})
    return {"crashed": ended, "after": after.status}


@case("echo", ready=None)
def shutdown(side):
    side.server.wait_status("READY")
    answer = seen(side.ask("POST", "/shutdown"))
    return {"answer": answer, "code": side.exit_code()}


@case("echo", ready=None)
def sigterm(side):
    side.server.wait_status("READY")
    side.server.process.terminate()
    return side.exit_code()


@case("slow", ready=None)
def sigterm_while_one_runs(side):
    side.server.wait_status("READY")
    answers = side.together(lambda: side.predict(input=side.watched()))
    side.wait_begun()
    side.server.process.terminate()
    side.open_gate()
    try:
        served = answers()[0].json["status"]
    except OSError:
        served = "cut off"
    return {"served": served, "code": side.exit_code()}
