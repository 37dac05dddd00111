"""Base classes of predictors."""

from ._scope import current_scope


class BaseRunner:
    """Base class of models: `setup` runs once, `run` for every prediction."""

    def setup(self, weights=None):
        """Prepares the model."""

    def run(self, *args, **kwargs):
        """Makes one prediction."""
        if user_method(type(self), "predict") is not None and user_method(type(self), "run") is None:
            return self.predict(*args, **kwargs)
        raise NotImplementedError(f"{type(self).__name__} has no run() method")

    def predict(self, *args, **kwargs):
        """The older name of `run`."""
        if user_method(type(self), "run") is None:
            raise NotImplementedError(f"{type(self).__name__} has no predict() method")
        return self.run(*args, **kwargs)

    @property
    def scope(self):
        """The prediction that runs; outside of one, a scope that ignores what it is told."""
        return current_scope()

    def record_metric(self, key, value, mode="replace"):
        """Reports a number or text about the prediction that runs."""
        current_scope().record_metric(key, value, mode)


class BasePredictor(BaseRunner):
    """The older name of `BaseRunner`."""


FRAMEWORK = (BaseRunner, BasePredictor, object)


def user_method(cls, name):
    """The class whose method `name` a model's author wrote; None when there is none."""
    for owner in cls.__mro__:
        if owner in FRAMEWORK:
            # What is mixed in behind the base class does not come before the base class's own.
            return None
        if callable(owner.__dict__.get(name)):
            return owner
    return None
