"""Models as networks: families of base models, discriminator, depth, EMA, fetching. Knows no training stage."""
