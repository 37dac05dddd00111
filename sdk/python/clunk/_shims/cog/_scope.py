"""What a prediction knows about itself, and the metrics that it reports."""

# Characters of a name, and parts between its dots.
NAME_MAX = 128
SEGMENTS_MAX = 4
# Metrics of one prediction.
METRICS_MAX = 1000
_MODES = ("replace", "incr", "append")
_ALPHABET = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_DIGITS = frozenset("0123456789")
_TYPES = (bool, int, float, str, list, dict)

# Gives the scope of the prediction whose code runs. The runner sets it.
provider = None


class MetricRecorder:
    """Metrics by name: `metrics["tokens"] = 3`."""

    __slots__ = ("_send", "_values")

    def __init__(self, send):
        # Takes a name, a mode and a value; None outside of predictions.
        self._send = send
        self._values = {}

    def record(self, key, value, mode="replace"):
        """Sets a metric, adds to it (`incr`), or puts a value behind those it has (`append`)."""
        if self._send is None:
            return
        mode = "replace" if mode is None else mode
        if mode not in _MODES:
            raise TypeError(f"a metric's mode is replace, incr or append, not {mode!r}")
        check_name(key)
        if value is None:
            if mode != "replace":
                raise TypeError(f"the metric {key!r} cannot be None in mode {mode}")
            return self.delete(key)
        value = _plain(key, value)
        if mode == "incr" and type(value) not in (int, float):
            raise TypeError(f"only numbers can be added: the metric {key!r} was given a {type(value).__name__}")
        known = self._values.get(key)
        if known is None and len(self._values) >= METRICS_MAX:
            raise ValueError(f"a prediction has at most {METRICS_MAX} metrics")
        if known is not None and known[0] is not type(value):
            raise TypeError(
                f"the metric {key!r} is of type {known[0].__name__} and cannot become {type(value).__name__}:"
                " delete it first"
            )
        self._send(key, mode, value)
        self._values[key] = (type(value), _combined(known, value, mode))

    def delete(self, key):
        """Takes a metric away; it may have another type then."""
        if self._send is not None:
            check_name(key)
            self._values.pop(key, None)
            self._send(key, "replace", None)

    def get(self, key, default=None):
        known = self._values.get(key)
        return default if known is None else known[1]

    def __getitem__(self, key):
        return self._values[key][1]

    def __setitem__(self, key, value):
        self.record(key, value)

    def __delitem__(self, key):
        self.delete(key)

    def __contains__(self, key):
        return key in self._values

    def __iter__(self):
        return iter(list(self._values))

    def __len__(self):
        return len(self._values)

    def __bool__(self):
        return True

    def __repr__(self):
        return f"MetricRecorder(keys={len(self._values)})"


class Scope:
    """One prediction: its `metrics`, and the `context` that came with its request."""

    __slots__ = ("context", "metrics")

    def __init__(self, send=None, context=None):
        self.metrics = MetricRecorder(send)
        self.context = dict(context) if context else {}

    def record_metric(self, key, value, mode="replace"):
        """Short for `metrics.record`."""
        self.metrics.record(key, value, mode)

    def __repr__(self):
        return f"Scope({self.metrics!r})"


def current_scope():
    """The prediction whose code runs; outside of one, a scope that ignores what it is told."""
    found = provider() if provider is not None else None
    return Scope() if found is None else found


def emit_metric(name, value):
    """The older way to report a metric."""
    current_scope().record_metric(name, value)


def check_name(name):
    """Raises when a metric cannot have this name."""
    if not isinstance(name, str):
        raise TypeError(f"a metric's name is text, not {type(name).__name__}")
    if not name:
        raise ValueError("a metric's name cannot be empty")
    if len(name) > NAME_MAX:
        raise ValueError(f"a metric's name has at most {NAME_MAX} characters; {name[:20]!r}... has {len(name)}")
    if name == "predict_time":
        raise ValueError("the metric 'predict_time' is measured for you")
    if name.startswith("cog."):
        raise ValueError(f"the metric {name!r}: names that start with 'cog.' are reserved")
    segments = name.split(".")
    if len(segments) > SEGMENTS_MAX:
        raise ValueError(f"the metric {name!r} has {len(segments)} parts between dots; at most {SEGMENTS_MAX} can be")
    for segment in segments:
        _check_segment(name, segment)


def _check_segment(name, segment):
    if not segment:
        raise ValueError(f"the metric {name!r} has an empty part at a dot")
    for letter in segment:
        if letter not in _ALPHABET and letter not in _DIGITS and letter != "_":
            raise ValueError(f"the metric {name!r} has {letter!r} in it: letters, digits and _ are possible")
    if segment[0] not in _ALPHABET:
        raise ValueError(f"the metric {name!r}: {segment!r} has to start with a letter")
    if segment[-1] == "_":
        raise ValueError(f"the metric {name!r}: {segment!r} has to end with a letter or a digit")
    if "__" in segment:
        raise ValueError(f"the metric {name!r} has two _ in a row")


def _plain(key, value):
    """A value of one of the types that a metric can have. Numbers of numerical packages become Python's."""
    kind = type(value)
    if kind in _TYPES:
        return value
    if kind is tuple:
        return list(value)
    for known in _TYPES:
        if isinstance(value, known):
            return known(value)
    item = getattr(value, "item", None)
    if item is not None and getattr(value, "size", 1) == 1:
        value = item()
        if type(value) in _TYPES:
            return value
    raise TypeError(f"the metric {key!r} was given a {kind.__name__}: it can be a bool, int, float, str, list or dict")


def _combined(known, value, mode):
    """What a metric is afterwards, for who reads it again in the same prediction."""
    if mode == "replace":
        return value
    if mode == "incr":
        before = 0 if known is None else known[1]
        return before + value if type(before) in (int, float) else value
    before = [] if known is None else known[1]
    return [*(before if type(before) is list else [before]), value]
