"""Work that is canceled, or that ends its process."""

import ctypes
import os
import time

from cog import BasePredictor


class Predictor(BasePredictor):
    def predict(self, how: str = "", begun: str = "") -> str:
        if begun:
            open(begun, "w").close()
        if how == "python":
            time.sleep(60)
        if how == "c":
            # Holds no lock of the interpreter and looks at no signal.
            ctypes.CDLL(None).usleep(60_000_000)
        if how == "exit":
            os._exit(3)
        return "served"
