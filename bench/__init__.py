"""Runnable comparisons with the programs that a user would pick instead; `python -m bench` prints ratios."""
