"""The shape of an image model's predictor: `cog.` everywhere, choices from tables, a wrapper around predict."""

import functools
import os
import random
import sys
import tempfile
import typing

import cog

sys.path.append("tools")

import resize  # noqa: E402

FACTORS = {"double": 2, "triple": 3}
FORMATS = ["png", "txt"]


def inference_mode(function):
    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapped


class UpscalePredictor(cog.BasePredictor):
    @inference_mode
    def setup(self):
        """Load the model into memory to make running multiple predictions efficient"""
        self.folder = cog.Path(tempfile.mkdtemp())

    @inference_mode
    def predict(
        self,
        image: cog.Path = cog.Input(description="What to enlarge"),
        factor: str = cog.Input(
            description=f"One of {', '.join(FACTORS)}", choices=list(FACTORS.keys()), default="double"
        ),
        output_format: str = cog.Input(choices=FORMATS, default="txt"),
        num_outputs: int = cog.Input(default=1, ge=1, le=4),
        seed: int = cog.Input(default=-1, ge=-1, description="Random when negative"),
    ) -> typing.List[cog.Path]:
        if seed < 0:
            seed = random.randint(0, 2**31)
            print("Using a random seed")
        else:
            print(f"Using seed: {seed}")
        data = resize.repeat(open(str(image), "rb").read(), FACTORS[factor])
        found = []
        for number in range(num_outputs):
            path = self.folder / f"out-{number}.{output_format}"
            path.write_bytes(data)
            found.append(cog.Path(os.path.join(str(self.folder), path.name)))
        return found
