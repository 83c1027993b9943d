"""The rendered demo world and its footage: the only room that knows what a circle is."""
