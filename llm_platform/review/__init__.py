"""The page where domain experts judge answers.

Here belong queues, verdicts and the page itself. Storing a verdict belongs to `warehouse`; what verdicts change
(references, training examples, agreement of a judge) to the stages that read them.
"""
