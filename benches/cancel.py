"""Cancelling `time.sleep(60)`, a task, and C code that hears no signal; and a process that dies beside a spare one."""

from common import Clunk, Report, arguments, median


def main():
    options = arguments(__doc__)
    clunk = Clunk(options.clunk)
    clunk.ensure_server()
    found = clunk.run_app("cancel.py", "--rounds", 5 if options.quick else 50)
    report = Report("cancel", options.quick)
    kinds = {"sleeper": "time.sleep(60)", "task": "asyncio.sleep(60)", "deaf": "C code, signals blocked"}
    for name, what in kinds.items():
        ended, usable = zip(*found[name])
        report.add(f"{what}: canceled, p50", median(ended), "ms")
        report.add(f"{what}: canceled, slowest", max(ended), "ms", most=100)
        report.add(f"{what}: the next call on its slot answered, p50", median(usable), "ms")
        report.add(f"{what}: the next call on its slot answered, slowest", max(usable), "ms")
    extra = [after - usual for after, usual in found["died"]]
    report.add("os._exit(3): the next call takes longer by, p50", median(extra), "ms")
    report.add("os._exit(3): the next call takes longer by, slowest", max(extra), "ms", most=100)
    report.finish()


if __name__ == "__main__":
    main()
