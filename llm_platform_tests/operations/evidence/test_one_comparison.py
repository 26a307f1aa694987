"""Whoever asks whether B is better than A is told the same: the card, `compare`, adapters and the regression gate."""

from __future__ import annotations

import dataclasses
import html
import json
from typing import Any

import pytest

from llm_platform.application.evaluation import RegressionGate
from llm_platform.evaluation.comparison import Comparison, JudgedVariant, compare_all
from llm_platform.evaluation.measures import method_of
from llm_platform.evaluation.pairing import PairedDifference, Rules
from llm_platform.evaluation.pairs import Pair, held_out_clusters, held_out_grades, pair
from llm_platform.evaluation.regression import ChampionScores
from llm_platform.evaluation.report import build_report
from llm_platform.operations.adapters.adapter_reports import report_adapter
from llm_platform.operations.evidence.abilities import KeptAbilities
from llm_platform.operations.evidence.adapter_evidence import AdapterReport, verdict
from llm_platform.operations.evidence.cards import card_html
from llm_platform.operations.evidence.comparing import Paired, compare_releases
from llm_platform.operations.evidence.frames import answers_frame, with_clusters
from llm_platform.operations.releases import LoadedApplication
from llm_platform.records import GateResult, Interval, Release, Score
from llm_platform.warehouse.store import ApplicationStore
from llm_platform_tests.evaluation.builders import CREATED
from llm_platform_tests.operations.prompt_team import Ran
from llm_platform_tests.team import NAME

CHANGES = [
    pytest.param({}, {}, id="plain"),
    pytest.param({"cluster": "team"}, {}, id="clusters"),
    pytest.param({}, {"looks": "any"}, id="any-look"),
    pytest.param({"cluster": "team"}, {"looks": "any", "confidence": 0.8}, id="clusters-any-look-other-confidence"),
    pytest.param({}, {"confidence": 0.999}, id="other-confidence"),
]


def stating(loaded: LoadedApplication, evaluation: dict[str, Any], gates: dict[str, Any]) -> LoadedApplication:
    """The same application whose evaluation says something else."""
    regression = RegressionGate(margin=0.01, reason="Readers of the table notice it.")
    stated = loaded.application.evaluation
    limits = stated.gates.model_copy(update={"regression": regression, **gates})
    changed = stated.model_copy(update={**evaluation, "gates": limits})
    return dataclasses.replace(loaded, application=loaded.application.model_copy(update={"evaluation": changed}))


def scores_of(store: ApplicationStore, release: Release) -> list[Score]:
    rows = store.scores.of_release(release.release_id, store.references.version()).to_pylist()
    return [Score.model_validate({name: row[name] for name in Score.model_fields}) for row in rows]


@dataclasses.dataclass(frozen=True)
class Said:
    """What each of them says of the variants `vague` and `clear`."""

    card: Comparison
    page: str
    compared: Paired
    adapter: Pair
    gate: GateResult

    @property
    def all(self) -> list[PairedDifference]:
        return [self.card, self.compared, self.adapter]


def said_by(store: ApplicationStore, loaded: LoadedApplication) -> Said:
    """One lake, asked by each of them."""
    application = loaded.application
    documents = store.documents.table(columns=["document_id", "fingerprint", "text", "attributes"]).to_pandas()
    references = store.references.table().to_pandas()
    releases = [loaded.release(name, store) for name in ("vague", "clear")]
    vague, clear = (release for release in releases if release is not None)
    judged = []
    for name, release in (("vague", vague), ("clear", clear)):
        answers, scores = (
            with_clusters(answers_frame(store, release), documents, application),
            scores_of(store, release),
        )
        report = build_report(
            answers,
            references,
            scores,
            application=application,
            variant=name,
            release=release,
            references_version=store.references.version(),
            created_at=CREATED,
            champion=ChampionScores(vague.release_id, scores_of(store, vague)),
        )
        judged.append(JudgedVariant(report, answers, scores))
    card = compare_all([(judged[0], judged[1])], references=references, rules=Rules.of(application))[0]
    page = card_html(store, loaded, judged, provenance={}, panels=(), review_url=None)
    compared = compare_releases(store, loaded, ("vague", "clear"), split="evaluation")[2]
    assert compared is not None
    clustered = with_clusters(documents, documents, application)
    grades = [held_out_grades(clustered, references, one.scores, scorer=one.report.scorer) for one in judged]
    adapter = pair(
        grades[1],
        grades[0],
        name="vague",
        clusters=held_out_clusters(clustered, references),
        rules=Rules.of(application),
        method=method_of(application),
    )
    assert adapter is not None
    gate = next(result for result in judged[1].report.gates if result.name == "regression")
    return Said(card=card, page=html.unescape(page), compared=compared, adapter=adapter, gate=gate)


