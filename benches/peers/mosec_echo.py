"""An echo behind mosec: one worker, one request at a time, JSON."""

import sys

from mosec import Server, Worker


class Echo(Worker):
    def forward(self, data):
        return {"output": predict(data["input"]["text"])}


def predict(text: str) -> str:
    return text


if __name__ == "__main__":
    server = Server()
    server.append_worker(Echo, num=1)
    sys.exit(server.run())
