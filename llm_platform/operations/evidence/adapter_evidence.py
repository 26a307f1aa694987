"""What is stored about a release that has an adapter, and whether that is enough to publish it."""

from __future__ import annotations

from llm_platform.errors import EvidenceMissing
from llm_platform.evaluation.pairs import Pair
from llm_platform.operations.evidence.abilities import KeptAbilities
from llm_platform.operations.releases import champion_release
from llm_platform.records import Record, Release
from llm_platform.records.figures import figure, minimum_figure
from llm_platform.warehouse.store import ApplicationStore


class AdapterReport(Record):
    """What was measured of one release that has an adapter.

    Attributes:
        rival_id: Release that it has to beat: the champion; before there is one, the best of the other variants; its
            own where it is the champion.
        pairs: The rival first, then the base with the same prompt, then counting words, on the same held-out texts.
        abilities: What it still can of what its base could.
    """

    variant: str
    adapter_id: str
    release_id: str
    evaluation_id: str
    rival_id: str | None
    pairs: tuple[Pair, ...]
    abilities: KeptAbilities

    @property
    def improves(self) -> bool:
        """Whether it is better than its rival beyond doubt, or is the champion."""
        rival = next((found for found in self.pairs if found.release_id == self.rival_id), None)
        return self.rival_id == self.release_id or (rival is not None and rival.is_better)

    @property
    def passed(self) -> bool:
        """Whether it may be published."""
        return self.improves and self.abilities.passed


def stored_report(store: ApplicationStore, release: Release) -> AdapterReport | None:
    """What was measured last of a release that has an adapter."""
    content = store.adapter_reports.newest(str(release.adapter), report_kind(release))
    return AdapterReport.model_validate_json(content) if content is not None else None


def require_adapter_report(store: ApplicationStore, release: Release, *, evaluation_id: str) -> None:
    """Refuse to publish an adapter on which there is no sound and present comparison.

    Raises:
        EvidenceMissing: there is none, it was held against another rival or other documents, or it did not pass.
    """
    if release.adapter is None:
        return
    report, champion = stored_report(store, release), champion_release(store)
    again = "Materialize its adapter_reports, then promote it."
    if report is None or report.evaluation_id != evaluation_id:
        raise EvidenceMissing(
            f"Release {release.release_id} answers with adapter {release.adapter}, which has not been held against the "
            f"champion on the present evaluation documents. {again}"
        )
    if champion is not None and champion.release_id not in (release.release_id, report.rival_id):
        raise EvidenceMissing(
            f"Adapter {release.adapter} was held against release {report.rival_id}, and the champion is "
            f"{champion.release_id} now. {again}"
        )
    if not report.passed:
        raise EvidenceMissing(f"Adapter {release.adapter} (release {release.release_id}) is refused: {verdict(report)}")


def require_unbarred(store: ApplicationStore, release: Release) -> None:
    """Refuse to publish what was made of documents that were forgotten since, until somebody takes it as it is.

    Raises:
        EvidenceMissing: nobody has; says what to do.
    """
    application = release.application
    bar = store.bars.standing("adapter", release.adapter) if release.adapter is not None else None
    if bar is not None:
        raise EvidenceMissing(
            f"Adapter {release.adapter} of {application} may not be promoted: {bar.reason} (request {bar.request_id}). "
            f"Train it again: llm-platform adapter train {application}; or take it as it is, with a reason: "
            f"llm-platform adapter accept {application} {release.adapter} --because '…'"
        )
    bar = store.bars.standing("release", release.release_id)
    if bar is not None:
        raise EvidenceMissing(
            f"Release {release.release_id} of {application} may not be promoted: {bar.reason} (request "
            f"{bar.request_id}). Take the examples out of prompt {release.prompt.name!r}, or freeze them anew: "
            f"llm-platform prompt freeze {application} {release.prompt.name}"
        )


def verdict(report: AdapterReport) -> str:
    """Why an adapter may be published or may not, in a sentence or two."""
    said = []
    rival = next((found for found in report.pairs if found.release_id == report.rival_id), None)
    if report.rival_id == report.release_id:
        said.append("it is the champion")
    elif rival is None:
        said.append("there is nothing to compare it with")
    else:
        interval = rival.difference
        said.append(
            f"{rival.sentence(rival.name, report.variant).rstrip('.')}: difference {interval.value:+.3f} "
            f"[{interval.lower:+.3f}, {interval.upper:+.3f}]"
        )
    kept, minimum = report.abilities.kept, report.abilities.minimum
    if kept is not None:
        said.append(
            f"keeps {figure(kept.value)} of {kept.count} abilities of its base, lower bound "
            f"{figure(kept.lower, against=minimum)}, minimum {minimum_figure(minimum)}"
        )
    return "; ".join(said)


def report_kind(release: Release) -> str:
    """Under which kind the report of a release is stored."""
    return f"release/{release.release_id}"
