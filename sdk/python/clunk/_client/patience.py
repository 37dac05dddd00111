"""How long a client waits for a server that is away or busy."""

import time

# A server that is restarted is back within seconds; after this it is taken to be gone. Seconds.
AWAY_MAX_S = 60
# The first delay between two tries, and the longest; each is twice the one before. Seconds.
DELAY_MIN_S = 0.02
DELAY_MAX_S = 1.0
# How long a refused request waits before it is offered again, when the server does not say. Seconds.
RETRY_AFTER_S = 0.1
# The longest that a server is believed. Seconds.
RETRY_AFTER_MAX_S = 5.0


class Patience:
    """The delays of one outage: they grow, and end when the time is spent."""

    def __init__(self, seconds=None):
        self._end = time.monotonic() + (AWAY_MAX_S if seconds is None else seconds)
        self._delay = DELAY_MIN_S

    @property
    def is_spent(self):
        return time.monotonic() >= self._end

    def delay(self):
        """Seconds until the next try; None when there should be none."""
        left = self._end - time.monotonic()
        if left <= 0:
            return None
        delay = min(self._delay, left)
        self._delay = min(self._delay * 2, DELAY_MAX_S)
        return delay


def retry_after(head):
    """How long an answer asks to wait."""
    try:
        return min(float(head.get(b"retry-after")), RETRY_AFTER_MAX_S)
    except (TypeError, ValueError):
        return RETRY_AFTER_S


def is_away(status):
    """Whether the server stops or starts just now, so that a request may be sent again later."""
    return status == 503
