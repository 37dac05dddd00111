import struct
import wave
import zlib

from cog import BaseModel, BasePredictor, Input, Path

HOSTILE = "<!doctype html><title>quiet</title><script>document.title = 'ran'; parent.document.title = 'ran'</script>"


class Output(BaseModel):
    picture: Path
    sound: Path
    page: Path
    size: int


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(side):
    rows = b"".join(b"\0" + b"".join(bytes((x * 255 // side, y * 255 // side, 128)) for x in range(side)) for y in range(side))
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


class Predictor(BasePredictor):
    def predict(
        self,
        image: Path = Input(description="A picture to weigh", accept="image/*"),
        side: int = Input(default=200, ge=1, le=1000, description="Pixels of the new one"),
    ) -> Output:
        with open("picture.png", "wb") as file:
            file.write(png(side))
        with wave.open("sound.wav", "wb") as file:
            file.setparams((1, 1, 8000, 0, "NONE", ""))
            file.writeframes(bytes(range(256)) * 20)
        with open("page.html", "w") as file:
            file.write(HOSTILE)
        return Output(picture=Path("picture.png"), sound=Path("sound.wav"), page=Path("page.html"), size=len(image.read_bytes()))
