"""The comparisons, one a module: `measure(stage)` gives the outcome."""
