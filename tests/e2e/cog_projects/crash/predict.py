"""Ends its own process when asked, or holds C code that no Python can interrupt."""

import ctypes
import os
import signal

from cog import BasePredictor, Input


class Predictor(BasePredictor):
    def predict(
        self, how: str = Input(default="", choices=["", "exit", "segfault", "kill", "c_sleep"]), s: str = ""
    ) -> str:
        if how == "exit":
            os._exit(3)
        if how == "segfault":
            ctypes.string_at(0)
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "c_sleep":
            # Without the interpreter's lock nor a check for signals until it returns.
            ctypes.CDLL(None).usleep(60 * 1000 * 1000)
        return f"{os.getpid()} {s}"
