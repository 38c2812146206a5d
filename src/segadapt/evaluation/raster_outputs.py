"""The rasters that the prediction of a mosaic is written to."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segadapt.data.files.raster import Raster
from segadapt.data.files.raster_writing import RGB, RasterRows, raster_rows
from segadapt.evaluation.results import Look
from segadapt.labels import LabelMap


class RasterOutputs:
    """The rasters that are written."""

    def __init__(self, stack: ExitStack, files: Mapping[str, Path], like: Raster, look: Look) -> None:
        masks = look.masks
        self._tables = {"index": masks.table, "color": masks.color_table}
        self._rows: dict[str, RasterRows] = {}
        for kind, file in files.items():
            table = self._tables.get(kind)
            about: dict[str, Any] = {}
            if table is not None and table.ndim == 2:
                about = {"colours": RGB, "description": masks.color_stamp.text() if masks.color_stamp.colors else ""}
            elif table is not None:
                about = {"dtype": str(table.dtype), "nodata": masks.ignored, "description": masks.stamp.text()}
                if table.dtype == np.uint8:
                    palette = np.zeros((256, 3), np.uint8)
                    palette[table] = masks.color_table
                    about["palette"] = palette
            if kind != "overlay":
                self._rows[kind] = stack.enter_context(raster_rows(file, like.size, like, **about))

    def add(self, labels: LabelMap, confidence: npt.NDArray[np.uint8]) -> None:
        """Add rows of train ids and confidences below those that came before."""
        for kind, rows in self._rows.items():
            rows.add(self._tables[kind][labels] if kind in self._tables else confidence)
