"""Queries of consumers, held against contracts: which of them breaks, on which column, and why.

A query is read by sqlglot, which knows what a name stands for behind aliases, common table expressions, subqueries and
`SELECT *`. Nothing is run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llm_platform.contracts.changes import changes
from llm_platform.errors import SpecificationError
from llm_platform.records.contracts import Column, Contract

if TYPE_CHECKING:
    from sqlglot import expressions as exp
    from sqlglot.optimizer.scope import Scope

TABLE = re.compile(r"published_v[1-9]\d*")
FILE = re.compile(r"(?:^|/)(published_v[1-9]\d*)\.parquet$")


@dataclass(frozen=True, order=True)
class Break:
    """One reason why a query of a consumer breaks.

    Attributes:
        column: Of the table; None where it is the table as a whole, or the query itself.
    """

    consumer: str
    query: str
    table: str
    column: str | None
    why: str

    def __str__(self) -> str:
        at = self.table if self.column is None else f"{self.table}.{self.column}"
        return f"{self.consumer} ({self.query}) breaks on {at}: {self.why}"


@dataclass(frozen=True)
class Query:
    """A file of SQL of one consumer."""

    consumer: str
    name: str
    sql: str
    dialect: str


@dataclass(frozen=True)
class Promises:
    """Contracts before and after a change, by the name of their table.

    Attributes:
        application: Whose tables they are; its name is their schema in the lake.
        retired: Table → why it is gone.
    """

    application: str
    before: Mapping[str, Contract]
    after: Mapping[str, Contract]
    retired: Mapping[str, str]


def breaks_of(query: Query, promises: Promises) -> list[Break]:
    """Every column on which the statements of a file break, each once.

    Raises:
        SpecificationError: the file is no SQL of its dialect.
    """
    found = {
        Break(query.consumer, query.name, *rest)
        for statement in _statements(query)
        for rest in _Statement(statement, query, promises).breaks()
    }
    return sorted(found, key=lambda one: (one.table, one.column or "", one.why))


def tables_read(query: Query, promises: Promises) -> frozenset[str]:
    """Published tables of the application that a file reads."""
    return frozenset(name for statement in _statements(query) for name in _Statement(statement, query, promises).tables)


def _statements(query: Query) -> list[exp.Expr]:
    import sqlglot
    from sqlglot.errors import SqlglotError

    try:
        parsed = sqlglot.parse(query.sql, dialect=query.dialect)
    except SqlglotError:
        raise SpecificationError(
            f"{query.consumer}: {query.name} cannot be read as SQL of {query.dialect!r}. Correct it, or name its "
            "dialect under 'publish.consumers'."
        ) from None
    except ValueError:
        raise SpecificationError(
            f"{query.consumer}: there is no dialect {query.dialect!r} of SQL. Take one of sqlglot's: duckdb, postgres, "
            "snowflake, bigquery, trino, spark, …"
        ) from None
    return [one for one in parsed if one is not None]


Found = tuple[str, str | None, str]


class _Statement:
    """One statement, its published tables under one name each, whatever it calls them."""

    def __init__(self, statement: exp.Expr, query: Query, promises: Promises) -> None:
        self._query = query
        self._promises = promises
        self._statement = statement.copy()
        self.tables = frozenset(self._named())

    def _named(self) -> Iterator[str]:
        """Give every table of ours its own name, without catalog and schema, also where it is read as a file."""
        from sqlglot import expressions as exp

        for table in list(self._statement.find_all(exp.Table)):
            name = self._published(table)
            if name is None:
                continue
            alias = table.alias or table.name or name
            plain = exp.to_table(name)
            plain.set("alias", exp.TableAlias(this=exp.to_identifier(name if FILE.search(alias) else alias)))
            for key in ("joins", "pivots", "sample"):
                plain.set(key, table.args.get(key))
            table.replace(plain)
            yield name

    def _published(self, table: exp.Table) -> str | None:
        from sqlglot import expressions as exp

        if isinstance(table.this, exp.Func):
            paths = [one.name for one in table.this.find_all(exp.Literal) if one.is_string]
            found = next((match[1] for path in paths if (match := FILE.search(path))), None)
            ours = any(f"/{self._promises.application}/" in f"/{path}" for path in paths)
            return found if found is not None and (ours or not any("/" in path for path in paths)) else None
        name = table.name.lower()
        if (file := FILE.search(table.name)) is not None:
            return file[1]
        if not TABLE.fullmatch(name):
            return None
        # In the lake the schema is the application's name, in Postgres it ends with it.
        schema = table.db.lower()
        ours = not schema or schema == self._promises.application or schema.endswith(f"_{self._promises.application}")
        return name if ours else None

    def breaks(self) -> Iterator[Found]:
        """(table, column, why)."""
        for name in self.tables:
            if name in self._promises.retired:
                yield name, None, self._promises.retired[name]
            elif name not in self._promises.before and name not in self._promises.after:
                yield name, None, "there is no such table"
        if not self.tables:
            return
        found = [*self._columns(), *self._ambiguous()]
        yield from found
        if not found and (refused := self.refused()) is not None:
            yield min(self.tables), None, f"DuckDB refuses the query: {refused}"

    def _columns(self) -> Iterator[Found]:
        """Columns that the query reads of what there is, and what becomes of them."""
        for name, column in sorted(set(self._read())):
            before, after = self._promises.before.get(name), self._promises.after.get(name)
            if after is None:
                continue
            had = None if before is None else _column(before, column)
            if _column(after, column) is None:
                yield name, column, "is gone" if had is not None else "there is no such column"
            elif before is not None and had is not None:
                for change in changes(before, after):
                    if change.column == had and change.kind == "breaking":
                        yield name, had, change.text

    def _read(self) -> Iterator[tuple[str, str]]:
        """(table, column) that the query reads; of `*`, what is used of it."""
        from sqlglot import expressions as exp
        from sqlglot.errors import SqlglotError
        from sqlglot.optimizer.pushdown_projections import pushdown_projections
        from sqlglot.optimizer.scope import traverse_scope

        known = {**self._promises.after, **self._promises.before}
        named, spelt_out = self._qualified(known, stars=False), self._qualified(known, stars=True)
        scopes = [] if named is None else traverse_scope(named)
        changing = isinstance(self._statement, (exp.Update, exp.Delete, exp.Merge))
        if spelt_out is None or not scopes or changing:
            yield from self._read_roughly(known)
            return
        for scope in scopes:
            yield from _read_in(scope, known)
            yield from _unknown_in(scope, known)
        yield from self._by_star(known)
        # What a query takes by `*` and drops again, it does not miss.
        with suppress(SqlglotError):
            spelt_out = pushdown_projections(spelt_out.copy())
        for scope in traverse_scope(spelt_out):
            yield from _read_in(scope, known)

    def _by_star(self, known: Mapping[str, Contract]) -> Iterator[tuple[str, str]]:
        """Columns that are gone and that a `*` leaves out by name, and those that a pattern of DuckDB's takes."""
        from sqlglot import expressions as exp

        left_out = {
            one.name.lower()
            for star in self._statement.find_all(exp.Star)
            for item in star.args.get("except_") or ()
            for one in item.find_all(exp.Identifier)
        }
        patterns = [
            one.name for columns in self._statement.find_all(exp.Columns) for one in columns.find_all(exp.Literal)
        ]
        for table in self.tables:
            for column in known[table].columns if table in known else ():
                name = column.name.lower()
                after = self._promises.after.get(table)
                gone = after is not None and _column(after, name) is None
                if (gone and name in left_out) or any(_matches(pattern, name) for pattern in patterns):
                    yield table, name

    def _read_roughly(self, known: Mapping[str, Contract]) -> Iterator[tuple[str, str]]:
        """The same by names alone, for statements that are no query and for what sqlglot cannot tell apart."""
        from sqlglot import expressions as exp

        aliases = {one.alias_or_name.lower(): one.name.lower() for one in self._statement.find_all(exp.Table)}
        for column in self._statement.find_all(exp.Column):
            whose = aliases.get(column.table.lower()) if column.table else None
            for table in self.tables & set(known):
                has = _column(known[table], column.name) is not None
                if whose == table or (not column.table and has):
                    yield table, column.name.lower()
        if self._statement.find(exp.Star) is not None:
            yield from ((table, one.name.lower()) for table in self.tables & set(known) for one in known[table].columns)

    def _qualified(self, known: Mapping[str, Contract], *, stars: bool) -> exp.Expr | None:
        """The statement with the table of every column; None where sqlglot cannot tell whose one is."""
        from sqlglot.errors import SqlglotError
        from sqlglot.optimizer.qualify import qualify

        schema: dict[str, object] = {
            name: {one.name.lower(): one.sql_type for one in found.columns} for name, found in known.items()
        }
        try:
            return qualify(
                self._statement.copy(),
                schema=schema,
                dialect=self._query.dialect,
                expand_stars=stars,
                validate_qualify_columns=False,
                identify=False,
            )
        except SqlglotError:
            return None

    def refused(self) -> str | None:
        """What DuckDB says of the query over the tables as they will be; None where it takes it, or is not asked."""
        import duckdb
        from sqlglot import expressions as exp

        if self._query.dialect != "duckdb" or not isinstance(self._statement, exp.Query):
            return None
        with duckdb.connect() as connection:
            for name, contract in self._promises.after.items():
                listed = ", ".join(
                    f"{exp.to_identifier(one.name, quoted=True).sql('duckdb')} {one.sql_type}"
                    for one in contract.columns
                )
                connection.execute(f"CREATE TABLE {name} ({listed})")
            try:
                connection.execute(f"EXPLAIN {self._statement.sql('duckdb')}")
            except duckdb.CatalogException:
                return None  # tables of others, which nobody knows here
            except duckdb.BinderException as error:
                return str(error).partition("\n")[0].removeprefix("Binder Error: ")
            except duckdb.Error:
                return None
        return None

    def _ambiguous(self) -> Iterator[Found]:
        """Columns that are new, by names that the query reads without saying whose they are, beside another table."""
        from sqlglot import expressions as exp
        from sqlglot.optimizer.scope import traverse_scope

        new = {
            name: {one.name.lower() for one in after.columns} - {one.name.lower() for one in self._before(name)}
            for name, after in self._promises.after.items()
            if name in self.tables and name in self._promises.before
        }
        if not any(new.values()):
            return
        for scope in traverse_scope(self._statement.copy()):
            sources = {alias: _source(scope, alias) for alias in scope.sources}
            for table in set(sources.values()) & set(new):
                alone = len(sources) == 1
                for column in scope.columns:
                    if not alone and not column.table and column.name.lower() in new[table]:
                        yield (
                            table,
                            column.name.lower(),
                            "is new, and the query reads another table's column by its name",
                        )
            yield from self._positional(scope, sources, new)
        selected = self._statement.args.get("expression") if isinstance(self._statement, exp.Insert) else None
        # With a list of columns, the table that is written is a schema.
        if selected is not None and selected.is_star and not isinstance(self._statement.this, exp.Schema):
            for table, columns in new.items():
                yield from ((table, one, "is new, and 'INSERT … SELECT *' names no columns") for one in sorted(columns))

    def _positional(self, scope: Scope, sources: Mapping[str, str], new: Mapping[str, set[str]]) -> Iterator[Found]:
        """What is new where the number of columns matters: `*` in a UNION, and a natural join."""
        from sqlglot import expressions as exp

        select = scope.expression
        if not isinstance(select, exp.Select):
            return
        union = select.find_ancestor(exp.SetOperation)
        added = [(table, column) for table in sorted(set(sources.values()) & set(new)) for column in sorted(new[table])]
        if union is not None and not union.args.get("by_name") and select.is_star:
            for table, column in added:
                yield table, column, "is new, and '*' stands in a UNION, whose sides have equally many columns"
        if any(join.method == "NATURAL" for join in select.args.get("joins") or ()):
            for table, column in added:
                yield table, column, "is new, and a NATURAL JOIN joins by every name that both sides have"

    def _before(self, name: str) -> Sequence[Column]:
        return self._promises.before[name].columns


