"""Spawned calls: how fast they are accepted onto the disk, what a million that wait weigh, and how they drain."""

from common import Clunk, Report, arguments


def main():
    options = arguments(__doc__)
    clunk = Clunk(options.clunk)
    clunk.ensure_server()
    count, accepts = (20_000, 500) if options.quick else (1_000_000, 5000)
    server = clunk.status()
    words = ("--count", count, "--accepts", accepts, "--pid", server["pid"], "--folder", server["state_dir"])
    found = clunk.run_app("spawn.py", *words, timeout=3600)
    first, middle, last = found["drain"][0], found["drain"][len(found["drain"]) // 2], found["drain"][-1]
    report = Report("spawn", options.quick)
    report.add("accepted on disk, 1 client, one call a request", found["accept_1"], "calls/s")
    report.add("accepted on disk, 64 clients", found["accept_64"], "calls/s")
    report.add("appends of 4 KiB with fdatasync, one after the other", found["sync"], "a second")
    report.add("1 client over the appends", found["accept_1"] / found["sync"], "x")
    report.add("64 clients over the appends", found["accept_64"] / found["sync"], "x")
    report.add(f"{count:,} calls by spawn_map, accepted", found["enqueue"], "calls/s")
    report.add(f"server with {count:,} calls waiting", found["rss_pending"], "MB", most=500)
    report.add("server while they drain, most", found["rss_most"], "MB", most=500)
    report.add("drain, first tenth", first, "calls/s")
    report.add("drain, sixth tenth", middle, "calls/s")
    report.add("drain, last tenth", last, "calls/s")
    report.add("drain, last tenth over the first", last / first, "x", least=0.8)
    report.finish()


if __name__ == "__main__":
    main()
