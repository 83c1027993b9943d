"""Footage to shots to clips to checked clips to latents, each under the fingerprint of what made it."""
