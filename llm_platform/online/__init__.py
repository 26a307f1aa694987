"""What stands between callers and answers: who calls, how much, in which form, and what they are told.

Belongs here: the ASGI application, callers and their limits, the form of OpenAI, metrics as Prometheus reads them. Does
not: who answers, and where answers are kept (`operations.online`).
"""
