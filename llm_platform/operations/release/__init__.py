"""What serves and why: the decision, what is missing before it, what it rests on, and what a deployment is made of.

Belongs here: promotion, rollback, the plan, explanations, branches, the lock file as people change it, bills of
materials. Does not: what a release *is* (`operations.releases`), which every room reads.
"""
