"""The core of catdog: images in, cat and dog masses out.

It knows nothing of TorchServe, HTTP, command lines or the environment, so the
same code runs in the server's worker, in a script and in a notebook:

    classifier = Classifier.load(model_dir)
    results = classifier.classify([path.read_bytes()])

This package is copied into every model archive.
"""

__version__ = "0.2.0"
