"""Tests of the store and its backends."""
