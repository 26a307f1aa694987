"""Run LLM applications inside a company as one asset graph, from raw documents to a published table.

Imports point one way: definitions → defs → resources → operations → stage folders → application, records → errors.
"""
