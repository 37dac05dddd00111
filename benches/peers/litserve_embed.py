"""The embedding model behind LitServe: one worker, batches as its documentation sets them."""

import os
import sys

import litserve
from embedding import embed_batch

MOST = int(os.environ["BENCH_BATCH"])


class Embed(litserve.LitAPI):
    def setup(self, device):
        embed_batch(["warm"])

    def decode_request(self, request):
        return request["text"]

    def predict(self, given):
        if MOST == 1:
            return embed_batch([given])[0].tolist()
        return embed_batch(list(given)).tolist()

    def unbatch(self, output):
        return output

    def encode_response(self, output):
        return output


if __name__ == "__main__":
    api = Embed(max_batch_size=MOST, batch_timeout=int(os.environ["BENCH_WAIT_MS"]) / 1000)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="error")
