"""Which of the files in a folder are images, as far as their names tell."""

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".heic", ".heif"}
)
# Made by systems and programs: previews, the halves of files that a disk cannot hold, what was
# deleted. By Synology, QNAP, macOS, Windows and ext4; all others begin with a dot.
_NO_ALBUMS = frozenset(
    {
        *("@eadir", "@recycle", "@recently-snapshot", "@tmp", "#recycle", "#snapshot", "__macosx"),
        *("$recycle.bin", "system volume information", "lost+found"),
    }
)


def is_passed_over(name: str, is_folder: bool) -> bool:
    """Whether what has this name is hidden, or no person's; only below what was named itself."""
    return name.startswith(".") or (is_folder and name.casefold() in _NO_ALBUMS)
