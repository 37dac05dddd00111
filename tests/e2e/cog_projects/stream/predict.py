"""Text that arrives in chunks, for clients that ask for events."""

from cog import BasePredictor, ConcatenateIterator, Input, current_scope, streaming


class Predictor(BasePredictor):
    @streaming
    def predict(
        self,
        prompt: str,
        count: int = Input(default=3, ge=0, le=5000),
        fail_at: int = -1,
        quiet: bool = False,
    ) -> ConcatenateIterator[str]:
        for number in range(count):
            if number == fail_at:
                raise ValueError(f"no chunk {number}")
            if not quiet:
                print(f"chunk {number}")
            yield f"{prompt}-{number} "
        current_scope().record_metric("tokens", count)
