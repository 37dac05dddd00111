"""Predictions that are canceled, and the one after a worker that ended."""

import json
import os
import time

from common import median
from model_servers import START_LIMIT_S


def ask(server, method, path, body=None):
    answer = server.request(method, path, None if body is None else json.dumps(body))
    return answer[0], json.loads(answer[1])


def wait(server, what, condition):
    end = time.perf_counter() + START_LIMIT_S
    while not condition():
        if time.perf_counter() > end:
            server.fail(f"did not come to this: {what}")
        time.sleep(0.0005)


def cancel_ms(server, how, name):
    """From the request to cancel to the prediction's end; and until the next one is served."""
    begun = os.path.join(server.folder, name)
    path = f"/predictions/{name}"
    connection_body = {"input": {"how": how, "begun": begun}, "webhook_events_filter": []}
    status, made = ask_async(server, path, connection_body)
    if status != 202:
        server.fail(f"answered {status}: {made}")
    wait(server, "the prediction runs", lambda: os.path.exists(begun))
    began = time.perf_counter()
    ask(server, "POST", f"{path}/cancel")
    wait(server, "canceled", lambda: ask(server, "GET", path)[1]["status"] == "canceled")
    ended = time.perf_counter()
    status, served = ask(server, "POST", "/predictions", {"input": {}})
    if (status, served["status"]) != (200, "succeeded"):
        server.fail(f"answered {status} after a cancel: {served}")
    return (ended - began) * 1000, (time.perf_counter() - began) * 1000


def ask_async(server, path, body):
    answer = server.request("PUT", path, json.dumps(body), {"Prefer": "respond-async"})
    return answer[0], json.loads(answer[1])


def crash_ms(server):
    """From a crash's answer to the next prediction's."""
    ask(server, "POST", "/predictions", {"input": {"how": "exit"}})
    began = time.perf_counter()
    status, served = ask(server, "POST", "/predictions", {"input": {}})
    if (status, served["status"]) != (200, "succeeded"):
        server.fail(f"answered {status} after a crash: {served}")
    return (time.perf_counter() - began) * 1000


def measure(report, kind, quick):
    rounds = 5 if quick else 30
    server = kind("cog_lives")
    server.start()
    for how, what in (("python", "a sleep in Python"), ("c", "C code that nothing interrupts")):
        times = [cancel_ms(server, how, f"{how}-{number}") for number in range(rounds)]
        report.add(f"canceled, {what}, slowest", max(ended for ended, _ in times), "ms", 100)
        report.add(f"canceled, {what}, until the next is served", median([served for _, served in times]), "ms")
    report.add("a crash, until the next is served", median([crash_ms(server) for _ in range(rounds)]), "ms")
    server.stop()
