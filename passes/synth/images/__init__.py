"""Images drawn by a net that is trained against a classifier: files that import torch, loaded when needed."""
