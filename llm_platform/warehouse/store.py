"""The tables of one application, each in a module of its own."""

from __future__ import annotations

from llm_platform.warehouse.completions import Completions
from llm_platform.warehouse.documents import Documents
from llm_platform.warehouse.models import Models
from llm_platform.warehouse.prompts import Prompts
from llm_platform.warehouse.published import Published
from llm_platform.warehouse.references import References
from llm_platform.warehouse.releases import Releases
from llm_platform.warehouse.reports import Reports
from llm_platform.warehouse.rollout import Rollout
from llm_platform.warehouse.runs import Runs
from llm_platform.warehouse.scores import Scores
from llm_platform.warehouse.session import Session


class ApplicationStore:
    """What one application has stored. A method is one transaction; one that would change nothing makes no snapshot."""

    def __init__(self, session: Session, application: str) -> None:
        self.name = application
        self.documents = Documents(session, application)
        self.references = References(session, application)
        self.prompts = Prompts(session, application)
        self.releases = Releases(session, application)
        self.models = Models(session, application)
        self.completions = Completions(session, application)
        self.scores = Scores(session, application)
        self.reports = Reports(session, application)
        self.rollout = Rollout(session, application)
        self.published = Published(session, application)
        self.runs = Runs(session, application)
