"""The shape of an analysis model's predictor: answers are models of pydantic, with files and fields that may be None."""

import pathlib
import tempfile
from typing import List, Optional

from cog import BasePredictor, Input, Path
from pydantic import BaseModel, ConfigDict


class Word(BaseModel):
    text: str
    start: float
    tags: List[str] = []


class Output(BaseModel):
    # Cog's Path is none of pydantic's types.
    model_config = ConfigDict(arbitrary_types_allowed=True)

    detected: bool
    words: List[Word]
    audio: Optional[Path]
    note: Optional[str] = None


class Predictor(BasePredictor):
    def setup(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())

    def predict(
        self,
        audio: Path = Input(description="What to listen to"),
        mode: str = Input(choices=["encode", "decode"], default="decode"),
    ) -> Output:
        text = pathlib.Path(str(audio)).read_text()
        words = [Word(text=word, start=float(number)) for number, word in enumerate(text.split())]
        if mode == "decode":
            return Output(detected=False, words=words, audio=None)
        marked = self.folder / "marked.txt"
        marked.write_text(text.upper())
        return Output(detected=True, words=words, audio=Path(marked), note="marked")
