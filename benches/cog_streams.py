"""The first token of a stream, and many streams at once."""

import asyncio
import json
import socket
import time

from common import median, percentile

STREAMS = 64
TOKENS, PAUSE_S = 20, 0.05
READ_LIMIT_S = 30


def request(port, **given):
    body = json.dumps({"input": given}).encode()
    head = (
        f"POST /predictions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Accept: text/event-stream\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def first_token_s(port):
    """From the request to the bytes of the first `output` event, on an open connection."""
    with socket.create_connection(("127.0.0.1", port), READ_LIMIT_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        message = request(port, count=1)
        began, seen, first = time.perf_counter(), b"", None
        connection.sendall(message)
        while b"event: completed" not in seen:
            data = connection.recv(65536)
            if not data:
                raise SystemExit(f"error: the stream ended: {seen[-500:]}")
            seen += data
            if first is None and b"event: output" in seen:
                first = time.perf_counter() - began
    return first


async def one_stream(port):
    """When each token of one stream arrived, counted from its request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request(port, count=TOKENS, pause=PAUSE_S))
    began, times = time.perf_counter(), []
    refused = b" 200 " not in await asyncio.wait_for(reader.readline(), READ_LIMIT_S)
    while not refused:
        line = await asyncio.wait_for(reader.readline(), READ_LIMIT_S)
        if line.startswith(b"event: output"):
            times.append(time.perf_counter() - began)
        if line.startswith(b"event: completed") or not line:
            break
    writer.close()
    return times


async def many_streams(port):
    return await asyncio.gather(*[one_stream(port) for _ in range(STREAMS)])


def measure(report, kinds, quick):
    for kind in kinds:
        server = kind("cog_streams")
        server.start()
        for _ in range(10):
            time.sleep(0.01)
            first_token_s(server.port)
        firsts = []
        for _ in range(20 if quick else 200):
            # Cog refuses what comes right after an answer.
            time.sleep(0.01)
            firsts.append(first_token_s(server.port) * 1000)
        ours = kind.name == "clunk"
        report.add(f"{kind.name}, first token of a stream, median", median(firsts), "ms", 2 if ours else None)
        report.add(f"{kind.name}, first token of a stream, p99", percentile(firsts, 0.99), "ms")

        streams = asyncio.run(many_streams(server.port))
        if ours and any(len(times) != TOKENS for times in streams):
            server.fail(f"did not deliver every token: {sorted(len(times) for times in streams)}")
        full = [times for times in streams if len(times) == TOKENS]
        report.add(f"{kind.name}, of {STREAMS} streams at once, whole", len(full), "streams")
        if full:
            late = [times[0] * 1000 for times in full]
            gaps = [after - before for times in full for before, after in zip(times, times[1:])]
            report.add(f"{kind.name}, {STREAMS} streams, first token, slowest", max(late), "ms")
            # A token that waits for another stream's pause is late by that pause.
            most = PAUSE_S * 1000 if ours else None
            late = percentile(gaps, 0.99) * 1000 - PAUSE_S * 1000
            report.add(f"{kind.name}, {STREAMS} streams, later than the pause, p99", late, "ms", most)
        server.stop()
