"""A benchmark's tables as Markdown, LaTeX and CSV."""