@pytest.mark.parametrize(("evaluation", "gates"), CHANGES)
def test_interval_p_value_and_sentence_are_the_same_everywhere(
    ran: Ran, evaluation: dict[str, Any], gates: dict[str, Any]
) -> None:
    """One lake, one pair of variants: two answers to one question would leave it to the reader which to believe."""
    team, _ = ran
    loaded = stating(team.loaded, evaluation, gates)
    with team.warehouse.open(read_only=True) as lake:
        said = said_by(lake.application(NAME), loaded)

    common = [{name: getattr(one, name) for name in PairedDifference.model_fields} for one in said.all]
    assert common[0] == common[1] == common[2]
    assert said.card.summary == said.compared.summary == said.adapter.sentence("vague", "clear")
    assert said.card.summary in said.page
    card, gate = said.card, said.gate
    assert (gate.value, gate.lower, gate.upper) == (
        card.difference.value,
        card.difference.lower,
        card.difference.upper,
    )
    assert card.counted_text in gate.reason
    assert card.difference.confidence == gates.get("confidence", 0.95)
    assert (card.difference.count < card.texts) == bool(evaluation)


def test_a_comparison_is_as_sure_as_the_application_says(ran: Ran) -> None:
    """Intervals at 0.5 would look twice as sure; at every look and over clusters they are wider, and not narrower."""
    team, _ = ran
    widths = []
    stated: list[tuple[dict[str, Any], dict[str, Any]]]
    stated = [({}, {"confidence": 0.8}), ({}, {}), ({}, {"looks": "any"}), ({"cluster": "team"}, {})]
    for evaluation, gates in stated:
        with team.warehouse.open(read_only=True) as lake:
            said = said_by(lake.application(NAME), stating(team.loaded, evaluation, gates))
        widths.append([one.difference.upper - one.difference.lower for one in said.all])

    for each in zip(*widths, strict=True):
        assert each[0] < each[1] < each[2]
        assert each[1] < each[3]


@pytest.mark.parametrize(("evaluation", "gates"), CHANGES)
def test_an_adapter_is_held_against_the_champion_by_the_same_rules(
    ran: Ran, evaluation: dict[str, Any], gates: dict[str, Any]
) -> None:
    """An adapter that answers as `vague` does is worse than the champion by just what the card says of `vague`."""
    team, _ = ran
    loaded = stating(team.loaded, evaluation, gates)
    with team.warehouse.open() as lake:
        store = lake.application(NAME)
        vague = loaded.release("vague", store)
        assert vague is not None
        release = vague.model_copy(update={"adapter": f"a{len(evaluation)}{len(gates)}{gates.get('confidence', '')}"})
        store.scores.append(
            [score.model_copy(update={"release_id": release.release_id}) for score in scores_of(store, vague)]
        )
        kept = KeptAbilities(version="1", asked=0, base_right=0, kept=None, lost={})
        report = report_adapter(store, loaded, "vague", release, measure=lambda _: kept)
        card = said_by(store, loaded).card

    rival = report.pairs[0]
    assert rival.release_id == report.rival_id
    assert (rival.difference.lower, rival.difference.upper) == pytest.approx(
        (-card.difference.upper, -card.difference.lower), abs=1e-6
    )
    assert rival.p_value == pytest.approx(card.p_value, abs=1e-9)
    assert (rival.comparisons, rival.difference.confidence) == (1, gates.get("confidence", 0.95))
    assert {one.comparisons for one in report.pairs[1:]} <= {len(report.pairs) - 1}
    assert not report.improves


@pytest.mark.parametrize(
    ("lower", "improves"), [pytest.param(-0.01, False, id="undecided"), pytest.param(0.01, True, id="decided")]
)
def test_an_adapter_that_only_looks_better_is_refused(lower: float, improves: bool) -> None:
    """The measured difference is above zero in both; its interval decides, and the sentence says the same."""
    sure = Interval(value=0.5, lower=0.4, upper=0.6, confidence=0.95, count=100)
    pair_found = Pair(
        name="champion (plain)",
        release_id="rival",
        ours=sure,
        theirs=sure,
        difference=Interval(value=0.05, lower=lower, upper=0.11, confidence=0.95, count=100),
        p_value=0.02 if improves else 0.1,
    )
    report = AdapterReport(
        variant="tuned",
        adapter_id="a",
        release_id="r",
        evaluation_id="e",
        rival_id="rival",
        pairs=(pair_found,),
        abilities=KeptAbilities(version="1", asked=0, base_right=0, kept=None, lost={}),
    )

    assert report.improves is improves
    assert report.passed is improves
    assert verdict(report).startswith("No difference between champion (plain) and tuned can be shown") is not improves
    assert pair_found.sentence("champion (plain)", "tuned").rstrip(".") in verdict(report)


def test_reports_that_were_stored_before_texts_and_clusters_were_told_apart_are_read() -> None:
    """An adapter that serves since last year keeps the evidence it was promoted on."""
    stored = {
        "name": "base, same prompt",
        "release_id": None,
        "ours": {"value": 0.8, "lower": 0.7, "upper": 0.9, "confidence": 0.95, "count": 99},
        "theirs": {"value": 0.6, "lower": 0.5, "upper": 0.7, "confidence": 0.95, "count": 99},
        "difference": {"value": 0.2, "lower": 0.1, "upper": 0.3, "confidence": 0.95, "count": 99},
        "p_value": 0.001,
    }

    found = Pair.model_validate_json(json.dumps(stored))

    assert found.is_better
    assert found.counted_text == "99 texts"
