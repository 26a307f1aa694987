"""Tests of the embedded NIM, on its real model."""
