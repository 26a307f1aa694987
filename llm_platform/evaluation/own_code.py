"""A team's own functions, named in `application.yaml` as `module:function`.

    evaluation:
      scorers: ["grading:mentions_total"]     # (answer, reference) -> score, or (score, reason)
      metrics: ["grading:share_of_refusals"]  # (rows) -> number, or Interval
      panels:  ["grading:by_length"]          # (rows) -> Panel

`grading` is `grading.py` in the application's folder, else an importable module. The code runs with the platform's own
rights, like any code of the repository: read it before you merge it.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from llm_platform.errors import ContractBroken, SpecificationError, bare_words, interrupts

VERSION_DIGITS = 8


def load_function(reference: str, folder: Path, *, arguments: tuple[str, ...]) -> Callable[..., Any]:
    """The function that `module:function` names.

    Args:
        reference: As it stands in `application.yaml`.
        folder: Of the application; a `module.py` in it goes before an installed module of the same name.
        arguments: What it will be called with, by position.

    Raises:
        SpecificationError: there is no such module or function, or it does not take these arguments.
    """
    module, _, name = reference.partition(":")
    if not module or not name:
        raise SpecificationError(f"{reference!r} names no function: write 'module:function', such as 'grading:strict'.")
    loaded = _module(reference, module, folder)
    function = getattr(loaded, name, None)
    if not callable(function):
        there = sorted(key for key, value in vars(loaded).items() if inspect.isfunction(value))
        raise SpecificationError(
            f"{reference!r}: {loaded.__file__} has no function {name!r}. It has: {', '.join(there) or 'none'}."
        )
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError as error:
        wanted = ", ".join(arguments)
        raise SpecificationError(
            f"{reference!r} takes {inspect.signature(function)}; it will be called with ({wanted})."
        ) from error
    found: Callable[..., Any] = function
    return found


def called(what: str, reference: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """What a team's function returns.

    Args:
        what: What it is called as, for messages: `Scorer`.
        reference: As it stands in `application.yaml`.
        function: What `load_function` found.
        arguments: What it is called with.

    Raises:
        ContractBroken: it raised something. What it said is not repeated: it may quote the rows that it was given.
    """
    try:
        return function(*arguments)
    except BaseException as error:
        # `sys.exit` in a script that became a module is theirs, too.
        if interrupts(error):
            raise
        raise ContractBroken(
            f"{what} {reference!r} raised {bare_words(error)}. What it said is not shown, since it may quote rows. "
            "Mend it there, or call it with that row in a test of your own."
        ) from None


def code_version(function: Callable[..., Any]) -> str:
    """Eight hex digits of the file that a function stands in: changed code gives other scores."""
    path = inspect.getsourcefile(function)
    content = Path(path).read_bytes() if path else repr(function).encode()
    return hashlib.sha256(content).hexdigest()[:VERSION_DIGITS]


def _module(reference: str, module: str, folder: Path) -> ModuleType:
    path = folder / f"{module.replace('.', '/')}.py"
    if path.is_file():
        return _module_of_file(reference, module, path)
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise SpecificationError(
                f"{reference!r}: {module} needs {error.name!r}, which is not installed."
            ) from error
        raise SpecificationError(
            f"{reference!r}: there is no {path.name} in {folder} and no installed module {module!r}."
        ) from error
    except BaseException as error:
        if interrupts(error):
            raise
        raise _not_importable(reference, module, error) from None


def _module_of_file(reference: str, module: str, path: Path) -> ModuleType:
    # Two applications may each have a `grading.py`; the folder's hash keeps them apart in `sys.modules`.
    unique = hashlib.sha256(str(path.resolve()).encode() + path.read_bytes()).hexdigest()[:VERSION_DIGITS]
    name = f"llm_platform_own_{module.replace('.', '_')}_{unique}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise SpecificationError(f"{reference!r}: {path} is not a Python file.")
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[name] = loaded
    try:
        spec.loader.exec_module(loaded)
    except (ImportError, SyntaxError) as error:
        del sys.modules[name]
        raise SpecificationError(
            f"{reference!r}: {path} cannot be imported: {type(error).__name__}: {error}."
        ) from error
    except BaseException as error:
        del sys.modules[name]
        if interrupts(error):
            raise
        raise _not_importable(reference, str(path), error) from None
    return loaded


def _not_importable(reference: str, what: str, error: BaseException) -> SpecificationError:
    return SpecificationError(
        f"{reference!r}: {what} cannot be imported: it raised {bare_words(error)}. What it said is not shown, since it "
        "may quote rows."
    )
