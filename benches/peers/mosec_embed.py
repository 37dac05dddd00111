"""The embedding model behind mosec: one worker, batches as its documentation sets them."""

import os
import sys

from embedding import embed_batch
from mosec import Server, Worker

MOST = int(os.environ["BENCH_BATCH"])


class Embed(Worker):
    def forward(self, data):
        if MOST == 1:
            return embed_batch([data])[0].tolist()
        return embed_batch(data).tolist()


if __name__ == "__main__":
    server = Server()
    # The wait is in milliseconds.
    server.append_worker(Embed, num=1, max_batch_size=MOST, max_wait_time=int(os.environ["BENCH_WAIT_MS"]))
    sys.exit(server.run())
