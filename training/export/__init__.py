"""From a trained task to ONNX: merge, export, check against PyTorch, other precisions.

It may import `learning` and the rooms below, but not `report`.
"""
