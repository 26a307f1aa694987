"""The embedded NIM: llama.cpp behind the protocol of NIM 1.x or 2.x, in a process of its own.

Belongs here: fetching and requantizing the weights, the engine, adapters beside it, the protocol's bodies, the server,
and the life of its process. Does not belong here: anything that talks to a NIM as a client, or that decides which model
an application uses. What it answers is real, and of a small model: it proves behaviour, never a model's quality or a
GPU's speed.
"""
