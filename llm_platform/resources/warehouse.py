"""The lake of one deployment, as a resource."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime

import dagster as dg
from pydantic import Field

from llm_platform.errors import StorageError
from llm_platform.settings.login import login
from llm_platform.settings.settings import Settings
from llm_platform.warehouse.lake import LakeLocation, Warehouse
from llm_platform.warehouse.object_store import S3Access

log = logging.getLogger(__name__)


class _KeptLakes:
    """Lakes that stay open while somebody says so: to attach one, and to learn what is in it, costs each step anew."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders = 0
        self._lakes: dict[tuple[object, bool], Warehouse] = {}
        self._given_up: list[Warehouse] = []

    def hold(self) -> None:
        with self._lock:
            self._holders += 1

    def release(self) -> None:
        with self._lock:
            self._holders -= 1
            if self._holders:
                return
            lakes = [*self._lakes.values(), *self._given_up]
            self._lakes, self._given_up = {}, []
        for lake in lakes:
            lake.close()

    def lake(self, place: object, attach: Callable[[], Warehouse], *, read_only: bool) -> Warehouse | None:
        """The lake at a place, which stays open; None where nobody holds any."""
        with self._lock:
            if not self._holders:
                return None
            for writable in (True, False) if read_only else (True,):
                if (place, writable) in self._lakes:
                    return self._lakes[place, writable]
            return self._lakes.setdefault((place, not read_only), attach())

    def give_up(self, lake: Warehouse) -> None:
        """Something went wrong with it: whoever comes next gets another one, with connections of its own."""
        with self._lock:
            for key in [key for key, one in self._lakes.items() if one is lake]:
                self._given_up.append(self._lakes.pop(key))


_kept = _KeptLakes()


@contextmanager
def kept_open() -> Iterator[None]:
    """Lakes that are opened in this process while the block runs stay open until its end, and are opened once."""
    _kept.hold()
    try:
        yield
    finally:
        _kept.release()


class WarehouseResource(dg.ConfigurableResource):
    """The lake that holds the tables of one namespace."""

    catalog: str = Field(description="DuckLake catalog: `sqlite:<file>` or `postgres:<libpq dsn>`.")
    data_path: str = Field(description="Folder or `s3://` prefix that holds the Parquet files.")
    metadata_schema: str | None = Field(default=None, description="Schema of this namespace in a Postgres catalog.")
    upstream_catalog: str | None = Field(default=None, description="Catalog attached read-only, e.g. production's.")
    upstream_data_path: str | None = Field(default=None, description="Where the upstream catalog's files are.")
    upstream_schema: str | None = Field(default=None, description="Schema of upstream in a Postgres catalog.")
    s3_key_id: str | None = Field(default=None, description="Access key of the object store.")
    s3_secret: str | None = Field(default=None, description="Its secret.")
    s3_region: str = Field(default="", description="Its region.")
    s3_endpoint: str = Field(default="", description="Host and port of an object store other than AWS.")
    s3_url_style: str = Field(default="", description="`path` or `vhost`.")
    s3_use_ssl: bool = Field(default=True, description="Whether it is reached over TLS.")
    sources: dict[str, str] = Field(default_factory=dict, description="Name → URL of warehouses read, never written.")
    runs_folder: str | None = Field(default=None, description="Where runs leave journals and report cards.")
    signing_key: str | None = Field(default=None, description="Key by which documents that were forgotten are known.")
    encrypted: bool = Field(default=False, description="Whether its files are encrypted, with keys in the catalog.")

    @classmethod
    def of(cls, settings: Settings) -> WarehouseResource:
        """The resource that `settings` describe.

        Raises:
            SpecificationError: everything is to be encrypted, and the disk of the state folder is not.
        """
        settings.require_encrypted(settings.state, of="journals, exports and what adapters are trained on")
        catalog, data_path, schema = settings.location(settings.namespace)
        values: dict[str, str | None] = {}
        if settings.upstream_namespace and settings.upstream_namespace != settings.namespace:
            names = ("upstream_catalog", "upstream_data_path", "upstream_schema")
            values = dict(zip(names, settings.location(settings.upstream_namespace), strict=True))
        return cls(
            catalog=catalog,
            data_path=data_path,
            metadata_schema=schema,
            # Resolved when a run starts, so that they are in no snapshot of the code location.
            s3_key_id=dg.EnvVar("LLM_PLATFORM_S3_KEY_ID") if settings.s3_key_id else None,
            s3_secret=dg.EnvVar("LLM_PLATFORM_S3_SECRET") if settings.s3_secret else None,
            s3_region=settings.s3_region,
            s3_endpoint=settings.s3_endpoint,
            s3_url_style=settings.s3_url_style,
            s3_use_ssl=settings.s3_use_ssl,
            sources=settings.source_warehouses,
            runs_folder=str(settings.namespace_folder),
            signing_key=str(settings.signing_key_file),
            encrypted=settings.encrypted,
            **values,
        )

    @contextmanager
    def open(self, *, read_only: bool = False) -> Iterator[Warehouse]:
        """Open the lake for the length of a `with` block; the one that is kept open, where there is one."""
        upstream = None
        if self.upstream_catalog and self.upstream_data_path:
            upstream = LakeLocation(self.upstream_catalog, self.upstream_data_path, self.upstream_schema, s3=self._s3())

        def attach() -> Warehouse:
            return Warehouse.attach(self._here(), upstream=upstream, sources=self.sources, read_only=read_only)

        place = (self._here(), upstream, tuple(sorted(self.sources.items())))
        # A cloud's own identity is good for an hour or so: each attach asks for it anew.
        lasting = not any(one is not None and one.is_remote and not self.s3_key_id for one in (self._here(), upstream))
        kept = _kept.lake(place, attach, read_only=read_only) if lasting else None
        if kept is None:
            with closing(attach()) as lake:
                yield lake
            return
        try:
            yield kept
        except BaseException:
            _kept.give_up(kept)
            raise

    @contextmanager
    def alone(self, *, read_only: bool = False) -> Iterator[Warehouse]:
        """The same without its upstream: what it holds itself."""
        with closing(Warehouse.attach(self._here(), read_only=read_only)) as lake:
            yield lake

    def note_read(self, application: str, way: str, *, rows: int = 1, document_ids: Sequence[str] = ()) -> None:
        """Write down that somebody looks at texts, before they are shown: see `llm-platform access log`.

        A role that may only read cannot: then the database's own log is all that there is, and that is said.
        """
        by = login()
        try:
            with self.alone() as lake:
                reads = lake.application(application).reads
                reads.append(way, by=by, rows=rows, at=datetime.now(UTC), document_ids=document_ids)
        except StorageError as error:
            log.warning("This look at texts is not in the access log: %s", error)

    @property
    def location(self) -> LakeLocation:
        """Where it is, and how it is reached."""
        return self._here()

    def _here(self) -> LakeLocation:
        return LakeLocation(
            self.catalog,
            self.data_path,
            self.metadata_schema,
            s3=self._s3(),
            folder=self.runs_folder,
            signing_key=self.signing_key,
            encrypted=self.encrypted,
        )

    def _s3(self) -> S3Access:
        return S3Access(
            key_id=_plain(self.s3_key_id),
            secret=_plain(self.s3_secret),
            region=self.s3_region,
            endpoint=self.s3_endpoint,
            url_style=self.s3_url_style,
            use_ssl=self.s3_use_ssl,
        )


def _plain(value: str | None) -> str:
    """A value that a run has resolved already, or that the command line resolves here."""
    return (value.get_value() or "") if isinstance(value, dg.EnvVar) else value or ""
