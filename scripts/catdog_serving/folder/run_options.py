"""What a folder run is asked for, checked as a whole before any image is read."""

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from catdog_serving.errors import NotReadyError, UsageError
from catdog_serving.find_images import (
    ImageFiles,
    Shard,
    check_not_read,
    check_outside,
    find_sources,
)
from catdog_serving.folder.outputs import (
    FORMAT_OF_SUFFIX,
    PAGE_SUFFIXES,
    SPREADSHEET_SUFFIXES,
    check_page_suffix,
    check_parquet,
    is_stream,
)
from catdog_serving.folder.own_outputs import check_own
from catdog_serving.folder.state_file import files_of, refuse_first_edition, state_of
from catdog_serving.image_names import IMAGE_SUFFIXES
from catdog_serving.remote_path import AnyPath, RemotePath, local_path


@dataclass(frozen=True)
class RunOptions:
    """What the command line asked for.

    Attributes:
        paths: Files and folders.
        patterns: `--glob`: take only files that match one.
        exclude: `--exclude`: pass over files and folders that match one.
        shard: Take only this part of the files.
        format: "table", "json", "jsonl", "csv" or "parquet"; None: as the output's suffix says.
        output: The file for the results; None for standard output.
        report: The HTML page to write.
        resume: Go on with the state that is there.
        restart: Throw it away.
        keep_state: Leave the state where a run has nothing left to do, too.
        sort_into: Sort the images into this folder.
        move: Move them, not copy.
        dry_run: Only say how they would be sorted.
        bom: Begin CSV with a byte order mark.
        remote: Whether the backend reads files that have a URI.
        also_read: Files besides the images that are read, and so never written.

    Raises:
        UsageError: If some of it does not go together.
        RefusedError: If a run of catdog 0.1 would be lost, or a file that catdog did not make.
        NotReadyError: If the format needs a package that is not installed, or a file cannot be
            written because of its name or its folder.
    """

    paths: tuple[AnyPath, ...]
    patterns: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    shard: Shard | None = None
    format: str | None = None
    output: Path | None = None
    report: Path | None = None
    resume: bool = False
    restart: bool = False
    keep_state: bool = False
    sort_into: Path | None = None
    move: bool = False
    dry_run: bool = False
    bom: bool = False
    remote: bool = False
    also_read: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        self._check_names()
        self._check_together()
        if any(isinstance(path, RemotePath) for path in self.paths):
            self._check_remote()
        if self.sort_into is not None:
            check_outside(self.sort_into, self.paths)
        self._check_format()
        self._check_outputs()

    def _check_names(self) -> None:
        """That a file can have each name that is written, as far as looking tells."""
        outputs = [path for path in (self.output, self.report) if path is not None]
        for path in outputs:
            _check_name(path)
            if path.name in ("", "..") or path.is_dir():
                raise UsageError(f"{path} is a folder; name a file in it")
        for path in self.own_files:
            _check_name(path)
        if self.sort_into is not None:
            _check_name(self.sort_into)
            if self.sort_into.exists() and not self.sort_into.is_dir():
                raise UsageError(f"{self.sort_into} is no folder to sort into")

    def _check_together(self) -> None:
        for option in ("resume", "restart", "keep_state"):
            if getattr(self, option) and self.state is None:
                name = option.replace("_", "-")
                raise UsageError(
                    f"--{name} needs --output or --report: the run's state lies beside that file"
                )
        if self.resume and self.restart:
            raise UsageError("choose one of --resume and --restart")
        if self.dry_run and self.sort_into is None:
            raise UsageError("--dry-run goes with --copy-to or --move-to")

    def _check_remote(self) -> None:
        if not self.remote:
            raise UsageError("s3://, gs:// and file:// are read by --backend ray only")
        if self.report is not None or self.sort_into is not None:
            raise UsageError(
                "--report, --copy-to and --move-to need the images on this machine; leave "
                "them out, or name folders here"
            )

    def _check_format(self) -> None:
        if self.output is not None:
            suffix = self.output.suffix.lower()
            if suffix in PAGE_SUFFIXES:
                raise UsageError(f"an HTML page is made by --report {self.output}")
            if suffix in SPREADSHEET_SUFFIXES:
                raise UsageError(
                    f"{self.output} is none of the files that catdog writes; use .csv, with --bom "
                    "for Excel"
                )
            if self.format not in (None, FORMAT_OF_SUFFIX.get(suffix, self.format)):
                raise UsageError(
                    f"--format {self.format} and --output {self.output} say two things; leave out "
                    "--format, or choose another name"
                )
        if self.bom and self.output_format != "csv":
            raise UsageError("--bom goes with CSV: --output FILE.csv or --format csv")
        if self.output_format == "parquet":
            if self.output is None or is_stream(self.output):
                raise UsageError("--format parquet needs --output FILE.parquet")
            check_parquet()

    def _check_outputs(self) -> None:
        """That what is written replaces nothing that is read or a stranger's, nor each other."""
        outputs = [path for path in (self.output, self.report) if path is not None]
        if self.report is not None and is_stream(self.report):
            raise UsageError(f"--report needs a file, and {self.report} is none")
        written = [*outputs, *self.own_files]
        places = [os.path.realpath(path) for path in written]
        if len(set(places)) < len(places):
            raise UsageError(f"--report needs a name of its own; {self.report} is taken")
        here = (path for path in map(local_path, self.paths) if path and os.path.exists(path))
        # Without the shard: those of other shards are read too, by others.
        sources = (
            ImageFiles(path, self.patterns, never=self.own_files, exclude=self.exclude)
            for path in here
        )
        files = [path for path in outputs if not is_stream(path)]
        check_not_read(files, sources, self.also_read)
        for path in files:
            if path.suffix.lower() in IMAGE_SUFFIXES:
                raise UsageError(f"{path} is an image by its name, and no image is written")
            check_own(path)
        if self.report is not None:
            check_page_suffix(self.report)
        if self.state is not None and not self.restart:
            first = self.state.with_name(self.state.stem)
            refuse_first_edition((first, first.with_name(f"{first.name}.journal.jsonl")))

    def sources(self) -> list[ImageFiles]:
        """The files and folders to walk; each call gives objects of its own.

        Where an earlier run is gone on with, what it moved may be missing.
        """
        goes_on = self.resume and self.state is not None and self.state.exists()
        return find_sources(
            self.paths, self.patterns, self.shard, self.own_files, goes_on, self.exclude
        )

    @property
    def output_format(self) -> str:
        """Which one: as `--format` says, else the output's suffix."""
        suffix = "" if self.output is None else self.output.suffix.lower()
        return self.format or FORMAT_OF_SUFFIX.get(suffix, "table")

    @property
    def state(self) -> Path | None:
        """Where the state lies: beside the first file that is written; None if there is none."""
        for path in (self.output, self.report):
            if path is not None and not is_stream(path):
                return state_of(path)
        return None

    @property
    def own_files(self) -> tuple[Path, ...]:
        """The state's files, which are no images."""
        return () if self.state is None else files_of(self.state)

    @property
    def selection(self) -> str:
        """Which files below the paths are taken, as the state keeps it."""
        shard = self.shard and f"{self.shard.index}/{self.shard.count}"
        exclude = {"exclude": self.exclude} if self.exclude else {}
        return json.dumps({"glob": self.patterns, "shard": shard} | exclude)


def _check_name(path: Path) -> None:
    """That a file is or could be there, by its name and its folder.

    Raises:
        NotReadyError: If not.
    """
    try:
        with suppress(FileNotFoundError):
            path.lstat()
            path.stat()  # what it links to
    except OSError as error:
        raise NotReadyError(f"cannot write {path}: {error.strerror or error}") from error
