"""Models come in: checkpoints of every form, modules of PyTorch, and their translation to a graph.

torch and transformers are imported inside functions, when a module is at hand; `structure` needs
neither, so that a saved model is called and answers without them.
"""
