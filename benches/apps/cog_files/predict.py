"""Files: one in, of which the size is told; or one out, of as many bytes as asked for."""

from typing import Optional

from cog import BasePredictor, Path


class Predictor(BasePredictor):
    def predict(self, image: Optional[Path] = None, size: int = 0) -> Path:
        path = Path(f"output{size}.bin")
        if image is not None:
            path.write_text(str(image.stat().st_size))
        elif not path.exists():
            path.write_bytes(bytes(range(256)) * (size // 256))
        return path
