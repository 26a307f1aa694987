"""`adapter_reports`: whether an adapter is better than what is there, and what it has unlearned."""

# Annotations are evaluated here: Dagster reads those of an asset's context and resources.
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import dagster as dg

from llm_platform.defs.completions import asking
from llm_platform.defs.failures import dagster_failures
from llm_platform.defs.graph import Graph
from llm_platform.defs.measuring import Said, Unmeasured, measuring_asset
from llm_platform.operations.adapters.adapter_reports import (
    adapted_releases,
    base_release,
    held_out_without_answer,
    report_adapter,
    write_page,
)
from llm_platform.operations.answering.sending import Asking, ask
from llm_platform.operations.answering.spending import spent_by
from llm_platform.operations.evidence.abilities import KeptAbilities, measure_abilities
from llm_platform.operations.evidence.adapter_evidence import AdapterReport, verdict
from llm_platform.records import Release, content_hash
from llm_platform.resources.nim import resource_key
from llm_platform.resources.pools import pool_of
from llm_platform.resources.warehouse import WarehouseResource
from llm_platform.warehouse.store import ApplicationStore

IMPROVES = "adapter_improves_on_champion"
KEEPS = "base_abilities_kept"
NOT_TRAINED = "not trained yet"


def adapter_reports_asset(
    graph: Graph, name: str, deps: Sequence[dg.AssetsDefinition | dg.AssetSpec]
) -> dg.AssetsDefinition:
    """What is measured of the variants that answer with an adapter, on held-out documents."""
    application = graph.application
    key = graph.key(f"adapter_report_{name}")
    entry = application.finetuning[name].model

    spec = dg.AssetSpec(
        key,
        deps=list(deps),
        group_name=graph.side_group("training"),
        owners=graph.owners,
        kinds={"nim", "python"},
        code_version="1",
        description=f"Adapter {name!r} beside the champion, its base with the same prompt, and counting words.",
    )
    checks = [
        dg.AssetCheckSpec(IMPROVES, asset=key, description="Better than the champion on the same held-out texts."),
        dg.AssetCheckSpec(KEEPS, asset=key, description="Still can what its base could before it was adapted."),
    ]

    @measuring_asset(spec, checks=checks, resources={"warehouse", resource_key(entry)}, pool=pool_of(entry))
    def adapter_reports(context: dg.AssetExecutionContext) -> Iterator[Said]:
        warehouse: WarehouseResource = context.resources.warehouse
        with dagster_failures(context), warehouse.open() as lake:
            store = lake.application(application.name)
            reports = []
            for variant, release in adapted_releases(store, graph.loaded, name).items():
                base = base_release(release)
                spent = spent_by(store, graph.loaded, context.run.run_id)
                asked_base = asking(context, graph, base, variant, snapshot=lake.snapshot(), spent=spent)
                _answer_with_base(store, graph, base, asked_base)
                asked = asking(context, graph, release, variant, snapshot=lake.snapshot())
                measure = _abilities_by(asked, graph)
                reports.append(report_adapter(store, graph.loaded, variant, release, measure=measure))
            page = write_page(store, graph.loaded, graph.cards_folder / "adapters.html")
        yield from _results(reports, page, link=graph.page("cards/adapters"))

    return adapter_reports


def _answer_with_base(store: ApplicationStore, graph: Graph, base: Release, asked: Asking) -> None:
    """Answers of the base with the same prompt to held-out documents, where no variant has asked for them."""
    missing = held_out_without_answer(store, base)
    if missing:
        store.releases.put(base)
        ask(store, base, [missing], total=len(missing), application=graph.application, asking=asked)


def _abilities_by(asked: Asking, graph: Graph) -> Callable[[Release], KeptAbilities]:
    def measure(release: Release) -> KeptAbilities:
        return measure_abilities(
            asked.endpoints()[0].root,
            base=release.model.served_name,
            adapter=release.served_name,
            confidence=graph.application.evaluation.gates.confidence,
            connection=asked.connection,
            verify=asked.verify,
        )

    return measure


def _results(reports: Sequence[AdapterReport], page: Path, *, link: dg.UrlMetadataValue) -> Iterator[Said]:
    if not reports:
        for check in (IMPROVES, KEEPS):
            yield Unmeasured(check, NOT_TRAINED)
        yield dg.MaterializeResult(data_version=dg.DataVersion(NOT_TRAINED), metadata={"note": NOT_TRAINED})
        return
    # A refused adapter is a finding; nothing that is published depends on it.
    warn = dg.AssetCheckSeverity.WARN
    said = {report.variant: verdict(report) for report in reports}
    numbers = {key: value for report in reports for key, value in _numbers(report).items()}
    yield dg.AssetCheckResult(
        check_name=IMPROVES,
        passed=all(report.improves for report in reports),
        severity=warn,
        metadata={**said, **numbers},
    )
    yield dg.AssetCheckResult(
        check_name=KEEPS, passed=all(report.abilities.passed for report in reports), severity=warn, metadata=said
    )
    version = content_hash([report.model_dump(mode="json") for report in reports])
    shown: dict[str, str | float | dg.MetadataValue] = {
        "page": dg.MetadataValue.text(str(page)),
        "page_link": link,
        **said,
        **numbers,
    }
    yield dg.MaterializeResult(data_version=dg.DataVersion(version), metadata=shown)


def _numbers(report: AdapterReport) -> dict[str, float]:
    found: dict[str, float] = {}
    for compared in report.pairs:
        found[f"{report.variant} minus {compared.name}"] = compared.difference.value
        found[f"{report.variant} minus {compared.name}, lower"] = compared.difference.lower
    if report.abilities.kept is not None:
        found[f"{report.variant}_abilities_kept"] = report.abilities.kept.value
    return found
