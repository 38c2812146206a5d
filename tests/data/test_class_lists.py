# ruff: noqa: E501 (one case, one line)
"""Class lists as annotation tools and frameworks write them: read with the right ids, or refused by name."""

from __future__ import annotations

import csv
import io
import json
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segadapt.data.folder import open_folder
from segadapt.data.masks.classes_file import read_classes
from segadapt.errors import RequestError
from tests.data.writing import picture, save

Known = dict[str, tuple[tuple[int, ...] | None, tuple[tuple[int, int, int], ...] | None]]
GREY3 = ((1, 2, 3),)


def read(path: Path, content: str | bytes) -> Known:
    """Ids and colours by name."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return {c.name: (c.ids, c.colors) for c in read_classes(path)}


def ids(*names: str, first: int = 0) -> Known:
    return {name: ((place,), None) for place, name in enumerate(names, start=first)}


ROOF = {"roof": ((1,), ((250, 50, 83),)), "pond": ((2,), ((51, 221, 255),))}
ROAD = {"road": ((0,), ((1, 2, 3),)), "car": ((1,), ((4, 5, 6),))}
COLORED = {name: (None, colors) for name, (_, colors) in ROAD.items()}
NUMBERED = {"road": ((7,), ((1, 2, 3),)), "car": ((0,), ((4, 5, 6),))}


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("labels.txt", "__ignore__\n_background_\ndog\ncat\n", {"__ignore__": ((255,), None), **ids("_background_", "dog", "cat")}),
        ("labels.txt", "_background_\ndog\ncat\n", ids("_background_", "dog", "cat")),
        ("labelmap.txt", "# label:color_rgb:parts:actions\nroad:1,2,3::\ncar:4,5,6:wheel,door:open\n", ROAD),
        ("labelmap.txt", "road:1,2,3::\ncar:4,5,6::\n", ROAD),
        (
            "hasty.json",
            json.dumps([
                {"png_index": 2, "class_name": "pond", "color": "#33ddffff"},
                {"png_index": 1, "class_name": "roof", "color": "#fa3253ff", "norder": 1.0},
            ]),
            ROOF,
        ),
        ("mmseg.yaml", "classes: [road, car]\npalette: [[1, 2, 3], [4, 5, 6]]\n", ROAD),
        ("mmseg.yaml", "METAINFO: {CLASSES: [road, car], PALETTE: [[1, 2, 3], [4, 5, 6]]}\n", ROAD),
        ("mmseg.py", "class A(B):\n    METAINFO = dict(classes=('road', 'car'), palette=[[1, 2, 3], [4, 5, 6]])\n", ROAD),
        ("mmseg.py", "CLASSES = ['road', 'car']\n", ids("road", "car")),
        ("yolo.yaml", "path: ../d\ntrain: x\nnc: 2\nnames: {1: car, 0: road}\n", ids("road", "car")),
        ("data.yaml", "names:\n- road\n- car\nnc: 2\n", ids("road", "car")),
        ("coco.json", json.dumps({"images": [], "annotations": [{"id": 1}], "categories": [{"id": 9, "name": "roof", "supercategory": "x"}]}), {"roof": ((9,), None)}),
        ("meta.json", json.dumps({"classes": [{"title": "road", "shape": "bitmap", "color": "#010203", "id": 77}], "tags": []}), {"road": (None, GREY3)}),
        ("raw.json", json.dumps([{"name": "road", "id": 43243, "color": "#010203", "attributes": []}]), {"road": (None, GREY3)}),
        ("config.json", json.dumps({"labels": [{"name": "road", "readable": "Road", "color": [1, 2, 3], "evaluate": True}]}), {"road": (None, GREY3)}),
        ("config.json", json.dumps({"id2label": {"0": "road", "1": "car"}, "label2id": {"road": 0, "car": 1}}), ids("road", "car")),
        ("_classes.csv", "Pixel Value, Class\n0, background\n1, crack\n", ids("background", "crack")),
        ("excel.csv", "name,id\nroad,0\ncar,1\n".encode("utf-16"), ids("road", "car")),
        ("excel.csv", "name;id\nroad;0\ncar;1\n".encode("utf-16-be"), ids("road", "car")),
        ("excel.csv", b"\xef\xbb\xbfname,id\r\nroad,0\r\ncar,1\r\n", ids("road", "car")),
        ("latin.csv", "name,id\nstraße,0\ncar,1\n".encode("cp1252"), ids("straße", "car")),
        ("a.csv", "0,road\n1,car\n", ids("road", "car")),
        ("a.csv", "sep=;\n0;road\n1;car\n", ids("road", "car")),
        ("ade.csv", "Idx,Ratio,Stuff,Name\n0,0.1,1,door;double door\n1,0.2,0,car\n", ids("door;double door", "car")),
        ("a.tsv", "road\t0\ncar\t1\n", ids("road", "car")),
        ("a.csv", "Name;Hex Color;Pixel Value;Note\nroad;#010203;7;x\ncar;#040506;0;y\n", NUMBERED),
        ("a.csv", "red,green,blue,class\n1,2,3,road\n4,5,6,car\n", COLORED),
        ("a.csv", "train_id,label_name\n0,road\n1,car\n", ids("road", "car")),
        ("a.csv", "Label,RGB\nroad,\"1, 2, 3\"\ncar,\"(4, 5, 6)\"\n", COLORED),
        ("a.csv", "7,road,1,2,3\n0,car,4,5,6\n", NUMBERED),
        ("a.csv", "#010203,road\n#040506,car\n", COLORED),
        ("a.csv", "road,0,\ncar,1,\n", ids("road", "car")),
        ("a.csv", "name,id\nroad,0.0\ncar,1.0\n", ids("road", "car")),
        ("voc.txt", "road 1 2 3\ntraffic light 4 5 6\n", {"road": COLORED["road"], "traffic light": COLORED["car"]}),
        ("camvid.txt", "1 2 3\troad\n4 5 6\t\tcar\n", COLORED),
        ("lut.txt", "# No Name R G B A\n7 road 1 2 3 0\n0 car 4 5 6 0\n", NUMBERED),
        ("a.txt", "0 road\n1 car\n", ids("road", "car")),
        ("a.txt", "0: road\n1: car\n", ids("road", "car")),
        ("a.txt", "2 wheeler\n4 wheeler\n", ids("2 wheeler", "4 wheeler")),
        ("a.txt", "Zone 1\nZone 2\n", ids("Zone 1", "Zone 2")),
        ("obj.names", "person\ncar\n", ids("person", "car")),
        ("norway.yaml", "{no: 0, yes: 1, off: 2, 1e3: 3, 2024-01-01: 4, null: 5, 0x10: 6}", ids("no", "yes", "off", "1e3", "2024-01-01", "null", "0x10")),
        ("norway.yaml", "{0: no, 1: yes, 2: on}", ids("no", "yes", "on")),
        ("norway.yaml", "[no, yes, 'null', 007]", ids("no", "yes", "null", "007")),
        ("digits.yaml", "{0: '7', 1: '9'}", ids("7", "9")),
        ("digits.yaml", "{7: 0, 9: 1}", ids("7", "9")),
        ("list.yaml", "- road: 0\n- car: 1\n", ids("road", "car")),
        ("keys.yaml", "{classes: 0, names: 1, objects: 2, labels: 3}", ids("classes", "names", "objects", "labels")),
    ],
)  # fmt: skip
def test_lists_that_are_read(tmp_path: Path, name: str, content: str | bytes, expected: Known) -> None:
    assert read(tmp_path / name, content) == expected


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.json", json.dumps({"version": "5", "shapes": [{"label": "dog"}], "imageData": None}), "labelme's annotation of one image"),
        ("a.json", json.dumps({"a.png1": {"filename": "a.png", "regions": []}}), "VIA"),
        ("a.json", json.dumps({"_via_settings": {}}), "VIA"),
        ("a.json", json.dumps([{"id": 1, "annotations": [], "data": {}}]), "Label Studio"),
        ("a.json", json.dumps({"annotations": [{"id": 1}], "images": []}), "without the categories of COCO"),
        ("a.xlsx", "x", "an Excel workbook"),
        ("a.xml", "<x/>", "an XML file"),
        ("a.py", "x = 1", "without a list 'classes'"),
        ("a.txt", "dog\n__ignore__\n", "'__ignore__' is not where labelme has it"),
        ("a.txt", "__ignore__\ndog\ncat\n", "'_background_' is not where labelme has it"),
        ("a.txt", "dog\n_background_\n", "'_background_' is not where labelme has it"),
        ("a.txt", "road 0\ncar 1\n", "'road 0' may be a name or a name with its id"),
        ("a.csv", "7,0\n9,1\n", "does not tell the name from the id"),
        ("a.csv", "Klasse;Nummer\nroad;0\n", "is not name, name,id or name,r,g,b"),
        ("a.csv", "name,id,trainId\nroad,7,0\n", "has an id and a train id"),
        ("a.csv", "name,id,id\nroad,7,0\n", "two columns 'id'"),
        ("a.csv", "name,id,value\nroad,7,0\n", "has ids twice"),
        ("a.csv", "name,id\n,1\nb,2\n", "a class has no name"),
        ("a.csv", 'name,id\n"' + "x" * 200_000 + '",1\n', "field larger than"),
        ("a.txt", bytes(range(256)), "is not a text file"),
        ("a.yaml", "road: #ff0000\ncar: #00ff00\n", "needs its quotation marks"),
        ("a.yaml", "classes: [a, b]\npalette: [[1, 2, 3]]\n", "2 classes but 1 colours"),
        ("a.yaml", "a: 1\nb: 2\na: 3", "the key 'a' stands there twice"),
        ("a.json", '{"a": 1, "b": 2, "a": 3}', "the key 'a' stands there twice"),
        ("a.yaml", "[" * 100_000, "nested too deeply"),
        ("a.yaml", "- " * 50_000 + "a", "nested too deeply"),
        ("a.yaml", "\n".join(" " * i + "a:" for i in range(600)), "nested too deeply"),
        ("a.json", "[" * 100_000, "nested too deeply"),
        ("a.yaml", "a: " + "9" * 10_000, "an id is a number from 0 to 65535"),
        ("a.json", '{"a": ' + "9" * 10_000 + "}", "an id is a number from 0 to 65535"),
        ("a.json", '{"a": 1e999}', "an id is a number from 0 to 65535"),
        ("a.yaml", "a: &x [*x]", "cannot be parsed"),
        ("a.json", '["\\ud800", "b"]', "signs that cannot be printed"),
        ("a.yaml", '"a\\nb": 1\nc: 2', "signs that cannot be printed"),
        ("a.yaml", "\n".join(f"c{i}: {i}" for i in range(20_000)), "lists 20000 classes; 1 to 255"),
        ("a.txt", "\n".join(f"c{i}" for i in range(300)), "lists 300 classes; 1 to 255"),
    ],
)  # fmt: skip
def test_lists_that_are_refused(tmp_path: Path, name: str, content: str | bytes, words: str) -> None:
    started = time.process_time()
    with pytest.raises(RequestError) as caught:
        read(tmp_path / name, content)
    assert words in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)
    assert len(str(caught.value)) < 600
    assert "\n" not in str(caught.value)
    assert time.process_time() - started < 5


NAMES = st.lists(
    st.text(st.characters(categories=("L",)), min_size=1, max_size=6).filter(lambda n: n.lower() not in ("void", "ignore", "others")),
    min_size=2, max_size=8, unique=True,
)  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(names=NAMES, data=st.data())
def test_every_form_gives_the_same_classes(
    names: list[str], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Any order of classes and columns, any ids."""
    numbers = data.draw(st.lists(st.integers(0, 65535), min_size=len(names), max_size=len(names), unique=True))
    folder, expected = tmp_path_factory.mktemp("lists"), {n: (i,) for n, i in zip(names, numbers, strict=True)}
    columns = data.draw(st.permutations(["name", "pixel value", "note"]))
    table = io.StringIO()
    writer = csv.writer(table, delimiter=data.draw(st.sampled_from(",;\t")))
    writer.writerow(columns)
    writer.writerows([[{"name": n, "pixel value": i, "note": "x"}[c] for c in columns] for n, (i,) in expected.items()])
    forms = {
        "a.json": json.dumps({n: i for n, (i,) in expected.items()}),
        "b.json": json.dumps({str(i): n for n, (i,) in expected.items()}, ensure_ascii=False),
        "c.json": json.dumps({"categories": [{"id": i, "name": n} for n, (i,) in expected.items()]}),
        "d.yaml": "\n".join(f"{n}: {i}" for n, (i,) in expected.items()),
        "e.yaml": "\n".join(f"{i}: {n}" for n, (i,) in expected.items()),
        "f.yaml": "names:\n" + "\n".join(f"  {i}: {n}" for n, (i,) in expected.items()),
        "g.csv": table.getvalue(),
        "h.csv": "\n".join(f"{i},{n}" for n, (i,) in expected.items()),
        "i.txt": "\n".join(f"{n},{i}" for n, (i,) in expected.items()),
    }
    encoding = data.draw(st.sampled_from(("utf-8", "utf-8-sig", "utf-16")))
    for name, text in forms.items():
        found = read(
            folder / name, text.encode("utf-8" if name.endswith("json") and encoding == "utf-16" else encoding)
        )
        assert {n: i for n, (i, _) in found.items()} == expected, name


