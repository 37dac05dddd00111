"""The shape of a language model's predictor: asynchronous, warmed up with its own defaults, token counts as metrics."""

import asyncio
import inspect
import logging
import sys
import typing
from dataclasses import dataclass

import cog
from cog import AsyncConcatenateIterator, BasePredictor, Input
from cog import Path as CogPath

logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
logger = logging.getLogger(__name__)


@dataclass
class Settings:
    words: typing.Tuple[str, ...] = ("one", "two", "three")


class Predictor(BasePredictor):
    async def setup(self, weights: typing.Optional[CogPath] = None) -> None:
        self.settings = Settings()
        self.ready = False
        warm = [token async for token in self.predict(**{**self._defaults, "prompt": "warm"})]
        assert "".join(warm) == "warm one two three", warm
        self.ready = True

    async def predict(
        self,
        prompt: str = Input(description="What to continue. " "Plain text.", default=""),
        system_prompt: typing.Optional[str] = Input(description="Comes first", default=None),
        max_tokens: int = Input(description="At most this many", default=512, ge=1),
        temperature: float = Input(default=0.6),
        top_p: float = Input(default=0.9, ge=0.0, le=1.0),
        stop_sequences: typing.Optional[str] = Input(default=None),
        seed: typing.Optional[int] = Input(default=None),
    ) -> AsyncConcatenateIterator[str]:
        logger.info("asked for %d tokens", max_tokens)
        stops = stop_sequences.split(",") if stop_sequences else []
        count = 0
        yield f"{system_prompt} {prompt}" if system_prompt else prompt
        for word in self.settings.words[:max_tokens]:
            if word in stops:
                break
            await asyncio.sleep(0)
            count += 1
            yield f" {word}"
        if self.ready:
            cog.current_scope().record_metric("output_token_count", count)

    _defaults = {
        key: given.default.default
        for key, given in inspect.signature(predict).parameters.items()
        if hasattr(given.default, "default")
    }
