"""What differs between families of base models: one module for each."""
