"""Images: what a container's file system is made of."""

from clunk import is_local


class Image:
    """A base and the steps on top of it. Each method gives a new image; none changes the one it is called on.

    Nothing is built before an app that uses the image runs. In a container the methods do nothing.
    """

    __slots__ = ("_base", "_force", "_import_error", "_parent", "_steps")

    def __init__(self, *, _base=None, _steps=(), _parent=None, _force=False):
        if _base is None:
            from .exception import InvalidError

            raise InvalidError(
                "an image is made by one of its methods", hint="clunk.Image.debian_slim() or .from_registry(...)"
            )
        self._base = _base
        self._steps = _steps
        self._parent = _parent
        self._force = _force
        self._import_error = None

    # Bases

    @staticmethod
    def debian_slim(python_version=None, *, force_build=False):
        """Debian with Python; the version of this machine's Python when Debian has it."""
        return _start("debian_slim", (python_version,), {}, force_build)

    @staticmethod
    def from_registry(tag, secret=None, *, force_build=False, **options):
        """An image of any OCI registry; it needs a Python on its PATH."""
        lines = options.pop("setup_dockerfile_commands", None)
        image = _start("from_registry", (tag, secret), options, force_build)
        return image.dockerfile_commands(lines) if lines else image

    @staticmethod
    def _not_yet(*args, **options):
        from .exception import UnimplementedError

        raise UnimplementedError(
            "this way to start an image is not available yet", hint="use Image.debian_slim() or .from_registry(...)"
        )

    micromamba = from_dockerfile = from_scratch = from_id = from_name = _not_yet
    from_aws_ecr = from_gcp_artifact_registry = _not_yet

    # Steps

    def apt_install(self, *packages, force_build=False, **options):
        """Installs Debian packages."""
        return self._add("apt_install", packages, options, force_build)

    def pip_install(self, *packages, force_build=False, **options):
        """Installs Python packages."""
        return self._add("pip_install", packages, options, force_build)

    def uv_pip_install(self, *packages, force_build=False, **options):
        """Installs Python packages; every install is done by uv."""
        return self._add("pip_install", packages, options, force_build)

    def pip_install_from_requirements(self, requirements_txt, *, force_build=False, **options):
        """Installs what a local requirements file lists."""
        options["requirements"] = [requirements_txt]
        return self._add("pip_install", (), options, force_build)

    def run_commands(self, *commands, force_build=False, **options):
        """Runs shell commands."""
        return self._add("run_commands", commands, options, force_build)

    def env(self, vars):
        """Sets environment variables."""
        return self._add("env", (vars,), {}, False)

    def workdir(self, path):
        """Sets the working folder of later steps and of the container."""
        return self._add("workdir", (path,), {}, False)

    def entrypoint(self, entrypoint_commands):
        """Replaces the image's entry point."""
        return self._add("entrypoint", (entrypoint_commands,), {}, False)

    def cmd(self, cmd):
        """Replaces the image's default command."""
        return self._add("cmd", (cmd,), {}, False)

    def dockerfile_commands(self, *dockerfile_commands, force_build=False, **options):
        """Runs lines of a Dockerfile; COPY takes from `context_files` and `context_dir`."""
        return self._add("dockerfile_commands", dockerfile_commands, options, force_build)

    def run_function(self, raw_f, *, force_build=False, **options):
        """Runs a function of your source and keeps what it wrote."""
        return self._add("run_function", (raw_f,), options, force_build)

    def add_local_file(self, local_path, remote_path, *, copy=False):
        """Adds a file when a container starts, or with `copy=True` to the image itself."""
        return self._add("add_local_file", (local_path, remote_path), {"copy": copy}, False)

    def add_local_dir(self, local_path, remote_path, *, copy=False, ignore=()):
        """Adds a folder when a container starts, or with `copy=True` to the image itself."""
        return self._add("add_local_dir", (local_path, remote_path), {"copy": copy, "ignore": ignore}, False)

    def add_local_python_source(self, *modules, copy=False, ignore=None):
        """Adds local modules where the container imports them from."""
        return self._add("add_local_python_source", modules, {"copy": copy, "ignore": ignore}, False)

    def imports(self):
        """A context for imports of packages that only the image has: here a missing one is passed over."""
        return _Imports(self)

    def _missing_import(self):
        """What `imports()` of this image, or of one that it is made from, passed over."""
        image = self
        while image is not None:
            if image._import_error is not None:
                return image._import_error
            image = image._parent
        return None

    def pipe(self, function, *args, **kwargs):
        """`function(image, ...)`, for chains."""
        return function(self, *args, **kwargs)

    def __getattr__(self, name):
        if name in _COMING:
            from .exception import UnimplementedError

            raise UnimplementedError(f"Image.{name} is not available yet")
        raise AttributeError(f"'Image' object has no attribute {name!r}")

    def _add(self, method, args, options, force):
        if not is_local():
            return Image(_base=self._base, _parent=self)
        from ._image_steps import make_step

        step = make_step(self, method, args, options)
        return Image(_base=self._base, _steps=(*self._steps, step), _parent=self, _force=self._force or force)

    def __repr__(self):
        return f"<clunk.Image {self._base!r} and {len(self._steps)} steps>"


# Builders of the interface that this release lacks.
_COMING = frozenset(
    "micromamba_install pip_install_from_pyproject pip_install_private_repos poetry_install_from_file uv_sync "
    "shell publish build".split()
)


def _start(method, args, options, force):
    if not is_local():
        return Image(_base=method)
    from ._image_steps import make_base

    return Image(_base=make_base(method, args, options), _force=force)


# Every import error that `imports()` passed over.
passed_over = []


class _Imports:
    __slots__ = ("_image",)

    def __init__(self, image):
        self._image = image

    def __enter__(self):
        return None

    def __exit__(self, kind, error, trace):
        if kind is None or not issubclass(kind, ImportError):
            return False
        # In a container, the runner raises it when this is the image of the function that it serves.
        self._image._import_error = error
        passed_over.append(error)
        return True
