"""From an item to an answer: the engine, its queues, batches and deadlines, and explanations.

It knows no HTTP. It may import `models` and the rooms below.
"""
