"""Names of the states of predictions and of the events that webhooks tell of."""

from enum import Enum


class Status(str, Enum):
    STARTING = "starting"
    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    CANCELED = "canceled"
    FAILED = "failed"


class WebhookEvent(str, Enum):
    START = "start"
    OUTPUT = "output"
    LOGS = "logs"
    COMPLETED = "completed"

    @classmethod
    def default_events(cls):
        return {cls.START, cls.OUTPUT, cls.LOGS, cls.COMPLETED}
