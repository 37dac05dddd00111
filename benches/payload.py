"""100 MB as an argument and as a result, beside copying as many bytes through a Unix socket twice."""

from common import Clunk, Report, arguments, median


def main():
    options = arguments(__doc__)
    clunk = Clunk(options.clunk)
    clunk.ensure_server()
    times = clunk.run_app("payload.py", "--rounds", 2 if options.quick else 10)
    floor = median(times["floor"])
    report = Report("payload", options.quick)
    fresh = median(times["fresh_floor"])
    report.add("100 MB through a socket twice, into used memory", floor, "ms")
    report.add("100 MB through a socket twice, into new memory", fresh, "ms")
    for name, what in (("argument", "argument"), ("result", "result"), ("both", "argument and the same as result")):
        report.add(f"100 MB {what}", median(times[name]), "ms")
        report.add(f"{name} over the socket, used memory", median(times[name]) / floor, "x", 4)
        report.add(f"{name} over the socket, new memory", median(times[name]) / fresh, "x", 4)
    report.finish()


if __name__ == "__main__":
    main()
