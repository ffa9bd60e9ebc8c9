"""Charts and pictures of a benchmark."""
