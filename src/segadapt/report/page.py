"""The report of a run: one HTML file that needs nothing else, neither files beside it nor a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segadapt.core.files import require_writable, write_text
from segadapt.errors import RequestError
from segadapt.report import words
from segadapt.report.charts import charts
from segadapt.report.features import FeatureAlbum, read_features
from segadapt.report.figures import Dots, bar_group, scatter
from segadapt.report.label_sets import label_sets
from segadapt.report.pictures import Album, read_album
from segadapt.report.prototypes import prototype_stages
from segadapt.report.reading import Row, RunRecord, read_run

TEMPLATES = Path(__file__).parent / "templates"
NAME = "report.html"


def write_report(run: Path, output: Path | None = None) -> Path:
    """Write the page of the run in folder ``run`` and return its path.

    Args:
        run: folder of a run; only its ``results.json`` is needed, the rest is shown where present.
        output: the HTML file; ``report.html`` in ``run`` if None.

    Raises:
        RequestError: no or damaged results, jinja2 not installed, or a folder into which nothing can be written.
    """
    output = output or run / NAME
    if output.is_dir():
        raise RequestError(
            f"cannot write the report to '{output}': it is a folder; name a file, e.g. '{output / NAME}'"
        )
    require_writable(output.parent, "file for the report")
    record = read_run(run)
    features = read_features(run / "pictures" / "features", [row.stage for row in record.rows])
    text = render(record, read_album(run / "pictures"), features)
    write_text(output, text)
    return output


def render(record: RunRecord, album: Album, features: FeatureAlbum | None = None) -> str:
    """The page as text; RequestError when jinja2 is not installed."""
    try:
        import jinja2
        import markupsafe
    except ImportError:
        raise RequestError('the report needs jinja2, which is not installed; pip install "segadapt[report]"') from None
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(
        {f.__name__: f for f in (words.score, words.gain, words.share, words.threshold)}
        | {f.__name__: f for f in (words.duration, words.memory, words.count, words.separation)}
    )

    def own(name: str) -> markupsafe.Markup:
        return markupsafe.Markup((TEMPLATES / name).read_text(encoding="utf-8"))

    def svg(text: str) -> markupsafe.Markup:
        return markupsafe.Markup(text)

    return environment.get_template("report.html.j2").render(
        run=record,
        colors=_colors(record),
        headline=headline(record),
        classes=class_panels(record, svg),
        subsets=subset_names(record),
        viewer=viewer(record, album),
        labels=label_stages(record, album, label_sets(record, svg)),
        prototypes=prototype_stages(record, album, svg),
        features=feature_panels(record, features, svg),
        charts=charts(record, main_rows(record), svg),
        assets=album.assets,
        style=own("report.css"),
        script=own("report.js"),
    )


def _colors(record: RunRecord) -> dict[str, str]:
    """CSS colour by class name."""
    pairs = zip(record.space.names, record.space.colors, strict=True)
    return {name: "#" + "".join(f"{min(max(c, 0), 255):02x}" for c in color) for name, color in pairs}


# ---- the headline ----


def main_rows(record: RunRecord) -> dict[str, Row | None]:
    """The rows of the headline: the first source and oracle, and the last adapted one.

    The last adapted stage is the one the recipe leads to; taking the best one instead would be a
    choice made with the labels of the test set.
    """
    source, adapted, oracle = record.role("source"), record.role("adapted"), record.role("oracle")
    return {
        "source": source[0] if source else None,
        "adapted": adapted[-1] if adapted else None,
        "oracle": oracle[0] if oracle else None,
    }


def gap_closed(source: float | None, adapted: float | None, oracle: float | None) -> float | None:
    """``(adapted - source) / (oracle - source)``; None where one is unknown or there is no gap."""
    if source is None or adapted is None or oracle is None or oracle - source < 1e-9:
        return None
    return (adapted - source) / (oracle - source)


def headline(record: RunRecord) -> dict[str, Any]:
    """Numbers at the top: ``rows``, ``gain``, ``gap``, all adapted rows when there are several, and warnings."""
    rows = main_rows(record)
    source, adapted, oracle = (row.miou if row else None for row in rows.values())
    main = rows["adapted"] or rows["source"] or rows["oracle"]
    several = [
        {"row": r, "gain": words.difference(r.miou, source), "gap": gap_closed(source, r.miou, oracle)}
        for r in record.role("adapted")
    ]
    return {
        "rows": rows,
        "measured": any(row.miou is not None for row in record.rows),
        "gain": words.difference(adapted, source),
        "gap": gap_closed(source, adapted, oracle),
        "several": several if len(several) > 1 else [],
        "by_oracle": [row for row in record.rows if row.by_oracle],
        "selection": main.selection if main else record.selection,
    }


def subset_names(record: RunRecord) -> list[str]:
    """Names of the class subsets that any stage was scored on."""
    return list(dict.fromkeys(name for row in record.rows if row.scores for name in row.scores.subsets))


# ---- classes ----


def class_panels(record: RunRecord, svg: Any) -> list[dict[str, Any]]:
    """Per-class IoU of source, each adapted stage and oracle; classes with the largest gain first."""
    ends = main_rows(record)
    contenders: Sequence[Row | None] = [r for r in record.role("adapted") if r.scores] or [None]
    panels = []
    for adapted in contenders:
        rows = {"source": ends["source"], "adapted": adapted, "oracle": ends["oracle"]}
        shown = {kind: row for kind, row in rows.items() if row is not None and row.scores is not None}
        if shown:
            panels.append(
                {"title": adapted.title if adapted else "", "rows": shown, "lines": _lines(record, shown, svg)}
            )
    # The stage the recipe leads to comes first, as in the headline.
    return panels[::-1]


def _lines(record: RunRecord, rows: Mapping[str, Row], svg: Any) -> list[dict[str, Any]]:
    lines = []
    for place, name in enumerate(record.space.names):
        values = {kind: row.scores.iou.get(name) if row.scores else None for kind, row in rows.items()}
        known = [v for v in values.values() if v is not None]
        gain = words.difference(values.get("adapted"), values.get("source"))
        latest = values.get("adapted", values.get("source", known[0] if known else None))
        lines.append(
            {
                "name": name,
                "values": values,
                "gain": gain,
                "iou": latest,
                "order": place,
                "known": bool(known),
                "bars": svg(bar_group(values)),
            }
        )
    key = "gain" if any(line["gain"] is not None for line in lines) else "iou"
    return sorted(lines, key=lambda line: (line[key] is None, -(line[key] or 0.0)))


# ---- pictures ----


def viewer(record: RunRecord, album: Album) -> dict[str, Any] | None:
    """What the before/after viewer shows; None without test pictures."""
    if not album.test:
        return None
    titles = {row.stage: row.title for row in record.rows}
    found = dict.fromkeys(stage for picture in album.test for stage in picture["stages"])
    stages = [s for s in titles if s in found] + [s for s in found if s not in titles]
    if not stages:
        return None
    rows = main_rows(record)
    left = next((r.stage for r in [rows["source"]] if r and r.stage in stages), stages[0])
    right = next((r.stage for r in reversed(record.role("adapted")) if r.stage in stages), stages[-1])
    if left == right:
        right = next((s for s in reversed(stages) if s != left), "")
    return {
        "pictures": album.test,
        "stages": [{"key": s, "title": titles.get(s, s)} for s in stages],
        "left": left,
        "right": right,
        "truth": any(picture["truth"] for picture in album.test),
        "confidence": any(p["confidence"] for picture in album.test for p in picture["stages"].values()),
    }


def label_stages(record: RunRecord, album: Album, sets: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Pseudo labels by stage and round: summary, pictures, classes; ``sets`` compares kinds of labels, by stage."""
    titles = {row.stage: row.title for row in record.rows}
    summaries = {(r.stage, r.number): r for r in record.rounds}
    tiles: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for tile in album.pseudo:
        tiles.setdefault((tile["stage"], tile["round"]), []).append(tile)
    stages: dict[str, list[dict[str, Any]]] = {}
    for stage, turn in sorted({*summaries, *tiles}, key=lambda k: k[1]):
        entry = {"number": turn, "summary": summaries.get((stage, turn)), "tiles": tiles.get((stage, turn), [])}
        stages.setdefault(stage, []).append(entry)
    found = {**dict.fromkeys(stages), **dict.fromkeys(sets)}
    order = [s for s in titles if s in found] + [s for s in found if s not in titles]
    return [{"key": s, "title": titles.get(s, s), "rounds": stages.get(s, []), "sets": sets.get(s)} for s in order]


# ---- features ----


def feature_panels(record: RunRecord, album: FeatureAlbum | None, svg: Any) -> dict[str, Any] | None:
    """One scatter of the features a stage, in the order of the run; None where no features were kept."""
    if album is None:
        return None
    titles = {row.stage: row.title for row in record.rows}
    colors = _colors(record)
    # Only classes of which there are pixels; a number beyond the label space is no class of this run.
    present = [c for c in range(len(record.space)) if (album.label == c).any()]
    panels = []
    for picture in album.pictures:
        title = titles.get(picture.stage, picture.stage)
        dots = [
            Dots(c, name := record.space.names[c], colors[name], picture.points[album.label == c].tolist())
            for c in present
        ]
        figure = scatter(dots, f"Features of {title}: {len(album.label)} pixels coloured by class")
        panels.append({"title": title, "figure": svg(figure), "separation": picture.separation})
    return {
        "panels": panels,
        "classes": [{"number": c, "name": record.space.names[c]} for c in present],
        "pixels": len(album.label),
        "images": album.images,
        "by": "" if album.by == "truth" else titles.get(album.by, album.by),
        "measured": any(p["separation"] is not None for p in panels),
    }
