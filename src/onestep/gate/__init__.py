"""From files to a verdict: rules as pure functions, and the spending of alpha over comparisons."""
