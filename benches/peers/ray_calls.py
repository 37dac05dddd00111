"""No-op calls through Ray, as its documentation starts it on one machine with two cores."""

import json
import sys
import time

import ray


@ray.remote
def noop(x):
    return None


@ray.remote
class Noop:
    def noop(self, x):
        return None


def main():
    calls, warm_up = int(sys.argv[1]), int(sys.argv[2])
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")

    def tasks(count):
        ray.get([noop.remote(number) for number in range(count)])

    # They ask for no core of their own, so that two fit beside the tasks' workers.
    actors = [Noop.options(num_cpus=0).remote() for _ in range(2)]

    def actor_calls(count):
        ray.get([actors[number % 2].noop.remote(number) for number in range(count)])

    times = {}
    for name, act in (("tasks", tasks), ("actors", actor_calls)):
        act(warm_up)
        began = time.perf_counter()
        act(calls)
        times[name] = time.perf_counter() - began
    ray.shutdown()
    print(json.dumps(times))


if __name__ == "__main__":
    main()
