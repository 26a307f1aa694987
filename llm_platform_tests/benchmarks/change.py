"""What a change costs: whole commands over a source of a given size, Dagster included, against a scripted endpoint.

Answers to all but the last thousand documents are put into the ledger as the endpoint would have given them, so that
10^7 documents take minutes and not hours: what is measured is everything around the completions. By hand:

    python -m llm_platform_tests.benchmarks.change --rows 100000 --steps
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import yaml

from llm_platform_tests import ONE_THREAD
from llm_platform_tests.benchmarks.bench import ROOT, Served, serving
from llm_platform_tests.benchmarks.server import MODEL

NAME = "letters"
KNOWN = 400
LEFT_OUT = 1_000
"""Documents that the first run has to ask for."""
CHANGED = 10
SECONDS = 3_600
MEASURED = Path(__file__).with_name("measured_command.py")
SLOT = (
    "ALTER TABLE docs ADD PRIMARY KEY (id)",
    "CREATE PUBLICATION llm_platform FOR TABLE docs (id)",
    "SELECT pg_create_logical_replication_slot(''docs'', ''pgoutput'')",
)
WORDS = "The parcel came late, the box was fine, and the postage is asked about."


class Place:
    """Files and state of one application over a source of so many rows."""

    def __init__(self, root: Path, url: str, rows: int, *, source: dict[str, Any], warehouse: str) -> None:
        self.root, self.rows = root, rows
        folder = root / "applications" / NAME
        (folder / "prompts").mkdir(parents=True)
        (folder / "prompts" / "plain.md").write_text(
            "---\napi: chat\nanswers: {HAPPY: positive, SAD: negative}\n---\n# user\n\nIs it good? {{ text }}\n"
        )
        # Spread over the table, as labelled documents are; of the answers one in ten is wrong.
        keys = [number * rows // KNOWN // 2 * 2 + number % 2 for number in range(KNOWN)]
        known = [(key, "SAD" if (key + (at % 20 < 2)) % 2 else "HAPPY") for at, key in enumerate(keys)]
        (root / "known.csv").write_text("id,mood\n" + "".join(f"{key:08d},{mood}\n" for key, mood in known))
        specification = {
            "name": NAME,
            "title": "Letters",
            "task": "classify",
            "labels": ["HAPPY", "SAD"],
            "source": {"warehouse": "crm", "key": "id", "text": "body", **source},
            "references": {"url": "../../known.csv", "key": "id", "answer": "mood", "seed": 3, "train_share": 0.5},
            "variants": {"plain": {"prompt": "plain", "model": "bench", "sampling": {"max_tokens": 8}}},
            "evaluation": {"gates": {"accuracy": {"minimum": 0.6, "reason": "half are happy"}}},
        }
        (folder / "application.yaml").write_text(yaml.safe_dump(specification, sort_keys=False))
        entry = {
            "mode": "external",
            "dialect": "nim-2.x",
            "served_name": MODEL,
            "base_urls": [url],
            "model": "bench/model",
            "licence": "none",
            "context_length": 32_768,
        }
        (root / "models.lock.yaml").write_text(yaml.safe_dump({"models": {"bench": entry}}))
        # Commands have the cores that a user's have; this package takes one.
        self.environment = {
            **{name: value for name, value in os.environ.items() if name not in ONE_THREAD},
            "LLM_PLATFORM_STATE": str(root / "state"),
            "LLM_PLATFORM_NAMESPACE": "bench",
            "LLM_PLATFORM_APPLICATIONS": str(root / "applications"),
            "LLM_PLATFORM_MODELS_LOCK": str(root / "models.lock.yaml"),
            "LLM_PLATFORM_WAREHOUSES": json.dumps({"crm": warehouse}),
        }

    def command(self, *arguments: str, steps: bool = False) -> dict[str, Any]:
        """CPU and memory of one command in a process of its own.

        Raises:
            AssertionError: it failed.
        """
        report = self.root / "account.json"
        program = [sys.executable, "-P", str(MEASURED), str(report), *arguments]
        environment = self.environment | ({"CHANGE_STEPS": "1"} if steps else {})
        done = subprocess.run(
            program, cwd=ROOT, env=environment, timeout=SECONDS, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise AssertionError(f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        account: dict[str, Any] = json.loads(report.read_text())
        return {**account, "said": done.stdout}

    def tick(self) -> dict[str, Any]:
        """CPU of one look of the sensor, in a process that has looked before."""
        program = [sys.executable, "-m", "llm_platform_tests.benchmarks.change", "--tick"]
        done = subprocess.run(
            program, cwd=ROOT, env=self.environment, timeout=SECONDS, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise AssertionError(f"the sensor ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        account: dict[str, Any] = json.loads(done.stdout)
        return account


def measure(
    rows: int,
    *,
    steps: bool = False,
    postgres: str | None = None,
    slot: bool = False,
    say: Callable[[str], object] = lambda _: None,
) -> dict[str, Any]:
    """The figures at one size."""
    figures: dict[str, Any] = {"documents": rows}

    def note(name: str, account: dict[str, Any]) -> None:
        figures[name] = {key: value for key, value in account.items() if key in ("cpu_seconds", "peak_mib", "steps")}
        say(f"{rows} {name}: {json.dumps(figures[name])}")

    with (
        serving(latency=0.0, label=True, moods=True) as server,
        _place(server, rows, postgres=postgres, slot=slot) as (place, source),
    ):
        note("plan_before", place.command("plan", NAME))
        _fill(place, source, rows)
        first = place.command("run", NAME, steps=True)
        note("first", first)
        completions = sum(one["cpu_seconds"] for name, one in first["steps"].items() if "completions" in name)
        figures["first_us_a_document"] = round(1e6 * (first["cpu_seconds"] - completions) / rows, 1)
        note("idle_run", place.command("run", NAME, steps=steps))
        note("idle_plan", place.command("plan", NAME))
        note("idle_tick", place.tick())
        middle = rows // 2
        numbers = ", ".join(f"'{middle + 1000 + 7 * number:08d}'" for number in range(CHANGED))
        changes = {
            "updated": "UPDATE src.docs SET body = body || ' Again.', changed_at = changed_at + INTERVAL 1 DAY "
            f"WHERE id IN ({numbers})",
            "inserted": "INSERT INTO src.docs SELECT format('{:08d}', i), format('DOC#{:08d}# ', i) || 'A new one.', "
            f"TIMESTAMP '2031-01-01' FROM range({rows}, {rows + CHANGED}) t(i)",
            "deleted": f"DELETE FROM src.docs WHERE id IN ({numbers})",
        }
        for name, statement in changes.items():
            source(statement)
            before = server.counts()["requests"]
            note(name, place.command("run", NAME, steps=steps))
            figures[name]["sent"] = server.counts()["requests"] - before
            note(f"plan_after_{name}", place.command("plan", NAME))
    return figures


def _fill(place: Place, source: Callable[[str], object], rows: int) -> None:
    """Read the documents, and store what the endpoint would say of all but the last of them."""
    program = [sys.executable, "-m", "llm_platform_tests.benchmarks.change", "--fill", str(rows)]
    done = subprocess.run(
        program, cwd=ROOT, env=place.environment, timeout=SECONDS, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise AssertionError(f"filling ended with {done.returncode}:\n{done.stdout}{done.stderr}")


def fill(rows: int) -> None:
    """In a process of its own: the ledger as `rows - LEFT_OUT` answers in commits of 100,000 would leave it."""
    from llm_platform.operations.answering.documents import update_documents
    from llm_platform.operations.releases import load_applications, requesting
    from llm_platform.records.tables import TABLES
    from llm_platform.resources.warehouse import WarehouseResource
    from llm_platform.settings.settings import load_settings
    from llm_platform.warehouse.session import Transaction

    settings = load_settings()
    loaded = load_applications(*settings.application_files).named(NAME)
    with WarehouseResource.of(settings).open() as lake:
        update_documents(lake, loaded)
        store = lake.application(NAME)
        release = loaded.requesting("plain", store)
        assert release is not None
        sender = requesting(release)
        store.releases.put(sender)
        session = store.completions._session
        given = {
            "release_id": f"'{sender.release_id}'",
            "request_id": f"'{sender.request_id}'",
            "fingerprint": "d.fingerprint",
            "document_id": "d.document_id",
            "status": "'valid'",
            "answer": "if(right(d.document_id, 1)::INTEGER % 2 = 1, 'SAD', 'HAPPY')",
            "raw": "if(right(d.document_id, 1)::INTEGER % 2 = 1, 'negative', 'positive')",
            "finish_reason": "'stop'",
            "attempts": "1",
            "prompt_tokens": "596",
            "completion_tokens": "90",
            "cached_tokens": "192",
            "reasoning_tokens": "0",
            "latency_seconds": "0.05 + (hash(d.document_id) % 1000) / 10000.0",
            "reused": "false",
            "run_id": "'filled'",
            "created_at": "now()",
        }
        listed = ", ".join(f"{given.get(name, 'NULL')}::{kind}" for name, kind in TABLES["completions"].items())
        for start in range(0, rows - LEFT_OUT, 100_000):
            first, last = f"{start:08d}", f"{min(start + 100_000, rows - LEFT_OUT):08d}"

            def body(transaction: Transaction, first: str = first, last: str = last) -> None:
                target = transaction.target("completions")
                transaction.run(
                    f"INSERT INTO {target} SELECT {listed} FROM {transaction.relation('documents')} d "
                    f"WHERE d.document_id >= '{first}' AND d.document_id < '{last}'"
                )

            session.write(NAME, body)


def tick() -> None:
    """In a process of its own: the second look of a sensor, as its daemon has it."""
    import time

    import dagster as dg

    from llm_platform.definitions import build_definitions
    from llm_platform.resources.warehouse import WarehouseResource
    from llm_platform.settings.settings import load_settings

    settings = load_settings()
    sensor = build_definitions(settings).resolve_sensor_def(f"{NAME}_source_changed")
    with dg.DagsterInstance.ephemeral() as instance:
        cursor = None
        for _ in range(2):
            began = time.process_time()
            context = dg.build_sensor_context(
                instance=instance, cursor=cursor, resources={"warehouse": WarehouseResource.of(settings)}
            )
            sensor(context)
            cursor, cpu = context.cursor, time.process_time() - began
    status = Path("/proc/self/status").read_text()
    peak = int(status.partition("VmHWM:")[2].split()[0]) / 1024
    sys.stdout.write(json.dumps({"cpu_seconds": round(cpu, 3), "peak_mib": round(peak)}))


@contextmanager
def _place(
    server: Served, rows: int, *, postgres: str | None, slot: bool
) -> Iterator[tuple[Place, Callable[[str], object]]]:
    with tempfile.TemporaryDirectory(prefix="llm_platform_change_") as folder:
        root = Path(folder)
        lake = f"ducklake:sqlite:{root / 'source.sqlite'}?data_path={root / 'source'}"
        url = postgres or lake
        by = ({"slot": "docs"} if slot else {"watermark": "changed_at"}) if postgres else {}
        following = {"table": "docs", **by}
        place = Place(root, server.url, rows, source=following, warehouse=url)

        def source(statement: str) -> None:
            """In a process of its own, so that this one stays small."""
            program = [sys.executable, "-m", "llm_platform_tests.benchmarks.change", "--source", url, statement]
            subprocess.run(program, cwd=ROOT, check=True, timeout=SECONDS)

        source(
            "CREATE TABLE src.docs AS SELECT format('{:08d}', i) AS id, format('DOC#{:08d}# ', i) || "
            f"'{WORDS}' AS body, TIMESTAMP '2030-01-01' AS changed_at FROM range(0, {rows}) t(i)"
        )
        for statement in SLOT if slot else ():
            source(f"CALL postgres_execute('src', '{statement}')")
        yield place, source


def change_source(url: str, statement: str) -> None:
    """Run one statement on a source that is attached as `src`."""
    from llm_platform.warehouse.engine import connect, load
    from llm_platform.warehouse.source_urls import parse_source_url

    parsed = parse_source_url("crm", url)
    with closing(connect()) as connection:
        load(connection, *parsed.extensions)
        connection.execute(parsed.attach_statement("src", read_only=False))
        connection.execute(statement)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--steps", action="store_true", help="CPU of each step of Dagster as well")
    parser.add_argument("--postgres", help="URL of a Postgres whose table `docs` is made and followed by watermark")
    parser.add_argument(
        "--slot", action="store_true", help="by a replication slot instead, which is made, and not dropped"
    )
    parser.add_argument("--fill", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--tick", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--source", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.fill:
        fill(given.fill)
    elif given.tick:
        tick()
    elif given.source:
        change_source(*given.source)
    else:
        figures = measure(
            given.rows,
            steps=given.steps,
            postgres=given.postgres,
            slot=given.slot,
            say=lambda line: print(line, flush=True),  # noqa: T201
        )
        print(json.dumps(figures))  # noqa: T201


if __name__ == "__main__":
    main()
