"""The tables of one application, each in a module of its own."""

from __future__ import annotations

import time
from collections.abc import Callable

from llm_platform.warehouse.adapters import AdapterReports, Adapters, TrainingSets
from llm_platform.warehouse.adopting import Adoption
from llm_platform.warehouse.annotations import Annotations
from llm_platform.warehouse.answer_pages import AnswerPages
from llm_platform.warehouse.audit import Audit
from llm_platform.warehouse.bars import Bars
from llm_platform.warehouse.completions import Completions
from llm_platform.warehouse.contracts import Contracts
from llm_platform.warehouse.copies import Copies
from llm_platform.warehouse.documents import DocumentsTable
from llm_platform.warehouse.drift import DriftTable
from llm_platform.warehouse.failures import Failures
from llm_platform.warehouse.judgements import Judgements
from llm_platform.warehouse.models import Models
from llm_platform.warehouse.notices import Notices
from llm_platform.warehouse.online_documents import OnlineDocuments
from llm_platform.warehouse.pools import Pools
from llm_platform.warehouse.prompts import Prompts
from llm_platform.warehouse.published import Published
from llm_platform.warehouse.reads import Reads
from llm_platform.warehouse.references import ReferencesTable
from llm_platform.warehouse.releases import Releases
from llm_platform.warehouse.reports import Reports
from llm_platform.warehouse.retention import OldRows
from llm_platform.warehouse.review_items import ReviewItems
from llm_platform.warehouse.rollout import RolloutTable
from llm_platform.warehouse.rollout_steps import RolloutSteps
from llm_platform.warehouse.runs import Runs
from llm_platform.warehouse.scores import Scores
from llm_platform.warehouse.session import Session
from llm_platform.warehouse.shares import Shares
from llm_platform.warehouse.tallies import Tallies
from llm_platform.warehouse.traces import ApplicationTraces
from llm_platform.warehouse.trials import Trials


class ApplicationStore:
    """What one application has stored. A method is one transaction; one that would change nothing makes no snapshot."""

    def __init__(self, session: Session, application: str) -> None:
        self.name = application
        self._session = session
        self.tallies = Tallies(session, application)
        self.audit = Audit(session, application)
        self.documents = DocumentsTable(session, application)
        self.online_documents = OnlineDocuments(session, application)
        self.references = ReferencesTable(session, application)
        self.annotations = Annotations(session, application)
        self.answer_pages = AnswerPages(session, application)
        self.traces = ApplicationTraces(session, application)
        self.bars = Bars(session, application)
        self.reads = Reads(session, application)
        self.notices = Notices(session, application)
        self.retention = OldRows(session, application)
        self.prompts = Prompts(session, application)
        self.pools = Pools(session, application)
        self.trials = Trials(session, application)
        self.judgements = Judgements(session, application)
        self.releases = Releases(session, application)
        self.models = Models(session, application)
        self.completions = Completions(session, application)
        self.adoption = Adoption(session, application)
        self.failures = Failures(session, application)
        self.scores = Scores(session, application)
        self.reports = Reports(session, application)
        self.rollout = RolloutTable(session, application)
        self.rollout_steps = RolloutSteps(session, application)
        self.contracts = Contracts(session, application)
        self.copies = Copies(session, application)
        self.shares = Shares(session, application)
        self.published = Published(session, application)
        self.runs = Runs(session, application)
        self.drift = DriftTable(session, application)
        self.training_sets = TrainingSets(session, application)
        self.adapters = Adapters(session, application)
        self.adapter_reports = AdapterReports(session, application)

    def review_items(self, *, second_opinions: float, clock: Callable[[], float] = time.monotonic) -> ReviewItems:
        """What people can judge, copied into memory; see `ReviewItems`."""
        return ReviewItems(self._session, self.name, second_opinions=second_opinions, clock=clock)
