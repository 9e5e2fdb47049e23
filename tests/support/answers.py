"""A server's answers, as a stand-in sends them."""

ANSWER = {
    "label": "cat",
    "cat": 0.9,
    "dog": 0.01,
    "other": 0.09,
    "breed": {"name": "tabby", "index": 281, "share": 0.65},
    "top": [{"index": 281, "name": "tabby", "probability": 0.6}],
    "box": None,
    "network": "resnet152",
    "weights": "IMAGENET1K_V1",
    "precision": "fp32",
    "version": "1.0",
}
