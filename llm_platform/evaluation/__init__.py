"""Whether the answers are right: scorers, intervals, baselines, gates, reports and the card people read.

What belongs here is arithmetic over answers and references, and the words and pictures that report it. What does not:
asking a model, reading or writing a table, and deciding what is published; a report is evidence, `rollout` is the
decision. Nothing here logs, stores or draws the text of a document or an answer.
"""
