"""A warm `.remote()` that does nothing, client on the same host, beside a ping-pong over a bare Unix socket."""

from common import Clunk, Report, arguments, percentile


def main():
    options = arguments(__doc__)
    clunk = Clunk(options.clunk)
    clunk.ensure_server()
    measured = clunk.run_app("noop.py", "--rounds", 300 if options.quick else 3000)
    calls, pings = measured["calls_ms"], measured["pings_ms"]
    report = Report("call", options.quick)
    report.add("warm call, p50", percentile(calls, 0.5), "ms", 1)
    report.add("warm call, p99", percentile(calls, 0.99), "ms", 3)
    report.add("socket ping-pong, p50", percentile(pings, 0.5), "ms")
    report.add("socket ping-pong, p99", percentile(pings, 0.99), "ms")
    report.add("warm call over ping-pong, p50", percentile(calls, 0.5) / percentile(pings, 0.5), "x")
    report.finish()


if __name__ == "__main__":
    main()
