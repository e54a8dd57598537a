"""Floor 3: the data plane. It knows the routes, the models and the online table, nothing else.

A worker loads numpy, msgspec and onnxruntime; no control plane, no database.
"""
