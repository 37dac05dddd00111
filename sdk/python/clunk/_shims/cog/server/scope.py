"""The older place of the scope of a prediction."""

from .._scope import Scope, current_scope, emit_metric

__all__ = ["Scope", "current_scope", "emit_metric"]
