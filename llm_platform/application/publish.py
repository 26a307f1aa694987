"""The contract with readers of the published table."""

from __future__ import annotations

from datetime import date

from pydantic import Field

from llm_platform.application.specification import Specification
from llm_platform.records.contracts import ColumnType, Mask


class PublishedColumn(Specification):
    """What is said of one column of the published table.

    Attributes:
        type: Has to be the type that the column has; stated, so that a change of it is seen where it is read.
        field: Of an extraction, the field that fills it; without it, the field of the same name.
        deprecated: Still filled, and gone in the next contract.
    """

    description: str = ""
    type: ColumnType | None = None
    field: str | None = None
    deprecated: bool = False


class ContractBeside(Specification):
    """A published table that is still filled beside the present one.

    Attributes:
        retired: On this day (UTC) the table and its copies are removed; None fills it until a day is stated.
        fields: Column of that table → field of the present answer that fills it, where it is not the same one.
        labels: Present label → what readers of that table get for it.
    """

    retired: date | None = None
    fields: dict[str, str] = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict)


class Consumer(Specification):
    """Somebody who reads the published table, and with which queries.

    Attributes:
        queries: Files of SQL, relative to the application's folder.
        dialect: Of SQL, as sqlglot calls it.
    """

    queries: tuple[str, ...] = Field(min_length=1)
    dialect: str = "duckdb"
    owner: str = ""


class Publish(Specification):
    """The contract with readers.

    Attributes:
        contract: Number of the published table, and the major part of the contract's version.
        version: Semantic version of the contract. Without it the platform counts: a column that is added is a minor
            version, words are a patch.
        owner: Who answers for it; without it, the application's first owner.
        columns: What is said of columns, by name.
        freshness_hours: A change of the source is published within that time.
        completeness: Share of documents that have an answer, at least.
        beside: Number of another contract → until when its table is filled, and from what.
        copies: Places outside the lake that readers use, kept as the published tables are: a folder, an `s3://` prefix,
            or `postgres:` and a connection string of libpq.
        full_copies: The same kinds of places, for those who read the table without masks.
        masks: Column → what readers get instead of its values; in every copy and every table.
        consumers: Those whose queries are held against every change, by name.
        assets: The application's own Dagster assets that read the published table, `module:function`.
    """

    contract: int = Field(default=1, ge=1)
    version: str | None = Field(default=None, pattern=r"^\d{1,6}\.\d{1,6}\.\d{1,6}$")
    description: str = ""
    owner: str | None = None
    columns: dict[str, PublishedColumn] = Field(default_factory=dict)
    freshness_hours: float | None = Field(default=None, gt=0.0)
    completeness: float | None = Field(default=None, ge=0.0, le=1.0)
    beside: dict[str, ContractBeside] = Field(default_factory=dict)
    copies: tuple[str, ...] = ()
    full_copies: tuple[str, ...] = ()
    masks: dict[str, Mask] = Field(default_factory=dict)
    consumers: dict[str, Consumer] = Field(default_factory=dict)
    assets: tuple[str, ...] = ()
