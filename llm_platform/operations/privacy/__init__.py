"""What becomes of text: forgetting documents, with proof.

Belongs here: requests to forget and their certificates, in tables, files and other namespaces. Does not: where text is
in a table (`warehouse.traces`), what erases its bytes (`warehouse.erasure`).
"""
