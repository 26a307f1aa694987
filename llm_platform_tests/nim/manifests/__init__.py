"""Kubernetes objects of models: what they say, and that clusters accept them."""
