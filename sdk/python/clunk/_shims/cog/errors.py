"""Exceptions and warnings."""


class CancelationException(BaseException):
    """Raised in a prediction that was canceled. It is no `Exception`, so that catching those does not catch it."""


class CogError(Exception):
    """Base class of Cog's own errors."""


class ConfigDoesNotExist(CogError):
    """There is no cog.yaml."""


class PredictorNotSet(CogError):
    """cog.yaml names nothing to run."""


class ExperimentalFeatureWarning(FutureWarning):
    """No longer given; models name it to silence it."""


CancelationException.__module__ = ExperimentalFeatureWarning.__module__ = "cog"
