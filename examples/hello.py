"""The smallest app: one function in a container, called from here.

clunk run examples/hello.py
clunk run examples/hello.py --name you
"""

import platform

import clunk

app = clunk.App("hello")


@app.function()
def hello(name: str) -> str:
    print(f"greeting {name} from {platform.node()}")
    return f"Hello {name}, this is Python {platform.python_version()} in a container."


@app.local_entrypoint()
def main(name: str = "world"):
    print(hello.remote(name))
