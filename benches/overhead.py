"""What a call costs the server: microseconds of its processor time, for a call of a map and for a warm `.remote()`."""

from common import Clunk, Report, arguments, median


def main():
    options = arguments(__doc__)
    clunk = Clunk(options.clunk)
    clunk.ensure_server()
    rounds, calls = (1, 2000) if options.quick else (5, 10_000)
    words = ("--calls", calls, "--warm-up", calls // 10, "--naps", 0, "--pid", clunk.status()["pid"])
    found = [clunk.run_app("map.py", *words) for _ in range(rounds)]
    report = Report("overhead", options.quick)
    report.add("server, per call of a map", median([one["server_us"] for one in found]), "us")
    report.add("server, per warm remote()", median([one["remote_us"] for one in found]), "us")
    report.add("client, per call of a map", median([one["client_us"] for one in found]), "us")
    report.finish()


if __name__ == "__main__":
    main()
