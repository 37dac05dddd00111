"""How often, and after which delays, a call that failed is tried again."""

from . import _check
from .exception import InvalidError

RETRIES_MAX = 10
DELAY_MAX_S = 60
BACKOFF_MAX = 10


class Retries:
    """For `retries=`: the first delay is `initial_delay`, each later one is the one before times `backoff_coefficient`.

    Delays are in seconds.
    """

    def __init__(self, *, max_retries, backoff_coefficient=2.0, initial_delay=1.0, max_delay=60.0):
        owner = "Retries"
        self.max_retries = _check.number(owner, "max_retries", max_retries, 0, RETRIES_MAX)
        self.backoff_coefficient = _check.number(
            owner, "backoff_coefficient", backoff_coefficient, 1, BACKOFF_MAX, float
        )
        self.initial_delay = _check.number(owner, "initial_delay", initial_delay, 0, DELAY_MAX_S, float)
        self.max_delay = _check.number(owner, "max_delay", max_delay, 1, DELAY_MAX_S, float)

    def __repr__(self):
        return (
            f"Retries(max_retries={self.max_retries}, backoff_coefficient={self.backoff_coefficient}, "
            f"initial_delay={self.initial_delay}, max_delay={self.max_delay})"
        )


def record(owner, retries):
    """What the server takes for `retries=`; a number stands for that many tries, a second apart."""
    if isinstance(retries, int) and not isinstance(retries, bool):
        _check.number(owner, "retries", retries, 0, RETRIES_MAX)
        retries = Retries(max_retries=retries, backoff_coefficient=1.0, initial_delay=1.0)
    if not isinstance(retries, Retries):
        raise InvalidError(f"{owner}: retries must be a whole number or clunk.Retries(...), not {retries!r}")
    return {
        "max_retries": retries.max_retries,
        "initial_delay_ms": round(retries.initial_delay * 1000),
        "backoff_coefficient": float(retries.backoff_coefficient),
        "max_delay_ms": round(retries.max_delay * 1000),
    }
