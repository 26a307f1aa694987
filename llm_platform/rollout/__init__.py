"""How a challenger comes into use: what each stage must show, what evidence decides, and whose documents are whose.

Belongs here: the rules of a rollout as pure functions, without a clock, a table or a model. Does not: measuring
(`evaluation`), storing events (`warehouse`), asking and publishing (`operations`).
"""
