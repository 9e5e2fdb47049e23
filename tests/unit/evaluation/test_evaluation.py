"""Evaluations of classifiers whose quality is known, and of folders that are not as they should."""

import csv
import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from catdog_serving.cli.evaluate import print_evaluation
from catdog_serving.errors import NotReadyError
from catdog_serving.evaluation.evaluation import Evaluation, evaluate, evaluate_folder
from catdog_serving.evaluation.labelled_files import LabelledFolder, LabelledResult, write_rows
from catdog_serving.evaluation.metrics import BestThreshold, Share
from catdog_serving.evaluation.plots import draw_plots
from catdog_serving.extras import install_hint
from catdog_serving.folder.image_result import FolderReport, ImageFailure
from tests.support.command_line import catdog_here
from tests.support.outcomes import always_cat, answer, classified, perfect, reversed_
from tests.support.stub_backend import NameBackend, touch

BAD = ImageFailure("InvalidImage", "cannot decode [12] bytes")


def test_a_perfect_classifier_has_perfect_figures() -> None:
    evaluation = evaluate(classified(perfect, ("cat", "dog", "neither")))
    assert evaluation.two_way == Share(20, 20)
    assert evaluation.cats == evaluation.dogs == Share(10, 10)
    assert evaluation.three_way is not None
    assert evaluation.three_way.right == evaluation.three_way.best.right == Share(30, 30)
    best = evaluation.three_way.best
    assert (best.low, best.high) == pytest.approx((0.03, 0.9 * 0.991))
    assert evaluation.roc_auc == 1
    assert evaluation.calibration_error == pytest.approx(0)
    assert evaluation.mistakes == ()
    assert evaluation.mean_masses["cat"]["cat"] == pytest.approx(0.9 * 0.9955)
    assert evaluation.mean_masses["neither"]["dog"] == pytest.approx(0.01 * 0.9955)


def test_a_reversed_classifier_has_the_worst_figures() -> None:
    evaluation = evaluate(classified(reversed_, ("cat", "dog")))
    assert evaluation.two_way == Share(0, 20)
    assert evaluation.three_way is None
    assert evaluation.roc_auc == 0
    assert evaluation.calibration_error == pytest.approx(1)
    assert evaluation.confusion["cat"] == {"cat": 0, "dog": 10, "neither": 0, "failed": 0}
    assert len(evaluation.mistakes) == 20


def test_a_classifier_that_always_says_cat_is_half_right_and_is_json() -> None:
    evaluation = evaluate(classified(always_cat, ("cat", "dog", "neither")))
    assert evaluation.two_way == Share(10, 20)
    assert (evaluation.cats, evaluation.dogs) == (Share(10, 10), Share(0, 10))
    assert evaluation.roc_auc == pytest.approx(0.5)
    assert evaluation.calibration_error == pytest.approx(abs(8 / 9 - 0.5))
    assert evaluation.three_way is not None
    assert evaluation.three_way.right == Share(10, 30)
    confusion = {"cat": 10, "dog": 0, "neither": 0, "failed": 0}
    assert evaluation.confusion == dict.fromkeys(("cat", "dog", "neither"), confusion)

    document = json.loads(json.dumps(evaluation.to_dict(), allow_nan=False))
    assert document["two_way"]["value"] == 0.5
    assert document["model"]["untrained"] is False
    assert document["mistakes"][0]["path"] == "dog0.jpg"
    assert document["mistakes"][0]["taken_for"] == "cat"
    assert document["best_threshold"]["right"]["total"] == 30


def test_the_worst_twenty_mistakes_come_first() -> None:
    outcomes = [("dog", Path(f"{i}.jpg"), answer(0.5 + i / 100, 0.1)) for i in range(30)]
    outcomes.append(("neither", Path("cup.jpg"), answer(0.1, 0.85)))
    outcomes.append(("neither", Path("unseen.jpg"), answer(0.2, 0.01)))
    mistakes = evaluate(outcomes).mistakes
    assert [str(m.path) for m in mistakes[:3]] == ["cup.jpg", "29.jpg", "28.jpg"]
    assert [(m.taken_for, m.wrong_mass) for m in mistakes[:2]] == [("dog", 0.85), ("cat", 0.79)]
    assert len(mistakes) == 20


