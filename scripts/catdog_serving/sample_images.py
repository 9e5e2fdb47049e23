"""Where the sample images are: docs/sample-images.md says whose they are."""

from pathlib import Path

SAMPLES = Path(__file__).parent / "samples"
CAT = SAMPLES / "chelsea.png"