def _read_in(scope: Scope, known: Mapping[str, Contract]) -> Iterator[tuple[str, str]]:
    for column in scope.columns:
        table = _source(scope, column.table)
        if table in known and not column.is_star:
            yield table, column.name.lower()


def _unknown_in(scope: Scope, known: Mapping[str, Contract]) -> Iterator[tuple[str, str]]:
    """Columns of nobody, in a query that reads one published table and nothing else."""
    from sqlglot import expressions as exp

    sources = {_source(scope, alias) for alias in scope.sources}
    if len(scope.sources) != 1 or not sources <= set(known):
        return
    (table,) = sources
    # Qualifying has given every selected column its own name as an alias.
    selected = scope.expression.selects if isinstance(scope.expression, exp.Query) else ()
    named = {one.alias.lower() for one in selected if one.unalias().name.lower() != one.alias.lower()}
    outer = {id(one) for one in scope.external_columns} if scope.parent is not None else set()
    for column in scope.columns:
        if not column.table and column.name.lower() not in named and id(column) not in outer:
            yield table, column.name.lower()


def _matches(pattern: str, name: str) -> bool:
    try:
        return re.search(pattern, name, flags=re.IGNORECASE) is not None
    except re.error:
        return True


def _source(scope: Scope, alias: str) -> str:
    """Name of the table that an alias stands for in a scope; empty for a subquery or a common table expression."""
    from sqlglot import expressions as exp

    found = scope.sources.get(alias)
    return found.name.lower() if isinstance(found, exp.Table) else ""


def _column(contract: Contract, name: str) -> str | None:
    return next((one.name for one in contract.columns if one.name.lower() == name.lower()), None)
