"""Plain types with every constraint, and ways to fail."""

from typing import Optional

from cog import BasePredictor, Input


class Predictor(BasePredictor):
    def setup(self):
        print("loading")

    def predict(
        self,
        s: str,
        count: int = Input(default=1, ge=0, le=60),
        scale: float = Input(default=1.0, ge=-2.5, le=2.5),
        flag: bool = False,
        mode: str = Input(default="ok", choices=["ok", "print", "fail", "empty", "quit"]),
        size: int = Input(default=8, choices=[4, 8, 16]),
        short: str = Input(default="ab", min_length=1, max_length=4, regex="^a"),
        opt: Optional[str] = None,
    ) -> str:
        if mode == "print":
            print("hello log")
            print("no newline", end="")
        if mode == "fail":
            raise ValueError("bad thing")
        if mode == "empty":
            raise RuntimeError()
        if mode == "quit":
            raise SystemExit(3)
        return f"{s} {count} {scale} {flag} {size} {short} {opt}"
