"""LoRA adapters: training examples, the training process, and what an adapter is made from.

Here belongs what turns answered documents into weights. Serving an adapter belongs to `nim` and `nim_local`; judging
one to `evaluation`.
"""
