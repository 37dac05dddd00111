"""The exceptions that Clunk raises."""


class Error(Exception):
    """The base of every exception of Clunk.

    `hint` says how to mend it, when that is known; `code` is the stable name of the kind, as in `docs/errors/CODE.md`.
    """

    def __init__(self, *args: object, hint: "str | None" = None, code: "str | None" = None) -> None:
        super().__init__(*args)
        self.hint = hint
        self.code = code

    @property
    def message(self) -> str:
        """The text without the hint."""
        return super().__str__()

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


class AlreadyExistsError(Error):
    """The thing to make is there already."""


class AuthError(Error):
    """The server does not accept the token, or there is none."""


class ClientClosed(Error):
    """The app that the call belonged to has ended."""


class ConflictError(Error):
    """The server's state has changed in the meantime."""


class ConnectionError(Error):
    """The server cannot be reached."""


class DataLossError(Error):
    """Something that was stored is gone."""


class DeserializationError(Error):
    """An answer cannot be turned back into a Python object."""


class ExecutionError(Error):
    """A function could not be run to its end, for a reason other than an exception of its own."""


class InternalError(Error):
    """A defect of Clunk."""


class InternalFailure(Error):
    """A call was lost for a reason of the machine; it may be tried again."""


class InvalidError(Error):
    """A wrong argument or a wrong order of calls."""


class ModuleNotMountable(Error):
    """A module has no source files that could travel."""


class NotFoundError(Error):
    """The thing that was named does not exist."""


class PermissionDeniedError(Error):
    """The caller may not do this."""


class RequestSizeError(Error):
    """What was sent is too large."""


class ResourceExhaustedError(Error):
    """A limit has been reached: a full queue, a full disk, no memory."""


class RemoteError(Error):
    """Something failed in a container, and its own exception cannot be raised here; the text has its traceback."""


class ImageBuildError(RemoteError):
    """A step of an image failed."""


class CallCanceledError(RemoteError):
    """The call was canceled before it had a result."""


class SerializationError(Error):
    """A value cannot be turned into bytes."""


class ServiceError(Error):
    """The server could not do what was asked."""


class TimeoutError(Error):
    """Something took longer than it may."""


class CallExpiredError(TimeoutError):
    """A call waited in the queue for longer than it may, and was never started."""


class FunctionTimeoutError(TimeoutError):
    """A call ran for longer than the function's timeout."""


class OutputExpiredError(TimeoutError):
    """The result is kept no longer."""


class UnimplementedError(Error):
    """Not available yet in this release."""


class VersionError(Error):
    """Client and server are of versions that do not fit."""


class AsyncUsageWarning(UserWarning):
    """A blocking call inside an event loop."""


class DeprecationError(UserWarning):
    """A name or a parameter that will go."""


class InputCancellation(BaseException):
    """Raised in a function whose call was canceled."""
