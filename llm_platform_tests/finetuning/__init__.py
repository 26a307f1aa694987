"""Tests of fine-tuning, with a model of two layers that is really trained."""
