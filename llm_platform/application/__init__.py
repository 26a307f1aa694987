"""Reading `application.yaml`: the file, its rules, and where applications are found.

Belongs here: turning a folder into an `Application`, with every mistake at its line. Does not: what stands in prompt
files (`prompts`), and anything that a running warehouse or endpoint would have to answer.
"""
