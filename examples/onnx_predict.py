"""Predict an image with an exported model, without segadapt: python onnx_predict.py MODEL.onnx IMAGE MASK.png"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession(sys.argv[1])
about = json.loads(session.get_modelmeta().custom_metadata_map["segadapt"])
image = ImageOps.exif_transpose(Image.open(sys.argv[2])).convert("RGB")
(w, h), size = image.size, about["input"]["size"]
scale = min(1, (size["longest"] or max(w, h)) / max(w, h))
height = size["height"] or max(1, round(h * (size["width"] / w if size["width"] else scale)))
width = size["width"] or max(1, round(w * (size["height"] / h if size["height"] else scale)))
working = image.resize((width, height), Image.Resampling.BOX if height < h else Image.Resampling.BICUBIC)
pixels = (np.asarray(working, np.float32) / 255).transpose(2, 0, 1)[None]
mask = Image.fromarray(session.run(["labels"], {"images": pixels})[0][0]).resize((w, h), Image.Resampling.NEAREST)
mask.putpalette(np.asarray(about["colors"], np.uint8).tobytes())
mask.save(sys.argv[3])
for train_id, count in zip(*np.unique(np.asarray(mask), return_counts=True), strict=True):
    print(f"{about['classes'][train_id]}: {count / (w * h):.1%}")
