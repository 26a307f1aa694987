"""The queues in the words of the page."""

from __future__ import annotations

from dataclasses import dataclass

from llm_platform.records import ReviewQueueName


@dataclass(frozen=True)
class QueueText:
    """Title of a queue, and what its documents have in common."""

    title: str
    hint: str


QUEUES: dict[ReviewQueueName, QueueText] = {
    "disagreements": QueueText(
        "Different answers", "The variants answered differently, or in one of fifty cases alike. You say what is right."
    ),
    "low_confidence": QueueText("Unsure answers", "Where the model was least sure of itself, least sure first."),
    "drift": QueueText("Unusual documents", "Unlike the documents that the answers were measured on."),
    "drawn": QueueText("Recent sample", "Recent documents that the platform drew for labelling."),
    "audit": QueueText(
        "Random check", "In random order, none left out. These verdicts measure how good the answers are."
    ),
    "slice": QueueText("One group", "Documents that have something in common, in random order."),
    "mine": QueueText("Others saw it differently", "You judged these, and somebody has since said something else."),
    "adjudication": QueueText("To be decided", "People disagree, or contradict the known answer. Your word is final."),
}
ONE = QueueText("One document", "Opened from the answers or from your verdicts.")
"""What is in no queue: a document that a person has asked for."""
