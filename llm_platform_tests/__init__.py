"""Tests, in the folders of the package they test; `servers` holds scripted endpoints."""
