"""What a deployment is told from outside: environment variables, and how its endpoints are reached.

Belongs here: every variable, its meaning and its check. Does not: what follows from a value; an operation is handed the
values that it needs and reads nothing itself.
"""
