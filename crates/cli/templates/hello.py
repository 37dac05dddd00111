import platform

import clunk

app = clunk.App("hello")
image = clunk.Image.debian_slim().pip_install("cowsay")


@app.function(image=image)
def hello(name: str) -> str:
    import cowsay

    print(f"this line is printed in a container, by Python {platform.python_version()}")
    return cowsay.get_output_string("cow", f"Hello, {name}!")


@app.local_entrypoint()
def main(name: str = "world"):
    print(hello.remote(name))
