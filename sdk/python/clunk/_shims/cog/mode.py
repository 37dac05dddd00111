"""What a container does: predictions or trainings."""

from enum import Enum


class Mode(Enum):
    PREDICT = "predict"
    TRAIN = "train"

    def __str__(self):
        return self.value
