"""Speed and memory, measured side by side: `python -m benchmarks` writes metrics/bench.csv and two charts.

Every module named in `__main__.CASES` lists the systems that it compares; ours are the functions of stages/.
"""
