"""A package that only the container has: draws pictures, makes thumbnails of them, and saves a contact sheet here.

clunk run examples/thumbnails.py --count 12 --out sheet.png
"""

import io
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import clunk

image = clunk.Image.debian_slim().pip_install("pillow")
app = clunk.App("thumbnails", image=image)

with image.imports():
    from PIL import Image, ImageDraw


def as_png(picture) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


@app.function()
def draw(number: int, size: int = 1024) -> bytes:
    """A rosette that differs for each number."""
    picture = Image.new("RGB", (size, size), "white")
    canvas = ImageDraw.Draw(picture)
    middle, petals = size / 2, number + 3
    for step in range(720):
        angle = math.radians(step / 2)
        radius = middle * 0.9 * abs(math.cos(petals * angle))
        point = (middle + radius * math.cos(angle), middle + radius * math.sin(angle))
        hue = f"hsl({(step // 2 + 30 * number) % 360}, 80%, 50%)"
        canvas.line([(middle, middle), point], fill=hue, width=4)
    return as_png(picture)


@app.function()
def thumbnail(png: bytes, size: int = 128) -> bytes:
    """A picture in small."""
    picture = Image.open(io.BytesIO(png))
    picture.thumbnail((size, size), Image.Resampling.LANCZOS)
    return as_png(picture)


@app.function()
def contact_sheet(thumbnails: list, columns: int = 4) -> bytes:
    """All thumbnails on one page."""
    pictures = [Image.open(io.BytesIO(png)) for png in thumbnails]
    width, height = pictures[0].size
    rows = math.ceil(len(pictures) / columns)
    sheet = Image.new("RGB", (columns * width, rows * height), "white")
    for index, picture in enumerate(pictures):
        sheet.paste(picture, (index % columns * width, index // columns * height))
    return as_png(sheet)


@app.local_entrypoint()
def main(count: int = 12, out: Path = Path("contact-sheet.png")):
    with ThreadPoolExecutor(4) as pool:
        pictures = list(pool.map(draw.remote, range(count)))
        small = list(pool.map(thumbnail.remote, pictures))
    out.write_bytes(contact_sheet.remote(small))
    print(f"{count} pictures of {sum(map(len, pictures)) // count} bytes each; their thumbnails are in {out}")
