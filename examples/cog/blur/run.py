"""A picture in, a picture out.

clunk run examples/cog/blur -i image=@photo.jpg -i radius=8 -o blurred.png
"""

import tempfile

from cog import BaseRunner, Input, Path
from PIL import Image, ImageFilter


class Runner(BaseRunner):
    def run(
        self,
        image: Path = Input(description="The picture", accept="image/*"),
        radius: float = Input(description="How far colours run, in pixels", default=5, ge=0, le=100),
        format: str = Input(description="Of the result", default="png", choices=["png", "webp", "jpeg"]),
    ) -> Path:
        blurred = Image.open(image).convert("RGB").filter(ImageFilter.GaussianBlur(radius))
        out = Path(tempfile.mkdtemp()) / f"blurred.{format}"
        blurred.save(out)
        return out
