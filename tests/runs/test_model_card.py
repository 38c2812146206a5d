"""Model cards: true to the run, whole whatever names are in them, and never a reason for a run to fail."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token

from segadapt.core.documents import write_document
from segadapt.core.files import file_digest, read_json
from segadapt.core.markdown import plain
from segadapt.errors import RequestError
from segadapt.labels import LabelSpace, distinct_colors
from segadapt.models.build import build_segmenter
from segadapt.models.store import load_model, save_model
from segadapt.runs.card import opening, record
from segadapt.runs.card.facts import CardFacts, RunFacts, changed_settings, exported_facts, without_folders
from segadapt.runs.config import build_config, load_config
from segadapt.runs.guard import line_of
from segadapt.runs.model_card import card_file, card_of, text_of, write_card
from segadapt.runs.run import Run, resumed
from tests.tiny import raw_config

NAMES = (
    "a|b <script>x</script> `c` [d](http://e.org)",
    "\\# **bold** $x$ :tada: www.f.org",
    "---: _g_ \\| ~~h~~ @i",
)
"""Classes that would break a page in ten ways."""
PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
CLASSES = ["train id", "class", "in the masks", "colour"]
SECTIONS = ["How to use it", "Model", "Data", "Training", "Scores", "Selection", "Limits"]


def settings(folder: Path, **change: Any) -> dict[str, Any]:
    raw = raw_config(folder, "dacs", size=(32, 32))
    (folder / "classes.txt").write_text("\n".join(NAMES) + "\n")
    raw["model"] = {"name": "timm:test_resnet", "weights": None}  # small, and quickly built
    for stage in raw["stages"].values():
        stage["steps"] = 1
    return {**raw, **change}


def finish(run: Run) -> None:
    """Run the stages, and write down a verdict as the guard does, without its passes."""
    results = run.execute(pictures=False)
    verdict = {"verdict": "helped", "recommended": "adapt", "source": "source", "adapted": "adapt", "images": 6}
    write_document(
        run.out / "results.json", {**results, "guard": {**verdict, "line": line_of("helped", "adapt", True)}}
    )
    run.write_cards()
    run.hold.end()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("private place")
    finish(Run.open(build_config(settings(folder), "tiny"), folder / "run", quiet=True))
    return folder / "run"


def parts(card: str) -> tuple[dict[str, Any], list[Token]]:
    """Return the head of a card and the tokens of its Markdown."""
    opened, head, body = card.split("---\n", 2)
    assert opened == ""
    return yaml.safe_load(head), PARSER.parse(body)


def shown(inline: Token) -> str:
    """Return the text that a reader sees; no markup may be left in it."""
    children = inline.children or []
    assert {child.type for child in children} <= {"text", "softbreak", "text_special"}, inline.content
    return "".join(child.content for child in children)


def headings(tokens: list[Token]) -> list[str]:
    return [shown(tokens[i + 1]) for i, token in enumerate(tokens) if token.type == "heading_open"]


def rows(tokens: list[Token], head: list[str]) -> list[list[str]]:
    """Return the rows of the table with a head."""
    tables: list[list[list[str]]] = []
    for i, token in enumerate(tokens):
        if token.type == "table_open":
            tables.append([])
        elif token.type == "tr_open":
            tables[-1].append([])
        elif token.type in ("td_open", "th_open"):
            tables[-1][-1].append(shown(tokens[i + 1]))
    return next(table[1:] for table in tables if table[0] == head)


@pytest.mark.parametrize("stage", ["source", "adapt"])
def test_the_card_of_every_stage_says_what_the_run_says(run: Path, stage: str) -> None:
    folder, results = run / "stages" / stage, read_json(run / "results.json")
    card = (folder / "model_card.md").read_text()
    head, tokens = parts(card)
    row = next(row for row in results["rows"] if row["stage"] == stage)
    metrics = head["model-index"][0]["results"][0]["metrics"]
    assert [m["value"] for m in metrics] == [round(row["scores"][k], 2) for k in ("miou", "pixel_accuracy")]
    assert f"mIoU {row['scores']['miou']:.1f}," in card
    table = rows(tokens, ["class", "IoU", "accuracy", "test pixels"])
    assert [line[1] for line in table] == [f"{iou:.1f}" for iou in row["scores"]["iou"].values()]
    assert [line[3] for line in table] == [str(count) for count in row["scores"]["pixels"].values()]
    data = {
        line[0]: line for line in rows(tokens, ["part", "data", "images", "height x width", "working size", "used"])
    }
    assert data["source"][1:4] == ["folder images", "8", "32 x 32"]
    assert data["target"][2:] == ["6", "32 x 32", "as it is", "images alone"]
    assert file_digest(folder / "model.safetensors") in card
    assert plain(results["guard"]["line"]) in card
    assert ("recommends this model" in card) == (results["guard"]["recommended"] == stage)
    assert ("Tranheden" in card) == (stage == "adapt"), "the paper"
    assert headings(tokens)[1:] == SECTIONS


def test_names_stay_names(run: Path) -> None:
    card = (run / "stages/adapt/model_card.md").read_text()
    head, tokens = parts(card)
    assert headings(tokens) == ["tiny/dacs, stage adapt", *SECTIONS]
    assert sum(token.type == "table_open" for token in tokens) == 5
    assert [line[1] for line in rows(tokens, CLASSES)] == list(NAMES)
    assert "private place" not in card, "names of folders above the data"
    assert head["tags"][-2:] == ["dacs", "timm:test_resnet"]


def test_the_card_says_how_to_load_the_model(run: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    folder = run / "stages/adapt"
    blocks = re.findall(r"^```python\n(.*?)^```", (folder / "model_card.md").read_text(), re.M | re.S)
    monkeypatch.chdir(folder)
    (image,) = sorted((run.parent / "target/images").glob("*.png"))[:1]
    exec(blocks[0].replace("image.png", str(image)), {})
    printed = capsys.readouterr().out
    assert any(repr(name) in printed for name in NAMES)


def test_a_resumed_run_writes_the_same_cards_again(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cards = [run / f"stages/{stage}/model_card.md" for stage in ("source", "adapt")]
    before = [card.read_bytes() for card in cards]
    cards[0].write_bytes(b"\xff---")
    cards[1].unlink()
    cards[1].mkdir()  # nothing can be written there
    finish(resumed(run, quiet=True))
    assert "no model card of stage 'adapt'" in capsys.readouterr().err
    assert cards[0].read_bytes() == before[0]
    cards[1].rmdir()
    assert card_of(cards[1].with_name("model.safetensors")).encode() == before[1]
    write_card(cards[1].with_name("model.safetensors"))
    assert cards[1].read_bytes() == before[1]


def test_an_exported_model_has_the_scores_of_its_run_if_its_network_is_the_same(run: Path, tmp_path: Path) -> None:
    loaded = load_model(run / "stages/adapt/model.safetensors")
    onnx = tmp_path / "model.onnx"
    onnx.write_bytes(b"x")
    told = {"input": "images: RGB", "shape": (1, 3, 8, 9), "error": 1e-6, "disagreement": 0.0}
    card = text_of(exported_facts(onnx, loaded, told))
    assert headings(parts(card)[1])[1:] == SECTIONS
    assert "An ONNX file of model.safetensors." in card
    assert parts(card)[0]["tags"][-1] == "onnx"
    other = replace(loaded, model=build_segmenter("timm:test_resnet", 3, finest=8))
    assert "Scores" not in headings(parts(text_of(exported_facts(onnx, other, told)))[1])


def test_a_file_outside_a_run_has_a_card_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "it's a ```\n# b.safetensors"
    space = LabelSpace("two", (NAMES[0], "\u202eturned&lt;\n---\n"), distinct_colors(2))
    network = build_segmenter("timm:test_resnet", 2)
    save_model(file, network, space, {"run": "by\nhand", "weights": "weights x.y of timm: licence dinov3-license"})
    card = write_card(file)
    head, tokens = parts(card.read_text())
    assert card.name == "it's a ```\n# b_card.md"
    assert [line[1] for line in rows(tokens, CLASSES)] == [NAMES[0], "\\u202eturned&lt; ---"]
    assert headings(tokens) == ["by hand", "How to use it", "Model", "Limits"]
    assert (head["license"], head["license_name"]) == ("other", "dinov3-license")
    assert "model-index" not in head
    with pytest.raises(RequestError, match="no model file of segadapt"):
        card_of(card)


def test_each_file_of_a_folder_has_its_own_card() -> None:
    names = ("model.safetensors", "model.onnx", "other.safetensors", "other.onnx")
    assert len({card_file(Path(name)) for name in names}) == 4
    assert card_file(Path("a/model.safetensors")) == Path("a/model_card.md")


def test_the_settings_that_differ_from_the_recipe_are_told() -> None:
    own = load_config("toy/cbst", ["adapt.rounds=2", "model.weights=/home/me/w.pt", "data.source.root=/home/me/toy"])
    found = changed_settings(own.model_dump(mode="json"))
    assert found is not None
    assert {name: now for name, _, now in found} == {"adapt.rounds": 2, "model.weights": "w.pt"}
    assert changed_settings(load_config("toy/cbst").model_dump(mode="json")) == []
    assert changed_settings({**own.model_dump(mode="json"), "title": "mine"}) is None


def test_paths_lose_their_folders() -> None:
    given = {"a": "/x/y/z.pt", "b": ["c:\\me\\w.pt", "timm:resnet50", 3], "c": "weights of the file '/x/w.pt'; others"}
    assert without_folders(given) == {
        "a": "z.pt",
        "b": ["w.pt", "timm:resnet50", 3],
        "c": "weights of the file 'w.pt'; others",
    }


def facts(**row: Any) -> CardFacts:
    """Facts about a model of a stage ``adapt``, with values of its row and of results.json instead."""
    config = load_config("gta5_cityscapes/cbst").model_dump(mode="json")
    results = {"rows": [], "test": {"images": 0}, "target": {"images": 9, "labelled": 0}, **row.pop("results", {})}
    told = {"stage": "adapt", "method": "cbst", "title": "CBST", "role": "adapted", "scores": None, **row}
    space = LabelSpace("two", ("road", "sky"), distinct_colors(2))
    run = RunFacts(config, {**results, "rows": [told]}, told, row.pop("data", {}), [])
    return CardFacts("model.safetensors", "0" * 64, 1 << 20, space, {"name": "lite", "classes": 2}, {}, run)


def test_without_labels_nothing_is_claimed() -> None:
    card = text_of(facts())
    assert "Not scored: the run has no labelled test images." in card
    assert "how good it is on the target is unknown" in card
    assert "model-index" not in parts(card)[0]
    assert "gta5" in card
    assert "imagenet; licence not stated" in card


def test_bands_and_their_range_are_told() -> None:
    reading = {"bands": [4, 1], "low": [0.5, 2.0], "high": [900.0, 1000.0], "dtype": "uint16"}
    told = replace(facts(), network={"name": "lite", "classes": 2, "bands": 2}, provenance={"input": reading})
    card = text_of(told)
    assert "images of 2 bands in [0, 1], made of the bands 4, 1 of uint16 files: 0.5, 2.0 becomes 0, 900.0" in card
    assert "Images have the bands of the table below." in card


def test_weights_are_followed_to_where_a_run_begins() -> None:
    told = facts()
    assert told.run is not None
    stages = [dict(stage) for stage in told.run.config["stages"]]
    for initial, words in (
        ("previous", "imagenet; licence not stated"),
        ("scratch", "none: random numbers"),
        ("/home/me/given.safetensors", "those of the model file given.safetensors"),
    ):
        stages[0]["initial"] = initial
        network = {"name": "x", "weights": None} if initial == "scratch" else None
        stages[0]["network"] = network
        run = replace(told.run, config={**told.run.config, "stages": stages})
        assert f"| weights before training | {words} |" in text_of(replace(told, run=run))


def test_limits_name_the_classes() -> None:
    iou = {"road": 0.0, "sky": None}
    scores = {"miou": 0.0, "iou": iou, "pixels": {"road": 5, "sky": 0}}
    change = {"source": "source", "result": "adapt", "names": ["road", "sky"], "after": [1.0, 0.0], "images": 4}
    told = facts(scores=scores, results={"change": change})
    shares = [{"name": "road", "share": 0.001}, {"name": "sky", "share": 0}]
    assert told.run is not None
    run = RunFacts(told.run.config, told.run.results, told.run.row, {"parts": {"source": {"classes": shares}}}, [])
    told = replace(told, run=run)
    for line in (
        "No pixel of these classes was found in the test images: road.",
        "Not tested, as the test images do not show them: sky.",
        "so never learnt from them: sky.",
        "Rare in the source, below 0.5 % of its pixels: road.",
        "Never predicted on 4 target images that were looked at: sky.",
    ):
        assert line in record.limits(told)


def test_a_published_row_stands_beside_the_score() -> None:
    entry = {"method": "CBST", "network": "ResNet-38", "published": 45.2, "source": "Zou: Table 3", "why": ""}
    published = [{"stage": "adapt", **entry, "score": 44.9, "difference": -0.3}]
    scores = {"miou": 44.9, "iou": {"road": 44.9}}
    told = facts(scores=scores, results={"published": published})
    assert told.run is not None
    assert "published: CBST, ResNet-38, 45.2 mIoU (Zou: Table 3); this run 44.9, 0.3 below" in record.scores(told.run)


def test_values_from_elsewhere_are_one_line() -> None:
    told = facts(results={"change": {"source": "source", "result": "adapt", "names": 3}})
    with pytest.raises(RequestError, match="holds what cannot be told in a model card"):
        text_of(told)


def test_oracles_and_labels_are_called_so() -> None:
    assert "an upper bound" in opening.summary(facts(role="oracle"))
    few = facts(results={"target": {"images": 9, "labelled": 3}})
    assert "3 labels of which were learnt" in opening.summary(few)
    assert few.run is not None
    assert "images and 3 labels" in record.data(few.run)
