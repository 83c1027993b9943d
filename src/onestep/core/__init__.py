"""What every room stands on: settings loader, storage, processes, paths. Knows no stage."""
