"""Prompt files: read, checked, rendered, and held against the model's context length.

Belongs here: what is asked, as text. Does not: how a request is sent or an answer read (`inference`), and who counts
tokens: a tokenizer is passed in.
"""