def test_equal_masses_count_as_dog_as_in_the_handler() -> None:
    evaluation = evaluate([("dog", Path("a"), answer(0, 0)), ("cat", Path("b"), answer(0.4, 0.4))])
    assert (evaluation.cats, evaluation.dogs) == (Share(0, 1), Share(1, 1))
    assert evaluation.calibration_error == pytest.approx(0)  # both sure by half, one is right


def shown(evaluation: Evaluation) -> str:
    console = Console(file=io.StringIO())
    print_evaluation(evaluation, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_failed_images_are_listed_and_are_no_part_of_accuracy() -> None:
    outcomes = list(classified(perfect, ("cat", "dog"), each=3))
    evaluation = evaluate([*outcomes, ("cat", Path("[red]bad.jpg"), BAD)])
    assert evaluation.two_way == Share(6, 6)
    assert evaluation.confusion["cat"]["failed"] == 1
    assert [(f.path.name, f.truth) for f in evaluation.failures] == [("[red]bad.jpg", "cat")]
    text = shown(evaluation)
    assert "1.0000  6 of 6; 95 % interval 0.6097 to 1.0000" in text
    assert "1 failed and are no part of any accuracy" in text
    assert "[red]bad.jpg: cannot decode [12] bytes" in text  # not taken for markup
    assert "model: net ids, fp32, version 1.0" in text


def test_nothing_classified_is_no_crash() -> None:
    evaluation = evaluate([("cat", Path("a"), BAD), ("dog", Path("b"), BAD)])
    assert evaluation.two_way.value is None
    assert evaluation.model is None
    assert draw_plots(evaluation) == {}
    assert "two-way accuracy" in shown(evaluation)


def test_untrained_weights_are_called_so() -> None:
    evaluation = evaluate([("cat", Path("a"), answer(1, 0, weights="seeded"))])
    assert evaluation.untrained
    assert "seeded (untrained: its answers mean nothing)" in shown(evaluation)


def test_names_cannot_move_the_cursor() -> None:
    hostile = Path("a\x1b[2J\udcff.jpg")
    text = shown(evaluate([("dog", hostile, answer(0.9, 0.0)), ("cat", hostile, BAD)]))
    assert text.count("a\\x1b[2J\\udcff.jpg") == 2
    assert "\x1b" not in text


# ---- plots ----


def test_plots_are_drawn_for_what_there_is() -> None:
    two_way = ["ROC curve", "Reliability", "Cat by truth"]
    plots = draw_plots(evaluate(classified(perfect, ("cat", "dog"))))
    assert list(plots) == two_way
    plots = draw_plots(evaluate(classified(perfect, ("cat", "dog", "neither"))))
    assert list(plots) == [*two_way, "Accuracy by presence_threshold"]
    for png in plots.values():
        with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
            assert image.width > 600
            assert len(image.convert("L").getcolors() or ()) > 10  # more than an empty sheet


def test_without_matplotlib_only_the_report_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert evaluate(classified(perfect, ("cat", "dog"))).roc_auc == 1
    touch(tmp_path, "cats/a.jpg", "dogs/b.jpg")
    result = catdog_here("evaluate", tmp_path, "--report", tmp_path / "page.html")
    assert result.returncode == 3
    assert install_hint("report") in result.stderr


def test_the_modules_load_without_the_extra() -> None:
    script = (
        "import sys, catdog_serving.evaluation.plots; "
        "import catdog_serving.reports.evaluation_report; "
        "print({'matplotlib', 'torch'} & set(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "set()"


# ---- folders ----


@pytest.mark.parametrize("names", [("cats", "dogs"), ("Cat", "DOG"), ("cats", "dogs", "Others")])
def test_class_folders_are_found_by_name(tmp_path: Path, names: tuple[str, ...]) -> None:
    touch(tmp_path, *(f"{name}/a.jpg" for name in names), "README.txt")
    truths = ("cat", "dog", "neither")[: len(names)]
    expected = {truth: tmp_path / name for truth, name in zip(truths, names, strict=True)}
    sources = LabelledFolder.find(tmp_path).sources
    assert {truth: source.root for truth, source in sources.items()} == expected


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (("cats/a.jpg", "dogs/b.jpg", "birds/c.jpg"), r"birds is no class .* called: cat, cats"),
        (("cats/a.jpg",), "has no folder dogs"),
        (("dogs/a.jpg",), "has no folder cats"),
        (("cats/a.jpg", "Cat/b.jpg", "dogs/c.jpg"), "are the same class"),
        (("cats/a.jpg", "dogs/notes.txt"), "dogs holds no images"),
        ((), "there is no folder"),
    ],
)
def test_wrong_folders_are_named(tmp_path: Path, files: tuple[str, ...], message: str) -> None:
    folder = tmp_path / "labelled"
    touch(folder, *files)
    with pytest.raises(NotReadyError, match=message):
        LabelledFolder.find(folder)


