"""One file, one paper, one algorithm box."""
