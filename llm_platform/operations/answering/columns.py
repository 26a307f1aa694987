"""Whether the tables that an application names have the columns that it names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager

from llm_platform.application.load import FILE_NAME
from llm_platform.application.model import Application
from llm_platform.application.source import TableRef
from llm_platform.application.yaml.mistakes import Mistake, listed, nearest, read_text, wording
from llm_platform.application.yaml.read import LocatedYaml, Location, read_yaml
from llm_platform.errors import ContractBroken, SpecificationError, TransientError
from llm_platform.operations.answering.documents import located
from llm_platform.operations.answering.source_look import look_at_source
from llm_platform.warehouse.engine import connect
from llm_platform.warehouse.object_store import S3Access
from llm_platform.warehouse.sources import SourceReader


@contextmanager
def source_reader(warehouses: Mapping[str, str], *, s3: S3Access | None = None) -> Iterator[SourceReader]:
    """A reader of source tables for the length of a `with` block; it needs no lake of ours and makes none."""
    with closing(connect(1)) as connection:
        yield SourceReader(connection, warehouses, s3=s3)


def column_mistakes(application: Application, sources: SourceReader) -> tuple[list[Mistake], list[str]]:
    """Columns in `application.yaml` that are not there, at their lines; and tables that could not be looked at."""
    yaml = _read_again(application)
    mistakes: list[Mistake] = []
    unread: list[str] = []
    tables: list[tuple[Location, TableRef, Iterator[tuple[Location, str]]]] = [
        (("source",), application.source, _of_source(application))
    ]
    if application.references is not None:
        tables.append((("references",), application.references, _of_references(application)))
    for variant, recorded in application.recordings.items():
        of_variant = _of_predictions(application, variant)
        tables.append((("variants", variant, "predictions"), TableRef(url=recorded.predictions.url), of_variant))
    for section, ref, found in tables:
        named = list(found)
        try:
            columns = list(sources.columns(located(ref, application), [name for _, name in named]))
        except (TransientError, ContractBroken, SpecificationError) as error:
            if isinstance(error, ContractBroken) or (ref.warehouse is None and not isinstance(error, TransientError)):
                # What is there and broken gets no better by waiting.
                mistakes.append(yaml.mistake((*section, ref.place_key), str(error)))
            else:
                unread.append(str(error).partition(". ")[0])
            continue
        mistakes += [_mistake(yaml, at, name, columns=columns, ref=ref) for at, name in named if name not in columns]
    return mistakes, unread


def row_mistakes(application: Application, sources: SourceReader, *, most: int) -> tuple[list[Mistake], list[str]]:
    """What a run would refuse in the rows of an application's tables, at their lines; and what could not be read.

    Args:
        most: Rows that are read.
    """
    yaml = _read_again(application)
    at: Location = ("source", application.source.place_key)
    try:
        look = look_at_source(application, sources, most=most)
    except (TransientError, SpecificationError) as error:
        return [], [str(error).partition(". ")[0]]
    mistakes = [yaml.mistake(at, f"{look.address}: {said}") for said in look.refused]
    if application.references is not None:
        known: Location = ("references", application.references.place_key)
        mistakes += [yaml.mistake(known, said) for said in look.answers_refused]
    some = [f"{look.address} was looked at as far as row {look.rows}, of about {look.about}"] if look.about else []
    return mistakes, some


def _of_source(application: Application) -> Iterator[tuple[Location, str]]:
    source = application.source
    yield ("source", "key"), source.key
    for index, name in enumerate(source.text_columns):
        yield ("source", "text", *([] if isinstance(source.text, str) else [index])), name
    for index, name in enumerate(source.attributes):
        yield ("source", "attributes", index), name
    if source.watermark is not None:
        yield ("source", "watermark"), source.watermark


def _of_references(application: Application) -> Iterator[tuple[Location, str]]:
    spec = application.references
    if spec is None:
        return
    keys: dict[str | None, Location] = {spec.key: ("key",), spec.answer: ("answer",), spec.split: ("split",)}
    for name in application.reference_columns():
        own: Location = ("fields", name) if name in spec.fields else ()
        yield ("references", *keys.get(name, own)), name


def _of_predictions(application: Application, variant: str) -> Iterator[tuple[Location, str]]:
    spec = application.recordings[variant].predictions
    at: Location = ("variants", variant, "predictions")
    yield (*at, "key"), spec.key
    for name in spec.answer_columns(application.task, list(application.fields)).values():
        yield (*at, *(("answer",) if spec.answer else ("fields", name))), name
    if spec.confidence is not None:
        yield (*at, "confidence"), spec.confidence


def _mistake(yaml: LocatedYaml, at: Location, name: str, *, columns: Sequence[str], ref: TableRef) -> Mistake:
    near = [found for found in columns if name.lower() in found.lower()]
    found = f"column {name!r}, which {ref.address!r} does not have"
    return yaml.mistake(at, wording(found, listed(columns), near[0] if near else nearest(name, columns)))


def _read_again(application: Application) -> LocatedYaml:
    """The file of an application that has been read without a mistake."""
    path = application.folder / FILE_NAME
    yaml = read_yaml(path, read_text(path, []) or "", [])
    if yaml is None:
        raise SpecificationError(f"{path} changed while it was read. Check it again.")
    return yaml
