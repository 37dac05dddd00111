"""Calls from inside a container."""

import os

_session = None


def session():
    """What calls of this container go through."""
    global _session
    if _session is None:
        from ._remote_session import ContainerSession
        from .exception import ExecutionError

        app_id = os.environ.get("CLUNK_APP_ID")
        if not app_id:
            raise ExecutionError(
                "a function was called where CLUNK_IS_REMOTE is set but no app runs", hint="unset CLUNK_IS_REMOTE"
            )
        _session = ContainerSession(app_id)
    return _session
