"""Video files and pictures: probe, decode, cut, encode, colours, contact sheets. Knows no clip index and no model."""
