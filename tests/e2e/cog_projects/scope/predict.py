"""Metrics and context."""

from cog import BasePredictor, current_scope


class Predictor(BasePredictor):
    def predict(self, name: str = "", way: str = "none") -> str:
        scope = current_scope()
        if way == "replace":
            scope.record_metric("count", 1)
            scope.record_metric("count", 2)
            scope.metrics["model.name"] = "tiny"
        if way == "incr":
            scope.record_metric("tokens", 2, mode="incr")
            scope.record_metric("tokens", 3, mode="incr")
        if way == "append":
            scope.record_metric("steps", "a", mode="append")
            scope.record_metric("steps", "b", mode="append")
        if way == "method":
            self.record_metric("ratio", 0.5)
        if way == "named":
            scope.record_metric(name, 1)
        if way == "types":
            scope.record_metric("kind", 1)
            scope.record_metric("kind", "text")
        return ",".join(f"{key}={value}" for key, value in sorted(scope.context.items()))
