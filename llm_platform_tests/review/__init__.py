"""The review page and what verdicts become."""
