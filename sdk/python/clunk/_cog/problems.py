"""What is wrong with a project, with its place and its mend."""

ERROR, WARNING = "error", "warning"
# A hopeless file must not fill the screen or the memory.
MAX_PROBLEMS = 200


class Refused(Exception):
    """One thing that cannot be read; whoever catches it writes it down and goes on with the next."""

    def __init__(self, code, message, module=None, node=None, hint=None):
        super().__init__(message)
        self.code = code
        self.message = message
        self.module = module
        self.node = node
        self.hint = hint


class Stop(Exception):
    """Nothing more can be read; the problem is written down."""


class Problems:
    """The list of what was found, in the order of the source."""

    def __init__(self):
        self.found = []

    def error(self, code, message, module=None, node=None, hint=None):
        self._add(ERROR, code, message, module, node, hint)

    def warning(self, code, message, module=None, node=None, hint=None):
        self._add(WARNING, code, message, module, node, hint)

    def refused(self, refusal):
        self.error(refusal.code, refusal.message, refusal.module, refusal.node, refusal.hint)

    def syntax(self, error, shown, hint):
        """A `SyntaxError` of the parser."""
        problem = {"severity": ERROR, "code": "python-syntax", "message": f"{error.msg}", "file": shown}
        if error.lineno:
            problem["line"] = error.lineno
            problem["column"] = max(error.offset or 1, 1)
        self._append({**problem, "hint": hint})

    def _add(self, severity, code, message, module, node, hint):
        problem = {"severity": severity, "code": code, "message": message}
        if module is not None:
            problem["file"] = module.shown
            line = getattr(node, "lineno", None)
            if line:
                problem["line"] = line
                problem["column"] = module.column(node)
        if hint:
            problem["hint"] = hint
        self._append(problem)

    def _append(self, problem):
        if len(self.found) < MAX_PROBLEMS and problem not in self.found:
            self.found.append(problem)

    @property
    def has_errors(self):
        return any(problem["severity"] == ERROR for problem in self.found)

    def in_order(self):
        place = {problem.get("file"): number for number, problem in reversed(list(enumerate(self.found)))}
        return sorted(self.found, key=lambda problem: (place[problem.get("file")], problem.get("line", 0)))


def show(problem):
    """One problem as lines of text: where, what, and how to mend it."""
    place = problem.get("file", "")
    if place and "line" in problem:
        place += f":{problem['line']}:{problem['column']}"
    lines = [f"{place}: {problem['severity']}[{problem['code']}]: {problem['message']}".lstrip(": ")]
    if problem.get("hint"):
        lines.append(f"  hint: {problem['hint']}")
    return "\n".join(lines)


def nearest(name, known):
    """The known name that `name` was probably meant to be, or None."""
    from difflib import get_close_matches

    lowered = {other.lower(): other for other in reversed(list(known))}
    found = get_close_matches(name.lower(), list(lowered), 1, 0.6)
    return lowered[found[0]] if found else None
