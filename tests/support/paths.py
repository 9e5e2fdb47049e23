"""Where the repository's own files lie, and the photos that are not part of it."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "scripts" / "catdog_serving" / "samples"
PHOTOS = ROOT.parent / "shared" / "photos"
