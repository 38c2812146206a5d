"""Write the report of a run: one HTML file that needs neither other files nor a network connection."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segadapt.core.files import require_writable, write_text
from segadapt.errors import RequestError
from segadapt.report import words
from segadapt.report.charts import charts
from segadapt.report.features import FEATURES, TRUTH, FeatureAlbum, read_features
from segadapt.report.figures import Dots, bar_group, css_color, scatter
from segadapt.report.judged import judged_stages
from segadapt.report.label_sets import label_sets
from segadapt.report.pictures import PICTURES, Album, read_album
from segadapt.report.prototypes import prototype_stages
from segadapt.report.reading import Row, RunRecord, read_run

if TYPE_CHECKING:
    import jinja2

TEMPLATES = Path(__file__).parent / "templates"
NAME = "report.html"
AROUND = ("background", "bg", "other", "others", "void", "unlabelled", "unlabeled", "rest")
"""Names of classes that stand for what is none of the things looked for."""


def write_report(run: Path, output: Path | None = None) -> Path:
    """Write the page of the run in folder ``run`` and return its path.

    Args:
        run: folder of a run; only its ``results.json`` is needed, other files are shown if present.
        output: the HTML file; None writes ``report.html`` into ``run``.

    Raises:
        RequestError: the results are missing or damaged, jinja2 is not installed, or the folder of ``output``
            cannot be written to.
        RunError: writing fails, e.g. because the disk is full.

    Example:
        >>> write_report(Path("run"), Path("toy.html"))
        PosixPath('toy.html')
    """
    output = output or run / NAME
    if output.is_dir():
        raise RequestError(
            f"cannot write the report to '{output}': it is a folder; give a file, e.g. '{output / NAME}'"
        )
    require_writable(output.parent, "file for the report")
    record = read_run(run)
    features = read_features(run / PICTURES / FEATURES, list(record.titles))
    text = render(record, read_album(run / PICTURES), features)
    write_text(output, text)
    return output


@functools.cache
def template() -> jinja2.Template:
    """Return the template of the page, which takes longer to compile than to fill; RequestError without jinja2."""
    try:
        import jinja2
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
    return environment.get_template("report.html.j2")


def render(record: RunRecord, album: Album, features: FeatureAlbum | None = None) -> str:
    """Return the page as HTML; RequestError if jinja2 is not installed.

    Args:
        record: the run.
        album: its pictures.
        features: features of its target images, or None.
    """
    page = template()
    import markupsafe

    def own(name: str) -> markupsafe.Markup:
        return markupsafe.Markup((TEMPLATES / name).read_text(encoding="utf-8"))

    def svg(text: str) -> markupsafe.Markup:
        return markupsafe.Markup(text)

    return page.render(
        run=record,
        colors=_colors(record),
        headline=headline(record),
        judged=judged_stages(record),
        classes=class_panels(record, svg),
        subsets=subset_names(record),
        viewer=viewer(record, album),
        labels=label_stages(record, album, label_sets(record, svg)),
        prototypes=prototype_stages(record, album, svg),
        features=feature_panels(record, features, svg),
        charts=charts(record, main_rows(record), svg),
        assets=album.assets,
        style=own("report.css"),
        script=own("slider.js") + own("report.js"),
    )


def _colors(record: RunRecord) -> dict[str, str]:
    """Return the CSS colour of every class by its name."""
    return {name: css_color(color) for name, color in zip(record.space.names, record.space.colors, strict=True)}


# ---- the headline ----


def main_rows(record: RunRecord) -> dict[str, Row | None]:
    """Return the rows of the headline by role: the first source and oracle, and the last adapted stage.

    The last adapted stage is the result of the recipe. Taking the best stage instead would be a choice
    with the labels of the test set.
    """
    source, adapted, oracle = record.role("source"), record.role("adapted"), record.role("oracle")
    return {
        "source": source[0] if source else None,
        "adapted": adapted[-1] if adapted else None,
        "oracle": oracle[0] if oracle else None,
    }


def gap_closed(source: float | None, adapted: float | None, oracle: float | None) -> float | None:
    """Return ``(adapted - source) / (oracle - source)``; None if one is unknown or oracle and source are equal."""
    if source is None or adapted is None or oracle is None or oracle - source < 1e-9:
        return None
    return (adapted - source) / (oracle - source)


def headline(record: RunRecord) -> dict[str, Any]:
    """Prepare the numbers at the top: ``rows``, ``gain``, ``gap``, adapted rows if several, and warnings."""
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
    """Return the names of all class subsets in the scores."""
    return list(dict.fromkeys(name for row in record.rows if row.scores for name in row.scores.subsets))


# ---- classes ----


def class_panels(record: RunRecord, svg: Any) -> list[dict[str, Any]]:
    """Prepare IoU per class of source, each adapted stage and oracle; classes with the largest gain come first."""
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
    # The result of the recipe comes first, as in the headline.
    return panels[::-1]


def _lines(record: RunRecord, rows: Mapping[str, Row], svg: Any) -> list[dict[str, Any]]:
    """Prepare one line per class, largest gain (or IoU) first."""
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
    """Prepare the before/after viewer; None without test pictures."""
    if not album.test:
        return None
    titles = record.ordered(stage for picture in album.test for stage in picture["stages"])
    stages = list(titles)
    if not stages:
        return None
    rows = main_rows(record)
    left = next((r.stage for r in [rows["source"]] if r and r.stage in stages), stages[0])
    right = next((r.stage for r in reversed(record.role("adapted")) if r.stage in stages), stages[-1])
    if left == right:
        right = next((s for s in reversed(stages) if s != left), "")
    return {
        "pictures": album.test,
        "stages": [{"key": stage, "title": title} for stage, title in titles.items()],
        "left": left,
        "right": right,
        "truth": any(picture["truth"] for picture in album.test),
        "unpainted": unpainted(record.space.names),
        "confidence": any(p["confidence"] for picture in album.test for p in picture["stages"].values()),
    }


def unpainted(names: Sequence[str]) -> list[str]:
    """Return the classes that the viewer first shows without colour: those that are called as what is around things.

    The reader of the page switches each class; a picture in which everything has a colour shows nothing of itself.
    """
    found = [name for name in names if name.strip("_ ").casefold() in AROUND]
    return found if len(found) < len(names) else []


def label_stages(record: RunRecord, album: Album, sets: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Prepare pseudo labels by stage and round; ``sets`` holds the comparison of their kinds by stage."""
    summaries = {(r.stage, r.number): r for r in record.rounds}
    tiles: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for tile in album.pseudo:
        tiles.setdefault((tile["stage"], tile["round"]), []).append(tile)
    stages: dict[str, list[dict[str, Any]]] = {}
    for stage, turn in sorted({*summaries, *tiles}, key=lambda k: k[1]):
        entry = {"number": turn, "summary": summaries.get((stage, turn)), "tiles": tiles.get((stage, turn), [])}
        stages.setdefault(stage, []).append(entry)
    titles = record.ordered([*stages, *sets])
    return [{"key": s, "title": titles[s], "rounds": stages.get(s, []), "sets": sets.get(s)} for s in titles]


# ---- features ----


def feature_panels(record: RunRecord, album: FeatureAlbum | None, svg: Any) -> dict[str, Any] | None:
    """Prepare one scatter of features per stage, in the order of the run; None if no features were kept."""
    if album is None:
        return None
    titles = record.titles
    colors = _colors(record)
    # Only classes with pixels; a number beyond the label space is not a class of this run.
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
        "by": "" if album.by == TRUTH else titles.get(album.by, album.by),
        "measured": any(p["separation"] is not None for p in panels),
    }
