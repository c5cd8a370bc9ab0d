"""Somebody's own code, named in a recipe as `file.py:name`, `package.module:name` or just `file.py`."""

import hashlib
import importlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from crawl2chat.stages.files import StageError


def load_object(reference: str, setting: str) -> Any:
    """Return what `file.py:name` or `package.module:name` names; the code in that file runs.

    setting: where the reference comes from, for errors. Raises StageError if the file or module is missing, fails when
    it is run, or does not define the name.
    """
    source, name = _split(reference, setting)
    module = load_module(source, setting)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            defined = ", ".join(n for n in vars(module) if not n.startswith("_")) or "nothing"
            raise StageError(f"{setting} = {reference}: {source} does not define {name!r}; it defines {defined}")
        found = getattr(found, part)
    return found


def load_module(source: str, setting: str) -> ModuleType:
    """Return `file.py` or an installed module, run once per process; it may import installed packages.

    Raises StageError as `load_object` does.
    """
    try:
        if source.endswith(".py"):
            return _run_file(source_file(source, setting))
        return importlib.import_module(source)
    except StageError:
        raise
    except ModuleNotFoundError as error:
        raise StageError(f"{setting} = {source}: no module named {error.name!r} is installed") from error
    except Exception as error:
        raise StageError(f"{setting} = {source}: fails when it is run: {describe_error(error)}") from error


def source_file(reference: str, setting: str) -> Path:
    """Return the file that a reference's code is in, with or without a name, so that a change of it is noticed."""
    source = reference if reference.endswith(".py") else _split(reference, setting)[0]
    if source.endswith(".py"):
        file = Path(source).expanduser()
        if not file.is_file():
            raise StageError(f"{setting} = {reference}: no such file: {file}")
        return file
    try:
        spec = importlib.util.find_spec(source)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        raise StageError(
            f"{setting} = {reference}: no module named {source!r} is installed; a file is named by its .py"
        )
    return Path(spec.origin)


def describe_error(error: Exception) -> str:
    """An exception of somebody's own code in one line, with the place in the code where it was raised."""
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} ({error.filename}, line {error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"


def _split(reference: str, setting: str) -> tuple[str, str]:
    source, _, name = reference.rpartition(":")
    if not source or not name or not all(part.isidentifier() for part in name.split(".")):
        raise StageError(f"{setting} = {reference}: expected file.py:name or package.module:name")
    return source, name


def _run_file(file: Path) -> ModuleType:
    """Run a file as a module under a name of its own, so that it can't hide or be hidden by an installed one."""
    path = file.resolve()
    content = path.read_bytes()
    name = f"crawl2chat_user_{hashlib.sha256(str(path).encode() + content).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise StageError(f"{file}: can't be loaded as Python code")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
