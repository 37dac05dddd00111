"""From zero: until the last of a hundred containers serves, and the first call after the last container has gone."""

from common import Clunk, Report, arguments, median


def main():
    options = arguments(__doc__)
    clunk = Clunk(options.clunk)
    clunk.ensure_server()
    containers, rounds, bursts = (20, 3, 1) if options.quick else (100, 15, 3)
    words = ("--containers", containers, "--rounds", rounds, "--bursts", bursts)
    found = clunk.run_app("scale.py", *words)
    report = Report("scale", options.quick)
    report.add(f"{containers} containers from zero, the first serves", median(found["first"]) * 1e3, "ms")
    report.add(f"{containers} containers from zero, the last serves", median(found["last"]), "s", most=3)
    report.add("first call after scale to zero, in the function", median(found["entered_ms"]), "ms")
    report.add("first call after scale to zero, answered", median(found["cold_ms"]), "ms")
    report.add("first call after scale to zero, slowest", max(found["cold_ms"]), "ms")
    report.finish()


if __name__ == "__main__":
    main()
