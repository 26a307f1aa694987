"""LoRA adapters from examples to a served and judged model: training, folders, studies, reports.

Belongs here: steps that only adapters have. Does not: the training loop (`finetuning`), and the promotion (`release`).
"""
