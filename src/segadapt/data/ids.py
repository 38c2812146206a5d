"""From the label ids that data sets store to the train ids of the library.

Every table lists only the ids that carry a class; all others (void, ego vehicle, parking, ...)
become IGNORE.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from segadapt.labels import CAMVID, CITYSCAPES, IGNORE, NTHU, Color, LabelSpace

CITYSCAPES_TRAIN_ID: dict[int, int] = {i: train_id for train_id, i in enumerate(CITYSCAPES.ids) if i is not None}
"""Label id of Cityscapes and GTA5 -> train id of ``cityscapes19``."""

SYNTHIA_TRAIN_ID: dict[int, int] = {
    label_id: CITYSCAPES.index(name)
    for label_id, name in {
        1: "sky",
        2: "building",
        3: "road",
        4: "sidewalk",
        5: "fence",
        6: "vegetation",
        7: "pole",
        8: "car",
        9: "traffic sign",
        10: "person",
        11: "bicycle",
        12: "motorcycle",
        15: "traffic light",
        16: "terrain",
        17: "rider",
        18: "truck",
        19: "bus",
        20: "train",
        21: "wall",
    }.items()
}
"""Class of SYNTHIA-RAND-CITYSCAPES -> train id of ``cityscapes19``; terrain, truck and train never occur in it."""

CITYSCAPES_LABEL_IDS = range(35)
"""All label ids of Cityscapes and GTA5 (34 occurs in GTA5 alone)."""

SYNTHIA_CLASSES = range(23)
"""All classes of SYNTHIA-RAND-CITYSCAPES; 0 is void."""

CAMVID_VOID = 11
"""Void in the index labels of the SegNet release of CamVid."""

SYNTHIA_LANE_MARKING = 22
"""Class of SYNTHIA that some protocols ignore and others count as road."""

NTHU_TRAIN_ID: dict[int, int] = {
    label_id: NTHU.index(CITYSCAPES.names[train_id])
    for label_id, train_id in CITYSCAPES_TRAIN_ID.items()
    if CITYSCAPES.names[train_id] in NTHU.names
}
"""Label id of the NTHU cross-city test labels (the ids of Cityscapes) -> train id of ``nthu13``."""

CAMVID_COLORS: dict[str, Color] = {
    "Animal": (64, 128, 64),
    "Archway": (192, 0, 128),
    "Bicyclist": (0, 128, 192),
    "Bridge": (0, 128, 64),
    "Building": (128, 0, 0),
    "Car": (64, 0, 128),
    "CartLuggagePram": (64, 0, 192),
    "Child": (192, 128, 64),
    "Column_Pole": (192, 192, 128),
    "Fence": (64, 64, 128),
    "LaneMkgsDriv": (128, 0, 192),
    "LaneMkgsNonDriv": (192, 0, 64),
    "Misc_Text": (128, 128, 64),
    "MotorcycleScooter": (192, 0, 192),
    "OtherMoving": (128, 64, 64),
    "ParkingBlock": (64, 192, 128),
    "Pedestrian": (64, 64, 0),
    "Road": (128, 64, 128),
    "RoadShoulder": (128, 128, 192),
    "Sidewalk": (0, 0, 192),
    "SignSymbol": (192, 128, 128),
    "Sky": (128, 128, 128),
    "SUVPickupTruck": (64, 128, 192),
    "TrafficCone": (0, 0, 64),
    "TrafficLight": (0, 64, 64),
    "Train": (192, 64, 128),
    "Tree": (128, 128, 0),
    "Truck_Bus": (192, 128, 192),
    "Tunnel": (64, 0, 64),
    "VegetationMisc": (192, 192, 0),
    "Void": (0, 0, 0),
    "Wall": (64, 192, 0),
}
"""The 32 classes of the original CamVid release and the RGB colours of its label pictures."""

_CAMVID_GROUPS: dict[str, tuple[str, ...]] = {
    "sky": ("Sky",),
    "building": ("Building", "Bridge", "Wall", "Tunnel", "Archway"),
    "pole": ("Column_Pole", "TrafficCone"),
    "road": ("Road", "LaneMkgsDriv", "LaneMkgsNonDriv"),
    "sidewalk": ("Sidewalk", "ParkingBlock", "RoadShoulder"),
    "tree": ("Tree", "VegetationMisc"),
    "sign": ("SignSymbol", "Misc_Text", "TrafficLight"),
    "fence": ("Fence",),
    "car": ("Car", "SUVPickupTruck", "Truck_Bus", "Train", "OtherMoving"),
    "pedestrian": ("Pedestrian", "Child", "CartLuggagePram", "Animal"),
    "bicyclist": ("Bicyclist", "MotorcycleScooter"),
}


def camvid_colors() -> dict[Color, int]:
    """Map RGB colours of the original CamVid release to train ids of ``camvid11``, and Void to IGNORE."""
    group_of = {fine: coarse for coarse, group in _CAMVID_GROUPS.items() for fine in group}
    return {
        color: CAMVID.index(group_of[name]) if name in group_of else IGNORE for name, color in CAMVID_COLORS.items()
    }


def synthia_ids(lane_marking_is_road: bool) -> dict[int, int]:
    """Map SYNTHIA classes to train ids of ``cityscapes19``, with or without lane markings counted as road."""
    lanes = {SYNTHIA_LANE_MARKING: CITYSCAPES.index("road")} if lane_marking_is_road else {}
    return {**SYNTHIA_TRAIN_ID, **lanes}


def train_ids(space: LabelSpace) -> dict[int, int]:
    """Return the look-up of labels that are stored as train ids already."""
    return {i: i for i in range(len(space))}


def with_ignored(ids: Mapping[int, int], valid: Iterable[int] = ()) -> dict[int, int]:
    """Add to ``ids``, as IGNORE, the other values that a label file of the data set may hold (255 always)."""
    return {**dict.fromkeys((*valid, IGNORE), IGNORE), **ids}