def test_a_folder_is_classified_by_the_backend(tmp_path: Path) -> None:
    touch(tmp_path, "cats/cat1.jpg", "cats/deep/cat2.jpg", "cats/bad.jpg", "dogs/cat.jpg")
    seen: list[bool] = []
    with NameBackend() as backend:
        evaluation = evaluate_folder(tmp_path, backend, seen.append)
    assert evaluation.confusion == {
        "cat": {"cat": 2, "dog": 0, "neither": 0, "failed": 1},
        "dog": {"cat": 1, "dog": 0, "neither": 0, "failed": 0},
    }
    assert sorted(seen) == [False, False, False, True]
    assert evaluation.to_dict()["folder"] == str(tmp_path)
    assert shown(evaluation).startswith(f"{tmp_path}: 4 files\n")
    assert [m.path for m in evaluation.mistakes] == [tmp_path / "dogs" / "cat.jpg"]


@pytest.mark.parametrize("name", ["rows.csv", "rows.json", "rows.jsonl"])
def test_each_image_has_a_row_with_its_truth(name: str, tmp_path: Path) -> None:
    touch(tmp_path, "set/cats/cat1.jpg", "set/cats/bad.jpg", "set/dogs/cat.jpg")
    rows: list[LabelledResult] = []
    with NameBackend() as backend:
        evaluate_folder(tmp_path / "set", backend, lambda failed: None, on_row=rows.append)
        for _ in range(2):  # the second replaces the first
            write_rows(tmp_path / name, rows, FolderReport("set"), backend.model)
    text = (tmp_path / name).read_text()
    if name == "rows.csv":
        read = list(csv.DictReader(io.StringIO(text)))
        assert list(read[0])[-1] == "truth"
    else:
        lines = text.splitlines()[1:]
        read = json.loads(text)["images"] if name == "rows.json" else list(map(json.loads, lines))
    found = [(Path(row["path"]).name, row["truth"], row.get("label")) for row in read]
    assert [row[:2] for row in found] == [
        ("bad.jpg", "cat"),
        ("cat1.jpg", "cat"),
        ("cat.jpg", "dog"),
    ]
    assert [row[2] or "" for row in found] == ["", "cat", "cat"]


@pytest.mark.parametrize("name", ["rows.parquet", "rows.txt", "rows"])
def test_rows_go_into_files_with_room_for_the_truth(name: str, tmp_path: Path) -> None:
    touch(tmp_path, "cats/a.jpg", "dogs/b.jpg")
    result = catdog_here("evaluate", tmp_path, "--output", tmp_path / name)
    assert result.returncode == 2
    assert "the rows go into .csv, .json or .jsonl" in result.stderr


@pytest.mark.parametrize(
    ("low", "high", "line"),
    [(0.2, 0.3, "0.2500"), (0.30001, 0.30004, "0.300025"), (0.3, 0.3000001, "0.300000050")],
)
def test_the_best_threshold_is_a_line_of_the_configuration(
    low: float, high: float, line: str
) -> None:
    best = BestThreshold((low + high) / 2, low, high, Share(1, 2))
    assert best.setting == best.to_dict()["setting"] == f"presence_threshold: {line}"


