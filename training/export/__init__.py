"""From a trained task to ONNX: merge, export, parity check, other precisions.

It may import `learning` and the rooms below, and nothing of `report`.
"""
