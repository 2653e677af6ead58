"""The inference service: loads published versions of tasks and answers requests about items with missing modalities."""
