"""Labels that are drawn from the files of annotation tools: COCO, YOLO, labelme, Supervisely, CVAT.

``find`` tells whether labels are annotations, ``reading`` reads them by the module of their tool, ``drawn`` makes label
maps of them. What each tool's own export would paint is painted here: polygons of COCO and CVAT by pycocotools, those
of YOLO and Supervisely by OpenCV, shapes of labelme by Pillow.
"""
