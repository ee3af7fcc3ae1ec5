"""Benchmarks that anyone can run; they print figures, keep them beside this file, and judge nothing."""
