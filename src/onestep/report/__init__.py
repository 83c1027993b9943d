"""Pages and plots for people. No stage up to the gate depends on them."""
