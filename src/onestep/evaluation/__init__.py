"""What clips are measured by: judge, metrics, paired statistics."""
