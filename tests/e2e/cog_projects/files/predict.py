"""Files in and out."""

import os
import tempfile
from typing import List, Optional

from cog import BasePredictor, File, Input, Path, Secret


class Predictor(BasePredictor):
    def predict(
        self,
        image: Optional[Path] = None,
        images: Optional[List[Path]] = None,
        raw: Optional[File] = None,
        key: Optional[Secret] = None,
        text: str = "out",
        count: int = Input(default=1, ge=0, le=10),
        suffix: str = ".txt",
        missing: bool = False,
    ) -> List[Path]:
        parts = [text]
        if image is not None:
            parts.append(f"{image.suffix} {len(image.read_bytes())}")
        for found in images or []:
            parts.append(found.read_bytes().decode())
        if raw is not None:
            parts.append(raw.read().decode())
        if key is not None:
            parts.append(f"{key} {len(key.get_secret_value())}")
        folder = tempfile.mkdtemp()
        made = []
        for number in range(count):
            path = os.path.join(folder, f"result{number}{suffix}")
            if not missing:
                with open(path, "w") as file:
                    file.write("|".join(parts))
            made.append(Path(path))
        return made
