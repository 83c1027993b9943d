"""The checks of `onestep doctor`: functions that yield a `CheckResult` for each thing that they looked at."""
