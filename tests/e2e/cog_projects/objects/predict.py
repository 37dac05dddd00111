"""Objects out: nested, optional, with files in them."""

import tempfile
from typing import List, Optional

from cog import BaseModel, BasePredictor, Input, Path


class Box(BaseModel):
    x: int
    label: str


class Output(BaseModel):
    text: str
    score: float
    boxes: List[Box]
    image: Optional[Path] = None
    note: Optional[str] = None


class Predictor(BasePredictor):
    def predict(self, count: int = Input(default=2, ge=0), picture: bool = False) -> Output:
        boxes = [Box(x=number, label=f"box {number}") for number in range(count)]
        image = None
        if picture:
            with tempfile.NamedTemporaryFile("w", suffix=".txt", delete=False) as file:
                file.write("picture")
            image = Path(file.name)
        return Output(text="Grüße", score=0.5, boxes=boxes, image=image)