def masks(root: Path, *values: int | tuple[int, int, int]) -> tuple[Path, Path]:
    save(root / "images" / "a.png", picture(1, len(values)))
    save(root / "masks" / "a.png", np.array([values], np.uint8))
    return root / "images", root / "masks"


@pytest.mark.parametrize(
    ("values", "text", "options", "advice"),
    [
        ((0, 255), "{crack: 255}", {}, "{background: 0, crack: 255}"),
        ((0, 255), "{crack: 255}", {"ignore_ids": (0,)}, "{background: 0, crack: 255}"),
        ((0, 255), "{crack: 255, ignore: 0}", {}, "ignores 0; .*{background: 0, crack: 255}"),
        ((0, 1, 255), "{crack: 1}", {}, "{background: 0, crack: 1}"),
        ((0, 3, 1), "[{name: crack, ids: [1, 2]}]", {}, "{background: {ids: [0, 3]}, crack: {ids: [1, 2]}}"),
        (tuple(range(20)), "{crack: 1}", {}, "{background: others, crack: 1}"),
        ((1, 1), "{crack: 1}", {}, "{background: others, crack: 1} .the masks hold nothing but 1"),
        (((0, 0, 0), (255, 0, 0)), "{crack: [255, 0, 0]}", {}, "{background: [0, 0, 0], crack: [255, 0, 0]}"),
    ],
)
def test_one_class_is_refused_with_the_file_that_fits_the_masks(
    tmp_path: Path, values: tuple[int, ...], text: str, options: dict[str, tuple[int, ...]], advice: str
) -> None:
    (tmp_path / "c.yaml").write_text(text)
    for form in ("{", "}", "[", "]"):
        advice = advice.replace(form, "\\" + form)
    with pytest.raises(RequestError, match=f"one class, 'crack'.*{advice}") as caught:
        open_folder(*masks(tmp_path, *values), tmp_path / "c.yaml", **options)
    assert "ignore-id" not in str(caught.value)
