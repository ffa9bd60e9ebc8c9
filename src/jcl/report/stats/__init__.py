"""What a benchmark's scores say: means, intervals, comparisons, gaps."""
