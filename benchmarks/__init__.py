"""Speed and memory, side by side: Switchboard, a stock Pipecat bot and a bare relay between the same phones and model.

``uv run -m benchmarks`` measures, prints a table and writes docs/performance; ``--quick`` is a first look. Each server
runs in a process of its own (`benchmarks.servers`), the phones and the model in another (`benchmarks.load`), and
`benchmarks.scenario` leads both by the same steps. What is measured, and how, is told in docs/performance.md.
"""
