"""What the platform raises on purpose.

    PlatformError
    ├── TransientError          the same attempt may succeed later
    │   ├── EndpointUnavailable  no endpoint answered, or it answered 408, 429 or 5xx
    │   └── LeaseHeld            another writer holds the same work
    └── PermanentError          the same attempt fails again until somebody changes something
        ├── SpecificationError   application.yaml, a prompt file or the lock file is wrong
        ├── EndpointMismatch     an endpoint is not what the lock file pins
        ├── RequestRejected      the endpoint refused this one request (4xx)
        ├── ContractBroken       rows do not have the shape that readers were promised
        │   └── DropHeld         a source has lost so many rows that somebody has to say that it is right
        ├── EvidenceMissing      a release has no passing report of its own
        ├── StorageError         the state folder or the lake cannot be read or written
        │   └── UnstorableRow    a row has a value that no column takes; others can be stored
        ├── ClusterRefused       the Kubernetes API does not do what it was asked for
        ├── ForeignObject        an object of the cluster was made by somebody else, and is left alone
        └── PodsFailed           a model does not come up before somebody changes something

A message says what was attempted, on which thing, what was found, and what to do. It never holds a document's text or
an answer.
"""

from __future__ import annotations

import logging
import traceback
from pathlib import PurePath

PLACES_SHOWN = 4


class PlatformError(Exception):
    """Base of everything raised on purpose."""


class TransientError(PlatformError):
    """The same attempt may succeed later."""


class PermanentError(PlatformError):
    """The same attempt fails again until somebody changes something."""


class EndpointUnavailable(TransientError):
    """No endpoint answered, or it answered 408, 429 or 5xx."""


class LeaseHeld(TransientError):
    """Another writer holds the same work."""


class SpecificationError(PermanentError):
    """A specification file is wrong; the message lists every mistake, one a line, as `file:line: …`."""


class EndpointMismatch(PermanentError):
    """An endpoint is not what the lock file pins."""


class RequestRejected(PermanentError):
    """The endpoint refused this one request."""


class ContractBroken(PermanentError):
    """Rows do not have the shape that readers were promised."""


class DropHeld(ContractBroken):
    """A source has lost so many rows that somebody has to say that it is right."""


class EvidenceMissing(PermanentError):
    """A release has no passing report of its own."""


class StorageError(PermanentError):
    """The state folder or the lake cannot be read or written."""


class UnstorableRow(StorageError):
    """A row has a value that no column takes; nothing was stored, and others can be."""


class ClusterRefused(PermanentError):
    """The Kubernetes API does not do what it was asked for."""


class ForeignObject(PermanentError):
    """An object of the cluster was made by somebody else, and is left alone."""


class PodsFailed(PermanentError):
    """A model does not come up before somebody changes something: its image, its memory, a secret."""


def bare_words(error: BaseException) -> str:
    """What can be said of an exception that was not raised on purpose: its class and where it was raised.

    What it says itself may quote documents, answers and secrets: pydantic prints inputs, pandas values, a team's own
    code whatever it likes.
    """
    frames = traceback.extract_tb(error.__traceback__)[-PLACES_SHOWN:]
    places = " < ".join(f"{_short(frame.filename)}:{frame.lineno} ({frame.name})" for frame in reversed(frames))
    return f"{type(error).__name__} at {places}" if places else type(error).__name__


def unexpected(error: BaseException) -> str:
    """A whole message about such an exception."""
    return (
        f"{bare_words(error)}. This was not foreseen. What the error says is not shown, since it may quote documents; "
        "the places above tell where to look, and what to report."
    )


def is_interrupt(error: BaseException) -> bool:
    """Whether an exception is what DuckDB makes of Ctrl-C while it computes."""
    return isinstance(error, RuntimeError) and str(error) == "Query interrupted"


def interrupts(error: BaseException) -> bool:
    """Whether an exception ends the work from outside; whatever else a team's code raises is that code's own.

    Dagster's is told by its name, since what calls a team's code does not import Dagster.
    """
    return isinstance(error, (KeyboardInterrupt, GeneratorExit)) or any(
        one.__name__ == "DagsterExecutionInterruptedError" for one in type(error).__mro__
    )


def without_messages(record: logging.LogRecord) -> bool:
    """A filter of log records: an exception in one is told by `unexpected`, not by its trace."""
    if record.exc_info and record.exc_info[1] is not None:
        record.msg, record.args = unexpected(record.exc_info[1]), ()
        record.exc_info = record.exc_text = None
    return True


def _short(filename: str) -> str:
    return "/".join(PurePath(filename).parts[-3:])
