"""Trainer parts: what a step's episodes teach, as rows for one loss."""