def test_the_line_is_printed_where_there_is_a_best_threshold() -> None:
    text = shown(evaluate(classified(perfect, ("cat", "dog", "neither"))))
    assert "section handler\n  presence_threshold: 0.4610\n" in text
    assert "presence_threshold: " not in shown(evaluate(classified(perfect, ("cat", "dog"))))


@pytest.mark.parametrize("hidden", [".ipynb_checkpoints", "@eaDir", "__MACOSX", ".cats"])
def test_hidden_folders_are_no_classes_and_are_counted(hidden: str, tmp_path: Path) -> None:
    touch(tmp_path, "cats/cat.jpg", "dogs/x.jpg")
    with NameBackend() as backend:
        before = evaluate_folder(tmp_path, backend, lambda failed: None)
        touch(tmp_path, f"{hidden}/cats/a.jpg", f"{hidden}/b.jpg", f"cats/{hidden}/c.jpg")
        touch(tmp_path, "dogs/._x.jpg", "dogs/notes.txt", "README.txt")
        after = evaluate_folder(tmp_path, backend, lambda failed: None)
    assert after == replace(before, skipped=6)
    assert after.to_dict()["skipped"] == 6
    assert "\n6 other files skipped\n" in shown(after)
    assert "skipped" not in shown(before)


def test_excluded_folders_are_no_classes(tmp_path: Path) -> None:
    touch(tmp_path, "cats/cat.jpg", "dogs/x.jpg", "birds/y.jpg", "dogs/old/z.jpg")
    with NameBackend() as backend:
        found = evaluate_folder(tmp_path, backend, lambda failed: None, ("Birds", "old"))
    assert (len(found.samples), found.skipped) == (2, 2)


def test_an_image_that_two_classes_link_to_counts_once(tmp_path: Path) -> None:
    touch(tmp_path, "set/cats/cat.jpg", "set/dogs/x.jpg", "more/y.jpg")
    (tmp_path / "set/cats/more").symlink_to(tmp_path / "more")
    (tmp_path / "set/dogs/more").symlink_to(tmp_path / "more")
    (tmp_path / "set/dogs/cats").symlink_to(tmp_path / "set/cats")
    with NameBackend() as backend:
        assert len(evaluate_folder(tmp_path / "set", backend, lambda failed: None).samples) == 3


@pytest.mark.parametrize(("cat_link", "dog_link"), [("z_more", "a_more"), ("a_more", "z_more")])
def test_an_image_of_two_classes_is_of_the_first_whatever_the_links_are_called(
    tmp_path: Path, cat_link: str, dog_link: str
) -> None:
    touch(tmp_path, "set/cats/cat.jpg", "set/dogs/x.jpg", "more/y.jpg")
    (tmp_path / "set/cats" / cat_link).symlink_to(tmp_path / "more")
    (tmp_path / "set/dogs" / dog_link).symlink_to(tmp_path / "more")
    with NameBackend() as backend:
        samples = evaluate_folder(tmp_path / "set", backend, lambda failed: None).samples
    assert [sample.truth for sample in samples if sample.path.name == "y.jpg"] == ["cat"]


def test_the_failed_images_that_catdog_sorted_out_are_passed_over(tmp_path: Path) -> None:
    names = ("cat/a.jpg", "dog/b.jpg", "neither/c.jpg", "failed/bad.jpg", "failed/x/bad.jpg")
    touch(tmp_path, *names)
    labelled = LabelledFolder.find(tmp_path)
    assert list(labelled.sources) == ["cat", "dog", "neither"]
    assert labelled.failed == tmp_path / "failed"
    assert labelled.skipped == 2
    assert LabelledFolder.find(tmp_path, ("failed",)).failed is None
    result = catdog_here("evaluate", tmp_path, "--url", "http://127.0.0.1:9")
    assert f"{tmp_path / 'failed'} is passed over: it has no class\n" in result.stderr
